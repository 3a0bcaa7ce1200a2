"""A workspace with content of every kind, and all of it as its readers see it, whatever it is sealed with."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import client_events, encryption, runs, sessions, waits
from sessiond.actions.call import Call, itself, nobody
from sessiond.actions.encryption import Mode
from sessiond.core.client_event import client_entry
from sessiond.core.event import Event
from sessiond.core.inbox import InboxFilter
from sessiond.core.page import LogPage
from sessiond.core.run import COMPLETED, Answer, RunFilter
from sessiond.core.session import NewSession, Session, SessionFilter
from sessiond.core.wait import Terms, WaitFilter
from sessiond.crypto import KEY_BYTES, LocalMaster
from sessiond.storage import events, inboxes, mails, seals
from sessiond.storage import runs as run_rows
from sessiond.storage import sessions as session_rows
from sessiond.storage import waits as wait_rows
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.resealing import Held
from tests.actions import mailing, working
from tests.actions.calling import HERE, ME, append, make_workspaces, retried, text

MASTER: Final = bytes(range(KEY_BYTES))
STORAGE_KEY: Final = "a storage key of some length"
ANOTHER_KEY: Final = "another storage key of some length"
RETRIES: Final = 3


def with_master(engine: Engine) -> Engine:
    """Give an open engine the tests' master key."""
    engine.vault.master = LocalMaster([MASTER])
    return engine


async def change(engine: Engine, wanted: Mode, *, storage_key: str | None = None, anew: bool = False) -> list[Held]:
    await encryption.begin(engine, HERE, wanted, storage_key=storage_key, anew=anew)
    return await encryption.move(engine, HERE)


async def fill(engine: Engine) -> None:
    """Put content of every kind into a new workspace."""
    await make_workspaces(engine)
    await working.register(engine)
    said = NewSession(
        user_id="ann",
        name="a name",
        user_name="Ann Ångström",
        user_email="ann@example.org",
        metadata=b'{"colour":"blue","size":3}',
        data=b'{"a":"datum"}',
        prompt="a prompt",
        agent_id="a",
    )
    for number in range(RETRIES):
        call = Call(engine, ME, retry=retried(f"key-{number}"))
        await call.write(_say_done, itself, about=nobody)
    await sessions.create(Call(engine, ME), said, itself, session_id="s", messages=[text("first")])
    await working.do_one(engine, "an output")
    await working.send(engine, "second")
    await working.retry_later(engine, await working.take(engine))
    taken = await working.take(engine, at_us=working.NOW + 86_400 * working.SECOND)
    await working.ask(engine, taken)
    await runs.respond(Call(engine, ME), taken.run.id, Answer(option_id="y"), itself)
    note = client_entry("note.made", msgspec.Raw(b'{"said":"a note"}'))
    await client_events.append(Call(engine, ME), "s", [note], itself)
    await working.begin(engine, "asks", "may you?")
    await working.ask(engine, await working.take(engine, at_us=working.NOW + 86_400 * working.SECOND))
    await _fill_mails(engine)
    await sessions.create(
        Call(engine, ME), replace(said, user_id=None), itself, session_id="gone", messages=[text("x")]
    )
    await working.do_one(engine, "an output that stays")
    await sessions.delete(Call(engine, ME), "gone", lambda _: None)
    await sessions.create(Call(engine, ME), NewSession(), itself, session_id="bare")
    for number in range(9):
        await append(engine, "bare", f"message {number}")


async def _say_done(_tx: Tx) -> str:
    return "done"


async def _fill_mails(engine: Engine) -> None:
    inbox = await mailing.make_inbox(engine, "s", purpose="a purpose", metadata=b'{"of":"an inbox"}')
    apart = await mailing.make_inbox(engine, None, purpose="apart", metadata=b'{"b":1}')
    for one in (inbox, apart):
        await mailing.receive(engine, one, mailing.CODE, subject="a subject")
    for session_id in ("s", None):
        approval = await mailing.make_wait(engine, "approval", session_id)
        await waits.complete(Call(engine, ME), approval.id, {"said": "a result"}, itself)
        cancelled = await mailing.make_wait(engine, "approval", session_id)
        await waits.cancel(Call(engine, ME), cancelled.id, itself, reason="a reason")
        await mailing.make_wait(engine, "timer", session_id, timeout_seconds=86_400.0)
    await mailing.make_wait(engine, "event", "s", terms=Terms(events=["session.*"]), timeout_seconds=86_400.0)


async def picture(engine: Engine) -> dict[str, Any]:
    """Return all that a workspace holds, opened, without the keys it is sealed with."""
    seen = await engine.scan(_look)
    calls = [Call(engine, ME, retry=retried(f"key-{number}")) for number in range(RETRIES)]
    answers = [await call.write(_say_anew, itself, about=nobody) for call in calls]
    found = await sessions_by_metadata(engine)
    return seen | {"answers": answers, "found": found}


async def sessions_by_metadata(engine: Engine) -> list[list[str]]:
    async def find(tx: Tx, key: str, value: str) -> list[str]:
        where, values = await session_rows.conditions(tx, HERE, SessionFilter(metadata=((key, value),)))
        return [one.id for one in await session_rows.read_each(tx, HERE, f"where {' and '.join(where)}", values)]

    pairs = (("colour", "blue"), ("size", "3"), ("colour", "red"))
    return [await engine.scan(lambda tx, pair=pair: find(tx, *pair)) for pair in pairs]  # type: ignore[misc]


async def _say_anew(_tx: Tx) -> str:
    return "anew"


async def _look(tx: Tx) -> dict[str, Any]:
    every = await session_rows.read_each(
        tx, HERE, "where s.workspace_id = :workspace order by s.id", {"workspace": HERE}
    )
    logs = {one.id: await _read_log(tx, one) for one in every}
    found_runs = await run_rows.read_page(tx, HERE, RunFilter(), user_id=None, descending=False, limit=99)
    found_waits = await wait_rows.read_page(tx, HERE, WaitFilter(), user_id=None, descending=False, limit=99)
    boxes = await inboxes.read_page(tx, HERE, InboxFilter(), user_id=None, descending=False, limit=99)
    letters = []
    for box in boxes.inboxes:
        for mail in (await mails.read_page(tx, HERE, box.id, descending=False, limit=99))[0]:
            letters.append((_without_key(mail), await mails.read_content(tx, mail), await mails.read_raw(tx, mail)))
    return {
        "sessions": [_without_key(one) for one in every],
        "logs": logs,
        "runs": [_without_key(one) for one in found_runs.runs],
        "waits": [_without_key(one) for one in found_waits.waits],
        "inboxes": [_without_key(one) for one in boxes.inboxes],
        "mails": letters,
    }


async def _read_log(tx: Tx, session: Session) -> list[Event]:
    page: LogPage[Event] = await events.read_page(tx, session, limit=1_000)
    return page.events


def _without_key(record: msgspec.Struct) -> dict[str, Any]:
    fields = msgspec.structs.asdict(record)
    fields.pop("key_id")
    return fields


def check_whole(seen: dict[str, Any]) -> None:
    """Check that a workspace holds every field of every kind, so that a test of them all is one."""
    (told,) = (one for one in seen["sessions"] if one["id"] == "s")
    assert None not in [told[name] for name in session_rows.DETAILS]
    for name in ("input", "output", "error", "ask", "answer"):
        assert any(run[name] is not None for run in seen["runs"]), name
    assert any(run["session_id"] is None and run["status"] is COMPLETED for run in seen["runs"])
    assert Counter(wait["session_id"] for wait in seen["waits"]) == {"s": 4, None: 3}
    assert {wait["result"] is not None for wait in seen["waits"]} == {True, False}
    assert "a reason" in [wait["reason"] for wait in seen["waits"]]
    assert len(seen["mails"]) == 2
    assert seen["mails"][0][0]["extractions"]
    assert seen["found"] == [["s"], ["s"], []]
    assert seen["answers"] == ["done"] * RETRIES


async def count_keys(engine: Engine) -> int:
    """Return how many keys of its own a workspace has."""
    return len(await engine.read(lambda tx: seals.read_roots(tx, HERE)))
