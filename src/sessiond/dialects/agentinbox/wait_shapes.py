"""Waits on the agentinbox wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sessiond.core.errors import InvalidInput
from sessiond.core.ids import parse_id
from sessiond.core.limits import PAGE_DEFAULT, check_text
from sessiond.core.metadata import JsonObject
from sessiond.core.wait import (
    CANCELLED,
    COMPLETED,
    FOR_MAIL,
    PENDING,
    TIMED_OUT,
    Found,
    NewWait,
    Terms,
    Wait,
    WaitFilter,
    WaitStatus,
    WaitType,
)
from sessiond.dialects.agentinbox.lists import Limit, Offset
from sessiond.dialects.agentinbox.log_shapes import filters_out, translated
from sessiond.dialects.agentinbox.times import iso
from sessiond.web.answers import iso_millis, parse_time

TIMEOUT_DEFAULT_SECONDS: Final = 120
TIMEOUT_MAX_SECONDS: Final = 86_400
HOLD_MAX_SECONDS: Final = 30.0  # the published clients give up then, and ask again
TYPES: Final = (WaitType.EMAIL, WaitType.OTP, WaitType.MAGIC_LINK, WaitType.PASSWORD_RESET)
"""What can be asked for here."""

WireStatus = Literal["pending", "completed", "timed_out", "canceled"]
STATUSES: Final[Mapping[WireStatus, WaitStatus]] = {
    "pending": PENDING,
    "completed": COMPLETED,
    "timed_out": TIMED_OUT,
    "canceled": CANCELLED,
}
_WIRE_STATUS: Final = {status: wire for wire, status in STATUSES.items()}


class Filters(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which mails count."""

    from_: str | None = msgspec.field(name="from", default=None)
    subject_contains: str | None = None
    since: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None = None


class WaitOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    object: Literal["wait"] = "wait"
    inbox_id: str | None
    """None where any inbox of the session counts, or no mail is waited for."""
    message_id: str | None
    """The mail that completed it."""
    type: WaitType
    status: WireStatus
    critical: bool
    timeout_seconds: int | None
    """None where it has no end but its session's, which other wires can ask for."""
    filters: JsonObject | None
    result: JsonObject | None
    created_at: str
    expires_at: str | None
    completed_at: str | None
    """When it ended, in whatever way."""
    session_id: str | None


class MailResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a wait for a mail is completed with."""

    type: WaitType
    value: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    confidence: float | UnsetType = UNSET
    message_id: str
    from_: str | UnsetType = msgspec.field(name="from", default=UNSET)
    subject: str | UnsetType = UNSET
    received_at: str | UnsetType = UNSET


class CreateWait(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    inbox_id: str | None = None
    session_id: str | None = None
    type: Literal["email", "otp", "magic_link", "password_reset"] | None = None
    timeout_seconds: Annotated[int, Meta(ge=1, le=TIMEOUT_MAX_SECONDS)] | None = None
    filters: Filters | None = None
    critical: bool | None = None

    def parse(self) -> NewWait:
        """Return the wait meant, as it was said.

        Raises:
            InvalidInput, TooLarge: something is missing, or cannot be.
        """
        if self.inbox_id is None and self.session_id is None:
            raise InvalidInput("inboxId or sessionId is required", field="inboxId")
        if self.type is None:
            raise InvalidInput("type is required", field="type")
        return NewWait(
            type=WaitType(self.type),
            inbox_id=parse_id(self.inbox_id, "inboxId") if self.inbox_id is not None else None,
            session_id=parse_id(self.session_id, "sessionId") if self.session_id is not None else None,
            timeout_seconds=self.timeout_seconds,
            critical=self.critical or False,
            terms=_terms(self.filters or Filters()),
        )


class ListWaits(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    limit: Limit = PAGE_DEFAULT
    offset: Offset = 0
    cursor: str | None = None
    status: WireStatus | None = None
    type: WaitType | None = None
    inbox_id: str | None = None
    session_id: str | None = None

    def parse(self) -> WaitFilter:
        status = STATUSES[self.status] if self.status is not None else None
        return WaitFilter(session_id=self.session_id, inbox_id=self.inbox_id, status=status, type=self.type)


class Hold(msgspec.Struct, frozen=True):
    wait: Annotated[float, Meta(ge=0, le=HOLD_MAX_SECONDS, description="Seconds until the answer, at most.")] = 0.0


def wait_out(wait: Wait) -> WaitOut:
    timeout_us = wait.times_out_at_us - wait.created_at_us if wait.times_out_at_us is not None else None
    result, found = None, None
    if wait.status is COMPLETED and wait.result is not None:
        if wait.type in FOR_MAIL:
            found = msgspec.json.decode(wait.result, type=Found)
            result = _mail_result(wait.type, found)
        else:
            result = _other_result(wait.type, wait.result)
    return WaitOut(
        id=wait.id,
        inbox_id=wait.inbox_id,
        message_id=found.mail_id if found is not None else None,
        type=wait.type,
        status=_WIRE_STATUS[wait.status],
        critical=wait.critical,
        timeout_seconds=round(timeout_us / 1_000_000) if timeout_us is not None else None,
        filters=filters_out(msgspec.to_builtins(wait.read_terms())) or None,
        result=result,
        created_at=iso_millis(wait.created_at_us),
        expires_at=iso(wait.times_out_at_us),
        completed_at=iso(wait.ended_at_us),
        session_id=wait.session_id,
    )


def _mail_result(kind: WaitType, found: Found) -> JsonObject:
    if kind is WaitType.EMAIL:
        told = MailResult(
            type=kind,
            message_id=found.mail_id,
            from_=found.sender,
            subject=found.subject,
            received_at=iso_millis(found.received_at_us),
        )
    else:
        told = MailResult(
            type=kind,
            value=found.value or found.url or "",
            url=found.url if found.url is not None else UNSET,
            confidence=found.confidence if found.confidence is not None else UNSET,
            message_id=found.mail_id,
        )
    shown: JsonObject = msgspec.to_builtins(told)
    return shown


def _other_result(kind: WaitType, result: bytes) -> JsonObject:
    """Return what a wait of another wire was completed with: what callers said as it is, what we say in our names."""
    said: dict[str, Any] = msgspec.json.decode(result)
    if kind is WaitType.TIMER:
        return {"at": iso(said.get("at_us"))}
    return translated(said) if kind is WaitType.EVENT else said


def _terms(filters: Filters) -> Terms:
    for field, text in (("filters.from", filters.from_), ("filters.subjectContains", filters.subject_contains)):
        if text is not None:
            check_text(text, field)
    since = filters.since
    return Terms(
        sender=filters.from_,
        subject_contains=filters.subject_contains,
        since_us=parse_time(since, "filters.since") if since is not None else None,
    )
