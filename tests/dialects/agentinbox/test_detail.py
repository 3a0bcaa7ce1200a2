"""A session asked for with `include`: what is in it, whole, beside it."""

from __future__ import annotations

import json
from typing import Any

import httpx

from sessiond.actions import inboxes, sessions, workspaces
from sessiond.actions.call import Call, itself
from sessiond.actions.mails import Mailboxes
from sessiond.dialects.agentinbox import detail, shapes
from tests.dialects.agentinbox.mailing import (
    SIGN_IN,
    create_inbox,
    create_session,
    create_wait,
    get,
    make_mail,
    message_in,
    send,
)
from tests.serving import Tenant


def test_include_answers_whole_objects_from_the_first_to_the_last(tenant: Tenant, api: httpx.Client) -> None:
    session_id = create_session(api)
    one, two = create_inbox(api, sessionId=session_id), create_inbox(api, sessionId=session_id)
    create_inbox(api)
    waits = [create_wait(api, one), create_wait(api, two, "magic_link")]
    send(tenant, one)
    send(tenant, two, SIGN_IN, subject="Sign in")
    messages = [get(api, f"/messages/{message_in(api, inbox)['id']}") for inbox in (one, two)]

    whole = get(api, f"/sessions/{session_id}?include=inboxes,waits,messages,extractions,timeline")

    assert whole["session"]["inboxes"] == [one["id"], two["id"]]
    assert whole["session"]["waits"] == [wait["id"] for wait in waits]
    assert whole["inboxes"] == [one, two]
    assert whole["waits"] == [get(api, f"/waits/{wait['id']}") for wait in waits]
    assert [wait["status"] for wait in whole["waits"]] == ["completed", "completed"]
    assert whole["messages"] == messages
    assert whole["extractions"] == [message["extractions"][0] for message in messages]
    assert whole["timeline"] == get(api, f"/sessions/{session_id}/timeline")["events"]
    assert list(whole) == ["session", "inboxes", "waits", "messages", "extractions", "timeline"]


def test_include_answers_only_what_is_asked_for(tenant: Tenant, api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    send(tenant, inbox)

    assert get(api, f"/sessions/{session_id}?include=extractions").keys() == {"session", "extractions"}
    assert get(api, f"/sessions/{session_id}?include=inboxes&include=waits")["inboxes"] == [inbox]


def test_long_lists_are_told_whole(tenant: Tenant, api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    many = detail.AT_ONCE + 5
    ids = [inbox["id"], *(create_inbox(api, sessionId=session_id)["id"] for _ in range(many))]
    waits = [create_wait(api, inbox, "magic_link")["id"] for _ in range(many)]
    tenant.serving.run(_deliver_many(tenant, inbox, many))

    whole = get(api, f"/sessions/{session_id}?include=inboxes,waits,messages,extractions")

    assert _ids(whole["inboxes"]) == whole["session"]["inboxes"] == ids
    assert _ids(whole["waits"]) == whole["session"]["waits"] == waits
    assert [message["subject"] for message in whole["messages"]] == [f"Code {number}" for number in range(many)]
    assert [found["messageId"] for found in whole["extractions"]] == _ids(whole["messages"])


def test_a_message_that_is_gone_meanwhile_is_left_out(tenant: Tenant, api: httpx.Client) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    for _ in range(2):
        send(tenant, inbox)

    told = tenant.serving.run(_read_while_it_is_deleted(tenant, session_id, inbox["id"]))

    assert len(json.loads(told)["messages"]) == 1


async def _read_while_it_is_deleted(tenant: Tenant, session_id: str, inbox_id: str) -> bytes:
    engine = tenant.serving.site.engine
    call = Call(engine, workspaces.operator(await workspaces.get(engine, tenant.workspace)))
    session = await sessions.get(call, session_id)
    whole = shapes.session_whole(session, inboxes=[inbox_id], waits=[])
    pieces = detail.read(call, session, whole, frozenset({"messages"}))
    told = await anext(pieces) + await anext(pieces)
    await inboxes.delete(call, inbox_id, itself)
    return told + b"".join([piece async for piece in pieces])


def _ids(listed: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in listed]


async def _deliver_many(tenant: Tenant, inbox: dict[str, Any], many: int) -> None:
    mailboxes = Mailboxes(tenant.serving.site.engine)
    for number in range(many):
        mail = make_mail(inbox, subject=f"Code {number}")
        await mailboxes.deliver([inbox["emailAddress"]], mail.as_bytes(), sender="")
