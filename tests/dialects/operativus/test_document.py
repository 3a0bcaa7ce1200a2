"""Every example of the wire's document, as it is written there; only times are ours."""

from __future__ import annotations

import re
from typing import Any

import httpx

from tests.dialects.agents import register
from tests.serving import Tenant

SESSION = "550e8400-e29b-41d4-a716-446655440000"
QUESTION = {"role": "user", "content": "What is the current NVDA stock price?"}
ANSWER = {"role": "assistant", "content": "The current stock price of NVIDIA (NVDA) is **$875.40**."}
SECOND_QUESTION = {"role": "user", "content": "How does that compare to AMD?"}
SECOND_ANSWER = {
    "role": "assistant",
    "content": "AMD (AMD) is currently trading at **$168.20**, down 0.8% today...",
}
# Knows two questions.
ADVISER = f"""case "$(cat)" in
*AMD*) printf %s '{SECOND_ANSWER["content"]}' ;;
*) printf %s '{ANSWER["content"]}' ;;
esac"""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


def make_session(client: httpx.Client, *messages: dict[str, str]) -> None:
    made = client.post(
        "/v1/sessions",
        json={"id": SESSION, "user_id": "user_abc123", "agent_id": "finance_agent", "messages": messages},
    )
    assert made.status_code == 201


def take_times(session: dict[str, Any]) -> None:
    """Check the times and take them out."""
    created, updated = session.pop("createdAt"), session.pop("updatedAt")
    assert TIME.match(created)
    assert TIME.match(updated)
    assert created <= updated


def test_list_sessions(client: httpx.Client, api: httpx.Client) -> None:
    make_session(client, QUESTION, ANSWER)

    listed = api.get("/api/sessions")

    assert listed.status_code == 200
    assert listed.headers["content-type"] == "application/json"
    page = listed.json()
    take_times(page["content"][0])
    assert (
        page["content"][0].items()
        >= {
            "sessionId": SESSION,
            "userId": "user_abc123",
            "agentId": "finance_agent",
            "messages": [QUESTION, ANSWER],
        }.items()
    )
    assert {name: page[name] for name in ("totalElements", "totalPages", "number")} == {
        "totalElements": 1,
        "totalPages": 1,
        "number": 0,
    }
    assert len(page["content"]) == 1


def test_get_session_details(client: httpx.Client, api: httpx.Client) -> None:
    make_session(client, QUESTION, ANSWER, SECOND_QUESTION, SECOND_ANSWER)

    read = api.get(f"/api/sessions/{SESSION}")

    assert read.status_code == 200
    session = read.json()
    take_times(session)
    # `id` beside what the document shows: the published user interface reads it.
    assert session == {
        "sessionId": SESSION,
        "id": SESSION,
        "userId": "user_abc123",
        "agentId": "finance_agent",
        "messages": [QUESTION, ANSWER, SECOND_QUESTION, SECOND_ANSWER],
    }


def test_get_session_details_of_none(api: httpx.Client) -> None:
    missing = api.get(f"/api/sessions/{SESSION}")

    assert missing.status_code == 404


def test_get_runs_in_a_session(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register(tenant, "finance_agent", "command", command=["sh", "-c", ADVISER], protocol="text")
    make_session(client)

    for question in (QUESTION, SECOND_QUESTION):
        asked = {"message": question["content"], "sessionId": SESSION}
        assert api.post("/api/agents/finance_agent/runs", json=asked).status_code == 200
    runs = api.get(f"/api/sessions/{SESSION}/runs")

    assert runs.status_code == 200
    assert runs.headers["content-type"] == "application/json"
    listed = runs.json()
    for run in listed:
        assert run.pop("id").startswith("run_")
        created, completed = run.pop("createdAt"), run.pop("completedAt")
        assert TIME.match(created)
        assert TIME.match(completed)
        assert created <= completed
    # `input` and `error` beside what the document shows.
    documented = {"agentId": "finance_agent", "sessionId": SESSION, "status": "COMPLETED", "error": None}
    assert listed == [
        documented | {"input": QUESTION["content"], "output": ANSWER["content"]},
        documented | {"input": SECOND_QUESTION["content"], "output": SECOND_ANSWER["content"]},
    ]
    assert api.get(f"/api/sessions/{SESSION}").json()["messages"] == [QUESTION, ANSWER, SECOND_QUESTION, SECOND_ANSWER]


def test_delete_a_session(client: httpx.Client, api: httpx.Client) -> None:
    make_session(client, QUESTION, ANSWER)

    for _ in range(2):  # "regardless of whether the session existed"
        deleted = api.delete(f"/api/sessions/{SESSION}")

        assert deleted.status_code == 204
        assert deleted.content == b""
    assert api.get(f"/api/sessions/{SESSION}").status_code == 404
    assert client.get(f"/v1/sessions/{SESSION}/messages").status_code == 404
