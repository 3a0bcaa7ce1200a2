"""Inboxes as rows: kept whole, found through an index, and thrown away a piece at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from sessiond.core.errors import NotFound
from sessiond.core.ids import SessionId
from sessiond.core.inbox import Inbox, InboxFilter
from sessiond.storage import inboxes, sessions, trash
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.statements import load_statements
from sessiond.storage.trash import Trash
from tests.storage.making import ELSEWHERE, NOW, WORKSPACE, add, make_session
from tests.storage.plans import read_through
from tests.storage.test_runs import statements_of

SQL: Final = Path(inboxes.__file__).parent / "sql"
# Read from one end, and no further than the first.
FIRST_OF_ALL: Final = {"inboxes_next_expiry", "sessions_next_expiry", "trash_find"}
OF_SESSIONS: Final = {
    "session_lock_free",
    "session_note",
    "sessions_expired",
    "sessions_next_expiry",
    "sessions_kept_long",
    "sessions_of_user",
    "sessions_of_parent",
    "event_delete_until",
}


def make_inbox(inbox_id: str, session_id: str | None = None, **said: Any) -> Inbox:
    fields: dict[str, Any] = dict.fromkeys(Inbox.__struct_fields__)
    fields |= {"workspace_id": WORKSPACE, "id": inbox_id, "session_id": session_id, "address": f"{inbox_id}@localhost"}
    fields |= {"actor": "key_1", "mail_count": 0, "mail_bytes": 0, "created_at_us": NOW}
    return Inbox(**(fields | said))


async def insert(engine: Engine, *made: Inbox) -> None:
    async def operation(tx: Tx) -> None:
        for inbox in made:
            await inboxes.insert(tx, inbox)

    await engine.write(operation)


async def find(engine: Engine, inbox_id: str, user_id: str | None = None) -> Inbox | None:
    return await engine.read(lambda tx: inboxes.find(tx, WORKSPACE, inbox_id, user_id=user_id))


FULL: Final = make_inbox(
    "full",
    "s",
    user_id="u",
    purpose="sign up",
    metadata=b'{"a":1}',
    mail_count=3,
    mail_bytes=4,
    expires_at_us=NOW + 5,
    expired_at_us=NOW + 6,
)


async def test_an_inbox_comes_back_as_it_was_kept(engine: Engine) -> None:
    bare = make_inbox("bare")
    await insert(engine, bare, FULL)

    assert await find(engine, "bare") == bare
    assert await find(engine, "full") == FULL == await find(engine, "full", "u")
    assert await find(engine, "full", "v") is None
    assert await find(engine, "none") is None
    assert await engine.read(lambda tx: inboxes.find(tx, ELSEWHERE, "full", user_id=None)) is None
    assert await engine.read(lambda tx: inboxes.find_by_address(tx, "full@localhost")) == FULL
    assert await engine.write(lambda tx: inboxes.take(tx, WORKSPACE, "full")) == FULL
    assert await engine.write(lambda tx: inboxes.take(tx, WORKSPACE, "none")) is None
    with pytest.raises(NotFound):
        await engine.read(lambda tx: inboxes.get(tx, WORKSPACE, "none", user_id=None))


async def test_an_inbox_expires_once(engine: Engine) -> None:
    inbox = make_inbox("i", expires_at_us=NOW + 5)
    await insert(engine, inbox, make_inbox("j", expires_at_us=NOW + 4), make_inbox("k"), FULL)

    assert await engine.read(inboxes.find_next_expiry) == NOW + 4
    due = await engine.read(lambda tx: inboxes.read_expiring(tx, now_us=NOW + 5, limit=9))
    assert [one.id for one in due] == ["j", "i"]
    assert [await engine.write(lambda tx: inboxes.expire(tx, inbox, at_us=NOW + 7)) for _ in range(2)] == [True, False]
    assert await engine.read(lambda tx: inboxes.read_expiring(tx, now_us=NOW + 4, limit=9)) == due[:1]

    async def kept(before_us: int) -> list[str]:
        return await engine.read(lambda tx: inboxes.read_kept_long(tx, WORKSPACE, before_us=before_us, limit=9))

    assert await kept(NOW + 6) == []
    assert await kept(NOW + 8) == ["full", "i"]


async def test_a_deleted_inbox_is_left_to_be_emptied(engine: Engine) -> None:
    await insert(engine, FULL)

    assert [await engine.write(lambda tx: inboxes.delete(tx, WORKSPACE, "full")) for _ in range(2)] == [3, None]

    thrown = Trash(WORKSPACE, "inbox", "full")
    assert await engine.read(trash.find) == thrown
    await engine.write(lambda tx: trash.put(tx, thrown))
    await engine.write(lambda tx: trash.drop(tx, thrown))
    assert await engine.read(trash.find) is None


async def test_a_page_has_what_was_asked_for_and_how_many_there_are(engine: Engine) -> None:
    made = [make_inbox(f"i{number}", "s" if number % 2 else None, created_at_us=NOW + number) for number in range(5)]
    await insert(engine, *made, make_inbox("other", workspace_id=ELSEWHERE))

    async def page(wanted: InboxFilter, **how: Any) -> tuple[list[str], bool, int | None]:
        asked = {"user_id": None, "descending": False, "limit": 2, "with_total": True} | how
        found = await engine.scan(lambda tx: inboxes.read_page(tx, WORKSPACE, wanted, **asked))
        return [inbox.id for inbox in found.inboxes], found.more, found.total

    assert await page(InboxFilter()) == (["i0", "i1"], True, 5)
    assert await page(InboxFilter(), position=(NOW + 1, "i1")) == (["i2", "i3"], True, 5)
    assert await page(InboxFilter(), offset=4, with_total=False) == (["i4"], False, None)
    assert await page(InboxFilter(session_id="s"), descending=True) == (["i3", "i1"], False, 2)
    assert await page(InboxFilter(), user_id="u") == ([], False, 0)
    assert await engine.read(lambda tx: inboxes.read_ids(tx, WORKSPACE, "s", limit=9)) == ["i1", "i3"]


async def test_of_many_sessions_those_are_locked_that_are_there(engine: Engine) -> None:
    await add(engine, *(make_session(session_id) for session_id in "ab"))
    places = [(WORKSPACE, SessionId(session_id)) for session_id in ("b", "none", "a")]

    locked = await engine.write(lambda tx: sessions.lock_free_each(tx, places))

    assert locked == {(WORKSPACE, "a"), (WORKSPACE, "b")}
    assert await engine.write(lambda tx: sessions.lock_free_each(tx, [])) == set()
    assert await engine.write(lambda tx: sessions.lock(tx, WORKSPACE, "a"))
    assert not await engine.write(lambda tx: sessions.lock(tx, WORKSPACE, "none"))


async def test_no_statement_of_an_inbox_reads_a_table_through(database: str, engine: Engine) -> None:
    statements = load_statements(engine.name)
    names = [
        name for file in ("inboxes", "trash", "erasures", "idempotency") for name in statements_of(SQL / f"{file}.sql")
    ]
    more = {"sessions_lock_free_each", "session_note_each", "event_insert_new"} & statements.keys()
    for name in {*names, *OF_SESSIONS, *more}:
        steps = await read_through(database, statements[name])
        assert [step for step in steps if " w" not in step] == [] or name in FIRST_OF_ALL, (name, steps)


async def test_no_list_of_inboxes_reads_a_table_through(database: str, engine: Engine) -> None:
    select = load_statements(engine.name)["inbox_select"]
    for wanted in ("", "and session_id = :x"):
        tail = f"where workspace_id = :w {wanted} and (created_at_us, id) < (:at, :id) order by created_at_us desc, id"
        assert await read_through(database, f"{select} {tail} desc limit :limit") == [], wanted
