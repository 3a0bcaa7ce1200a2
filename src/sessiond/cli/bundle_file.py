"""Bundles as files: written whole or not at all, read line by line, packed by gzip or not."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from sessiond.core.bundle import LINE_MAX_BYTES, refusal
from sessiond.core.errors import InvalidInput

PACKED: Final = ".gz"
_MAGIC: Final = b"\x1f\x8b"
_LEVEL: Final = 6  # gzip's own default: what more would save costs twice the time


@contextmanager
def writing(file: Path | None) -> Iterator[IO[bytes]]:
    """Write to a file that is whole when the block ends, else not there; to standard output where it is None.

    Raises:
        OSError: it cannot be written.
    """
    if file is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        # What was said in it is nobody else's to read.
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as plain:
            if file.name.endswith(PACKED):
                # Without a time in it: the same content makes the same file.
                with gzip.GzipFile("", "wb", _LEVEL, plain, mtime=0) as packed:
                    yield packed  # type: ignore[misc]  # it has all that is used of an IO[bytes]
            else:
                yield plain
            plain.flush()
            os.fsync(plain.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def lines_of(file: Path, *, told: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a bundle's lines, none of which is longer than a line may be and one byte; `told` how much was read.

    However much a packed file unpacks to, no more than a line of it is in memory.

    Raises:
        InvalidInput: it cannot be read, or not be unpacked; the message says at which line.
    """
    number = 1
    try:
        with file.open("rb") as plain:
            source: IO[bytes] = plain
            if plain.read(2) == _MAGIC:
                source = gzip.GzipFile(fileobj=plain)  # type: ignore[assignment]  # as above
            plain.seek(0)
            while line := source.readline(LINE_MAX_BYTES + 1):
                yield line
                number += 1
                told(plain.tell())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refusal(number, f"cannot be unpacked: {error}") from error
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
