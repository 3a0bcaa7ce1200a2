"""What is PostgreSQL's alone: it may go away, hang, and come back, and other processes are heard from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from sessiond.core.errors import Unavailable
from sessiond.core.ids import SessionId
from sessiond.storage import postgres as postgres_engine
from sessiond.storage import sessions
from sessiond.storage.engine import Engine, Tx, Watch
from sessiond.storage.notices import NOTIFY_MAX_BYTES, payloads_of
from sessiond.storage.open import migrate, open_engine
from sessiond.storage.postgres_errors import PostgresRefusedError
from tests.postgres import open_postgres
from tests.storage.making import (
    WORKSPACE,
    add,
    another_engine,
    append,
    change,
    find,
    make_append,
    make_session,
    must_find,
    query,
    read_whole_log,
    said,
)

HEARD_SECONDS = 10.0


@pytest.fixture(scope="session")
def engine_name() -> str:
    return "postgres"


@pytest.fixture
async def hurried(database: str) -> AsyncIterator[Engine]:
    """An engine that gives a command half a second."""
    await migrate(database)
    opened = await open_engine(database, queue_max=1_000, pool_max=4, command_timeout_seconds=0.5)
    yield opened
    await opened.close()


async def heard_in_a_row(watch: Watch, writer: Engine, *, times: int) -> None:
    """Return once so many appends in a row were heard of; what only wakes everybody once is not enough."""
    row = 0
    async with asyncio.timeout(3 * HEARD_SECONDS):
        while row < times:
            while await watch.wait(0):
                pass
            await append(writer, make_append("s", *said("x")))
            row = row + 1 if await watch.wait(1) else 0


async def test_another_process_hears_of_a_commit(engine: Engine, database: str) -> None:
    await add(engine, make_session("s"))
    async with another_engine(database) as other:
        with other.watches.open(WORKSPACE, SessionId("s")) as watch:
            await heard_in_a_row(watch, engine, times=5)


async def test_a_server_that_is_killed_and_comes_back_costs_no_acknowledged_write_and_no_restart() -> None:
    with open_postgres() as server:
        server.create_database("one")
        url = server.url("one")
        await migrate(url)
        async with another_engine(url) as engine, another_engine(url) as other:
            await add(engine, *(make_session(f"s{number}") for number in range(4)), make_session("s"))
            acknowledged: list[tuple[str, int, str]] = []
            refused = 0
            begun, gone, back = asyncio.Event(), asyncio.Event(), asyncio.Event()

            async def write_on(writer: int) -> None:
                nonlocal refused
                target, count, after = f"s{writer % 4}", 0, 0
                while after < 10:
                    count += 1
                    text = f"{writer}:{count}"
                    try:
                        async with asyncio.timeout(15):
                            seq = await append((engine, other)[writer % 2], make_append(target, *said(text)))
                    except Unavailable:
                        refused += 1
                        if refused >= 16:
                            gone.set()
                        await asyncio.sleep(0.01)  # as a client would
                        continue
                    assert seq is not None
                    acknowledged.append((target, seq, text))
                    after += back.is_set()
                    if len(acknowledged) >= 100:
                        begun.set()

            async with asyncio.TaskGroup() as tasks:
                for writer in range(8):
                    tasks.create_task(write_on(writer))
                await begun.wait()
                await asyncio.to_thread(server.kill)
                await gone.wait()
                for question in (must_find(engine, "s"), read_whole_log(other, "s"), engine.schema()):
                    with pytest.raises(Unavailable):
                        await question
                await asyncio.to_thread(server.start)
                back.set()

            for number in range(4):
                name = f"s{number}"
                log = await read_whole_log(engine, name)
                assert [seq for seq, _ in log] == list(range(1, len(log) + 1))
                assert {(name, *entry) for entry in log} >= {entry for entry in acknowledged if entry[0] == name}
            with other.watches.open(WORKSPACE, SessionId("s")) as watch:
                await heard_in_a_row(watch, engine, times=3)
            assert engine.load().writes_waiting == 0


async def test_reads_and_writes_survive_the_end_of_every_connection(engine: Engine, database: str) -> None:
    await asyncio.gather(*(add(engine, make_session(f"s{number}")) for number in range(30)))
    mine = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"

    assert len(await query(database, f"select pg_terminate_backend(pid, 5000) {mine}")) > 3
    results = await asyncio.gather(
        *(append(engine, make_append(f"s{number}", *said("x"))) for number in range(10)),
        *(change(engine, f"s{number}", name="x") for number in range(10, 20)),
        *(find(engine, f"s{number}") for number in range(20, 30)),
    )

    assert None not in results


async def test_a_command_that_hangs_is_unavailable_in_time(hurried: Engine, database: str) -> None:
    await add(hurried, make_session("s"), make_session("t"))
    other = await asyncpg.connect(database)
    holding = other.transaction()
    await holding.start()
    await other.execute("select * from sessions where id = 's' for update")
    started = time.monotonic()

    with pytest.raises(Unavailable):
        await change(hurried, "s", name="x")

    assert time.monotonic() - started < 4 * 0.5
    assert await append(hurried, make_append("s", *said("x"))) is None, "nor do the appends of others wait for it"
    assert (await must_find(hurried, "s")).last_seq == 0, "reads do not wait"
    assert await append(hurried, make_append("t", *said("x"))) == 1
    await holding.rollback()
    assert await append(hurried, make_append("s", *said("x"))) == 1
    await other.close()


async def test_a_command_that_the_server_gives_up_is_not_tried_again(engine: Engine, database: str) -> None:
    await add(engine, make_session("s"))
    other = await asyncpg.connect(database)
    await other.execute("begin; select * from sessions where id = 's' for update")
    write = asyncio.ensure_future(change(engine, "s", name="x"))
    waiting = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and datname = $1"

    async with asyncio.timeout(HEARD_SECONDS):
        while not await other.fetch(waiting, database.rpartition("/")[2]):
            await asyncio.sleep(0.01)
            # A transaction sees the activity of its first look until told otherwise.
            await other.execute("select pg_stat_clear_snapshot()")
        with pytest.raises(Unavailable, match="cannot do this now"):
            await write

    await other.close()


async def test_of_two_transactions_in_a_circle_ours_tries_again(engine: Engine, database: str) -> None:
    await add(engine, make_session("a"), make_session("b"))
    other = await asyncpg.connect(database)
    await other.execute("set deadlock_timeout = '20s'")  # so that it is ours that gives way
    await other.execute("begin; select * from sessions where id = 'a' for update")
    attempts = 0

    async def operation(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        await sessions.take(tx, WORKSPACE, "b", user_id=None)
        if attempts == 1:
            holds_b.set()
        await sessions.take(tx, WORKSPACE, "a", user_id=None)

    holds_b = asyncio.Event()
    write = asyncio.ensure_future(engine.write(operation))
    async with asyncio.timeout(HEARD_SECONDS):
        await holds_b.wait()
        await other.execute("select * from sessions where id = 'b' for update; commit")
        await write

    assert attempts == 2
    await other.close()


def test_wakes_travel_together_in_payloads_that_postgres_takes() -> None:
    watched = [(WORKSPACE, SessionId(f"{number}" + '\U0001f600"\\' * 60)) for number in range(100)]

    payloads = payloads_of(watched)

    assert 1 < len(payloads) < 100
    assert all(len(payload.encode()) <= NOTIFY_MAX_BYTES for payload in payloads)
    assert [tuple(one) for payload in payloads for one in msgspec.json.decode(payload)] == watched
    assert payloads_of([]) == []


async def test_a_snapshot_ends_with_its_connection(engine: Engine, database: str) -> None:
    await add(engine, make_session("s"))
    mine = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"

    async def look(tx: Tx) -> object:
        return await sessions.find(tx, WORKSPACE, "s", user_id=None)

    async def ask_nonsense(tx: Tx) -> None:
        await tx.select("session_count_select", "where 1 / 0 = 1", {})

    async with engine.snapshot() as snapshot:
        assert await snapshot.read(look)
        await query(database, f"select pg_terminate_backend(pid, 5000) {mine}")
        with pytest.raises(Unavailable):
            await snapshot.read(look)
    async with engine.snapshot() as snapshot:
        with pytest.raises(PostgresRefusedError):
            await snapshot.read(ask_nonsense)


async def test_a_snapshot_waits_for_a_connection_and_no_longer(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(database)
    monkeypatch.setattr(postgres_engine, "ACQUIRE_SECONDS", 0.5)
    engine = await open_engine(database, queue_max=10, pool_max=1, command_timeout_seconds=5)
    try:
        async with engine.snapshot():
            with pytest.raises(Unavailable):
                await engine.snapshot().__aenter__()
    finally:
        await engine.close()
