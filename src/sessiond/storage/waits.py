"""Waits as rows, and when each is to be looked at."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sessiond.core.errors import Damaged, NotFound
from sessiond.core.ids import RunId, SessionId, WorkspaceId
from sessiond.core.wait import PENDING_PER_SESSION_MAX, Wait, WaitFilter, WaitPage, WaitStatus, WaitType
from sessiond.storage import seals
from sessiond.storage.engine import Row, Tx, Value, Watched
from sessiond.storage.events import WAITS_DUE
from sessiond.storage.pages import page_tail, read_fitting
from sessiond.storage.vault import damaged

log: Final = logging.getLogger("sessiond.storage")

_End = tuple[bytes | None, str | None]
_ID: Final = Wait.__struct_fields__.index("id")
_TYPE: Final = Wait.__struct_fields__.index("type")
_STATUS: Final = Wait.__struct_fields__.index("status")
_CRITICAL: Final = Wait.__struct_fields__.index("critical")
_ITS_SESSION: Final = (
    "select s.id from sessions s where s.workspace_id = waits.workspace_id and s.id = waits.session_id"
)


def watched(workspace_id: WorkspaceId, wait_id: str) -> Watched:
    """Return what to watch to hear of a wait's end."""
    return workspace_id, SessionId(wait_id)


async def insert(tx: Tx, wait: Wait, *, hook_hash: bytes | None = None) -> Wait:
    """Add a wait, tell the sweeper when to look at it, and return it with its key."""
    wait = msgspec.structs.replace(wait, key_id=await seals.key_for(tx, wait.workspace_id, wait.session_id))
    columns = msgspec.structs.asdict(await seal(tx, wait))
    columns["workspace"] = columns.pop("workspace_id")
    columns |= {"type": str(wait.type), "status": str(wait.status)}
    due_at_us = wait.times_out_at_us if not wait.ended else None
    await tx.run("wait_insert", **columns, due_at_us=due_at_us, hook_hash=hook_hash)
    if due_at_us is not None:
        tx.wake(*WAITS_DUE)
    if wait.type is WaitType.EVENT and not wait.ended:
        await _count_for_events(tx, wait, 1)
    return wait


async def find(tx: Tx, workspace_id: WorkspaceId, wait_id: str, *, user_id: str | None) -> Wait | None:
    """Return the wait, or None when the workspace has none of that id, or when it is not `user_id`'s."""
    row = await tx.one("wait_get", workspace=workspace_id, id=wait_id, user=user_id)
    return await _row_to_wait(tx, row) if row is not None else None


async def get(tx: Tx, workspace_id: WorkspaceId, wait_id: str, *, user_id: str | None) -> Wait:
    """Return the wait.

    Raises:
        NotFound: the workspace has none of that id, or it is not `user_id`'s.
    """
    wait = await find(tx, workspace_id, wait_id, user_id=user_id)
    if wait is None:
        raise NotFound("no such wait")
    return wait


async def find_by_hook(tx: Tx, hook_hash: bytes) -> Wait | None:
    """Return the wait, of whichever workspace, that a URL completes."""
    row = await tx.one("wait_by_hook", hook_hash=hook_hash)
    return await _row_to_wait(tx, row) if row is not None else None


async def end(tx: Tx, wait: Wait) -> bool:
    """Write how a pending wait has ended, and tell who waits for it; False when it had ended before."""
    if wait.session_id is None:  # in nobody's hands: it may have got another key since it was read
        row = await tx.one("wait_lock", workspace=wait.workspace_id, id=wait.id)
        wait = msgspec.structs.replace(wait, key_id=row[0]) if row is not None else wait
    sealed = await seal(tx, wait)
    row = await tx.one(
        "wait_end",
        workspace=wait.workspace_id,
        id=wait.id,
        status=str(wait.status),
        result=sealed.result,
        reason=sealed.reason,
        at_us=wait.ended_at_us,
    )
    if row is None:
        return False
    await _tell_of_end(tx, wait)
    return True


async def end_each(tx: Tx, ends: Sequence[Wait]) -> list[Wait]:
    """Like `end`, for many; return those that had not ended before."""
    if not tx.takes_arrays or not ends:
        return [wait for wait in ends if await end(tx, wait)]
    sealed = [await seal(tx, wait) for wait in ends]
    values: dict[str, Any] = {
        "workspaces": [wait.workspace_id for wait in ends],
        "ids": [wait.id for wait in ends],
        "statuses": [str(wait.status) for wait in ends],
        "results": [wait.result for wait in sealed],
        "reasons": [wait.reason for wait in sealed],
        "ats_us": [wait.ended_at_us for wait in ends],
    }
    ended = {row[0] for row in await tx.all("wait_end_each", **values)}
    for wait in ends:
        if wait.id in ended:
            await _tell_of_end(tx, wait)
    return [wait for wait in ends if wait.id in ended]


async def put_off(tx: Tx, wait: Wait) -> None:
    """Have a wait be looked at again when it times out, by its terms as they are now."""
    terms = (await seal(tx, wait)).terms
    await tx.run("wait_put_off", workspace=wait.workspace_id, id=wait.id, terms=terms)


async def read_for_mail(
    tx: Tx, workspace_id: WorkspaceId, *, inbox_id: str, session_id: SessionId | None
) -> list[Wait]:
    """Return the pending waits that a mail to an inbox may end."""
    rows = await tx.all("waits_for_mail", workspace=workspace_id, inbox=inbox_id, session=session_id)
    return [await _row_to_wait(tx, row) for row in rows]


async def read_pending(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId, *, limit: int) -> list[Wait]:
    rows = await tx.all("waits_pending", workspace=workspace_id, session=session_id, limit=limit)
    return [await _row_to_wait(tx, row) for row in rows]


async def read_pending_in(tx: Tx, workspace_id: WorkspaceId, inbox_id: str, *, limit: int) -> list[Wait]:
    rows = await tx.all("waits_pending_in_inbox", workspace=workspace_id, inbox=inbox_id, limit=limit)
    return [await _row_to_wait(tx, row) for row in rows]


async def count_pending(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId) -> int:
    row = await tx.one("waits_pending_count", workspace=workspace_id, session=session_id)
    assert row is not None
    n: int = row[0]
    return n


async def count_pending_in(tx: Tx, workspace_id: WorkspaceId, inbox_id: str) -> int:
    row = await tx.one("waits_pending_in_inbox_count", workspace=workspace_id, inbox=inbox_id)
    assert row is not None
    n: int = row[0]
    return n


async def read_of_run(tx: Tx, workspace_id: WorkspaceId, run_id: RunId, *, limit: int) -> list[Wait]:
    """Return the waits that a run has asked for, in their order."""
    rows = await tx.all("waits_of_run", workspace=workspace_id, run=run_id, limit=limit)
    return [await _row_to_wait(tx, row) for row in rows]


async def read_ids(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> list[str]:
    """Return the ids of a session's waits, in the order in which they were made."""
    return [row[0] for row in await tx.all("wait_ids", workspace=workspace_id, session=session_id, limit=limit)]


async def rebind(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId, user_id: str | None) -> None:
    """Give a session's waits to the user that the session was given to."""
    await tx.run("waits_rebind", workspace=workspace_id, session=session_id, user=user_id)


async def delete_of(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId) -> None:
    """Remove what is waited for in a session, before it is deleted; whoever waits for it finds that it is gone.

    Waits that have ended are seen by nobody once the session is gone: see `remove_some`.
    """
    rows = await tx.all("waits_pending", workspace=workspace_id, session=session_id, limit=PENDING_PER_SESSION_MAX)
    for row in rows:  # they need not be open
        tx.wake(*watched(workspace_id, row[_ID]))
    await tx.run("waits_delete_pending", workspace=workspace_id, session=session_id)


async def remove_some(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> int:
    """Remove up to `limit` waits of a session that is to go; return how many."""
    return len(await tx.all("waits_delete_some", workspace=workspace_id, session=session_id, limit=limit))


async def remove_some_alone(tx: Tx, workspace_id: WorkspaceId, user_id: str, *, until_us: int, limit: int) -> int:
    """Remove up to `limit` waits of a user that have no session and were made up to a time; return how many."""
    rows = await tx.all("waits_delete_alone", workspace=workspace_id, user=user_id, until_us=until_us, limit=limit)
    for (wait_id,) in rows:
        tx.wake(*watched(workspace_id, wait_id))
    return len(rows)


async def count_of(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> int:
    row = await tx.one("waits_of_session_count", workspace=workspace_id, session=session_id)
    assert row is not None
    n: int = row[0]
    return n


async def read_page(
    tx: Tx,
    workspace_id: WorkspaceId,
    wanted: WaitFilter,
    *,
    user_id: str | None,
    descending: bool,
    limit: int,
    offset: int = 0,
    position: tuple[int, str] | None = None,
    with_total: bool = False,
) -> WaitPage:
    """Return up to `limit` waits by time of creation, from behind `position`, a time and an id, or `offset` in."""
    asked = {
        "session_id": wanted.session_id,
        "inbox_id": wanted.inbox_id,
        "status": str(wanted.status) if wanted.status is not None else None,
        "type": str(wanted.type) if wanted.type is not None else None,
        "user_id": user_id,
    }
    where, values = ["workspace_id = :workspace"], dict[str, Value](workspace=workspace_id)
    for column, value in asked.items():
        if value is not None:
            where.append(f"{column} = :{column}")
            values[column] = value
    where.append(f"(session_id is null or ({_ITS_SESSION}) is not null)")  # one whose session is gone is gone with it
    total = None
    if with_total:
        rows = await tx.select("wait_count_select", f"where {' and '.join(where)}", values)
        total = rows[0][0]
    tail = page_tail(
        where, values, by="created_at_us", descending=descending, limit=limit, offset=offset, position=position
    )
    rows, more = await read_fitting(tx, "wait_select", "wait_size_select", tail, values, limit=limit)
    return WaitPage(waits=[await _row_to_wait(tx, row) for row in rows], more=more, total=total)


async def read_free(
    tx: Tx, workspace_id: WorkspaceId, *, user_id: str | None, limit: int, position: tuple[int, str] | None = None
) -> tuple[list[Wait], bool]:
    """Return up to `limit` waits that have no session, by time of creation, and whether there are more."""
    where, values = ["workspace_id = :workspace", "session_id is null"], dict[str, Value](workspace=workspace_id)
    if user_id is not None:
        where.append("user_id = :user")
        values["user"] = user_id
    tail = page_tail(where, values, by="created_at_us", descending=False, limit=limit, position=position)
    rows, more = await read_fitting(tx, "wait_select", "wait_size_select", tail, values, limit=limit)
    return [await _row_to_wait(tx, row) for row in rows], more


async def find_hook(tx: Tx, wait: Wait) -> bytes | None:
    """Return the hash of what stands in the URL that completes a wait; None when it has none."""
    row = await tx.one("wait_hook", workspace=wait.workspace_id, id=wait.id)
    return bytes(row[0]) if row is not None and row[0] is not None else None


async def read_due(tx: Tx, *, now_us: int, limit: int) -> list[Wait]:
    """Return pending waits of all workspaces that are to be looked at, the longest due first.

    One that cannot be opened is looked at no more.
    """
    rows, found = await tx.all("waits_due", now_us=now_us, limit=limit, locked=await seals.locked(tx)), list[Wait]()
    for row in rows:
        try:
            found.append(await _row_to_wait(tx, row))
        except Damaged as error:
            # It must not be the first one again and again, and keep the clock from all others.
            log.error("a wait was due, and %s", error)
            await tx.run("wait_put_away", workspace=row[0], id=row[1])
    return found


async def find_next_due(tx: Tx) -> int | None:
    row: Any = await tx.one("waits_next_due", locked=await seals.locked(tx))
    return row[0] if row is not None else None


async def _tell_of_end(tx: Tx, wait: Wait) -> None:
    if wait.type is WaitType.EVENT:
        await _count_for_events(tx, wait, -1)
    tx.wake(*watched(wait.workspace_id, wait.id))


async def _count_for_events(tx: Tx, wait: Wait, n: int) -> None:
    await tx.run("session_event_waits", workspace=wait.workspace_id, id=wait.session_id, n=n)


async def seal(tx: Tx, wait: Wait) -> Wait:
    """Return a wait as its row has it: sealed, if it has a key. Result and reason are one then."""
    if wait.key_id is None:
        return wait
    cipher = await seals.cipher_of(tx, wait.workspace_id, wait.key_id)
    end = None
    if wait.result is not None or wait.reason is not None:
        end = cipher.seal(msgspec.msgpack.encode((wait.result, wait.reason)), "wait", wait.id, "end")
    terms = cipher.seal(wait.terms, "wait", wait.id, "terms")
    return msgspec.structs.replace(wait, terms=terms, result=end, reason=None)


async def _open(tx: Tx, wait: Wait) -> Wait:
    terms = await seals.open_with(tx, wait.workspace_id, wait.key_id, wait.terms, "wait", wait.id, "terms")
    end = await seals.open_with(tx, wait.workspace_id, wait.key_id, wait.result, "wait", wait.id, "end")
    if wait.reason is not None or terms is None:
        raise damaged("wait", wait.id)
    result, reason = msgspec.msgpack.decode(end, type=_End) if end is not None else (None, None)
    return msgspec.structs.replace(wait, terms=terms, result=result, reason=reason)


async def _row_to_wait(tx: Tx, row: Row) -> Wait:
    columns = [*row]
    columns[_TYPE] = WaitType(columns[_TYPE])
    columns[_STATUS] = WaitStatus(columns[_STATUS])
    columns[_CRITICAL] = bool(columns[_CRITICAL])
    wait = Wait(*columns)
    return await _open(tx, wait) if wait.key_id is not None else wait


async def rekey(tx: Tx, row: Row, key_id: int | None) -> None:
    """Seal a wait, as it was selected, with another key, or none."""
    wait = await seal(tx, msgspec.structs.replace(await _row_to_wait(tx, row), key_id=key_id))
    await tx.run(
        "wait_rekey",
        workspace=wait.workspace_id,
        id=wait.id,
        key=key_id,
        terms=wait.terms,
        result=wait.result,
        reason=wait.reason,
    )
