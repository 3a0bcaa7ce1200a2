"""What time does: sessions and inboxes expire, and what has been kept long enough is deleted, a piece at a time."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from sessiond.actions import audit, expiry, inboxes, mails, runs, sessions, workspaces
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.errors import InvalidInput, NotFound
from sessiond.core.inbox import TTL_MAX_SECONDS
from sessiond.core.run import CANCELLED as RUN_CANCELLED
from sessiond.core.run import RunFilter
from sessiond.core.session import ACTIVE, COMPLETED, PAUSED, NewSession
from sessiond.core.wait import CANCELLED
from sessiond.storage import clock, removal
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import HERE, ME, append, create, make_workspaces
from tests.actions.mailing import (
    SECOND,
    body_of,
    count_deadlocks,
    deliver,
    get_wait,
    held,
    log_of,
    make_inbox,
    make_wait,
    receive,
    types_of,
)
from tests.actions.working import begin, register
from tests.runners.working import assert_no_gaps
from tests.storage.making import another_engine, query

HOUR: Final = 3_600


async def expire(engine: Engine, what: str = "sessions", *, later_seconds: float = HOUR, **how: Any) -> int:
    doing = {"sessions": expiry.expire_sessions, "inboxes": expiry.expire_inboxes}[what]

    async def operation(tx: Tx) -> int:
        return await doing(tx, now_us=await clock.read_us(tx) + int(later_seconds * SECOND), **how)

    return await engine.write(operation)


async def delete_ended(engine: Engine, *, kept_seconds: int = 60, later_seconds: float = HOUR) -> int:
    async def operation(tx: Tx) -> int:
        now_us = await clock.read_us(tx) + int(later_seconds * SECOND)
        return await expiry.delete_ended(tx, now_us, workspace_id=HERE, kept_us=kept_seconds * SECOND)

    return await engine.write(operation)


async def now_us(engine: Engine) -> int:
    return await engine.read(clock.read_us)


async def make_expiring(engine: Engine, session_id: str, *, seconds: int = 60, agent_id: str | None = None) -> None:
    new = NewSession(agent_id=agent_id, expires_at_us=await now_us(engine) + seconds * SECOND)
    await sessions.create(Call(engine, ME), new, itself, session_id=session_id)


async def test_a_session_whose_time_is_over_is_completed_and_the_log_says_why(engine: Engine) -> None:
    await make_expiring(engine, "s")
    await make_expiring(engine, "later", seconds=2 * HOUR)
    wait = await make_wait(engine, "approval", "s")

    assert await expire(engine, later_seconds=59) == 0
    assert await expire(engine) == 1
    assert await expire(engine) == 0

    session = await sessions.get(Call(engine, ME), "s")
    assert session.status is COMPLETED
    log = await log_of(engine, "s")
    assert_no_gaps(log)
    assert (log[-1].type, log[-1].actor) == ("session.completed", "clock")
    assert body_of(log[-1]) == {"from": "active", "status": "completed", "reason": "it expired"}
    ended = await get_wait(engine, wait)
    assert (ended.status, ended.reason) == (CANCELLED, "the session expired")
    assert (await sessions.get(Call(engine, ME), "later")).status is ACTIVE


async def test_what_is_queued_in_a_session_that_expires_is_cancelled(engine: Engine) -> None:
    await register(engine)
    await begin(engine, "s", "hello", expires_at_us=await now_us(engine) + SECOND)

    assert await expire(engine) == 1

    (run,) = (await runs.read_page(Call(engine, ME), RunFilter(), limit=9)).runs
    assert run.status is RUN_CANCELLED
    assert (await types_of(engine, "s"))[-2:] == ["run.cancelled", "session.completed"]


async def test_a_session_that_was_made_to_last_longer_lasts_longer(engine: Engine) -> None:
    await make_expiring(engine, "s")
    await make_expiring(engine, "paused")
    later_us = await now_us(engine) + 9 * HOUR * SECOND
    await sessions.patch(Call(engine, ME), "s", SessionPatch(expires_at_us=later_us), itself)
    await sessions.patch(Call(engine, ME), "paused", SessionPatch(status=PAUSED), itself)

    assert await expire(engine) == 1

    assert (await sessions.get(Call(engine, ME), "s")).status is ACTIVE
    assert (await sessions.get(Call(engine, ME), "paused")).status is COMPLETED


async def test_sessions_expire_some_at_a_time_the_first_first(engine: Engine) -> None:
    for number in range(5):
        await make_expiring(engine, f"s{number}", seconds=60 - number)

    assert [await expire(engine, limit=2) for _ in range(4)] == [2, 2, 1, 0]


async def test_an_inbox_whose_time_is_over_takes_no_mail_and_what_waits_for_one_is_cancelled(engine: Engine) -> None:
    await create(engine, "s")
    await create(engine, "t")
    inside, alone = await make_inbox(engine, "s", ttl_seconds=60), await make_inbox(engine, ttl_seconds=60)
    lasting = await make_inbox(engine, "s")
    mail = await receive(engine, inside)
    cancelled = [
        await make_wait(engine, "otp", inbox_id=inside.id),
        await make_wait(engine, "otp", "t", inbox_id=alone.id),
        await make_wait(engine, "otp", inbox_id=alone.id),
    ]
    left = [await make_wait(engine, "otp", "s"), await make_wait(engine, "otp", inbox_id=lasting.id)]

    assert await expire(engine, "inboxes", later_seconds=50) == 0
    assert await expire(engine, "inboxes") == 2
    assert await expire(engine, "inboxes") == 0

    for wait in cancelled:
        now = await get_wait(engine, wait)
        assert (now.status, now.reason) == (CANCELLED, "the inbox expired")
    assert not any([(await get_wait(engine, wait)).ended for wait in left])
    assert (await types_of(engine, "s"))[-2:] == ["inbox.expired", "wait.cancelled"]
    assert (await types_of(engine, "t"))[-1] == "wait.cancelled"
    with pytest.raises(NotFound):
        await receive(engine, inside)
    assert (await inboxes.get(Call(engine, ME), inside.id)).expired_at_us is not None
    assert (await mails.get(Call(engine, ME), mail.id)).mail == mail, "what came stays to be read"


@pytest.mark.timeout(120)
async def test_inboxes_that_expire_while_mails_and_waits_come_leave_nobody_waiting(
    engine: Engine, database: str
) -> None:
    for session_id in ("s", "t"):
        await create(engine, session_id)
    made = []
    async with another_engine(database) as other:
        for _ in range(10):
            first, second = [await make_inbox(engine, place, ttl_seconds=1) for place in ("s", None)]
            doing = [
                *[deliver(engine, *to) for to in ((first, second), (second, first))],
                *[expire(on, "inboxes") for on in (engine, other)],
                *[make_wait(on, "otp", "t", inbox_id=second.id) for on in (engine, other)],
                *[make_wait(on, "otp", inbox_id=first.id) for on in (engine, other)],
            ]
            async with asyncio.timeout(30):
                done = await asyncio.gather(*doing, return_exceptions=True)
            made += [one for one in done if not isinstance(one, BaseException | int | None)]
            while await expire(engine, "inboxes"):
                pass

    assert all([(await get_wait(engine, wait)).ended for wait in made])
    assert await count_deadlocks(engine, database) == 0


async def test_next_is_whatever_comes_first(engine: Engine) -> None:
    assert await engine.read(expiry.find_next) is None
    await make_expiring(engine, "s", seconds=500)
    session = await sessions.get(Call(engine, ME), "s")
    assert await engine.read(expiry.find_next) == session.expires_at_us
    inbox = await make_inbox(engine, ttl_seconds=100)
    assert await engine.read(expiry.find_next) == inbox.expires_at_us
    wait = await make_wait(engine, "timer", timeout_seconds=5)
    assert await engine.read(expiry.find_next) == wait.times_out_at_us


async def test_what_ended_long_ago_is_deleted_and_audited(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await create(engine, "open")
    inbox = await make_inbox(engine, "s")
    await receive(engine, inbox)
    await make_wait(engine, "approval", "s")
    for _ in range(6):
        await append(engine, "s", *["x"] * 200)
    await sessions.complete(Call(engine, ME), "s", itself)
    last_seq = (await sessions.get(Call(engine, ME), "s")).last_seq

    assert await delete_ended(engine, later_seconds=30) == 0
    assert [await delete_ended(engine) for _ in range(2)] == [1, 0]

    with pytest.raises(NotFound):
        await sessions.get(Call(engine, ME), "s")
    for table in ("waits", "inboxes"):
        assert await query(database, f"select count(*) from {table} where session_id = 's'") == [(0,)]
    (entry,), _ = await audit.read_page(Call(engine, ME), limit=9)
    assert (entry.event, entry.actor) == ("deleteSession", "clock")
    assert entry.record_locator == b'{"id":"s","reason":"retention"}'
    assert (await sessions.get(Call(engine, ME), "open")).status is ACTIVE
    assert await pieces_of_trash(engine) == [1, 1, 500, 500, last_seq - 1_000, 1]
    assert await query(database, "select count(*) from mails") == [(0,)]
    assert await query(database, "select count(*) from events where session_id = 's'") == [(0,)]


async def pieces_of_trash(engine: Engine) -> list[int]:
    """Empty the trash, and return how much went at a time; one more for each thing of which nothing was left."""
    pieces = []
    while piece := await engine.write(expiry.empty_trash):
        pieces.append(piece)
    return pieces


async def test_a_session_that_goes_on_is_kept(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await sessions.complete(Call(engine, ME), "s", itself)
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=ACTIVE), itself)

    assert await delete_ended(engine) == 0

    assert (await sessions.get(Call(engine, ME), "s")).status is ACTIVE


async def test_a_session_that_somebody_has_in_hand_is_left_for_later(engine: Engine, database: str) -> None:
    if engine.name == "sqlite":
        return  # there nobody has anything in hand
    await make_workspaces(engine)
    for session_id in ("held", "free"):
        await make_expiring(engine, session_id)
        await make_inbox(engine, session_id, ttl_seconds=1)
    async with another_engine(database) as other, held(other, "held"):
        assert await expire(engine, "inboxes") == 1
        assert await expire(engine) == 1
        while await delete_ended(engine, later_seconds=3 * HOUR):
            pass

    with pytest.raises(NotFound):
        await sessions.get(Call(engine, ME), "free")
    assert (await sessions.get(Call(engine, ME), "held")).status is ACTIVE
    assert await expire(engine) == 1


async def test_an_inbox_that_expired_long_ago_is_deleted(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    inbox, kept = await make_inbox(engine, ttl_seconds=60), await make_inbox(engine)
    await receive(engine, inbox)
    await expire(engine, "inboxes")

    assert await delete_ended(engine, later_seconds=HOUR + 30) == 0
    assert await delete_ended(engine, later_seconds=HOUR + 90) == 1
    assert await delete_ended(engine, later_seconds=HOUR + 90) == 0

    with pytest.raises(NotFound):
        await inboxes.get(Call(engine, ME), inbox.id)
    assert await inboxes.get(Call(engine, ME), kept.id) == kept
    (entry,), _ = await audit.read_page(Call(engine, ME), limit=9)
    assert (entry.event, entry.actor) == ("deleteInbox", "clock")
    assert entry.record_locator == f'{{"id":"{inbox.id}","reason":"retention"}}'.encode()


async def test_the_mails_of_many_deleted_inboxes_go_some_at_a_time(engine: Engine, database: str) -> None:
    for count in (removal.MAILS_MAX + 1, 0, 2):
        inbox = await make_inbox(engine)
        for _ in range(count):
            await receive(engine, inbox)
        await inboxes.delete(Call(engine, ME), inbox.id, itself)

    assert await pieces_of_trash(engine) == [removal.MAILS_MAX, 1, 1, 1, 2, 1]
    for table in ("mails", "mail_contents", "trash"):
        assert await query(database, f"select count(*) from {table}") == [(0,)]


async def test_a_workspace_says_how_long_it_keeps_what_has_ended(engine: Engine) -> None:
    await make_workspaces(engine)

    assert await engine.read(expiry.read_retentions) == []
    assert (await workspaces.set_retention(engine, "here", 60)).retention_seconds == 60
    assert await engine.read(expiry.read_retentions) == [(HERE, 60)]
    assert (await workspaces.get(engine, "here")).retention_seconds == 60
    assert (await workspaces.set_retention(engine, "here", None)).retention_seconds is None
    assert await engine.read(expiry.read_retentions) == []
    with pytest.raises(NotFound):
        await workspaces.set_retention(engine, "none", 60)
    for seconds in (-1, TTL_MAX_SECONDS + 1):
        with pytest.raises(InvalidInput):
            await workspaces.set_retention(engine, "here", seconds)
