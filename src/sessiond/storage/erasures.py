"""Erasures and their receipts as rows, and the keys that receipts are signed with."""

from __future__ import annotations

from typing import Any

import msgspec

from sessiond.core.erasure import Counts, Erasure, Subject
from sessiond.core.errors import NotFound
from sessiond.core.ids import WorkspaceId
from sessiond.crypto import SigningKey, make_signing_key
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.pages import page_tail


async def begin(tx: Tx, erasure: Erasure) -> Erasure:
    """Keep a new erasure; where one of the same subject is under way, return that, to be gone on with."""
    await tx.run("erasure_insert", **_columns(erasure))
    found = await find_under_way(tx, erasure.workspace_id, erasure.kind, erasure.subject or "")
    assert found is not None, "it was begun now, or before"
    return found


async def find_under_way(tx: Tx, workspace_id: WorkspaceId, kind: Subject, subject: str) -> Erasure | None:
    """Return the erasure of a subject that was begun and not ended."""
    row = await tx.one("erasure_under_way", workspace=workspace_id, kind=str(kind), subject=subject)
    return _row_to_erasure(row) if row is not None else None


async def get(tx: Tx, workspace_id: WorkspaceId, erasure_id: str) -> Erasure:
    """Return the erasure.

    Raises:
        NotFound: the workspace has none of that id.
    """
    row = await tx.one("erasure_get", workspace=workspace_id, id=erasure_id)
    if row is None:
        raise NotFound("no such erasure")
    return _row_to_erasure(row)


async def take(tx: Tx, workspace_id: WorkspaceId, erasure_id: str) -> Erasure:
    """Return the erasure, and keep it from changing until this transaction ends.

    Raises:
        NotFound: as `get`.
    """
    await tx.one("erasure_lock", workspace=workspace_id, id=erasure_id)
    return await get(tx, workspace_id, erasure_id)


async def save(tx: Tx, erasure: Erasure) -> None:
    """Write how far an erasure is."""
    columns = _columns(erasure)
    for fixed in ("kind", "salt", "subject_hash", "actor", "requested_at_us"):
        del columns[fixed]
    await tx.run("erasure_update", **columns)


async def read_page(
    tx: Tx, workspace_id: WorkspaceId, *, limit: int, position: tuple[int, str] | None
) -> tuple[list[Erasure], bool]:
    """Return up to `limit` erasures, the last asked for first, from behind a time and an id; and if there are more."""
    where, values = ["workspace_id = :workspace"], dict[str, Value](workspace=workspace_id)
    tail = page_tail(where, values, by="requested_at_us", descending=True, limit=limit, position=position)
    rows = await tx.select("erasure_select", tail, values)
    return [_row_to_erasure(row) for row in rows[:limit]], len(rows) > limit


async def get_signing_key(tx: Tx, workspace_id: WorkspaceId, *, at_us: int) -> SigningKey:
    """Return the key that a workspace signs with, made at its first use."""
    row = await tx.one("signing_key_get", workspace=workspace_id)
    if row is None:
        made = make_signing_key()
        wrapped = wrap_private_key(workspace_id, made.private)
        place: dict[str, Value] = {"workspace": workspace_id, "at_us": at_us}
        await tx.run("signing_key_insert", **place, public_key=made.public, private_key=wrapped)
        row = await tx.one("signing_key_get", workspace=workspace_id)  # somebody else's, who was faster
    assert row is not None, "it was made just now"
    return SigningKey(public=bytes(row[0]), private=unwrap_private_key(workspace_id, bytes(row[1])))


def wrap_private_key(_workspace_id: WorkspaceId, private: bytes) -> bytes:
    """Return a private key as it is kept. It signs and opens nothing, and is kept as it is."""
    return private


def unwrap_private_key(_workspace_id: WorkspaceId, kept: bytes) -> bytes:
    """Return a private key that was kept."""
    return kept


def _columns(erasure: Erasure) -> dict[str, Any]:
    columns = msgspec.structs.asdict(erasure)
    columns["workspace"] = columns.pop("workspace_id")
    return columns | {"kind": str(erasure.kind), "counts": msgspec.json.encode(erasure.counts)}


def _row_to_erasure(row: Row) -> Erasure:
    columns: dict[str, Any] = dict(zip(Erasure.__struct_fields__, row, strict=True))
    columns |= {
        "kind": Subject(columns["kind"]),
        "counts": msgspec.json.decode(columns["counts"], type=Counts),
    }
    return Erasure(**columns)
