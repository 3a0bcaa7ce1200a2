"""Every request and response of the agentinbox document, as it stands there; ids and times aside."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sessiond.dialects.agentinbox.problems import render
from sessiond.dialects.agentinbox.routes import DIALECT
from sessiond.web.errors import Internal
from sessiond.web.routes import Problem
from tests.dialects.agentinbox.mailing import TIME, create_inbox, create_wait, get, message_in, send
from tests.serving import Tenant

SIGNUP = {"name": "user-signup-flow", "metadata": {"environment": "staging"}}
NOT_FOUND = {"error": "Not found", "message": "Session not found"}
UNAUTHORIZED = {"error": "Unauthorized", "message": "Invalid or missing API key"}
INBOX_NOT_FOUND = {"error": "Not found", "message": "Inbox not found"}
MESSAGE_NOT_FOUND = {"error": "Not found", "message": "Message not found"}
WAIT_NOT_FOUND = {"error": "Not found", "message": "Wait not found"}
# By the open segment of a path.
NOT_FOUND_OF = {
    "{id}": NOT_FOUND,
    "{inboxId}": INBOX_NOT_FOUND,
    "{messageId}": MESSAGE_NOT_FOUND,
    "{waitId}": WAIT_NOT_FOUND,
}
FAILURES = {
    ("POST", "/api/v1/sessions"): "Failed to create session",
    ("GET", "/api/v1/sessions"): "Failed to list sessions",
    ("GET", "/api/v1/sessions/{id}"): "Failed to retrieve session",
    ("POST", "/api/v1/sessions/{id}"): "Failed to complete session",
    ("POST", "/api/v1/sessions/{id}/complete"): "Failed to complete session",
    ("GET", "/api/v1/sessions/{id}/timeline"): "Failed to retrieve timeline",
    ("POST", "/api/v1/sessions/{id}/replay"): "Failed to replay session",
    ("POST", "/api/v1/inboxes"): "Failed to create inbox",
    ("GET", "/api/v1/inboxes"): "Failed to list inboxes",
    ("GET", "/api/v1/inboxes/{inboxId}"): "Failed to retrieve inbox",
    ("DELETE", "/api/v1/inboxes/{inboxId}"): "Failed to delete inbox",
    ("GET", "/api/v1/inboxes/{inboxId}/messages"): "Failed to list messages",
    ("GET", "/api/v1/inboxes/{inboxId}/extractions"): "Failed to list extractions",
    ("GET", "/api/v1/messages/{messageId}"): "Failed to retrieve message",
    ("POST", "/api/v1/messages/{messageId}/extract"): "Failed to extract data",
    ("POST", "/api/v1/waits"): "Failed to create wait",
    ("GET", "/api/v1/waits"): "Failed to list waits",
    ("GET", "/api/v1/waits/{waitId}"): "Failed to retrieve wait",
    ("DELETE", "/api/v1/waits/{waitId}"): "Failed to cancel wait",
    ("POST", "/api/v1/waits/{waitId}/cancel"): "Failed to cancel wait",
}


def _create(api: httpx.Client) -> str:
    session_id: str = api.post("/api/v1/sessions", json=SIGNUP).json()["id"]
    return session_id


def test_a_session_is_created_as_documented(api: httpx.Client) -> None:
    answer = api.post("/api/v1/sessions", json=SIGNUP)

    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    session = answer.json()
    assert session.pop("id").startswith("sess_")
    created_at = session.pop("createdAt")
    assert TIME.fullmatch(created_at)
    assert session.pop("updatedAt") == created_at
    assert session == {
        "name": "user-signup-flow",
        "status": "active",
        "completedAt": None,
        "metadata": {"environment": "staging"},
        "inboxes": [],
        "waits": [],
    }


def test_a_session_needs_a_name(api: httpx.Client) -> None:
    answer = api.post("/api/v1/sessions", json={"metadata": {"environment": "staging"}})

    expected = {"error": "Invalid request", "message": "name is required"}
    assert (answer.status_code, answer.json()) == (400, expected)


def test_sessions_are_listed_as_documented(api: httpx.Client) -> None:
    session_id = _create(api)

    answer = api.get("/api/v1/sessions?status=active&limit=20")

    assert answer.status_code == 200
    body = answer.json()
    assert body["pagination"] == {"limit": 20, "offset": 0, "total": 1}
    [session] = body["data"]
    assert TIME.fullmatch(session["createdAt"])
    documented = {name: session[name] for name in ("id", "name", "status")}
    assert documented == {"id": session_id, "name": "user-signup-flow", "status": "active"}


def test_a_session_is_retrieved_as_documented(api: httpx.Client) -> None:
    made = api.post("/api/v1/sessions", json={"name": "user-signup-flow"}).json()

    answer = api.get(f"/api/v1/sessions/{made['id']}")

    assert (answer.status_code, answer.json()) == (200, made)
    assert made["metadata"] == {}


def test_a_session_is_completed_as_documented(api: httpx.Client) -> None:
    session_id = _create(api)

    answer = api.post(f"/api/v1/sessions/{session_id}/complete")

    assert answer.status_code == 200
    body = answer.json()
    assert TIME.fullmatch(body.pop("completedAt"))
    assert body == {"id": session_id, "status": "completed"}


def test_a_session_with_an_inbox_and_a_wait_is_retrieved_as_documented(api: httpx.Client) -> None:
    session_id = _create(api)
    inbox = create_inbox(api, sessionId=session_id)
    wait = create_wait(api, inbox)

    session = get(api, f"/sessions/{session_id}")

    assert inbox["id"].startswith("inb_")
    assert wait["id"].startswith("wait_")
    assert (session["inboxes"], session["waits"]) == ([inbox["id"]], [wait["id"]])


def test_the_timeline_of_a_signup_is_as_documented(tenant: Tenant, api: httpx.Client) -> None:
    session_id, inbox, wait, message = _sign_up(tenant, api)

    answer = api.get(f"/api/v1/sessions/{session_id}/timeline")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"events"}
    events = answer.json()["events"]
    assert all(event.keys() == {"timestamp", "type", "payload"} for event in events)
    assert all(TIME.fullmatch(event["timestamp"]) for event in events)
    assert [(event["type"], event["payload"]) for event in events] == [
        ("session.created", {"sessionId": session_id}),
        ("inbox.created", {"inboxId": inbox["id"]}),
        ("wait.created", {"waitId": wait["id"]}),
        ("message.received", {"messageId": message["id"]}),
        ("wait.completed", {"waitId": wait["id"]}),
    ]
    assert message["id"].startswith("msg_")


def test_a_signup_is_replayed_as_documented(tenant: Tenant, api: httpx.Client) -> None:
    session_id, inbox, wait, _ = _sign_up(tenant, api)

    answer = api.post(f"/api/v1/sessions/{session_id}/replay")

    assert answer.status_code == 200
    assert answer.json().keys() == {"steps"}
    steps = answer.json()["steps"]
    for step in steps:
        assert TIME.fullmatch(step.pop("timestamp"))
        duration_ms = step.pop("durationMs")
        assert isinstance(duration_ms, int)
        assert duration_ms >= 1
    assert json.dumps(steps) == json.dumps(
        [
            {"index": 0, "action": "create_inbox", "input": {"ttlSeconds": 3600}, "output": {"id": inbox["id"]}},
            {
                "index": 1,
                "action": "create_wait",
                "input": {"type": "otp", "timeoutSeconds": 120},
                "output": {"id": wait["id"]},
            },
        ]
    )


def test_a_session_in_which_nothing_was_done_has_no_steps(api: httpx.Client) -> None:
    answer = api.post(f"/api/v1/sessions/{_create(api)}/replay")

    assert (answer.status_code, answer.json()) == (200, {"steps": []})


def _sign_up(tenant: Tenant, api: httpx.Client) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Go through what the document is about; return the session, its inbox, its wait, and the message that came."""
    session_id = _create(api)
    inbox = create_inbox(api, ttlSeconds=3600, sessionId=session_id)
    wait = create_wait(api, inbox, timeoutSeconds=120)
    assert wait["status"] == "pending"
    send(tenant, inbox)
    ended = get(api, f"/waits/{wait['id']}")
    assert (ended["status"], ended["result"]["value"]) == ("completed", "482913")
    return session_id, inbox, wait, message_in(api, inbox)


@pytest.mark.parametrize(("method", "path"), FAILURES)
def test_every_route_refuses_a_stranger_as_documented(tenant: Tenant, mount: str, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "nonsense"}):
        with tenant.client(mount, headers=headers) as stranger:
            answer = stranger.request(method, path)

            assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


@pytest.mark.parametrize(("method", "path"), [key for key in FAILURES if "{" in key[1]])
def test_what_is_unknown_is_not_found_as_documented(api: httpx.Client, method: str, path: str) -> None:
    answer = api.request(method, path)

    [expected] = [told for segment, told in NOT_FOUND_OF.items() if segment in path]
    assert (answer.status_code, answer.json()) == (404, expected)


def test_nothing_is_made_in_what_is_unknown(api: httpx.Client) -> None:
    in_no_session = api.post("/api/v1/inboxes", json={"sessionId": "sess_789"})
    of_no_session = api.post("/api/v1/waits", json={"sessionId": "sess_789", "type": "otp"})
    of_no_inbox = api.post("/api/v1/waits", json={"inboxId": "inb_123", "type": "otp"})

    assert (in_no_session.status_code, in_no_session.json()) == (404, NOT_FOUND)
    assert (of_no_session.status_code, of_no_session.json()) == (404, NOT_FOUND)
    assert (of_no_inbox.status_code, of_no_inbox.json()) == (404, INBOX_NOT_FOUND)


def test_a_bug_is_told_in_each_routes_words() -> None:
    told = {}
    for route in DIALECT.routes:
        answer = render(Problem(error=Internal("internal server error"), path="/", request_id="r", route=route))
        assert answer.status == 500
        body = json.loads(answer.body)
        assert body["error"] == "Internal server error"
        told[route.method, route.path] = body["message"]

    assert told == FAILURES


def test_a_bug_outside_of_any_route_is_told_too() -> None:
    answer = render(Problem(error=Internal("internal server error"), path="/", request_id="r", route=None))

    assert json.loads(answer.body) == {"error": "Internal server error", "message": "internal server error"}
