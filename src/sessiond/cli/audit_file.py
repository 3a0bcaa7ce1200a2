"""An audit log as a file: a line of JSON with its head, then a line for each entry, oldest first.

The file can be checked by itself (`sessiond audit verify --file`), for it has everything that the hashes are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import IO, Annotated, Final

import msgspec
from msgspec import Meta

from sessiond.actions import audit
from sessiond.actions.audit import Verdict
from sessiond.core.audit import AuditEntry, Check, Fault, Head, Noted, Why
from sessiond.core.errors import InvalidInput
from sessiond.core.ids import WorkspaceId
from sessiond.dialects.native.audit import AuditEntryOut, entry_out, time_out
from sessiond.storage.engine import Engine
from sessiond.web.answers import parse_time

FORMAT: Final = "sessiond-audit-1"
LINE_MAX_BYTES: Final = 1024 * 1024  # an entry has a few hundred; whatever else a file is, its lines are not kept
BATCH_LINES: Final = 1_000  # between two looks at how far it is

Progress = Callable[[int, int], None]


class First(msgspec.Struct, frozen=True):
    """The first line."""

    format: str
    workspace: str
    entries: Annotated[int, Meta(ge=0)]
    chained: Annotated[int, Meta(ge=0)]
    hash: str | None


async def export(engine: Engine, workspace_id: WorkspaceId, file: IO[bytes], *, progress: Progress) -> int:
    """Write a log as it is now; return how many entries it has. In memory is never more than a batch of them."""
    head, written = await audit.get_head(engine, workspace_id), 0
    hashed = head.hash.hex() if head.hash is not None else None
    file.write(_line(First(FORMAT, workspace_id, head.seq, head.chained, hashed)))
    async with aclosing(audit.read_all(engine, workspace_id, head)) as batches:
        async for entries in batches:
            file.write(b"".join(_line(entry_out(entry)) for entry in entries))
            written += len(entries)
            progress(written, head.seq)
    file.flush()
    return written


def verify(file: IO[bytes], *, noted: Noted | None, progress: Progress) -> tuple[WorkspaceId, Verdict]:
    """Check an exported log by itself; return whose it is, and what came of it.

    Raises:
        InvalidInput: it is not an exported log.
    """
    workspace_id, head = _read_head(file)
    check = Check(workspace_id, head, noted=noted)
    fault = None
    for number, line in enumerate(_lines(file), start=2):
        try:
            entry = _read_entry(line)
        except (ValueError, InvalidInput, RecursionError) as error:  # msgspec's own errors are ValueErrors
            fault = Fault(check.seq + 1, Why.CHANGED, f"line {number} is not an entry as it was exported: {error}")
        else:
            fault = check.take(entry)
        if fault is not None:
            break
        if check.seq % BATCH_LINES == 0:
            progress(check.seq, head.seq)
    if fault is None:
        fault = check.finish()
    return workspace_id, Verdict(check.seq, check.unchained, check.hash, fault)


def _line(value: First | AuditEntryOut) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(LINE_MAX_BYTES):
        yield line


def _read_head(file: IO[bytes]) -> tuple[WorkspaceId, Head]:
    try:
        first = msgspec.json.decode(file.readline(LINE_MAX_BYTES), type=First)
        head = Head(first.entries, first.chained, bytes.fromhex(first.hash) if first.hash is not None else None)
    except ValueError as error:
        raise InvalidInput(f"the file does not begin like an exported audit log: {error}") from error
    if first.format != FORMAT:
        raise InvalidInput(f"the file has the format {first.format!r}: this sessiond reads {FORMAT}")
    return WorkspaceId(first.workspace), head


def _read_entry(line: bytes) -> AuditEntry:
    """Return the entry that a line was made of.

    Raises:
        ValueError, InvalidInput: it is none, or says something twice, or in another way.
    """
    said = msgspec.json.decode(line, type=AuditEntryOut)
    at_us = int(said.at) if "T" not in said.at else parse_time(said.at, "at")
    entry = AuditEntry(
        said.seq,
        at_us,
        said.actor,
        said.event,
        bytes(said.record),
        said.address,
        said.result,
        bytes.fromhex(said.hash) if said.hash is not None else None,
    )
    if _line(entry_out(entry)) != line.rstrip(b"\r\n") + b"\n" or time_out(at_us) != said.at:
        raise ValueError("it was written by somebody else")
    return entry
