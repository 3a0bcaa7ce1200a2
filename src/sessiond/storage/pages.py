"""What lists of every kind share: a condition on a column, and how much of a page fits in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from sessiond.core.limits import PAGE_MAX_BYTES
from sessiond.storage.engine import Value


def add_any_of(
    where: list[str], values: dict[str, Value], column: str, options: Sequence[str], *, table: str = ""
) -> None:
    """Add the condition that a column holds one of `options`; none means that anything will do."""
    if not options:
        return
    names = {f"{column}_{number}": option for number, option in enumerate(options)}
    values.update(names)
    listed = ", ".join(f":{name}" for name in names)
    named = f"{table}.{column}" if table else column
    where.append(f"{named} = {listed}" if len(options) == 1 else f"{named} in ({listed})")


def count_fitting(sizes: Iterable[int], limit: int) -> int:
    """Return how many rows of these sizes make a page: up to `limit`, no more than fit, and at least one."""
    return min(limit, max(1, sum(size <= PAGE_MAX_BYTES for size in accumulate(sizes))))
