"""Erasure: nothing of a person is left anywhere, others lose nothing, and the receipt can be trusted."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace

from sessiond.actions import audit, erasures, expiry, inboxes, mails, runs, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.core.caller import ALL_SCOPES, Scope
from sessiond.core.erasure import Receipt, Subject, add_to_digest, hash_subject, signed_part
from sessiond.core.errors import Forbidden, InvalidInput, NotFound, PreconditionFailed, TooLarge
from sessiond.core.ids import SessionId
from sessiond.core.inbox import NewInbox
from sessiond.core.metadata import pack_data, pack_metadata
from sessiond.core.run import RunFilter
from sessiond.core.session import NewSession, Session
from sessiond.core.wait import NewWait, Terms, WaitType
from sessiond.crypto import make_signing_key, sign
from sessiond.storage import counts, removal
from sessiond.storage import erasures as stored_erasures
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import ELSEWHERE, HERE, ME, append, caller, create, make_workspaces, retried, text
from tests.actions.mailing import get_wait, raw_mail
from tests.actions.working import register
from tests.storage.making import query

MARK: Final = "Geheimnis"
"""In all that is a person's."""
ADA: Final = caller(user_id=f"{MARK}-ada")
ADA_ID: Final = f"{MARK}-ada"


async def make_session(engine: Engine, session_id: str, *, by: Any = ADA, **more: Any) -> Session:
    """Make a session full of what is its user's, on all tables that there are."""
    new = NewSession(
        user_id=by.user_id,
        agent_id="a",
        task_id=MARK,
        name=MARK,
        user_name=MARK,
        user_email=f"{MARK}@a.example",
        metadata=pack_metadata({MARK: MARK}),
        data=pack_data({MARK: MARK}),
        prompt=MARK,
        **more,
    )
    call = Call(engine, caller(workspace=by.workspace_id), retry=retried(f"make {session_id.removeprefix(MARK)}"))
    await sessions.create(call, new, lambda _: MARK, session_id=session_id, messages=[text(MARK)])
    call = Call(engine, caller(workspace=by.workspace_id))
    domain = f"{MARK.lower()}.example"
    new_inbox = NewInbox(session_id=session_id, purpose=MARK, metadata=pack_metadata({MARK: MARK}))
    inbox = await inboxes.create(call, new_inbox, itself, domain=domain)
    terms = Terms(title=MARK, detail=MARK)
    await waits.create(call, NewWait(type=WaitType.EMAIL, inbox_id=inbox.id, terms=terms), itself)
    await mails.receive(call, inbox.id, raw_mail(MARK), itself)
    await waits.create(call, NewWait(type=WaitType.APPROVAL, session_id=session_id, terms=terms), itself)
    return await sessions.get(call, session_id)


async def make_alone(engine: Engine, *, by: Any = ADA) -> None:
    """Make what a user has beside sessions."""
    call = Call(engine, by, retry=retried("alone"))
    new = NewInbox(user_id=by.user_id, purpose=MARK, metadata=pack_metadata({MARK: MARK}))
    await inboxes.create(call, new, lambda _: MARK, domain=f"{MARK.lower()}.example")
    inbox = await inboxes.create(Call(engine, by), new, itself, domain=f"{MARK.lower()}.example")
    await mails.receive(Call(engine, ME, retry=retried("mail")), inbox.id, raw_mail(MARK), lambda _: MARK)
    terms = Terms(title=MARK)
    await waits.create(Call(engine, by), NewWait(type=WaitType.APPROVAL, terms=terms), itself)
    await waits.create(Call(engine, by), NewWait(type=WaitType.EMAIL, inbox_id=inbox.id, terms=terms), itself)


async def finish_runs(engine: Engine, database: str) -> None:
    """Have all runs ended, with something said."""
    said = "'\"" + MARK + "\"'"
    blob = f"cast({said} as blob)" if engine.name == "sqlite" else f"convert_to({said}, 'UTF8')"
    await query(
        database,
        f"update runs set status = 'completed', completed_at_us = 9, output = {blob}, error = {blob}, ask = {blob},"
        f" answer = {blob} returning id",
    )


async def purge(engine: Engine) -> None:
    """Do what the sweeper does now and then."""
    while await engine.write(expiry.empty_trash):
        pass
    await engine.write(counts.sweep)


async def places_of(engine: Engine, database: str, mark: str) -> set[str]:
    """Return the tables and columns in which a text is found."""
    if engine.name == "sqlite":
        columns = await query(
            database,
            "select t.name, c.name from sqlite_master t join pragma_table_info(t.name) c where t.type = 'table'",
        )
    else:
        columns = await query(
            database,
            "select table_name::text, column_name::text from information_schema.columns where table_schema = 'public'",
        )
    found = set[str]()
    for table, column in columns:
        for (value,) in await query(database, f'select "{column}" from "{table}"'):
            kept = value if isinstance(value, bytes) else str(value).encode()
            if mark.lower().encode() in kept.lower():
                found.add(f"{table}.{column}")
    return found


async def test_nothing_of_an_erased_user_is_left_in_any_table(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await register(engine, "a")
    for number in range(3):
        await make_session(engine, f"{MARK}-{number}")
    for _ in range(2):
        await append(engine, f"{MARK}-0", *[MARK] * 400)
    await sessions.delete(Call(engine, ME), f"{MARK}-2", itself)
    await finish_runs(engine, database)
    await make_alone(engine)
    await append(engine, (await create(engine, "other")).id, "mine")
    assert len(await places_of(engine, database, MARK)) > 30

    receipt = await erasures.erase_user(Call(engine, ME), ADA_ID)

    assert not receipt.purged
    await purge(engine)
    # The session that was deleted before is named by the audit log, which nothing changes; a key of the user's own
    # requests stays taken for a day.
    assert await places_of(engine, database, MARK) == {"audit.record_locator", "idempotency.user_id"}
    assert [row[0] for row in await query(database, "select id from sessions")] == ["other"]
    counted = msgspec.structs.asdict(receipt.counts)
    assert counted == {
        "sessions": 2,
        "events": counted["events"],
        "messages": 802,
        "runs": 3 + 4,
        "inboxes": 4,
        "mails": 3,
        "waits": 6,
        "keys_destroyed": 0,
    } | {"runs": counted["runs"]}
    assert counted["runs"] == len(await query(database, "select id from runs"))
    for run in (await runs.read_page(Call(engine, ME), RunFilter(), limit=99)).runs:
        assert (run.session_id, run.user_id, run.input, run.output, run.error, run.ask) == (None,) * 6
    assert (await erasures.get(Call(engine, ME), receipt.id)).purged


async def test_another_workspaces_user_of_the_same_id_keeps_everything(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await register(engine, "a")
    there = replace(ADA, workspace_id=ELSEWHERE)
    theirs = await make_session(engine, "s", by=there)
    await make_session(engine, "s")
    before = await query(database, "select count(*) from events where workspace_id = 'elsewhere'")

    receipt = await erasures.erase_user(Call(engine, ME), ADA_ID)
    await purge(engine)

    assert receipt.counts.sessions == 1
    assert await sessions.get(Call(engine, there), "s") == theirs
    assert await query(database, "select count(*) from events where workspace_id = 'elsewhere'") == before
    assert await query(database, "select count(*) from mails") == [(1,)]
    assert await query(database, "select count(*) from waits") == [(2,)]
    with pytest.raises(NotFound):
        await erasures.get(Call(engine, caller(workspace=ELSEWHERE)), receipt.id)
    assert await erasures.read_page(Call(engine, caller(workspace=ELSEWHERE)), limit=9) == ([], None)


async def test_what_was_made_from_a_users_sessions_goes_too(engine: Engine) -> None:
    await make_workspaces(engine)
    for session_id, parent in (("s", None), ("copy", "s"), ("copy of copy", "copy"), ("second", "s"), ("other", "x")):
        new = NewSession(
            user_id=ADA_ID if parent is None else None, parent=SessionId(parent) if parent is not None else None
        )
        await sessions.create(Call(engine, ME), new, itself, session_id=session_id)

    receipt = await erasures.erase_user(Call(engine, ADA), ADA_ID)

    assert receipt.counts.sessions == 4
    assert receipt.sessions_digest == _digest(receipt, "copy of copy", "copy", "second", "s")
    assert (await sessions.get(Call(engine, ME), "other")).parent == "x"


def _digest(receipt: Receipt, *session_ids: str) -> str:
    digest = bytes.fromhex(receipt.subject.salt)
    for session_id in session_ids:
        digest = add_to_digest(digest, session_id)
    return digest.hex()


async def test_copies_in_a_circle_all_go(engine: Engine, database: str) -> None:
    """Ids that were used again can make one."""
    await make_workspaces(engine)
    for session_id, parent in (("a", "c"), ("b", "a"), ("c", "b"), ("d", "b"), ("e", "e")):
        new = NewSession(user_id=ADA_ID if session_id in "ae" else None, parent=SessionId(parent))
        await sessions.create(Call(engine, ME), new, itself, session_id=session_id)

    assert (await erasures.erase_user(Call(engine, ME), ADA_ID)).counts.sessions == 5


async def test_an_erased_session_takes_its_copies_and_what_its_runs_said(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await register(engine, "a")
    await make_session(engine, f"{MARK}-s")
    await make_session(engine, f"{MARK}-copy", parent=SessionId(f"{MARK}-s"))
    await finish_runs(engine, database)
    await append(engine, f"{MARK}-s", MARK)

    receipt = await erasures.erase_session(Call(engine, ADA), f"{MARK}-s")
    await purge(engine)

    assert (receipt.counts.sessions, receipt.subject.kind, receipt.subject.id) == (2, Subject.SESSION, f"{MARK}-s")
    # That a user has sent requests is no session's.
    assert await places_of(engine, database, MARK) == set()
    entries, _ = await audit.read_page(Call(engine, ME), limit=9)
    assert (entries[0].event, entries[0].seq) == ("erase", receipt.audit_seq)
    assert entries[0].record_locator == f'{{"id":"{receipt.id}","kind":"session"}}'.encode()
    with pytest.raises(NotFound):
        await erasures.erase_session(Call(engine, ADA), f"{MARK}-s")


async def test_a_sessions_version_can_be_asked_for(engine: Engine) -> None:
    await make_workspaces(engine)
    session = await create(engine, "s")
    await append(engine, "s", "x")

    with pytest.raises(PreconditionFailed):
        await erasures.erase_session(Call(engine, ME, if_match=session.etag), "s")

    assert (await erasures.erase_session(Call(engine, ME, if_match="*"), "s")).counts.messages == 1
    assert (await erasures.read_page(Call(engine, ME), limit=9))[0][0].completed_at is not None


async def test_who_may_erase(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s", by=ADA)
    reader = frozenset({Scope.SESSIONS_READ})

    for stranger, message in (
        (caller(user_id="bob"), "another user"),
        (caller(scopes=ALL_SCOPES - {Scope.ADMIN}), "admin"),
        (replace(ADA, scopes=reader), "write"),
        (caller(scopes=reader), "admin"),
    ):
        with pytest.raises(Forbidden, match=message):
            await erasures.erase_user(Call(engine, stranger), ADA_ID)
    for stranger in (caller(user_id="bob"), caller(workspace=ELSEWHERE)):
        with pytest.raises(NotFound):
            await erasures.erase_session(Call(engine, stranger), "s")
    with pytest.raises(Forbidden):
        await erasures.erase_session(Call(engine, caller(scopes=reader)), "s")
    for refused in (erasures.get(Call(engine, ADA), "era_1"), erasures.read_page(Call(engine, ADA), limit=1)):
        with pytest.raises(Forbidden):
            await refused
    assert (await sessions.get(Call(engine, ME), "s")).user_id == ADA_ID
    for wrong, error in (("", InvalidInput), ("a\nb", InvalidInput), ("x" * 201, TooLarge)):
        with pytest.raises(error):
            await erasures.erase_user(Call(engine, ME), wrong)


async def test_what_is_made_after_it_was_asked_for_stays(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "before", by=ADA)
    asked = Call(engine, ME)
    await create(engine, "after", by=ADA)
    await make_alone(engine)

    receipt = await erasures.erase_user(asked, ADA_ID)

    assert (receipt.counts.sessions, receipt.counts.inboxes, receipt.counts.waits) == (1, 0, 0)
    assert (await sessions.get(Call(engine, ADA), "after")).user_id == ADA_ID
    again = await erasures.erase_user(Call(engine, ME), ADA_ID)
    assert (again.counts.sessions, again.counts.inboxes, again.counts.waits) == (1, 2, 2)
    assert again.id != receipt.id


async def test_a_user_that_nobody_knows_is_erased_with_a_receipt_of_nothing(engine: Engine) -> None:
    await make_workspaces(engine)

    receipt = await erasures.erase_user(Call(engine, ME), "nobody")

    assert set(msgspec.structs.astuple(receipt.counts)) == {0}
    assert receipt.purged
    assert erasures.verify(msgspec.json.encode(receipt)) == receipt


class Died(Exception):
    pass


async def test_an_erasure_that_was_cut_short_goes_on(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as it is, and at whatever place: all that is done is counted once."""
    await make_workspaces(engine)
    await register(engine, "a")
    for number in range(3):
        await make_session(engine, f"{MARK}-{number}")
    await make_alone(engine)
    monkeypatch.setattr(erasures, "SESSIONS_MAX", 1)
    write, tries, left, receipt = engine.write, 0, 0, None

    async def write_or_die(operation: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Died
        return await write(operation)

    monkeypatch.setattr(engine, "write", write_or_die)
    while receipt is None:
        left = tries = tries + 1
        try:
            receipt = await erasures.erase_user(Call(engine, ME), ADA_ID)
        except Died:
            (under_way,), _ = await erasures.read_page(Call(engine, ME), limit=9)
            assert (under_way.completed_at, under_way.signature, under_way.purged) == (None, None, False)
            with pytest.raises(InvalidInput, match="not signed"):
                erasures.verify(msgspec.json.encode(under_way))
    monkeypatch.undo()

    assert tries > 5
    assert (receipt.counts.sessions, receipt.counts.inboxes, receipt.counts.mails) == (3, 5, 4)
    assert len((await erasures.read_page(Call(engine, ME), limit=9))[0]) == 1
    await purge(engine)
    assert await places_of(engine, database, MARK) == {"idempotency.user_id"}


async def test_an_erasure_of_a_session_that_is_gone_is_completed_by_who_asked_for_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_workspaces(engine)
    await create(engine, "s", by=ADA)

    async def die(*_: Any) -> None:
        raise Died

    monkeypatch.setattr(erasures, "_complete", die)
    with pytest.raises(Died):
        await erasures.erase_session(Call(engine, ADA), "s")
    monkeypatch.undo()

    another = replace(ADA, key_id="key_2")
    for stranger in (another, caller(workspace=ELSEWHERE)):
        with pytest.raises(NotFound):
            await erasures.erase_session(Call(engine, stranger), "s")
    assert (await erasures.erase_session(Call(engine, ADA), "s")).counts.sessions == 1


async def test_who_asks_for_what_another_has_completed_gets_the_same_receipt(engine: Engine) -> None:
    await make_workspaces(engine)
    begun = erasures._make(Call(engine, ME), Subject.USER, "ada")

    async def begin(tx: Tx) -> None:
        await stored_erasures.begin(tx, begun)

    await engine.write(begin)
    receipt = await erasures.erase_user(Call(engine, ME), "ada")

    assert receipt.id == begun.id
    assert not await erasures._do(Call(engine, ME), begun, erasures._erase_sessions)
    assert await erasures._complete(Call(engine, ME), begun) == receipt


async def test_many_runs_of_a_session_go_some_at_a_time(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_workspaces(engine)
    await register(engine, "a")
    await make_session(engine, "s")
    for number in range(5):
        await append(engine, "s", f"{MARK} {number}")
    await query(database, "update runs set status = 'completed', completed_at_us = 9 where queued_seq < 18 returning 1")
    ended = len(await query(database, "select 1 from runs where status = 'completed'"))
    assert 2 < ended < len(await query(database, "select 1 from runs"))
    monkeypatch.setattr(erasures, "ROWS_MAX", 2)

    receipt = await erasures.erase_session(Call(engine, ME), "s")

    assert receipt.counts.runs == len(await query(database, "select 1 from runs where input is null"))
    assert {row[0] for row in await query(database, "select status from runs")} == {"completed", "cancelled"}


async def test_runs_of_a_session_that_is_just_being_removed_are_emptied_too(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_workspaces(engine)
    await register(engine, "a")
    await make_session(engine, "s")
    for number in range(5):
        await append(engine, "s", f"{MARK} {number}")
    await finish_runs(engine, database)
    monkeypatch.setattr(removal, "ROWS_MAX", 2)
    await sessions.delete(Call(engine, ME), "s", itself)
    assert len(await query(database, "select 1 from runs where session_id = 's'")) > 2

    await erasures.erase_user(Call(engine, ADA), ADA_ID)

    assert "runs" not in {place.partition(".")[0] for place in await places_of(engine, database, MARK)}


async def test_sessions_with_long_logs_go_few_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_workspaces(engine)
    monkeypatch.setattr(erasures, "EVENTS_MAX", 2)
    for session_id in "abcde":
        await create(engine, session_id, by=ADA)
        await append(engine, session_id, "x")
    before = engine.load().operations

    assert (await erasures.erase_user(Call(engine, ME), ADA_ID)).counts.sessions == 5

    assert engine.load().operations - before >= 5


async def test_what_waits_in_a_session_of_another_for_an_erased_inbox_is_cancelled(engine: Engine) -> None:
    await make_workspaces(engine)
    inbox = await inboxes.create(Call(engine, ADA), NewInbox(), itself, domain="a.example")
    await create(engine, "other")
    waiting = await waits.create(
        Call(engine, ME), NewWait(type=WaitType.EMAIL, session_id="other", inbox_id=inbox.id), itself
    )

    receipt = await erasures.erase_user(Call(engine, ME), ADA_ID)

    assert receipt.counts.inboxes == 1
    assert (await get_wait(engine, waiting.wait)).status == "cancelled"


async def test_a_receipt_can_be_trusted_and_names_nobody_once_it_is_kept(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s", by=ADA)

    given = await erasures.erase_user(Call(engine, ME), ADA_ID)
    kept = await erasures.get(Call(engine, ME), given.id)

    assert (given.subject.id, given.workspace, given.by) == (ADA_ID, HERE, "key_1")
    assert kept == replace(given, subject=replace(given.subject, id=None))
    assert hash_subject(bytes.fromhex(kept.subject.salt), ADA_ID).hex() == kept.subject.hash
    for receipt in (given, kept):
        document = msgspec.json.format(msgspec.json.encode(receipt), indent=4)
        assert erasures.verify(document) == receipt
        assert erasures.verify(document, public_key=receipt.public_key) == receipt
    second = await erasures.erase_user(Call(engine, ME), "bob")
    assert second.public_key == given.public_key, "a workspace has one key"
    page, following = await erasures.read_page(Call(engine, ME), limit=1)
    assert [each.id for each in page] == [second.id]
    assert [each.id for each in (await erasures.read_page(Call(engine, ME), limit=9, position=following))[0]] == [
        given.id
    ]


def _changed(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return ("b" if value[:1] == "a" else "a") + value[1:]
    return "x"


def _paths(said: dict[str, Any]) -> Sequence[tuple[str, ...]]:
    return [
        path
        for name, value in said.items()
        for path in ([(name, below) for below in value] if isinstance(value, dict) else [(name,)])
    ]


async def test_a_receipt_that_was_changed_anywhere_is_refused(engine: Engine) -> None:
    await make_workspaces(engine)
    given = await erasures.erase_user(Call(engine, ME), ADA_ID)
    said = msgspec.to_builtins(given)

    for path in _paths(said):
        changed = msgspec.json.decode(msgspec.json.encode(said))
        place = changed[path[0]] if len(path) > 1 else changed
        place[path[-1]] = _changed(place[path[-1]])
        if path == ("purged",):
            assert erasures.verify(msgspec.json.encode(changed)).purged is not given.purged
            continue
        with pytest.raises(InvalidInput):
            erasures.verify(msgspec.json.encode(changed))
    for document in (
        *(b"", b"{", b"[]", b"{}", b"\xff", b'"x"'),
        msgspec.json.encode(said | {"more": 1}),
        msgspec.json.encode(said | {"subject": said["subject"] | {"more": 1}}),
        msgspec.json.encode(said | {"subject": 1}),
        msgspec.json.encode(said | {"signature": base64.b64encode(b"x").decode()}),
        msgspec.json.encode(said | {"signature": "no base64"}),
        msgspec.json.encode(said | {"public_key": base64.b64encode(b"x" * 32).decode()}),
    ):
        with pytest.raises(InvalidInput):
            erasures.verify(document)
    with pytest.raises(InvalidInput, match="another key"):
        erasures.verify(msgspec.json.encode(given), public_key="other")


async def test_a_receipt_of_another_key_is_nobodys_but_its_own(engine: Engine) -> None:
    await make_workspaces(engine)
    here = await erasures.erase_user(Call(engine, ME), ADA_ID)
    there = await erasures.erase_user(Call(engine, caller(workspace=ELSEWHERE)), ADA_ID)

    assert here.public_key != there.public_key
    forged = replace(here, public_key=there.public_key, signature=there.signature)
    with pytest.raises(InvalidInput):
        erasures.verify(msgspec.json.encode(forged))


async def test_what_somebody_has_signed_with_a_key_of_their_own_is_read_with_care(engine: Engine) -> None:
    await make_workspaces(engine)
    given = await erasures.erase_user(Call(engine, ME), ADA_ID)
    key = make_signing_key()
    forged = replace(given, public_key=base64.b64encode(key.public).decode())
    forged = replace(forged, subject=replace(forged.subject, salt="no hexadecimal"))
    signature = sign(key, signed_part(msgspec.to_builtins(forged)))
    forged = replace(forged, signature=base64.b64encode(signature).decode())

    with pytest.raises(InvalidInput, match=r"subject\.id"):
        erasures.verify(msgspec.json.encode(forged))
    with pytest.raises(InvalidInput, match="another key"):
        erasures.verify(msgspec.json.encode(forged), public_key=given.public_key)


async def test_an_erased_session_has_no_key_any_more(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s", by=ADA)
    blob = "x'00'" if engine.name == "sqlite" else "'\\x00'"
    for key, session in ((7, "s"), (8, "other")):
        await query(
            database,
            "insert into seal_keys (workspace_id, id, kind, parent_id, session_id, wrapped, created_at_us)"
            f" values ('here', {key}, 'content', 1, '{session}', {blob}, 1) returning id",
        )

    receipt = await erasures.erase_session(Call(engine, ADA), "s")

    assert receipt.counts.keys_destroyed == 1
    assert await query(database, "select id from seal_keys") == [(8,)]


async def test_an_erased_users_kept_answers_are_gone(engine: Engine) -> None:
    await make_workspaces(engine)
    await make_alone(engine)

    await erasures.erase_user(Call(engine, ME), ADA_ID)

    for by, key in ((ADA, "alone"), (ME, "mail")):
        with pytest.raises(NotFound, match="was deleted"):
            await sessions.create(Call(engine, by, retry=retried(key)), NewSession(), str, session_id="new")


async def test_a_user_of_many_things_is_erased_some_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_workspaces(engine)
    for name in ("ROWS_MAX", "INBOXES_MAX", "SESSIONS_MAX"):
        monkeypatch.setattr(erasures, name, 1)
    for _ in range(3):
        await inboxes.create(Call(engine, ADA), NewInbox(), itself, domain="a.example")
        await waits.create(Call(engine, ADA), NewWait(type=WaitType.APPROVAL), itself)
        await create(engine, Call(engine, ADA).new_id("s"), by=ADA)

    counted = (await erasures.erase_user(Call(engine, ADA), ADA_ID)).counts

    assert (counted.sessions, counted.inboxes, counted.waits) == (3, 3, 3)
