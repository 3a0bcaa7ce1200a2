"""What agents say and use, as this wire shows it."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx

from tests.dialects.agents import eventually, register, register_script
from tests.serving import Tenant

# Answers, and says what that cost.
COUNTING: Final = """
import json, sys
brief = json.loads(sys.stdin.readline())
for piece in (
    {"type": "usage", "prompt_tokens": 3},
    {"type": "text", "text": "You said: " + brief["input"]},
    {"type": "usage", "completion_tokens": 4},
):
    print(json.dumps(piece), flush=True)
"""


def make_session(api: httpx.Client, agent_id: str) -> None:
    body = {"agentId": agent_id, "userName": "Alice", "userEmail": "alice@here.example"}
    api.post("/api/exec/session/talk", json=body).raise_for_status()


def read_session(api: httpx.Client) -> Any:
    [session] = api.get("/api/session?id=talk").json()
    return session


def send(client: httpx.Client, content: str) -> None:
    client.post("/v1/sessions/talk/messages", json={"content": content}).raise_for_status()


def wait_for(api: httpx.Client, count: int) -> Any:
    """Return the session once so many messages are in it."""
    return eventually(lambda: len(json.loads((found := read_session(api))["messages"])) >= count and found)


def test_messages_hold_what_the_agent_answers(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register(tenant, "echo")
    make_session(api, "echo")

    send(client, "Hello")

    session = wait_for(api, 2)
    assert json.loads(session["messages"]) == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello"},
    ]
    assert (session["promptTokens"], session["completionTokens"]) == (0, 0)


def test_tokens_that_runs_used_add_up(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register_script(tenant, "counting", COUNTING)
    make_session(api, "counting")

    for number in (1, 2):
        send(client, "Hello")
        session = wait_for(api, 2 * number)
        assert (session["promptTokens"], session["completionTokens"]) == (3 * number, 4 * number)

    [row] = api.get("/api/agent/counting/session").json()["rows"]
    assert (row["promptTokens"], row["completionTokens"]) == (6, 8)
    assert json.loads(row["messages"])[-1] == {"role": "assistant", "content": "You said: Hello"}
