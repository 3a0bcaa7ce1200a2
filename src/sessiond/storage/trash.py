"""What nobody sees any more, and is removed from the database a piece at a time (`removal.py`)."""

from __future__ import annotations

from typing import Final

import msgspec

from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.storage.engine import Tx, Watched

INBOX: Final = "inbox"
"""What is left of it are its mails."""
SESSION: Final = "session"
"""What is left of it is its log, and whatever else there was too much of to go at once."""
PUT: Final[Watched] = (WorkspaceId(""), SessionId("trash"))
"""What the sweeper watches: there is something to be removed. No workspace has an empty id."""


class Trash(msgspec.Struct, frozen=True):
    """Something that is gone for its readers."""

    workspace_id: WorkspaceId
    kind: str
    id: str
    erasure_id: str | None = None
    """The erasure that it is part of."""


async def put(tx: Tx, trash: Trash) -> None:
    await tx.run("trash_put", workspace=trash.workspace_id, kind=trash.kind, id=trash.id, erasure=trash.erasure_id)
    tx.wake(*PUT)


async def find(tx: Tx) -> Trash | None:
    """Return something that is to be removed, in hand until this transaction ends; None when there is nothing."""
    row = await tx.one("trash_find")
    return Trash(*row) if row is not None else None


async def has(tx: Tx, workspace_id: WorkspaceId, kind: str, id: str) -> bool:
    return await tx.one("trash_has", workspace=workspace_id, kind=kind, id=id) is not None


async def has_of_erasure(tx: Tx, workspace_id: WorkspaceId, erasure_id: str) -> bool:
    """Whether something is left that is part of an erasure."""
    return await tx.one("trash_has_of_erasure", workspace=workspace_id, erasure=erasure_id) is not None


async def drop(tx: Tx, trash: Trash) -> None:
    """Forget something of which nothing is left."""
    await tx.run("trash_drop", workspace=trash.workspace_id, kind=trash.kind, id=trash.id)
