"""A backup is a sound copy of one moment, made while others write; and nothing where it cannot be made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

from sessiond.core.errors import Conflict, Unavailable
from sessiond.storage import backup
from sessiond.storage.backup import back_up
from sessiond.storage.engine import Engine
from sessiond.storage.open import migrate, open_engine, sqlite_path
from tests.storage.making import add, append, make_append, make_session, read_whole_log, said


@pytest.fixture(scope="session")
def engine_name() -> str:
    return "sqlite"


def left_in(folder: Path) -> list[str]:
    """Return the names of what a copy leaves behind that was not finished."""
    return [entry.name for entry in folder.iterdir() if "partial" in entry.name]


def untold(_done: int, _of: int) -> None:
    return


async def test_all_that_was_answered_before_is_in_it_in_order(
    engine: Engine, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "STEP_PAGES", 4)  # so that much is written between two steps
    path, copy = sqlite_path(database), tmp_path / "copy.db"
    assert path is not None
    names = [f"s{number}" for number in range(8)]
    await add(engine, *map(make_session, names))
    acknowledged = dict.fromkeys(names, 0)
    stop, many = False, asyncio.Event()

    async def write(name: str) -> None:
        while not stop:
            await append(engine, make_append(name, *said(f"{acknowledged[name]} {'x' * 2_000}")))
            acknowledged[name] += 1
            if min(acknowledged.values()) == 50:
                many.set()

    writers = [asyncio.create_task(write(name)) for name in names]
    await many.wait()
    before, steps = dict(acknowledged), list[tuple[int, int]]()
    size = await asyncio.to_thread(back_up, path, copy, told=lambda done, of: steps.append((done, of)))
    stop = True
    await asyncio.gather(*writers)

    assert size == copy.stat().st_size
    assert copy.stat().st_mode & 0o777 == 0o600
    assert len(steps) > 10
    assert steps[-1][0] == steps[-1][1]
    assert sum(acknowledged.values()) > sum(before.values()), "the writers went on"
    restored = await open_engine(f"sqlite:///{copy}", queue_max=10, pool_max=2, command_timeout_seconds=5)
    try:
        for name in names:
            log = await read_whole_log(restored, name)
            assert [seq for seq, _ in log] == list(range(1, len(log) + 1))
            assert [text.split()[0] for _, text in log] == [str(number) for number in range(len(log))]
            assert before[name] <= len(log) <= acknowledged[name]
    finally:
        await restored.close()
    assert left_in(tmp_path) == []


async def test_what_is_there_is_not_overwritten(database: str, tmp_path: Path) -> None:
    await migrate(database)
    path, copy = sqlite_path(database), tmp_path / "copy.db"
    assert path is not None
    copy.write_text("mine")

    with pytest.raises(Conflict, match=r"copy\.db exists, and is not overwritten"):
        back_up(path, copy, told=untold)

    assert copy.read_text() == "mine"
    assert left_in(tmp_path) == []


async def test_what_comes_to_be_there_meanwhile_is_not_overwritten_either(database: str, tmp_path: Path) -> None:
    await migrate(database)
    path, copy = sqlite_path(database), tmp_path / "copy.db"
    assert path is not None

    with pytest.raises(Conflict):
        back_up(path, copy, told=lambda *_: (copy.write_text("mine"), None)[1])

    assert copy.read_text() == "mine"


def test_where_there_is_no_database_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no database"):
        back_up(tmp_path / "none.db", tmp_path / "copy.db", told=untold)

    assert list(tmp_path.iterdir()) == []


async def test_where_nothing_can_be_written_it_says_so(database: str, tmp_path: Path) -> None:
    await migrate(database)
    path = sqlite_path(database)
    assert path is not None

    with pytest.raises(Unavailable, match="cannot be written"):
        back_up(path, tmp_path / "none" / "copy.db", told=untold)


def test_what_is_no_database_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("no database" * 1_000)

    with pytest.raises(Unavailable):
        back_up(path, tmp_path / "copy.db", told=untold)

    assert [entry.name for entry in tmp_path.iterdir()] == ["text.db"]


async def test_a_disk_that_is_full_leaves_nothing(database: str, tmp_path: Path) -> None:
    await migrate(database)
    path = sqlite_path(database)
    assert path is not None

    def fill_disk(_done: int, _of: int) -> None:
        raise apsw.FullError("database or disk is full")

    with pytest.raises(Unavailable, match="cannot be copied: database or disk is full"):
        back_up(path, tmp_path / "copy.db", told=fill_disk)

    assert left_in(tmp_path) == []
    assert not (tmp_path / "copy.db").exists()


async def test_a_database_that_is_damaged_is_found_by_its_copy(engine: Engine, database: str, tmp_path: Path) -> None:
    await add(engine, *(make_session(f"s{number}") for number in range(500)))
    path = sqlite_path(database)
    assert path is not None
    connection = apsw.Connection(str(path))
    connection.execute("pragma writable_schema = on")
    connection.execute("delete from sqlite_master where name = 'sessions_by_created'")  # its pages are nobody's now
    connection.close()

    with pytest.raises(Unavailable, match="the copy is not sound"):
        back_up(path, tmp_path / "copy.db", told=untold)

    assert not (tmp_path / "copy.db").exists()


async def test_a_copy_that_is_stopped_leaves_nothing(engine: Engine, database: str, tmp_path: Path) -> None:
    await add(engine, make_session("s"))
    path = sqlite_path(database)
    assert path is not None

    def stop(_done: int, _of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(path, tmp_path / "copy.db", told=stop)

    assert left_in(tmp_path) == []
    assert not (tmp_path / "copy.db").exists()
