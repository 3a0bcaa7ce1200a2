"""Rows for the storage tests, and a look past the engine at what the database holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import apsw
import asyncpg
import msgspec

from sessiond.core.event import Entry, Event, make_entry
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.metadata import JsonObject, pack_metadata
from sessiond.core.page import LogPage
from sessiond.core.session import ENDED, NewSession, Session, Status
from sessiond.storage import events, sessions
from sessiond.storage.appends import Append
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.open import open_engine, sqlite_path

WORKSPACE: Final = WorkspaceId("here")
ELSEWHERE: Final = WorkspaceId("elsewhere")
NOW: Final = 1_700_000_000_000_000


@asynccontextmanager
async def another_engine(database: str, *, queue_max: int = 10_000) -> AsyncIterator[Engine]:
    """Open a database that is open already, as another process would."""
    engine = await open_engine(database, queue_max=queue_max, pool_max=5, command_timeout_seconds=20)
    try:
        yield engine
    finally:
        await engine.close()


def make_session(
    session_id: str,
    *,
    workspace: WorkspaceId = WORKSPACE,
    at_us: int = NOW,
    status: Status = Status.ACTIVE,
    metadata: JsonObject | None = None,
    **said: Any,
) -> Session:
    begun = NewSession(metadata=pack_metadata(metadata), **said).begin(workspace, SessionId(session_id), at_us=at_us)
    return msgspec.structs.replace(begun, status=status, completed_at_us=at_us if status in ENDED else None)


async def add(engine: Engine, *made: Session) -> None:
    """Insert sessions, which must be new."""

    async def operation(tx: Tx) -> list[Session | None]:
        return [await sessions.insert(tx, session) for session in made]

    assert all(await engine.write(operation))


async def change(engine: Engine, session_id: str, **fields: Any) -> Session:
    async def operation(tx: Tx) -> Session:
        before = await sessions.take(tx, WORKSPACE, session_id, user_id=None)
        after = msgspec.structs.replace(before, **fields)
        return await sessions.save(tx, before, after)

    return await engine.write(operation)


async def remove(engine: Engine, session_id: str) -> None:
    async def operation(tx: Tx) -> None:
        await sessions.delete(tx, await sessions.take(tx, WORKSPACE, session_id, user_id=None))

    await engine.write(operation)


async def find(engine: Engine, session_id: str, *, workspace: WorkspaceId = WORKSPACE) -> Session | None:
    async def operation(tx: Tx) -> Session | None:
        return await sessions.find(tx, workspace, session_id, user_id=None)

    return await engine.read(operation)


async def must_find(engine: Engine, session_id: str) -> Session:
    found = await find(engine, session_id)
    assert found is not None
    return found


def said(*texts: str) -> tuple[Entry, ...]:
    return tuple(make_entry("message.user", {"role": "user", "content": text}) for text in texts)


def make_append(
    session_id: str,
    *entries: Entry,
    workspace: WorkspaceId = WORKSPACE,
    user_id: str | None = None,
    at_us: int = NOW + 1,
) -> Append:
    return Append(
        workspace_id=workspace,
        session_id=SessionId(session_id),
        user_id=user_id,
        at_us=at_us,
        actor="key_1",
        duration_us=7,
        entries=entries,
    )


async def append(engine: Engine, wanted: Append) -> int | None:
    return await engine.combine(events.append_each, wanted)


async def read_log(engine: Engine, session_id: str, **how: Any) -> LogPage[Event]:
    session = await must_find(engine, session_id)

    async def operation(tx: Tx) -> LogPage[Event]:
        return await events.read_page(tx, session, **({"limit": 1_000} | how))

    return await engine.scan(operation)


async def read_whole_log(engine: Engine, session_id: str) -> list[tuple[int, str]]:
    """Return the seq and text of every message, in the order of the pages."""
    found: list[tuple[int, str]] = []
    after = 0
    while True:
        page = await read_log(engine, session_id, after=after)
        found += [(event.seq, msgspec.json.decode(event.body)["content"]) for event in page.events]
        if not page.more:
            return found
        after = page.events[-1].seq


async def query(database: str, sql: str) -> Sequence[Any]:
    """Ask the database itself."""
    path = sqlite_path(database)
    if path is not None:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(10_000)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()
    server = await asyncpg.connect(database)
    try:
        return [tuple(row) for row in await server.fetch(sql)]
    finally:
        await server.close()


async def execute(database: str, sql: str) -> None:
    """Change the database by hand."""
    await query(database, sql)
