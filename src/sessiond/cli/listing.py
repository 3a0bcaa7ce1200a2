"""Lists of what a server has, as far as somebody wants to see: a table, or an array of JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Annotated, Final, TypeVar

import typer

from sessiond.cli import show
from sessiond.cli.progress import bar

T = TypeVar("T")

LIMIT: Final = 20
PAGE_MAX: Final = 1000  # the most that a server gives at once

Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many at most.")]
All = Annotated[bool, typer.Option("--all", help="All there are.")]


def page_of(limit: int, *, every: bool) -> int:
    """Return how many to ask for at once; one more than is shown tells whether there are more."""
    return PAGE_MAX if every else min(limit + 1, PAGE_MAX)


def print_list(
    found: Iterable[T],
    row: Callable[[T], Sequence[str]],
    *,
    columns: Sequence[str],
    cut: Sequence[str] = (),
    limit: int,
    every: bool,
    json: bool,
) -> None:
    """Print what is found, up to `limit`, or `every` one; in a terminal say when there are more."""
    iterator = iter(found)
    wanted = iterator if every else islice(iterator, limit)
    if json:
        show.print_json_array(wanted)
        return
    rows = []
    with bar("reading", shown=every) as shown:
        for each in wanted:
            rows.append(row(each))
            shown.update(len(rows), 0)
    show.print_table(columns, rows, cut=cut)
    if not every and sys.stderr.isatty() and next(iterator, None) is not None:
        print(f"there are more than these {limit}: --limit N, or --all", file=sys.stderr)
