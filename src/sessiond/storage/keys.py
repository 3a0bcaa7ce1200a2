"""API keys as rows. The secret is not among them: only its SHA-256 is."""

from __future__ import annotations

import msgspec

from sessiond.core.caller import ALL_SCOPES, Key, Scope
from sessiond.core.ids import KeyId, WorkspaceId
from sessiond.storage.engine import Row, Tx


async def insert(tx: Tx, key: Key, *, secret_hash: bytes) -> None:
    await tx.run(
        "key_insert",
        id=key.id,
        workspace=key.workspace_id,
        name=key.name,
        hash=secret_hash,
        scopes=" ".join(sorted(key.scopes)),
        dialect=key.dialect,
        user_id=key.user_id,
        created_at_us=key.created_at_us,
        expires_at_us=key.expires_at_us,
    )


class Known(msgspec.Struct, frozen=True):
    """A key that was looked up, and what its holder must know of the workspace; see `core.caller.Caller`."""

    key: Key
    database_id_hash: str
    storage_key_id: int | None
    audits_reads: bool


async def find_by_hash(tx: Tx, secret_hash: bytes) -> Known | None:
    """Return the key, whether it is still good or not."""
    row = await tx.one("key_by_hash", hash=secret_hash)
    return Known(_row_to_key(row), row[10], row[11], bool(row[12])) if row is not None else None


async def find_operator(tx: Tx, workspace_id: WorkspaceId, key_id: KeyId) -> Known | None:
    """Return a key for everything in a workspace that is no row; None where there is no such workspace."""
    row = await tx.one("workspace_of_key", id=workspace_id)
    if row is None:
        return None
    key = Key(key_id, workspace_id, None, ALL_SCOPES, None, None, 0, None, None, None)
    return Known(key, row[0], row[1], bool(row[2]))


async def read_page(tx: Tx, workspace_id: WorkspaceId, *, after: tuple[int, str] = (-1, ""), limit: int) -> list[Key]:
    """Return up to `limit` keys, oldest first, made after the one that `after` names by time and id."""
    rows = await tx.all("key_list", workspace=workspace_id, after_us=after[0], after_id=after[1], limit=limit)
    return [_row_to_key(row) for row in rows]


async def revoke(tx: Tx, workspace_id: WorkspaceId, key_id: str, *, at_us: int) -> bool:
    """Make a key useless from now on; False when the workspace has no such key."""
    return await tx.one("key_revoke", workspace=workspace_id, id=key_id, at_us=at_us) is not None


async def touch(tx: Tx, used: dict[str, int]) -> None:
    """Note when keys, by id, were last used."""
    # In one order everywhere, so that two processes do not wait for each other in a circle.
    await tx.each("key_touch", [{"id": key_id, "at_us": at_us} for key_id, at_us in sorted(used.items())])


def _row_to_key(row: Row) -> Key:
    scopes = frozenset(Scope(scope) for scope in row[3].split() if scope in set(Scope))
    return Key(row[0], row[1], row[2], scopes, *row[4:10])
