"""Workspaces as rows."""

from __future__ import annotations

from sessiond.core.caller import Workspace
from sessiond.core.ids import WorkspaceId
from sessiond.storage.engine import Row, Tx


async def insert(tx: Tx, workspace: Workspace) -> bool:
    """Add a workspace; False, and nothing happens, when its id is taken."""
    row = await tx.one(
        "workspace_insert",
        id=workspace.id,
        database_id_hash=workspace.database_id_hash,
        created_at_us=workspace.created_at_us,
    )
    return row is not None


async def find(tx: Tx, workspace_id: str) -> Workspace | None:
    row = await tx.one("workspace_get", id=workspace_id)
    return _row_to_workspace(row) if row is not None else None


async def find_by_key(tx: Tx, key_id: str) -> Workspace | None:
    row = await tx.one("workspace_by_key", key_id=key_id)
    return _row_to_workspace(row) if row is not None else None


async def read_page(tx: Tx, *, after: str = "", limit: int) -> list[Workspace]:
    """Return up to `limit` workspaces whose id comes after `after`."""
    rows = await tx.all("workspace_list", after=WorkspaceId(after), limit=limit)
    return [_row_to_workspace(row) for row in rows]


async def find_operators(tx: Tx, default: WorkspaceId) -> WorkspaceId | None:
    """Return where to note what belongs to no workspace: in `default`, else in the oldest; None when there is none."""
    row = await tx.one("workspace_of_operator", default=default)
    return row[0] if row is not None else None


async def set_retention(tx: Tx, workspace_id: str, seconds: int | None) -> bool:
    """Say how long a workspace keeps what has ended; False when there is none of that id."""
    return await tx.one("workspace_retention", id=workspace_id, seconds=seconds) is not None


async def set_audit_reads(tx: Tx, workspace_id: str, *, wanted: bool) -> bool:
    """Say whether a workspace notes reads of its sealed content; False when there is none of that id."""
    return await tx.one("workspace_audit_reads", id=workspace_id, wanted=int(wanted)) is not None


async def read_retentions(tx: Tx) -> list[tuple[WorkspaceId, int]]:
    """Return the workspaces that do not keep for ever what has ended, and for how many seconds they do."""
    return [(row[0], row[1]) for row in await tx.all("workspaces_with_retention")]


def _row_to_workspace(row: Row) -> Workspace:
    return Workspace(row[0], row[1], row[2], row[3], bool(row[4]), row[5] is not None)
