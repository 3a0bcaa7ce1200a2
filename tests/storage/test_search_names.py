"""Sealed names are found by any part of them, and metadata by whole values, by keyed hashes of either."""

from __future__ import annotations

import asyncio
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.core.ids import WorkspaceId
from sessiond.storage import search, search_names
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.open import migrate
from sessiond.storage.seals import IndexKey
from tests.storage.making import ELSEWHERE, WORKSPACE, another_engine, make_session, query

KEY = IndexKey(1, b"one" * 10)
OTHER = IndexKey(2, b"two" * 10)
NAMES = st.text(alphabet="abAB @.é", max_size=8)

numbers = count()


async def put(
    engine: Engine, session_id: str, text: str, *, key: IndexKey = KEY, workspace: WorkspaceId = WORKSPACE
) -> None:
    session = make_session(session_id, workspace=workspace)
    await engine.write(lambda tx: search_names.put_names(tx, key, session, text))


async def named(
    engine: Engine,
    part: str,
    *keys: IndexKey,
    after: str = "",
    limit: int = 100,
    workspace: WorkspaceId = WORKSPACE,
) -> list[str] | None:
    async def operation(tx: Tx) -> list[str] | None:
        found = await search_names.find_named(tx, workspace, keys or (KEY,), part, after=after, limit=limit)
        return [*found] if found is not None else None

    return await engine.read(operation)


async def test_a_session_is_found_by_any_part_of_its_names(engine: Engine) -> None:
    await put(engine, "s", "Alice Liddell\nalice@wonderland.example")

    for part in ("alice", "LIC", "ce", "e L", "wonderland.exam", "Alice Liddell"):
        assert await named(engine, part) == ["s"], part
    for part in ("bob", "zz", "liddell wonderland"):
        assert await named(engine, part) == [], part
    assert await named(engine, "a") is None
    assert await named(engine, "alice", OTHER) == []
    assert await named(engine, "alice", workspace=ELSEWHERE) == []


async def test_names_that_are_put_again_replace_what_was_there(engine: Engine, database: str) -> None:
    await put(engine, "s", "Alice")
    await put(engine, "s", "Bob", key=OTHER)

    assert await named(engine, "alice", OTHER, KEY) == []
    assert await named(engine, "bob", OTHER, KEY) == ["s"]
    await put(engine, "s", "")
    assert await query(database, "select * from search_names") == []


async def test_sessions_are_found_page_by_page_under_several_keys(engine: Engine) -> None:
    for number in range(10):
        await put(engine, f"s{number}", "Alice", key=(KEY, OTHER)[number % 2])

    first = await named(engine, "lice", KEY, OTHER, limit=4)

    assert first == ["s0", "s1", "s2", "s3"]
    assert await named(engine, "lice", KEY, OTHER, limit=100, after="s3") == [f"s{n}" for n in range(4, 10)]


async def test_what_is_removed_takes_its_names_along(engine: Engine, database: str) -> None:
    await put(engine, "s", "Alice")
    await put(engine, "t", "Alice")

    assert await engine.write(lambda tx: search.remove_some(tx, WORKSPACE, "s", limit=10)) == 0

    assert {row[0] for row in await query(database, "select session_id from search_names")} == {"t"}


@given(names=st.lists(NAMES, min_size=1, max_size=5), part=NAMES)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_session_whose_name_has_a_part_is_a_candidate(database: str, names: list[str], part: str) -> None:
    async def compare() -> None:
        await migrate(database)
        workspace = WorkspaceId(f"w{next(numbers)}")
        async with another_engine(database) as engine:
            for number, name in enumerate(names):
                await put(engine, str(number), name, workspace=workspace)
            found = await named(engine, part, workspace=workspace)
            if found is not None:
                wanted = {str(n) for n, name in enumerate(names) if part.casefold() in name.casefold()}
                assert set(found) >= wanted

    asyncio.run(compare())
