"""Every example of the wire's document, as it is written there; only ids and times are ours."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
CREATE = {"agent_id": "CLAUDE_CODE", "task_id": "task-xyz", "prompt": "Initial prompt for the session"}


def take(answer: dict[str, Any], *, ids: tuple[str, ...] = ("id",), times: tuple[str, ...]) -> dict[str, Any]:
    """Check ids and times, and return the rest."""
    rest = dict(answer)
    for name in ids:
        assert rest.pop(name).startswith("msg-" if name == "message_id" else "session-")
    for name in times:
        assert TIME.match(rest.pop(name))
    return rest


def make_active(api: httpx.Client) -> str:
    """Return a session with the 42 messages of the examples."""
    session_id: str = api.post("/api/sessions", json=CREATE).json()["id"]
    for number in range(41):
        api.post(f"/api/sessions/{session_id}/message", json={"content": f"message {number}"}).raise_for_status()
    return session_id


def test_post_sessions(api: httpx.Client) -> None:
    made = api.post("/api/sessions", json=CREATE)

    assert made.status_code == 201
    assert made.headers["content-type"] == "application/json"
    assert take(made.json(), times=("created_at",)) == {
        "agent_id": "CLAUDE_CODE",
        "task_id": "task-xyz",
        "status": "created",
    }


def test_get_sessions(api: httpx.Client) -> None:
    session_id = make_active(api)

    listed = api.get("/api/sessions")

    assert listed.status_code == 200
    assert list(listed.json()) == ["sessions"]
    (session,) = listed.json()["sessions"]
    assert session["id"] == session_id
    assert take(session, times=("created_at", "last_active")) == {
        "agent_id": "CLAUDE_CODE",
        "task_id": "task-xyz",
        "status": "active",
        "message_count": 42,
    }


def test_get_session(api: httpx.Client) -> None:
    session_id = make_active(api)
    data = {"workdir": "/path/to/project", "model": "claude-3-sonnet"}
    api.patch(f"/api/sessions/{session_id}", json={"data": data, "prompt": None})

    read = api.get(f"/api/sessions/{session_id}")

    assert read.status_code == 200
    session = read.json()
    assert session["id"] == session_id
    assert len(session.pop("messages")) == 42  # beside what the document shows
    assert take(session, times=("created_at", "last_active")) == {
        "agent_id": "CLAUDE_CODE",
        "task_id": "task-xyz",
        "status": "active",
        "message_count": 42,
        "data": data,
    }


def test_patch_session(api: httpx.Client) -> None:
    session_id = api.post("/api/sessions", json=CREATE).json()["id"]

    patched = api.patch(
        f"/api/sessions/{session_id}", json={"status": "paused", "data": {"notes": "Paused for review"}}
    )

    assert patched.status_code == 200
    assert patched.json().items() <= api.get(f"/api/sessions/{session_id}").json().items()
    assert patched.json()["status"] == "paused"
    assert patched.json()["data"] == {"notes": "Paused for review"}


def test_delete_session(api: httpx.Client) -> None:
    session_id = api.post("/api/sessions", json=CREATE).json()["id"]

    deleted = api.delete(f"/api/sessions/{session_id}")

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert api.get(f"/api/sessions/{session_id}").status_code == 404


def test_post_message(api: httpx.Client) -> None:
    session_id = api.post("/api/sessions", json=CREATE).json()["id"]

    sent = api.post(f"/api/sessions/{session_id}/message", json={"content": "Please continue with the implementation"})

    assert sent.status_code == 200
    assert take(sent.json(), ids=("message_id",), times=("timestamp",)) == {"status": "sent"}


@pytest.mark.parametrize("status", ["created", "active", "paused", "completed", "failed"])
def test_session_status(api: httpx.Client, status: str) -> None:
    session_id = api.post("/api/sessions", json={"agent_id": "CLAUDE_CODE"}).json()["id"]
    for step in {"created": [], "paused": ["active", "paused"]}.get(status, [status]):
        api.patch(f"/api/sessions/{session_id}", json={"status": step}).raise_for_status()

    assert api.get(f"/api/sessions/{session_id}").json()["status"] == status
    assert [found["id"] for found in api.get("/api/sessions", params={"status": status}).json()["sessions"]] == [
        session_id
    ]
