"""Indexing: everything that is said comes into the index once, whoever says it and however many look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import pytest

from sessiond.actions import indexing, sessions
from sessiond.actions.call import Call, itself
from sessiond.actions.indexing import START, Indexer
from sessiond.core.errors import Conflict, Damaged
from sessiond.core.event import make_entry
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.session import NewSession
from sessiond.storage import appends, events, seals, search
from sessiond.storage import sessions as session_rows
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.seals import IndexKey
from sessiond.storage.search import Lag, Tail
from sessiond.storage.slots import SLOT_US
from tests.actions.calling import ELSEWHERE, HERE, append, caller, create, make_workspaces
from tests.actions.indexing import clean_all, drop, index_all, look_for, page_through, places, tokens_of
from tests.storage import making
from tests.storage.making import NOW, add, another_engine, make_append, make_session, query, said

LATER: Final = NOW + 100 * SLOT_US


async def flags(database: str) -> list[tuple[Any, ...]]:
    return [*await query(database, "select id, to_index from sessions order by id")]


async def noted(engine: Engine) -> None:
    async def operation(tx: Tx) -> None:
        await events.note(tx, make_append("s", *said("word"), workspace=HERE, at_us=NOW + 2))

    await engine.write(operation)


async def noted_with_others(engine: Engine) -> None:
    async def operation(tx: Tx) -> None:
        await events.note_each(tx, [make_append("s", *said("word"), workspace=HERE, at_us=NOW + 2)])

    await engine.write(operation)


async def bumped(engine: Engine) -> None:
    await making.append(engine, make_append("s", *said("word"), workspace=HERE, at_us=NOW + 2))


async def bumped_with_others(engine: Engine) -> None:
    await asyncio.gather(
        *(making.append(engine, make_append("s", *said("word"), workspace=HERE, at_us=NOW + 2)) for _ in range(5))
    )


async def leased(engine: Engine) -> None:
    async def operation(tx: Tx) -> None:
        await tx.run("lease_take", workspace=HERE, id="s", worker="w", until_us=LATER)
        row = await tx.one(
            "lease_bump",
            workspace=HERE,
            id="s",
            worker="w",
            fence=1,
            events=1,
            messages=1,
            bytes=10,
            largest=10,
            at_us=NOW + 2,
        )
        assert row is not None
        wanted = make_append("s", *said("word"), workspace=HERE, at_us=NOW + 2)
        await appends.move_slot(tx, wanted, row[1])
        await events.insert(tx, wanted, first_seq=row[0], key_id=None)

    await engine.write(operation)


async def taken(engine: Engine) -> None:
    async def operation(tx: Tx) -> None:
        before = await session_rows.take(tx, HERE, "s", user_id=None)
        after = await events.append_to(tx, before, make_append("s", *said("word"), workspace=HERE, at_us=NOW + 2))
        await session_rows.save(tx, before, after)

    await engine.write(operation)


WAYS: Final[tuple[Callable[[Engine], Awaitable[None]], ...]] = (
    noted,
    noted_with_others,
    bumped,
    bumped_with_others,
    leased,
    taken,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_quiet_session_is_looked_at_again_whichever_way_it_is_appended_to(
    engine: Engine, database: str, way: Callable[[Engine], Awaitable[None]]
) -> None:
    await make_workspaces(engine)
    await add(engine, make_session("s", workspace=HERE))
    assert await flags(database) == [("s", 1)]
    await index_all(engine)
    assert await flags(database) == [("s", 0)], "it was last updated years ago"

    await way(engine)  # within the slot in which it was updated last

    assert await flags(database) == [("s", 1)]
    assert (await look_for(engine, "word")).found
    await index_all(engine)
    assert await flags(database) == [("s", 0)]
    assert (await look_for(engine, "word")).found


async def test_a_session_that_is_in_use_goes_on_being_looked_at(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await append(engine, "s", "word")

    await index_all(engine)

    assert await flags(database) == [("s", 1)], "the next append finds its slot as it is, and sets nothing"
    assert await index_all(engine) == 0


async def test_what_is_appended_while_it_is_made_quiet_is_not_lost(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await add(engine, make_session("s", workspace=HERE))
    indexer = Indexer(engine, name="one")
    looked = await indexer.look(START)
    await bumped(engine)

    await indexer.index(looked.tails)

    assert await flags(database) == [("s", 1)]


async def test_everything_is_indexed_once_by_however_many(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await add(engine, *(make_session(f"s{n}", workspace=HERE) for n in range(20)))

    async def talk(other: Engine, number: int) -> None:
        for turn in range(30):
            wanted = make_append(f"s{number}", *said(f"word turn{turn}"), workspace=HERE, at_us=NOW + turn)
            while await making.append(other, wanted) is None:
                pass

    async with another_engine(database) as other:
        talking = asyncio.gather(*(talk((engine, other)[number % 2], number) for number in range(20)))
        while not talking.done():
            await asyncio.gather(index_all(engine, name="one"), index_all(other, name="two"))
        await talking
        await asyncio.gather(index_all(engine, name="one"), index_all(other, name="two"))
        await own_no_more(engine)
        await index_all(other, name="two")

    docs = await query(database, "select session_id, seq from search_docs order by session_id, seq")
    assert sorted(docs) == sorted((f"s{n}", seq) for n in range(20) for seq in range(1, 31))
    assert len(await page_through(engine, "turn7", limit=100)) == 20


async def own_no_more(engine: Engine) -> None:
    async def operation(tx: Tx) -> None:
        await search.own(tx, HERE, owner="nobody", now_us=-(2**40))

    await engine.write(operation)


async def test_a_workspace_is_left_to_who_indexes_it_until_that_ends(engine: Engine) -> None:
    await make_workspaces(engine)
    await add(engine, make_session("s", workspace=HERE))
    await bumped(engine)
    assert await index_all(engine, name="one") == 1
    await bumped(engine)

    assert await index_all(engine, name="two") == 0
    await own_no_more(engine)
    assert await index_all(engine, name="two") == 1


async def test_what_was_read_of_an_index_that_has_changed_is_not_written(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_workspaces(engine)
    await add(engine, make_session("s", workspace=HERE))
    await bumped(engine)
    indexer = Indexer(engine, name="one")
    looked = await indexer.look(START)
    original = indexing._gather

    async def remove() -> None:
        await drop(engine, "s")

    loop = asyncio.get_running_loop()

    def gather_late(*given: Any) -> Any:
        asyncio.run_coroutine_threadsafe(remove(), loop).result()
        return original(*given)

    with monkeypatch.context() as patched:
        patched.setattr(indexing, "_gather", gather_late)
        assert await indexer.index(looked.tails) == 0

    assert await query(database, "select * from search_docs") == []
    assert await index_all(engine) == 1


async def test_a_log_without_a_message_is_passed_by_once(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")

    assert await index_all(engine) == 1
    assert await index_all(engine) == 0
    assert await query(database, "select * from search_segments") == []


async def test_a_session_that_is_damaged_keeps_no_other_waiting(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_workspaces(engine)
    for session_id in "abc":
        await create(engine, session_id)
        await append(engine, session_id, "word")
    original = events.read_tails

    async def read_tails(tx: Tx, workspace_id: WorkspaceId, stretches: Any, **bounds: Any) -> Any:
        if any(stretch[0] == "b" for stretch in stretches):
            raise Conflict("the message cannot be opened")
        return await original(tx, workspace_id, stretches, **bounds)

    with monkeypatch.context() as patched:
        patched.setattr(events, "read_tails", read_tails)
        await index_all(engine)
    assert await query(database, "select session_id from search_docs order by session_id") == [("a",), ("c",)]

    await index_all(engine)
    assert len(await query(database, "select session_id from search_docs")) == 3


async def test_a_long_log_is_indexed_in_batches(engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "BATCH_ROWS", 300)
    await make_workspaces(engine)
    await add(engine, make_session("s", workspace=HERE))
    for start in range(0, 700, 100):
        words = [f"word{number}" for number in range(start, start + 100)]
        quiet = [make_entry("run.text", {"text": "x"})] * 50
        await making.append(engine, make_append("s", *said(*words), *quiet, workspace=HERE, at_us=NOW + start))

    assert await index_all(engine) == 1_050

    assert [row[0] for row in await query(database, "select docs from search_segments order by id")] == [300, 300, 100]
    for number in (0, 299, 300, 699):
        assert len((await look_for(engine, f"word{number}")).found) == 1


async def test_large_messages_are_indexed_a_few_at_a_time(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "large")
    await create(engine, "small")
    for number in range(6):
        await append(engine, "large", f"large{number} {'x' * 1_000_000}")
    await append(engine, "small", "small")

    await index_all(engine)

    assert len(await query(database, "select * from search_docs")) == 7
    assert max(row[0] for row in await query(database, "select docs from search_segments")) <= 4
    for number in range(6):
        assert len((await look_for(engine, f"large{number}")).found) == 1


async def test_segments_are_merged_and_what_was_replaced_goes(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await add(engine, make_session("s", workspace=HERE))
    for number in range(70):
        await making.append(engine, make_append("s", *said(f"word n{number}"), workspace=HERE, at_us=NOW + number))
        await index_all(engine)

    live = "select docs from search_segments where gone_at_us is null order by docs"
    assert [row[0] for row in await query(database, live)] == [1, 1, 1, 1, 1, 1, 64]
    for number in (0, 63, 64, 69):
        assert len((await look_for(engine, f"n{number}")).found) == 1
    assert len(await page_through(engine, "word", limit=9)) == 70

    await clean_all(engine)

    assert len(await query(database, "select * from search_segments")) == 7
    assert len(await query(database, "select distinct segment from search_postings")) == 7
    assert len(await page_through(engine, "word", limit=9)) == 70


async def test_a_large_segment_is_written_in_pieces(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "PIECE_BYTES", 4_000)
    await make_workspaces(engine)
    await add(engine, make_session("s", workspace=HERE))
    for batch in range(8):
        words = [" ".join(f"w{batch}x{number}y{word}" for word in range(20)) for number in range(100)]
        await making.append(engine, make_append("s", *said(*words), workspace=HERE, at_us=NOW + batch))
        await index_all(engine)

    assert [*await query(database, "select docs from search_segments where gone_at_us is null")] == [(800,)]
    for batch in range(8):
        assert len((await look_for(engine, f"w{batch}x99y19")).found) == 1


async def test_a_segment_that_changes_while_it_is_merged_is_merged_anew(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_workspaces(engine)
    await add(engine, make_session("s", workspace=HERE), make_session("gone", workspace=HERE))
    indexer = Indexer(engine, name="one")
    for number in range(8):
        session_id = "gone" if number == 3 else "s"
        wanted = make_append(session_id, *said(f"word n{number}"), workspace=HERE, at_us=NOW + number)
        await making.append(engine, wanted)
        await indexer.index((await indexer.look(START)).tails)
    await making.remove(engine, "gone")
    original, loop = indexing._merge, asyncio.get_running_loop()

    async def remove() -> None:
        await drop(engine, "gone")

    def merge_late(*given: Any) -> Any:
        asyncio.run_coroutine_threadsafe(remove(), loop).result()
        return original(*given)

    with monkeypatch.context() as patched:
        patched.setattr(indexing, "_merge", merge_late)
        assert not await indexer.merge(HERE)

    assert await indexer.merge(HERE)
    assert [*await query(database, "select docs from search_segments where gone_at_us is null")] == [(7,)]
    assert len((await look_for(engine, "word")).found) == 7


async def test_two_workspaces_of_equal_content_share_no_entry(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    for workspace in (HERE, ELSEWHERE):
        await create(engine, "s", by=caller(workspace=workspace))
        await append(engine, "s", "the same words here", by=caller(workspace=workspace))
    await index_all(engine)

    tokens: dict[str, set[bytes]] = {HERE: set(), ELSEWHERE: set()}
    for workspace_id, entries in await tokens_of(database):
        count = int.from_bytes(entries[:8], "little")
        tokens[workspace_id] |= {entries[8 + 8 * n : 16 + 8 * n] for n in range(count)}
    assert len(tokens[HERE]) == len(tokens[ELSEWHERE]) == 4
    assert not tokens[HERE] & tokens[ELSEWHERE]


async def test_no_word_stands_in_the_index(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await append(engine, "s", "confidential")
    await index_all(engine)

    assert not any(b"confid" in entries.lower() for _, entries in await tokens_of(database))


async def test_a_session_made_again_under_its_id_is_indexed_anew(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await add(engine, make_session("s", workspace=HERE))
    await making.append(engine, make_append("s", *said("old", "older"), workspace=HERE))
    await index_all(engine)

    async def begin_again(tx: Tx) -> None:
        await session_rows.delete(tx, await session_rows.take(tx, HERE, "s", user_id=None))
        await session_rows.insert(tx, make_session("s", workspace=HERE, at_us=NOW + 5))

    await engine.write(begin_again)
    await making.append(engine, make_append("s", *said("new"), workspace=HERE, at_us=NOW + 6))
    assert places(await look_for(engine, "new")) == [("s", 1)]
    await index_all(engine)
    await clean_all(engine)

    assert places(await look_for(engine, "new")) == [("s", 1)]
    assert (await look_for(engine, "old")).found == []
    assert [*await query(database, "select seq from search_docs")] == [(1,)]


async def test_what_changes_its_key_is_indexed_with_the_new_one(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_workspaces(engine)
    for session_id in "ab":
        await create(engine, session_id)
        await append(engine, session_id, "word", "another word")
    await index_all(engine)
    keys = [IndexKey(7, b"new" * 10), (await engine.read(lambda tx: seals.read_index_keys(tx, HERE)))[0]]

    async def read_keys(*_: object) -> list[IndexKey]:
        return keys

    monkeypatch.setattr(seals, "read_index_keys", read_keys)
    assert len((await look_for(engine, "word")).found) == 4

    async def forget(tx: Tx) -> int:
        return await search.forget(tx, HERE, SessionId("a"), limit=10)

    assert await engine.write(forget) == 2
    assert len((await look_for(engine, "word")).found) == 4
    await index_all(engine)
    await clean_all(engine)
    assert len((await look_for(engine, "word")).found) == 4
    ids = await query(database, "select key_id, docs from search_segments where gone_at_us is null order by key_id")
    assert [*ids] == [(0, 2), (7, 2)]
    del keys[1]
    with pytest.raises(Damaged):  # what is not indexed with the key is in plain text, where all should be sealed
        await look_for(engine, "word")


async def test_a_look_is_at_one_workspace_and_passes_by_it(engine: Engine) -> None:
    await make_workspaces(engine)
    for workspace in (HERE, ELSEWHERE):
        await add(engine, make_session("a", workspace=workspace), make_session("b", workspace=workspace))
    indexer = Indexer(engine, name="one")

    first = await indexer.look(START)
    second = await indexer.look(indexing.past(first.tails))

    assert [tail.workspace_id for tail in first.tails] == [ELSEWHERE] * 2
    assert [tail.workspace_id for tail in second.tails] == [HERE] * 2
    assert (first.done, second.done) == (False, True)
    assert (await indexer.look(indexing.past(second.tails))).tails == []


async def test_it_is_known_how_far_the_index_is_behind(engine: Engine) -> None:
    await make_workspaces(engine)

    async def lag(workspace_id: WorkspaceId | None = None) -> Lag:
        return await engine.read(lambda tx: search.read_lag(tx, workspace_id))

    await add(engine, make_session("s", workspace=HERE), make_session("t", workspace=HERE))
    assert await lag() == Lag(0, 0, None)
    await making.append(engine, make_append("s", *said("one", "two"), workspace=HERE, at_us=NOW + 3))
    await making.append(engine, make_append("t", *said("one"), workspace=HERE, at_us=NOW + 5))

    assert await lag() == await lag(HERE) == Lag(2, 3, NOW + 3)
    assert await lag(ELSEWHERE) == Lag(0, 0, None)
    await index_all(engine)
    assert await lag() == Lag(0, 0, None)


async def test_the_words_that_are_remembered_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "TOKENS_MAX", 2)
    await make_workspaces(engine)
    await create(engine, "s")
    indexer = Indexer(engine, name="one")
    for _ in range(3):
        await append(engine, "s", "one two three")
        await indexer.index((await indexer.look(START)).tails)

    assert len((await look_for(engine, "three")).found) == 3
    assert sum(map(len, indexer._tokens.values())) == 3


def test_a_tail_of_another_session_begins_at_nothing() -> None:
    tail = Tail(HERE, SessionId("s"), 1, NOW, 5, 100, 50, -1)

    assert (tail.after, tail.behind) == (0, 5)
    assert msgspec.structs.replace(tail, indexed_seq=3).behind == 2


async def test_a_session_that_is_changed_is_found_as_before(engine: Engine) -> None:
    await make_workspaces(engine)
    made = await sessions.create(Call(engine, caller()), NewSession(user_id="ann"), itself, session_id="s")
    assert made.new
    await append(engine, "s", "word")
    await index_all(engine)

    async def change_user(tx: Tx) -> None:
        before = await session_rows.take(tx, HERE, "s", user_id=None)
        await session_rows.save(tx, before, msgspec.structs.replace(before, user_id="bob"))

    await engine.write(change_user)

    assert places(await look_for(engine, "word", user_id="bob")) == [("s", 2)]
    assert (await look_for(engine, "word", user_id="ann")).found == []
