"""The log: read in pages, and followed without a gap or a repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import cast

import pytest

from sessiond.actions import events, sessions
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.caller import Caller
from sessiond.core.errors import NotFound, Unauthenticated
from sessiond.core.event import RUN_TEXT, Delta, Event, make_entry
from sessiond.core.ids import SessionId
from sessiond.storage import events as stored
from sessiond.storage.engine import Engine
from sessiond.storage.open import open_engine
from tests.actions.calling import ELSEWHERE, HERE, ME, append, caller, create, make_workspaces
from tests.storage.making import another_engine

IN_TIME = 20.0  # a bound for what takes milliseconds

Followed = AsyncGenerator[list[Event], None]


async def allowed() -> None:
    return


def follow(
    engine: Engine,
    *,
    after: int | None,
    by: Caller = ME,
    silence_seconds: float = 60,
    still_allowed: Callable[[], Awaitable[object]] = allowed,
) -> Followed:
    followed = events.follow(
        Call(engine, by), "s", after=after, silence_seconds=silence_seconds, still_allowed=still_allowed
    )
    return cast(Followed, followed)


async def collect(followed: Followed, *, until: int) -> list[int]:
    """Return the seqs that a follower gets, up to one."""
    seqs: list[int] = []
    async with asyncio.timeout(IN_TIME), aclosing(followed) as pages:
        async for page in pages:
            seqs += [event.seq for event in page]
            if seqs and seqs[-1] >= until:
                break
    return seqs


@asynccontextmanager
async def unhurried(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Let no follower look for itself: what it hears of, it was woken for."""
    monkeypatch.setattr(type(engine), "poll_seconds", 3_600.0)
    yield


async def test_followers_from_any_point_get_each_event_once_while_many_write(engine: Engine) -> None:
    await create(engine, "s")
    for number in range(9):
        await append(engine, "s", f"{number}")
    points = [None, 0, 1, 5, 9, 10, 30]
    followers = [follow(engine, after=after) for after in points]
    assert [await anext(follower) for follower in followers] == [[]] * len(points), "it speaks at once"

    async with asyncio.TaskGroup() as tasks:
        collected = [tasks.create_task(collect(follower, until=130)) for follower in followers]
        for writer in range(12):
            tasks.create_task(write_on(engine, writer))

    for after, task in zip(points, collected, strict=True):
        # From beyond the end is from now on: there were ten.
        assert task.result() == list(range((10 if after is None else min(after, 10)) + 1, 131)), after
    assert len(engine.watches) == 0


async def write_on(engine: Engine, writer: int) -> None:
    for number in range(10):
        await append(engine, "s", f"{writer}:{number}")


async def test_a_follower_in_another_process_gets_each_event_once(engine: Engine, database: str) -> None:
    await create(engine, "s")
    other = await open_engine(database, queue_max=100, pool_max=3, command_timeout_seconds=20)
    follower = follow(other, after=0)
    await anext(follower)

    async with asyncio.TaskGroup() as tasks:
        seqs = tasks.create_task(collect(follower, until=41))
        for writer in range(4):
            tasks.create_task(write_on(engine, writer))

    assert seqs.result() == list(range(1, 42))
    await other.close()


async def test_a_commit_wakes_a_follower(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(engine, "s")
    async with unhurried(engine, monkeypatch), asyncio.timeout(IN_TIME), aclosing(follow(engine, after=None)) as pages:
        assert await anext(pages) == []
        for number in range(3):
            heard = asyncio.ensure_future(anext(pages))
            await asyncio.sleep(0)

            (event,) = await append(engine, "s", f"{number}")

            assert await heard == [event]


async def test_a_stream_ends_when_its_session_is_deleted_also_when_another_takes_its_id(engine: Engine) -> None:
    await make_workspaces(engine)
    for replaced in (False, True):
        await create(engine, "s")
        async with asyncio.timeout(IN_TIME), aclosing(follow(engine, after=1)) as pages:
            assert await anext(pages) == []

            await sessions.delete(Call(engine, ME), "s", itself)
            if replaced:
                await create(engine, "s")
                await append(engine, "s", "somebody else's")

            assert [page async for page in pages] == []


async def test_a_stream_ends_when_its_session_becomes_another_users(engine: Engine) -> None:
    mine = caller(user_id="me")
    await create(engine, "s", by=mine)
    async with asyncio.timeout(IN_TIME), aclosing(follow(engine, after=1, by=mine)) as pages:
        assert await anext(pages) == []

        await sessions.patch(Call(engine, ME), "s", SessionPatch(user_id="you"), itself)

        assert [page async for page in pages] == []


async def test_a_stream_ends_with_what_its_access_ends_with(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "TICK_SECONDS", 0.02)
    await create(engine, "s")
    revoked = asyncio.Event()

    async def still_allowed() -> None:
        if revoked.is_set():
            raise Unauthenticated("invalid API key")

    async with unhurried(engine, monkeypatch), asyncio.timeout(IN_TIME):
        pages = follow(engine, after=None, still_allowed=still_allowed)
        assert await anext(pages) == []
        waiting = asyncio.ensure_future(anext(pages))
        await asyncio.sleep(0)

        revoked.set()

        with pytest.raises(Unauthenticated):
            await waiting
        busy = follow(engine, after=0, still_allowed=still_allowed)
        assert await anext(busy) == []
        with pytest.raises(Unauthenticated):
            await anext(busy)
    assert len(engine.watches) == 0


async def test_silence_is_broken_now_and_then(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "TICK_SECONDS", 0.02)
    await create(engine, "s")
    async with asyncio.timeout(IN_TIME), aclosing(follow(engine, after=None, silence_seconds=0.05)) as pages:
        assert [await anext(pages) for _ in range(4)] == [[]] * 4
        (event,) = await append(engine, "s", "x")
        assert await anext(pages) in ([event], [])


async def test_who_may_not_see_a_session_may_not_follow_it(engine: Engine) -> None:
    await create(engine, "s")
    for stranger in (caller(workspace=ELSEWHERE), caller(user_id="me")):
        with pytest.raises(NotFound):
            await anext(follow(engine, after=0, by=stranger))
    assert len(engine.watches) == 0


async def test_a_whole_log_is_read_as_it_was_however_long(engine: Engine) -> None:
    await create(engine, "s")
    for number in range(5):
        await append(engine, "s", *(f"{number}" for _ in range(500)))
    then = await sessions.get(Call(engine, ME), "s")
    await append(engine, "s", "later")

    pages = [page async for page in events.read_all(Call(engine, ME), then)]

    assert [event.seq for page in pages for event in page] == list(range(1, 2_502))
    assert [len(page) for page in pages] == [1_000, 1_000, 501]


RUN = "run_1"
SESSION = SessionId("s")

FollowedLive = AsyncGenerator[list[Event | Delta], None]


def follow_live(engine: Engine, *, live: bool) -> FollowedLive:
    followed = events.follow(
        Call(engine, ME), SESSION, after=None, silence_seconds=30, still_allowed=allowed, live=live
    )
    return cast(FollowedLive, followed)


async def write(engine: Engine, text: str, offset: int) -> None:
    call = Call(engine, ME)
    entry = make_entry(RUN_TEXT, {"text": text, "offset": offset}, run_id=RUN)
    assert await engine.combine(stored.append_each, call.append(SESSION, entry)) is not None


async def test_who_follows_live_is_told_before_the_log_has_it(engine: Engine) -> None:
    await create(engine, SESSION)

    async with asyncio.timeout(10), aclosing(follow_live(engine, live=True)) as pages:
        assert await anext(pages) == []
        waiting = asyncio.ensure_future(anext(pages))
        await asyncio.sleep(0)
        engine.tell(HERE, SESSION, Delta(RUN, 1, 0, "hello"))

        assert await waiting == [Delta(RUN, 1, 0, "hello")]


async def test_what_an_event_has_told_already_is_not_told_again(engine: Engine) -> None:
    await create(engine, SESSION)

    async with asyncio.timeout(10), aclosing(follow_live(engine, live=True)) as pages:
        assert await anext(pages) == []
        engine.tell(HERE, SESSION, Delta(RUN, 1, 0, "hel"))
        await write(engine, "hello", 0)
        told = await anext(pages)
        while not any(isinstance(one, Event) for one in told):
            told = await anext(pages)
        engine.tell(HERE, SESSION, Delta(RUN, 1, 3, "lo"))
        engine.tell(HERE, SESSION, Delta(RUN, 1, 5, " you"))

        assert [one for one in told if isinstance(one, Delta)] == []
        assert await anext(pages) == [Delta(RUN, 1, 5, " you")]


async def test_who_does_not_follow_live_is_told_of_events_only(engine: Engine) -> None:
    await create(engine, SESSION)

    async with asyncio.timeout(10), aclosing(follow_live(engine, live=False)) as pages:
        assert await anext(pages) == []
        engine.tell(HERE, SESSION, Delta(RUN, 1, 0, "hello"))
        await write(engine, "hello", 0)

        assert [type(one) for one in await anext(pages)] == [Event]


async def test_another_process_is_told_too_where_there_can_be_one(engine: Engine, database: str) -> None:
    await create(engine, SESSION)

    async with (
        asyncio.timeout(20),
        another_engine(database) as elsewhere,
        aclosing(follow_live(elsewhere, live=True)) as pages,
    ):
        assert await anext(pages) == []
        waiting = asyncio.ensure_future(anext(pages))
        told: list[Event | Delta] = []
        number = 0
        while not told:
            # What is told while the other is not listening yet is lost, and may be.
            engine.tell(HERE, SESSION, Delta(RUN, 1, number, "x"))
            number += 1
            if engine.name == "sqlite":
                await write(engine, "hello", 0)
            done, _ = await asyncio.wait({waiting}, timeout=0.1)
            told = waiting.result() if done else []

    assert isinstance(told[0], Event if engine.name == "sqlite" else Delta)
