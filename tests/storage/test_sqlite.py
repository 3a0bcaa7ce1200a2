"""What is SQLite's alone: the file, the one writer, and what may keep it from writing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from sessiond.core.errors import Unavailable
from sessiond.core.session import SessionFilter
from sessiond.storage import sessions, sqlite
from sessiond.storage.engine import Tx
from sessiond.storage.migrate import migrate_sqlite
from sessiond.storage.sqlite import SCANS_WAITING_MAX, SqliteEngine
from tests.storage.making import WORKSPACE, add, append, find, make_append, make_session, must_find, said


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
