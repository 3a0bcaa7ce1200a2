"""Totals of sessions, kept by workspace and by each single field's value, changed with what they count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from sessiond.core.ids import WorkspaceId
from sessiond.storage.engine import Tally, Tx

SWEEP_MAX: Final = 500  # rows a transaction: writers get their turn in between


def pack_tallies(tallies: Mapping[Tally, int]) -> str | None:
    """Return what the statement `count_add` takes, in one order everywhere so that no two writers wait in a circle."""
    rows = [(*key, n) for key, n in sorted(tallies.items()) if n]
    return msgspec.json.encode(rows).decode() if rows else None


async def sweep(tx: Tx) -> int:
    """Forget up to `SWEEP_MAX` totals that have come down to nothing; return how many."""
    return len(await tx.all("session_count_sweep", limit=SWEEP_MAX))


async def read_total(tx: Tx, workspace_id: WorkspaceId, field: str, values: Iterable[str]) -> int:
    """Return how many sessions have one of `values` in `field`: "all" (of ""), "agent", "user", "task", "status"."""
    total = 0
    for value in values:
        row = await tx.one("session_count_kept", workspace=workspace_id, field=field, value=value)
        total += row[0] if row else 0
    return total
