"""A copy of an SQLite database that is in use, made by SQLite itself, page by page."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

from sessiond.core.errors import Conflict, Unavailable
from sessiond.storage.sqlite import connect

STEP_PAGES: Final = 1_024  # 4 MiB: between two steps the progress is told, and a command can be stopped
Told = Callable[[int, int], None]


def back_up(path: Path, copy: Path, *, told: Told, with_keys: bool = True) -> int:
    """Copy a database to a file that nobody else may read, and return its size in bytes. Writers go on meanwhile.

    The copy is of one moment after the call began: all that was committed before is in it. It is there when it is whole
    and was checked, else not at all. `told` how many pages are done, and how many there are.

    Without `with_keys`, what is sealed cannot be read from it until the keys are put back (`actions/key_files.py`).

    Raises:
        Conflict: there is something under the copy's name.
        Unavailable: the database cannot be read, the copy cannot be written, or it is not sound.
    """
    if not path.is_file():
        raise Unavailable(f"there is no database {path}")
    partial = copy.with_name(f".{copy.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _copy(path, partial, told)
        if not with_keys:
            _drop_keys(partial)
        _check(partial)
        # A link, not a rename: that would overwrite what has come to be there meanwhile.
        os.link(partial, copy)
        return copy.stat().st_size
    except FileExistsError as error:
        raise Conflict(f"{copy} exists, and is not overwritten") from error
    except OSError as error:
        raise Unavailable(f"{copy} cannot be written: {error}") from error
    except apsw.Error as error:
        raise Unavailable(f"the database {path} cannot be copied: {error}") from error
    finally:
        for beside in ("", "-wal", "-shm", "-journal"):
            partial.with_name(f"{partial.name}{beside}").unlink(missing_ok=True)


def _copy(path: Path, partial: Path, told: Told) -> None:
    source = connect(path, read_only=True)
    try:
        # Held from beginning to end: without it, each write in between would have the copy begin again.
        source.execute("begin")
        source.execute("select count(*) from sqlite_master").fetchall()
        target = apsw.Connection(str(partial), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            with target.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(STEP_PAGES)
                    told(backup.page_count - backup.remaining, backup.page_count)
        finally:
            target.close()
    finally:
        source.close()
    # It must be on the disk before its name says that it is whole.
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop_keys(partial: Path) -> None:
    copy = apsw.Connection(str(partial), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        copy.execute("pragma secure_delete = on")
        copy.execute("pragma synchronous = full")
        copy.execute("delete from seal_keys")
        copy.execute("pragma wal_checkpoint(truncate)")
    finally:
        copy.close()


def _check(partial: Path) -> None:
    copy = apsw.Connection(str(partial), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found = copy.execute("pragma integrity_check(1)").fetchall()
    finally:
        copy.close()
    if found != [("ok",)]:
        raise Unavailable(f"the copy is not sound, and neither may the database be: {found[0][0]}")
