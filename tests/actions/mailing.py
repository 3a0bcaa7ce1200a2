"""Inboxes, mails and waits for the tests of actions: made, delivered, looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any, Final

import msgspec

from sessiond.actions import events, inboxes, mails, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.mails import Mailboxes
from sessiond.actions.waits import Swept
from sessiond.core.caller import Caller
from sessiond.core.event import Event
from sessiond.core.inbox import Inbox, NewInbox
from sessiond.core.mail import Mail
from sessiond.core.wait import NewWait, Terms, Wait, WaitType
from sessiond.storage import clock
from sessiond.storage import sessions as sessions_in_storage
from sessiond.storage.engine import Engine, Operation, Tx
from sessiond.sweeper import Sweeper
from tests.actions.calling import ME, gathered
from tests.storage.making import query

DOMAIN: Final = "inbox.example"
CODE: Final = "Your verification code is 482913"
SECOND: Final = 1_000_000


def raw_mail(body: str = "hello", *, subject: str = "Hello", sender: str = "Ann <ann@example.org>") -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, "somebody@inbox.example", subject
    message.set_content(body)
    return message.as_bytes()


async def make_inbox(engine: Engine, session_id: str | None = None, *, by: Caller = ME, **new: Any) -> Inbox:
    return await inboxes.create(Call(engine, by), NewInbox(session_id=session_id, **new), itself, domain=DOMAIN)


async def make_wait(
    engine: Engine, type: str, session_id: str | None = None, *, by: Caller = ME, terms: Terms | None = None, **new: Any
) -> Wait:
    wanted = NewWait(type=WaitType(type), session_id=session_id, terms=terms or Terms(), **new)
    return (await waits.create(Call(engine, by), wanted, itself)).wait


async def receive(engine: Engine, inbox: Inbox, body: str = "hello", *, by: Caller = ME, **said: str) -> Mail:
    """Have a mail come by HTTP."""
    return await mails.receive(Call(engine, by), inbox.id, raw_mail(body, **said), itself)


async def deliver(engine: Engine, *to: Inbox, body: str = "hello", **said: str) -> None:
    """Have a mail come by SMTP."""
    addresses = [inbox.address for inbox in to]
    await Mailboxes(engine).deliver(addresses, raw_mail(body, **said), sender="envelope@example.org")


async def get_wait(engine: Engine, wait: Wait) -> Wait:
    return await waits.get(Call(engine, ME), wait.id)


async def sweep(engine: Engine, *, later_seconds: float = 0, **how: Any) -> Swept:
    async def operation(tx: Tx) -> Swept:
        return await waits.sweep(tx, now_us=await clock.read_us(tx) + int(later_seconds * SECOND), **how)

    return await engine.write(operation)


async def log_of(engine: Engine, session_id: str) -> list[Event]:
    call = Call(engine, ME)
    return await gathered(events.read_all(call, await sessions.get(call, session_id)))


async def types_of(engine: Engine, session_id: str) -> list[str]:
    return [event.type for event in await log_of(engine, session_id)]


def body_of(event: Event) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(event.body)
    return body


def result_of(wait: Wait) -> dict[str, Any]:
    assert wait.result is not None, wait
    result: dict[str, Any] = msgspec.json.decode(wait.result)
    return result


def ends(types: Sequence[str]) -> list[str]:
    """Return those of a log's types that end a wait."""
    return [type for type in types if type in ("wait.completed", "wait.timed_out", "wait.cancelled")]


@asynccontextmanager
async def open_sweeper(*engines: Engine) -> AsyncIterator[None]:
    """Have a sweeper at work on each engine until the block ends."""
    working = [asyncio.create_task(Sweeper(engine).work()) for engine in engines]
    try:
        yield
    finally:
        for task in working:
            task.cancel()
        await asyncio.wait(working)


@asynccontextmanager
async def held(engine: Engine, session_id: str) -> AsyncIterator[None]:
    """Have somebody else keep a session in hand until the block ends; PostgreSQL only."""
    letting_go, holding = asyncio.Event(), asyncio.Event()

    async def hold(tx: Tx) -> None:
        await sessions_in_storage.lock(tx, ME.workspace_id, session_id)
        holding.set()
        await letting_go.wait()

    holder = asyncio.create_task(hold_on(engine, hold))
    await holding.wait()
    try:
        yield
    finally:
        letting_go.set()
        await holder


async def hold_on(engine: Engine, hold: Operation[None]) -> None:
    await engine.write(hold)


async def count_deadlocks(engine: Engine, database: str) -> int:
    """Return how often two transactions stood in each other's way, so that one had to be run again."""
    if engine.name == "sqlite":
        return 0
    told = "select deadlocks from pg_stat_database where datname = current_database()"
    n: int = (await query(database, told))[0][0]
    return n
