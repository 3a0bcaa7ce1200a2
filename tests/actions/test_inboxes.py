"""Inboxes: made in sessions and alone, seen by whom they belong to, gone with their mails."""

from __future__ import annotations

from typing import Any, Final

import pytest
from msgspec.structs import replace

from sessiond.actions import inboxes, mails, sessions
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.caller import Caller
from sessiond.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from sessiond.core.inbox import PER_SESSION_MAX, InboxFilter
from sessiond.core.wait import CANCELLED
from sessiond.storage import inboxes as rows
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import ELSEWHERE, ME, caller, create, make_workspaces
from tests.actions.mailing import (
    DOMAIN,
    SECOND,
    body_of,
    get_wait,
    log_of,
    make_inbox,
    make_wait,
    receive,
    types_of,
)
from tests.storage.making import query

BOUND: Final = caller(user_id="me")
ELSE: Final = caller(workspace=ELSEWHERE)


async def listed(engine: Engine, by: Caller = ME, **wanted: Any) -> list[str]:
    page = await inboxes.read_page(Call(engine, by), InboxFilter(**wanted), limit=100, with_total=True)
    assert page.total == len(page.inboxes)
    return [inbox.id for inbox in page.inboxes]


async def test_an_inbox_has_an_address_of_its_own(engine: Engine) -> None:
    first, second = [await make_inbox(engine, purpose="to sign up", metadata=b'{"a":1}') for _ in range(2)]

    name, _, domain = first.address.partition("@")
    assert domain == DOMAIN
    assert len(name) == 14
    assert name.isalnum()
    assert first.address != second.address
    assert await inboxes.get(Call(engine, ME), first.id) == first
    assert (first.session_id, first.purpose, first.metadata) == (None, "to sign up", b'{"a":1}')


async def test_the_log_says_that_a_session_got_an_inbox_and_replay_what_was_asked_for(engine: Engine) -> None:
    await create(engine, "s")

    inbox = await make_inbox(engine, "s", purpose="to sign up", ttl_seconds=60)

    event = (await log_of(engine, "s"))[-1]
    assert (event.type, event.action, event.actor) == ("inbox.created", "create_inbox", ME.key_id)
    assert inbox.expires_at_us == inbox.created_at_us + 60 * SECOND
    assert body_of(event) == {
        "inbox_id": inbox.id,
        "address": inbox.address,
        "purpose": "to sign up",
        "expires_at_us": inbox.expires_at_us,
        "input": {"ttl_seconds": 60, "purpose": "to sign up"},
        "output": {"id": inbox.id},
    }


async def test_a_session_that_has_ended_gets_no_inbox(engine: Engine) -> None:
    await create(engine, "s")
    await sessions.complete(Call(engine, ME), "s", itself)

    with pytest.raises(Conflict, match="completed"):
        await make_inbox(engine, "s")
    with pytest.raises(NotFound):
        await make_inbox(engine, "none")
    with pytest.raises(InvalidInput):
        await make_inbox(engine, ttl_seconds=0)
    assert await listed(engine) == []


async def test_a_session_has_no_more_inboxes_than_it_may(engine: Engine) -> None:
    await create(engine, "s")
    first = await make_inbox(engine, "s")

    async def fill(tx: Tx) -> None:
        for number in range(PER_SESSION_MAX - 1):
            await rows.insert(tx, replace(first, id=f"inb_{number}", address=f"{number}@{DOMAIN}"))

    await engine.write(fill)

    with pytest.raises(Conflict, match="1000 inboxes"):
        await make_inbox(engine, "s")
    await inboxes.delete(Call(engine, ME), first.id, itself)
    await make_inbox(engine, "s")


async def test_an_inbox_is_seen_and_used_by_its_user_only(engine: Engine) -> None:
    await create(engine, "mine", by=BOUND)
    await create(engine, "theirs", by=caller(user_id="you"))
    alone, inside = await make_inbox(engine, by=BOUND), await make_inbox(engine, "mine", by=BOUND)
    theirs = await make_inbox(engine, "theirs")

    assert alone.user_id == inside.user_id == "me"
    assert theirs.user_id == "you"
    assert await listed(engine, BOUND) == [inside.id, alone.id]
    assert await listed(engine) == [theirs.id, inside.id, alone.id]
    with pytest.raises(NotFound):
        await inboxes.get(Call(engine, BOUND), theirs.id)
    with pytest.raises(NotFound):
        await make_inbox(engine, "theirs", by=BOUND)
    with pytest.raises(Forbidden):
        await make_inbox(engine, by=BOUND, user_id="you")


async def test_an_inbox_and_all_in_it_follow_their_session_to_another_user(engine: Engine) -> None:
    await create(engine, "s", by=caller(user_id="you"))
    inbox = await make_inbox(engine, "s")
    mail, wait = await receive(engine, inbox), await make_wait(engine, "approval", "s")

    await sessions.patch(Call(engine, ME), "s", SessionPatch(user_id="me"), itself)

    assert (await inboxes.get(Call(engine, BOUND), inbox.id)).user_id == "me"
    assert (await mails.get(Call(engine, BOUND), mail.id)).mail.user_id == "me"
    assert (await get_wait(engine, wait)).user_id == "me"
    with pytest.raises(NotFound):
        await mails.get(Call(engine, caller(user_id="you")), mail.id)


async def test_a_list_has_what_was_asked_for(engine: Engine) -> None:
    await create(engine, "s")
    inside, alone = await make_inbox(engine, "s", ttl_seconds=60), await make_inbox(engine)
    later_us = inside.created_at_us + 61 * SECOND

    assert await listed(engine, session_id="s") == [inside.id]
    assert await listed(engine, active=True, at_us=later_us) == [alone.id]
    assert await listed(engine, active=False, at_us=later_us) == [inside.id]
    assert await listed(engine, active=False, at_us=inside.created_at_us) == []


async def test_of_a_deleted_inbox_nobody_sees_anything_and_what_waited_for_it_is_cancelled(
    engine: Engine, database: str
) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine, "s")
    mail = await receive(engine, inbox)
    wait, session_wide = await make_wait(engine, "otp", inbox_id=inbox.id), await make_wait(engine, "otp", "s")

    assert await inboxes.delete(Call(engine, ME), inbox.id, itself) == replace(
        inbox, mail_count=1, mail_bytes=mail.size
    )

    call = Call(engine, ME)
    for gone in (
        inboxes.get(call, inbox.id),
        mails.get(call, mail.id),
        mails.get_raw(call, mail.id),
        mails.read_page(call, inbox.id, limit=10),
        receive(engine, inbox),
        inboxes.delete(call, inbox.id, itself),
    ):
        with pytest.raises(NotFound):
            await gone
    ended = await get_wait(engine, wait)
    assert (ended.status, ended.reason) == (CANCELLED, "the inbox was deleted")
    assert not (await get_wait(engine, session_wide)).ended
    assert (await types_of(engine, "s"))[-2:] == ["wait.cancelled", "inbox.deleted"]
    assert (await log_of(engine, "s"))[-1].action == "delete_inbox"
    assert await mails.read_of_session(call, "s", after=None, limit=10) == []
    assert await query(database, "select kind, id from trash") == [("inbox", inbox.id)]


async def test_waits_that_other_sessions_have_for_a_deleted_inbox_are_cancelled_in_their_logs(engine: Engine) -> None:
    inbox = await make_inbox(engine)
    made = []
    for session_id in ("t", "s"):
        await create(engine, session_id)
        made.append(await make_wait(engine, "email", session_id, inbox_id=inbox.id))
    made.append(await make_wait(engine, "email", inbox_id=inbox.id))

    await inboxes.delete(Call(engine, ME), inbox.id, itself)

    assert {(await get_wait(engine, wait)).status for wait in made} == {CANCELLED}
    for session_id in ("s", "t"):
        assert (await types_of(engine, session_id))[-1] == "wait.cancelled"


async def test_with_a_session_go_its_inboxes_mails_and_waits(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await create(engine, "stays")
    inbox, other = await make_inbox(engine, "s"), await make_inbox(engine, "stays")
    mail = await receive(engine, inbox)
    wait, kept = await make_wait(engine, "otp", "s"), await make_wait(engine, "otp", "stays")

    await sessions.delete(Call(engine, ME), "s", itself)

    with pytest.raises(NotFound):
        await inboxes.get(Call(engine, ME), inbox.id)
    with pytest.raises(NotFound):
        await mails.get(Call(engine, ME), mail.id)
    with pytest.raises(NotFound):
        await get_wait(engine, wait)
    assert await inboxes.get(Call(engine, ME), other.id) == other
    assert not (await get_wait(engine, kept)).ended
    assert await query(database, "select id from trash") == [(inbox.id,)]


async def test_a_session_knows_its_inboxes_and_waits_in_their_order(engine: Engine) -> None:
    await create(engine, "s")
    made = [await make_inbox(engine, "s") for _ in range(3)]
    waits = [await make_wait(engine, "approval", "s") for _ in range(101)]

    found = await inboxes.read_ids(Call(engine, ME), "s")

    assert found == ([inbox.id for inbox in made], [wait.id for wait in waits])
    assert await inboxes.read_ids(Call(engine, ME), "none") == ([], [])


async def test_an_address_leads_to_one_inbox_of_all_workspaces(engine: Engine) -> None:
    mine, theirs = await make_inbox(engine), await make_inbox(engine, by=ELSE)

    assert await engine.read(lambda tx: rows.find_by_address(tx, mine.address)) == mine
    assert await engine.read(lambda tx: rows.find_by_address(tx, theirs.address)) == theirs
    assert await engine.read(lambda tx: rows.find_by_address(tx, "nobody@inbox.example")) is None
    assert await listed(engine, ELSE) == [theirs.id]
