"""Inboxes, mails and waits, made through the native wire."""

from __future__ import annotations

from typing import Any, Final

import httpx

CODE: Final = "482913"
SAID: Final = f"Your verification code is {CODE}. It is good for ten minutes."
RAW: Final = (
    b"From: Acme <noreply@acme.example>\r\n"
    b"To: someone@here.example\r\n"
    b"Subject: Confirm your address\r\n"
    b"Date: Sat, 21 Nov 2026 17:55:46 +0100\r\n"
    b"Message-ID: <one@acme.example>\r\n"
    b"\r\n"
    b"Your verification code is 482913. It is good for ten minutes.\r\n"
)


def _make(client: httpx.Client, path: str, **sent: Any) -> Any:
    made = client.post(path, **sent)
    assert made.status_code == 201, made.text
    return made.json()


def make_inbox(client: httpx.Client, **body: Any) -> Any:
    return _make(client, "/v1/inboxes", json=body)


def put_mail(client: httpx.Client, inbox: str, *, sender: str = "noreply@acme.example", **body: Any) -> Any:
    """Put a mail into an inbox; it has a code in it unless its `text` says otherwise."""
    return _make(client, f"/v1/inboxes/{inbox}/mails", json={"from": sender, "text": SAID, **body})


def put_raw(client: httpx.Client, inbox: str, raw: bytes = RAW, *, content_type: str = "message/rfc822") -> Any:
    return _make(client, f"/v1/inboxes/{inbox}/mails", content=raw, headers={"Content-Type": content_type})


def make_wait(client: httpx.Client, type: str, *, wait: float = 0, sender: str | None = None, **body: Any) -> Any:
    """Return a new wait, as it is after `wait` seconds at most."""
    body |= {"from": sender} if sender is not None else {}
    return _make(client, "/v1/waits", params={"wait": wait} if wait else None, json={"type": type, **body})


def read_wait(client: httpx.Client, wait_id: str, *, wait: float = 0) -> Any:
    params = {"wait": wait} if wait else None
    return client.get(f"/v1/waits/{wait_id}", params=params).raise_for_status().json()


def read_all(client: httpx.Client, path: str, *, limit: int, order: str) -> list[Any]:
    """Return a whole list, read page by page."""
    found, cursor = list[Any](), ""
    while True:
        params: dict[str, str | int] = {"limit": limit, "order": order, "cursor": cursor}
        page = client.get(path, params=params).raise_for_status().json()
        found += page["data"]
        assert page["prev_cursor"] is None
        if page["next_cursor"] is None:
            return found
        assert len(page["data"]) == limit
        cursor = page["next_cursor"]
