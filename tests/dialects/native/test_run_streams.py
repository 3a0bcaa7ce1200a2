"""A run as it is followed: from its beginning to its end, each event once, whoever comes back and when."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.dialects.native.working import (
    Told,
    ended,
    follow,
    make_session,
    read_log,
    register,
    register_program,
    register_slow,
    start,
    wait_for,
)
from tests.serving import Tenant

TALKING = r"""
echo '{"type":"thought","text":"hm"}'
echo '{"type":"tool_call","id":"1","name":"search","arguments":{"q":1}}'
echo '{"type":"tool_result","id":"1","output":[2]}'
echo '{"type":"text","text":"found"}'
"""
WHOLE = [
    "run.queued",
    "run.started",
    "run.thought",
    "run.tool_call",
    "run.tool_result",
    "run.text",
    "message.assistant",
    "run.completed",
]


def test_a_run_is_told_from_its_beginning_to_its_end(client: httpx.Client) -> None:
    register_program(client, TALKING)
    make_session(client)
    run = start(client, wait=20)["id"]

    told = follow(client, f"/v1/runs/{run}/stream")

    assert [one.type for one in told] == WHOLE
    log = {event["seq"]: event for event in read_log(client)}
    assert [one.event for one in told] == [log[one.seq] for one in told]
    assert {one.event["run_id"] for one in told} == {run}


@pytest.mark.parametrize("come_back", [True, False], ids=["Last-Event-ID", "after"])
def test_who_comes_back_gets_the_rest_once_and_nothing_behind_the_end(client: httpx.Client, come_back: bool) -> None:
    register_program(client, TALKING)
    make_session(client)
    run = start(client, wait=20)["id"]
    path = f"/v1/runs/{run}/stream"
    told = follow(client, path)

    for index, one in enumerate(told[:-1]):
        assert follow(client, path, after=one.seq, come_back=come_back) == told[index + 1 :]
    assert follow(client, path, after=0, come_back=come_back) == told
    for beyond in (told[-1].seq, told[-1].seq + 1, 2**62):
        headers, params = ({"Last-Event-ID": str(beyond)}, {}) if come_back else ({}, {"after": beyond})
        answer = client.get(path, headers=headers, params=params)
        assert (answer.status_code, answer.content) == (204, b"")


def test_a_run_is_followed_while_it_goes_on(client: httpx.Client) -> None:
    register(client, options={"delay_ms": 80})
    make_session(client)
    client.patch("/v1/sessions/s", json={"agent_id": "a"}).raise_for_status()
    first, second = start(client, "one two three")["id"], start(client, "four five")["id"]

    with ThreadPoolExecutor() as pool:
        streams = list(pool.map(lambda run: follow(client, f"/v1/runs/{run}/stream"), [first, first, second]))

    assert streams[0] == streams[1]
    for told, said in ((streams[0], "one two three"), (streams[2], "four five")):
        assert (told[0].type, told[-1].type) == ("run.queued", "run.completed")
        texts = [one.event["data"] for one in told if one.type == "run.text"]
        assert "".join(text["text"] for text in texts) == said
        assert [text["offset"] for text in texts] == [
            sum(len(before["text"]) for before in texts[:index]) for index in range(len(texts))
        ]
    assert not {one.seq for one in streams[0]} & {one.seq for one in streams[2]}


def test_a_session_is_followed_through_its_runs_and_each_event_comes_once(client: httpx.Client) -> None:
    register(client, options={"delay_ms": 10})
    make_session(client)
    path = "/v1/sessions/s/stream"
    runs = [start(client, f"{number} a b")["id"] for number in range(2)]

    def is_last(one: Told) -> bool:
        return one.type == "run.completed" and one.event["run_id"] == runs[1]

    told = list[Told]()
    while not told or not is_last(told[-1]):
        # Cut off every few events, and back with the place of the last.
        position = told[-1].seq if told else 0
        told += follow(client, path, after=position, until=lambda one: one.seq % 3 == 0 or is_last(one))

    seen = [one.seq for one in told]
    assert seen == [event["seq"] for event in read_log(client)] == list(range(1, len(seen) + 1))


def test_the_stream_of_a_run_that_was_cancelled_ends(client: httpx.Client) -> None:
    register_slow(client)
    make_session(client)
    running, queued = start(client)["id"], start(client)["id"]
    wait_for(client, running, "run.started")

    for run in (queued, running):
        client.post(f"/v1/runs/{run}/cancel").raise_for_status()

    assert [one.type for one in follow(client, f"/v1/runs/{queued}/stream")] == ["run.queued", "run.cancelled"]
    told = [one.type for one in follow(client, f"/v1/runs/{running}/stream")]
    assert told == ["run.queued", "run.started", "run.cancel_requested", "run.cancelled"]


def test_the_stream_of_a_run_ends_with_its_session(client: httpx.Client) -> None:
    register_slow(client)
    make_session(client)
    run = start(client)["id"]

    def delete(one: Told) -> bool:
        if one.type == "run.started":
            client.delete("/v1/sessions/s").raise_for_status()
        return False

    assert [one.type for one in follow(client, f"/v1/runs/{run}/stream", until=delete)] == ["run.queued", "run.started"]
    gone = client.get(f"/v1/runs/{run}/stream", headers={"Last-Event-ID": "1000"})
    assert (gone.status_code, gone.json()["detail"]) == (
        404,
        "the run's session was deleted, and its events with it",
    )


def test_each_attempt_is_told(client: httpx.Client) -> None:
    register_program(client, '[ "$SESSIOND_ATTEMPT" -gt 1 ] || exit 1; ' + TALKING, retries=1, backoff_seconds=0.05)
    make_session(client)
    run = start(client)["id"]

    told = follow(client, f"/v1/runs/{run}/stream")

    assert [one.type for one in told] == ["run.queued", "run.started", "run.retrying", *WHOLE[1:]]
    retrying = told[2].event["data"]
    assert (retrying["attempt"], retrying["error"]["code"]) == (1, "agent_failed")
    assert (ended(client, run)["attempts"], ended(client, run)["error"]) == (2, None)


def test_a_place_that_is_no_number_is_refused(tenant: Tenant, client: httpx.Client) -> None:
    register(client)
    make_session(client)
    run = start(client, wait=20)["id"]

    for place in ("x", "-1", "1.5", "9" * 30):
        refused = client.get(f"/v1/runs/{run}/stream", headers={"Last-Event-ID": place})
        assert (refused.status_code, refused.json()["field"]) == (400, "Last-Event-ID")
