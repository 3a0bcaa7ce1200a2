"""Lists of a sealed workspace: the same sessions in the same order as those of one in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sessiond.core.ids import WorkspaceId
from sessiond.core.page import Position, SessionPage, position_of
from sessiond.core.session import Session, SessionFilter, Sort
from sessiond.storage import sealed_lists, sessions
from sessiond.storage.engine import Engine
from tests.storage.making import NOW, WORKSPACE, add, make_session
from tests.storage.test_seals import make_workspace

PEOPLE: list[tuple[str | None, str | None]] = [
    ("Ann Ångström", "ann@example.org"),
    ("STRASSE", "straße@example.org"),
    ("Weiß", None),
    ("İbrahim", "ibrahim@example.org"),
    ("ΣΊΣΥΦΟΣ", "sisyphos@example.org"),
    ("bob", "BOB@example.org"),
    ("Bob", "bob_2@example.org"),
    ("50%", "per%cent@example.org"),
    (None, "nobody@example.org"),
    (None, None),
    ("", ""),
    ("a\\b", "back\\slash@example.org"),
    ("bob", None),
]
QUERIES = [
    "ann",
    "STRASSE",
    "straße",
    "ss",
    "σίσυφος",
    "ΣΊΣΥΦΟς",
    "bob",
    "_2",
    "%",
    "\\",
    "s1",
    "EXAMPLE.ORG",
    "i̇",
    "no",
    "",
]


async def fill(engine: Engine) -> list[Session]:
    await make_workspace(engine)
    made = [
        make_session(
            f"s{number:02}", user_name=name, user_email=email, at_us=NOW + number % 3, agent_id="ab"[number % 2]
        )
        for number, (name, email) in enumerate(PEOPLE * 3)
    ]
    await add(engine, *made)
    return made


async def read_page(engine: Engine, wanted: SessionFilter, **how: Any) -> SessionPage:
    assert await engine.scan(lambda tx: sealed_lists.applies(tx, WORKSPACE, wanted, how["sort"]))
    return await engine.scan(lambda tx: sealed_lists.read_page(tx, WORKSPACE, wanted, **how))


def naive(made: Sequence[Session], wanted: SessionFilter, sort: Sort, *, descending: bool) -> list[str]:
    def key(session: Session) -> Any:
        return {
            Sort.USER_NAME: session.user_name or "",
            Sort.USER_EMAIL: session.user_email or "",
            Sort.CREATED: session.created_at_us,
            Sort.UPDATED: session.updated_at_us,
        }[sort], session.id

    part = (wanted.query or "").casefold()
    found = [
        one
        for one in made
        if any(part in (text or "").casefold() for text in (one.id, one.user_name, one.user_email))
        and (not wanted.agent_ids or one.agent_id in wanted.agent_ids)
    ]
    return [one.id for one in sorted(found, key=key, reverse=descending)]


@pytest.mark.parametrize("descending", [False, True])
async def test_pages_are_those_of_a_list_in_memory(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, descending: bool
) -> None:
    monkeypatch.setattr(sealed_lists, "CHUNK", 4)
    made = await fill(engine)
    for query in QUERIES:
        for sort in Sort if query in ("bob", "") else (Sort.USER_NAME,):
            wanted = SessionFilter(query=query, agent_ids=("a",) if query == "bob" else ())
            expected = naive(made, wanted, sort, descending=descending)
            page = await read_page(engine, wanted, sort=sort, descending=descending, limit=100)
            assert [one.id for one in page.sessions] == expected, (query, sort)
            assert (page.total, page.more_after, page.more_before) == (len(expected), False, False)
            if query == "bob":
                await check_paging(engine, wanted, sort, expected, descending=descending)


async def check_paging(
    engine: Engine, wanted: SessionFilter, sort: Sort, expected: list[str], *, descending: bool
) -> None:
    how: dict[str, Any] = {"sort": sort, "descending": descending, "limit": 2}
    for offset in range(len(expected) + 1):
        page = await read_page(engine, wanted, **how, offset=offset)
        assert [one.id for one in page.sessions] == expected[offset : offset + 2]
        assert page.more_after == (offset + 2 < len(expected))
        assert page.more_before == (offset > 0)
    forwards, position = list[Session](), None
    while True:
        page = await read_page(engine, wanted, **how, position=position)
        forwards += page.sessions
        assert page.more_before == (position is not None)
        if not page.more_after:
            break
        position = position_of(forwards[-1], sort, descending=descending)
    assert [one.id for one in forwards] == expected
    backwards, place = list[Session](), forwards[-1]
    while True:
        before = _before(place, sort, descending=descending)
        page = await read_page(engine, wanted, **how, position=before)
        backwards = [*page.sessions, *backwards]
        if not page.more_before:
            break
        place = page.sessions[0]
    assert [one.id for one in backwards] == expected[:-1]


def _before(session: Session, sort: Sort, *, descending: bool) -> Position:
    at = position_of(session, sort, descending=descending)
    return type(at)(**{name: getattr(at, name) for name in at.__struct_fields__} | {"backwards": True})


async def test_only_where_something_is_sealed_is_it_needed(engine: Engine) -> None:
    await make_workspace(engine)

    async def applies(workspace: str, wanted: SessionFilter, sort: Sort) -> bool:
        return await engine.read(lambda tx: sealed_lists.applies(tx, WorkspaceId(workspace), wanted, sort))

    assert await applies("here", SessionFilter(query="a"), Sort.CREATED)
    assert await applies("here", SessionFilter(), Sort.USER_EMAIL)
    assert not await applies("here", SessionFilter(), Sort.UPDATED)
    assert not await applies("elsewhere", SessionFilter(query="a"), Sort.USER_NAME)


async def test_a_page_ends_where_memory_does(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_lists, "PAGE_MAX_BYTES", 10)
    monkeypatch.setattr("sessiond.storage.pages.PAGE_MAX_BYTES", 10)
    monkeypatch.setattr(sealed_lists, "CHUNK", 2)
    await make_workspace(engine)
    await add(engine, *(make_session(f"s{number}", prompt="12345678", user_name="x") for number in range(5)))

    page = await read_page(engine, SessionFilter(), sort=Sort.USER_NAME, descending=False, limit=5)

    assert [one.id for one in page.sessions] == ["s0"]
    assert (page.more_after, page.total) == (True, 5)


async def test_a_session_that_goes_meanwhile_is_left_out(engine: Engine) -> None:
    await fill(engine)

    async def operation(tx: Any) -> list[Session]:
        return await sealed_lists._read_fitting(tx, WORKSPACE, [("", "s00"), ("", "gone"), ("", "s01")])

    assert [one.id for one in await engine.scan(operation)] == ["s00", "s01"]
    assert sessions.search_text(make_session("s", user_name="Weiß"), sealed=True) == "s"
