"""The audit log, and erasures with their receipts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from sessiond.client.call import Call, Page, Response, path_of, query_of, reads
from sessiond.client.resource import Async, Iterated, Method, Sync


class AuditEntry(Struct, frozen=True, kw_only=True):
    """Something that was done, which somebody may have to answer for."""

    seq: int
    at: datetime
    actor: str
    address: str | None = None
    event: str
    record: Any = None
    """Which record it is about."""
    result: str
    hash: str | None = None
    """Of this entry and the hash before it, in hex."""


class Receipt(Struct, frozen=True, kw_only=True):
    """What was erased, signed."""

    id: str
    counts: dict[str, int]
    requested_at: datetime
    completed_at: datetime | None = None
    purged: bool = False
    """Whether the database has removed all of it; nobody can read any of it before that."""
    document: dict[str, Any] = {}
    """The whole receipt, as it is to be kept and verified."""


class _Receipts(Struct, frozen=True, kw_only=True):
    data: list[msgspec.Raw]
    next_cursor: str | None = None
    prev_cursor: str | None = None


def list_audit(
    *,
    event: str | Sequence[str] | None = None,
    actor: str | Sequence[str] | None = None,
    after: datetime | None = None,
    before: datetime | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[Page[AuditEntry]]:
    """Return a page of the audit log, the newest first; `after` includes that moment, `before` does not.

    Needs the scope `admin`.
    """
    query = query_of(event=event, actor=actor, after=after, before=before, limit=limit, cursor=cursor)
    return Call(method="GET", path="/v1/audit", query=query, read=reads(Page[AuditEntry]))


def erase_user(user_id: str) -> Call[Receipt]:
    """Erase all that there is of a user, for good. Asked again after it was cut short, it goes on."""
    return Call(method="DELETE", path=path_of("users", user_id, "data"), read=read_receipt)


def list_erasures(*, limit: int | None = None, cursor: str | None = None) -> Call[Page[Receipt]]:
    """Return a page of erasures, the last first. Needs the scope `admin`."""
    return Call(method="GET", path="/v1/erasures", query=query_of(limit=limit, cursor=cursor), read=_read_receipts)


def get_erasure(erasure_id: str) -> Call[Receipt]:
    """Return the receipt of an erasure. Needs the scope `admin`."""
    return Call(method="GET", path=path_of("erasures", erasure_id), read=read_receipt)


class AuditCalls:
    """What both clients can do with the audit log."""

    list = Method(list_audit)
    iterate = Iterated(list_audit)


class ErasureCalls:
    """What both clients can do to have somebody's data gone."""

    erase_user = Method(erase_user)
    list = Method(list_erasures)
    iterate = Iterated(list_erasures)
    get = Method(get_erasure)


class Audit(Sync, AuditCalls):
    """`client.audit`."""


class AsyncAudit(Async, AuditCalls):
    """`client.audit`."""


class Erasures(Sync, ErasureCalls):
    """`client.erasures`."""


class AsyncErasures(Async, ErasureCalls):
    """`client.erasures`."""


def read_receipt(response: Response) -> Receipt:
    """Return the receipt that an answer is."""
    return _receipt(response.body)


def _read_receipts(response: Response) -> Page[Receipt]:
    page: _Receipts = _receipts(response)
    data = [_receipt(bytes(each)) for each in page.data]
    return Page(data=data, next_cursor=page.next_cursor, prev_cursor=page.prev_cursor)


def _receipt(document: bytes) -> Receipt:
    receipt = msgspec.json.decode(document, type=Receipt)
    return msgspec.structs.replace(receipt, document=msgspec.json.decode(document))


_receipts = reads(_Receipts)
