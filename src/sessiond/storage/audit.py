"""The audit log as rows: added to and chained, read, nothing else."""

from __future__ import annotations

from typing import Final

import msgspec

from sessiond.core.audit import CHAIN_ENTRIES, GENESIS, OK, SYSTEM, AuditEntry, AuditFilter, Head, Locator, hash_entry
from sessiond.core.ids import WorkspaceId
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.pages import add_any_of

BATCH_MAX: Final = 500  # entries in memory while old ones are taken into the chain


async def append(
    tx: Tx,
    workspace_id: WorkspaceId,
    event: str,
    record_locator: Locator,
    *,
    actor: str,
    at_us: int,
    address: str | None = None,
    result: str = OK,
) -> None:
    """Add an entry in the transaction of what it tells of, and chain it to the one before.

    Best done last: from here on whoever else adds one to this log waits for this transaction.
    """
    seq, before = await _take_next(tx, workspace_id, at_us=at_us)
    locator = msgspec.json.encode(record_locator)
    entry = AuditEntry(seq, at_us, actor, event, locator, address, result)
    await tx.run("audit_chained", workspace=workspace_id, seq=seq, hash=await _insert(tx, workspace_id, entry, before))


async def read_page(tx: Tx, workspace_id: WorkspaceId, *, limit: int, offset: int) -> tuple[list[AuditEntry], int]:
    """Return up to `limit` entries, newest first, from `offset` on, and how many there are."""
    row = await tx.one("audit_total", workspace=workspace_id)
    total: int = row[0] if row is not None else 0
    # Numbered without gaps, so the offset is a number too and nothing is counted off.
    rows = await tx.all("audit_list", workspace=workspace_id, newest=total - offset, limit=limit)
    return [AuditEntry(*row) for row in rows], total


async def read_some(
    tx: Tx, workspace_id: WorkspaceId, wanted: AuditFilter, *, before: int | None, limit: int
) -> list[AuditEntry]:
    """Return up to `limit` entries, newest first, that are older than entry `before`; None: from the newest on."""
    where, values = ["workspace_id = :workspace"], dict[str, Value](workspace=workspace_id, limit=limit)
    add_any_of(where, values, "event", wanted.events)
    add_any_of(where, values, "actor", wanted.actors)
    bounds = {"seq < :before": before, "at_us >= :from_us": wanted.from_us, "at_us < :before_us": wanted.before_us}
    for condition, value in bounds.items():
        if value is not None:
            where.append(condition)
            values[condition.rpartition(":")[2]] = value
    rows = await tx.select("audit_select", f"where {' and '.join(where)} order by seq desc limit :limit", values)
    return [AuditEntry(*row) for row in rows]


async def read_range(tx: Tx, workspace_id: WorkspaceId, *, first: int, last: int, limit: int) -> list[AuditEntry]:
    """Return up to `limit` entries, oldest first, that are numbered `first` to `last`."""
    rows = await tx.all("audit_range", workspace=workspace_id, first=first, last=last, limit=limit)
    return [AuditEntry(*row) for row in rows]


async def get_head(tx: Tx, workspace_id: WorkspaceId) -> Head:
    """Return what the row of a workspace, which exists, knows of its log."""
    row = await tx.one("audit_head", workspace=workspace_id)
    assert row is not None, "the workspace was found a moment ago, and nothing removes one"
    return Head(*row)


async def _take_next(tx: Tx, workspace_id: WorkspaceId, *, at_us: int) -> tuple[int, bytes]:
    """Return the number of a new entry, and the hash of the one before it."""
    seq, chained, found = await _bump(tx, workspace_id)
    before: bytes = found or GENESIS
    if chained == seq - 1:
        return seq, before
    before = await _chain(tx, workspace_id, first=chained + 1, last=seq - 1, before=before)
    # Said in the log itself: else a row that was put there by hand could get into the chain without a trace.
    locator = msgspec.json.encode({"from": chained + 1, "to": seq - 1})
    before = await _insert(tx, workspace_id, AuditEntry(seq, at_us, SYSTEM, CHAIN_ENTRIES, locator), before)
    return (await _bump(tx, workspace_id))[0], before


async def _bump(tx: Tx, workspace_id: WorkspaceId) -> Row:
    row = await tx.one("audit_next", workspace=workspace_id)
    assert row is not None, "a caller's workspace exists"
    return row


async def _chain(tx: Tx, workspace_id: WorkspaceId, *, first: int, last: int, before: bytes) -> bytes:
    """Give entries of older releases their hashes, and return the last one's."""
    while entries := await read_range(tx, workspace_id, first=first, last=last, limit=BATCH_MAX):
        changes: list[dict[str, Value]] = []
        for entry in entries:
            before = hash_entry(before, workspace_id, entry)
            changes.append({"workspace": workspace_id, "seq": entry.seq, "hash": before})
        await tx.each("audit_chain", changes)
        first = entries[-1].seq + 1
    return before


async def _insert(tx: Tx, workspace_id: WorkspaceId, entry: AuditEntry, before: bytes) -> bytes:
    """Write an entry, and return its hash."""
    hashed = hash_entry(before, workspace_id, entry)
    await tx.run(
        "audit_insert",
        workspace=workspace_id,
        seq=entry.seq,
        at_us=entry.at_us,
        actor=entry.actor,
        event=entry.event,
        record_locator=entry.record_locator,
        address=entry.address,
        result=entry.result,
        hash=hashed,
    )
    return hashed
