"""Messages: what is said in a session, appended to its log, and taken back from its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import queue
from sessiond.actions.call import A, About, Call
from sessiond.actions.events import INLINE_BYTES, INLINE_EVENTS, read_log, read_through, require_still
from sessiond.actions.sessions import activation
from sessiond.core.caller import Scope
from sessiond.core.errors import NotFound
from sessiond.core.event import SESSION_UPDATED, Entry, Event, StoredMessage, make_entry, message_entry, removal_entry
from sessiond.core.ids import RunId, SessionId, parse_event_id
from sessiond.core.message import Message
from sessiond.core.metadata import JsonObject, merge, pack_data, unpack
from sessiond.core.page import LogPage
from sessiond.core.run import Strategy
from sessiond.core.session import ACTIVE, CREATED, Session
from sessiond.storage import events, sessions
from sessiond.storage import messages as stored
from sessiond.storage.appends import Append, duration_of
from sessiond.storage.engine import Tx

TOGETHER_MAX_BYTES: Final = 4 * 1024 * 1024


class Appended(msgspec.Struct, frozen=True):
    """Messages that were appended, and the session as it is with them."""

    events: list[Event]
    session: Session


class Popped(msgspec.Struct, frozen=True):
    """The session as it is now, and the message that was its last; None: it has none."""

    session: Session
    message: StoredMessage | None


async def append(
    call: Call,
    session_id: str,
    messages: Sequence[Message],
    answer: Callable[[list[Event]], A],
    *,
    strategy: Strategy | None = None,
    start_run: bool = True,
    simulates: RunId | None = None,
) -> A:
    """Add messages to a session's log, all of them in order or none, and tell its followers.

    They are on disk when this returns. A created session becomes active; a paused one keeps them for later. Where the
    last is the user's and the session's agent is registered, a run is queued to answer them, unless `start_run` is
    false; `strategy` says what then becomes of a run that has not ended, and `simulates` which run's recorded tools
    answer those of the new one.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is no session of that id that the caller may see.
        Conflict: the session is completed or failed, or a run is under way and the message is to be rejected then.
        PreconditionFailed: the session is not in the version of the caller's If-Match.
    """
    entries = [message_entry(message) for message in messages]
    starts = start_run and queue.starts(entries)
    return await append_entries(
        call, session_id, entries, answer, strategy=strategy, starts=starts, simulates=simulates
    )


async def append_entries(
    call: Call,
    session_id: str,
    entries: Sequence[Entry],
    answer: Callable[[list[Event]], A],
    *,
    strategy: Strategy | None = None,
    starts: bool = False,
    simulates: RunId | None = None,
) -> A:
    """Add what a caller says to a session's log, messages or other events, all of it in order or nothing.

    See `append`; `starts` says whether the session's agent, where it is registered, is to answer.

    Raises:
        As `append`.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    wanted = call.append(SessionId(session_id), *entries, starts=starts)
    if call.unconditional:
        first_seq = await call.engine.combine(events.append_each, wanted)
        if first_seq is not None:
            return answer(_as_events(wanted, first_seq))

    async def operation(tx: Tx) -> list[Event]:
        return (await _append(tx, call, wanted, strategy=strategy, simulates=simulates)).events

    return await call.write(operation, answer, about=lambda _: About(session_id))


async def append_in_hand(
    call: Call,
    session_id: str,
    messages: Sequence[Message],
    answer: Callable[[Appended], A],
    *,
    data: JsonObject | None = None,
    strategy: Strategy | None = None,
    start_run: bool = True,
) -> A:
    """Like `append`, for who wants to know the session too; `data`, a JSON merge patch, changes that of the session.

    It has the session in hand, and is never combined with other appends: it costs more.

    Raises:
        As `append`.
        TooLarge: the session's `data` would be larger than it may be.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    entries = [message_entry(message) for message in messages]
    wanted = call.append(SessionId(session_id), *entries, starts=start_run and queue.starts(entries))

    async def operation(tx: Tx) -> Appended:
        return await _append(tx, call, wanted, data=data, strategy=strategy)

    return await call.write(operation, answer, about=lambda _: About(session_id))


async def pop(call: Call, session_id: str, answer: Callable[[Popped], A]) -> A:
    """Take the last message of a session back: it is in its log no more, nor is anything that it said.

    What was made of it stays: a run that answers it goes on, and keeps what it was given and has said.

    Raises:
        Forbidden: the caller lacks the write scope or, since they are shown the message, the read scope.
        NotFound: there is no session of that id that the caller may see.
        Conflict: the session is completed or failed.
        PreconditionFailed: the session is not in the version of the caller's If-Match.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> Popped:
        before = await _take_open(tx, call, session_id)
        taken = await stored.take_last(tx, before)
        if taken is None:
            return Popped(before, None)
        now, message = taken
        now = await events.append_to(tx, now, call.append(before.id, removal_entry(message)))
        return Popped(await sessions.save(tx, before, now), message)

    return await call.write(operation, answer, about=lambda _: About(session_id))


async def get(call: Call, session_id: str, message_id: str) -> Event:
    """Return one message.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is no such message, or session, that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_READ)
    place = parse_event_id(message_id)

    async def operation(tx: Tx) -> Event:
        session = await sessions.get(tx, call.caller.workspace_id, session_id, user_id=call.caller.user_id)
        event = None
        if place is not None and place[0] == session_id:
            event = await events.find(tx, session, place[1])
        if event is None or not event.is_message:
            raise NotFound("no such message")
        return event

    return await call.engine.read(operation)


async def read_page(
    call: Call,
    session_id: str,
    *,
    after: int | None = None,
    before: int | None = None,
    descending: bool = False,
    limit: int,
    offset: int = 0,
) -> LogPage[StoredMessage]:
    """Return up to `limit` messages with `after` < seq < `before`, in order; fewer where they are very large.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is no session of that id that the caller may see.
    """

    async def page(tx: Tx, session: Session) -> LogPage[StoredMessage]:
        return await events.read_message_page(
            tx, session, after=after, before=before, descending=descending, limit=limit, offset=offset
        )

    def passing(session: Session) -> int:
        return (limit + offset) * session.last_seq // max(1, session.message_count)

    return await read_log(call, session_id, page, passing=passing)


async def read_all(call: Call, session: Session) -> AsyncIterator[list[StoredMessage]]:
    """Yield all messages of a session, as it was when `session` was read, in pages that fit in memory."""
    async for page in read_through(session, partial(read_page, call, session.id)):
        yield page


async def read_each(
    call: Call, wanted: Sequence[Session]
) -> AsyncIterator[tuple[Session, AsyncIterator[list[StoredMessage]]]]:
    """Yield each session with all its messages, in pages: one query for all where they fit in memory together.

    Raises:
        Forbidden: the caller lacks the read scope.
    """
    call.caller.require(Scope.SESSIONS_READ)
    if sessions.total_bytes(wanted) > TOGETHER_MAX_BYTES:
        for session in wanted:
            yield session, read_all(call, session)
        return

    short = (
        sum(session.last_seq for session in wanted) <= INLINE_EVENTS and sessions.total_bytes(wanted) <= INLINE_BYTES
    )

    async def operation(tx: Tx) -> dict[SessionId, list[StoredMessage]]:
        found = await events.read_messages(tx, wanted)
        for session in wanted:
            await require_still(tx, call, session, short=short)
        return found

    found = await (call.engine.read if short else call.engine.scan)(operation)
    for session in wanted:
        yield session, _one_page(found[session.id])


async def _one_page(page: list[StoredMessage]) -> AsyncIterator[list[StoredMessage]]:
    if page:
        yield page


async def _take_open(tx: Tx, call: Call, session_id: str) -> Session:
    session = await sessions.take(tx, call.caller.workspace_id, session_id, user_id=call.caller.user_id)
    session.require_version(call.if_match)
    session.require_open()
    return session


async def _append(
    tx: Tx,
    call: Call,
    wanted: Append,
    *,
    data: JsonObject | None = None,
    strategy: Strategy | None = None,
    simulates: RunId | None = None,
) -> Appended:
    """Append with the session in hand, and queue a run where that is to answer."""
    before = now = await _take_open(tx, call, wanted.session_id)
    if data is not None:
        changed = replace(before, data=pack_data(merge(unpack(before.data), data)))
        if changed != before:
            said = make_entry(SESSION_UPDATED, {"data": data}, action="update_session")
            now = await events.append_to(tx, changed, call.append(before.id, said))
    if before.status is CREATED:
        now = await events.append_to(tx, replace(now, status=ACTIVE), call.append(before.id, activation()))
    agent = await queue.find_agent(tx, before) if wanted.starts else None
    if agent is None:
        after = await sessions.save(tx, before, await events.append_to(tx, now, wanted))
        return Appended(_as_events(wanted, now.last_seq + 1), after)
    by, entries = call.author, wanted.entries
    now, ended = await queue.make_way(tx, by, now, strategy)
    run, marked = queue.begin_run(by, now, agent, entries, run_id=RunId(call.new_id("run_")), simulates=simulates)
    answered = call.append(before.id, *marked)
    after = await sessions.save(tx, before, await events.append_to(tx, now, answered))
    await queue.add(tx, run, ended=ended)
    return Appended(_as_events(answered, now.last_seq + 1)[: len(entries)], after)


def _as_events(append: Append, first_seq: int) -> list[Event]:
    return [
        Event(
            append.session_id,
            seq,
            entry.type,
            append.at_us,
            append.actor,
            entry.run_id,
            entry.action,
            duration_of(append, entry),
            entry.body,
        )
        for seq, entry in enumerate(append.entries, first_seq)
    ]
