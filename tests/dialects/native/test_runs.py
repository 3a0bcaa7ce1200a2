"""Runs over real HTTP, done by the server's own worker, on both engines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx
import pytest

from sessiond.core.caller import Scope
from sessiond.storage.runs import OPEN_PAGE
from tests.dialects.native.working import (
    ASKING,
    ended,
    follow,
    get,
    make_session,
    read_log,
    register,
    register_program,
    register_slow,
    say,
    start,
    wait_for,
)
from tests.serving import Tenant


def test_a_run_is_started_waited_for_and_shown(client: httpx.Client) -> None:
    register(client)
    make_session(client, user_id="ada")

    answer = client.post("/v1/sessions/s/runs?wait=20", json={"input": [{"type": "text", "text": "hello"}]})

    run = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/runs/{run['id']}")
    assert client.get(answer.headers["location"]).json() == run
    assert {name: run[name] for name in run if not name.endswith("_at") and name not in ("id", "worker")} == {
        "session_id": "s",
        "agent_id": "a",
        "user_id": "ada",
        "status": "completed",
        "input": [{"type": "text", "text": "hello"}],
        "output": "hello",
        "error": None,
        "ask": None,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "attempts": 1,
        "retry_of": None,
    }
    assert run["started_at"] <= run["completed_at"]
    assert (run["cancel_requested_at"], bool(run["worker"])) == (None, True)
    said = client.get("/v1/sessions/s/messages").json()["data"]
    assert [(each["role"], each["run_id"]) for each in said] == [("user", run["id"]), ("assistant", run["id"])]
    assert said[1]["content"] == "hello"


def test_a_run_without_an_input_answers_what_was_said_before(client: httpx.Client) -> None:
    register(client)
    make_session(client)
    assert say(client, "before", start_run=False)["run_id"] is None

    run = client.post("/v1/sessions/s/runs?wait=20").json()

    assert (run["input"], run["output"]) == (None, "before")
    assert len(client.get("/v1/sessions/s/messages").json()["data"]) == 2


def test_without_a_wait_the_answer_does_not_wait(client: httpx.Client) -> None:
    register_slow(client)
    make_session(client)

    assert start(client)["status"] == "queued"
    assert start(client, wait=0.1, multitask_strategy="enqueue")["status"] == "queued"


def test_a_request_that_comes_twice_waits_for_the_one_run_that_it_started(client: httpx.Client) -> None:
    register(client, options={"delay_ms": 100})
    make_session(client)

    def ask() -> httpx.Response:
        return client.post("/v1/sessions/s/runs?wait=20", json={"input": "x"}, headers={"Idempotency-Key": "k"})

    first, again = ask(), ask()

    assert first.json()["status"] == "completed"
    assert (again.status_code, again.headers["location"], again.json()) == (
        201,
        first.headers["location"],
        first.json(),
    )
    assert client.get("/v1/runs?include=total").json()["total"] == 1


def test_a_key_that_may_not_read_does_not_wait(tenant: Tenant, client: httpx.Client) -> None:
    register_slow(client)
    make_session(client)
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_WRITE})).client() as writer:
        run = start(writer, wait=20)
        refused = writer.get(f"/v1/runs/{run['id']}")

        cancelled = writer.post(f"/v1/runs/{run['id']}/cancel").json()

    assert (run["status"], refused.status_code) == ("queued", 403)
    assert [cancelled[name] for name in ("id", "input", "output", "error")] == [run["id"], None, None, None]


def test_who_loses_its_key_while_it_waits_is_told_what_it_started(tenant: Tenant, client: httpx.Client) -> None:
    register_slow(client)
    make_session(client)
    made = client.post("/v1/keys", json={}).json()

    headers = {"Authorization": f"Bearer {made['key']}"}
    with tenant.client(headers=headers) as other, ThreadPoolExecutor() as pool:
        waiting = pool.submit(start, other, wait=60)
        follow(client, "/v1/sessions/s/stream", after=0, until=lambda one: one.type == "run.started")
        client.delete(f"/v1/keys/{made['id']}").raise_for_status()
        run = waiting.result(20)

    assert (run["status"], get(client, run["id"])["status"]) == ("queued", "running")


def test_who_may_not_see_the_session_any_more_is_told_what_it_started(tenant: Tenant, client: httpx.Client) -> None:
    register_slow(client)
    make_session(client, user_id="ada")

    with tenant.make_key(user_id="ada").client() as ada, ThreadPoolExecutor() as pool:
        waiting = pool.submit(start, ada, wait=60)
        follow(client, "/v1/sessions/s/stream", after=0, until=lambda one: one.type == "run.started")
        client.patch("/v1/sessions/s", json={"user_id": "bob"}).raise_for_status()
        run = waiting.result(20)

    assert run["status"] == "queued"


def test_tokens_are_counted_on_the_run_and_its_session(client: httpx.Client) -> None:
    usage = '{"type":"usage","prompt_tokens":7,"completion_tokens":3}'
    register_program(client, f'echo \'{usage}\'; echo \'{{"type":"text","text":"x"}}\'')
    make_session(client)

    for _ in range(2):
        run = start(client, wait=20)
        assert (run["prompt_tokens"], run["completion_tokens"]) == (7, 3)

    session = client.get("/v1/sessions/s").json()
    assert (session["prompt_tokens"], session["completion_tokens"]) == (14, 6)


def test_messages_are_answered_one_by_one_in_their_order(client: httpx.Client) -> None:
    register(client, options={"delay_ms": 20})
    make_session(client)

    runs = [say(client, str(number))["run_id"] for number in range(5)]

    done = [ended(client, run) for run in runs]
    assert [run["output"] for run in done] == list("01234")
    assert all(before["completed_at"] <= after["started_at"] for before, after in pairwise(done))
    said = client.get("/v1/sessions/s/messages").json()["data"]
    assert [each["content"] for each in said if each["role"] == "assistant"] == list("01234")
    listed = client.get("/v1/sessions/s/runs?order=asc").json()["data"]
    assert [run["id"] for run in listed] == runs


def test_a_message_that_is_not_the_users_last_word_starts_nothing(client: httpx.Client) -> None:
    register(client)
    make_session(client)

    def runs_of(*messages: dict[str, str], **more: Any) -> list[str | None]:
        answer = client.post("/v1/sessions/s/messages", json={"messages": messages, **more}).raise_for_status()
        return [message["run_id"] for message in answer.json()["data"]]

    user, assistant = {"content": "u"}, {"content": "a", "role": "assistant"}
    assert runs_of(user, assistant) == [None, None]
    assert runs_of(user, user, start_run=False) == [None, None]
    (first, second) = runs_of(assistant, user)
    assert first == second is not None


def test_an_agent_that_is_not_registered_is_said_to_be_and_starts_nothing(client: httpx.Client) -> None:
    make_session(client, messages=[{"content": "first"}])
    assert client.get("/v1/sessions/s").json()["agent_registered"] is False

    refused = client.post("/v1/sessions/s/runs", json={"input": "x"})

    assert refused.status_code == 409
    assert "the agent 'a' is not registered" in refused.json()["detail"]
    assert say(client, "kept")["run_id"] is None
    assert client.get("/v1/runs").json()["data"] == []
    assert [each["content"] for each in client.get("/v1/sessions/s/messages").json()["data"]] == ["first", "kept"]

    register(client)
    assert client.get("/v1/sessions/s").json()["agent_registered"] is True
    assert start(client, wait=20)["status"] == "completed"
    client.delete("/v1/agents/a").raise_for_status()
    assert [each["agent_registered"] for each in client.get("/v1/sessions").json()["data"]] == [False]


def test_a_session_without_an_agent_starts_nothing(client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"id": "s"}).raise_for_status()

    refused = client.post("/v1/sessions/s/runs", json={"input": "x"})

    assert (refused.status_code, refused.json()["detail"]) == (409, "the session names no agent")
    assert client.get("/v1/sessions/s").json()["agent_registered"] is None


def test_the_run_of_an_agent_that_was_removed_fails(client: httpx.Client) -> None:
    register(client)
    make_session(client)
    say(client, "first", start_run=False)
    client.patch("/v1/sessions/s", json={"status": "paused"}).raise_for_status()
    run = start(client)["id"]
    client.delete("/v1/agents/a").raise_for_status()

    client.patch("/v1/sessions/s", json={"status": "active"}).raise_for_status()

    failed = ended(client, run)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "not_configured")


STRATEGIES = [
    (None, None, "enqueue"),
    ("enqueue", None, "enqueue"),
    ("reject", None, "reject"),
    ("interrupt", None, "interrupt"),
    ("reject", "enqueue", "enqueue"),
    ("interrupt", "reject", "reject"),
    (None, "interrupt", "interrupt"),
]


@pytest.mark.parametrize("by_message", [True, False], ids=["message", "run"])
@pytest.mark.parametrize(("of_session", "of_message", "meant"), STRATEGIES)
def test_what_comes_during_a_run_waits_is_refused_or_takes_its_place(
    client: httpx.Client, of_session: str | None, of_message: str | None, meant: str, by_message: bool
) -> None:
    register_slow(client)
    make_session(client, multitask_strategy=of_session)
    first = say(client, "one")["run_id"]
    wait_for(client, first, "run.started")
    log = read_log(client)

    path, said = ("messages", "content") if by_message else ("runs", "input")
    answer = client.post(f"/v1/sessions/s/{path}", json={said: "two", "multitask_strategy": of_message})

    if meant == "reject":
        assert (answer.status_code, answer.json()["detail"]) == (409, "the session has a run that has not ended")
        assert read_log(client) == log
        return
    second = answer.json()["run_id" if by_message else "id"]
    if meant == "enqueue":
        assert (get(client, first)["status"], get(client, second)["status"]) == ("running", "queued")
        return
    interrupted = ended(client, first)
    assert (interrupted["status"], interrupted["error"]["message"]) == ("cancelled", "interrupted by a message")
    wait_for(client, second, "run.started")


def test_a_paused_session_holds_its_queue_and_goes_on(client: httpx.Client) -> None:
    register(client)
    make_session(client, messages=[{"content": "first"}])
    client.patch("/v1/sessions/s", json={"status": "paused"}).raise_for_status()
    runs = [start(client, str(number))["id"] for number in range(2)]

    # Another session's run, queued later, is done: there was time for these.
    make_session(client, "other")
    assert start(client, session="other", wait=20)["status"] == "completed"
    assert [get(client, run)["status"] for run in runs] == ["queued", "queued"]

    client.patch("/v1/sessions/s", json={"status": "active"}).raise_for_status()
    assert [ended(client, run)["output"] for run in runs] == ["0", "1"]


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_ending_a_session_cancels_its_runs(client: httpx.Client, end: str) -> None:
    register_slow(client)
    make_session(client)
    running, queued = start(client)["id"], start(client)["id"]
    wait_for(client, running, "run.started")

    client.post(f"/v1/sessions/s/{end}").raise_for_status()

    assert [ended(client, run)["status"] for run in (running, queued)] == ["cancelled", "cancelled"]
    assert client.post("/v1/sessions/s/runs", json={"input": "x"}).status_code == 409


def test_a_long_queue_is_cancelled_whole_and_does_not_repeat_what_it_was_told(client: httpx.Client) -> None:
    register(client)
    make_session(client, messages=[{"content": "first"}])
    client.patch("/v1/sessions/s", json={"status": "paused"}).raise_for_status()
    long = "x" * 100_000
    queued = [start(client, long if number == 0 else str(number))["id"] for number in range(OPEN_PAGE + 1)]

    client.post("/v1/sessions/s/complete").raise_for_status()

    assert [get(client, run)["status"] for run in queued] == ["cancelled"] * len(queued)
    assert get(client, queued[0])["input"] == long
    ends = {event["run_id"]: event["data"] for event in read_log(client) if event["type"] == "run.cancelled"}
    assert ends[queued[0]]["input"]["bytes"] == len(long) + 2
    assert ends[queued[1]]["input"] == "1"


def test_runs_outlive_their_session(client: httpx.Client) -> None:
    register(client)
    register_slow(client, "slow")
    make_session(client)
    done = start(client, wait=20)
    client.patch("/v1/sessions/s", json={"agent_id": "slow"}).raise_for_status()
    running = start(client)["id"]
    wait_for(client, running, "run.started")

    client.delete("/v1/sessions/s").raise_for_status()

    assert get(client, done["id"]) == done | {"session_id": None}
    assert [get(client, running)[name] for name in ("session_id", "status")] == [None, "cancelled"]
    for run in (done["id"], running):
        assert client.get(f"/v1/runs/{run}/stream").status_code == 404
        assert client.post(f"/v1/runs/{run}/retry").status_code in (404, 409)
    assert client.get("/v1/sessions/s/runs").status_code == 404
    make_session(client)
    assert client.get("/v1/sessions/s/runs").json()["data"] == []


def test_a_run_is_cancelled_while_it_waits_for_its_turn_and_while_it_goes_on(client: httpx.Client) -> None:
    register_slow(client)
    make_session(client)
    running, queued = start(client)["id"], start(client)["id"]
    wait_for(client, running, "run.started")

    for run, body in ((queued, None), (running, {"reason": "enough"})):
        answer = client.post(f"/v1/runs/{run}/cancel", json=body)
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert answer.json()["cancel_requested_at"] is not None
        # Once more is fine.
        assert client.post(f"/v1/runs/{run}/cancel").json() == get(client, run) == answer.json()
    assert get(client, running)["error"] == {"code": "cancelled", "message": "enough"}


def test_a_cancellation_need_not_be_waited_for(client: httpx.Client) -> None:
    # It does not listen, and is gone after the worker's patience.
    register_program(client, 'trap \'\' TERM; echo \'{"type":"text","text":"x"}\'; while :; do sleep 1; done')
    make_session(client)
    run = start(client)["id"]
    wait_for(client, run, "run.text")

    asked = client.post(f"/v1/runs/{run}/cancel?wait=0").json()

    assert (asked["status"], bool(asked["cancel_requested_at"])) == ("running", True)
    assert ended(client, run)["status"] == "cancelled"


def test_what_has_ended_is_not_cancelled_any_more(client: httpx.Client) -> None:
    register(client)
    make_session(client)
    run = start(client, wait=20)["id"]

    refused = client.post(f"/v1/runs/{run}/cancel")

    assert (refused.status_code, refused.json()["detail"]) == (409, "the run has completed")


def test_a_failed_run_says_why_and_is_tried_again_without_saying_it_twice(client: httpx.Client) -> None:
    register_program(client, "echo broken >&2; exit 3")
    make_session(client)
    failed = start(client, wait=20)
    assert (failed["status"], failed["error"]["code"], failed["attempts"]) == ("failed", "agent_failed", 1)
    assert "exit code 3: broken" in failed["error"]["message"]
    register(client)

    answer = client.post(f"/v1/runs/{failed['id']}/retry")

    run = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/runs/{run['id']}")
    assert (run["retry_of"], run["input"]) == (failed["id"], "hello")
    assert ended(client, run["id"])["output"] == "hello"
    said = client.get("/v1/sessions/s/messages").json()["data"]
    assert [(each["role"], each["run_id"]) for each in said] == [("user", failed["id"]), ("assistant", run["id"])]


def test_an_agent_fails_its_session_if_it_is_set_so(client: httpx.Client) -> None:
    register_program(client, "exit 1", fails_session=True)
    make_session(client)

    run = start(client, wait=20)

    assert run["status"] == "failed"
    assert client.get("/v1/sessions/s").json()["status"] == "failed"
    assert read_log(client)[-1]["data"]["run_id"] == run["id"]


def test_a_cancelled_run_is_tried_again_and_no_other(client: httpx.Client) -> None:
    register_slow(client)
    make_session(client)
    run = start(client)["id"]
    wait_for(client, run, "run.started")
    assert client.post(f"/v1/runs/{run}/retry").json()["detail"] == "a run that is running cannot be tried again"
    client.post(f"/v1/runs/{run}/cancel").raise_for_status()
    register(client)

    again = client.post(f"/v1/runs/{run}/retry").json()["id"]

    assert ended(client, again)["status"] == "completed"
    refused = client.post(f"/v1/runs/{again}/retry")
    assert (refused.status_code, refused.json()["detail"]) == (409, "a run that is completed cannot be tried again")


def test_a_run_that_asks_goes_on_with_its_answer(client: httpx.Client) -> None:
    register_program(client, ASKING)
    make_session(client)
    waiting = start(client, wait=20)
    assert (waiting["status"], waiting["completed_at"]) == ("waiting", None)
    assert waiting["ask"]["title"] == "Go on?"
    assert waiting["ask"]["options"] == [{"id": "yes", "name": "Yes"}, {"id": "no", "name": "No"}]

    for wrong in ({"option_id": "maybe"}, {"content": "yes"}, {}):
        refused = client.post(f"/v1/runs/{waiting['id']}/respond", json=wrong)
        assert (refused.status_code, refused.json()["field"]) == (409, "option_id")
    said_twice = [
        client.post(
            f"/v1/runs/{waiting['id']}/respond",
            json={"option_id": "yes", "content": {"why": [1]}},
            headers={"Idempotency-Key": "k"},
        )
        for _ in range(2)
    ]

    answered = said_twice[0]
    assert said_twice[1].content == answered.content
    assert (answered.status_code, answered.json()["status"], answered.json()["ask"]) == (200, "running", None)
    assert ended(client, waiting["id"])["output"] == "yes"
    (said,) = [event for event in read_log(client) if event["type"] == "run.answered"]
    assert said["data"] == {"option_id": "yes", "content": {"why": [1]}}
    refused = client.post(f"/v1/runs/{waiting['id']}/respond", json={"option_id": "yes"})
    assert (refused.status_code, refused.json()["detail"]) == (409, "the run is completed, and waits for no answer")


def test_a_run_that_waits_is_cancelled_within_the_wait(client: httpx.Client) -> None:
    register_program(client, ASKING)
    make_session(client)
    run = start(client, wait=20)["id"]

    assert client.post(f"/v1/runs/{run}/cancel?wait=20").json()["status"] == "cancelled"


ON_A_RUN = [("GET", ""), ("GET", "/stream"), ("POST", "/cancel"), ("POST", "/retry"), ("POST", "/respond")]


def test_to_a_stranger_a_run_is_not_there(tenant: Tenant, client: httpx.Client) -> None:
    register_program(client, ASKING)
    make_session(client, user_id="ada")
    run = start(client, wait=20)
    strangers = [tenant.serving.make_tenant(), tenant.make_key(user_id="bob"), tenant.make_key(user_id="")]

    for stranger in strangers:
        with stranger.client() as other:
            for method, below in ON_A_RUN:
                body = dict[str, Any]() if method == "POST" else None
                refused = other.request(method, f"/v1/runs/{run['id']}{below}", json=body)
                never = other.request(method, f"/v1/runs/run_never{below}", json=body)
                assert (refused.status_code, refused.json()["detail"]) == (404, "no such run")
                assert never.json()["detail"] == "no such run"
            assert other.get("/v1/runs?session_id=s&include=total").json()["total"] == 0
            assert other.get("/v1/runs").json()["data"] == []
            assert other.get("/v1/sessions/s/runs").status_code == 404
            assert other.post("/v1/sessions/s/runs", json={"input": "x"}).status_code == 404
    assert get(client, run["id"]) == run
    client.post(f"/v1/runs/{run['id']}/cancel").raise_for_status()


def test_runs_are_seen_by_whoever_may_see_their_session(tenant: Tenant, client: httpx.Client) -> None:
    register(client)
    make_session(client, user_id="ada")
    run = start(client, wait=20)["id"]
    with tenant.make_key(user_id="ada").client() as ada, tenant.make_key(user_id="bob").client() as bob:
        assert [each["id"] for each in ada.get("/v1/runs").json()["data"]] == [run]

        client.patch("/v1/sessions/s", json={"user_id": "bob"}).raise_for_status()

        assert ada.get(f"/v1/runs/{run}").status_code == 404
        assert get(bob, run)["user_id"] == "bob"


def test_a_key_does_what_its_scopes_say(tenant: Tenant, client: httpx.Client) -> None:
    register_slow(client)
    make_session(client)
    run = start(client)["id"]

    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ})).client() as reader:
        for path in (
            "/v1/sessions/s/runs",
            *(f"/v1/runs/{run}{below}" for method, below in ON_A_RUN if method != "GET"),
        ):
            refused = reader.post(path, json={})
            assert (refused.status_code, "sessions:write" in refused.json()["detail"]) == (403, True)
        assert get(reader, run)["id"] == run
    with tenant.make_key(scopes=frozenset({Scope.ADMIN})).client() as admin:
        assert [admin.get(path).status_code for path in ("/v1/runs", "/v1/sessions/s/runs")] == [403, 403]


def _start(body: Any) -> tuple[str, str, Any]:
    return "POST", "/v1/sessions/s/runs", body


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        (*_start({"input": 7}), "input"),
        (*_start({"input": None}), "input"),
        (*_start({"input": [7]}), "input"),
        (*_start({"input": "x", "multitask_strategy": "often"}), "multitask_strategy"),
        (*_start([]), "body"),
        ("POST", "/v1/sessions/s/runs?wait=-1", {}, "wait"),
        ("POST", "/v1/sessions/s/runs?wait=300.1", {}, "wait"),
        ("POST", "/v1/sessions/s/runs?wait=nan", {}, "wait"),
        ("POST", "/v1/sessions/s/runs?wait=long", {}, "wait"),
        ("POST", "/v1/sessions/s/messages", {"content": "x", "multitask_strategy": 1}, "multitask_strategy"),
        ("POST", "/v1/sessions/s/messages", {"content": "x", "start_run": "no"}, "start_run"),
        ("POST", "/v1/sessions", {"multitask_strategy": "often"}, "multitask_strategy"),
        ("PATCH", "/v1/sessions/s", {"multitask_strategy": "often"}, "multitask_strategy"),
        ("POST", "/v1/runs/r/cancel", {"reason": 7}, "reason"),
        ("POST", "/v1/runs/r/cancel", {"reason": "a\nb"}, "reason"),
        ("POST", "/v1/runs/r/cancel?wait=x", {}, "wait"),
        ("POST", "/v1/runs/r/respond", {"option_id": 7}, "option_id"),
        ("POST", "/v1/runs/r/respond", {"option_id": "a\nb"}, "option_id"),
        ("GET", "/v1/runs?status=done", None, "status[0]"),
        ("GET", "/v1/runs?session_id=", None, "session_id"),
        ("GET", "/v1/runs?agent_id=", None, "agent_id"),
        ("GET", "/v1/runs?order=up", None, "order"),
        ("GET", "/v1/runs?limit=0", None, "limit"),
        ("GET", "/v1/runs?include=all", None, "include"),
        ("GET", "/v1/runs?cursor=nonsense", None, "cursor"),
        ("GET", "/v1/sessions/s/runs?status=done", None, "status[0]"),
        ("GET", "/v1/runs/r/stream?after=x", None, "after"),
    ],
)
def test_a_field_that_is_wrong_is_named(client: httpx.Client, method: str, path: str, body: Any, field: str) -> None:
    register(client)
    make_session(client)
    before = read_log(client)

    refused = client.request(method, path, json=body)

    assert (refused.status_code, refused.json()["field"]) == (400, field), refused.text
    assert read_log(client) == before


def test_runs_are_listed_by_session_agent_and_status(client: httpx.Client) -> None:
    register(client, "quick")
    register_slow(client, "slow")
    for session, agent in (("s", "quick"), ("t", "quick"), ("u", "slow")):
        make_session(client, session, agent_id=agent)
    of_s, of_t = start(client, session="s", wait=20)["id"], start(client, session="t", wait=20)["id"]
    of_u = start(client, session="u")["id"]
    wait_for(client, of_u, "run.started")

    def listed(query: str) -> list[str]:
        page = client.get(f"/v1/runs?include=total&{query}").json()
        assert page["total"] == len(page["data"])
        return [run["id"] for run in page["data"]]

    assert listed("") == [of_u, of_t, of_s]
    assert listed("order=asc") == [of_s, of_t, of_u]
    assert listed("session_id=s") == [of_s]
    assert listed("session_id=s&session_id=u") == [of_u, of_s]
    assert listed("agent_id=quick&order=asc") == [of_s, of_t]
    assert listed("status=running&status=waiting") == [of_u]
    assert listed("agent_id=quick&status=running") == []
    assert listed("session_id=none") == []


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/sessions/s/runs"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_runs_follow_one_another_without_gaps(client: httpx.Client, path: str, order: str) -> None:
    register_slow(client)
    make_session(client, messages=[{"content": "x"}])
    client.patch("/v1/sessions/s", json={"status": "paused"}).raise_for_status()
    for number in range(4):
        start(client, str(number))
    whole = [run["id"] for run in client.get(f"{path}?order={order}").json()["data"]]

    paged, cursor = list[str](), ""
    while True:
        page = client.get(f"{path}?order={order}&limit=2&cursor={cursor}").json()
        paged += [run["id"] for run in page["data"]]
        assert page["prev_cursor"] is None
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]

    assert len(whole) == 5
    assert paged == whole
    other = {"asc": "desc", "desc": "asc"}[order]
    elsewhere = {"/v1/runs": "/v1/sessions/s/runs", "/v1/sessions/s/runs": "/v1/runs"}[path]
    for wrong in (f"{path}?order={other}", f"{elsewhere}?order={order}", f"/v1/sessions?order={order}", "/v1/agents?"):
        refused = client.get(f"{wrong}&cursor={cursor}")
        assert (refused.status_code, refused.json()["field"]) == (400, "cursor")
