"""Runs: read, started, waited for and followed through this wire."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from typing import Any, Final

import httpx
import pytest

from sessiond.core.caller import Scope
from sessiond.core.event import CALL_TOOL, RUN_AGENT
from sessiond.core.run import RunStatus
from sessiond.dialects.operativus import runs, shapes
from sessiond.storage.open import migrate
from tests.dialects.agents import eventually, register, register_script
from tests.serving import Tenant, open_serving

TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")

# Thinks, calls two tools, and says two words.
WORKER: Final = """
import json, sys
sys.stdin.readline()
for piece in (
    {"type": "thought", "text": "hm"},
    {"type": "tool_call", "id": "1", "name": "price", "arguments": {"of": "NVDA"}},
    {"type": "tool_result", "id": "1", "output": 875.4},
    {"type": "tool_call", "id": "2", "name": "buy"},
    {"type": "tool_result", "id": "2", "output": "no money", "is_error": True},
    {"type": "text", "text": "it is "},
    {"type": "text", "text": "875.40"},
):
    print(json.dumps(piece), flush=True)
"""
FAILING: Final = 'import sys; sys.stdin.readline(); print(\'{"type": "error", "message": "out of paper"}\')'
ASKING: Final = """
import json, sys
sys.stdin.readline()
print(json.dumps({"type": "ask", "title": "May I?", "options": [{"id": "yes", "name": "Yes"}]}), flush=True)
answer = json.loads(sys.stdin.readline())
print(json.dumps({"type": "text", "text": "thanks"}), flush=True)
"""
# Fails once it has said something; then does better, if there is the file that says that it has failed before.
UNSTEADY: Final = """
import json, sys
brief = json.loads(sys.stdin.readline())
print(json.dumps({"type": "text", "text": "attempt %d" % brief["run"]["attempt"]}), flush=True)
if brief["run"]["attempt"] == 1:
    print(json.dumps({"type": "error", "message": "once more", "retry": True}), flush=True)
"""


def run(api: httpx.Client, agent: str, message: str, **more: Any) -> Any:
    answer = api.post(f"/api/agents/{agent}/runs", json={"message": message, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def runs_of(api: httpx.Client, session_id: str) -> Any:
    answer = api.get(f"/api/sessions/{session_id}/runs")
    assert answer.status_code == 200, answer.text
    return answer.json()


def follow(api: httpx.Client, path: str, body: Any, **headers: str) -> list[Any]:
    """Return the events of a stream that came to its end."""
    with api.stream("POST", path, json=body, headers=headers) as answer:
        answer.read()
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    frames = [frame for frame in answer.text.split("\n\n") if frame and not frame.startswith(":")]
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def text_of(events: list[Any]) -> str:
    return "".join(event["data"] for event in events if event["event"] == "CONTENT_DELTA")


def test_a_message_to_an_agent_is_answered_by_a_run_and_both_are_in_the_history(
    tenant: Tenant, api: httpx.Client
) -> None:
    register(tenant, "echo")

    first = run(api, "echo", "What is the current NVDA stock price?")
    second = run(api, "echo", "How does that compare to AMD?", sessionId=first["sessionId"])

    listed = runs_of(api, first["sessionId"])
    assert [(one["id"], one["status"], one["output"]) for one in listed] == [
        (first["id"], "COMPLETED", "What is the current NVDA stock price?"),
        (second["id"], "COMPLETED", "How does that compare to AMD?"),
    ]
    session = api.get(f"/api/sessions/{first['sessionId']}").json()
    assert session["agentId"] == "echo"
    assert [(message["role"], message["content"]) for message in session["messages"]] == [
        ("user", "What is the current NVDA stock price?"),
        ("assistant", "What is the current NVDA stock price?"),
        ("user", "How does that compare to AMD?"),
        ("assistant", "How does that compare to AMD?"),
    ]


def test_a_started_run_is_answered_with_its_end(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo")

    done = run(api, "echo", "hello", userId="ada")

    listed = dict(done)
    assert (listed.pop("runId"), listed.pop("content")) == (done["id"], "hello")
    assert [listed] == runs_of(api, done["sessionId"])
    assert str(uuid.UUID(done["sessionId"])) == done["sessionId"]
    assert done["createdAt"] <= done["completedAt"]
    assert TIME.match(done["completedAt"])
    assert (done["agentId"], done["status"], done["input"], done["output"], done["error"]) == (
        *("echo", "COMPLETED", "hello", "hello", None),
    )
    assert api.get(f"/api/sessions/{done['sessionId']}").json()["userId"] == "ada"


def test_a_session_of_the_id_that_is_sent_is_made_or_continued(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo")

    for message in ("one", "two"):
        assert run(api, "echo", message, sessionId="mine")["sessionId"] == "mine"

    assert [one["input"] for one in runs_of(api, "mine")] == ["one", "two"]


def test_a_session_that_another_api_made_is_continued(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register(tenant, "echo")
    client.post("/v1/sessions", json={"id": "there", "agent_id": "echo", "user_id": "ada"}).raise_for_status()

    run(api, "echo", "hello", sessionId="there")
    run(api, "echo", "again", sessionId="there", userId="ada")

    assert len(api.get("/api/sessions/there").json()["messages"]) == 4


def test_an_agent_that_is_not_registered_is_not_found_and_nothing_is_made(api: httpx.Client) -> None:
    for path in ("/api/agents/none/runs", "/api/agents/none/runs/stream"):
        refused = api.post(path, json={"message": "hello"})

        assert (refused.status_code, refused.json()["message"]) == (404, "no such agent")
    assert api.get("/api/sessions").json()["totalElements"] == 0


def test_another_agents_session_is_a_conflict(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register(tenant, "echo")
    client.post("/v1/sessions", json={"id": "other", "agent_id": "else"}).raise_for_status()
    client.post("/v1/sessions", json={"id": "nobodys"}).raise_for_status()

    for session_id in ("other", "nobodys"):
        refused = api.post("/api/agents/echo/runs", json={"message": "hello", "sessionId": session_id})

        assert (refused.status_code, refused.json()["message"]) == (409, "the session is not this agent's")
        assert client.get(f"/v1/sessions/{session_id}").json()["message_count"] == 0


def test_an_ended_session_is_a_conflict(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register(tenant, "echo")
    session_id = run(api, "echo", "hello")["sessionId"]
    client.post(f"/v1/sessions/{session_id}/complete").raise_for_status()

    refused = api.post("/api/agents/echo/runs", json={"message": "late", "sessionId": session_id})

    assert (refused.status_code, refused.json()["message"]) == (409, "the session is completed")


@pytest.mark.parametrize("owner", ["bob", None])
def test_another_users_session_is_a_conflict_that_tells_nothing_of_it(
    tenant: Tenant, client: httpx.Client, owner: str | None
) -> None:
    register(tenant, "echo")
    client.post("/v1/sessions", json={"id": "bobs", "agent_id": "echo", "user_id": owner}).raise_for_status()
    bound, free = tenant.make_key(user_id="alice"), tenant

    for asking, body in ((bound, {}), (bound, {"userId": "bob"}), (free, {"userId": "alice"})):
        with asking.client("/operativus") as api:
            refused = api.post("/api/agents/echo/runs", json={"message": "hello", "sessionId": "bobs"} | body)

            assert (refused.status_code, refused.json()["message"]) == (409, "a session with this id exists")
    assert client.get("/v1/sessions/bobs").json()["message_count"] == 0


def test_a_key_bound_to_a_user_runs_agents_as_that_user_and_sees_only_their_runs(
    tenant: Tenant, api: httpx.Client
) -> None:
    register(tenant, "echo")
    others = run(api, "echo", "secret", userId="bob")

    with tenant.make_key(user_id="alice").client("/operativus") as alice:
        hers = run(alice, "echo", "hello", userId="bob")

        assert alice.get(f"/api/sessions/{hers['sessionId']}").json()["userId"] == "alice"
        assert len(runs_of(alice, hers["sessionId"])) == 1
        assert runs_of(alice, others["sessionId"]) == []
        assert alice.get(f"/api/v1/runs/{hers['id']}").status_code == 200
        assert alice.get(f"/api/v1/runs/{others['id']}").status_code == 404


def test_runs_outlive_their_session_without_its_id(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo")
    done = run(api, "echo", "hello")

    api.delete(f"/api/sessions/{done['sessionId']}")

    assert runs_of(api, done["sessionId"]) == []
    kept = api.get(f"/api/v1/runs/{done['id']}").json()
    assert (kept["sessionId"], kept["status"], kept["output"]) == (None, "COMPLETED", "hello")


def test_a_session_made_again_under_its_id_has_none_of_the_old_runs(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo")
    run(api, "echo", "old", sessionId="mine")
    api.delete("/api/sessions/mine")

    run(api, "echo", "new", sessionId="mine")

    assert [one["input"] for one in runs_of(api, "mine")] == ["new"]


def test_runs_are_listed_whole_however_many_and_oldest_first(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo")
    for number in range(45):
        run(api, "echo", str(number), sessionId="long")

    listed = runs_of(api, "long")

    assert [one["output"] for one in listed] == [str(number) for number in range(45)]


def test_a_run_is_found_by_its_id(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo")
    done = run(api, "echo", "hello")

    found = api.get(f"/api/v1/runs/{done['id']}")

    assert (found.status_code, [found.json()]) == (200, runs_of(api, done["sessionId"]))
    for run_id in ("run_none", "", "%20", "x" * 10_000):
        missing = api.get(f"/api/v1/runs/{run_id}")
        assert (missing.status_code, missing.json()["message"]) == (404, "no such run")


def test_a_run_that_fails_is_answered_with_its_error(tenant: Tenant, api: httpx.Client) -> None:
    register_script(tenant, "failing", FAILING)

    done = run(api, "failing", "print it")

    assert (done["status"], done["output"], done["error"]) == ("FAILED", None, "out of paper")
    assert runs_of(api, done["sessionId"])[0]["error"] == "out of paper"


def test_content_of_parts_is_shown_as_its_text(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register(tenant, "echo")
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    client.post("/v1/sessions", json={"id": "s", "agent_id": "echo", "messages": [{"content": parts}]})

    listed = eventually(lambda: [one for one in runs_of(api, "s") if one["status"] == "COMPLETED"])

    assert (listed[0]["input"], listed[0]["output"]) == ("one\ntwo", "one\ntwo")


def test_a_run_that_asks_something_is_answered_as_it_is(
    tenant: Tenant, client: httpx.Client, api: httpx.Client
) -> None:
    register_script(tenant, "asking", ASKING)

    asked = api.post("/api/agents/asking/runs", json={"message": "do it"})

    assert (asked.status_code, asked.json()["status"], asked.json()["completedAt"]) == (202, "RUNNING", None)
    client.patch(f"/v1/sessions/{asked.json()['sessionId']}", json={"status": "failed"}).raise_for_status()
    path = f"/api/v1/runs/{asked.json()['id']}"
    ended = eventually(lambda: (run := api.get(path).json())["completedAt"] and run)
    assert (ended["status"], ended["error"]) == ("CANCELLED", "the session was failed")


def test_a_run_that_takes_long_is_answered_as_it_is(
    tenant: Tenant, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tenant, "slow", delay_ms=60_000)
    monkeypatch.setattr(runs, "WAIT_SECONDS", 0.0)

    answer = api.post("/api/agents/slow/runs", json={"message": "hi"})

    assert (answer.status_code, answer.json()["completedAt"], answer.json()["content"]) == (202, None, None)
    api.delete(f"/api/sessions/{answer.json()['sessionId']}")


def test_a_run_whose_key_is_revoked_meanwhile_is_answered_as_it_is(tenant: Tenant, client: httpx.Client) -> None:
    register(tenant, "slow", delay_ms=60_000)
    made = client.post("/v1/keys", json={}).json()

    async def ask() -> httpx.Response:
        url, headers = f"{tenant.serving.url}/operativus", {"Authorization": f"Bearer {made['key']}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as asking:
            waiting = asyncio.create_task(asking.post("/api/agents/slow/runs", json={"message": "hi"}))
            await asyncio.to_thread(eventually, lambda: client.get("/v1/sessions").json()["data"])
            await asyncio.to_thread(client.delete, f"/v1/keys/{made['id']}")
            return await waiting

    answer = asyncio.run(ask())

    assert (answer.status_code, answer.json()["completedAt"]) == (202, None)
    client.delete(f"/v1/sessions/{answer.json()['sessionId']}").raise_for_status()


def test_a_run_started_twice_under_one_idempotency_key_is_one_run(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo")
    headers = {"Idempotency-Key": "once"}
    path, body = "/api/agents/echo/runs", {"message": "hello"}

    first, second = (api.post(path, json=body, headers=headers) for _ in range(2))

    assert (first.status_code, first.json()) == (second.status_code, second.json())
    other = api.post(path, json={"message": "else"}, headers=headers)
    assert (other.status_code, other.json()["error"]) == (422, "Unprocessable Entity")
    streamed = follow(api, path, body, **headers, Accept="text/event-stream")
    assert streamed[-1]["run"]["id"] == first.json()["id"]
    assert text_of(streamed) == "hello"
    assert len(runs_of(api, first.json()["sessionId"])) == 1


def test_a_stream_begins_and_ends_with_the_run_and_tells_its_text(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo", delay_ms=1)
    said = " ".join(f"word{number}" for number in range(50))

    told = follow(api, "/api/agents/echo/runs/stream", {"message": said, "sessionId": "s"})

    assert [event["event"] for event in told if event["event"] != "CONTENT_DELTA"] == ["START", "CONTENT_DONE", "STOP"]
    assert text_of(told) == said
    assert (told[0]["run"]["status"], told[0]["run"]["sessionId"]) == ("QUEUED", "s")
    assert [told[-1]["run"]] == runs_of(api, "s")
    assert told[-1]["run"]["output"] == said
    assert all(set(event) - {"run"} == {"event", "data", "timestamp"} for event in told)
    assert [event["timestamp"] for event in told[:2]] == sorted(event["timestamp"] for event in told[:2])


@pytest.mark.parametrize(
    ("body", "accept", "streams"),
    [
        ({"stream": True}, "*/*", True),
        ({}, "text/event-stream", True),
        ({"stream": None}, "text/event-stream", True),
        ({"stream": False}, "text/event-stream", False),
        ({}, "application/json, text/event-stream", False),
    ],
)
def test_a_run_is_streamed_where_the_body_or_accept_asks_for_it(
    tenant: Tenant, api: httpx.Client, body: dict[str, Any], accept: str, streams: bool
) -> None:
    register(tenant, "echo")

    answer = api.post("/api/agents/echo/runs", json={"message": "hi"} | body, headers={"Accept": accept})

    assert answer.headers["content-type"].startswith("text/event-stream" if streams else "application/json")


def test_a_stream_tells_of_thoughts_and_tools(tenant: Tenant, api: httpx.Client) -> None:
    register_script(tenant, "worker", WORKER)

    told = follow(api, "/api/agents/worker/runs/stream", {"message": "buy"})

    assert [(event["event"], event["data"]) for event in told if event["event"] not in ("START", "CONTENT_DELTA")] == [
        ("REASONING_DELTA", "hm"),
        ("TOOL_START", '{"id":"1","name":"price","input":{"of":"NVDA"}}'),
        ("TOOL_END", '{"id":"1","name":"price","output":875.4}'),
        ("TOOL_START", '{"id":"2","name":"buy","input":null}'),
        ("TOOL_ERROR", '{"id":"2","name":"buy","output":"no money"}'),
        ("CONTENT_DONE", ""),
        ("STOP", ""),
    ]
    assert text_of(told) == "it is 875.40"


def test_a_stream_tells_why_a_run_failed(tenant: Tenant, api: httpx.Client) -> None:
    register_script(tenant, "failing", FAILING)

    told = follow(api, "/api/agents/failing/runs/stream", {"message": "print it"})

    assert [(event["event"], event["data"]) for event in told] == [
        ("START", ""),
        ("ERROR", "out of paper"),
        ("STOP", ""),
    ]
    assert (told[-1]["run"]["status"], told[-1]["run"]["error"]) == ("FAILED", "out of paper")


def test_a_stream_starts_again_when_the_agent_does(tenant: Tenant, api: httpx.Client) -> None:
    register_script(tenant, "unsteady", UNSTEADY, backoff_seconds=0)

    told = follow(api, "/api/agents/unsteady/runs/stream", {"message": "go"})

    starts = [index for index, event in enumerate(told) if event["event"] == "START"]
    assert len(starts) == 2
    assert text_of(told[: starts[1]]) in ("", "attempt 1")
    assert text_of(told[starts[1] :]) == "attempt 2"
    assert told[-1]["run"]["output"] == "attempt 2"


def test_a_stream_tells_of_a_question_and_of_the_cancelled_end(tenant: Tenant, client: httpx.Client) -> None:
    register_script(tenant, "asking", ASKING)

    with (
        tenant.client("/operativus") as api,
        api.stream("POST", "/api/agents/asking/runs/stream", json={"message": "do it", "sessionId": "s"}) as answer,
    ):
        told = []
        for line in answer.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
                if told[-1]["event"] == "PAUSED":
                    client.post("/v1/sessions/s/complete").raise_for_status()

    assert [event["event"] for event in told] == ["START", "PAUSED", "CANCELLED", "STOP"]
    assert json.loads(told[1]["data"]) == {
        "title": "May I?",
        "options": [{"id": "yes", "name": "Yes"}],
        "detail": None,
    }
    assert told[2]["data"] == "the session was completed"


def test_a_stream_whose_session_is_deleted_ends_with_the_cancelled_run(tenant: Tenant, client: httpx.Client) -> None:
    register(tenant, "slow", delay_ms=60_000)

    with (
        tenant.client("/operativus") as api,
        api.stream("POST", "/api/agents/slow/runs/stream", json={"message": "hi", "sessionId": "s"}) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        client.delete("/v1/sessions/s").raise_for_status()
        told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    assert [event["event"] for event in told] == ["CANCELLED", "STOP"]
    assert (told[-1]["run"]["status"], told[-1]["run"]["sessionId"]) == ("CANCELLED", None)


def test_a_stream_that_is_cut_short_says_so_and_the_run_goes_on(tenant: Tenant, client: httpx.Client) -> None:
    register(tenant, "slow", delay_ms=60_000)
    made = client.post("/v1/keys", json={}).json()

    with (
        httpx.Client(base_url=tenant.serving.url, headers={"Authorization": f"Bearer {made['key']}"}) as api,
        api.stream("POST", "/api/agents/slow/runs", json={"message": "hi", "stream": True}) as answer,
    ):
        lines = answer.iter_lines()
        begun = json.loads(next(lines).removeprefix("data: "))
        client.delete(f"/v1/keys/{made['id']}").raise_for_status()
        told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    assert [event["event"] for event in told] == ["ERROR"]
    assert client.get(f"/operativus/api/v1/runs/{begun['run']['id']}").json()["completedAt"] is None
    client.delete(f"/v1/sessions/{begun['run']['sessionId']}").raise_for_status()


def test_a_client_that_hangs_up_does_not_cancel_the_run(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "slow", delay_ms=200)
    with api.stream("POST", "/api/agents/slow/runs/stream", json={"message": "a b c", "sessionId": "s"}) as answer:
        next(answer.iter_lines())

    [done] = eventually(lambda: [one for one in runs_of(api, "s") if one["completedAt"]])

    assert (done["status"], done["output"]) == ("COMPLETED", "a b c")


def test_a_silent_stream_is_kept_alive(database: str) -> None:
    asyncio.run(migrate(database))
    with open_serving(database, keep_alive_seconds=0.05) as serving:
        tenant = serving.make_tenant()
        register(tenant, "slow", delay_ms=500)

        with tenant.client("/operativus") as api:
            answer = api.post("/api/agents/slow/runs/stream", json={"message": "hi"})

    assert ": keep-alive\n\n" in answer.text
    assert answer.text.rindex("STOP") > answer.text.rindex(": keep-alive")


def test_where_too_many_streams_are_open_no_run_is_started(database: str) -> None:
    asyncio.run(migrate(database))
    with open_serving(database, streams_max=0) as serving:
        tenant = serving.make_tenant()
        register(tenant, "echo")

        with tenant.client("/operativus") as api:
            refused = api.post("/api/agents/echo/runs/stream", json={"message": "hi"})

            assert (refused.status_code, refused.json()["error"]) == (503, "Service Unavailable")
            assert api.get("/api/sessions").json()["totalElements"] == 0


@pytest.mark.parametrize("scopes", [{Scope.SESSIONS_READ}, {Scope.SESSIONS_WRITE}])
def test_running_an_agent_needs_both_scopes(tenant: Tenant, client: httpx.Client, scopes: set[Scope]) -> None:
    register(tenant, "echo")

    with tenant.make_key(scopes=frozenset(scopes)).client("/operativus") as api:
        for path in ("/api/agents/echo/runs", "/api/agents/echo/runs/stream"):
            refused = api.post(path, json={"message": "hi"})

            assert (refused.status_code, refused.json()["error"]) == (403, "Forbidden")
    assert client.get("/v1/sessions").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "message"),
        ({"message": ""}, "message"),
        ({"message": 1}, "message"),
        ({"message": None}, "message"),
        ({"message": ["hi"]}, "message"),
        ({"message": "hi", "sessionId": "a/b"}, "sessionId"),
        ({"message": "hi", "sessionId": 7}, "sessionId"),
        ({"message": "hi", "userId": " x"}, "userId"),
        ({"message": "hi", "stream": "yes"}, "stream"),
        ([], "body"),
    ],
)
def test_a_wrong_body_is_refused_by_name(tenant: Tenant, api: httpx.Client, body: Any, named: str) -> None:
    register(tenant, "echo")

    for path in ("/api/agents/echo/runs", "/api/agents/echo/runs/stream"):
        refused = api.post(path, json=body)

        assert (refused.status_code, refused.json()["error"]) == (400, "Bad Request")
        assert named in refused.json()["message"]
    assert api.get("/api/sessions").json()["totalElements"] == 0


def test_every_status_has_a_word_on_this_wire() -> None:
    assert set(shapes.RUN_STATUSES) == set(RunStatus)


def test_runs_are_steps_of_the_replay(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register_script(tenant, "worker", WORKER)
    session_id = run(api, "worker", "buy")["sessionId"]

    steps = client.post(f"/v1/sessions/{session_id}/replay").json()["steps"]

    assert [step["action"] for step in steps][-3:] == [CALL_TOOL, CALL_TOOL, RUN_AGENT]
