"""What the agentinbox wire looks like: camelCase, times in milliseconds, three statuses, errors in two words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sessiond.core import errors
from sessiond.core.errors import InvalidInput
from sessiond.core.event import SESSION_CREATED, Event
from sessiond.core.ids import MESSAGE, make_event_id
from sessiond.core.limits import OFFSET_MAX, PAGE_DEFAULT, PAGE_MAX, check_text
from sessiond.core.message import unpack_message
from sessiond.core.metadata import JsonObject, RawObject, pack_metadata
from sessiond.core.session import ACTIVE, COMPLETED, CREATED, FAILED, PAUSED, NewSession, Session, SessionFilter, Status
from sessiond.core.timeline import Step
from sessiond.web.answers import iso_millis
from sessiond.web.errors import MethodNotAllowed

EMPTY: Final = msgspec.Raw(b"{}")
TTL_MAX_SECONDS: Final = 2**31 - 1  # 68 years; more is a mistake, and would leave what a date can say

WireStatus = Literal["active", "completed", "failed"]
INCLUDES: Final = ("inboxes", "waits", "messages", "extractions", "timeline")

# What has not ended is active here: nobody on this wire can pause a session, or make one that waits to begin.
STATUSES: Final[Mapping[WireStatus, tuple[Status, ...]]] = {
    "active": (CREATED, ACTIVE, PAUSED),
    "completed": (COMPLETED,),
    "failed": (FAILED,),
}
_WIRE_STATUS: Final = {status: wire for wire, statuses in STATUSES.items() for status in statuses}


class SessionOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    name: str
    """Empty where a session of another wire has none: this wire's is a string always."""
    status: WireStatus
    created_at: str
    updated_at: str
    completed_at: str | None
    metadata: RawObject
    inboxes: list[str]
    waits: list[str]
    expires_at: str | UnsetType = UNSET
    """Only there when the session expires: the document does not know it, the published clients do."""


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A session in a list: what the document shows, and what the published clients read beside it."""

    id: str
    object: Literal["session"] = "session"
    name: str
    status: WireStatus
    created_at: str
    updated_at: str
    metadata: RawObject
    expires_at: str | None


class SessionWhole(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A session where the published clients ask for more than the session."""

    id: str
    object: Literal["session"] = "session"
    name: str
    status: WireStatus
    created_at: str
    updated_at: str
    completed_at: str | None
    metadata: RawObject
    inboxes: list[str]
    waits: list[str]
    expires_at: str | None


class TimelineEvent(msgspec.Struct, frozen=True):
    timestamp: str
    type: str
    payload: JsonObject


class Timeline(msgspec.Struct, frozen=True):
    events: list[TimelineEvent]


class StepOut(msgspec.Struct, frozen=True, rename="camel"):
    index: int
    timestamp: str
    action: str
    input: JsonObject
    output: JsonObject
    duration_ms: int


class Steps(msgspec.Struct, frozen=True):
    steps: list[StepOut]


class SessionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A session and what was asked for beside it."""

    session: SessionWhole
    inboxes: list[JsonObject] | UnsetType = UNSET
    waits: list[JsonObject] | UnsetType = UNSET
    messages: list[JsonObject] | UnsetType = UNSET
    """Mails: what is said in a session is in its timeline."""
    extractions: list[JsonObject] | UnsetType = UNSET
    timeline: list[TimelineEvent] | UnsetType = UNSET


class Pagination(msgspec.Struct, frozen=True):
    limit: int
    offset: int
    total: int


class SessionList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    object: Literal["list"] = "list"
    data: list[SessionSummary]
    pagination: Pagination
    has_more: bool
    next_cursor: str | None


class Completed(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    status: Literal["completed"]
    completed_at: str


class ErrorOut(msgspec.Struct, frozen=True):
    error: str
    message: str


class CreateSession(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str | None = None
    metadata: JsonObject | None = None
    ttl_seconds: Annotated[int, Meta(ge=1, le=TTL_MAX_SECONDS)] | None = None

    def parse(self, *, at_us: int) -> NewSession:
        """Return the session meant.

        Raises:
            InvalidInput, TooLarge: the name is missing, or something cannot be kept.
        """
        if self.name is None or not self.name.strip():
            raise InvalidInput("name is required", field="name")
        return NewSession(
            name=check_text(self.name, "name"),
            metadata=pack_metadata(self.metadata),
            expires_at_us=at_us + self.ttl_seconds * 1_000_000 if self.ttl_seconds is not None else None,
        )

    def given(self) -> JsonObject:
        """Return what the client said, as the log has it."""
        said = msgspec.structs.asdict(self)
        return {name: value for name, value in said.items() if value is not None}


FILTERS: Final = frozenset({"status"})
"""Without a value this is refused: an empty variable in a script must not ask for everything."""


class ListSessions(msgspec.Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    offset: Annotated[int, Meta(ge=0, le=OFFSET_MAX)] = 0
    status: WireStatus | None = None
    cursor: str | None = None

    def parse(self) -> SessionFilter:
        """Return the filter meant.

        Raises:
            InvalidInput: there is a cursor and an offset.
        """
        if self.offset and self.cursor is not None:
            raise InvalidInput("send either cursor or offset", field="offset")
        return SessionFilter(statuses=STATUSES[self.status] if self.status is not None else ())


class GetSession(msgspec.Struct, frozen=True):
    include: list[str] = []

    def parse(self) -> frozenset[str]:
        """Return what is wanted beside the session; `include` holds names with commas between.

        Raises:
            InvalidInput: a name is not one of `INCLUDES`.
        """
        names = frozenset(name.strip() for names in self.include for name in names.split(",")) - {""}
        if not names <= set(INCLUDES):
            raise InvalidInput(f"include can be {', '.join(INCLUDES)}", field="include")
        return names


STATUS: Final[Mapping[type[errors.SessiondError], int]] = {
    errors.InvalidInput: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.KeyReused: 409,
    errors.TooLarge: 413,
    errors.Unavailable: 503,
    MethodNotAllowed: 405,
}
WORDS: Final = {
    400: "Invalid request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Payload too large",
    500: "Internal server error",
    503: "Service unavailable",
}


def status_of(error: errors.SessiondError) -> int:
    if isinstance(error, errors.TooLarge) and error.field != "body":
        return 400  # a field that is too long is one more that is wrong
    return STATUS.get(type(error), 500)


def session_out(session: Session) -> SessionOut:
    return SessionOut(
        **_fields(session),
        completed_at=_iso(session.completed_at_us),
        inboxes=[],
        waits=[],
        expires_at=_iso(session.expires_at_us) or UNSET,
    )


def session_summary(session: Session) -> SessionSummary:
    return SessionSummary(**_fields(session), expires_at=_iso(session.expires_at_us))


def session_whole(session: Session) -> SessionWhole:
    return SessionWhole(
        **_fields(session),
        completed_at=_iso(session.completed_at_us),
        inboxes=[],
        waits=[],
        expires_at=_iso(session.expires_at_us),
    )


def completed_out(session: Session) -> Completed:
    assert session.completed_at_us is not None, "it has ended"
    return Completed(session.id, "completed", iso_millis(session.completed_at_us))


def event_out(event: Event) -> TimelineEvent:
    return TimelineEvent(iso_millis(event.created_at_us), event.type, _payload(event))


def step_out(step: Step) -> StepOut:
    return StepOut(
        step.index,
        iso_millis(step.at_us),
        step.action,
        _translated(step.input),
        _translated(step.output),
        -(-step.duration_us // 1000),  # rounded up: a step that took time never shows none
    )


_bodies: Final = msgspec.json.Decoder(JsonObject)


def _payload(event: Event) -> JsonObject:
    of_run = {"runId": event.run_id} if event.run_id is not None else {}
    if event.is_message:
        message = unpack_message(event.body)
        message_id = make_event_id(MESSAGE, event.session_id, event.seq)
        return {"messageId": message_id, "role": message.role, "content": message.content, **of_run}
    payload: JsonObject = {"sessionId": event.session_id, **of_run}
    if event.type != SESSION_CREATED:
        payload |= _translated(_bodies.decode(event.body))
    if event.run_id is None:
        # `input` and `output` belong to the step that the same event is; runs and their tools are told whole.
        for name in _STEP:
            payload.pop(name, None)
    return payload


_STEP: Final = frozenset({"input", "output"})


def _translated(fields: JsonObject) -> JsonObject:
    """Return the log's names in camelCase. What callers hang on sessions, such as metadata, is left as it is."""
    return dict(_translated_field(name, value) for name, value in fields.items())


def _translated_field(name: str, value: Any) -> tuple[str, Any]:
    if name == "expires_at_us":
        return "expiresAt", _iso(value)
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest)), value


def _fields(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "name": session.name or "",
        "status": _WIRE_STATUS[session.status],
        "created_at": iso_millis(session.created_at_us),
        "updated_at": iso_millis(session.updated_at_us),
        "metadata": msgspec.Raw(session.metadata) if session.metadata is not None else EMPTY,
    }


def _iso(at_us: int | None) -> str | None:
    return iso_millis(at_us) if at_us is not None else None
