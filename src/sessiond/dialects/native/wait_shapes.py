"""What waits look like on the native wire."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from sessiond.core.errors import InvalidInput
from sessiond.core.ids import parse_id
from sessiond.core.limits import check_nesting
from sessiond.core.metadata import JsonObject
from sessiond.core.wait import TIMEOUT_MAX_SECONDS, NewWait, Terms, Wait, WaitStatus, WaitType
from sessiond.dialects.native import log_shapes, queries
from sessiond.dialects.native.run_shapes import NO_TYPE, NULL
from sessiond.dialects.native.times import iso
from sessiond.web.answers import encode, iso_micros, parse_time

TIMEOUT_SECONDS: Final = 3600.0  # unless said otherwise: nobody waits for ever who has not thought of it
AT_ONCE_SECONDS: Final = 0.001
SECOND_US: Final = 1_000_000
_SAID_BY_OTHERS: Final = frozenset({WaitType.APPROVAL, WaitType.WEBHOOK})
_result: Final = msgspec.json.Decoder(JsonObject)


class WaitOut(msgspec.Struct, frozen=True, kw_only=True):
    """A wait on the wire."""

    id: str
    session_id: str | None
    inbox_id: str | None
    run_id: str | None
    user_id: str | None
    type: WaitType
    status: WaitStatus
    critical: bool
    sender: str | None = field(name="from")
    subject_contains: str | None
    since: str | None
    events: list[str]
    title: str | None
    detail: Any
    result: Annotated[msgspec.Raw, Meta(extra_json_schema={"anyOf": [{"type": "object"}, NO_TYPE]})]
    reason: str | None
    created_at: str
    times_out_at: str | None
    ended_at: str | None
    hook_url: str | UnsetType = UNSET
    """Completes it: in the answer that made it, and nowhere else."""


class WaitPageOut(msgspec.Struct, frozen=True, kw_only=True):
    data: list[WaitOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class HookCalled(msgspec.Struct, frozen=True):
    status: Literal["completed"]


class CreateWait(msgspec.Struct, frozen=True, kw_only=True):
    type: WaitType
    session_id: str | None = None
    inbox_id: str | None = None
    timeout_seconds: Annotated[float, Meta(gt=0, le=TIMEOUT_MAX_SECONDS)] | UnsetType | None = UNSET
    critical: bool = False
    sender: str | None = field(name="from", default=None)
    subject_contains: str | None = None
    since: str | None = None
    events: list[str] = []
    title: str | None = None
    detail: Any = None
    at: str | None = None

    def parse(self, *, at_us: int) -> NewWait:
        return NewWait(
            type=self.type,
            session_id=parse_id(self.session_id, "session_id") if self.session_id is not None else None,
            inbox_id=parse_id(self.inbox_id, "inbox_id") if self.inbox_id is not None else None,
            timeout_seconds=self._timeout_seconds(at_us),
            critical=self.critical,
            terms=Terms(
                sender=_filled(self.sender, "from"),
                subject_contains=_filled(self.subject_contains, "subject_contains"),
                since_us=parse_time(self.since, "since") if self.since is not None else None,
                events=list(queries.check_types(self.events, "events")),
                title=self.title,
                detail=self.detail,
            ),
        )

    def _timeout_seconds(self, at_us: int) -> float | None:
        if self.at is None:
            if self.timeout_seconds is UNSET:
                return TIMEOUT_SECONDS if self.type is not WaitType.TIMER else None
            return self.timeout_seconds
        if self.type is not WaitType.TIMER:
            raise InvalidInput("only a timer has a time in at", field="at")
        if self.timeout_seconds is not UNSET:
            raise InvalidInput("send either at or timeout_seconds", field="at")
        seconds = (parse_time(self.at, "at") - at_us) / SECOND_US
        if seconds > TIMEOUT_MAX_SECONDS:
            raise InvalidInput(f"at is more than {TIMEOUT_MAX_SECONDS} seconds ahead", field="at")
        return max(AT_ONCE_SECONDS, seconds)


class CompleteWait(msgspec.Struct, frozen=True, kw_only=True):
    result: JsonObject | None = None


def wait_out(wait: Wait, *, hook_url: str | UnsetType = UNSET) -> WaitOut:
    terms = wait.read_terms()
    return WaitOut(
        id=wait.id,
        session_id=wait.session_id,
        inbox_id=wait.inbox_id,
        run_id=wait.run_id,
        user_id=wait.user_id,
        type=wait.type,
        status=wait.status,
        critical=wait.critical,
        sender=terms.sender,
        subject_contains=terms.subject_contains,
        since=iso(terms.since_us),
        events=terms.events,
        title=terms.title,
        detail=terms.detail,
        result=_result_out(wait.type, wait.result) if wait.result is not None else NULL,
        reason=wait.reason,
        created_at=iso_micros(wait.created_at_us),
        times_out_at=iso(wait.times_out_at_us),
        ended_at=iso(wait.ended_at_us),
        hook_url=hook_url,
    )


def _result_out(type: WaitType, result: bytes) -> msgspec.Raw:
    if type in _SAID_BY_OTHERS:
        return msgspec.Raw(result)
    return msgspec.Raw(encode(log_shapes.result_out(type, _result.decode(result))))


def hook_result(body: bytes, content_type: str | None) -> JsonObject:
    """Return what a call of a wait's URL says: JSON as it came, anything else as text.

    Raises:
        InvalidInput: it is JSON that is nested too deeply.
    """
    try:
        msgspec.json.decode(body)
    except RecursionError as error:
        raise InvalidInput("the body is nested too deeply", field="body") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"body": body.decode(errors="replace"), "content_type": content_type}
    check_nesting(body)
    return {"body": msgspec.Raw(body.strip())}


def _filled(text: str | None, name: str) -> str | None:
    """Return what a mail must have; the empty text would be found in every one."""
    if text == "":
        raise InvalidInput(f"{name} is empty: leave it out, or give it a value", field=name)
    return text
