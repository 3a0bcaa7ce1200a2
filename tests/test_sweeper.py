"""The sweeper: on time, each thing once however many look, and at work again when the database is back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

import pytest

from sessiond.actions import inboxes, sessions, waits, workspaces
from sessiond.actions.call import Call, itself
from sessiond.core.errors import NotFound, Unavailable
from sessiond.core.session import NewSession
from sessiond.core.wait import COMPLETED, TIMED_OUT, Terms, Wait, WaitFilter
from sessiond.storage import clock, idempotency
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.open import migrate
from tests.actions.calling import HERE, ME, append, create, make_workspaces, retried
from tests.actions.mailing import (
    body_of,
    get_wait,
    log_of,
    make_inbox,
    make_wait,
    open_sweeper,
    receive,
    types_of,
)
from tests.postgres import PostgresServer, open_postgres
from tests.runners.working import assert_no_gaps
from tests.storage.making import another_engine, query

SECONDS: Final = 20
PROMPT_US: Final = 800_000  # a moment, on a machine that does other things too


async def ended(engine: Engine, wait: Wait) -> Wait:
    now = await waits.wait(Call(engine, ME), wait.id, timeout_seconds=SECONDS)
    assert now.ended
    return now


async def seen(engine: Engine, session_id: str, type: str) -> None:
    """Wait until a session's log has an event."""
    with engine.watches.open(HERE, (await sessions.get(Call(engine, ME), session_id)).id) as watch:
        async with asyncio.timeout(SECONDS):
            while type not in await types_of(engine, session_id):
                await watch.wait(1)


async def gone(database: str, table: str) -> None:
    """Wait until a table is empty."""
    await until(partial(is_empty, database, table))


async def is_empty(database: str, table: str) -> bool:
    return await query(database, f"select count(*) from {table}") == [(0,)]


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Look until something is true of which nobody tells."""
    async with asyncio.timeout(SECONDS):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_what_is_due_is_done_on_time_and_never_early(engine: Engine) -> None:
    await create(engine, "s")
    async with open_sweeper(engine):
        made = [await make_wait(engine, "timer", "s", timeout_seconds=0.2 + number / 10) for number in range(5)]
        made.append(await make_wait(engine, "approval", timeout_seconds=0.3))

        for wait in made:
            now = await ended(engine, wait)
            assert now.status is (COMPLETED if wait.type == "timer" else TIMED_OUT)
            assert now.ended_at_us is not None
            assert now.times_out_at_us is not None
            assert 0 <= now.ended_at_us - now.times_out_at_us < PROMPT_US


async def test_something_that_is_due_sooner_than_it_knew_wakes_it(engine: Engine) -> None:
    async with open_sweeper(engine):
        await make_wait(engine, "timer", timeout_seconds=1_000)
        await asyncio.sleep(0.1)  # until it has gone to sleep

        now = await ended(engine, await make_wait(engine, "timer", timeout_seconds=0.05))

    assert now.ended_at_us is not None
    assert now.ended_at_us - now.created_at_us < PROMPT_US


async def test_an_event_is_seen_in_a_moment(engine: Engine) -> None:
    await create(engine, "s")
    async with open_sweeper(engine):
        wait = await make_wait(engine, "event", "s", terms=Terms(events=["message.*"]))
        began = time.monotonic()
        await append(engine, "s", "hello")

        assert (await ended(engine, wait)).status is COMPLETED

    assert time.monotonic() - began < 0.8


async def test_sessions_and_inboxes_expire_by_themselves(engine: Engine) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine, "s", ttl_seconds=1)
    expires_at_us = await engine.read(clock.read_us) + 1_000_000
    await sessions.create(Call(engine, ME), NewSession(expires_at_us=expires_at_us), itself, session_id="short")
    async with open_sweeper(engine):
        await seen(engine, "short", "session.completed")
        await seen(engine, "s", "inbox.expired")

    completed = (await log_of(engine, "short"))[-1]
    assert body_of(completed)["reason"] == "it expired"
    assert 0 <= completed.created_at_us - expires_at_us < PROMPT_US + 1_000_000
    assert (await inboxes.get(Call(engine, ME), inbox.id)).expired_at_us is not None


async def test_many_sweepers_end_each_wait_once(engine: Engine, database: str) -> None:
    places = ["s0", "s1", "s2", None]
    for place in places[:3]:
        await create(engine, str(place))
    async with (
        another_engine(database) as second,
        another_engine(database) as third,
        open_sweeper(engine, second, third, engine),
    ):
        made = [
            await make_wait(engine, "approval", places[number % 4], timeout_seconds=1 - number / 200)
            for number in range(120)
        ]
        for wait in made:
            assert (await ended(engine, wait)).status is TIMED_OUT

    told = Counter[str]()
    for place in places[:3]:
        log = await log_of(engine, str(place))
        assert_no_gaps(log)
        told.update(body_of(event)["wait_id"] for event in log if event.type == "wait.timed_out")
    assert told == Counter(wait.id for wait in made if wait.session_id is not None)


async def test_a_backlog_is_cleared_in_a_moment(engine: Engine) -> None:
    for number in range(20):
        await create(engine, f"s{number}")
    for start in range(0, 400, 50):
        numbers = range(start, start + 50)
        await asyncio.gather(
            *[make_wait(engine, "approval", f"s{number % 20}", timeout_seconds=0.001) for number in numbers]
        )
    made = (await waits.read_page(Call(engine, ME), WaitFilter(), limit=400)).waits
    assert len(made) == 400

    began = time.monotonic()
    async with open_sweeper(engine):
        for wait in made:
            await ended(engine, wait)

    assert time.monotonic() - began < 3, "a fraction of it where nothing else runs"


async def test_nothing_is_deleted_where_nobody_said_how_long_it_is_kept(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await receive(engine, await make_inbox(engine, "s"))
    await sessions.complete(Call(engine, ME), "s", itself)
    forgotten = Call(engine, ME, retry=retried("k"))
    forgotten.now_us -= idempotency.KEPT.days * 86_400_000_000 + 60_000_000
    await sessions.create(forgotten, NewSession(), lambda made: made.session.id, session_id="t")
    assert await query(database, "select count(*) from idempotency") == [(1,)]
    async with open_sweeper(engine):
        await gone(database, "idempotency")
        assert (await sessions.get(Call(engine, ME), "s")).status == "completed"

    await workspaces.set_retention(engine, "here", 0)
    async with open_sweeper(engine):
        await gone(database, "mails")
    with pytest.raises(NotFound):
        await sessions.get(Call(engine, ME), "s")
    assert (await sessions.get(Call(engine, ME), "t")).status == "active"
    assert await query(database, "select event from audit order by seq") == [("updateWorkspace",), ("deleteSession",)]


async def test_totals_of_nothing_are_forgotten(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await sessions.delete(Call(engine, ME), "s", itself)

    async with open_sweeper(engine):
        await gone(database, "session_counts")


async def test_what_fails_is_logged_and_tried_again(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    await create(engine, "s")
    wait = await make_wait(engine, "event", "s", terms=Terms(events=["message.*"]), timeout_seconds=0.3)
    await engine.write(lambda tx: spoil(tx, wait, terms=b"not JSON"))

    async with open_sweeper(engine):
        await until(partial(is_logged, caplog))
        await engine.write(lambda tx: spoil(tx, wait, terms=wait.terms))
        assert (await ended(engine, wait)).status is TIMED_OUT


async def is_logged(caplog: pytest.LogCaptureFixture) -> bool:
    return "sweeping failed" in caplog.text


async def spoil(tx: Tx, wait: Wait, *, terms: bytes) -> None:
    await tx.run("wait_put_off", workspace=wait.workspace_id, id=wait.id, terms=terms)


@pytest.fixture
def fragile() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own, to be killed and started again."""
    with open_postgres() as server:
        server.create_database("sessiond")
        yield server


async def test_when_the_database_is_back_the_sweeper_is_too(fragile: PostgresServer) -> None:
    database = fragile.url("sessiond")
    await migrate(database)
    async with another_engine(database) as engine, open_sweeper(engine):
        wait = await make_wait(engine, "timer", timeout_seconds=1)
        await asyncio.to_thread(fragile.kill)
        await asyncio.sleep(1.2)
        await asyncio.to_thread(fragile.start)

        await until(partial(has_ended, engine, wait))

        assert (await get_wait(engine, wait)).status is COMPLETED


async def has_ended(engine: Engine, wait: Wait) -> bool:
    """Whether a wait has ended, as far as is known: the database may be away."""
    try:
        return (await get_wait(engine, wait)).ended
    except Unavailable:
        return False
