"""What lists of every kind share: a condition on a column, where a page begins, and how much of it fits in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from sessiond.core.limits import PAGE_MAX_BYTES
from sessiond.storage.engine import Row, Tx, Value


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


def page_tail(
    where: Sequence[str],
    values: dict[str, Value],
    *,
    by: str,
    then: str = "id",
    descending: bool,
    limit: int,
    offset: int = 0,
    position: tuple[int, str] | None = None,
) -> str:
    """Return what stands behind a list's `select`, in the order of two columns; its parameters go into `values`.

    It begins behind `position`, a value of each column, or `offset` in, and is for one row more than `limit`, which
    tells whether there are more.
    """
    conditions = [*where]
    if position is not None:
        conditions.append(f"({by}, {then}) {'<' if descending else '>'} (:at, :at_id)")
        values |= {"at": position[0], "at_id": position[1]}
    values["limit"] = limit + 1
    direction = "desc" if descending else "asc"
    tail = f"where {' and '.join(conditions)} order by {by} {direction}, {then} {direction} limit :limit"
    if offset:
        tail, values["offset"] = f"{tail} offset :offset", offset
    return tail


async def read_fitting(
    tx: Tx, select: str, sizes: str, tail: str, values: dict[str, Value], *, limit: int
) -> tuple[Sequence[Row], bool]:
    """Return the rows of a page that fit in memory, and whether there are more; `sizes` selects how large they are."""
    fitting = count_fitting((row[0] for row in await tx.select(sizes, tail, values)), limit)
    values["limit"] = fitting + 1
    rows = await tx.select(select, tail, values)
    return rows[:fitting], len(rows) > fitting
