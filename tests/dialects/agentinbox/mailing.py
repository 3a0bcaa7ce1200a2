"""Inboxes, mails sent to them for real, and waits, as clients of the agentinbox wire make them."""

from __future__ import annotations

import re
from email.message import EmailMessage
from typing import Any, Final

import httpx

from tests.serving import Tenant

TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
CODE: Final = "Your verification code is 482913. It expires in 10 minutes."
SIGN_IN: Final = "Click here to sign in:\nhttps://app.example.com/auth/magic?token=abcdef0123456789\n"
RESET: Final = "Reset your password:\nhttps://app.example.com/password/reset?token=abcdef0123456789\n"
LONG_AGO: Final = "1970-01-01T00:00:00Z"


def create_session(api: httpx.Client, **body: Any) -> str:
    session_id: str = made(api.post("/api/v1/sessions", json={"name": "flow", **body}))["id"]
    return session_id


def create_inbox(api: httpx.Client, **body: Any) -> dict[str, Any]:
    return made(api.post("/api/v1/inboxes", json=body))


def create_wait(api: httpx.Client, inbox: dict[str, Any], kind: str = "otp", **body: Any) -> dict[str, Any]:
    return made(api.post("/api/v1/waits", json={"inboxId": inbox["id"], "type": kind, **body}))


def get(api: httpx.Client, path: str) -> Any:
    answer = api.get(f"/api/v1{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def make_mail(inbox: dict[str, Any], text: str = CODE, *, subject: str = "Your code", html: str = "") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Example <noreply@example.com>"
    mail["To"] = inbox["emailAddress"]
    mail["Subject"] = subject
    mail.set_content(text)
    if html:
        mail.add_alternative(html, subtype="html")
    return mail


def send(tenant: Tenant, inbox: dict[str, Any], text: str = CODE, **said: Any) -> None:
    """Send a mail by SMTP; it is in the inbox when this returns."""
    tenant.serving.send(make_mail(inbox, text, **said))


def message_in(api: httpx.Client, inbox: dict[str, Any]) -> dict[str, Any]:
    """Return the last message of an inbox, as lists show it."""
    message: dict[str, Any] = get(api, f"/inboxes/{inbox['id']}/messages?limit=1")["data"][0]
    return message
