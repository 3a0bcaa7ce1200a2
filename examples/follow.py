"""Follow a session: print its messages from the beginning, then each new one as it comes, until the session ends.

    SESSIOND_URL=http://127.0.0.1:8080 SESSIOND_KEY=sd_… python examples/follow.py SESSION

Needs nothing but Python. A connection that breaks is opened again where it ended: no message is missed or shown twice.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

URL = urlsplit(os.environ.get("SESSIOND_URL", "http://127.0.0.1:8080"))
KEY = os.environ["SESSIOND_KEY"]
SILENCE_SECONDS = 45  # the server says something every 15: three times nothing is a dead connection
ENDED = {"session.completed", "session.failed"}


def main(session_id: str) -> None:
    last = 0
    while True:
        try:
            for event in follow(session_id, after=last):
                last = event["seq"]
                if event["type"].startswith("message."):
                    print(f"{event['data']['role']}: {event['data']['content']}", flush=True)
                elif event["type"] in ENDED:
                    return
        except (OSError, http.client.HTTPException) as error:
            print(f"again after {last}: {error}", file=sys.stderr)
        time.sleep(1)


def follow(session_id: str, *, after: int) -> Iterator[dict[str, Any]]:
    """Yield the events after the number `after`, as long as the connection holds."""
    connection = http.client.HTTPConnection(URL.netloc, timeout=SILENCE_SECONDS)
    try:
        connection.request(
            "GET",
            f"/v1/sessions/{quote(session_id)}/stream",
            headers={"Authorization": f"Bearer {KEY}", "Last-Event-ID": str(after)},
        )
        answer = connection.getresponse()
        if answer.status == 503:
            raise http.client.HTTPException("the server is busy")
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {json.load(answer)['detail']}")
        data = b""
        for line in answer:
            # `id` and `event` say what stands in the data too. An empty line ends an event, or a comment.
            if line.startswith(b"data: "):
                data += line.removeprefix(b"data: ")
            elif line == b"\n" and data:
                yield json.loads(data)
                data = b""
    finally:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
