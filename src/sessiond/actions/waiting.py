"""Waits as they change inside somebody's transaction: made, ended, and the runs that go on with them.

The session of a wait, where it has one, is in hand (`sessions.take`). What is returned is to be appended to its log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from sessiond.actions.call import Author, note_in
from sessiond.core.errors import Conflict, NotFound
from sessiond.core.event import WAIT_CREATED, WAIT_ENDS, Entry, make_entry, shorten
from sessiond.core.ids import RunId, SessionId, WorkspaceId
from sessiond.core.inbox import Inbox
from sessiond.core.metadata import JsonObject
from sessiond.core.run import QUEUED
from sessiond.core.session import Session
from sessiond.core.wait import (
    CANCELLED,
    COMPLETED,
    FOR_MAIL,
    PENDING,
    PENDING_PER_INBOX_MAX,
    PENDING_PER_SESSION_MAX,
    NewWait,
    Wait,
    WaitStatus,
    find_in,
)
from sessiond.storage import clock, events, inboxes, mails, runs, waits
from sessiond.storage.engine import Tx

MAILS_LOOKED_AT: Final = 1_000  # of those that came before a wait: an inbox holds no more
RESULT_SHOWN_MAX_BYTES: Final = 16 * 1024

Place = tuple[WorkspaceId, SessionId]
T = TypeVar("T")


class OtherSessionsError(Exception):
    """Waits of these sessions would end too: they must be in hand before the inbox is."""

    def __init__(self, places: Collection[Place]) -> None:
        super().__init__()
        self.places = places


async def with_sessions(attempt: Callable[[frozenset[Place]], Awaitable[T]]) -> T:
    """Do what ends waits of sessions that are known only while it is done: again, with those, until none is missing.

    Everybody takes sessions first, in the order of their ids, then inboxes; so nobody waits for another in a circle.
    """
    places = frozenset[Place]()
    while True:
        try:
            return await attempt(places)
        except OtherSessionsError as missing:
            places |= {*missing.places}


def place_of(wait: Wait) -> Place | None:
    return (wait.workspace_id, wait.session_id) if wait.session_id is not None else None


def require_in_hand(found: Sequence[Wait], places: Collection[Place]) -> None:
    """Raise OtherSessionsError when the session of one of the waits is not in hand."""
    theirs = {place for wait in found if (place := place_of(wait)) is not None}
    if not theirs <= {*places}:
        raise OtherSessionsError(theirs - {*places})


async def begin(
    tx: Tx,
    by: Author,
    session: Session | None,
    new: NewWait,
    *,
    wait_id: str,
    run_id: RunId | None = None,
    action: str | None = None,
    given: NewWait | None = None,
    hook_hash: bytes | None = None,
) -> tuple[Wait, list[Entry]]:
    """Make a wait, and return it with what the log is to be told. Where what it is for is there, it has ended already.

    `session` is the one that `new` names, or that of the inbox that `new` names. `given` is what the caller said, where
    `new` has more than that.

    Raises:
        NotFound: there is no such inbox.
        Conflict: the session has ended, the inbox takes no more mail or is another session's, or there are too many.
    """
    # The clock that mails are received by, and that ends it.
    now_us = await clock.read_us(tx)
    inbox = await _take_inbox(tx, by, session, new, now_us=now_us)
    terms = new.terms
    if inbox is not None and await waits.count_pending_in(tx, by.workspace_id, inbox.id) >= PENDING_PER_INBOX_MAX:
        raise Conflict(f"the inbox has {PENDING_PER_INBOX_MAX} pending waits, which is the most it may have")
    if session is not None:
        session.require_open()
        if await waits.count_pending(tx, session.workspace_id, session.id) >= PENDING_PER_SESSION_MAX:
            raise Conflict(f"the session has {PENDING_PER_SESSION_MAX} pending waits, which is the most it may have")
        # Its own beginning is nothing that it waits for.
        terms = replace(terms, after_seq=session.last_seq + 1)
    timeout_us = int(new.timeout_seconds * 1_000_000) if new.timeout_seconds is not None else None
    wait = Wait(
        workspace_id=by.workspace_id,
        id=wait_id,
        session_id=session.id if session is not None else None,
        inbox_id=inbox.id if inbox is not None else None,
        run_id=run_id,
        user_id=session.user_id if session is not None else inbox.user_id if inbox is not None else new.user_id,
        type=new.type,
        status=PENDING,
        critical=new.critical,
        terms=msgspec.json.encode(terms),
        result=None,
        reason=None,
        actor=by.actor,
        created_at_us=now_us,
        times_out_at_us=now_us + timeout_us if timeout_us is not None else None,
        ended_at_us=None,
    )
    wait = await waits.insert(tx, wait, hook_hash=hook_hash)
    entries = [_creation(wait, given or new, action=action)]
    if new.type in FOR_MAIL and terms.since_us is not None:
        found = await mails.read_since(
            tx,
            by.workspace_id,
            inbox_id=wait.inbox_id,
            session_id=wait.session_id,
            since_us=terms.since_us,
            limit=MAILS_LOOKED_AT,
        )
        for mail in found:
            if (result := find_in(wait, mail)) is not None:
                said = await end(tx, wait, COMPLETED, at_us=now_us, result=msgspec.json.encode(result))
                entries += [said] if said is not None else []
                break
    now = await waits.find(tx, by.workspace_id, wait_id, user_id=None)
    assert now is not None, "it was made just now"
    return now, entries


async def _take_inbox(tx: Tx, by: Author, session: Session | None, new: NewWait, *, now_us: int) -> Inbox | None:
    if new.inbox_id is None:
        return None
    # Kept until this ends: a mail that comes meanwhile finds the wait, or is found by it.
    inbox = await inboxes.take(tx, by.workspace_id, new.inbox_id)
    if inbox is None or (new.user_id is not None and inbox.user_id != new.user_id):
        raise NotFound("no such inbox")
    if inbox.session_id is not None and session is not None and inbox.session_id != session.id:
        raise Conflict("the inbox is another session's", field="inbox_id")
    if not inbox.takes_mail(now_us):
        raise Conflict("the inbox has expired", field="inbox_id")
    return inbox


def _creation(wait: Wait, said: NewWait, *, action: str | None) -> Entry:
    body: JsonObject = {"wait_id": wait.id, "type": wait.type, "inbox_id": wait.inbox_id, "critical": wait.critical}
    if action is not None:
        body |= {"input": given_of(said), "output": {"id": wait.id}}
    return make_entry(WAIT_CREATED, body, action=action, run_id=wait.run_id)


def given_of(new: NewWait) -> JsonObject:
    """Return what was said of a wait, without where it is: the log it stands in says that."""
    said: JsonObject = {"type": new.type}
    if new.timeout_seconds is not None:
        said["timeout_seconds"] = new.timeout_seconds
    if new.critical:
        said["critical"] = True
    terms: dict[str, Any] = msgspec.to_builtins(new.terms)
    terms.pop("after_seq", None)
    return said | terms


async def end(
    tx: Tx,
    wait: Wait,
    status: WaitStatus,
    *,
    at_us: int,
    result: bytes | None = None,
    reason: str | None = None,
    action: str | None = None,
) -> Entry | None:
    """End a pending wait, and have the run go on that waits for it; None when it had ended before.

    `result` is a JSON object; `action` makes a step of it.
    """
    ended = end_of(wait, status, at_us=at_us, result=result, reason=reason)
    if not await waits.end(tx, ended):
        return None
    if wait.run_id is not None:
        await _go_on(tx, ended)
    return _entry(ended, action=action)


async def end_each(tx: Tx, ends: Sequence[Wait]) -> list[tuple[Wait, Entry]]:
    """Like `end`, for many; return those that had not ended before, with what is to be said of them."""
    ended = await waits.end_each(tx, ends)
    for wait in ended:
        if wait.run_id is not None:
            await _go_on(tx, wait)
    return [(wait, _entry(wait)) for wait in ended]


def end_of(
    wait: Wait, status: WaitStatus, *, at_us: int, result: bytes | None = None, reason: str | None = None
) -> Wait:
    """Return a pending wait as it is when it has ended."""
    return replace(wait, status=status, result=result, reason=reason, ended_at_us=max(at_us, wait.created_at_us))


def _entry(ended: Wait, *, action: str | None = None) -> Entry:
    body: JsonObject = {"wait_id": ended.id, "type": ended.type}
    said: JsonObject = {}
    if ended.result is not None:
        said["result"] = shorten(ended.result, RESULT_SHOWN_MAX_BYTES)
    if ended.reason is not None:
        said["reason"] = ended.reason
    if action is not None:
        body |= {"input": {"wait_id": ended.id} | said, "output": {"id": ended.id, "status": ended.status}}
    return make_entry(WAIT_ENDS[ended.status], body | said, action=action, run_id=ended.run_id)


async def end_and_note(
    tx: Tx, by: Author, wait: Wait, status: WaitStatus, *, result: bytes | None = None, reason: str | None = None
) -> bool:
    """End a pending wait and say so in its session's log; False when it had ended before. See `end`."""
    entry = await end(tx, wait, status, at_us=by.at_us, result=result, reason=reason)
    if entry is not None and wait.session_id is not None:
        await events.note(tx, note_in(wait.session_id, by, entry))
    return entry is not None


async def cancel_pending(tx: Tx, session: Session, *, at_us: int, reason: str) -> list[Entry]:
    """Cancel all that is waited for in a session."""
    found = await waits.read_pending(tx, session.workspace_id, session.id, limit=PENDING_PER_SESSION_MAX)
    return await cancel_each(tx, found, at_us=at_us, reason=reason)


async def cancel_each(tx: Tx, found: Sequence[Wait], *, at_us: int, reason: str) -> list[Entry]:
    """Cancel waits of a session that is in hand."""
    ends = [end_of(wait, CANCELLED, at_us=at_us, reason=reason) for wait in found]
    return [entry for _, entry in await end_each(tx, ends)]


async def _go_on(tx: Tx, wait: Wait) -> None:
    assert wait.run_id is not None
    run = await runs.find(tx, wait.workspace_id, wait.run_id, user_id=None)
    if run is None or run.ended or run.wait_id != wait.id or run.session_id is None:
        return
    await runs.save(tx, replace(run.become(QUEUED, wait.ended_at_us or 0), wait_id=None))
    await runs.schedule(tx, run.workspace_id, run.session_id, now_us=await clock.read_us(tx))
