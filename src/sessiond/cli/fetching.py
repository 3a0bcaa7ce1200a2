"""Bundles that a server writes, on their way to a file: counted, and seen to be whole."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Final

from sessiond.cli import show
from sessiond.cli.connecting import Where, open_client
from sessiond.core.bundle import Subject
from sessiond.core.errors import InvalidInput

_SESSION: Final = b'{"type":"session",'
_END: Final = b'{"type":"end",'


class Lines:
    """What lines there were, by their beginnings: a line may have many megabytes."""

    def __init__(self) -> None:
        self.sessions = 0
        self.ended = False
        self._head = b""

    def feed(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        self._head = (self._head + first)[: len(_SESSION)]
        for line in others:
            self.sessions += self._head == _SESSION
            self.ended = self._head.startswith(_END)
            self._head = line[: len(_SESSION)]


def export_from_server(where: Where, subject: Subject, output: Path | None) -> int:
    """Write what a server exports, and return how many sessions are in it. A file is whole, or not there.

    Raises:
        InvalidInput: it was cut short.
        OSError: it cannot be written.
    """
    from sessiond.cli.bundle_file import writing
    from sessiond.cli.progress import bar

    ids = {f"{subject.scope}_id": subject.id} if subject.id is not None else {}
    lines, size = Lines(), 0
    with open_client(where) as client:
        chunks = client.export(**ids)
        first = next(chunks, b"")  # nothing is opened for a bundle that cannot be begun
        with writing(output) as written, bar("exporting") as shown:
            for chunk in chain([first], chunks):
                written.write(chunk)
                lines.feed(chunk)
                size += len(chunk)
                shown.update(size, 0)
            if not lines.ended:
                raise InvalidInput("the bundle was cut short: the server, or something before it, hung up; try again")
    return lines.sessions


def print_exported(sessions: int, subject: Subject, output: Path | None, *, json: bool) -> None:
    """Say what was written, unless standard output is the bundle."""
    if output is None:
        return
    if json:
        show.print_json({"file": str(output), "scope": subject.scope, "id": subject.id, "sessions": sessions})
    else:
        print(f"exported {sessions} sessions to {output}")
