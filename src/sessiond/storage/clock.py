"""The database's clock. It decides what is due, never a process's."""

from __future__ import annotations

from sessiond.storage.engine import Tx


async def read_us(tx: Tx) -> int:
    """Return the time, in microseconds since 1970."""
    row = await tx.one("clock")
    assert row is not None
    now_us: int = row[0]
    return now_us
