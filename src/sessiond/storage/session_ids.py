"""Which sessions something is to be done with: to expire, to be deleted, erased or exported. Their ids only."""

from __future__ import annotations

from sessiond.core.ids import WorkspaceId
from sessiond.storage import seals
from sessiond.storage.engine import Tx, Value


async def read_expired(tx: Tx, *, now_us: int, limit: int) -> list[tuple[WorkspaceId, str]]:
    """Return open sessions of all workspaces whose time is over, the first first."""
    rows = await tx.all("sessions_expired", now_us=now_us, limit=limit, locked=await seals.locked(tx))
    return [(row[0], row[1]) for row in rows]


async def drop_expiry(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> None:
    """Have a session never expire by itself."""
    await tx.run("session_expiry_drop", workspace=workspace_id, id=session_id)


async def find_next_expiry(tx: Tx) -> int | None:
    row = await tx.one("sessions_next_expiry", locked=await seals.locked(tx))
    return row[0] if row is not None else None


async def read_kept_long(tx: Tx, workspace_id: WorkspaceId, *, before_us: int, limit: int) -> list[str]:
    """Return sessions that ended before a time, the first first."""
    rows = await tx.all("sessions_kept_long", workspace=workspace_id, before_us=before_us, limit=limit)
    return [row[0] for row in rows]


async def read_ids_of_user(tx: Tx, workspace_id: WorkspaceId, user_id: str, *, until_us: int, limit: int) -> list[str]:
    """Return the ids of a user's sessions that were made up to a time, the first first."""
    rows = await tx.all("sessions_of_user", workspace=workspace_id, user=user_id, until_us=until_us, limit=limit)
    return [row[0] for row in rows]


async def read_ids_of_parent(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> list[str]:
    """Return the ids of sessions that replay a session."""
    rows = await tx.all("sessions_of_parent", workspace=workspace_id, parent=session_id, limit=limit)
    return [row[0] for row in rows]


async def read_ids(
    tx: Tx, workspace_id: WorkspaceId, *, agent_id: str | None, user_id: str | None, after: str, until: str, limit: int
) -> list[str]:
    """Return up to `limit` ids of sessions, in their order, from behind `after` to `until`."""
    asked: dict[str, Value] = {"workspace": workspace_id, "agent": agent_id, "user": user_id}
    rows = await tx.all("session_ids", **asked, after=after, until=until, limit=limit)
    return [row[0] for row in rows]


async def find_last_id(tx: Tx, workspace_id: WorkspaceId, *, agent_id: str | None, user_id: str | None) -> str | None:
    """Return the id that comes last in the order of ids; None when there is no session."""
    row = await tx.one("session_last_id", workspace=workspace_id, agent=agent_id, user=user_id)
    return row[0] if row is not None else None
