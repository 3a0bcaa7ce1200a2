"""Sessions as rows: kept exactly, listed in order, counted right."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sessiond.core.errors import NotFound
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.limits import ID_MAX_CHARS
from sessiond.core.metadata import filterable, pack_data
from sessiond.core.page import SessionPage, position_of
from sessiond.core.session import ENDED, Session, SessionFilter, Sort, Status
from sessiond.storage import counts, sessions
from sessiond.storage.engine import Engine, Tx
from tests.storage.making import (
    ELSEWHERE,
    NOW,
    WORKSPACE,
    add,
    append,
    change,
    find,
    make_append,
    make_session,
    query,
    remove,
    said,
)

EVERYTHING = SessionFilter()


async def count(engine: Engine, wanted: SessionFilter) -> int:
    async def operation(tx: Tx) -> int:
        return await sessions.count(tx, WORKSPACE, wanted)

    return await engine.scan(operation)


async def read_page(engine: Engine, wanted: SessionFilter = EVERYTHING, **how: Any) -> SessionPage:
    async def operation(tx: Tx) -> SessionPage:
        settings: dict[str, Any] = {"sort": Sort.CREATED, "descending": False, "limit": 1_000} | how
        page = await sessions.read_page(tx, WORKSPACE, wanted, **settings)
        assert page is not None
        return page

    return await engine.scan(operation)


async def listed(engine: Engine, wanted: SessionFilter = EVERYTHING, **how: Any) -> list[str]:
    return [session.id for session in (await read_page(engine, wanted, **how)).sessions]


def full_session(session_id: str) -> Session:
    return msgspec.structs.replace(
        make_session(
            session_id,
            status=Status.FAILED,
            agent_id="agent",
            user_id="user é",
            task_id="task\u2028\U0001f600",
            name="naïve 'name' \"%_\\",
            user_name="Ünï",
            user_email="a@b.example",
            accept_terms="false",
            expires_at_us=253_402_300_799_999_999,
            metadata={"a": 1, "b": "\0", "c": {"d": None}},
            data=b'{"x":[1,2.50]}',
            prompt="line\nline",
        ),
        message_count=3,
        last_seq=5,
        log_bytes=2**40,
        prompt_tokens=7,
        completion_tokens=8,
        parent=SessionId("mother"),
    )


async def test_a_session_is_read_back_as_it_was_written(engine: Engine) -> None:
    full, bare = full_session("full"), make_session("bare")

    await add(engine, full, bare)

    assert await find(engine, "full") == full
    assert await find(engine, "bare") == bare
    assert (await read_page(engine, sort=Sort.USER_NAME)).sessions == [bare, full]


async def test_every_field_that_can_change_is_saved(engine: Engine) -> None:
    full = full_session("s")
    await add(engine, make_session("s"))

    changed = {name: getattr(full, name) for name in Session.__struct_fields__}
    for fixed in (
        "workspace_id",
        "id",
        "parent",
        "prompt_tokens",
        "completion_tokens",
        "created_at_us",
        "agent_registered",
    ):
        del changed[fixed]
    after = await change(engine, "s", **changed)

    assert await find(engine, "s") == after
    emptied = await change(engine, "s", metadata=None, data=None, prompt=None, name=None, agent_id=None)
    assert await find(engine, "s") == emptied


async def test_a_taken_id_stays_whose_it_was(engine: Engine) -> None:
    first = make_session("s", user_id="a", metadata={"k": "v"})
    await add(engine, first)

    async def again(tx: Tx) -> Session | None:
        return await sessions.insert(tx, make_session("s", user_id="b", metadata={"k": "w"}))

    assert await engine.write(again) is None
    assert await find(engine, "s") == first
    assert [await count(engine, SessionFilter(user_ids=(user,))) for user in "ab"] == [1, 0]
    assert await listed(engine, SessionFilter(metadata=(("k", "w"),))) == []


async def test_a_session_is_nobodys_in_another_workspace_or_for_another_user(engine: Engine) -> None:
    here, there = make_session("s", user_id="me"), make_session("s", workspace=ELSEWHERE, user_id="you")
    await add(engine, here, there)

    async def looks(tx: Tx) -> list[Session | None]:
        return [await sessions.find(tx, WORKSPACE, "s", user_id=user) for user in (None, "me", "you")]

    assert await engine.read(looks) == [here, here, None]
    assert await find(engine, "s", workspace=ELSEWHERE) == there
    for access in (sessions.get, sessions.take):

        async def reach(tx: Tx, access: Callable[..., Any] = access) -> Session:
            found: Session = await access(tx, WORKSPACE, "s", user_id="you")
            return found

        with pytest.raises(NotFound):
            await engine.write(reach)


async def test_a_deleted_session_leaves_no_row_in_any_table(engine: Engine, database: str) -> None:
    await add(engine, full_session("s"), full_session("t"))
    await change(engine, "s", status=Status.ACTIVE, completed_at_us=None, log_bytes=9, metadata=b'{"a":"z"}')
    await append(engine, make_append("s", *said("x", "y")))

    await remove(engine, "s")

    assert await find(engine, "s") is None
    for table, column in {
        "sessions": "id",
        "session_details": "session_id",
        "session_metadata": "session_id",
        "events": "session_id",
    }.items():
        assert await query(database, f"select distinct {column} from {table}") in ([("t",)], []), table
    assert await query(database, "select field, sum(n) from session_counts group by field having sum(n) <> 1") == []
    await add(engine, make_session("s"))


async def test_what_can_be_an_id_or_a_filter_fits_the_indexes_however_wide(engine: Engine) -> None:
    chance = random.Random(1)  # no compression makes these smaller

    def wide(chars: int) -> str:
        return "".join(chr(chance.randrange(0x10000, 0x1FFFF)) for _ in range(chars))

    workspace, key, value = WorkspaceId(wide(ID_MAX_CHARS)), wide(128), wide(128)
    ids: dict[str, Any] = {field: wide(ID_MAX_CHARS) for field in ("agent_id", "user_id", "task_id")}
    session = make_session(wide(ID_MAX_CHARS), metadata={key: value}, **ids)
    session = msgspec.structs.replace(session, workspace_id=workspace)
    assert filterable(session.metadata) == {key: value}

    await add(engine, session)

    assert await find(engine, session.id, workspace=session.workspace_id) == session


# Many at the same time, so that only the id tells them apart.
CROWD = [
    make_session(
        f"{'sS'[number % 2]}{number:02}",
        at_us=NOW + number // 5 * 10_000_000,
        status=list(Status)[number % 5],
        agent_id=["a", "b", None][number % 3],
        user_id=["u", "v"][number // 7 % 2],
        task_id="t" if number % 4 else None,
        user_name=[None, "Zoë", "abc", "", "ÄB%c_d\\e"][number % 5],
        user_email=f"m{number % 3}@x.example" if number % 6 else None,
        metadata={"n": number % 3, "flag": number % 2 == 0, "deep": {"n": 1}} if number % 5 else None,
    )
    for number in range(23)
]

FILTERS: dict[str, tuple[SessionFilter, Callable[[Session], bool]]] = {
    "everything": (EVERYTHING, lambda s: True),
    "an agent": (SessionFilter(agent_ids=("a",)), lambda s: s.agent_id == "a"),
    "agents": (SessionFilter(agent_ids=("a", "b", "x", "a")), lambda s: s.agent_id is not None),
    "a user": (SessionFilter(user_ids=("v",)), lambda s: s.user_id == "v"),
    "a task": (SessionFilter(task_ids=("t",)), lambda s: s.task_id == "t"),
    "statuses": (SessionFilter(statuses=tuple(sorted(ENDED))), lambda s: s.ended),
    "a user's of an agent": (
        SessionFilter(agent_ids=("b",), user_ids=("u", "v"), task_ids=("t",)),
        lambda s: s.agent_id == "b" and s.task_id == "t",
    ),
    "ids": (SessionFilter(ids=("s00", "S01", "none")), lambda s: s.id in {"s00", "S01"}),
    "times": (
        SessionFilter(created_after_us=NOW, created_before_us=NOW + 30_000_000),
        lambda s: NOW < s.created_at_us < NOW + 30_000_000,
    ),
    "metadata": (
        SessionFilter(metadata=(("n", "1"), ("flag", "true"))),
        lambda s: filterable(s.metadata) == {"n": "1", "flag": "true"},
    ),
    "no metadata": (SessionFilter(metadata=(("deep", "1"),)), lambda s: False),
    "a query": (SessionFilter(query="ZOË"), lambda s: s.user_name == "Zoë"),
    "a query for an id": (SessionFilter(query="S1"), lambda s: s.id.lower().startswith("s1")),
    "a query with signs": (SessionFilter(query="b%C_d\\E"), lambda s: s.user_name == "ÄB%c_d\\e"),
    "a query that would match all": (SessionFilter(query="%"), lambda s: s.user_name == "ÄB%c_d\\e"),
    "a query for any letter": (SessionFilter(query="z_ë"), lambda s: False),
    "a query that is too long": (SessionFilter(query="%" * 100_000), lambda s: False),
    "a query in an agent's": (
        SessionFilter(agent_ids=("a",), query="M1@"),
        lambda s: s.agent_id == "a" and s.user_email == "m1@x.example",
    ),
}


def in_order(found: list[Session], sort: Sort, *, descending: bool) -> list[str]:
    ranked = sorted(found, key=lambda s: (position_of(s, sort, descending=descending).value, s.id), reverse=descending)
    return [session.id for session in ranked]


async def test_a_large_page_of_wide_sessions_ends_early_and_goes_on_where_it_ended(engine: Engine) -> None:
    data = pack_data({"text": "x" * 1_000_000})
    await add(engine, *(make_session(f"s-{number:02}", at_us=NOW + number, data=data) for number in range(20)))
    seen: list[str] = []
    position, more = None, True

    while more:
        page = await read_page(engine, limit=100, position=position)
        assert 1 <= len(page.sessions) <= 8
        seen += [session.id for session in page.sessions]
        position, more = position_of(page.sessions[-1], Sort.CREATED, descending=False), page.more_after

    assert seen == [f"s-{number:02}" for number in range(20)]


async def test_pages_forwards_and_backwards_hold_each_session_once_in_order(engine: Engine) -> None:
    await add(engine, *CROWD, make_session("s00", workspace=ELSEWHERE))
    for sort, descending, name in itertools.product(Sort, (True, False), ("everything", "statuses", "metadata")):
        wanted, matches = FILTERS[name]
        expected = in_order([session for session in CROWD if matches(session)], sort, descending=descending)
        how = {"sort": sort, "descending": descending, "limit": 4}

        page = await read_page(engine, wanted, **how)
        assert not page.more_before
        forwards, pages = page.sessions, [page]
        while page.more_after:
            page = await read_page(
                engine, wanted, position=position_of(page.sessions[-1], sort, descending=descending), **how
            )
            assert page.more_before
            forwards, pages = forwards + page.sessions, [*pages, page]

        assert [session.id for session in forwards] == expected, (sort, descending, name)
        for before in reversed(pages[:-1]):
            first = position_of(page.sessions[0], sort, descending=descending, backwards=True)
            page = await read_page(engine, wanted, position=first, **how)
            assert page.sessions == before.sessions
            assert page.more_after
        assert not page.more_before


async def test_the_order_of_updates_follows_every_kind_of_change(engine: Engine) -> None:
    await add(engine, *(make_session(f"s{number}", at_us=NOW + number) for number in range(4)))

    # Far apart, close together, and a clock that goes backwards.
    await append(engine, make_append("s0", *said("x"), at_us=NOW + 25_000_000))
    await change(engine, "s3", updated_at_us=NOW + 25_000_001)
    await append(engine, make_append("s2", *said("x"), at_us=NOW - 25_000_000))
    await asyncio.gather(
        append(engine, make_append("s1", *said("x"), at_us=NOW + 90_000_000)),
        append(engine, make_append("s1", *said("y"), at_us=NOW + 40_000_000)),
    )

    ordered = in_order((await read_page(engine)).sessions, Sort.UPDATED, descending=True)
    assert ordered == ["s1", "s3", "s0", "s2"]
    assert await listed(engine, sort=Sort.UPDATED, descending=True) == ordered
    second = (await read_page(engine, sort=Sort.UPDATED, descending=True, limit=2)).sessions[-1]
    position = position_of(second, Sort.UPDATED, descending=True)
    assert await listed(engine, sort=Sort.UPDATED, descending=True, position=position) == ordered[2:]


async def test_an_offset_skips_as_many(engine: Engine) -> None:
    await add(engine, *CROWD)
    expected = in_order(CROWD, Sort.CREATED, descending=False)

    for offset in (0, 1, 20, 23, 2**53):
        page = await read_page(engine, offset=offset, limit=3)
        assert [session.id for session in page.sessions] == expected[offset:][:3]
        assert page.more_after == (offset + 3 < len(expected))
        assert page.more_before == (offset > 0)


async def test_a_filter_finds_and_counts_what_it_means(engine: Engine) -> None:
    await add(engine, *CROWD, *(msgspec.structs.replace(s, workspace_id=ELSEWHERE) for s in CROWD))
    for name, (wanted, matches) in FILTERS.items():
        expected = in_order([session for session in CROWD if matches(session)], Sort.CREATED, descending=False)

        assert await listed(engine, wanted) == expected, name
        total = await count(engine, wanted)
        assert (total, type(total)) == (len(expected), int), name


async def test_a_filter_by_metadata_follows_its_changes(engine: Engine) -> None:
    await add(engine, make_session("s", metadata={"k": "old", "same": 1}))

    await change(engine, "s", metadata=b'{"k":"new","same":1,"more":true}')

    for pair, found in {("k", "old"): [], ("k", "new"): ["s"], ("same", "1"): ["s"], ("more", "true"): ["s"]}.items():
        assert await listed(engine, SessionFilter(metadata=(pair,))) == found
    await change(engine, "s", metadata=None)
    assert await listed(engine, SessionFilter(metadata=(("same", "1"),))) == []


@pytest.mark.parametrize("seed", [1, 2])
async def test_totals_stay_what_a_count_would_say(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    model: dict[str, Session] = {}

    async def step(number: int) -> None:
        session_id = f"s{chance.randrange(12)}"
        fields: dict[str, Any] = {
            "agent_id": chance.choice([None, "a", "b"]),
            "user_id": chance.choice([None, "u", "v"]),
            "task_id": chance.choice([None, "t"]),
        }
        status = chance.choice(list(Status))
        fails = chance.random() < 0.2
        match chance.choice(["create", "patch", "patch", "delete"]):
            case "create":
                made = make_session(session_id, status=status, **fields)

                async def work(tx: Tx) -> Session | None:
                    return made if await sessions.insert(tx, made) else model[session_id]

            case "patch":

                async def work(tx: Tx) -> Session | None:
                    before = await sessions.take(tx, WORKSPACE, session_id, user_id=None)
                    ended = NOW + number if status in ENDED else None
                    after = msgspec.structs.replace(before, **fields, status=status, completed_at_us=ended)
                    return await sessions.save(tx, before, after)

            case _:

                async def work(tx: Tx) -> Session | None:
                    await sessions.delete(tx, await sessions.take(tx, WORKSPACE, session_id, user_id=None))
                    return None

        async def operation(tx: Tx) -> Session | None:
            result = await work(tx)
            if fails:
                raise RuntimeError("after all")
            return result

        try:
            result = await engine.write(operation)
        except (RuntimeError, NotFound):
            return
        if result is None:
            del model[session_id]
        else:
            model[session_id] = result

    for number in range(120):
        await step(number)
        if number % 20 == 19:
            expected = {session.id: session for session in (await read_page(engine)).sessions}
            assert expected == model
            for field in ("agent_id", "user_id", "task_id", "status"):
                for value in {getattr(session, field) for session in model.values()} - {None} | {"nobody"}:
                    if value == "nobody" and field == "status":
                        continue
                    asked: dict[str, Any] = {"statuses" if field == "status" else f"{field}s": (value,)}
                    having = sum(getattr(session, field) == value for session in model.values())
                    assert await count(engine, SessionFilter(**asked)) == having, (field, value)
            assert await count(engine, EVERYTHING) == len(model)


async def test_totals_that_came_down_to_nothing_are_forgotten(engine: Engine, database: str) -> None:
    await add(engine, *(make_session(f"s{number}", user_id=f"u{number}") for number in range(20)))
    for number in range(19):
        await remove(engine, f"s{number}")

    assert await engine.write(counts.sweep) >= 19
    assert await engine.write(counts.sweep) == 0

    left = await query(database, "select field, value, sum(n) from session_counts group by field, value order by field")
    assert [tuple(row) for row in left] == [("all", "", 1), ("status", "active", 1), ("user", "u19", 1)]


async def test_totals_are_right_after_many_at_once(engine: Engine) -> None:
    async def live(number: int) -> None:
        session_id = f"s{number}"
        await add(engine, make_session(session_id, agent_id="a", status=Status.CREATED))
        await change(engine, session_id, status=Status.ACTIVE, user_id=f"u{number % 3}")
        if number % 2:
            await remove(engine, session_id)

    await asyncio.gather(*(live(number) for number in range(60)))

    assert await count(engine, EVERYTHING) == await count(engine, SessionFilter(agent_ids=("a",))) == 30
    assert await count(engine, SessionFilter(statuses=(Status.CREATED,))) == 0
    assert await count(engine, SessionFilter(user_ids=("u0", "u1", "u2"))) == 30
