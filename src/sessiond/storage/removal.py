"""What is in the trash goes from the database, in pieces small enough that writers get their turn in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sessiond.core.ids import WorkspaceId
from sessiond.storage import events, idempotency, mails, runs, search, trash, waits
from sessiond.storage.engine import Tx

ROWS_MAX: Final = 500  # that go, to a transaction
MAILS_MAX: Final = 20  # each may be megabytes

Remover = Callable[[Tx, WorkspaceId, str], Awaitable[int]]
"""Removes some of what belongs to something, by its id, and returns how many; 0 when nothing is left."""


async def _mails(tx: Tx, workspace_id: WorkspaceId, inbox_id: str) -> int:
    return await mails.remove_some(tx, workspace_id, inbox_id, limit=MAILS_MAX)


async def _waits(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> int:
    return await waits.remove_some(tx, workspace_id, session_id, limit=ROWS_MAX)


async def _runs(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> int:
    return await runs.orphan_some(tx, workspace_id, session_id, limit=ROWS_MAX)


async def _answers(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> int:
    return await idempotency.forget_some(tx, workspace_id, session_id, limit=ROWS_MAX)


async def _index(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> int:
    return await search.remove_some(tx, workspace_id, session_id, limit=ROWS_MAX)


async def _events(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> int:
    return await events.remove_some(tx, workspace_id, session_id, limit=ROWS_MAX)


BESIDE_LOG: Final[tuple[Remover, ...]] = (_waits, _runs, _answers, _index)
"""What belongs to a session, has no bound, and is seen only through the session's row."""

# One after the other: the next begins when the one before has nothing left.
REMOVERS: Final[Mapping[str, tuple[Remover, ...]]] = {
    trash.INBOX: (_mails,),
    trash.SESSION: (*BESIDE_LOG, _events),
}


async def remove_beside_log(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> bool:
    """Remove some of what belongs to a session that is deleted in this transaction; return whether more may be left."""
    removed = [await remover(tx, workspace_id, session_id) for remover in BESIDE_LOG]
    return max(removed) >= ROWS_MAX


async def remove_piece(tx: Tx) -> int:
    """Remove some of what is in the trash, in one transaction; 0 when there is nothing in it."""
    found = await trash.find(tx)
    if found is None:
        return 0
    for remover in REMOVERS[found.kind]:
        if removed := await remover(tx, found.workspace_id, found.id):
            return removed
    await trash.drop(tx, found)
    return 1
