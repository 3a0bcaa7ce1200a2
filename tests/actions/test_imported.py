"""Exported, imported and exported again a workspace is the same, to the byte, whichever engine it was on meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from sessiond.actions import sessions
from sessiond.actions.call import Call
from sessiond.core.bundle import Scope, Subject
from sessiond.core.session import SessionFilter
from sessiond.storage.engine import Engine
from sessiond.storage.open import migrate, open_engine
from tests.actions.bundling import bring, bundle, dump, fill
from tests.actions.calling import ME, make_workspaces
from tests.conftest import make_database


@asynccontextmanager
async def another(engine_name: str, folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Open a new, empty database of an engine, with the same workspaces."""
    database = make_database(engine_name, folder, request)
    await migrate(database)
    engine = await open_engine(database, queue_max=1000, pool_max=3, command_timeout_seconds=20)
    try:
        await make_workspaces(engine)
        yield engine
    finally:
        await engine.close()


async def test_a_workspace_is_the_same_after_it_was_on_the_other_engine_and_back(
    engine: Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await fill(engine)
    first = await bundle(engine, secrets=True)
    other = "postgres" if engine.name == "sqlite" else "sqlite"
    async with another(other, tmp_path / "there", request) as there:
        done = await bring(there, first)
        second = await bundle(there, secrets=True)
        async with another(engine.name, tmp_path / "back", request) as back:
            await bring(back, second)
            third = await bundle(back, secrets=True)

    assert first == second == third
    assert done.added == {
        "agents": 2,
        "sessions": 4,
        "events": sum(b'"type":"event"' in line[:20] for line in first),
        "runs": 8,
        "inboxes": 4,
        "mails": 4,
        "waits": 10,
    }
    assert not any(done.kept.values())


@pytest.mark.parametrize(
    "subject", [Subject(Scope.AGENT, "a"), Subject(Scope.USER, "ada"), Subject(Scope.SESSION, "s")]
)
async def test_a_part_of_a_workspace_is_the_same_elsewhere(
    engine: Engine, subject: Subject, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await fill(engine)
    first = await bundle(engine, subject)
    async with another("sqlite", tmp_path / "there", request) as there:
        await bring(there, first)
        second = await bundle(there, subject)

    assert first == second
    ids = [msgspec.json.decode(line).get("id") for line in first if line.startswith(b'{"type":"session"')]
    expected = {Scope.AGENT: ["asks", "parked", "s"], Scope.USER: ["parked", "s"], Scope.SESSION: ["s"]}
    assert [*filter(None, ids)] == expected[subject.scope]


async def test_what_was_imported_is_as_it_was_in_every_table(
    engine: Engine, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await fill(engine)
    lines = await bundle(engine, secrets=True)
    same = ("events", "inboxes", "mails", "mail_contents", "session_details", "session_metadata", "waits")
    before = await dump(database, *same)
    before_lists = await _listed(engine)
    async with another(engine.name, tmp_path / "there", request) as there:
        await bring(there, lines)
        after_lists = await _listed(there)

        assert await _dump_of(there, *same) == before
    assert after_lists == before_lists


async def _dump_of(engine: Engine, *tables: str) -> dict[str, list[str]]:
    found = {}
    for table in tables:

        async def read(tx: object, table: str = table) -> list[str]:
            connection = tx._connection  # type: ignore[attr-defined]  # past the engine
            rows = connection.execute(f"select * from {table}").fetchall() if engine.name == "sqlite" else None
            if rows is None:
                rows = [tuple(row) for row in await connection.fetch(f"select * from {table}")]
            return sorted(map(repr, rows))

        found[table] = await engine.read(read)
    return found


async def _listed(engine: Engine) -> list[object]:
    """Return what lists show: sessions with their totals, and by a value in their metadata."""
    call, found = Call(engine, ME), list[object]()
    for wanted in (
        SessionFilter(),
        SessionFilter(user_ids=("ada",)),
        SessionFilter(agent_ids=("a",)),
        SessionFilter(metadata=(("plan", "gold"),)),
        SessionFilter(query="łove"),
    ):
        page = await sessions.read_page(call, wanted, limit=10, with_total=True)
        found.append((page.total, page.sessions))
    return found
