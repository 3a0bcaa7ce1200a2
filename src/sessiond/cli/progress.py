"""How far a command is: a bar on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """A bar, shown or not."""

    def __init__(self, shown: Progress | None, task: TaskID | None) -> None:
        self._shown, self._task = shown, task

    def update(self, done: int, total: int) -> None:
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, completed=done, total=total or None)

    def rename(self, name: str) -> None:
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, description=name, completed=0)


@contextmanager
def bar(name: str, *, shown: bool = True) -> Iterator[Bar]:
    """Show on standard error how far something is, until the block ends, where somebody looks and `shown` says so."""
    if not shown or not sys.stderr.isatty():
        yield Bar(None, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # Rich would take what is printed to standard output meanwhile, and draw it above the bar.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as drawn:
        yield Bar(drawn, drawn.add_task(name, total=None))
