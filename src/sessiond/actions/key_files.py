"""Keys that content is sealed with, in a file of their own: for backups that hold the content without them.

Such a backup may be kept for as long as one likes. What is erased cannot be read from it any more once the file of keys
was replaced, which is small, and quick to make.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from sessiond.core.errors import Conflict, InvalidInput, Unavailable
from sessiond.storage import seals
from sessiond.storage.engine import Engine, T, Tx
from sessiond.storage.seals import KeyRow

FORMAT: Final = "sessiond keys 1"
PAGE: Final = 1_000
LINE_MAX_BYTES: Final = 64 * 1024  # an id of 200 characters and a wrapped key come to less than one KiB


class Head(msgspec.Struct, frozen=True):
    """The first line of a file."""

    format: str


class Tail(msgspec.Struct, frozen=True):
    """The last one."""

    keys: int


async def save(engine: Engine, file: Path) -> int:
    """Write all keys of a database, wrapped as they are, to a file that nobody else may read; return how many.

    A file that is there is replaced, once the new one is whole.

    Raises:
        Unavailable: the file cannot be written.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    encode, n, after = msgspec.json.Encoder().encode, 0, ("", 0)
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(encode(Head(FORMAT)) + b"\n")
            while rows := await _read(engine, after):
                out.writelines(encode(row) + b"\n" for row in rows)
                n, after = n + len(rows), (rows[-1].workspace_id, rows[-1].id)
            out.write(encode(Tail(n)) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, file)
    except OSError as error:
        raise Unavailable(f"{file} cannot be written: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    return n


async def restore(engine: Engine, file: Path) -> int:
    """Put keys from a file where they are missing; return how many were. Once more is fine.

    Raises:
        InvalidInput: it is no such file, or not all of one; nothing is changed then.
        Conflict: a workspace of a key is not there.
    """
    for _ in _read_file(file):
        pass
    added, page = 0, list[KeyRow]()
    for row in _read_file(file):
        page.append(row)
        if len(page) == PAGE:
            added, page = added + await _add(engine, page), []
    return added + await _add(engine, page)


async def _read(engine: Engine, after: tuple[str, int]) -> list[KeyRow]:
    async def operation(tx: Tx) -> list[KeyRow]:
        return await seals.read_rows(tx, after=after, limit=PAGE)

    return await engine.scan(operation)


async def _add(engine: Engine, rows: list[KeyRow]) -> int:
    async def operation(tx: Tx) -> int:
        missing = await seals.find_missing_workspaces(tx, {row.workspace_id for row in rows})
        if missing:
            raise Conflict(
                f"the file has keys of the workspace {missing[0]!r}, which is not here: restore the backup first"
            )
        return sum([await seals.restore_row(tx, row) for row in rows])

    return await engine.write(operation)


def _read_file(file: Path) -> Iterator[KeyRow]:
    """Yield the keys of a file that is whole."""
    try:
        with file.open("rb") as lines:
            if _decode(lines.readline(LINE_MAX_BYTES), Head, 1).format != FORMAT:
                raise InvalidInput(f"{file} is no file of keys that this release reads")
            n, before = 0, b""
            for line in iter(lambda: lines.readline(LINE_MAX_BYTES), b""):
                if before:
                    n += 1
                    yield _decode(before, KeyRow, n + 1)
                before = line
            if _decode(before, Tail, n + 2).keys != n:
                raise InvalidInput(f"{file} is not whole: it has {n} keys")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error


def _decode(line: bytes, kind: type[T], number: int) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"line {number} of the file of keys is damaged, or missing") from error
