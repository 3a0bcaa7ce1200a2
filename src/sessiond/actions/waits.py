"""Waits: make, find, list, wait for, cancel, complete; and ending those whose time has come."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import queue, waiting
from sessiond.actions.call import A, Author, Call, itself, note, note_in
from sessiond.actions.waiting import Place
from sessiond.core.caller import Scope
from sessiond.core.errors import Conflict, Damaged, InvalidInput, NotFound, TooLarge
from sessiond.core.event import STATUS_TYPES, Entry, Event, make_entry, shorten
from sessiond.core.ids import EVENT, make_event_id
from sessiond.core.metadata import JsonObject
from sessiond.core.session import FAILED
from sessiond.core.wait import (
    CANCELLED,
    COMPLETED,
    RESULT_MAX_BYTES,
    TIMED_OUT,
    NewWait,
    Wait,
    WaitFilter,
    WaitPage,
    WaitType,
)
from sessiond.crypto import hash_secret
from sessiond.storage import clock, events, inboxes, sessions, waits
from sessiond.storage.engine import Engine, Tx

log: Final = logging.getLogger("sessiond.sweeper")

CLOCK: Final = "clock"
"""Who the log says has ended what ran out of time."""
HOOK: Final = "hook"
"""Who the log says has called a wait's URL."""
NO_HOOK: Final = "there is no such hook, or nobody waits for it any more"
LOOK_SECONDS: Final = 1.0  # how long whoever waits trusts its wakes
SWEEP_MAX: Final = 100  # waits to a transaction: writers get their turn in between


class Made(msgspec.Struct, frozen=True):
    wait: Wait
    hook: str | None
    """What stands in the URL that completes it; known only now."""


class Swept(msgspec.Struct, frozen=True):
    looked_at: int
    ended: int
    busy: int
    """How many were passed by, because somebody has their session in hand."""


async def create(call: Call, new: NewWait, answer: Callable[[Made], A], *, given: NewWait | None = None) -> A:
    """Make a wait. A mail that `since` lets count, and that has come, completes it at once.

    `given` is what the caller said, where `new` has more than that.

    Raises:
        Forbidden: the caller lacks the write scope, or is bound to another user.
        InvalidInput: nothing could ever end it.
        NotFound: there is no such session or inbox that the caller may see.
        Conflict: the session has ended, the inbox takes no more mail or is another session's, or there are too many.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    bound_to = call.caller.user_id
    new = replace(new, user_id=new.user_id if new.user_id is not None else bound_to)
    call.caller.require_own(new.user_id)
    new.checked()
    if new.type is WaitType.EVENT and new.session_id is None:
        raise InvalidInput("a wait for an event needs a session_id", field="session_id")
    hook = secrets.token_urlsafe(32) if new.type is WaitType.WEBHOOK else None

    async def operation(tx: Tx) -> Made:
        session_id = new.session_id
        if session_id is None and new.inbox_id is not None:
            inbox = await inboxes.get(tx, call.caller.workspace_id, new.inbox_id, user_id=bound_to)
            session_id = inbox.session_id
        session = None
        if session_id is not None:
            session = await sessions.take(tx, call.caller.workspace_id, session_id, user_id=bound_to)
            session.require_version(call.if_match)
        wait, entries = await waiting.begin(
            tx,
            call.author,
            session,
            new,
            wait_id=call.new_id("wait_"),
            action="create_wait",
            given=given,
            hook_hash=hash_secret(hook) if hook is not None else None,
        )
        if session is not None:
            await sessions.save(tx, session, await events.append_to(tx, session, call.append(session.id, *entries)))
        return Made(wait, hook)

    return await call.write(operation, answer, about=lambda made: made.wait)


async def get(call: Call, wait_id: str) -> Wait:
    """Return a wait.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is none of that id that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> Wait:
        return await waits.get(tx, call.caller.workspace_id, wait_id, user_id=call.caller.user_id)

    return await call.engine.read(operation)


async def wait(
    call: Call,
    wait_id: str,
    *,
    timeout_seconds: float,
    still_allowed: Callable[[], Awaitable[object]] | None = None,
) -> Wait:
    """Return a wait once it has ended, or as it is after `timeout_seconds`.

    Ends early with what `still_allowed` raises.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is none of that id that the caller may see.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    with call.engine.watches.open(*waits.watched(call.caller.workspace_id, wait_id)) as watch:
        while True:
            now = await get(call, wait_id)
            left = deadline - loop.time()
            if now.ended or left <= 0:
                return now
            if still_allowed is not None:
                await still_allowed()
            await watch.wait(min(left, LOOK_SECONDS, call.engine.poll_seconds))


async def read_page(
    call: Call,
    wanted: WaitFilter,
    *,
    descending: bool = True,
    limit: int,
    offset: int = 0,
    position: tuple[int, str] | None = None,
    with_total: bool = False,
) -> WaitPage:
    """Return up to `limit` of the waits that the caller may see, by time of creation, from behind `position`.

    Raises:
        Forbidden: the caller lacks the read scope.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> WaitPage:
        return await waits.read_page(
            tx,
            call.caller.workspace_id,
            wanted,
            user_id=call.caller.user_id,
            descending=descending,
            limit=limit,
            offset=offset,
            position=position,
            with_total=with_total,
        )

    return await call.engine.scan(operation)


async def cancel(call: Call, wait_id: str, answer: Callable[[Wait], A], *, reason: str | None = None) -> A:
    """Cancel a wait. One that has ended stays as it is.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is none of that id that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_WRITE)

    async def operation(tx: Tx) -> Wait:
        found = await _take(tx, call, wait_id)
        if found.ended:
            return found
        entry = await waiting.end(tx, found, CANCELLED, at_us=call.now_us, reason=reason, action="cancel_wait")
        if entry is not None and found.session_id is not None:
            await events.note(tx, call.append(found.session_id, entry))
        return await waits.get(tx, found.workspace_id, found.id, user_id=None)

    return await call.write(operation, answer, about=itself)


async def complete(call: Call, wait_id: str, result: JsonObject, answer: Callable[[Wait], A]) -> A:
    """Complete a wait for somebody's word with that word.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is none of that id that the caller may see.
        Conflict: it waits for something else, or has ended.
        TooLarge: the result is.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    packed = _pack(result)

    async def operation(tx: Tx) -> Wait:
        found = await _take(tx, call, wait_id)
        if found.type is not WaitType.APPROVAL:
            raise Conflict(f"a wait of type {found.type} is not completed by a caller")
        if found.ended:
            raise Conflict(f"the wait is {found.status}")
        entry = await waiting.end(tx, found, COMPLETED, at_us=call.now_us, result=packed, action="complete_wait")
        now = await waits.get(tx, found.workspace_id, found.id, user_id=None)
        if entry is None:  # one without a session is in nobody's hands until it ends
            raise Conflict(f"the wait is {now.status}")
        if found.session_id is not None:
            await events.note(tx, call.append(found.session_id, entry))
        return now

    return await call.write(operation, answer, about=itself)


async def call_hook(engine: Engine, hook: str, result: JsonObject) -> Wait:
    """Complete the wait whose URL was called; once more is fine and changes nothing.

    Raises:
        NotFound: no wait has such a URL, or it has ended otherwise.
        TooLarge: the result is.
    """
    packed = _pack(result)

    async def find(tx: Tx) -> Wait | None:
        return await waits.find_by_hook(tx, hash_secret(hook))

    # Anybody may call without a key: who has no such URL costs a look, and no place in the writer's queue.
    if await engine.read(find) is None:
        raise NotFound(NO_HOOK)

    async def operation(tx: Tx) -> Wait:
        found = await find(tx)
        if found is not None and found.session_id is not None:
            await sessions.lock(tx, found.workspace_id, found.session_id)
            found = await find(tx)
        if found is None or found.status in (CANCELLED, TIMED_OUT):
            raise NotFound(NO_HOOK)
        by = Author(found.workspace_id, HOOK, await clock.read_us(tx))
        await waiting.end_and_note(tx, by, found, COMPLETED, result=packed)
        return await waits.get(tx, found.workspace_id, found.id, user_id=None)

    return await engine.write(operation)


async def sweep(tx: Tx, *, now_us: int, limit: int = SWEEP_MAX) -> Swept:
    """End waits whose time has come, and those for an event that the log has; `now_us` is the database's clock.

    Safe with many processes: a wait is ended with its session in hand, and one that somebody has is left for later.
    """
    due = await waits.read_due(tx, now_us=now_us, limit=limit)
    in_hand = await sessions.lock_free_each(tx, {place for wait in due if (place := waiting.place_of(wait))})
    ends, busy = list[Wait](), 0
    for wait in due:
        if (place := waiting.place_of(wait)) is not None and place not in in_hand:
            busy += 1
        elif (end := await _end_of(tx, wait, now_us=now_us)) is not None:
            ends.append(end)
    ended, said = await waiting.end_each(tx, ends), defaultdict[Place, list[Entry]](list)
    for wait, entry in ended:
        if (place := waiting.place_of(wait)) is not None:
            said[place].append(entry)
    notes = [note_in(place[1], Author(place[0], CLOCK, now_us), *entries) for place, entries in said.items()]
    await events.note_each(tx, notes)
    for wait, _ in ended:
        if wait.critical and wait.status is TIMED_OUT and wait.session_id is not None:
            await _fail_session(tx, Author(wait.workspace_id, CLOCK, now_us), wait)
    return Swept(len(due), len(ended), busy)


async def _end_of(tx: Tx, wait: Wait, *, now_us: int) -> Wait | None:
    """Return a wait that is to be looked at as it ends; None, and it is put off, when it is not time to."""
    if wait.type is WaitType.EVENT:
        try:
            event, wait = await _find_event(tx, wait)
        except Damaged as error:
            log.error("wait %s: %s", wait.id, error)
            event = None
        if event is not None:
            return waiting.end_of(wait, COMPLETED, at_us=now_us, result=msgspec.json.encode(_shown(event)))
    if wait.times_out_at_us is None or wait.times_out_at_us > now_us:
        await waits.put_off(tx, wait)
        return None
    if wait.type is WaitType.TIMER:
        return waiting.end_of(wait, COMPLETED, at_us=now_us, result=msgspec.json.encode({"at_us": now_us}))
    return waiting.end_of(wait, TIMED_OUT, at_us=now_us)


async def _find_event(tx: Tx, wait: Wait) -> tuple[Event | None, Wait]:
    """Return the event that a wait is for, if it is in the log; else the wait as it is for those to come."""
    assert wait.session_id is not None
    session, terms = await sessions.get(tx, wait.workspace_id, wait.session_id, user_id=None), wait.read_terms()
    page = await events.read_page(tx, session, after=terms.after_seq, types=terms.events, limit=1)
    if page.events:
        return page.events[0], wait
    seen = replace(terms, after_seq=max(terms.after_seq, session.last_seq))
    return None, replace(wait, terms=msgspec.json.encode(seen))


def _shown(event: Event) -> JsonObject:
    shown = shorten(event.body, waiting.RESULT_SHOWN_MAX_BYTES)
    event_id = make_event_id(EVENT, event.session_id, event.seq)
    return {"event_id": event_id, "seq": event.seq, "type": event.type, "data": shown}


async def _fail_session(tx: Tx, by: Author, wait: Wait) -> None:
    assert wait.session_id is not None
    before = await sessions.take(tx, wait.workspace_id, wait.session_id, user_id=None)
    if before.ended:
        return
    body: dict[str, Any] = {
        "from": before.status,
        "status": FAILED,
        "reason": "a critical wait timed out",
        "wait_id": wait.id,
    }
    said = note(before, by, make_entry(STATUS_TYPES[FAILED], body))
    reason = f"the session failed with the wait {wait.id}"
    await queue.save(tx, by, before, before.become(FAILED, by.at_us), said, reason=reason)


async def _take(tx: Tx, call: Call, wait_id: str) -> Wait:
    """Return a wait with its session in hand.

    Raises:
        NotFound: there is none that the caller may see.
    """
    found = await waits.get(tx, call.caller.workspace_id, wait_id, user_id=call.caller.user_id)
    if found.session_id is not None:
        await sessions.lock(tx, found.workspace_id, found.session_id)
        # Read again: while the session was waited for, it may have ended.
        found = await waits.get(tx, call.caller.workspace_id, wait_id, user_id=call.caller.user_id)
    return found


def _pack(result: JsonObject) -> bytes:
    packed = msgspec.json.encode(result)
    if len(packed) > RESULT_MAX_BYTES:
        raise TooLarge(f"the result is larger than {RESULT_MAX_BYTES} bytes", field="result")
    return packed
