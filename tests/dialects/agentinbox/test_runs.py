"""What agents do, in the timeline and in the replay."""

from __future__ import annotations

from typing import Any, Final

import httpx

from tests.dialects.agents import eventually, register_script
from tests.serving import Tenant

# Looks something up, and answers.
LOOKING_UP: Final = """
import json, sys
sys.stdin.readline()
for piece in (
    {"type": "tool_call", "id": "1", "name": "look_up", "arguments": {"the_key": "a"}},
    {"type": "tool_result", "id": "1", "output": {"the_value": 1}},
    {"type": "text", "text": "it is 1"},
    {"type": "usage", "prompt_tokens": 3, "completion_tokens": 4},
):
    print(json.dumps(piece), flush=True)
"""
FAILING: Final = 'import sys; sys.stdin.readline(); print(\'{"type": "error", "message": "out of paper"}\')'


def run_through(client: httpx.Client, api: httpx.Client, agent_id: str) -> tuple[str, list[Any]]:
    """Send a message to an agent; return its run, and the timeline when that has ended."""
    client.post("/v1/sessions", json={"id": "s", "agent_id": agent_id}).raise_for_status()
    client.post("/v1/sessions/s/messages", json={"content": "Look"}).raise_for_status()

    def ended() -> Any:
        events = api.get("/api/v1/sessions/s/timeline").json()["events"]
        return events if events[-1]["type"] in ("run.completed", "run.failed") else None

    events: list[Any] = eventually(ended)
    return events[-1]["payload"]["runId"], events


def test_the_timeline_tells_of_a_run_in_its_shape(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register_script(tenant, "lookup", LOOKING_UP)

    run_id, events = run_through(client, api, "lookup")

    assert all(set(event) == {"timestamp", "type", "payload"} for event in events)
    told = [(event["type"], event["payload"]) for event in events]
    assert [type for type, _ in told] == [
        "session.created",
        "session.activated",
        "message.user",
        "run.queued",
        "run.started",
        "run.tool_call",
        "run.tool_result",
        "run.text",
        "message.assistant",
        "run.completed",
    ]
    of_run = {"sessionId": "s", "runId": run_id}
    assert told[2][1] == {"messageId": "msg_3.s", "role": "user", "content": "Look", "runId": run_id}
    assert told[3][1] == of_run | {"agentId": "lookup"}
    assert told[4][1].items() >= (of_run | {"agentId": "lookup", "attempt": 1, "afterLoss": False}).items()
    call = {"id": "1", "name": "look_up", "arguments": {"the_key": "a"}}
    assert told[5][1] == of_run | call
    assert told[6][1] == of_run | call | {"output": {"the_value": 1}, "isError": False}
    assert told[8][1] == {"messageId": "msg_9.s", "role": "assistant", "content": "it is 1", "runId": run_id}
    assert (
        told[9][1].items()
        >= (
            of_run
            | {
                "agentId": "lookup",
                "status": "completed",
                "attempts": 1,
                "output": "it is 1",
                "error": None,
                "promptTokens": 3,
                "completionTokens": 4,
            }
        ).items()
    )


def test_a_replay_shows_the_run_and_its_tools_as_steps(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register_script(tenant, "lookup", LOOKING_UP)
    run_id, _ = run_through(client, api, "lookup")

    steps = api.post("/api/v1/sessions/s/replay").json()["steps"]

    assert [step["index"] for step in steps] == [0, 1, 2]
    assert all(set(step) == {"index", "timestamp", "action", "input", "output", "durationMs"} for step in steps)
    assert [(step["action"], step["input"], step["output"]) for step in steps] == [
        ("send_message", {"role": "user", "content": "Look", "metadata": {}}, {"id": "msg_3.s"}),
        (
            "call_tool",
            {"id": "1", "name": "look_up", "arguments": {"the_key": "a"}},
            {"output": {"the_value": 1}, "isError": False},
        ),
        (
            "run_agent",
            {"runId": run_id, "agentId": "lookup", "input": "Look"},
            {"status": "completed", "output": "it is 1", "error": None},
        ),
    ]
    assert steps[2]["durationMs"] >= steps[1]["durationMs"]
    assert steps[2]["durationMs"] > 0


def test_a_run_that_failed_says_why(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register_script(tenant, "failing", FAILING)

    _, events = run_through(client, api, "failing")

    why = {"code": "agent_failed", "message": "out of paper"}
    assert (events[-1]["type"], events[-1]["payload"]["error"]) == ("run.failed", why)
    step = api.post("/api/v1/sessions/s/replay").json()["steps"][-1]
    assert (step["action"], step["output"]) == ("run_agent", {"status": "failed", "output": None, "error": why})


def test_what_a_client_logged_natively_is_told_in_its_own_words(client: httpx.Client, api: httpx.Client) -> None:
    client.post("/v1/sessions", json={"id": "s"}).raise_for_status()
    theirs = {"expires_at_us": "x", "since_us": None, "sender": 1, "status": "cancelled", "timeout_seconds": 1.5}
    actions = ["create_session", "create_wait", "cancel_wait", "receive_mail", "call_tool"]
    steps = [{"type": "a.b", "action": action, "input": theirs, "output": theirs} for action in actions]
    said = {"events": [*steps, {"type": "a.b", "data": theirs | {"sessionId": "t"}}]}
    client.post("/v1/sessions/s/events", json=said).raise_for_status()

    *_, step, told = api.get("/api/v1/sessions/s/timeline").json()["events"]
    shown = api.post("/api/v1/sessions/s/replay").json()["steps"]

    assert step["payload"] == {"sessionId": "s", "data": {"input": theirs, "output": theirs}}
    assert (told["type"], told["payload"]) == ("a.b", {"sessionId": "s", "data": theirs | {"sessionId": "t"}})
    assert [(each["index"], each["action"]) for each in shown] == list(enumerate(actions))
    assert [(each["input"], each["output"]) for each in shown] == [(theirs, theirs)] * len(actions)
