"""An agent behind a URL: it checks who is asking, and says everything backwards.

    pip install standardwebhooks
    WEBHOOK_SECRET=whsec_… python examples/agents/webhook.py 9000

    sessiond agents add backwards --runner webhook \
        --option url=http://127.0.0.1:9000/ --option secret_env=WEBHOOK_SECRET
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])


class Agent(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            brief = webhook.verify(body, dict(self.headers))  # the bytes as they came: what is encoded anew differs
        except WebhookVerificationError:
            self.send_error(401, "this was not signed with our secret")
            return
        said = brief["input"]  # a string, or a list of parts
        text = said if isinstance(said, str) else "\n".join(part.get("text", "") for part in said or [])
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"output": text[::-1]}).encode())


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
