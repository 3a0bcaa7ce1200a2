"""Every request and response of the agentinbox document, as it stands there; ids and times aside."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from sessiond.dialects.agentinbox.routes import DIALECT, render
from sessiond.web.errors import Internal
from sessiond.web.routes import Problem
from tests.serving import Tenant

SIGNUP = {"name": "user-signup-flow", "metadata": {"environment": "staging"}}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NOT_FOUND = {"error": "Not found", "message": "Session not found"}
UNAUTHORIZED = {"error": "Unauthorized", "message": "Invalid or missing API key"}
FAILURES = {
    ("POST", "/api/v1/sessions"): "Failed to create session",
    ("GET", "/api/v1/sessions"): "Failed to list sessions",
    ("GET", "/api/v1/sessions/{id}"): "Failed to retrieve session",
    ("POST", "/api/v1/sessions/{id}"): "Failed to complete session",
    ("POST", "/api/v1/sessions/{id}/complete"): "Failed to complete session",
    ("GET", "/api/v1/sessions/{id}/timeline"): "Failed to retrieve timeline",
    ("POST", "/api/v1/sessions/{id}/replay"): "Failed to replay session",
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


def test_the_timeline_begins_as_documented(api: httpx.Client) -> None:
    session_id = _create(api)

    answer = api.get(f"/api/v1/sessions/{session_id}/timeline")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    [event] = answer.json()["events"]
    assert TIME.fullmatch(event.pop("timestamp"))
    assert event == {"type": "session.created", "payload": {"sessionId": session_id}}


def test_a_session_is_replayed_as_documented(api: httpx.Client) -> None:
    session_id = _create(api)

    answer = api.post(f"/api/v1/sessions/{session_id}/replay")

    assert answer.status_code == 200
    [step] = answer.json()["steps"]
    assert TIME.fullmatch(step.pop("timestamp"))
    duration_ms = step.pop("durationMs")
    assert isinstance(duration_ms, int)
    assert duration_ms >= 1
    assert step == {"index": 0, "action": "create_session", "input": SIGNUP, "output": {"id": session_id}}


@pytest.mark.parametrize(("method", "path"), FAILURES)
def test_every_route_refuses_a_stranger_as_documented(tenant: Tenant, mount: str, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "nonsense"}):
        with tenant.client(mount, headers=headers) as stranger:
            answer = stranger.request(method, path.replace("{id}", "sess_789"))

            assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


@pytest.mark.parametrize(("method", "path"), [key for key in FAILURES if "{id}" in key[1]])
def test_an_unknown_session_is_not_found_as_documented(api: httpx.Client, method: str, path: str) -> None:
    answer = api.request(method, path.replace("{id}", "sess_789"))

    assert (answer.status_code, answer.json()) == (404, NOT_FOUND)


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
