"""What time does to sessions and inboxes: they expire, and are deleted when their workspace has kept them long enough.

Each is a small transaction, given the database's clock, and safe with many processes: what is changed is in hand, and
what somebody else has in hand is left for later.
"""

from __future__ import annotations

import logging
from typing import Final

from sessiond.actions import queue, waiting
from sessiond.actions.call import Author, note, note_in
from sessiond.actions.sessions import remove
from sessiond.actions.waits import CLOCK
from sessiond.core.audit import DELETE_INBOX, DELETE_SESSION
from sessiond.core.errors import Damaged
from sessiond.core.event import INBOX_EXPIRED, STATUS_TYPES, make_entry
from sessiond.core.ids import WorkspaceId
from sessiond.core.session import COMPLETED
from sessiond.core.wait import CANCELLED, PENDING_PER_INBOX_MAX
from sessiond.storage import audit, events, inboxes, removal, session_ids, sessions, waits, workspaces
from sessiond.storage.engine import Tx

log: Final = logging.getLogger("sessiond.sweeper")

EXPIRE_MAX: Final = 20  # to a transaction: each may have runs and waits to be cancelled


async def find_next(tx: Tx) -> int | None:
    """Return when a session or an inbox expires next, or a wait is to be looked at; None when nothing will be."""
    times = [await waits.find_next_due(tx), await session_ids.find_next_expiry(tx), await inboxes.find_next_expiry(tx)]
    return min((at_us for at_us in times if at_us is not None), default=None)


async def expire_sessions(tx: Tx, *, now_us: int, limit: int = EXPIRE_MAX) -> int:
    """Complete open sessions whose time is over; return how many."""
    done = 0
    for workspace_id, session_id in sorted(await session_ids.read_expired(tx, now_us=now_us, limit=limit)):
        if not await sessions.lock_free(tx, workspace_id, session_id):
            continue
        try:
            before = await sessions.get(tx, workspace_id, session_id, user_id=None)
        except Damaged as error:
            # It must not be the first one again and again, and keep the clock from all others.
            log.error("a session was to expire, and %s", error)
            await session_ids.drop_expiry(tx, workspace_id, session_id)
            continue
        if before.ended or before.expires_at_us is None or before.expires_at_us > now_us:
            continue
        by = Author(workspace_id, CLOCK, now_us)
        body = {"from": before.status, "status": COMPLETED, "reason": "it expired"}
        said = note(before, by, make_entry(STATUS_TYPES[COMPLETED], body))
        await queue.save(tx, by, before, before.become(COMPLETED, now_us), said, reason="the session expired")
        done += 1
    return done


async def expire_inboxes(tx: Tx, *, now_us: int, limit: int = EXPIRE_MAX) -> int:
    """Have inboxes whose time is over take no more mail, and cancel what waits for one; return how many."""
    done = 0
    found = await inboxes.read_expiring(tx, now_us=now_us, limit=limit)
    # In the order in which everybody takes inboxes. Sessions are not waited for, so that they may come after.
    for inbox in sorted(found, key=lambda inbox: (inbox.workspace_id, inbox.id)):
        if inbox.session_id is not None and not await sessions.lock_free(tx, inbox.workspace_id, inbox.session_id):
            continue
        by = Author(inbox.workspace_id, CLOCK, now_us)
        if await inboxes.take(tx, inbox.workspace_id, inbox.id) is None:
            continue
        pending = await waits.read_pending_in(tx, inbox.workspace_id, inbox.id, limit=PENDING_PER_INBOX_MAX)
        places = {place for wait in pending if (place := waiting.place_of(wait)) is not None}
        if await sessions.lock_free_each(tx, places) < places or not await inboxes.expire(tx, inbox, at_us=now_us):
            continue
        if inbox.session_id is not None:
            await events.note(tx, note_in(inbox.session_id, by, make_entry(INBOX_EXPIRED, {"inbox_id": inbox.id})))
        for wait in pending:
            await waiting.end_and_note(tx, by, wait, CANCELLED, reason="the inbox expired")
        done += 1
    return done


async def read_retentions(tx: Tx) -> list[tuple[WorkspaceId, int]]:
    """Return the workspaces that do not keep for ever what has ended, and for how many seconds they do."""
    return await workspaces.read_retentions(tx)


async def delete_ended(tx: Tx, now_us: int, *, workspace_id: WorkspaceId, kept_us: int) -> int:
    """Remove a session or an inbox that ended `kept_us` ago, and note it; 0 when there is none that is free."""
    before_us = now_us - kept_us
    for inbox_id in await inboxes.read_kept_long(tx, workspace_id, before_us=before_us, limit=1):
        await inboxes.delete(tx, workspace_id, inbox_id)
        await _note(tx, workspace_id, DELETE_INBOX, inbox_id, at_us=now_us)
        return 1
    for session_id in await session_ids.read_kept_long(tx, workspace_id, before_us=before_us, limit=EXPIRE_MAX):
        if not await sessions.lock_free(tx, workspace_id, session_id):
            continue
        # What nobody can open goes too, at its time.
        session = await sessions.take(tx, workspace_id, session_id, user_id=None, opens=False)
        if session.completed_at_us is None or session.completed_at_us >= before_us:
            continue  # opened again meanwhile
        await remove(tx, session, at_us=now_us)
        await _note(tx, workspace_id, DELETE_SESSION, session_id, at_us=now_us)
        return 1
    return 0


async def _note(tx: Tx, workspace_id: WorkspaceId, event: str, id: str, *, at_us: int) -> None:
    locator = {"id": id, "reason": "retention"}
    await audit.append(tx, workspace_id, event, locator, actor=CLOCK, at_us=at_us)


async def empty_trash(tx: Tx) -> int:
    """Remove some of what nobody sees any more; 0 when there is nothing."""
    return await removal.remove_piece(tx)
