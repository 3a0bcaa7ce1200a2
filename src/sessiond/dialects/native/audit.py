"""The native wire's route of the audit log, and what of it goes over the wire."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from sessiond.actions import audit
from sessiond.core.audit import AuditEntry, AuditFilter, show_record
from sessiond.core.limits import ID_MAX_CHARS, PAGE_DEFAULT, TIME_MAX_US
from sessiond.core.page import pack_cursor, unpack_cursor
from sessiond.dialects.native.queries import Limit, check_values
from sessiond.web.answers import Answer, iso_micros, json_answer, parse_time
from sessiond.web.requests import Request

FILTERS = frozenset({"event", "actor", "after", "before"})
"""What narrows the list. Without a value it is refused, as everywhere."""

Word = Annotated[str, Meta(max_length=ID_MAX_CHARS)]


class ListAudit(msgspec.Struct, frozen=True, kw_only=True):
    event: list[Word] = []
    actor: list[Word] = []
    after: str | None = None
    """The first moment that is wanted, as ISO 8601."""
    before: str | None = None
    """The first that is not."""
    limit: Limit = PAGE_DEFAULT
    cursor: str | None = None

    def parse(self) -> AuditFilter:
        return AuditFilter(
            events=check_values(self.event, "event"),
            actors=check_values(self.actor, "actor"),
            from_us=parse_time(self.after, "after") if self.after is not None else None,
            before_us=parse_time(self.before, "before") if self.before is not None else None,
        )


class AuditEntryOut(msgspec.Struct, frozen=True):
    seq: int
    """Counted in the workspace, from 1, without gaps."""
    at: str
    actor: str
    """The id of the key that did it; `operator` for the command line, `clock` for what time did."""
    address: str | None
    """Where it was asked from; null for what did not come over the network."""
    event: str
    record: Raw
    """Which record it is about."""
    result: str
    hash: str | None
    """Of this entry and the hash before it, in hex; null for one that is not in the chain yet."""


class AuditPage(msgspec.Struct, frozen=True):
    data: list[AuditEntryOut]
    next_cursor: str | None
    prev_cursor: str | None


async def list_audit(request: Request) -> Answer:
    query = request.query_as(ListAudit, filled=FILTERS)
    (before,) = unpack_cursor(query.cursor, tuple[int]) if query.cursor is not None else (None,)
    entries, more = await audit.find(await request.call(), query.parse(), before=before, limit=query.limit)
    return json_answer(
        AuditPage(
            data=[entry_out(entry) for entry in entries],
            next_cursor=pack_cursor((entries[-1].seq,)) if more else None,
            prev_cursor=None,
        )
    )


def entry_out(entry: AuditEntry) -> AuditEntryOut:
    return AuditEntryOut(
        entry.seq,
        time_out(entry.at_us),
        entry.actor,
        entry.address,
        entry.event,
        show_record(entry),
        entry.result,
        entry.hash.hex() if entry.hash is not None else None,
    )


def time_out(at_us: int) -> str:
    """Return a time as on every wire; one that no clock has said, after a change by hand, as the number that it is."""
    return iso_micros(at_us) if 0 <= at_us <= TIME_MAX_US else str(at_us)
