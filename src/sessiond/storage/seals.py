"""Keys that content is sealed with, as rows, and in memory while they are in use."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from sessiond.core.ids import WorkspaceId
from sessiond.storage.engine import Tx

PLAIN: Final = 0
"""The id of the index key of what is kept in plain text."""


class IndexKey(msgspec.Struct, frozen=True):
    """What the words of a search index are hashed with, so that an index alone tells no word."""

    id: int
    """The workspace's key that it is derived from, or `PLAIN`."""
    secret: bytes


async def read_index_keys(tx: Tx, workspace_id: WorkspaceId) -> list[IndexKey]:
    """Return the keys that a workspace's index may have been made with, first the one for what is indexed now."""
    return [IndexKey(PLAIN, hashlib.sha256(b"sessiond index\0" + workspace_id.encode()).digest())]


async def destroy(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> bool:
    """Destroy the key of a session's content, which nobody can read any more, also where it was copied to; False when
    it has none."""
    return await tx.one("seal_key_destroy", workspace=workspace_id, session=session_id) is not None
