"""Bring a database's schema to what this release needs: numbered files, each in a transaction, one process at a time.

A schema only ever grows by steps that the release before can live with (expand, then contract), so that the processes
of a cluster can be replaced one after the other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from sessiond.core.errors import SessiondError, Unavailable
from sessiond.storage.engine import Schema
from sessiond.storage.sqlite import connect

LOCK_SECONDS: Final = 600.0  # another process may be migrating a large database
LOCK: Final = 7_365_737_369  # any number that nobody else takes an advisory lock on in this database
_TABLE: Final = (
    "create table if not exists schema_migrations (version {integer} primary key, name text, applied_at_us {integer})"
)


class SchemaTooNew(SessiondError):
    """The database was migrated by a newer release."""


class Migration(msgspec.Struct, frozen=True):
    version: int
    name: str
    sql: str


def load_migrations(engine: str) -> list[Migration]:
    """Return the migrations of `engine`, in order."""
    folder = files("sessiond.storage") / "migrations" / engine
    found = [
        Migration(int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_text())
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.version)


def migrate_sqlite(path: Path) -> list[str]:
    """Create the file if need be, bring its schema up to date, and return the names of the migrations that ran.

    Raises:
        SchemaTooNew: a newer sessiond has been here.
        Unavailable: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Nobody else on the machine is to read what agents and people say; the files beside it follow.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise Unavailable(f"the database {path} cannot be made: {error}") from error
    connection = connect(path)
    ran = []
    try:
        connection.execute("begin exclusive")
        connection.execute(_TABLE.format(integer="integer"))
        for migration in _missing(load_migrations("sqlite"), sqlite_schema(connection).version):
            connection.execute(migration.sql)
            connection.execute(
                "insert into schema_migrations values (?, ?, ?)", (migration.version, migration.name, _now_us())
            )
            ran.append(migration.name)
        connection.execute("commit")
    except apsw.Error as error:
        raise Unavailable(f"the database {path} cannot be migrated: {error}") from error
    finally:
        connection.close()
    return ran


async def migrate_postgres(url: str) -> list[str]:
    """Bring the schema up to date and return the names of the migrations that ran.

    Raises:
        SchemaTooNew: a newer sessiond has been here.
        Unavailable: the server cannot be reached, or does not let us.
    """
    import asyncpg  # an extra: who keeps sessions in a file needs no driver

    ran = []
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await connection.execute("select pg_advisory_lock($1)", LOCK, timeout=LOCK_SECONDS)
            await connection.execute(_TABLE.format(integer="bigint"))
            schema = await postgres_schema(connection)
            for migration in _missing(load_migrations("postgres"), schema.version):
                async with connection.transaction():
                    await connection.execute(migration.sql)
                    await connection.execute(
                        "insert into schema_migrations values ($1, $2, $3)",
                        migration.version,
                        migration.name,
                        _now_us(),
                    )
                ran.append(migration.name)
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        raise Unavailable(f"PostgreSQL cannot be migrated ({type(error).__name__}: {error})") from error
    return ran


def sqlite_schema(connection: apsw.Connection) -> Schema:
    """Return the schema's version as this database has it."""
    known = connection.execute("select 1 from sqlite_master where name = 'schema_migrations'").fetchone()
    row = connection.execute("select max(version) from schema_migrations").fetchone() if known else None
    return _schema("sqlite", row)


async def postgres_schema(connection: Any) -> Schema:
    """Return the schema's version as this database has it."""
    known = await connection.fetchval("select to_regclass('schema_migrations')")
    row = await connection.fetchrow("select max(version) from schema_migrations") if known else None
    return _schema("postgres", row)


def _schema(engine: str, row: Sequence[Any] | None) -> Schema:
    version = row[0] if row is not None and row[0] is not None else 0
    return Schema(version=version, newest=load_migrations(engine)[-1].version)


def _missing(migrations: list[Migration], version: int) -> list[Migration]:
    newest = migrations[-1].version
    if version > newest:
        raise SchemaTooNew(
            f"the database has schema {version} and this sessiond knows {newest}: run the newer sessiond, "
            "or restore the backup from before its first start"
        )
    return [migration for migration in migrations if migration.version > version]


def _now_us() -> int:
    return time.time_ns() // 1000
