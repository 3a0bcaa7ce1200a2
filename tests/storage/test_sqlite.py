"""What is SQLite's alone: the file, the one writer, and what may keep it from writing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from sessiond.core.errors import Unavailable
from sessiond.core.event import make_entry
from sessiond.core.session import SessionFilter
from sessiond.storage import sessions, sqlite
from sessiond.storage.engine import Tx
from sessiond.storage.migrate import migrate_sqlite
from sessiond.storage.sqlite import SCANS_WAITING_MAX, SqliteEngine
from tests.storage.making import WORKSPACE, add, append, find, make_append, make_session, must_find, remove, said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sessiond.db"
    migrate_sqlite(path)
    return path


@pytest.fixture
async def engine(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteEngine]:
    monkeypatch.setattr(sqlite, "BUSY_MS", 50)  # others wait ten seconds for a neighbour
    opened = await SqliteEngine.open(path, queue_max=1_000)
    yield opened
    await opened.close()


def test_an_answered_commit_survives_a_power_cut(path: Path) -> None:
    connection = sqlite.connect(path)

    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2, "FULL"
    connection.close()


async def test_while_another_process_holds_the_file_writes_are_unavailable_and_reads_go_on(
    engine: SqliteEngine, path: Path
) -> None:
    await add(engine, make_session("s"))
    other = apsw.Connection(str(path))
    other.execute("begin immediate")

    results = await asyncio.gather(
        *(append(engine, make_append("s", *said("x"))) for _ in range(5)), return_exceptions=True
    )

    assert {type(result) for result in results} == {Unavailable}
    assert (await must_find(engine, "s")).last_seq == 0
    other.execute("rollback")
    other.close()
    assert await append(engine, make_append("s", *said("x"))) == 1


async def test_a_full_disk_is_unavailable_and_leaves_what_was_there(engine: SqliteEngine, path: Path) -> None:
    await add(engine, make_session("s"))
    writer = engine._writer_connection  # the limit is the connection's own
    writer.pragma("max_page_count", writer.pragma("page_count") + 2)

    results = await asyncio.gather(
        *(append(engine, make_append("s", *said("x" * 50_000))) for _ in range(3)), return_exceptions=True
    )

    assert {type(result) for result in results} == {Unavailable}
    assert (await must_find(engine, "s")).last_seq == 0
    writer.pragma("max_page_count", 1_000_000)
    assert await append(engine, make_append("s", *said("x" * 50_000))) == 1


async def test_too_many_long_reads_are_unavailable(engine: SqliteEngine) -> None:
    async def total(tx: Tx) -> int:
        return await sessions.count(tx, WORKSPACE, SessionFilter())

    scans = [engine.scan(total) for _ in range(SCANS_WAITING_MAX + 10)]
    results = await asyncio.gather(*scans, return_exceptions=True)

    assert results[:SCANS_WAITING_MAX] == [0] * SCANS_WAITING_MAX
    assert {type(result) for result in results[SCANS_WAITING_MAX:]} == {Unavailable}
    assert await engine.scan(total) == 0


async def test_an_operation_that_waits_for_anything_else_fails_and_leaves_nothing(engine: SqliteEngine) -> None:
    async def operation(tx: Tx) -> None:
        await sessions.insert(tx, make_session("s"))
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="not the database"):
        await engine.write(operation)

    assert await find(engine, "s") is None
    await add(engine, make_session("s"))


async def test_a_database_that_is_full_refuses_and_goes_on_when_there_is_room(engine: SqliteEngine) -> None:
    await add(engine, make_session("s"))
    connection = engine._writer_connection
    pages = connection.execute("pragma page_count").get

    connection.execute(f"pragma max_page_count = {pages}")
    wide = make_append("s", make_entry("message.user", {"content": "x" * 1_000_000}))
    refused = await asyncio.gather(*(append(engine, wide) for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in refused} == {Unavailable}

    engine._writer_connection.execute("pragma max_page_count = 1000000")
    assert await append(engine, wide) == 1
    schema = await engine.schema()
    assert schema.version == schema.newest


async def test_the_log_is_started_over_once_its_readers_let_it(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_COMMITS", 1)
    monkeypatch.setattr(sqlite, "LOG_MAX_BYTES", 256 * 1024)
    monkeypatch.setattr(sqlite, "CHECKPOINT_WAIT_MS", 1)
    await add(engine, make_session("s"))
    reader = sqlite.connect(engine._path, read_only=True)
    reader.execute("begin; select * from sessions").fetchall()
    wide = make_append("s", make_entry("message.user", {"content": "x" * 10_000}))

    for _ in range(200):
        await append(engine, wide)
    grown = engine._log_path.stat().st_size
    reader.execute("commit")
    reader.close()
    await append(engine, wide)
    await append(engine, wide)

    assert grown > 256 * 1024
    assert engine._log_path.stat().st_size < 256 * 1024


async def test_what_was_removed_is_not_in_the_file_any_more(path: Path) -> None:
    def is_in_the_file() -> bool:
        return b"Geheimnis" in path.read_bytes()

    engine = await SqliteEngine.open(path, queue_max=1_000)
    await add(engine, *(make_session(f"s{number}", user_name="Geheimnis") for number in range(20)))
    for number in range(20):
        await append(engine, make_append(f"s{number}", *said(*["Geheimnis " * 100] * 30)))
    await engine.close()
    assert is_in_the_file()

    engine = await SqliteEngine.open(path, queue_max=1_000)
    for number in range(20):
        await remove(engine, f"s{number}")
    await engine.close()

    assert not is_in_the_file()


async def test_a_snapshot_that_is_given_up_while_it_is_read_ends_with_that_read(engine: SqliteEngine) -> None:
    await add(engine, make_session("s"))
    reading, going_on = threading.Event(), threading.Event()

    async def look(tx: Tx) -> object:
        reading.set()
        going_on.wait(10)
        return await sessions.find(tx, WORKSPACE, "s", user_id=None)

    async def export() -> None:
        async with engine.snapshot() as snapshot:
            await snapshot.read(look)

    exporting = asyncio.create_task(export())
    await asyncio.to_thread(reading.wait, 10)
    exporting.cancel()
    asyncio.get_running_loop().call_later(0.05, going_on.set)
    with pytest.raises(asyncio.CancelledError):
        await exporting

    reading.clear()
    await export()  # on the same connection
    assert reading.is_set()
