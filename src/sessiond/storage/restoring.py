"""Sessions that come from elsewhere: what is theirs comes first, in pieces, and last their row, which shows them."""

from __future__ import annotations

import msgspec

from sessiond.core.ids import WorkspaceId
from sessiond.core.session import Session
from sessiond.storage import events, seals, sessions
from sessiond.storage.engine import Tx, Value


async def begin_restoring(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> bool:
    """Make room for a session that is to come from elsewhere: before its events and runs, which come before it.

    Removes up to `limit` of each kind of what an attempt has left that was broken off; whether that was all. Nothing
    where the session is there by now.
    """
    # Else it could be whole in the next moment, with what is removed here.
    await tx.one("workspace_lock", workspace=workspace_id)
    if await sessions.lock(tx, workspace_id, session_id):
        return True
    of_it: dict[str, Value] = {"workspace": workspace_id, "session": session_id, "limit": limit}
    left = await events.remove_some(tx, workspace_id, session_id, limit=limit)
    for statement in ("runs_delete_some", "waits_delete_some"):
        left = max(left, len(await tx.all(statement, **of_it)))
    return left < limit


async def has_left(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> bool:
    """Whether something is there of a session that is not."""
    row = await tx.one("session_has_left", workspace=workspace_id, session=session_id)
    assert row is not None
    return bool(row[0])


async def count_restored(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> tuple[int, int, int]:
    """Return how many events, runs and waits there are of a session; nobody removes any until it is there."""
    await tx.one("workspace_lock", workspace=workspace_id)
    row = await tx.one("session_restored", workspace=workspace_id, session=session_id)
    assert row is not None
    return row[0], row[1], row[2]


async def restore(tx: Tx, session: Session, *, open_runs: int) -> bool:
    """Add a session whose log and runs are there, and with that show it; False when its id is taken.

    Nobody works on its runs until it is `runs.schedule`d.
    """
    key_id = await seals.key_for(tx, session.workspace_id, session.id)
    if await sessions.insert(tx, msgspec.structs.replace(session, key_id=key_id)) is None:
        return False
    if open_runs:
        await tx.run("session_open_runs_set", workspace=session.workspace_id, id=session.id, n=open_runs)
    tx.wake(session.workspace_id, session.id)
    return True
