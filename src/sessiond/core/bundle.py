"""A bundle as lines: a header, records, an end, each line with a checksum over itself and all before it.

What stands in a record says `bundle_records.py`; which records may follow one another `bundle_order.py`. The format is
described in `docs/reference/bundle.md`.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

import msgspec

from sessiond.core.errors import InvalidInput

FORMAT: Final = "sessiond"
VERSION: Final = 1
# A body or a mail of 64 MiB, the most that settings allow, may be twice that as quoted text; the rest is small.
LINE_MAX_BYTES: Final = 192 * 1024 * 1024

_SUM_CHARS: Final = 16  # of a SHA-256: chance does not meet it, and a line of 100 bytes is not doubled by it
_BEFORE_SUM: Final = b',"sum":"'
_AFTER_SUM: Final = b'"}\n'
_TAIL: Final = len(_BEFORE_SUM) + _SUM_CHARS + len(_AFTER_SUM)


class Scope(StrEnum):
    """What a bundle is of."""

    WORKSPACE = "workspace"
    AGENT = "agent"
    USER = "user"
    SESSION = "session"


class Subject(msgspec.Struct, frozen=True):
    """What a bundle is of, and whose; a workspace has no name in it, so that it can be put into another."""

    scope: Scope = Scope.WORKSPACE
    id: str | None = None

    def __str__(self) -> str:
        return f"{self.scope} {self.id}" if self.id is not None else f"{self.scope}"


class Chain:
    """The checksums of a bundle's lines, one after the other."""

    def __init__(self) -> None:
        self._digest = b""
        self.lines = 0
        """How many there were."""

    @property
    def digest(self) -> str:
        """The SHA-256 of all lines so far, in hexadecimal."""
        return self._digest.hex()

    def seal(self, record: bytes) -> bytes:
        """Return the next line, for a record that is a JSON object."""
        return record[:-1] + _BEFORE_SUM + self._next(record) + _AFTER_SUM

    def open(self, line: bytes) -> bytes:
        """Return the record of the next line.

        Raises:
            InvalidInput: it is not the line that was written there; the message says which it is.
        """
        record = line[:-_TAIL] + b"}"
        if record[:-1] + _BEFORE_SUM + self._next(record) + _AFTER_SUM != line:
            raise refusal(self.lines, "is damaged, or not the line that was written there: its checksum is wrong")
        return record

    def _next(self, record: bytes) -> bytes:
        self._digest = hashlib.sha256(self._digest + record).digest()
        self.lines += 1
        return self._digest.hex()[:_SUM_CHARS].encode()


def refusal(line: int, why: str) -> InvalidInput:
    """Return the error that refuses a bundle for one of its lines, counted from 1."""
    return InvalidInput(f"line {line} of the bundle {why}")
