"""What nobody sees any more, and is removed from the database a piece at a time."""

from __future__ import annotations

import msgspec

from sessiond.core.ids import WorkspaceId
from sessiond.storage.engine import Tx


class Trash(msgspec.Struct, frozen=True):
    """Something that is gone for its readers. Inboxes, so far: what is left of them are their mails."""

    workspace_id: WorkspaceId
    kind: str
    id: str


async def put(tx: Tx, trash: Trash) -> None:
    await tx.run("trash_put", workspace=trash.workspace_id, kind=trash.kind, id=trash.id)


async def find(tx: Tx) -> Trash | None:
    """Return something that is to be removed; None when there is nothing."""
    row = await tx.one("trash_find")
    return Trash(*row) if row is not None else None


async def drop(tx: Tx, trash: Trash) -> None:
    """Forget something of which nothing is left."""
    await tx.run("trash_drop", workspace=trash.workspace_id, kind=trash.kind, id=trash.id)
