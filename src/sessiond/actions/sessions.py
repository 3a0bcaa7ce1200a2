"""Sessions: create, find, list, change, end, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from sessiond.actions import queue
from sessiond.actions.call import A, Call
from sessiond.core.audit import DELETE_SESSION
from sessiond.core.caller import Scope
from sessiond.core.errors import Conflict, NotFound
from sessiond.core.event import SESSION_CREATED, SESSION_UPDATED, STATUS_TYPES, Entry, make_entry, message_entry
from sessiond.core.ids import RunId, SessionId
from sessiond.core.inbox import PER_SESSION_MAX
from sessiond.core.limits import PAGE_MAX_BYTES
from sessiond.core.message import Message
from sessiond.core.metadata import JsonObject, merge, pack_data, pack_metadata, unpack
from sessiond.core.page import SessionPage, unpack_position
from sessiond.core.run import Strategy
from sessiond.core.session import ACTIVE, COMPLETED, CREATED, FAILED, NewSession, Session, SessionFilter, Sort, Status
from sessiond.storage import events, inboxes, runs, sealed_lists, sessions, waits
from sessiond.storage.engine import Tx

INLINE_SESSIONS: Final = 50  # rows that a read may touch and still count as short
INLINE_BYTES: Final = 256 * 1024


class IfExists(StrEnum):
    ERROR = "error"
    RETURN = "return"


class Created(msgspec.Struct, frozen=True):
    """A session that was made, or, with `new` false, the one that was there."""

    session: Session
    new: bool


class SessionPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; UNSET leaves as it is, None removes. Objects are JSON merge patches (RFC 7396)."""

    agent_id: str | UnsetType | None = UNSET
    user_id: str | UnsetType | None = UNSET
    task_id: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    user_name: str | UnsetType | None = UNSET
    user_email: str | UnsetType | None = UNSET
    accept_terms: str | UnsetType | None = UNSET
    expires_at_us: int | UnsetType | None = UNSET
    multitask_strategy: Strategy | UnsetType | None = UNSET
    prompt: str | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    metadata: JsonObject | UnsetType | None = UNSET
    data: JsonObject | UnsetType | None = UNSET


async def create(
    call: Call,
    new: NewSession,
    answer: Callable[[Created], A],
    *,
    session_id: str,
    messages: Sequence[Message] = (),
    if_exists: IfExists = IfExists.ERROR,
    given: JsonObject | None = None,
) -> A:
    """Make a session, with its first messages if there are any; nothing about one that exists changes.

    Its agent, if that is registered, sets to work when the last of them is the user's.

    `given` is what the log shows that the caller said; by default the session's own fields.

    Raises:
        Forbidden: the caller lacks the write scope, or is bound to another user.
        Conflict: the id is taken, and `if_exists` is "error" or the session is another user's.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    if new.user_id is None and call.caller.user_id is not None:
        new = replace(new, user_id=call.caller.user_id)
    call.caller.require_own(new.user_id)
    begun = new.begin(call.caller.workspace_id, SessionId(session_id), at_us=call.now_us)
    first = [creation(new, given=given)]
    if messages and begun.status is CREATED:
        begun = replace(begun, status=ACTIVE)
        first.append(activation())
    said = [message_entry(message) for message in messages]

    async def operation(tx: Tx) -> Created:
        entries, run = [*first, *said], None
        agent = await queue.find_agent(tx, begun) if queue.starts(said) else None
        if agent is not None:
            by, before_it = call.author, replace(begun, last_seq=len(first))
            run, marked = queue.begin_run(by, before_it, agent, said, run_id=RunId(call.new_id("run_")))
            entries = [*first, *marked]
        append = call.append(begun.id, *entries)
        session = replace(
            begun,
            last_seq=len(entries),
            message_count=append.messages,
            log_bytes=append.size,
            largest_bytes=append.largest,
        )
        inserted = await sessions.insert(tx, session)
        if inserted is not None:
            await events.insert(tx, append, first_seq=1, key_id=inserted.key_id)
            if run is not None:
                await queue.add(tx, replace(run, key_id=inserted.key_id))
            return Created(inserted, new=True)
        existing = await sessions.find(tx, begun.workspace_id, begun.id, user_id=call.caller.user_id)
        if existing is None or if_exists is IfExists.ERROR:
            raise Conflict("a session with this id exists", field="id")
        return Created(existing, new=False)

    return await call.write(operation, answer)


async def get(call: Call, session_id: str) -> Session:
    """Return a session.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is none of that id that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> Session:
        return await sessions.get(tx, call.caller.workspace_id, session_id, user_id=call.caller.user_id)

    return await call.engine.read(operation)


async def read_page(
    call: Call,
    wanted: SessionFilter,
    *,
    sort: Sort = Sort.CREATED,
    descending: bool = True,
    limit: int,
    offset: int = 0,
    cursor: str | None = None,
    with_total: bool = False,
) -> SessionPage:
    """Return a page of the sessions that the caller may see, and how many there are if that is asked for.

    Raises:
        Forbidden: the caller lacks the read scope.
        InvalidInput: the cursor is no good.
    """
    call.caller.require(Scope.SESSIONS_READ)
    position = unpack_position(cursor, sort, descending=descending) if cursor is not None else None
    mine = narrowed(call, wanted)
    workspace_id = call.caller.workspace_id

    async def page(tx: Tx, most_bytes: int = PAGE_MAX_BYTES) -> SessionPage | None:
        if mine is None:
            return SessionPage(sessions=[], total=0 if with_total else None)
        if await sealed_lists.applies(tx, workspace_id, mine, sort):
            return await sealed_lists.read_page(
                tx,
                workspace_id,
                mine,
                sort=sort,
                descending=descending,
                limit=limit,
                offset=offset,
                position=position,
            )
        total = await sessions.count(tx, workspace_id, mine) if with_total else None
        if total is not None and offset >= total:
            # Nothing to see there; without this the database would count its way to the offset.
            return SessionPage(sessions=[], more_before=total > 0, total=total)
        found = await sessions.read_page(
            tx,
            workspace_id,
            mine,
            sort=sort,
            descending=descending,
            limit=limit,
            offset=offset,
            position=position,
            most_bytes=most_bytes,
        )
        return replace(found, total=total) if found is not None else None

    async def short_page(tx: Tx) -> SessionPage | None:
        return await page(tx, INLINE_BYTES)

    found = None
    if limit <= INLINE_SESSIONS and offset <= INLINE_SESSIONS and sessions.in_order_of_an_index(mine, sort):
        found = await call.engine.read(short_page)
    if found is None:
        found = await call.engine.scan(page)
    assert found is not None, "a page is refused only where less was allowed"
    return found


async def patch(call: Call, session_id: str, changes: SessionPatch, answer: Callable[[Session], A]) -> A:
    """Change a session as `changes` says, all of it or nothing.

    Raises:
        Forbidden: the caller lacks the write scope, or would give the session to another user.
        NotFound: there is none of that id that the caller may see.
        Conflict: no step leads from the session's status to the one wanted.
        PreconditionFailed: the session is not in the version of the caller's If-Match.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    if changes.user_id is not UNSET:
        call.caller.require_own(changes.user_id)

    async def operation(tx: Tx) -> Session:
        before = await _take(tx, call, session_id)
        after = _apply(before, changes).become(
            changes.status if changes.status is not UNSET else before.status, call.now_us
        )
        if after == before:
            return before
        if before.ended and not after.ended:
            await _require_whole(tx, before)
        entries, said = list[Entry](), _said(changes)
        more_than_status = bool(said.keys() - {"status"})
        if more_than_status:
            entries.append(make_entry(SESSION_UPDATED, said, action="update_session"))
        if after.status != before.status:
            action = None if more_than_status else "update_session"
            entries.append(_status_entry(before.status, after.status, action=action, given=said))
        after = await _save(tx, call, before, after, entries)
        if after.user_id != before.user_id:
            for kept in (runs, inboxes, waits):
                await kept.rebind(tx, after.workspace_id, after.id, after.user_id)
        return after

    return await call.write(operation, answer)


async def complete(call: Call, session_id: str, answer: Callable[[Session], A], *, reason: str | None = None) -> A:
    """End a session well. Once more is fine and changes nothing.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is none of that id that the caller may see.
        Conflict: the session has failed.
        PreconditionFailed: the session is not in the version of the caller's If-Match.
    """
    return await _end(call, session_id, COMPLETED, answer, action="complete_session", reason=reason)


async def fail(call: Call, session_id: str, answer: Callable[[Session], A], *, reason: str | None = None) -> A:
    """End a session badly. Once more is fine and changes nothing.

    Raises:
        As `complete`; Conflict when the session is completed.
    """
    return await _end(call, session_id, FAILED, answer, action="fail_session", reason=reason)


async def delete(call: Call, session_id: str, answer: Callable[[None], A]) -> A:
    """Remove a session with its log, inboxes and waits, and note it in the audit log.

    Its runs stay, without it; open ones are cancelled.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is none of that id that the caller may see.
        PreconditionFailed: the session is not in the version of the caller's If-Match.
    """
    call.caller.require(Scope.SESSIONS_WRITE)

    async def operation(tx: Tx) -> None:
        session = await _take(tx, call, session_id, opens=False)
        await remove(tx, session, at_us=call.now_us)
        await call.audit(tx, DELETE_SESSION, {"id": session.id})

    return await call.write(operation, answer)


async def remove(tx: Tx, session: Session, *, at_us: int) -> None:
    """Remove a session that is in hand, open or not, with all that is its own; its runs stay, without it."""
    workspace_id = session.workspace_id
    await runs.orphan(tx, workspace_id, session.id, at_us=at_us)
    await waits.delete_of(tx, workspace_id, session.id)
    for inbox_id in await inboxes.read_ids(tx, workspace_id, session.id, limit=PER_SESSION_MAX):
        await inboxes.delete(tx, workspace_id, inbox_id)
    await sessions.delete(tx, session)
    tx.wake(workspace_id, session.id)


def creation(new: NewSession, *, given: JsonObject | None = None) -> Entry:
    """Return the event that a session's log begins with; see `create`."""
    return make_entry(SESSION_CREATED, given if given is not None else _given(new), action="create_session")


def activation() -> Entry:
    """Return the event of a created session's first message."""
    return _status_entry(CREATED, ACTIVE)


def narrowed(call: Call, wanted: SessionFilter) -> SessionFilter | None:
    """Return the filter within what the caller may see; None when nothing is left."""
    bound_to = call.caller.user_id
    if bound_to is None:
        return wanted
    if wanted.user_ids and bound_to not in wanted.user_ids:
        return None
    return replace(wanted, user_ids=(bound_to,))


async def _end(
    call: Call, session_id: str, status: Status, answer: Callable[[Session], A], *, action: str, reason: str | None
) -> A:
    call.caller.require(Scope.SESSIONS_WRITE)

    async def operation(tx: Tx) -> Session:
        before = await _take(tx, call, session_id)
        after = before.become(status, call.now_us)
        if after is before:
            return before
        given = {"reason": reason} if reason else {}
        entry = _status_entry(before.status, status, action=action, given=given)
        return await _save(tx, call, before, after, [entry])

    return await call.write(operation, answer)


async def _save(tx: Tx, call: Call, before: Session, after: Session, entries: Sequence[Entry]) -> Session:
    said, reason = call.append(before.id, *entries), f"the session was {after.status}"
    return await queue.save(tx, call.author, before, after, said, reason=reason)


async def _take(tx: Tx, call: Call, session_id: str, *, opens: bool = True) -> Session:
    session = await sessions.take(tx, call.caller.workspace_id, session_id, user_id=call.caller.user_id, opens=opens)
    session.require_version(call.if_match)
    return session


async def _require_whole(tx: Tx, session: Session) -> None:
    """Raise NotFound for a session that is not kept any more, and whose log has begun to go."""
    if await events.find(tx, session, 1) is None:
        raise NotFound("no such session")


def _apply(session: Session, changes: SessionPatch) -> Session:
    fields: dict[str, Any] = {
        name: value
        for name in SessionPatch.__struct_fields__
        if name not in ("status", "metadata", "data") and (value := getattr(changes, name)) is not UNSET
    }
    if changes.metadata is not UNSET:
        merged = merge(unpack(session.metadata), changes.metadata) if changes.metadata is not None else None
        fields["metadata"] = pack_metadata(merged)
    if changes.data is not UNSET:
        fields["data"] = pack_data(merge(unpack(session.data), changes.data) if changes.data is not None else None)
    return replace(session, **fields)


def _said(changes: SessionPatch) -> JsonObject:
    """Return what the log shows of a change: all that was sent."""
    return {name: value for name in SessionPatch.__struct_fields__ if (value := getattr(changes, name)) is not UNSET}


def _given(new: NewSession) -> JsonObject:
    fields = {name: value for name in NewSession.__struct_fields__ if (value := getattr(new, name)) is not None}
    for packed in ("metadata", "data"):
        if packed in fields:
            fields[packed] = msgspec.Raw(fields[packed])
    return fields


def _status_entry(
    before: Status, after: Status, *, action: str | None = None, given: JsonObject | None = None
) -> Entry:
    """Return the event of a change of status; it is a step if it has an action, and `given` is what was sent then."""
    body: JsonObject = {"from": before, "status": after}
    if action is not None:
        given = given if given is not None else {}
        body |= {"input": given, "output": {"status": after}}
        if "reason" in given:
            body["reason"] = given["reason"]
    return make_entry(STATUS_TYPES[after], body, action=action)
