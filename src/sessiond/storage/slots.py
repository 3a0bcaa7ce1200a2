"""The order in which sessions were last updated, without an index entry that moves with every append."""

from __future__ import annotations

from typing import Final

SLOT_US: Final = 10_000_000


def slot_of(at_us: int) -> int:
    """Return what the column `updated_slot` holds for a time of update. It sorts as the times do, but for equals."""
    return at_us // SLOT_US
