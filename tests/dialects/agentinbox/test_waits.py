"""Waits of the agentinbox wire: for which mails, how long, how they end, and who is told."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from sessiond.core.caller import Scope
from tests.dialects.agentinbox.mailing import (
    CODE,
    LONG_AGO,
    RESET,
    SIGN_IN,
    TIME,
    create_inbox,
    create_session,
    create_wait,
    get,
    made,
    message_in,
    send,
)
from tests.dialects.agents import eventually
from tests.serving import Tenant

MAGIC_URL = "https://app.example.com/auth/magic?token=abcdef0123456789"
RESET_URL = "https://app.example.com/password/reset?token=abcdef0123456789"


def _ids(listed: dict[str, Any]) -> list[str]:
    return [wait["id"] for wait in listed["data"]]


def _steps(api: httpx.Client, session_id: str) -> list[tuple[str, Any, Any]]:
    steps = api.post(f"/api/v1/sessions/{session_id}/replay").json()["steps"]
    return [(step["action"], step["input"], step["output"]) for step in steps]


def _types(api: httpx.Client, session_id: str) -> list[str]:
    return [event["type"] for event in get(api, f"/sessions/{session_id}/timeline")["events"]]


def test_a_wait_has_all_that_documents_and_clients_read(api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    filters = {"from": "noreply", "subjectContains": "code", "since": "2026-01-01T00:00:00.000Z"}

    wait = create_wait(api, inbox, timeoutSeconds=60, filters=filters, critical=True, unknown="ignored")

    assert get(api, f"/waits/{wait['id']}") == wait
    assert wait.pop("id").startswith("wait_")
    assert TIME.fullmatch(wait["createdAt"])
    created_at, expires_at = (datetime.fromisoformat(wait.pop(field)) for field in ("createdAt", "expiresAt"))
    assert expires_at - created_at == timedelta(seconds=60)
    assert wait == {
        "object": "wait",
        "inboxId": inbox["id"],
        "messageId": None,
        "type": "otp",
        "status": "pending",
        "critical": True,
        "timeoutSeconds": 60,
        "filters": filters,
        "result": None,
        "completedAt": None,
        "sessionId": session_id,
    }


def test_a_wait_is_for_two_minutes_unless_it_says_otherwise(api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    bare = create_wait(api, inbox)
    null = create_wait(api, inbox, timeoutSeconds=None, filters=None, critical=None, sessionId=session_id)
    filters = {"from": "a", "since": "2026-01-01T00:00:00Z"}
    full = create_wait(api, inbox, "email", timeoutSeconds=86_400, filters=filters, critical=True)

    for wait in (bare, null):
        assert (wait["timeoutSeconds"], wait["filters"], wait["critical"]) == (120, None, False)
    assert full["timeoutSeconds"] == 86_400
    shown = {"from": "a", "since": "2026-01-01T00:00:00.000Z"}
    assert _steps(api, session_id)[1:] == [
        ("create_wait", {"type": "otp"}, {"id": bare["id"]}),
        ("create_wait", {"type": "otp"}, {"id": null["id"]}),
        (
            "create_wait",
            {"type": "email", "timeoutSeconds": 86_400, "critical": True, "filters": shown},
            {"id": full["id"]},
        ),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "value", "url"),
    [
        ("otp", CODE, "482913", None),
        ("magic_link", SIGN_IN, MAGIC_URL, MAGIC_URL),
        ("password_reset", RESET, RESET_URL, RESET_URL),
    ],
)
def test_a_wait_is_completed_with_what_the_mail_was_sent_for(
    tenant: Tenant, api: httpx.Client, kind: str, text: str, value: str, url: str | None
) -> None:
    inbox = create_inbox(api)
    wait = create_wait(api, inbox, kind)
    send(tenant, inbox, "Welcome aboard!", subject="Welcome")
    assert get(api, f"/waits/{wait['id']}") == wait

    send(tenant, inbox, text, subject="Your account")

    ended, message = get(api, f"/waits/{wait['id']}"), message_in(api, inbox)
    result = ended["result"]
    changed = {"status": "completed", "messageId": message["id"], "completedAt": ended["completedAt"], "result": result}
    assert ended == wait | changed
    assert TIME.fullmatch(ended["completedAt"])
    assert 0.5 < result.pop("confidence") <= 1
    assert result == {"type": kind, "value": value, "messageId": message["id"]} | ({"url": url} if url else {})


def test_a_wait_for_any_mail_tells_of_it(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    wait = create_wait(api, inbox, "email")

    send(tenant, inbox, "Hello", subject="Hi there")

    message = message_in(api, inbox)
    assert get(api, f"/waits/{wait['id']}")["result"] == {
        "type": "email",
        "messageId": message["id"],
        "from": "noreply@example.com",
        "subject": "Hi there",
        "receivedAt": message["receivedAt"],
    }


def test_only_mails_that_the_filters_let_through_count(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    waits = {
        name: create_wait(api, inbox, "email", filters=filters)["id"]
        for name, filters in {
            "sender": {"from": "NOREPLY@example"},
            "name": {"from": "exAMPLE <"},
            "another": {"from": "other@example.com"},
            "subject": {"subjectContains": "YOUR c"},
            "no subject": {"subjectContains": "invoice"},
            "both": {"from": "noreply", "subjectContains": "invoice"},
            "later": {"since": "2999-01-01T00:00:00Z"},
        }.items()
    }

    send(tenant, inbox)

    ended = {name for name, wait_id in waits.items() if get(api, f"/waits/{wait_id}")["status"] == "completed"}
    assert ended == {"sender", "name", "subject"}


def test_a_mail_that_came_before_counts_only_with_since(tenant: Tenant, api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    send(tenant, inbox)

    without = create_wait(api, inbox)
    with_since = create_wait(api, inbox, filters={"since": LONG_AGO})

    assert without["status"] == "pending"
    assert (with_since["status"], with_since["result"]["value"]) == ("completed", "482913")
    assert with_since["messageId"] == message_in(api, inbox)["id"]
    assert get(api, f"/waits/{with_since['id']}") == with_since
    assert _types(api, session_id)[-2:] == ["wait.created", "wait.completed"]


def test_with_a_session_alone_any_of_its_inboxes_counts(tenant: Tenant, api: httpx.Client) -> None:
    session_id = create_session(api)
    wait = made(api.post("/api/v1/waits", json={"sessionId": session_id, "type": "otp"}))
    inbox, other = create_inbox(api, sessionId=session_id), create_inbox(api)

    send(tenant, other)
    assert get(api, f"/waits/{wait['id']}") == wait
    assert (wait["inboxId"], wait["sessionId"]) == (None, session_id)
    send(tenant, inbox)

    ended = get(api, f"/waits/{wait['id']}")
    assert (ended["status"], ended["messageId"]) == ("completed", message_in(api, inbox)["id"])


def test_a_wait_in_a_session_may_be_for_an_inbox_of_none_but_not_of_another(tenant: Tenant, api: httpx.Client) -> None:
    session_id, other_id = create_session(api), create_session(api)
    free, theirs = create_inbox(api), create_inbox(api, sessionId=other_id)
    wait = create_wait(api, free, sessionId=session_id)
    refused = api.post("/api/v1/waits", json={"inboxId": theirs["id"], "sessionId": session_id, "type": "otp"})

    send(tenant, free)

    assert get(api, f"/waits/{wait['id']}")["status"] == "completed"
    assert _types(api, session_id) == ["session.created", "wait.created", "wait.completed"]
    assert refused.status_code == 409
    assert refused.json() == {"error": "Conflict", "message": "the inbox is another session's"}


def test_a_wait_that_is_not_met_times_out(api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)

    wait = made(api.post("/api/v1/waits?wait=30", json={"inboxId": inbox["id"], "type": "otp", "timeoutSeconds": 1}))

    assert (wait["status"], wait["result"], wait["messageId"]) == ("timed_out", None, None)
    assert wait["completedAt"] >= wait["expiresAt"]
    events = get(api, f"/sessions/{session_id}/timeline")["events"]
    assert (events[-1]["type"], events[-1]["payload"]) == ("wait.timed_out", {"waitId": wait["id"]})
    assert get(api, f"/sessions/{session_id}")["status"] == "active"


def test_a_critical_wait_that_times_out_fails_its_session(api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)

    wait = create_wait(api, inbox, timeoutSeconds=1, critical=True)

    eventually(lambda: get(api, f"/sessions/{session_id}")["status"] == "failed")
    event = get(api, f"/sessions/{session_id}/timeline")["events"][-1]
    reason = {"reason": "a critical wait timed out", "waitId": wait["id"]}
    assert event["type"] == "session.failed"
    assert event["payload"] == {"sessionId": session_id, "from": "active", "status": "failed", **reason}


@pytest.mark.parametrize(("method", "suffix"), [("DELETE", ""), ("POST", "/cancel")])
def test_a_wait_is_canceled_in_two_ways(tenant: Tenant, api: httpx.Client, method: str, suffix: str) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    wait = create_wait(api, inbox)
    path = f"/api/v1/waits/{wait['id']}{suffix}"

    canceled = api.request(method, path, headers={"Content-Type": "application/json"})
    again = api.request(method, path)
    send(tenant, inbox)

    assert canceled.status_code == again.status_code == 200
    ended = canceled.json()
    assert ended == again.json() == get(api, f"/waits/{wait['id']}")
    assert ended == wait | {"status": "canceled", "completedAt": ended["completedAt"]}
    assert TIME.fullmatch(ended["completedAt"])
    assert _types(api, session_id)[-2:] == ["wait.canceled", "message.received"]
    action, given, result = _steps(api, session_id)[-1]
    assert (action, given["waitId"], result) == ("cancel_wait", wait["id"], {"id": wait["id"], "status": "canceled"})


def test_canceling_what_has_ended_changes_nothing(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    wait = create_wait(api, inbox)
    send(tenant, inbox)
    ended = get(api, f"/waits/{wait['id']}")

    for answer in (api.delete(f"/api/v1/waits/{wait['id']}"), api.post(f"/api/v1/waits/{wait['id']}/cancel")):
        assert (answer.status_code, answer.json()) == (200, ended)


def test_waits_are_listed_newest_first_paged_and_filtered(tenant: Tenant, api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox, other = create_inbox(api, sessionId=session_id), create_inbox(api)
    ids = [create_wait(api, inbox, kind)["id"] for kind in ("otp", "email", "magic_link", "password_reset")]
    ids = [create_wait(api, other)["id"], *ids[::-1]]
    send(tenant, inbox)
    api.delete(f"/api/v1/waits/{ids[2]}")
    otp, email = ids[4], ids[3]

    listed = get(api, "/waits")

    assert (listed["object"], _ids(listed)) == ("list", ids)
    assert listed["pagination"] == {"limit": 20, "offset": 0, "total": 5}
    assert listed["data"][0] == get(api, f"/waits/{ids[0]}")
    assert _ids(get(api, "/waits?status=completed")) == [email, otp]
    assert _ids(get(api, "/waits?status=canceled")) == [ids[2]]
    assert _ids(get(api, "/waits?type=otp")) == [ids[0], otp]
    assert _ids(get(api, f"/waits?inboxId={other['id']}")) == [ids[0]]
    assert _ids(get(api, f"/waits?sessionId={session_id}&type=otp&status=completed")) == [otp]
    by_offset = [get(api, f"/waits?limit=2&offset={offset}") for offset in (0, 2, 4, 6)]
    assert [_ids(page) for page in by_offset] == [ids[:2], ids[2:4], ids[4:], []]
    second = get(api, f"/waits?limit=2&cursor={by_offset[0]['nextCursor']}")
    third = get(api, f"/waits?limit=2&cursor={second['nextCursor']}")
    assert (_ids(second), _ids(third), third["nextCursor"]) == (ids[2:4], ids[4:], None)


def test_waits_of_another_kind_are_shown_with_their_kind(api: httpx.Client, client: httpx.Client) -> None:
    session_id = create_session(api)
    asked: dict[str, dict[str, Any]] = {
        "approval": {"title": "Go on?"},
        "event": {"events": ["message.*"]},
        "timer": {"timeout_seconds": 0.05},
    }
    ids = {
        kind: made(client.post("/v1/waits", json={"type": kind, "session_id": session_id, **said}))["id"]
        for kind, said in asked.items()
    }
    client.post(f"/v1/waits/{ids['approval']}/complete", json={"result": {"the_word": "yes"}}).raise_for_status()
    client.post(f"/v1/sessions/{session_id}/messages", json={"content": "Hello"}).raise_for_status()

    shown = dict[str, Any]()
    for kind, wait_id in ids.items():
        shown[kind] = api.get(f"/api/v1/waits/{wait_id}?wait=30").json()

    assert get(api, f"/sessions/{session_id}")["waits"] == list(ids.values())
    assert {kind: wait["type"] for kind, wait in shown.items()} == {kind: kind for kind in asked}
    assert {wait["inboxId"] for wait in shown.values()} == {None}
    assert {wait["messageId"] for wait in shown.values()} == {None}
    assert {wait["filters"] for wait in shown.values()} == {None}
    assert shown["approval"]["result"] == {"the_word": "yes"}
    assert shown["event"]["result"]["type"] == "message.user"
    assert shown["event"]["result"].keys() == {"eventId", "seq", "type", "data"}
    assert TIME.fullmatch(shown["timer"]["result"]["at"])


def test_a_replay_shows_waits_that_other_wires_asked_for(api: httpx.Client, client: httpx.Client) -> None:
    session_id = create_session(api)
    body = {"type": "approval", "session_id": session_id, "timeout_seconds": 60, "title": "Go on?"}
    wait_id = made(client.post("/v1/waits", json=body))["id"]
    client.post(f"/v1/waits/{wait_id}/complete", json={"result": {"the_word": "yes"}}).raise_for_status()

    (_, created, _), (action, completed, _) = _steps(api, session_id)

    assert json.dumps(created) == json.dumps({"type": "approval", "timeoutSeconds": 60, "title": "Go on?"})
    assert (action, completed) == ("complete_wait", {"waitId": wait_id, "result": {"the_word": "yes"}})


def test_a_repeated_creation_makes_one_wait(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    body = {"inboxId": inbox["id"], "type": "otp"}
    headers = {"Idempotency-Key": "once"}
    first = api.post("/api/v1/waits", json=body, headers=headers)
    send(tenant, inbox)
    again = api.post("/api/v1/waits", json=body, headers=headers)
    other = api.post("/api/v1/waits", json=body | {"type": "email"}, headers=headers)

    assert made(first) == made(again)
    assert (other.status_code, other.json()["error"]) == (409, "Conflict")
    assert get(api, "/waits")["pagination"]["total"] == 1


def test_a_key_that_may_not_read_is_not_told_what_came(tenant: Tenant, api: httpx.Client, mount: str) -> None:
    inbox = create_inbox(api)
    send(tenant, inbox)
    body = {"inboxId": inbox["id"], "type": "otp", "filters": {"since": LONG_AGO}}
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_WRITE})).client(mount) as writer:
        made_by = made(writer.post("/api/v1/waits?wait=30", json=body))
        canceled = writer.post(f"/api/v1/waits/{made_by['id']}/cancel").json()
        refused = writer.get(f"/api/v1/waits/{made_by['id']}")

    for wait in (made_by, canceled):
        assert (wait["status"], wait["result"], wait["messageId"]) == ("completed", None, None)
    assert (refused.status_code, refused.json()["error"]) == (403, "Forbidden")


def test_a_wait_is_canceled_with_its_sessions_end(api: httpx.Client) -> None:
    session_id = create_session(api)
    wait = create_wait(api, create_inbox(api, sessionId=session_id))

    api.post(f"/api/v1/sessions/{session_id}/complete")

    assert get(api, f"/waits/{wait['id']}")["status"] == "canceled"
    assert sorted(_types(api, session_id)[-2:]) == ["session.completed", "wait.canceled"]
