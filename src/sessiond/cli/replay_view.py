"""How `sessiond replay` prints steps: as a table, or line by line as they are done again."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from sessiond.cli import show
from sessiond.core.comparison import Comparison, Summary, Verdict, diff_lines
from sessiond.core.timeline import Step
from sessiond.web.answers import iso_micros

COLOURS: Final = {Verdict.SAME: "green", Verdict.CHANGED: "yellow", Verdict.FAILED: "red"}
LEAST_WIDTH: Final = 60  # what is narrower cuts everything that says something


def print_steps(steps: Sequence[Step]) -> None:
    """Print steps under each other; in a terminal a line each, as wide as that is."""
    rows = [
        (str(step.index), step.action, f"{step.duration_us / 1000:.1f}", _brief(step.input), _brief(step.output))
        for step in steps
    ]
    columns = ("STEP", "ACTION", "MS", "INPUT", "OUTPUT")
    if not sys.stdout.isatty():
        show.print_table(columns, rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in zip(columns, ("right", "left", "right", "left", "left"), strict=True):
        wide = name in ("INPUT", "OUTPUT")
        table.add_column(
            name,
            justify="right" if justify == "right" else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if wide else None,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def make_teller(*, diff: bool) -> Callable[[Comparison], None]:
    """Return what prints a step as soon as it is known; with `diff` only those that changed, and how."""

    def tell(told: Comparison) -> None:
        if diff and told.verdict is Verdict.SAME:
            return
        index = str(told.index) if told.index is not None else show.NOTHING
        verdict = show.coloured(f"{told.verdict:<7}", COLOURS[told.verdict])
        about = show.escape_line(told.reason) if told.reason is not None else _brief(told.input)
        print(f"{index:>4}  {verdict}  {told.action:<16}  {_fit(about, 4 + 2 + 7 + 2 + 16 + 2)}", flush=True)
        if diff:
            print(f"      {show.coloured(_fit(_brief(told.input), 6), 'dim')}")
            for line in map(show.escape_line, diff_lines(told)):
                print(f"      {show.coloured(line, {'-': 'red', '+': 'green'}.get(line[:1], ''))}", flush=True)

    return tell


def print_summary(summary: Summary) -> None:
    counts = f"{summary.same} same, {summary.changed} changed, {summary.failed} failed"
    colour = "yellow" if summary.drifted else "green"
    print(f"{show.coloured(counts, colour)}; the new session is {summary.session_id}")


def step_out(step: Step) -> dict[str, Any]:
    return {
        "index": step.index,
        "seq": step.seq,
        "at": iso_micros(step.at_us),
        "action": step.action,
        "input": step.input,
        "output": step.output,
        "duration_ms": step.duration_us / 1000,
    }


def comparison_out(told: Comparison) -> dict[str, Any]:
    out = msgspec.structs.asdict(told)
    del out["of_client"]
    for name, shown in (("recorded_us", "recorded_duration_ms"), ("duration_us", "duration_ms")):
        duration_us = out.pop(name)
        out[shown] = duration_us / 1000 if duration_us is not None else None
    return out


def _brief(value: Any) -> str:
    """Return JSON on one line; text is its own."""
    return show.json_of(value)


def _fit(text: str, indent: int) -> str:
    """Return what fits on the rest of a terminal's line; what is piped is never cut."""
    if not sys.stdout.isatty():
        return text
    room = max(LEAST_WIDTH, shutil.get_terminal_size().columns) - indent - 1
    return show.cut(text, room)
