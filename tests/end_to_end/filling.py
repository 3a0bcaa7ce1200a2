"""Content of every kind, written over HTTP and SMTP as people write it, with one word in every field."""

from __future__ import annotations

import uuid
from email.message import EmailMessage
from typing import Any

import httpx
import msgspec

from tests.dialects.agents import eventually
from tests.dialects.native import working
from tests.serving import Serving


class Filled(msgspec.Struct, kw_only=True):
    """What was made, by id."""

    session: str
    completed: str
    failed: str
    asking: str
    waiting: str
    completed_wait: str
    inbox: str
    mail: str


def fill(client: httpx.Client, word: str, *, smtp: Serving | None = None) -> Filled:
    """Make a session with all that one may have. `word` is in each of its texts."""
    working.register(client, "echo")
    working.register_program(client, working.ASKING, "asks")
    working.register_program(client, "exit 3", "breaks")
    session = _post(
        client,
        "/v1/sessions",
        {
            "agent_id": "echo",
            "user_id": "u",
            "name": f"name {word}",
            "user_name": f"user name {word}",
            "user_email": f"{word}@example.org",
            "metadata": {f"key {word}": f"value {word}"},
            "data": {f"data {word}": [word]},
            "prompt": f"prompt {word}",
        },
        key=uuid.uuid4().hex,
    )["id"]
    _post(client, f"/v1/sessions/{session}/messages", {"content": f"says {word}"}, key=uuid.uuid4().hex)
    completed = _run(client, session, "completed")
    failing = _post(client, "/v1/sessions", {"agent_id": "breaks", "messages": [{"role": "user", "content": word}]})
    asks = _post(client, "/v1/sessions", {"agent_id": "asks", "messages": [{"role": "user", "content": word}]})
    approval = _post(client, "/v1/waits", {"type": "approval", "session_id": session, "title": f"title {word}"})["id"]
    waiting = _post(client, "/v1/waits", {"type": "approval", "session_id": session, "title": f"title {word}"})["id"]
    _post(client, f"/v1/waits/{approval}/complete", {"result": {word: word}}, status=200)
    made = {"session_id": session, "purpose": f"purpose {word}", "metadata": {"of": word}}
    inbox = _post(client, "/v1/inboxes", made)
    mail = _mail(word, to=inbox["address"])
    if smtp is None:
        raw = mail.as_bytes()
        sent = client.post(f"/v1/inboxes/{inbox['id']}/mails", content=raw, headers={"Content-Type": "message/rfc822"})
        assert sent.status_code == 201, sent.text
    else:
        smtp.send(mail)
    (received,) = client.get(f"/v1/inboxes/{inbox['id']}/mails").raise_for_status().json()["data"]
    return Filled(
        session=session,
        completed=completed,
        failed=_run(client, failing["id"], "failed"),
        asking=_run(client, asks["id"], "waiting"),
        waiting=waiting,
        completed_wait=approval,
        inbox=inbox["id"],
        mail=received["id"],
    )


def _mail(word: str, *, to: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = f"{word} <{word}@example.com>", to, f"subject {word}"
    message.set_content(f"{word}: your verification code is 482913")
    message.add_attachment(f"attached {word}".encode(), maintype="text", subtype="plain", filename=f"{word}.txt")
    return message


def _post(client: httpx.Client, path: str, body: Any, *, key: str | None = None, status: int = 201) -> Any:
    answer = client.post(path, json=body, headers={"Idempotency-Key": key} if key is not None else None)
    assert answer.status_code == status, answer.text
    return answer.json()


def _run(client: httpx.Client, session: str, status: str) -> str:
    def look() -> str | None:
        for run in client.get(f"/v1/sessions/{session}/runs").raise_for_status().json()["data"]:
            if run["status"] == status:
                return str(run["id"])
        return None

    found: str = eventually(look)
    return found
