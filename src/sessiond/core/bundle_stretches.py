"""A bundle in pieces that fit in memory, none of which is of two sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from sessiond.core.bundle_order import Line
from sessiond.core.bundle_records import End, Header, SessionRecord

STRETCH_LINES: Final = 1_000  # one transaction's worth: the writer serves others in between
STRETCH_BYTES: Final = 4 * 1024 * 1024


class Stretch(msgspec.Struct):
    """Lines that follow one another."""

    session: SessionRecord | None
    """Whose they are; None: of no session."""
    number: int
    """Of the line that this session begins with."""
    first: bool = True
    """Whether the session, or what is of none, begins with it."""
    last: bool = False
    """Whether it ends with it."""
    lines: list[Line] = []
    """Without the session's own."""
    size: int = 0


def stretches(lines: Iterable[Line]) -> Iterator[Stretch]:
    """Yield the records of a bundle, without its header and its end."""
    now = Stretch(None, 0)
    for line in lines:
        match line.record:
            case Header() | End():
                continue
            case SessionRecord():
                now.last = True
                yield now
                now = Stretch(line.record, line.number, size=line.size)
                continue
        if len(now.lines) >= STRETCH_LINES or now.size >= STRETCH_BYTES:
            yield now
            now = Stretch(now.session, now.number, first=False)
        now.lines.append(line)
        now.size += line.size
    now.last = True
    yield now
