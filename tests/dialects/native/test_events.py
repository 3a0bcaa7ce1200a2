"""Events of clients over real HTTP, on both engines, in plain text and sealed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sessiond.core.caller import ALL_SCOPES, Scope
from sessiond.core.limits import MESSAGES_PER_APPEND
from tests.serving import Serving, Tenant

PATH = "/v1/sessions/s/events"
STEP = {
    "type": "tool.called",
    "action": "look up",
    "input": {"of": "sky"},
    "output": {"is": "blue"},
    "duration_ms": 1.5,
}


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
def open_session(serving: Serving, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client whose workspace has a session `s`."""
    with serving.make_tenant(sealed=request.param).client() as client:
        client.post("/v1/sessions", json={"id": "s"}).raise_for_status()
        yield client


def test_one_is_answered_as_the_log_shows_it_and_a_batch_as_a_list(open_session: httpx.Client) -> None:
    data = b'{ "n" : 1.50,\n "big": 12345678901234567890123 }'
    one = open_session.post(PATH, content=b'{"type": "note.made_2", "data": %b}' % data)
    batch = open_session.post(PATH, json={"events": [STEP, {"type": "note.made"}]})

    assert (one.status_code, batch.status_code) == (201, 201)
    assert data in one.content
    first, *others = open_session.get(PATH, params={"after": 1}).json()["data"]
    assert first == one.json()
    assert others == batch.json()["data"]
    assert [(event["id"], event["type"]) for event in (first, *others)] == [
        *(("evt_2.s", "note.made_2"), ("evt_3.s", "tool.called"), ("evt_4.s", "note.made")),
    ]
    assert others[0]["data"] == {"input": {"of": "sky"}, "output": {"is": "blue"}}
    assert others[0]["actor"].startswith("key_")
    assert [event["seq"] for event in open_session.get(PATH, params={"type": "note.made_2"}).json()["data"]] == [2]


def test_replay_shows_it_as_a_step_and_null_is_as_good_as_nothing(open_session: httpx.Client) -> None:
    theirs = {"expires_at_us": "x", "sender": 1}  # what we call so is something else
    said: list[dict[str, Any]] = [
        STEP,
        {"type": "a.b", "action": "create_wait", "input": theirs, "output": theirs},
        {"type": "a.b", "action": "x", "data": None, "input": None, "output": None, "duration_ms": None},
        {"type": "a.b", "action": None, "input": None, "output": None, "duration_ms": None},
    ]
    open_session.post(PATH, json={"events": said}).raise_for_status()

    steps = open_session.post("/v1/sessions/s/replay").json()["steps"]

    shown = [(step["action"], step["input"], step["output"], step["duration_ms"]) for step in steps[1:]]
    assert shown == [
        *(("look up", {"of": "sky"}, {"is": "blue"}, 1.5), ("create_wait", theirs, theirs, 0.0), ("x", {}, {}, 0.0)),
    ]
    again = open_session.post("/v1/sessions/s/replay", json={"mode": "rerun"}).json()
    assert (again["summary"]["same"], again["summary"]["failed"]) == (4, 0)
    assert [(step["input"], step["output"]) for step in again["steps"]][1:] == [step[1:3] for step in shown]
    assert [step["duration_ms"] for step in again["steps"]][1:] == [None] * 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "type"),
        ({"type": "session.noted"}, "type"),
        ({"type": "note"}, "type"),
        ({"type": "a.b", "data": []}, "data"),
        ({"type": "a.b", "input": {}}, "input"),
        ({"type": "a.b", "output": {}}, "output"),
        ({"type": "a.b", "duration_ms": 0}, "duration_ms"),
        ({"type": "a.b", "action": "x", "duration_ms": -1}, "duration_ms"),
        ({"type": "a.b", "action": ""}, "action"),
        ({"type": "a.b", "action": "x", "data": {"input": 1}}, "data.input"),
        ({"type": "a.b", "events": [{"type": "a.b"}]}, "events"),
        ({"events": []}, "events"),
        ({"events": [{"type": "a.b"}] * (MESSAGES_PER_APPEND + 1)}, "events"),
        ({"events": [{"type": "a.b"}, {"type": "run.x"}]}, "events[1].type"),
        ({"events": [{"type": "a.b"}, {"data": {}}]}, "events[1].type"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_logged(client: httpx.Client, body: Any, field: str) -> None:
    client.post("/v1/sessions", json={"id": "s"}).raise_for_status()

    refused = client.post(PATH, json=body)

    assert (refused.status_code, refused.json()["field"]) == (400, field)
    assert client.get("/v1/sessions/s").json()["last_seq"] == 1


def test_a_batch_of_as_many_as_may_be_is_all_there(client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"id": "s"}).raise_for_status()

    made = client.post(PATH, json={"events": [{"type": "a.b", "data": {"n": n}} for n in range(MESSAGES_PER_APPEND)]})

    assert [event["data"]["n"] for event in made.json()["data"]] == list(range(MESSAGES_PER_APPEND))
    assert client.get("/v1/sessions/s").json()["last_seq"] == MESSAGES_PER_APPEND + 1


def test_it_needs_the_scope_to_write_an_open_session_and_its_version(tenant: Tenant, client: httpx.Client) -> None:
    etag = client.post("/v1/sessions", json={"id": "s"}).headers["etag"]
    with tenant.make_key(scopes=ALL_SCOPES - {Scope.SESSIONS_WRITE}).client() as reader:
        assert reader.post(PATH, json=STEP).status_code == 403

    statuses = [client.post(PATH, json=STEP, headers={"If-Match": tag}).status_code for tag in (etag, etag, "*")]
    client.post("/v1/sessions/s/complete").raise_for_status()

    assert statuses == [201, 412, 201]
    assert client.post(PATH, json=STEP).status_code == 409
    assert client.post("/v1/sessions/t/events", json=STEP).status_code == 404


def test_it_ends_a_wait_and_is_exported(client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"id": "s"}).raise_for_status()
    wait = client.post("/v1/waits", json={"type": "event", "session_id": "s", "events": ["tool.*", "a.b2"]}).json()

    client.post(PATH, json=STEP).raise_for_status()

    ended = client.get(f"/v1/waits/{wait['id']}?wait=20").json()
    told = {"event_id": "evt_3.s", "seq": 3, "type": "tool.called"}
    assert ended["result"] == told | {"data": {"input": {"of": "sky"}, "output": {"is": "blue"}}}
    assert '"kind":"tool.called"' in client.get("/v1/export?session_id=s").text
