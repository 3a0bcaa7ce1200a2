"""What an engine promises: writes in groups, wakes, snapshots, bounds, and an end that loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sessiond.core.errors import Unavailable
from sessiond.core.ids import SessionId
from sessiond.core.session import Session, SessionFilter
from sessiond.storage import sessions
from sessiond.storage.engine import Engine, Snapshot, Tx, Watches
from sessiond.storage.open import open_engine
from tests.storage.making import (
    ELSEWHERE,
    WORKSPACE,
    add,
    another_engine,
    append,
    find,
    make_append,
    make_session,
    must_find,
    query,
    said,
)

HEARD_SECONDS = 10.0  # a bound for what takes milliseconds


async def test_a_write_is_seen_by_the_next_read(engine: Engine) -> None:
    for number in range(20):
        await add(engine, make_session(f"s{number}"))

        assert await find(engine, f"s{number}") is not None


async def test_a_commit_wakes_who_watches_that_session_and_nobody_else(engine: Engine) -> None:
    await add(engine, make_session("s"), make_session("t"), make_session("s", workspace=ELSEWHERE))
    with (
        engine.watches.open(WORKSPACE, SessionId("s")) as mine,
        engine.watches.open(WORKSPACE, SessionId("s")) as mine_too,
        engine.watches.open(WORKSPACE, SessionId("t")) as other,
        engine.watches.open(ELSEWHERE, SessionId("s")) as elsewhere,
    ):

        async def others_hear() -> bool:
            for watch in (mine, mine_too, other, elsewhere):
                await watch.wait(0)

            await append(engine, make_append("s", *said("x")))

            assert await mine.wait(HEARD_SECONDS)
            assert await mine_too.wait(HEARD_SECONDS)
            return await mine.wait(0) or await other.wait(0) or await elsewhere.wait(0)

        assert await heard_once_at_most(others_hear)
    assert len(engine.watches) == 0


async def test_what_rolls_back_wakes_nobody(engine: Engine) -> None:
    await add(engine, make_session("s"))

    async def fail(tx: Tx) -> None:
        tx.wake(WORKSPACE, SessionId("s"))
        raise LookupError

    with engine.watches.open(WORKSPACE, SessionId("s")) as watch:

        async def heard() -> bool:
            await watch.wait(0)
            with pytest.raises(LookupError):
                await engine.write(fail)
            return await watch.wait(0)

        assert await heard_once_at_most(heard)


async def heard_once_at_most(heard: Callable[[], Awaitable[bool]]) -> bool:
    """Whether a wake that should not be heard is not: a listener that has just connected wakes everybody, once."""
    return not await heard() or not await heard()


async def test_a_commit_is_heard_by_another_process_or_found_by_its_next_look(engine: Engine, database: str) -> None:
    await add(engine, make_session("s"))
    async with another_engine(database) as other:
        with other.watches.open(WORKSPACE, SessionId("s")) as watch:
            await append(engine, make_append("s", *said("x")))

            await watch.wait(other.poll_seconds)
            assert (await must_find(other, "s")).last_seq == 1


async def test_a_full_queue_is_unavailable_and_what_was_accepted_is_kept(engine: Engine, database: str) -> None:
    async with another_engine(database, queue_max=5) as narrow:
        results = await asyncio.gather(
            *(add(narrow, make_session(f"s{number}")) for number in range(600)), return_exceptions=True
        )
        # Once there is room again, the same engine takes more.
        await add(narrow, make_session("later"))

    refused = [result for result in results if result is not None]
    assert refused
    assert {type(result) for result in refused} == {Unavailable}
    assert results[0] is None
    assert len(await query(database, "select id from sessions")) == len(results) - len(refused) + 1


async def test_closing_finishes_what_was_accepted_and_accepts_no_more(engine: Engine, database: str) -> None:
    closing = await open_engine(database, queue_max=1_000, pool_max=5, command_timeout_seconds=20)
    writes = [asyncio.ensure_future(add(closing, make_session(f"s{number}"))) for number in range(300)]
    appends = [asyncio.ensure_future(append(closing, make_append("s0", *said("x")))) for _ in range(50)]
    await asyncio.sleep(0)

    await closing.close()

    assert all(task.done() for task in writes + appends)
    with pytest.raises(Unavailable, match="shutting down"):
        await add(closing, make_session("late"))
    assert len(await query(database, "select id from sessions")) == 300
    acknowledged = [task.result() for task in appends if task.result() is not None]
    assert len(await query(database, "select seq from events")) == len(acknowledged)


async def test_a_writer_who_hangs_up_does_not_undo_what_was_accepted(engine: Engine) -> None:
    await add(engine, make_session("s"))
    with engine.watches.open(WORKSPACE, SessionId("s")) as watch:
        await watch.wait(0)
        write = asyncio.ensure_future(append(engine, make_append("s", *said("x"))))
        await asyncio.sleep(0)

        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write

        # Twice: a listener that has just connected wakes everybody.
        for _ in range(2):
            assert await watch.wait(HEARD_SECONDS)
            if (await must_find(engine, "s")).last_seq:
                break
    assert (await must_find(engine, "s")).last_seq == 1


async def test_load_counts_operations_and_the_commits_that_carried_them(engine: Engine) -> None:
    before = engine.load()

    await add(engine, make_session("s"))
    await asyncio.gather(*(append(engine, make_append("s", *said("x"))) for _ in range(50)))

    after = engine.load()
    assert after.operations - before.operations == 51
    assert 2 <= after.commits - before.commits < 51, "neighbours share a commit"
    assert after.writes_waiting == 0


async def test_a_long_read_does_not_hold_up_short_ones(engine: Engine) -> None:
    await add(engine, *(make_session(f"s{number:03}") for number in range(50)))

    async def total(tx: Tx) -> int:
        return await sessions.count(tx, WORKSPACE, SessionFilter(query="s"))

    counted = await asyncio.gather(*(engine.scan(total) for _ in range(20)), find(engine, "s001"))

    assert counted[:20] == [50] * 20


async def test_a_schema_is_current_after_migrating(engine: Engine) -> None:
    schema = await engine.schema()

    assert schema.version == schema.newest >= 1


async def test_a_wake_before_the_wait_is_not_lost() -> None:
    watches = Watches()
    with watches.open(WORKSPACE, SessionId("s")) as watch:
        watches.wake_all()

        assert await watch.wait(0)
        assert not await watch.wait(0)


async def find_in(snapshot: Snapshot, session_id: str) -> Session | None:
    async def operation(tx: Tx) -> Session | None:
        return await sessions.find(tx, WORKSPACE, session_id, user_id=None)

    return await snapshot.read(operation)


async def test_a_snapshot_does_not_show_what_is_written_meanwhile(engine: Engine) -> None:
    await add(engine, make_session("before"))
    async with engine.snapshot() as snapshot:
        assert await find_in(snapshot, "before") is not None
        await add(engine, make_session("meanwhile"))

        assert await find_in(snapshot, "meanwhile") is None
        assert await find(engine, "meanwhile") is not None
    async with engine.snapshot() as snapshot:
        assert await find_in(snapshot, "meanwhile") is not None


async def test_a_snapshot_is_given_back_whatever_happens_in_it(engine: Engine) -> None:
    for _ in range(30):  # more than there are connections
        with pytest.raises(LookupError):
            await fail_in_snapshot(engine)


async def fail_in_snapshot(engine: Engine) -> None:
    async with engine.snapshot() as snapshot:
        await find_in(snapshot, "s")
        raise LookupError
