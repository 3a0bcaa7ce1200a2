"""Search: what is found is what a look at every message finds, newest first, whatever is indexed already."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.actions import search as searching
from sessiond.actions import sessions
from sessiond.actions.call import Call, itself
from sessiond.core.caller import Scope, Workspace
from sessiond.core.errors import Forbidden, InvalidInput, NotFound
from sessiond.core.event import message_entry
from sessiond.core.ids import WorkspaceId
from sessiond.core.message import Message, Role
from sessiond.core.search import find, parse_query
from sessiond.core.session import NewSession
from sessiond.storage import workspaces
from sessiond.storage.engine import Engine
from sessiond.storage.open import migrate
from tests.actions.calling import ELSEWHERE, HERE, append, caller, create, make_workspaces, text
from tests.actions.indexing import clean_all, drop, index_all, look_for, page_through, places, texts
from tests.storage import making
from tests.storage.making import NOW, add, make_append, make_session, query

WORDS: Final = st.sampled_from(["fox", "Fox", "dog", "the", "日本", "本", "Straße", "strasse", "don't", "a-b", "é"])
TEXTS: Final = st.lists(WORDS, max_size=6).map(" ".join)
PHRASES: Final = st.lists(WORDS, min_size=1, max_size=3).map(lambda each: f'"{" ".join(each)}"')
QUERIES: Final = st.lists(st.one_of(WORDS, PHRASES), min_size=1, max_size=3).map(" ".join)

numbers = count()


async def say(
    engine: Engine, session_id: str, *contents: str, at_us: int = NOW + 1, workspace: WorkspaceId = HERE
) -> None:
    entries = [message_entry(text(content)) for content in contents]
    assert await making.append(engine, make_append(session_id, *entries, at_us=at_us, workspace=workspace)) is not None


@given(
    logs=st.lists(st.lists(st.tuples(st.integers(0, 3), TEXTS), max_size=8), min_size=1, max_size=3),
    asked=st.lists(QUERIES, min_size=1, max_size=3),
    indexed=st.integers(0, 8),
    limit=st.integers(1, 5),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_search_finds_what_a_look_at_every_message_finds(
    database: str, logs: list[list[tuple[int, str]]], asked: list[str], indexed: int, limit: int
) -> None:
    asyncio.run(compare(database, logs, asked, indexed=indexed, limit=limit))


async def compare(
    database: str, logs: list[list[tuple[int, str]]], asked: list[str], *, indexed: int, limit: int
) -> None:
    await migrate(database)
    workspace = WorkspaceId(f"w{next(numbers)}")
    by, told = caller(workspace=workspace), list[tuple[int, str, int, str]]()
    async with making.another_engine(database) as engine:
        await engine.write(lambda tx: workspaces.insert(tx, Workspace(workspace, workspace.rjust(64, "0"), 1)))
        await add(engine, *(make_session(str(n), workspace=workspace) for n in range(len(logs))))
        for place in range(8):
            if place == indexed:
                await index_all(engine)
            for number, log in enumerate(logs):
                if place < len(log):
                    later, content = log[place]
                    await say(engine, str(number), content, at_us=NOW + later, workspace=workspace)
                    told.append((NOW + later, str(number), place + 1, content))
        for one in asked:
            terms = parse_query(one)
            expected = [
                (session_id, seq)
                for _, session_id, seq, content in sorted(told, reverse=True)
                if find(content, terms) is not None
            ]
            assert await page_through(engine, one, limit=limit, by=by) == expected
            mine = [(session_id, seq) for session_id, seq in expected if session_id == "0"]
            assert await page_through(engine, one, limit=limit, by=by, session_id="0") == mine


async def test_what_was_said_is_found_at_once_and_after_it_was_indexed(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await append(engine, "s", "The quick brown fox", "A lazy dog")

    for _ in range(2):
        page = await look_for(engine, '"BROWN fox"')
        assert texts(page) == ["The quick brown fox"]
        assert [page.found[0].match.snippet[slice(*match)] for match in page.found[0].match.matches] == ["brown fox"]
        assert page.complete
        assert page.next is None
        await index_all(engine)


async def test_all_words_must_be_there_and_phrases_in_their_order(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await append(engine, "s", "red green blue", "blue green red", "red")
    await index_all(engine)

    assert len((await look_for(engine, "red blue")).found) == 2
    assert texts(await look_for(engine, '"green blue"')) == ["red green blue"]
    assert texts(await look_for(engine, "yellow red")) == []


async def test_a_key_of_a_user_finds_what_is_said_in_their_sessions_only(engine: Engine) -> None:
    await make_workspaces(engine)
    for user in ("ann", "bob"):
        await sessions.create(Call(engine, caller()), NewSession(user_id=user), itself, session_id=user)
        await append(engine, user, "secret word")
    ann = caller(user_id="ann")

    for _ in range(2):
        assert places(await look_for(engine, "secret", by=ann)) == [("ann", 2)]
        assert len((await look_for(engine, "secret")).found) == 2
        assert places(await look_for(engine, "secret", user_id="bob")) == [("bob", 2)]
        with pytest.raises(NotFound):
            await look_for(engine, "secret", by=ann, session_id="bob")
        with pytest.raises(Forbidden):
            await look_for(engine, "secret", by=ann, user_id="bob")
        await index_all(engine)


async def test_a_search_is_narrowed_to_an_agent(engine: Engine) -> None:
    await make_workspaces(engine)
    for agent in ("one", "two"):
        await create(engine, agent, agent_id=agent)
        await append(engine, agent, "hello")

    for _ in range(2):
        assert places(await look_for(engine, "hello", agent_id="two")) == [("two", 3)]
        await index_all(engine)


async def test_another_workspace_finds_nothing(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await append(engine, "s", "hello")
    stranger = caller(workspace=ELSEWHERE)

    for _ in range(2):
        assert (await look_for(engine, "hello", by=stranger)).found == []
        with pytest.raises(NotFound):
            await look_for(engine, "hello", by=stranger, session_id="s")
        await index_all(engine)


async def test_who_may_not_read_may_not_search(engine: Engine) -> None:
    with pytest.raises(Forbidden):
        await look_for(engine, "x", by=caller(scopes=frozenset({Scope.SESSIONS_WRITE})))
    with pytest.raises(InvalidInput, match="must have a word"):
        await look_for(engine, "!")


async def test_what_was_deleted_is_not_found_before_the_index_has_noticed(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await append(engine, "s", "hello")
    await index_all(engine)

    await making.remove(engine, "s")

    assert (await look_for(engine, "hello")).found == []


async def test_a_common_word_is_read_page_by_page_from_many_segments(engine: Engine) -> None:
    await make_workspaces(engine)
    await add(engine, *(make_session(f"s{n}") for n in range(30)))
    for turn in range(3):
        for n in range(30):
            await say(engine, f"s{n}", "common", "other", at_us=NOW + 1_000 * n + turn)
        await index_all(engine)

    found = await page_through(engine, "common", limit=7)

    expected = [(f"s{n}", 2 * turn + 1) for n in reversed(range(30)) for turn in reversed(range(3))]
    assert found == expected


async def test_thousands_of_one_moment_are_all_found_once(engine: Engine) -> None:
    await make_workspaces(engine)
    await add(engine, make_session("a"), make_session("b"))
    for session_id in "ab":
        for _ in range(3):
            await say(engine, session_id, *["same"] * 450)
    await index_all(engine)

    everything = [(session_id, seq) for session_id in "ba" for seq in range(1_350, 0, -1)]
    assert await page_through(engine, "same", limit=100) == everything
    assert await page_through(engine, "same", limit=100, session_id="a") == everything[1_350:]


async def test_a_long_session_is_searched_in_stretches(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "SESSION_DOCS_MAX", 5)
    await make_workspaces(engine)
    await add(engine, make_session("a"), make_session("b"))
    for number in range(12):
        await say(engine, "a", "needle" if number in (1, 10) else "hay", at_us=NOW + number)
        await say(engine, "b", "needle", at_us=NOW + number)
    await index_all(engine)

    assert await page_through(engine, "needle", limit=5, session_id="a") == [("a", 11), ("a", 2)]


async def test_a_page_takes_bounded_work_and_says_where_to_go_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "STEPS_MAX", 1)
    monkeypatch.setattr(searching, "LOCATED_MAX", 10)
    monkeypatch.setattr(searching, "LOCATED_TOGETHER", 5)
    await make_workspaces(engine)
    for user in ("ann", "bob"):
        await sessions.create(Call(engine, caller()), NewSession(user_id=user), itself, session_id=user)
    for number in range(60):
        await say(engine, "ann" if number == 3 else "bob", "word", at_us=NOW + number)
    await index_all(engine)

    page = await look_for(engine, "word", by=caller(user_id="ann"))

    assert page.found == []
    assert page.next is not None
    assert await page_through(engine, "word", limit=5, by=caller(user_id="ann")) == [("ann", 2)]


async def test_a_page_ends_early_rather_than_hold_too_much(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    for _ in range(10):
        await append(engine, "s", f"large {'x' * 1_000_000}")
    await index_all(engine)

    page = await look_for(engine, "large")

    assert 0 < len(page.found) < 10
    assert len(await page_through(engine, "large", limit=100)) == 10


async def test_a_search_says_when_not_all_that_is_new_was_looked_through(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_workspaces(engine)
    for session_id in "ab":
        await create(engine, session_id)
        await append(engine, session_id, "first", "second", "third")
    assert (await look_for(engine, "first")).complete

    for name, value in (("TAILS_MAX", 1), ("TAIL_MESSAGES_MAX", 2), ("TAIL_BYTES_MAX", 10)):
        with monkeypatch.context() as patched:
            patched.setattr(searching, name, value)
            assert not (await look_for(engine, "first")).complete

    await index_all(engine)
    assert len((await look_for(engine, "first")).found) == 2


async def test_what_parts_say_is_found(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    content = msgspec.Raw(b'[{"type":"text","text":"look at this"},{"type":"image","alt":"a lighthouse"}]')
    entry = message_entry(Message(role=Role.USER, content=content))
    await making.append(engine, make_append("s", entry))
    await index_all(engine)

    assert len((await look_for(engine, "lighthouse")).found) == 1
    assert (await look_for(engine, "image")).found == []


async def test_nothing_of_a_session_is_left_in_the_index(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    for session_id in ("gone", "kept"):
        await create(engine, session_id)
        await append(engine, session_id, *(f"{session_id} word{number}" for number in range(7)))
    await index_all(engine)
    await making.remove(engine, "gone")

    assert await drop(engine, "gone") == 4, "pieces of 3, 3, 1 and nothing"
    await clean_all(engine)

    assert await query(database, "select distinct session_id from search_docs") == [("kept",)]
    assert await query(database, "select session_id from search_progress") == [("kept",)]
    before = len((await look_for(engine, "kept")).found)
    assert before == 7
    assert (await look_for(engine, "gone")).found == []
    assert await drop(engine, "kept") >= 3
    await clean_all(engine)
    for table in ("search_docs", "search_segments", "search_postings"):
        assert await query(database, f"select * from {table}") == []
    # It is there: it is indexed anew.
    assert len((await look_for(engine, "kept")).found) == 7
    await index_all(engine)
    assert len(await query(database, "select * from search_docs")) == 7
