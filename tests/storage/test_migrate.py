"""Migrations: once each, one process at a time, never backwards."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import apsw
import asyncpg
import pytest

from sessiond.core.errors import Unavailable
from sessiond.storage.migrate import SchemaTooNew, load_migrations, migrate_sqlite
from sessiond.storage.open import migrate, open_engine, sqlite_path
from sessiond.storage.sqlite import connect
from tests.storage.making import query


async def execute(database: str, sql: str) -> None:
    path = sqlite_path(database)
    if path is not None:
        file = apsw.Connection(str(path))
        file.execute(sql)
        file.close()
        return
    server = await asyncpg.connect(database)
    await server.execute(sql)
    await server.close()


async def test_a_database_is_migrated_once(database: str, engine_name: str) -> None:
    assert await migrate(database) == [migration.name for migration in load_migrations(engine_name)]
    assert await migrate(database) == []


async def test_a_newer_schema_is_refused_and_left_alone(database: str) -> None:
    await migrate(database)
    await execute(database, "insert into schema_migrations values (9999, 'later', 1)")
    before = await query(database, "select * from schema_migrations order by version")

    with pytest.raises(SchemaTooNew, match="9999"):
        await migrate(database)

    assert await query(database, "select * from schema_migrations order by version") == before
    engine = await open_engine(database, queue_max=10, pool_max=2, command_timeout_seconds=20)
    schema = await engine.schema()
    await engine.close()
    assert schema.version == 9999 > schema.newest


async def test_an_empty_database_has_schema_nought(database: str) -> None:
    await execute(database, "create table other (x integer)")

    engine = await open_engine(database, queue_max=10, pool_max=2, command_timeout_seconds=20)
    schema = await engine.schema()
    await engine.close()

    assert schema.version == 0


async def test_of_several_processes_that_migrate_at_once_one_does(database: str, engine_name: str) -> None:
    program = (
        "import asyncio, sys; from sessiond.storage.open import migrate; print(*asyncio.run(migrate(sys.argv[1])))"
    )

    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, database, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    ended = await asyncio.gather(*(process.communicate() for process in started))

    assert [process.returncode for process in started] == [0, 0, 0], ended
    assert sorted(out.decode().split() for out, _ in ended) == [
        *([], [], [migration.name for migration in load_migrations(engine_name)])
    ]


def test_many_who_make_one_file_at_once_make_one(tmp_path: Path) -> None:
    for attempt in range(5):
        path, ran, barrier = tmp_path / f"{attempt}.db", list[list[str]](), threading.Barrier(6)

        def run(path: Path = path, ran: list[list[str]] = ran, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            ran.append(migrate_sqlite(path))

        threads = [threading.Thread(target=run) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(map(len, ran)) == [0, 0, 0, 0, 0, len(load_migrations("sqlite"))]


async def test_both_databases_have_the_same_tables(database: str, engine_name: str, tmp_path: Path) -> None:
    """The columns of each, whether they may be null, and how they are indexed by uniqueness."""
    reference = f"sqlite:///{tmp_path}/reference.db"
    await migrate(reference)
    await migrate(database)
    columns = (
        'select t.name, c.name, c."notnull" from sqlite_master t join pragma_table_xinfo(t.name) c'
        " where t.type = 'table' and t.name <> 'schema_migrations' order by 1, 2"
    )
    expected = [(table, column, bool(strict)) for table, column, strict in await query(reference, columns)]
    if engine_name == "postgres":
        columns = (
            "select table_name::text, column_name::text, is_nullable = 'NO' from information_schema.columns"
            " where table_schema = 'public' and table_name <> 'schema_migrations'"
            ' order by table_name collate "C", column_name collate "C"'
        )

    found = [(table, column, bool(strict)) for table, column, strict in await query(database, columns)]

    assert found == expected


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_migrations_are_numbered_without_gaps(engine: str) -> None:
    names = [migration.name for migration in load_migrations(engine)]

    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


async def test_where_no_database_can_be_it_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "text.db").write_text("not a database" * 100)

    for url in (f"sqlite:///{tmp_path}/file/x.db", f"sqlite:///{tmp_path}/text.db", "postgresql://127.0.0.1:1/none"):
        with pytest.raises(Unavailable):
            await migrate(url)


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "sessiond.db"
    migrate_sqlite(path)
    connection = connect(path)
    connection.execute("create table t (x)")

    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    connection.close()
