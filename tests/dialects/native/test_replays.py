"""Replay over real HTTP: shown, run again, simulated, and asked for twice, on both engines."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx
import pytest

from sessiond.core.caller import Scope
from tests.dialects.native.working import make_session, register, register_program, say, start
from tests.serving import Tenant

SAYS: Final = """
echo '{"type":"tool_call","id":"c","name":"look_up","arguments":{"of":"sky"}}'
echo '{"type":"tool_result","id":"c","output":"WORD"}'
echo '{"type":"text","text":"WORD"}'
"""


@pytest.fixture
def recorded(client: httpx.Client) -> httpx.Client:
    """A client whose workspace has a session `s` of an agent `a` that has worked once."""
    register_program(client, SAYS.replace("WORD", "blue"))
    make_session(client, user_id="ada", expires_at="2100-01-01T00:00:00Z", data={"api_key": "hush"})
    assert start(client, wait=20)["output"] == "blue"
    say(client, "noted", role="assistant")
    return client


def replay(client: httpx.Client, mode: str = "rerun", **headers: str) -> Any:
    answer = client.post("/v1/sessions/s/replay", json={"mode": mode}, headers=headers)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content)


def test_without_a_mode_what_was_done_is_shown(recorded: httpx.Client) -> None:
    shown = recorded.post("/v1/sessions/s/replay").json()

    assert [step["action"] for step in shown["steps"]] == [
        "create_session",
        "send_message",
        "call_tool",
        "run_agent",
        "send_message",
    ]
    for body in (b"", b"{}", b'{"mode": "show"}'):
        assert recorded.post("/v1/sessions/s/replay", content=body).json() == shown


def test_a_session_runs_again_in_a_new_one(recorded: httpx.Client) -> None:
    done = replay(recorded)

    again = recorded.get(f"/v1/sessions/{done['session_id']}").json()
    assert (again["parent"], again["user_id"], again["expires_at"]) == ("s", "ada", None)
    assert again["data"] == {"api_key": "hush"}
    assert done["mode"] == "rerun"
    assert done["summary"] == {"session_id": done["session_id"], "same": 5, "changed": 0, "failed": 0}
    shown = recorded.post("/v1/sessions/s/replay").json()["steps"]
    assert [
        {name: step[name] for name in ("index", "action", "input")} | {"output": step["recorded"]}
        for step in done["steps"]
    ] == [{name: step[name] for name in ("index", "action", "input", "output")} for step in shown]
    assert done["steps"][0]["input"]["expires_at"] == "2100-01-01T00:00:00.000000Z"
    assert done["steps"][0]["input"]["data"] == {"api_key": "***"}
    assert done["steps"][0]["output"] == {"id": done["session_id"]}
    assert all(step["verdict"] == "same" and "reason" not in step for step in done["steps"])
    assert done["steps"][3]["recorded_duration_ms"] > 0
    assert done["steps"][3]["duration_ms"] > 0


def test_a_changed_agent_shows_what_changed(recorded: httpx.Client) -> None:
    register_program(recorded, SAYS.replace("WORD", "grey"))

    done = replay(recorded)

    assert [(step["index"], step["verdict"], step["reason"]) for step in done["steps"] if "reason" in step] == [
        (2, "changed", "its output differs"),
        (3, "changed", "its output differs"),
    ]
    assert done["summary"] | {"session_id": ""} == {"session_id": "", "same": 3, "changed": 2, "failed": 0}


def test_in_a_simulation_runs_say_which_tools_answered_then(recorded: httpx.Client) -> None:
    register_program(recorded, SAYS.replace("WORD", "grey"))

    done = replay(recorded, "simulate")

    # What the program says its tool answered counts for nothing: the recording has that.
    assert [(step["action"], step["verdict"]) for step in done["steps"] if "reason" in step] == [
        ("run_agent", "changed")
    ]


def test_steps_come_as_events_too(recorded: httpx.Client) -> None:
    headers = {"Accept": "text/event-stream"}
    with recorded.stream("POST", "/v1/sessions/s/replay", json={"mode": "rerun"}, headers=headers) as answer:
        text = answer.read().decode()

    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = [dict(line.split(": ", 1) for line in frame.splitlines()) for frame in text.strip().split("\n\n")]
    told = [(frame["event"], json.loads(frame["data"])) for frame in frames]
    assert [name for name, _ in told] == ["step"] * 5 + ["summary"]
    assert [data["index"] for name, data in told if name == "step"] == list(range(5))
    assert told[-1][1]["same"] == 5


def test_a_request_that_comes_twice_runs_the_session_once(recorded: httpx.Client) -> None:
    key = {"Idempotency-Key": "once"}
    done = replay(recorded, **key)

    second = recorded.post("/v1/sessions/s/replay", json={"mode": "rerun"}, headers=key)
    other = recorded.post("/v1/sessions/s/replay", json={"mode": "simulate"}, headers=key)
    shown = [recorded.post("/v1/sessions/s/replay", headers={"Idempotency-Key": "show"}) for _ in range(2)]

    assert second.status_code == 409
    assert done["session_id"] in second.json()["detail"]
    assert other.status_code == 422
    assert recorded.get("/v1/sessions?include=total").json()["total"] == 2
    assert shown[0].json() == shown[1].json()


def test_what_is_refused_is_refused_before_anything_is_done(tenant: Tenant, recorded: httpx.Client) -> None:
    assert recorded.post("/v1/sessions/none/replay", json={"mode": "rerun"}).status_code == 404
    wrong = recorded.post("/v1/sessions/s/replay", json={"mode": "again"})
    assert (wrong.status_code, wrong.json()["field"]) == (400, "mode")
    for scope in (Scope.SESSIONS_READ, Scope.SESSIONS_WRITE):
        only = tenant.make_key(scopes=frozenset({scope}))
        with only.client() as client:
            assert client.post("/v1/sessions/s/replay", json={"mode": "rerun"}).status_code == 403
    with tenant.make_key(user_id="bob").client() as client:
        assert client.post("/v1/sessions/s/replay", json={"mode": "rerun"}).status_code == 404
    assert recorded.get("/v1/sessions?include=total").json()["total"] == 1


def test_a_connection_is_kept_open_while_an_agent_works(tenant: Tenant, client: httpx.Client) -> None:
    register(client, options={"delay_ms": 250})
    make_session(client)
    start(client, "one two three", wait=20)
    site = tenant.serving.site
    before, site.keep_alive_seconds = site.keep_alive_seconds, 0.05
    try:
        with client.stream("POST", "/v1/sessions/s/replay", json={"mode": "rerun"}) as answer:
            text = b"".join(answer.iter_raw())
        headers = {"Accept": "text/event-stream"}
        with client.stream("POST", "/v1/sessions/s/replay", json={"mode": "rerun"}, headers=headers) as answer:
            events = b"".join(answer.iter_raw())
    finally:
        site.keep_alive_seconds = before

    assert b",\n\n" in text or b"}\n\n" in text
    assert json.loads(text)["summary"]["same"] == 3
    assert events.count(b": keep-alive\n\n") > 2


def test_a_client_that_hangs_up_ends_it(client: httpx.Client) -> None:
    register(client, options={"delay_ms": 200})
    make_session(client)
    start(client, "one two", wait=20)
    for number in range(5):
        say(client, f"more {number}", role="assistant")

    with client.stream("POST", "/v1/sessions/s/replay", json={"mode": "rerun"}) as answer:
        first = next(answer.iter_raw())
    session_id = json.loads(first.split(b',"steps"')[0] + b"}")["session_id"]

    follow = client.get(f"/v1/sessions/{session_id}/messages").json()["data"]
    assert len(follow) < 7
