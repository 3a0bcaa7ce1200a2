"""Append a message to a session, and keep trying until it is there: once, however often it had to be sent.

    SESSIOND_URL=http://127.0.0.1:8080 SESSIOND_KEY=sd_… python examples/append.py SESSION "What is new?"

Needs nothing but Python. What makes it safe is the Idempotency-Key, made once for the message and not for each attempt.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import uuid
from typing import Any
from urllib.parse import quote, urlsplit

URL = urlsplit(os.environ.get("SESSIOND_URL", "http://127.0.0.1:8080"))
KEY = os.environ["SESSIOND_KEY"]
ATTEMPTS = 10


def main(session_id: str, text: str) -> None:
    message = append(session_id, {"role": "user", "content": text})
    print(f"{message['id']} is on disk")


def append(session_id: str, message: dict[str, Any]) -> dict[str, Any]:
    """Append a message, and return it as the server keeps it."""
    idempotency_key = str(uuid.uuid4())
    for attempt in range(ATTEMPTS):
        try:
            status, answer, retry_after = post(f"/v1/sessions/{quote(session_id)}/messages", message, idempotency_key)
        except (OSError, http.client.HTTPException):
            # Nobody knows whether it was done. The key makes that not matter.
            retry_after = min(2**attempt, 30)
            status, answer = 503, {}
        if status == 201:
            return answer
        if status != 503:
            raise SystemExit(f"{status}: {answer['detail']}")
        time.sleep(retry_after)
    raise SystemExit("the server cannot be reached")


def post(path: str, body: object, idempotency_key: str) -> tuple[int, dict[str, Any], int]:
    """Send a request; return the answer's status, its body, and how many seconds to wait before another attempt."""
    connection = http.client.HTTPConnection(URL.netloc, timeout=30)
    try:
        headers = {
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key,
        }
        connection.request("POST", path, body=json.dumps(body), headers=headers)
        answer = connection.getresponse()
        return answer.status, json.load(answer), int(answer.headers["Retry-After"] or 1)
    finally:
        connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
