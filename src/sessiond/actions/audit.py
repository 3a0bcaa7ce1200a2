"""The audit log: read by those who administer a workspace; and what is noted in it of reading."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Final

from msgspec import Struct

from sessiond.actions.call import Call
from sessiond.core.audit import READ_SEALED, AuditEntry, AuditFilter, Check, Fault, Head, Noted
from sessiond.core.caller import Scope
from sessiond.core.ids import WorkspaceId
from sessiond.core.limits import ID_MAX_CHARS
from sessiond.storage import audit
from sessiond.storage.engine import Engine, Tx

BATCH_MAX: Final = 1_000  # entries in memory while a whole log is read: about half a megabyte
LOWEST: Final = -(2**63)  # what a column holds at least: an entry put before the first is one that does not belong


class Verdict(Struct, frozen=True):
    """What came of checking a log."""

    entries: int
    """How many are good, from the first on."""
    unchained: int
    """How many of them are not in the chain yet: an older release wrote them, and none was added since."""
    hash: bytes | None
    """The hash of the last one that is; None when none is."""
    fault: Fault | None
    """The first thing that is wrong; None when nothing is."""


async def read_page(call: Call, *, limit: int, offset: int = 0) -> tuple[list[AuditEntry], int]:
    """Return up to `limit` entries, newest first, from `offset` on, and how many there are.

    Raises:
        Forbidden: the caller lacks the admin scope.
    """
    call.caller.require(Scope.ADMIN)

    async def operation(tx: Tx) -> tuple[list[AuditEntry], int]:
        return await audit.read_page(tx, call.caller.workspace_id, limit=limit, offset=offset)

    return await call.engine.read(operation)


async def find(
    call: Call, wanted: AuditFilter, *, before: int | None = None, limit: int
) -> tuple[list[AuditEntry], bool]:
    """Return up to `limit` entries, newest first, older than entry `before`; and whether there are more.

    Raises:
        Forbidden: the caller lacks the admin scope.
    """
    call.caller.require(Scope.ADMIN)

    async def operation(tx: Tx) -> list[AuditEntry]:
        return await audit.read_some(tx, call.caller.workspace_id, wanted, before=before, limit=limit + 1)

    found = await call.engine.scan(operation)  # no index has the time: a filter by it goes through the log
    return found[:limit], len(found) > limit


async def get_head(engine: Engine, workspace_id: WorkspaceId) -> Head:
    """Return what the row of a workspace, which exists, knows of its log."""

    async def operation(tx: Tx) -> Head:
        return await audit.get_head(tx, workspace_id)

    return await engine.read(operation)


async def read_all(engine: Engine, workspace_id: WorkspaceId, head: Head) -> AsyncGenerator[list[AuditEntry]]:
    """Yield all entries up to a head, oldest first, in batches."""
    first = LOWEST
    while True:

        async def operation(tx: Tx, first: int = first) -> list[AuditEntry]:
            return await audit.read_range(tx, workspace_id, first=first, last=head.seq, limit=BATCH_MAX)

        entries = await engine.scan(operation)
        if not entries:
            return
        yield entries
        first = entries[-1].seq + 1


async def verify(
    engine: Engine,
    workspace_id: WorkspaceId,
    *,
    noted: Noted | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Check the log of a workspace as it is now, also while it is added to.

    `noted` is an entry's hash as somebody kept it; `progress` is told how many entries were looked at, of how many.
    """
    head = await get_head(engine, workspace_id)
    verdict = await _verify(engine, workspace_id, head, noted, progress)
    now = await get_head(engine, workspace_id) if verdict.fault is not None else head
    if now.chained == head.chained:
        return verdict
    # Entries of an older release may have been taken into the chain while we read. Once more will tell.
    return await _verify(engine, workspace_id, now, noted, progress)


async def _verify(
    engine: Engine,
    workspace_id: WorkspaceId,
    head: Head,
    noted: Noted | None,
    progress: Callable[[int, int], None] | None,
) -> Verdict:
    check, fault = Check(workspace_id, head, noted=noted), None
    async with aclosing(read_all(engine, workspace_id, head)) as batches:
        async for entries in batches:
            fault = next((found for entry in entries if (found := check.take(entry)) is not None), None)
            if fault is not None:
                break
            if progress is not None:
                progress(check.seq, head.seq)
    if fault is None:
        fault = check.finish()
    return Verdict(check.seq, check.unchained, check.hash, fault)


async def note_read(call: Call, *, route: str, records: Mapping[str, str]) -> None:
    """Note that sealed content was read: by which route, and of which records, by the names that it has for them.

    Of a list nothing but its route is noted: what it was filtered by may be content.
    """
    locator = {"route": route} | {name: record[:ID_MAX_CHARS] for name, record in records.items()}

    async def operation(tx: Tx) -> None:
        await call.audit(tx, READ_SEALED, locator)

    await call.engine.write(operation)
