"""What a server refuses is told with what to do about it."""

from __future__ import annotations

import pytest

from sessiond.cli.connecting import refusal_of
from sessiond.client.call import Response
from sessiond.client.errors import error_of

URL = "http://a"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b'{"title": "x", "detail": "no"}', "http://a does not take this key: sessiond login"),
        (404, b'{"detail": "no such inbox"}', "there is no such inbox: sessiond inboxes list shows those there are"),
        (404, b'{"detail": "no such mail"}', "no such mail"),
        (404, b"<html>Not Found</html>", "http://a answers 404, and not as sessiond does"),
        (403, b'{"detail": "sealed", "field": "storage-key"}', "give it in SESSIOND_STORAGE_KEY"),
        (409, b'{"detail": "the session is completed"}', "the session is completed"),
        (503, b'{"detail": "busy", "request_id": "r1"}', "busy (status 503, request r1): try again in a while"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, body: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESSIOND_STORAGE_KEY", raising=False)

    assert said in refusal_of(error_of(Response(status, {}, body)), URL)
