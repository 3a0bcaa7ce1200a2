"""Saying something, and what comes back: the words of an answer to standard output, all else beside it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import typer

from sessiond.cli import show

if TYPE_CHECKING:
    from sessiond.client import Client, Event, Run

INPUT_MAX_BYTES: Final = 64 * 1024 * 1024  # more than any server takes


def read_input() -> str:
    """Return what comes by standard input, without the line break at its end."""
    if sys.stdin.isatty():
        print("Say it; Ctrl-D on an empty line ends it.", file=sys.stderr)
    try:
        said = sys.stdin.buffer.read(INPUT_MAX_BYTES + 1).decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise typer.BadParameter("standard input is no text in UTF-8", param_hint="TEXT") from error
    if not said.strip():
        raise typer.BadParameter("there is nothing to say: give it, or send it to standard input", param_hint="TEXT")
    return said


def answer(client: Client, run_id: str, *, quiet: bool) -> Run:
    """Write what a run says as it says it, and return the run when it has ended or asks something.

    In a terminal its tools are told beside it. A `quiet` one writes nothing.
    """
    from sessiond.cli.transcript import Speech, question
    from sessiond.client import Delta

    speech, page = Speech(), _Page(quiet=quiet)
    for told in client.runs.stream_live(run_id, deltas=not quiet):
        if isinstance(told, Delta):
            if speech.is_of(told.run_id, told.attempt):
                page.write(speech.take(told.text, told.offset, certain=False))
        elif told.type == "run.started":
            speech = Speech(run_id, told.data.get("attempt"))
            page.end_line()
        elif told.type == "run.text":
            page.write(speech.take(str(told.data["text"]), int(told.data["offset"]), certain=True))
        elif told.type == "run.tool_call":
            page.tell_of_tool(told)
        elif told.type == "run.waiting" and told.data.get("title"):
            page.end_line()
            show.warn(f"{question(told.data)}: sessiond runs answer {run_id}")
            break
    run = client.runs.get(run_id)
    if not page.spoken and run.output:
        page.write(run.output)
    page.end_line()
    return run


class _Page:
    """Standard output, with what an agent says on it."""

    def __init__(self, *, quiet: bool) -> None:
        self.spoken = False
        self._quiet = quiet
        self._within_line = False

    def write(self, text: str) -> None:
        if self._quiet or not text:
            return
        sys.stdout.write(show.escape(text))
        sys.stdout.flush()
        self.spoken, self._within_line = True, not text.endswith("\n")

    def end_line(self) -> None:
        if self._within_line:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._within_line = False

    def tell_of_tool(self, event: Event) -> None:
        """Tell of a tool beside the answer, where both are on a terminal."""
        from sessiond.cli.transcript import brief

        if self._quiet or not (sys.stdout.isatty() and sys.stderr.isatty()):
            return
        self.end_line()
        shown = f"→ {show.escape_line(str(event.data.get('name')))} {brief(event.data.get('arguments'))}"
        print(show.coloured(shown, "dim"), file=sys.stderr)
