"""Mails as rows: what is wide stands apart, and what is gone with its inbox is removed a piece at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from sessiond.core.errors import NotFound
from sessiond.core.extraction import Candidate, Extraction, ExtractionType, Source
from sessiond.core.ids import SessionId
from sessiond.core.mail import Attachment, Content, Envelope, Mail
from sessiond.storage import inboxes, mails
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.statements import load_statements
from tests.storage.making import NOW, WORKSPACE, query
from tests.storage.plans import read_through
from tests.storage.test_inboxes import insert as insert_inboxes
from tests.storage.test_inboxes import make_inbox
from tests.storage.test_runs import statements_of

SQL: Final = Path(mails.__file__).parent / "sql" / "mails.sql"
ENVELOPE: Final = Envelope(
    sender="a@b.example",
    sender_name="Ann",
    recipients=["i@localhost"],
    subject="Grüße",
    message_id="<1@b.example>",
    sent_at_us=NOW,
)
FOUND: Final = Extraction(
    type=ExtractionType.OTP,
    value="482913",
    confidence=0.9,
    source=Source.TEXT,
    candidates=[Candidate("482913", 0.9, Source.TEXT)],
)
CONTENT: Final = Content(
    text="hello",
    html=None,
    headers=[("From", "a@b.example")],
    attachments=[Attachment("a.txt", "text/plain", 3)],
    defects=["odd"],
)


def make_mail(mail_id: str, inbox_id: str = "i", *, at: int = 0, **said: Any) -> Mail:
    fields: dict[str, Any] = {"workspace_id": WORKSPACE, "id": mail_id, "inbox_id": inbox_id, "session_id": None}
    fields |= {"user_id": None, "received_at_us": NOW + at, "size": 3, "envelope": ENVELOPE, "extractions": [FOUND]}
    return Mail(**(fields | said))


async def insert(engine: Engine, *made: Mail) -> None:
    async def operation(tx: Tx) -> None:
        for mail in made:
            await mails.insert(tx, mail, CONTENT, b"raw")

    await engine.write(operation)


async def get(engine: Engine, mail_id: str, user_id: str | None = None) -> Mail:
    return await engine.read(lambda tx: mails.get(tx, WORKSPACE, mail_id, user_id=user_id))


async def test_a_mail_comes_back_as_it_was_kept(engine: Engine) -> None:
    await insert_inboxes(engine, make_inbox("i"))
    bare, full = make_mail("m1", extractions=[]), make_mail("m2", session_id=SessionId("s"), user_id="u")
    await insert(engine, bare, full)

    assert await get(engine, "m1") == bare
    assert await get(engine, "m2") == full == await get(engine, "m2", "u")
    assert await engine.read(lambda tx: mails.read_content(tx, full)) == CONTENT
    assert await engine.read(lambda tx: mails.read_raw(tx, full)) == b"raw"
    for mail_id, user_id in (("m1", "u"), ("m2", "v"), ("none", None)):
        with pytest.raises(NotFound):
            await get(engine, mail_id, user_id)


async def test_a_mail_is_gone_with_its_inbox_and_removed_a_piece_at_a_time(engine: Engine, database: str) -> None:
    await insert_inboxes(engine, make_inbox("i"), make_inbox("j"))
    await insert(engine, *(make_mail(f"m{number}") for number in range(5)), make_mail("kept", "j"))

    await engine.write(lambda tx: inboxes.delete(tx, WORKSPACE, "i"))

    with pytest.raises(NotFound):
        await get(engine, "m1")
    removed = [await engine.write(lambda tx: mails.remove_some(tx, WORKSPACE, "i", limit=2)) for _ in range(4)]
    assert removed == [2, 2, 1, 0]
    assert await query(database, "select id from mails") == [("kept",)]
    assert await query(database, "select mail_id from mail_contents") == [("kept",)]


async def test_mails_are_found_from_a_time_on(engine: Engine) -> None:
    await insert_inboxes(engine, make_inbox("i", "s"), make_inbox("j", "s"), make_inbox("k"))
    made = [make_mail(f"m{at}", inbox, at=at) for at, inbox in enumerate("ijkij")]
    await insert(engine, *made)

    async def since(at: int, *, inbox_id: str | None = None, session_id: str | None = None) -> list[str]:
        found = await engine.read(
            lambda tx: mails.read_since(
                tx, WORKSPACE, inbox_id=inbox_id, session_id=session_id, since_us=NOW + at, limit=9
            )
        )
        return [mail.id for mail in found]

    assert await since(0, inbox_id="i") == ["m0", "m3"]
    assert await since(1, inbox_id="i", session_id="s") == ["m3"]
    assert await since(1, session_id="s") == ["m1", "m3", "m4"]
    assert await since(0, session_id="none") == []


async def test_a_page_of_mails_has_only_so_many_bytes(engine: Engine) -> None:
    long = make_mail("long", extractions=[FOUND] * 40_000)
    await insert_inboxes(engine, make_inbox("i"))
    await insert(engine, *(make_mail(f"m{at}", at=at, extractions=long.extractions) for at in range(4)))

    found, more = await engine.scan(lambda tx: mails.read_page(tx, WORKSPACE, "i", descending=False, limit=4))

    assert more
    assert 0 < len(found) < 4


async def test_no_statement_of_a_mail_reads_a_table_through(database: str, engine: Engine) -> None:
    statements = load_statements(engine.name)
    for name in statements_of(SQL):
        assert await read_through(database, statements[name]) == [], name
    tail = "where m.workspace_id = :w and m.inbox_id = :i and (m.received_at_us, m.id) < (:at, :id)"
    order = "order by m.received_at_us desc, m.id desc limit :limit"
    assert await read_through(database, f"{statements['mail_select']} {tail} {order}") == []
