"""The log of a session: read by page, or followed as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from sessiond.actions.call import Call
from sessiond.core.caller import Scope
from sessiond.core.event import Event
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
    after = 0
    while after < session.last_seq:
        found = await read_page(call, session.id, after=after, before=session.last_seq + 1, limit=PAGE_MAX)
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
    rows = min(passing(session), session.last_seq)
    short = rows <= INLINE_EVENTS and rows * session.log_bytes <= INLINE_BYTES * session.last_seq

    async def operation(tx: Tx) -> LogPage[E]:
        return await page(tx, session)

    return await (call.engine.read if short else call.engine.scan)(operation)


async def follow(
    call: Call,
    session_id: str,
    *,
    after: int | None,
    silence_seconds: float,
    still_allowed: Callable[[], Awaitable[object]],
) -> AsyncIterator[list[Event]]:
    """Yield a session's events after the seq `after` (None: from now on), each once, in order, as they are committed.

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
    with engine.watches.open(workspace_id, SessionId(session_id)) as watch:

        async def opening(tx: Tx) -> Session:
            return await sessions.get(tx, workspace_id, session_id, user_id=call.caller.user_id)

        session = await engine.read(opening)
        begun_us, position = session.created_at_us, session.last_seq if after is None else after

        async def news(tx: Tx) -> list[Event] | None:
            now = await sessions.find(tx, workspace_id, session_id, user_id=call.caller.user_id)
            if now is None or now.created_at_us != begun_us:
                return None
            if now.last_seq <= position:
                return []
            return (await events.read_page(tx, now, after=position, limit=FOLLOW_BATCH)).events

        yield []
        spoke = looked = loop.time()
        while True:
            await still_allowed()
            found = await engine.read(news)
            looked = loop.time()
            if found is None:
                return
            if found:
                position = found[-1].seq
                yield found
                spoke = loop.time()
                continue
            while not await watch.wait(min(TICK_SECONDS, engine.poll_seconds, spoke + silence_seconds - loop.time())):
                await still_allowed()
                if loop.time() - spoke >= silence_seconds:
                    yield []
                    spoke = loop.time()
                if loop.time() - looked >= engine.poll_seconds:
                    break
