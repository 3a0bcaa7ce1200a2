"""Waits under way: for events, whichever way they come, and with everything coming down on one at the same moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Final

import msgspec
import pytest

from sessiond.actions import messages, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.errors import Conflict
from sessiond.core.message import Role, make_message
from sessiond.core.session import ACTIVE, PAUSED
from sessiond.core.wait import COMPLETED, Terms, Wait
from sessiond.storage.engine import Engine
from tests.actions.calling import ME, append, create, text
from tests.actions.mailing import (
    body_of,
    count_deadlocks,
    deliver,
    get_wait,
    held,
    log_of,
    make_inbox,
    make_wait,
    result_of,
    sweep,
)
from tests.runners.working import assert_no_gaps
from tests.storage.making import another_engine, query


async def event_wait(engine: Engine, *types: str, **new: Any) -> Wait:
    return await make_wait(engine, "event", "s", terms=Terms(events=list(types)), **new)


async def test_an_event_completes_what_waits_for_it_in_whichever_way_it_comes(engine: Engine, database: str) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine, "s")
    said = make_message(Role.ASSISTANT, "x")
    ways: dict[str, Coroutine[Any, Any, object]] = {
        "message.user": append(engine, "s", "hello"),
        "message.assistant": messages.append(Call(engine, ME), "s", [said], itself),
        "session.paused": sessions.patch(Call(engine, ME), "s", SessionPatch(status=PAUSED), itself),
        "session.activated": sessions.patch(Call(engine, ME), "s", SessionPatch(status=ACTIVE), itself),
        "session.updated": sessions.patch(Call(engine, ME), "s", SessionPatch(name="x"), itself),
        "mail.received": deliver(engine, inbox),
        "inbox.created": make_inbox(engine, "s"),
        "wait.created": make_wait(engine, "approval", "s"),
    }
    for type, way in ways.items():
        other = await event_wait(engine, "none")
        wait = await event_wait(engine, type)
        await sweep(engine)
        assert not (await get_wait(engine, wait)).ended, "its own beginning, and what was before, is not meant"

        await way
        await sweep(engine)

        now = await get_wait(engine, wait)
        assert now.status is COMPLETED, type
        (seq,) = {event.seq for event in await log_of(engine, "s") if event.type == type and event.seq > _after(wait)}
        assert result_of(now)["event_id"] == f"evt_{seq}.s"
        assert (result_of(now)["type"], result_of(now)["seq"]) == (type, seq)
        assert not (await get_wait(engine, other)).ended
        await waits.cancel(Call(engine, ME), other.id, itself)
    assert await query(database, "select event_waits from sessions") == [(0,)]


def _after(wait: Wait) -> int:
    return msgspec.json.decode(wait.terms, type=Terms).after_seq


async def test_appends_that_share_a_transaction_complete_what_waits_for_them(engine: Engine) -> None:
    ids = [f"s{number}" for number in range(12)]
    made = dict[str, Wait]()
    for number, session_id in enumerate(ids):
        await create(engine, session_id)
        if number % 2:
            made[session_id] = await make_wait(engine, "event", session_id, terms=Terms(events=["message.*"]))
    await sweep(engine)

    await asyncio.gather(*[append(engine, session_id, "x") for session_id in ids for _ in range(3)])
    await sweep(engine)

    for session_id, wait in made.items():
        now = await get_wait(engine, wait)
        assert (now.status, result_of(now)["seq"]) == (COMPLETED, 3), session_id
        assert_no_gaps(await log_of(engine, session_id))


async def test_a_wait_for_an_event_has_seen_what_it_has_seen(engine: Engine) -> None:
    await create(engine, "s")
    wait = await event_wait(engine, "session.completed", timeout_seconds=60)

    for number in range(3):
        await append(engine, "s", "x")
        swept = await sweep(engine)
        assert (swept.looked_at, swept.ended) == (1, 0)
        assert _after(await get_wait(engine, wait)) == 3 + number
    assert (await sweep(engine)).looked_at == 0
    assert (await sweep(engine, later_seconds=61)).ended == 1


async def test_events_that_come_while_the_sweeper_looks_are_not_missed(engine: Engine, database: str) -> None:
    await create(engine, "s")
    async with another_engine(database) as other:

        async def sweep_on() -> None:
            while True:
                await sweep(other)

        sweeping = asyncio.create_task(sweep_on())
        for number in range(30):
            wait = await event_wait(engine, "message.assistant")
            noise = [append(engine, "s", f"{number}") for _ in range(3)]
            said = make_message(Role.ASSISTANT, "x")
            meant = messages.append(Call(engine, ME), "s", [said, text("y")], itself)
            await asyncio.gather(*noise, meant)
            done = await waits.wait(Call(other, ME), wait.id, timeout_seconds=10)
            assert done.status is COMPLETED, number
        sweeping.cancel()


async def test_a_session_that_somebody_has_in_hand_keeps_only_its_own_waits(engine: Engine, database: str) -> None:
    if engine.name == "sqlite":
        return  # there nobody has anything in hand
    await create(engine, "held")
    await create(engine, "free")
    kept = [await make_wait(engine, "timer", "held", timeout_seconds=0.001) for _ in range(3)]
    free = [await make_wait(engine, "timer", place, timeout_seconds=0.001) for place in ("free", None)]

    async with another_engine(database) as other, held(other, "held"):
        swept = await sweep(engine, later_seconds=1)
        assert (swept.ended, swept.busy) == (2, 3)

    assert all([(await get_wait(engine, wait)).ended for wait in free])
    assert (await sweep(engine, later_seconds=1)).ended == len(kept)


async def complete(engine: Engine, wait: Wait, result: Any = None, **how: Any) -> Wait:
    return await waits.complete(Call(engine, ME, **how), wait.id, {"ok": True} if result is None else result, itself)


async def cancel(engine: Engine, wait: Wait, **how: Any) -> Wait:
    return await waits.cancel(Call(engine, ME), wait.id, itself, **how)


async def once(engine: Engine, session_id: str | None, other: Engine, dice: random.Random) -> Wait:
    """Let everything that can end a wait happen to one at the same moment."""
    inbox = await make_inbox(engine, session_id)
    wait = await make_wait(engine, "email", session_id, inbox_id=inbox.id, timeout_seconds=0.001)
    doing: list[Coroutine[Any, Any, object]] = [
        *[cancel(on, wait) for on in (engine, other)],
        *[sweep(on, later_seconds=1) for on in (engine, other)],
        *[deliver(on, inbox) for on in (engine, other)],
    ]
    dice.shuffle(doing)
    await asyncio.gather(*doing)
    return await get_wait(engine, wait)


@pytest.mark.parametrize("session_id", ["s", None], ids=["in a session", "alone"])
async def test_whatever_comes_at_the_same_moment_a_wait_ends_once(
    engine: Engine, database: str, session_id: str | None
) -> None:
    await create(engine, "s")
    dice = random.Random(3)
    async with another_engine(database) as other, asyncio.timeout(60):
        ended = [await once(engine, session_id, other, dice) for _ in range(25)]

    assert all(wait.ended for wait in ended)
    assert await count_deadlocks(engine, database) == 0
    if session_id is not None:
        log = await log_of(engine, "s")
        assert_no_gaps(log)
        told = [(body_of(event)["wait_id"], event.type) for event in log if event.type in WAIT_ENDS]
        assert sorted(told) == sorted((wait.id, f"wait.{wait.status}") for wait in ended)


WAIT_ENDS: Final = ("wait.completed", "wait.timed_out", "wait.cancelled")


@pytest.mark.parametrize("session_id", ["s", None], ids=["in a session", "alone"])
async def test_one_of_many_approvals_that_come_at_once_is_the_one(
    engine: Engine, database: str, session_id: str | None
) -> None:
    await create(engine, "s")
    async with another_engine(database) as other:
        for _ in range(10):
            wait = await make_wait(engine, "approval", session_id)
            said = await asyncio.gather(
                *[complete(on, wait, {"n": n}) for n, on in enumerate([engine, other] * 3)], return_exceptions=True
            )
            good = [one for one in said if isinstance(one, Wait)]
            assert len(good) == 1, said
            assert all(isinstance(one, (Wait, Conflict)) for one in said)
            assert await get_wait(engine, wait) == good[0]
