"""Every request and response of the openagents document, as it stands there; ids and times aside."""

from __future__ import annotations

import json
import re

import httpx

ALICE = {"agentId": "agent-123", "userName": "Alice", "userEmail": "alice@example.com", "acceptTerms": "true"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_sessions_are_listed_as_documented(api: httpx.Client, client: httpx.Client) -> None:
    api.post("/api/exec/session/session-001", json=ALICE)
    client.post("/v1/sessions/session-001/messages", json={"content": "Hello"})

    answer = api.get("/api/session?agentId=agent-123")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    [session] = answer.json()
    assert TIME.fullmatch(session.pop("createdAt"))
    assert TIME.fullmatch(session.pop("updatedAt"))
    assert session == {
        "id": "session-001",
        "agentId": "agent-123",
        "userName": "Alice",
        "userEmail": "alice@example.com",
        "acceptTerms": "true",
        "messages": '[{"role":"user","content":"Hello"}]',
        "promptTokens": 0,
        "completionTokens": 0,
        "finalizedAt": None,
    }


def test_a_session_is_deleted_as_documented(api: httpx.Client) -> None:
    api.post("/api/exec/session/session-001", json=ALICE)

    answer = api.delete("/api/session/session-001")

    assert (answer.status_code, answer.json()) == (200, {"message": "Data deleted successfully!", "status": 200})
    assert api.get("/api/session").json() == []


def test_a_session_that_is_not_there_is_not_deleted(api: httpx.Client) -> None:
    answer = api.delete("/api/session/session-001")

    assert (answer.status_code, answer.json()) == (400, {"message": "Data not found!", "status": 400})


def test_deleting_needs_an_id(api: httpx.Client) -> None:
    for path in ("/api/session/", "/api/session"):
        answer = api.delete(path)

        expected = {"message": "Invalid request, no id provided within request url", "status": 400}
        assert (answer.status_code, answer.json()) == (400, expected)


def test_a_session_is_created_and_then_found_as_documented(api: httpx.Client) -> None:
    first = api.post("/api/exec/session/session-XYZ", json=ALICE)
    second = api.post("/api/exec/session/session-XYZ", json=ALICE)

    data = {"id": "session-XYZ"}
    assert (first.status_code, first.json()) == (200, {"message": "Session created", "data": data, "status": 200})
    assert (second.status_code, second.json()) == (200, {"message": "Session already exists", "data": data})


def test_creating_needs_an_id(api: httpx.Client) -> None:
    for path in ("/api/exec/session/", "/api/exec/session"):
        answer = api.post(path, json=ALICE)

        expected = {"message": "Invalid request, no id provided within request url", "status": 400}
        assert (answer.status_code, answer.json()) == (400, expected)


def test_an_agents_sessions_are_searched_as_documented(api: httpx.Client) -> None:
    api.post("/api/exec/session/session-001", json=ALICE)
    api.post("/api/exec/session/session-002", json=ALICE | {"userName": "Bob", "userEmail": "bob@example.com"})
    api.post("/api/exec/session/session-003", json=ALICE | {"agentId": "another"})

    answer = api.get("/api/agent/agent-123/session?limit=10&offset=0&orderBy=updatedAt&query=alice")

    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("rows") == api.get("/api/session?id=session-001").json()
    assert body == {"total": 1, "limit": 10, "offset": 0, "orderBy": "updatedAt", "query": "alice"}


def test_the_whole_way_of_section_6(api: httpx.Client, client: httpx.Client) -> None:
    api.post("/api/exec/session/chat-1", json=ALICE)
    client.post(
        "/v1/sessions/chat-1/messages",
        json={"messages": [{"content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
    )

    [session] = api.get("/api/session", params={"agentId": "agent-123"}).json()
    assert json.loads(session["messages"]) == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
    ]
    assert api.delete("/api/session/chat-1").status_code == 200
