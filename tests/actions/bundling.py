"""A workspace with something of every kind in it, exported and imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from sessiond.actions import agents, client_events, exports, imports, inboxes, messages, sessions, waits, work
from sessiond.actions.call import Call, itself
from sessiond.actions.imports import Imported
from sessiond.core.agent import NewAgent
from sessiond.core.bundle import Chain, Subject
from sessiond.core.caller import Caller
from sessiond.core.client_event import client_entry, step_entry
from sessiond.core.message import Message, Role
from sessiond.core.metadata import pack_data, pack_metadata
from sessiond.core.run import WAITING, WaitFor
from sessiond.core.session import NewSession
from sessiond.core.wait import Terms, WaitType
from sessiond.storage.engine import Engine
from tests.actions.calling import ELSEWHERE, ME, append, caller, make_workspaces, text
from tests.actions.mailing import make_inbox, make_wait, receive
from tests.actions.working import DONE, NOW, ask, begin, do_one, finish, register, send, take
from tests.storage.making import query

WHOLE: Final = Subject()
THERE: Final = caller(workspace=ELSEWHERE)
SPACED: Final = '[\n {"text": "zwölf\\n"},\r\n {"n": 1.50}\n]'
BROKEN_LINES: Final = Message(role=Role.USER, content=msgspec.Raw(SPACED.encode()))

TABLES: Final = (
    "agents",
    "audit",
    "events",
    "inboxes",
    "mail_contents",
    "mails",
    "runs",
    "session_counts",
    "session_details",
    "session_metadata",
    "sessions",
    "waits",
)


async def fill(engine: Engine) -> None:
    """Have two workspaces, and in one of them something of every kind."""
    await make_workspaces(engine)
    await register(engine, concurrency=3)
    await agents.register(Call(engine, ME), "hook", NewAgent(runner="webhook", options=SECRET_OPTIONS), itself)
    await _converse(engine)
    await _wait_and_receive(engine)
    await begin(engine, "gone", "x")
    await do_one(engine)
    await sessions.delete(Call(engine, ME), "gone", itself)
    await sessions.create(Call(engine, ME), NewSession(user_id="ben"), itself, session_id="b", messages=[text("x")])
    await sessions.complete(Call(engine, ME), "b", itself, reason="done")


SECRET_OPTIONS: Final = {
    "url": "https://ada:sesame@example.org/agent?token=sesame",
    "secret": "whsec_c2VzYW1l",
    "headers": {"X-Key": "sesame"},
}


async def _converse(engine: Engine) -> None:
    """Have sessions with runs in every state."""
    new: dict[str, Any] = {
        "user_id": "ada",
        "user_name": "Ada Łovelace",
        "user_email": "ada@example.org",
        "task_id": "t",
        "name": "näme",
        "prompt": "line\nline",
        "metadata": pack_metadata({"plan": "gold", "n": 3, "flag": True, "deep": {"a": [1]}}),
        "data": pack_data({"k": "v"}),
        "accept_terms": "true",
        "expires_at_us": 4_000_000_000_000_000,
    }
    await begin(engine, "s", "one", **new)
    await do_one(engine)
    await _say(engine, "s", BROKEN_LINES)
    taken = await take(engine)
    await finish(engine, taken, msgspec.structs.replace(DONE, prompt_tokens=7, completion_tokens=9))
    await send(engine, "under way")
    await take(engine)
    await send(engine, "queued")
    await begin(engine, "asks", "x")
    assert await ask(engine, await take(engine))
    await begin(engine, "parked", "x", user_id="ada")
    parked = await take(engine)
    wanted = WaitFor(kind=WaitType.APPROVAL, title="may I?")
    after = await engine.write(lambda tx: work.park(tx, parked, DONE, wanted=wanted, wait_id="wait_p", now_us=NOW))
    assert after is not None
    assert after.status is WAITING


async def _say(engine: Engine, session_id: str, *said: Message) -> None:
    await messages.append(Call(engine, ME), session_id, said, itself)


async def _wait_and_receive(engine: Engine) -> None:
    """Have inboxes, mails and waits, with a session and without."""
    for session_id in ("s", None):
        inbox = await make_inbox(engine, session_id, purpose="tests", metadata=b'{"a":1}')
        await make_inbox(engine, session_id)
        await make_wait(engine, "otp", session_id, inbox_id=inbox.id)
        await receive(engine, inbox, "Your code is 482913", subject="Your code")
        await receive(engine, inbox, "grüße\r\n" * 3)
        await make_wait(engine, "approval", session_id, terms=Terms(title="t", detail={"x": ["y"]}))
        await make_wait(engine, "webhook", session_id)
        ended = await make_wait(engine, "timer", session_id, timeout_seconds=1000)
        await waits.cancel(Call(engine, ME), ended.id, itself, reason="no more")
    await make_wait(engine, "event", "s", terms=Terms(events=["message.*"]))
    expired = await make_inbox(engine, "s", ttl_seconds=1000)
    await inboxes.delete(Call(engine, ME), expired.id, itself)
    await append(engine, "s", "last")
    step = step_entry("tool.called", msgspec.Raw(f'{{"a": {SPACED}}}'.encode()), action="look up", duration_us=1_500)
    await client_events.append(Call(engine, ME), "s", [client_entry("note.made"), step], itself)


async def bundle(engine: Engine, subject: Subject = WHOLE, *, by: Caller = ME, **how: Any) -> list[bytes]:
    """Return the lines of an export."""
    return [line async for line in exports.export(Call(engine, by), subject, **how)]


async def bring(engine: Engine, lines: Sequence[bytes], *, by: Caller = ME, **how: Any) -> Imported:
    return await imports.import_bundle(Call(engine, by), source_of(lines), **how)


def source_of(lines: Sequence[bytes]) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(lines)


async def dump(database: str, *tables: str) -> dict[str, list[Any]]:
    """Return all rows of what a bundle may change."""
    return {table: sorted(map(repr, await query(database, f"select * from {table}"))) for table in tables or TABLES}


def sealed_again(lines: Sequence[bytes]) -> list[bytes]:
    """Return lines with checksums that are right, whatever was changed in them; the end counts as it did."""
    chain, again = Chain(), list[bytes]()
    for line in lines:
        record = line[:-27] + b"}"
        if record.startswith(b'{"type":"end"'):
            end = msgspec.json.decode(record)
            record = msgspec.json.encode(end | {"sha256": chain.digest})
        again.append(chain.seal(record))
    return again
