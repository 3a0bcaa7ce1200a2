"""The audit log as rows: added to, read, nothing else."""

from __future__ import annotations

import msgspec

from sessiond.core.audit import AuditEntry
from sessiond.core.ids import WorkspaceId
from sessiond.storage.engine import Tx


async def append(
    tx: Tx, workspace_id: WorkspaceId, event: str, record_locator: dict[str, str], *, actor: str, at_us: int
) -> None:
    """Add an entry in the transaction of what it tells of."""
    row = await tx.one("audit_next", workspace=workspace_id)
    assert row is not None, "a caller's workspace exists"
    await tx.run(
        "audit_insert",
        workspace=workspace_id,
        seq=row[0],
        at_us=at_us,
        actor=actor,
        event=event,
        record_locator=msgspec.json.encode(record_locator),
    )


async def read_page(tx: Tx, workspace_id: WorkspaceId, *, limit: int, offset: int) -> tuple[list[AuditEntry], int]:
    """Return up to `limit` entries, newest first, from `offset` on, and how many there are."""
    row = await tx.one("audit_total", workspace=workspace_id)
    total: int = row[0] if row is not None else 0
    # Numbered without gaps, so the offset is a number too and nothing is counted off.
    rows = await tx.all("audit_list", workspace=workspace_id, newest=total - offset, limit=limit)
    return [AuditEntry(*row) for row in rows], total


async def read_last_seq(tx: Tx, workspace_id: WorkspaceId) -> int:
    """Return the number of the entry that was added last; in the transaction that added one, of that one."""
    row = await tx.one("audit_total", workspace=workspace_id)
    assert row is not None, "a caller's workspace exists"
    seq: int = row[0]
    return seq
