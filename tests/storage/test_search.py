"""The index as rows: numbers in the order of time, pieces that go, and no statement that reads a table through."""

from __future__ import annotations

import pytest

from sessiond.core.caller import Workspace
from sessiond.core.ids import SessionId
from sessiond.core.postings import Segment, first_doc
from sessiond.storage import search, workspaces
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.statements import load_statements
from tests.storage.making import ELSEWHERE, WORKSPACE, add, make_session, query
from tests.storage.plans import read_through

SEGMENT = Segment(id=1, key_id=0, docs=2, bits=1, oldest=10, newest=20)
LOOKS = (
    "search_to_index",
    "search_tails",
    "search_opening",
    "search_quiet",
    "search_again",
    "search_owner",
    "search_docs_taken",
    "search_docs_drop",
    "search_docs_between",
    "search_docs_of_session",
    "search_segments",
    "search_segments_touched",
    "search_segment_dirty",
    "search_segment_gone",
    "search_bucket",
    "search_postings_range",
    "search_postings_drop",
    "search_names_drop",
    "search_locate",
    "search_buckets",
    "search_quiet_each",
    "message_tails",
    "messages_at",
    "messages_of_docs",
)


async def add_segment(engine: Engine, segment: Segment = SEGMENT, *, buckets: int = 2) -> None:
    async def operation(tx: Tx) -> None:
        await search.add_segment(tx, WORKSPACE, segment)
        await search.add_buckets(tx, WORKSPACE, segment.id, [(n, b"%d" % n) for n in range(buckets)])

    await engine.write(operation)


@pytest.mark.parametrize("name", LOOKS)
async def test_no_table_is_read_through(engine: Engine, database: str, name: str) -> None:
    sql = load_statements(engine.name).get(name)

    steps = await read_through(database, sql) if sql is not None else []

    assert [step for step in steps if step != "SCAN w"] == [], "w: what a bounded look has found"


async def test_numbers_that_others_have_are_not_given_again(engine: Engine) -> None:
    async def number(tx: Tx, *places: tuple[int, str, int]) -> list[int]:
        docs = await search.number(tx, WORKSPACE, [(at_us, SessionId(name), seq) for at_us, name, seq in places])
        await search.add_docs(tx, WORKSPACE, docs, key_id=0)
        return [doc.doc for doc in docs]

    async def operation(tx: Tx) -> list[list[int]]:
        return [
            await number(tx, *[(5, "a", seq) for seq in range(300)]),
            await number(tx, (5, "b", 1), (5, "b", 2), (6, "b", 3)),
            await number(tx, (4, "c", 1), (5, "c", 2), (7, "c", 3)),
        ]

    start = first_doc(5)
    many, few, others = await engine.write(operation)

    assert many == [*range(start, start + 300)], "256 of one microsecond, and on into the next"
    assert few == [start + 300, start + 301, start + 302]
    assert others == [first_doc(4), start + 303, first_doc(7)]


async def test_a_segment_that_was_changed_is_not_retired(engine: Engine) -> None:
    await add_segment(engine)

    async def touch(tx: Tx) -> None:
        await tx.run("search_segments_touched", workspace=WORKSPACE, oldest=15, newest=15)

    async def retire(tx: Tx) -> bool:
        return await search.retire(tx, WORKSPACE, SEGMENT, at_us=1)

    async def read(tx: Tx) -> list[Segment]:
        return await search.read_segments(tx, WORKSPACE)

    assert await engine.read(read) == [SEGMENT]
    await engine.write(touch)
    assert not await engine.write(retire)
    assert [segment.dirty for segment in await engine.read(read)] == [True]
    assert await engine.read(lambda tx: search.read_segments(tx, ELSEWHERE)) == []
    assert await engine.read(lambda tx: search.find_dirty(tx, ("", 0))) == (WORKSPACE, 1)
    assert await engine.read(lambda tx: search.find_dirty(tx, (WORKSPACE, 1))) is None


async def test_a_segment_that_nobody_reads_goes_in_pieces_after_a_while(engine: Engine, database: str) -> None:
    await add_segment(engine, buckets=search.DROP_MAX + 5)
    await engine.write(lambda tx: search.retire(tx, WORKSPACE, SEGMENT, at_us=1_000))

    async def sweep(tx: Tx) -> int:
        return await search.sweep(tx, now_us=1_000 + search.GONE_KEPT_US + 1)

    assert await engine.write(lambda tx: search.sweep(tx, now_us=1_000 + search.GONE_KEPT_US)) == 0
    assert [await engine.write(sweep) for _ in range(3)] == [search.DROP_MAX, 5, 0]
    for table in ("search_segments", "search_postings"):
        assert await query(database, f"select * from {table}") == []


async def test_a_segment_that_took_too_long_is_not_begun(engine: Engine) -> None:
    assert not await engine.write(lambda tx: search.begin(tx, WORKSPACE, SEGMENT))


async def test_buckets_are_read_by_segment_and_number(engine: Engine) -> None:
    await add_segment(engine)

    wanted = [(1, 0), (1, 1), (1, 2), (2, 0)]
    found = await engine.read(lambda tx: search.read_buckets(tx, WORKSPACE, wanted))

    assert found == {(1, 0): b"0", (1, 1): b"1"}
    assert await engine.read(lambda tx: search.read_buckets(tx, ELSEWHERE, wanted)) == {}


async def test_what_is_not_indexed_is_told_from_what_may_not_be(engine: Engine) -> None:
    await add(engine, *(make_session(name) for name in "abc"))

    async def read(tx: Tx, limit: int) -> tuple[int, int]:
        opening = await search.read_opening(tx, WORKSPACE, limit=limit)
        return opening.to_look_at, len(await search.read_tails(tx, WORKSPACE, limit=limit))

    assert await engine.read(lambda tx: read(tx, 4)) == (0, 0), "nobody has made the workspace"
    await engine.write(lambda tx: workspaces.insert(tx, Workspace(WORKSPACE, "0" * 64, 1)))
    assert await engine.read(lambda tx: read(tx, 4)) == (3, 0)
    assert await engine.read(lambda tx: read(tx, 2)) == (2, 0)
