"""Inboxes of the agentinbox wire: made, listed, expired, removed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from sessiond.core.caller import Scope
from tests.dialects.agentinbox.mailing import TIME, create_inbox, create_session, create_wait, get, made, send
from tests.dialects.agents import eventually
from tests.serving import Tenant


def _ids(listed: dict[str, Any]) -> list[str]:
    return [inbox["id"] for inbox in listed["data"]]


def _steps(api: httpx.Client, session_id: str) -> list[tuple[str, Any, Any]]:
    steps = api.post(f"/api/v1/sessions/{session_id}/replay").json()["steps"]
    return [(step["action"], step["input"], step["output"]) for step in steps]


def test_an_inbox_has_all_that_documents_and_clients_read(api: httpx.Client) -> None:
    session_id = create_session(api)

    inbox = create_inbox(
        api, ttlSeconds=60, purpose="signup", metadata={"workflow": "signup"}, sessionId=session_id, unknown="ignored"
    )

    assert get(api, f"/inboxes/{inbox['id']}") == inbox
    assert inbox.pop("id").startswith("inb_")
    name, _, domain = inbox.pop("emailAddress").partition("@")
    assert (len(name), domain) == (14, "localhost")
    assert TIME.fullmatch(inbox["createdAt"])
    created_at, expires_at = (datetime.fromisoformat(inbox.pop(field)) for field in ("createdAt", "expiresAt"))
    assert expires_at - created_at == timedelta(seconds=60)
    assert inbox == {
        "object": "inbox",
        "status": "active",
        "purpose": "signup",
        "ttlSeconds": 60,
        "completedAt": None,
        "metadata": {"workflow": "signup"},
        "sessionId": session_id,
    }


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"ttlSeconds": null, "purpose": null, "metadata": null, "sessionId": null}']
)
def test_an_inbox_needs_nothing_said_and_lives_an_hour(api: httpx.Client, content: bytes) -> None:
    inbox = made(api.post("/api/v1/inboxes", content=content, headers={"Content-Type": "application/json"}))

    said = {name: inbox[name] for name in ("ttlSeconds", "purpose", "metadata", "sessionId")}
    assert said == {"ttlSeconds": 3600, "purpose": None, "metadata": {}, "sessionId": None}


def test_a_replay_shows_of_an_inbox_what_was_really_said(api: httpx.Client) -> None:
    session_id = create_session(api)
    bare = create_inbox(api, sessionId=session_id)
    full = create_inbox(api, sessionId=session_id, ttlSeconds=60, purpose="p", metadata={"snake_case": 1})
    api.delete(f"/api/v1/inboxes/{bare['id']}")

    assert _steps(api, session_id) == [
        ("create_inbox", {}, {"id": bare["id"]}),
        ("create_inbox", {"ttlSeconds": 60, "purpose": "p", "metadata": {"snake_case": 1}}, {"id": full["id"]}),
        ("delete_inbox", {"inboxId": bare["id"]}, {"id": bare["id"]}),
    ]


def test_inboxes_are_listed_newest_first_and_paged(api: httpx.Client) -> None:
    every = [create_inbox(api) for _ in range(5)][::-1]
    ids = [inbox["id"] for inbox in every]

    listed = get(api, "/inboxes")

    assert listed == {
        "object": "list",
        "data": every,
        "pagination": {"limit": 20, "offset": 0, "total": 5},
        "hasMore": False,
        "nextCursor": None,
    }
    by_offset = [get(api, f"/inboxes?limit=2&offset={offset}") for offset in (0, 2, 4, 6)]
    assert [_ids(page) for page in by_offset] == [ids[:2], ids[2:4], ids[4:], []]
    assert [page["pagination"]["total"] for page in by_offset] == [5] * 4
    assert [page["hasMore"] for page in by_offset] == [True, True, False, False]
    second = get(api, f"/inboxes?limit=2&cursor={by_offset[0]['nextCursor']}")
    third = get(api, f"/inboxes?limit=2&cursor={second['nextCursor']}")
    assert (_ids(second), _ids(third), third["nextCursor"]) == (ids[2:4], ids[4:], None)


def test_inboxes_are_listed_by_session_and_by_status(api: httpx.Client) -> None:
    session_id = create_session(api)
    other, mine = create_inbox(api), create_inbox(api, sessionId=session_id)
    brief = create_inbox(api, ttlSeconds=1)

    eventually(lambda: _ids(get(api, "/inboxes?status=expired")) == [brief["id"]])

    assert _ids(get(api, "/inboxes?status=active")) == [mine["id"], other["id"]]
    assert _ids(get(api, f"/inboxes?sessionId={session_id}")) == [mine["id"]]
    assert get(api, f"/inboxes?sessionId={session_id}&status=expired")["pagination"]["total"] == 0
    assert _ids(get(api, "/inboxes?sessionId=sess_789")) == []


def test_an_inbox_expires_when_its_time_is_over(tenant: Tenant, api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, ttlSeconds=1, sessionId=session_id)

    expired = eventually(lambda: _expired(api, inbox["id"]))

    assert expired == inbox | {"status": "expired", "completedAt": expired["completedAt"]}
    assert expired["completedAt"] >= inbox["expiresAt"]
    eventually(lambda: _types(api, session_id)[-1] == "inbox.expired")
    events = get(api, f"/sessions/{session_id}/timeline")["events"]
    assert events[-1]["payload"] == {"inboxId": inbox["id"]}
    refused = api.post("/api/v1/waits", json={"inboxId": inbox["id"], "type": "otp"})
    assert (refused.status_code, refused.json()) == (
        409,
        {"error": "Conflict", "message": "the inbox has expired"},
    )
    assert get(api, f"/inboxes/{inbox['id']}/messages")["data"] == []


def _expired(api: httpx.Client, inbox_id: str) -> dict[str, Any] | None:
    inbox: dict[str, Any] = get(api, f"/inboxes/{inbox_id}")
    return inbox if inbox["status"] == "expired" else None


def _types(api: httpx.Client, session_id: str) -> list[str]:
    return [event["type"] for event in get(api, f"/sessions/{session_id}/timeline")["events"]]


def test_a_deleted_inbox_is_gone_with_its_messages_and_what_waits_for_one_is_canceled(
    tenant: Tenant, api: httpx.Client
) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    send(tenant, inbox)
    message = get(api, f"/inboxes/{inbox['id']}/messages")["data"][0]
    wait = create_wait(api, inbox)

    deleted = api.delete(f"/api/v1/inboxes/{inbox['id']}")

    assert (deleted.status_code, deleted.json()) == (200, {"id": inbox["id"], "object": "inbox", "deleted": True})
    for path in (f"/inboxes/{inbox['id']}", f"/inboxes/{inbox['id']}/messages", f"/messages/{message['id']}"):
        assert api.get(f"/api/v1{path}").status_code == 404
    assert api.delete(f"/api/v1/inboxes/{inbox['id']}").status_code == 404
    assert get(api, f"/waits/{wait['id']}")["status"] == "canceled"
    assert get(api, f"/sessions/{session_id}")["inboxes"] == []
    assert _types(api, session_id)[-2:] == ["wait.canceled", "inbox.deleted"]


def test_an_ended_session_takes_no_inbox_and_no_wait(api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    api.post(f"/api/v1/sessions/{session_id}/complete")

    for path, body in (
        ("/api/v1/inboxes", {"sessionId": session_id}),
        ("/api/v1/waits", {"sessionId": session_id, "type": "otp"}),
        ("/api/v1/waits", {"inboxId": inbox["id"], "type": "otp"}),
    ):
        refused = api.post(path, json=body)
        assert (refused.status_code, refused.json()["error"]) == (409, "Conflict")


def test_an_inbox_that_never_expires_shows_so(api: httpx.Client, client: httpx.Client) -> None:
    native = made(client.post("/v1/inboxes", json={}))

    inbox = get(api, f"/inboxes/{native['id']}")

    assert (inbox["status"], inbox["ttlSeconds"], inbox["expiresAt"]) == ("active", None, None)


def test_a_repeated_creation_makes_one_inbox(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "once"}
    first = api.post("/api/v1/inboxes", json={"purpose": "a"}, headers=headers)
    again = api.post("/api/v1/inboxes", json={"purpose": "a"}, headers=headers)
    other = api.post("/api/v1/inboxes", json={"purpose": "b"}, headers=headers)

    assert made(first) == made(again)
    assert (other.status_code, other.json()["error"]) == (409, "Conflict")
    assert get(api, "/inboxes")["pagination"]["total"] == 1


def test_a_key_bound_to_a_user_sees_only_their_inboxes_and_what_is_in_them(
    tenant: Tenant, api: httpx.Client, mount: str
) -> None:
    session_id = create_session(api)
    theirs = create_inbox(api, sessionId=session_id)
    send(tenant, theirs)
    message = get(api, f"/inboxes/{theirs['id']}/messages")["data"][0]
    wait = create_wait(api, theirs)
    scopes = frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})
    with tenant.make_key(scopes=scopes, user_id="alice").client(mount) as bound:
        hers = create_inbox(bound)
        her_wait = create_wait(bound, hers)

        assert _ids(get(bound, "/inboxes")) == [hers["id"]]
        assert get(bound, "/waits")["data"] == [her_wait]
        assert bound.post("/api/v1/inboxes", json={"sessionId": session_id}).status_code == 404
        assert bound.post("/api/v1/waits", json={"inboxId": theirs["id"], "type": "otp"}).status_code == 404
        assert bound.post("/api/v1/waits", json={"sessionId": session_id, "type": "otp"}).status_code == 404
        for method, path in (
            ("GET", f"/inboxes/{theirs['id']}"),
            ("DELETE", f"/inboxes/{theirs['id']}"),
            ("GET", f"/inboxes/{theirs['id']}/messages"),
            ("GET", f"/inboxes/{theirs['id']}/extractions"),
            ("GET", f"/messages/{message['id']}"),
            ("POST", f"/messages/{message['id']}/extract"),
            ("GET", f"/waits/{wait['id']}"),
            ("DELETE", f"/waits/{wait['id']}"),
            ("POST", f"/waits/{wait['id']}/cancel"),
        ):
            assert bound.request(method, f"/api/v1{path}").status_code == 404, path
    assert get(api, f"/waits/{wait['id']}")["status"] == "pending"
    assert _ids(get(api, "/inboxes")) == [hers["id"], theirs["id"]]
