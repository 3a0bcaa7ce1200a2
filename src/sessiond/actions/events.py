"""The log of a session: read by page, or followed as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from sessiond.actions.call import Call
from sessiond.core.caller import Scope
from sessiond.core.errors import NotFound
from sessiond.core.event import ENDS, RUN_STARTED, RUN_TEXT, Delta, Event
from sessiond.core.ids import SessionId
from sessiond.core.limits import PAGE_MAX
from sessiond.core.page import E, LogPage
from sessiond.core.session import Session
from sessiond.storage import events, sessions
from sessiond.storage.engine import Tx

INLINE_EVENTS: Final = 200  # rows that a read may pass by and still count as short
INLINE_BYTES: Final = 256 * 1024
FOLLOW_BATCH: Final = 100
TICK_SECONDS: Final = 1.0  # how soon a follower notices that its key was revoked


async def read_page(
    call: Call,
    session_id: str,
    *,
    after: int | None = None,
    before: int | None = None,
    types: Sequence[str] = (),
    descending: bool = False,
    limit: int,
    offset: int = 0,
) -> LogPage[Event]:
    """Return up to `limit` events with `after` < seq < `before`, in order; fewer where they are very large.

    `types` are names, or beginnings of names with `*` behind; none means all.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is no session of that id that the caller may see.
    """

    async def page(tx: Tx, session: Session) -> LogPage[Event]:
        return await events.read_page(
            tx, session, after=after, before=before, types=types, descending=descending, limit=limit, offset=offset
        )

    return await read_log(call, session_id, page, passing=lambda session: session.last_seq if types else limit + offset)


async def read_all(call: Call, session: Session) -> AsyncIterator[list[Event]]:
    """Yield a session's whole log, as it was when `session` was read, in pages that fit in memory."""
    async for page in read_through(session, partial(read_page, call, session.id)):
        yield page


async def read_through(
    session: Session, read: Callable[..., Coroutine[Any, Any, LogPage[E]]]
) -> AsyncIterator[list[E]]:
    """Yield page after page of a log up to where it was when `session` was read; `read` is a `read_page` of it."""
    after = 0
    while after < session.last_seq:
        found = await read(after=after, before=session.last_seq + 1, limit=PAGE_MAX)
        if found.session.created_at_us != session.created_at_us:
            return  # deleted, and made again under its id
        if found.events:
            yield found.events
        if not found.more:
            return
        after = found.events[-1].seq


async def read_log(
    call: Call,
    session_id: str,
    page: Callable[[Tx, Session], Coroutine[Any, Any, LogPage[E]]],
    *,
    passing: Callable[[Session], int],
) -> LogPage[E]:
    """Read a page of a session's log, on the loop where that holds up nobody.

    `passing` tells how many events the read will pass by.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is no session of that id that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def find(tx: Tx) -> Session:
        return await sessions.get(tx, call.caller.workspace_id, session_id, user_id=call.caller.user_id)

    session = await call.engine.read(find)
    short = is_short(session, min(passing(session), session.last_seq))

    async def operation(tx: Tx) -> LogPage[E]:
        found = await page(tx, session)
        await require_still(tx, call, session, short=short)
        return found

    return await (call.engine.read if short else call.engine.scan)(operation)


async def require_still(tx: Tx, call: Call, session: Session, *, short: bool) -> None:
    """Check, behind what was read of a session, that it was this caller's session that was read, and all of it.

    It was found in a snapshot of its own: by now it may have been deleted, and made again by another user. Where the
    read was not `short` it may have waited until some of a deleted log was removed.

    Raises:
        NotFound: it is not there any more, or another user's.
    """
    doubtful = call.caller.user_id is not None or not short
    if doubtful and await sessions.glance(tx, session, user_id=call.caller.user_id) is None:
        raise NotFound("no such session")


def is_short(session: Session, rows: int) -> bool:
    """Whether passing by so many events of a session holds up nobody, whatever is in them."""
    return rows <= INLINE_EVENTS and min(session.log_bytes, rows * session.largest_bytes) <= INLINE_BYTES


async def follow(
    call: Call,
    session_id: str,
    *,
    after: int | None,
    silence_seconds: float,
    still_allowed: Callable[[], Awaitable[object]],
    live: bool = False,
) -> AsyncIterator[list[Event | Delta]]:
    """Yield a session's events after the seq `after` (None: from now on), each once, in order, as they are committed.

    An `after` beyond the end means from now on: it was another session's, deleted since, or of a database that has lost
    its last moments.

    With `live`, the text of runs comes as `Delta`s too, sooner than the log has it. What was in an event already is
    left out, and nothing of it is sure to come.

    Yields an empty list at once, and whenever there was nothing for `silence_seconds`. Ends when the session is
    deleted, or with what `still_allowed` raises. Consume it under `aclosing`.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is no session of that id that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_READ)
    engine, workspace_id = call.engine, call.caller.workspace_id
    loop = asyncio.get_running_loop()
    # Opened before the first look: what is committed in between wakes it.
    with engine.watches.open(workspace_id, SessionId(session_id), live=live) as watch:

        async def opening(tx: Tx) -> Session:
            return await sessions.get(tx, workspace_id, session_id, user_id=call.caller.user_id)

        session = await engine.read(opening)
        position = session.last_seq if after is None else min(after, session.last_seq)

        async def look(tx: Tx) -> Session | None:
            return await sessions.glance(tx, session, user_id=call.caller.user_id)

        async def read(now: Session) -> list[Event]:
            short = is_short(now, min(FOLLOW_BATCH, now.last_seq - position))

            async def page(tx: Tx) -> list[Event]:
                found = await events.read_page(tx, now, after=position, limit=FOLLOW_BATCH)
                await require_still(tx, call, now, short=short)
                return found.events

            return await (engine.read if short else engine.scan)(page)

        yield []
        spoke = loop.time()
        written = _Written()
        while True:
            await still_allowed()
            watch.take_grown()
            now = await engine.read(look)
            looked = checked = loop.time()
            if now is None:
                return
            deltas = watch.take_deltas()
            found = await read(now) if now.last_seq > position else []
            if live:
                written.note(found)
            told: list[Event | Delta] = [*found, *written.without(deltas)]
            if told:
                yield told
                spoke = loop.time()
            if found:
                position = found[-1].seq
                continue
            while not watch.take_grown() and loop.time() - looked < engine.poll_seconds:
                if fresh := written.without(watch.take_deltas()):
                    yield [*fresh]
                    spoke = loop.time()
                await watch.wait(min(TICK_SECONDS, engine.poll_seconds, spoke + silence_seconds - loop.time()))
                if loop.time() - checked >= TICK_SECONDS:
                    await still_allowed()
                    checked = loop.time()
                if loop.time() - spoke >= silence_seconds:
                    yield []
                    spoke = loop.time()


class _Written:
    """How much of each run's text a follower has got from the log, so that it is not told of it again."""

    def __init__(self) -> None:
        self._ends: dict[str | None, int] = {}

    def note(self, found: Sequence[Event]) -> None:
        for event in found:
            if event.type == RUN_TEXT:
                text = msgspec.json.decode(event.body, type=_Text)
                self._ends[event.run_id] = text.offset + len(text.text)
            elif event.type == RUN_STARTED or event.type in ENDS:
                self._ends.pop(event.run_id, None)

    def without(self, deltas: Sequence[Delta]) -> list[Delta]:
        return [delta for delta in deltas if delta.end > self._ends.get(delta.run_id, 0)]


class _Text(msgspec.Struct):
    text: str
    offset: int
