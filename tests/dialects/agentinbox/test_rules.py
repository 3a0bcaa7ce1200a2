"""What the agentinbox wire promises beyond its document's examples."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from sessiond.core.caller import Scope
from sessiond.core.ids import SessionId
from sessiond.core.timeline import Step
from sessiond.dialects.agentinbox import log_shapes
from tests.serving import Tenant


def _create(api: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = api.post("/api/v1/sessions", json={"name": "flow"} | body)
    assert answer.status_code == 201, answer.text
    session: dict[str, Any] = answer.json()
    return session


def _ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [session["id"] for session in answer.json()["data"]]


def test_completing_twice_answers_the_first_time(api: httpx.Client) -> None:
    path = f"/api/v1/sessions/{_create(api)['id']}"
    first = api.post(f"{path}/complete")
    again = api.post(f"{path}/complete")
    in_short = api.post(path)

    assert first.status_code == again.status_code == in_short.status_code == 200
    assert first.json() == again.json() == in_short.json()
    assert api.get(path).json()["completedAt"] == first.json()["completedAt"]


def test_completing_in_short_is_the_same_thing(api: httpx.Client) -> None:
    session_id = _create(api)["id"]

    answer = api.post(f"/api/v1/sessions/{session_id}")

    session = api.get(f"/api/v1/sessions/{session_id}").json()
    assert answer.json() == {"id": session_id, "status": "completed", "completedAt": session["completedAt"]}
    assert session["status"] == "completed"


def test_a_failed_session_cannot_be_completed(api: httpx.Client, client: httpx.Client) -> None:
    session_id = _create(api)["id"]
    client.post(f"/v1/sessions/{session_id}/fail")

    for path in (f"/api/v1/sessions/{session_id}/complete", f"/api/v1/sessions/{session_id}"):
        answer = api.post(path)

        assert answer.status_code == 409
        assert answer.json() == {"error": "Conflict", "message": "a session that is failed cannot become completed"}
    assert api.get(f"/api/v1/sessions/{session_id}").json()["status"] == "failed"


def test_sessions_of_other_wires_show_as_active_until_they_end(api: httpx.Client, client: httpx.Client) -> None:
    for session_id in ("created", "active", "paused", "completed", "failed"):
        client.post("/v1/sessions", json={"id": session_id, "agent_id": "a"})
        if session_id != "created":
            client.post(f"/v1/sessions/{session_id}/messages", json={"content": "go"})
        if session_id in ("paused", "completed", "failed"):
            assert client.patch(f"/v1/sessions/{session_id}", json={"status": session_id}).status_code == 200

    shown = {name: api.get(f"/api/v1/sessions/{name}").json()["status"] for name in ("created", "active", "paused")}
    assert shown == dict.fromkeys(shown, "active")
    assert _ids(api.get("/api/v1/sessions?status=active")) == ["paused", "active", "created"]
    assert _ids(api.get("/api/v1/sessions?status=completed")) == ["completed"]
    assert _ids(api.get("/api/v1/sessions?status=failed")) == ["failed"]
    assert api.get("/api/v1/sessions?status=active").json()["pagination"]["total"] == 3


def test_a_session_of_another_wire_has_an_empty_name(api: httpx.Client, client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"id": "s1"})

    assert api.get("/api/v1/sessions/s1").json()["name"] == ""
    assert api.get("/api/v1/sessions").json()["data"][0]["name"] == ""


def test_the_list_is_paged_by_offset_and_by_cursor(api: httpx.Client) -> None:
    made = [_create(api)["id"] for _ in range(7)][::-1]

    by_offset = [api.get(f"/api/v1/sessions?limit=3&offset={offset}") for offset in (0, 3, 6, 9)]
    assert [_ids(page) for page in by_offset] == [made[:3], made[3:6], made[6:], []]
    assert [page.json()["pagination"]["total"] for page in by_offset] == [7] * 4
    assert [page.json()["hasMore"] for page in by_offset] == [True, True, False, False]

    first = api.get("/api/v1/sessions?limit=3")
    second = api.get("/api/v1/sessions", params={"limit": 3, "cursor": first.json()["nextCursor"]})
    third = api.get("/api/v1/sessions", params={"limit": 3, "cursor": second.json()["nextCursor"]})
    assert [_ids(page) for page in (first, second, third)] == [made[:3], made[3:6], made[6:]]
    assert (third.json()["hasMore"], third.json()["nextCursor"]) == (False, None)


def test_a_list_says_what_the_published_clients_read(api: httpx.Client) -> None:
    made = _create(api, metadata={"a": 1}, ttlSeconds=3600)

    body = api.get("/api/v1/sessions").json()

    assert body["object"] == "list"
    assert body["pagination"] == {"limit": 20, "offset": 0, "total": 1}
    fields = ("id", "name", "status", "createdAt", "updatedAt", "metadata", "expiresAt")
    assert body["data"] == [{"object": "session"} | {name: made[name] for name in fields}]


def test_a_session_expires_when_its_time_to_live_is_over(api: httpx.Client, client: httpx.Client) -> None:
    made = _create(api, ttlSeconds=3600)

    created_at, expires_at = (datetime.fromisoformat(made[name]) for name in ("createdAt", "expiresAt"))
    assert expires_at - created_at == timedelta(hours=1)
    assert client.get(f"/v1/sessions/{made['id']}").json()["expires_at"].startswith(made["expiresAt"][:-1])


def test_what_is_included_comes_beside_the_session(api: httpx.Client, client: httpx.Client) -> None:
    made = _create(api)
    client.post(f"/v1/sessions/{made['id']}/messages", json={"content": "Hello"})
    path = f"/api/v1/sessions/{made['id']}"
    session = {"object": "session", **api.get(path).json(), "expiresAt": None}
    events = api.get(f"{path}/timeline").json()["events"]

    whole = api.get(f"{path}?include=inboxes,waits,messages,extractions,timeline").json()

    nothing: dict[str, Any] = {"inboxes": [], "waits": [], "messages": [], "extractions": []}
    assert whole == {"session": session, **nothing, "timeline": events}
    assert api.get(f"{path}?include=timeline").json() == {"session": session, "timeline": events}
    assert api.get(f"{path}?include=waits&include=inboxes").json() == {"session": session, "inboxes": [], "waits": []}
    assert api.get(f"{path}?include=").json().keys() == made.keys()
    assert api.get(f"{path}?include=,").json().keys() == made.keys()


def test_messages_are_in_the_timeline_with_their_content(api: httpx.Client, client: httpx.Client) -> None:
    session_id = _create(api)["id"]
    parts = [{"type": "text", "text": "Hi"}]
    client.post(f"/v1/sessions/{session_id}/messages", json={"content": "Hello", "metadata": {"a": 1}})
    sent = client.post(f"/v1/sessions/{session_id}/messages", json={"role": "assistant", "content": parts}).json()

    events = api.get(f"/api/v1/sessions/{session_id}/timeline").json()["events"]

    assert [event["type"] for event in events] == ["session.created", "message.user", "message.assistant"]
    assert events[1]["payload"] | {"messageId": ""} == {"messageId": "", "role": "user", "content": "Hello"}
    assert events[2]["payload"] == {"messageId": sent["id"], "role": "assistant", "content": parts}


def test_the_timeline_tells_of_changes_and_ends(api: httpx.Client, client: httpx.Client) -> None:
    session_id = _create(api)["id"]
    client.patch(
        f"/v1/sessions/{session_id}",
        json={"user_name": "Alice", "metadata": {"snake_case": True}, "expires_at": "2030-01-01T00:00:00Z"},
    )
    client.patch(f"/v1/sessions/{session_id}", json={"expires_at": None})
    client.post(f"/v1/sessions/{session_id}/complete", json={"reason": "done"})

    events = api.get(f"/api/v1/sessions/{session_id}/timeline").json()["events"]

    assert [(event["type"], event["payload"]) for event in events[1:]] == [
        (
            "session.updated",
            {
                "sessionId": session_id,
                "userName": "Alice",
                "expiresAt": "2030-01-01T00:00:00.000Z",
                "metadata": {"snake_case": True},
            },
        ),
        ("session.updated", {"sessionId": session_id, "expiresAt": None}),
        (
            "session.completed",
            {"sessionId": session_id, "from": "active", "status": "completed", "reason": "done"},
        ),
    ]


def test_replay_shows_what_was_done_in_order(api: httpx.Client, client: httpx.Client) -> None:
    session_id = _create(api, ttlSeconds=60, unknown="ignored")["id"]
    sent = client.post(f"/v1/sessions/{session_id}/messages", json={"content": "Hello"}).json()
    client.patch(f"/v1/sessions/{session_id}", json={"task_id": "t1"})
    api.post(f"/api/v1/sessions/{session_id}/complete")

    steps = api.post(f"/api/v1/sessions/{session_id}/replay").json()["steps"]

    assert [step["index"] for step in steps] == [0, 1, 2]
    assert [(step["action"], step["input"], step["output"]) for step in steps] == [
        ("send_message", {"role": "user", "content": "Hello", "metadata": {}}, {"id": sent["id"]}),
        ("update_session", {"taskId": "t1"}, {"id": session_id, "seq": 3}),
        ("complete_session", {}, {"status": "completed"}),
    ]


def test_the_log_keeps_its_own_names(api: httpx.Client, client: httpx.Client) -> None:
    session_id = _create(api, ttlSeconds=60)["id"]

    [event] = client.get(f"/v1/sessions/{session_id}/events").json()["data"]

    assert event["data"] == {"name": "flow", "ttl_seconds": 60}


def test_a_long_log_is_told_whole(client: httpx.Client) -> None:
    session_id = _create(client)["id"]
    for batch in range(0, 2500, 500):
        messages = [{"content": str(number)} for number in range(batch, batch + 500)]
        assert client.post(f"/v1/sessions/{session_id}/messages", json={"messages": messages}).status_code == 201

    events = client.get(f"/api/v1/sessions/{session_id}/timeline").json()["events"]
    steps = client.post(f"/api/v1/sessions/{session_id}/replay").json()["steps"]

    assert [event["payload"]["content"] for event in events[1:]] == [str(number) for number in range(2500)]
    assert [step["index"] for step in steps] == list(range(2500))


@pytest.mark.parametrize(("duration_us", "duration_ms"), [(0, 0), (1, 1), (1000, 1), (1001, 2), (45_000, 45)])
def test_a_step_that_took_time_never_shows_none(duration_us: int, duration_ms: int) -> None:
    step = Step(index=0, seq=1, at_us=0, action="a", input={}, output={}, duration_us=duration_us)

    assert log_shapes.step_out(step, index=0).duration_ms == duration_ms


def test_a_repeated_creation_gets_the_first_answer(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "once"}
    first = api.post("/api/v1/sessions", json={"name": "flow"}, headers=headers)
    again = api.post("/api/v1/sessions", json={"name": "flow"}, headers=headers)
    other = api.post("/api/v1/sessions", json={"name": "another"}, headers=headers)

    assert first.json() == again.json()
    assert (other.status_code, other.json()["error"]) == (409, "Conflict")
    assert api.get("/api/v1/sessions").json()["pagination"]["total"] == 1


def test_a_key_bound_to_a_user_sees_only_their_sessions(api: httpx.Client, mount: str, tenant: Tenant) -> None:
    theirs = _create(api)["id"]
    scopes = frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})
    with tenant.make_key(scopes=scopes, user_id="alice").client(mount) as bound:
        hers = _create(bound)["id"]

        assert _ids(bound.get("/api/v1/sessions")) == [hers]
        assert bound.get(f"/api/v1/sessions/{theirs}").status_code == 404
        assert bound.post(f"/api/v1/sessions/{theirs}").status_code == 404


def test_a_key_that_may_only_read_cannot_write(api: httpx.Client, mount: str, tenant: Tenant) -> None:
    session_id = _create(api)["id"]
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ})).client(mount) as reader:
        assert reader.get(f"/api/v1/sessions/{session_id}").status_code == 200
        refused = reader.post("/api/v1/sessions", json={"name": "flow"})

    assert refused.status_code == 403
    assert refused.json() == {"error": "Forbidden", "message": "this key lacks the scope sessions:write"}


def test_ids_sort_in_the_order_of_creation(api: httpx.Client) -> None:
    ids = [SessionId(_create(api)["id"]) for _ in range(5)]

    assert ids == sorted(ids)


def test_a_replay_is_shown_afresh_under_one_idempotency_key(api: httpx.Client, client: httpx.Client) -> None:
    one, two = _create(api)["id"], _create(api)["id"]
    headers = {"Idempotency-Key": "once"}
    first = api.post(f"/api/v1/sessions/{one}/replay", headers=headers)
    client.patch(f"/v1/sessions/{one}", json={"status": "paused"})
    again = api.post(f"/api/v1/sessions/{one}/replay", headers=headers)
    other = api.post(f"/api/v1/sessions/{two}/replay", headers=headers)

    assert [len(answer.json()["steps"]) for answer in (first, again)] == [0, 1]
    assert again.json()["steps"][0]["input"] == {"status": "paused"}
    assert (other.status_code, other.json()["error"]) == (409, "Conflict")
