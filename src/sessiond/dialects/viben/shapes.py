"""What the viben wire looks like: snake_case, times in milliseconds, fields that are text even where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sessiond.actions.sessions import SessionPatch
from sessiond.core import errors
from sessiond.core.errors import InvalidInput
from sessiond.core.event import Event, StoredMessage
from sessiond.core.ids import parse_id
from sessiond.core.limits import PAGE_MAX, check_prose
from sessiond.core.message import Message, Role, make_message, text_of, unpack_message
from sessiond.core.metadata import JsonObject, RawObject
from sessiond.core.session import NewSession, Session, Status
from sessiond.web.answers import iso_millis
from sessiond.web.errors import MethodNotAllowed

SESSION: Final = "session-"
MESSAGE: Final = "msg-"

EMPTY: Final = msgspec.Raw(b"{}")

StatusText = Annotated[str, Meta(extra_json_schema={"enum": [str(status) for status in Status]})]
"""A status as it was sent: an unknown one is refused in words that say which there are."""


class Summary(msgspec.Struct, frozen=True):
    """A session in a list. `agent_id` and `task_id` are empty where a session made through another API has none."""

    id: str
    agent_id: str
    task_id: str
    status: Status
    created_at: str
    last_active: str
    message_count: int


class Details(msgspec.Struct, frozen=True):
    """A session by itself."""

    id: str
    agent_id: str
    task_id: str
    status: Status
    created_at: str
    last_active: str
    message_count: int
    data: RawObject
    prompt: str | UnsetType = UNSET


class MessageOut(msgspec.Struct, frozen=True):
    id: str
    role: Role
    content: str
    created_at: str


class Conversation(msgspec.Struct, frozen=True):
    """A session by itself, and what was said in it last."""

    id: str
    agent_id: str
    task_id: str
    status: Status
    created_at: str
    last_active: str
    message_count: int
    data: RawObject
    messages: list[MessageOut]
    """The last of them, oldest first."""
    prompt: str | UnsetType = UNSET


class MessageList(msgspec.Struct, frozen=True):
    messages: list[MessageOut]


class Created(msgspec.Struct, frozen=True):
    """A session that was just made."""

    id: str
    agent_id: str
    task_id: str
    status: Status
    created_at: str


class SessionList(msgspec.Struct, frozen=True):
    sessions: list[Summary]
    next_cursor: str | UnsetType | None = UNSET
    """In an answer that was bounded: where the next one begins, null when this was the last."""


class Sent(msgspec.Struct, frozen=True):
    message_id: str
    status: str
    timestamp: str


class ErrorDetail(msgspec.Struct, frozen=True):
    code: str
    message: str


class ErrorOut(msgspec.Struct, frozen=True):
    error: ErrorDetail


class CreateSession(msgspec.Struct, frozen=True, kw_only=True):
    agent_id: Annotated[str, Meta(min_length=1)]
    task_id: str | None = None
    prompt: str | None = None

    def parse(self) -> NewSession:
        return NewSession(
            agent_id=parse_id(self.agent_id, "agent_id"),
            task_id=parse_id(self.task_id, "task_id") if self.task_id else None,
            prompt=check_prose(self.prompt, "prompt") if self.prompt else None,
        )


class PatchSession(msgspec.Struct, frozen=True, kw_only=True):
    status: StatusText | UnsetType = UNSET
    data: JsonObject | UnsetType | None = UNSET
    """A JSON merge patch: null removes a key."""
    prompt: str | UnsetType | None = UNSET

    def parse(self) -> SessionPatch:
        prompt = self.prompt
        return SessionPatch(
            status=parse_status(self.status) if self.status is not UNSET else UNSET,
            data=self.data,
            prompt=check_prose(prompt, "prompt") if prompt else UNSET if prompt is UNSET else None,
        )


class SendMessage(msgspec.Struct, frozen=True, kw_only=True):
    content: Annotated[str, Meta(min_length=1)]

    def parse(self) -> Message:
        return make_message(Role.USER, self.content)


FILTERS: Final = frozenset({"task_id", "agent_id", "status"})
"""Without a value these are refused: an empty variable in a script must not ask for everything."""


class ListSessions(msgspec.Struct, frozen=True, kw_only=True):
    task_id: str | None = None
    agent_id: str | None = None
    status: StatusText | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] | None = None
    cursor: str | None = None


STATUS: Final[Mapping[type[errors.SessiondError], int]] = {
    errors.InvalidInput: 400,
    errors.Locked: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    MethodNotAllowed: 405,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.KeyReused: 422,
    errors.Damaged: 500,
    errors.TooMany: 429,
    errors.Unavailable: 503,
}
CODES: Final = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    412: "precondition_failed",
    413: "payload_too_large",
    422: "idempotency_key_reused",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
}


def parse_status(text: str) -> Status:
    """Return the status that a word means.

    Raises:
        InvalidInput: there is none of that name; the message says which there are.
    """
    try:
        return Status(text)
    except ValueError:
        known = ", ".join(Status)
        raise InvalidInput(f"unknown status {text[:40]!r}: it must be one of {known}", field="status") from None


def make_message_id(session_id: str, seq: int) -> str:
    """Return the id of a message, which says where in which session's log it stands."""
    return f"{MESSAGE}{seq}.{session_id}"


def summary_out(session: Session) -> Summary:
    return Summary(
        session.id,
        session.agent_id or "",
        session.task_id or "",
        session.status,
        iso_millis(session.created_at_us),
        iso_millis(session.last_active_at_us),
        session.message_count,
    )


def details_out(session: Session) -> Details:
    return Details(
        session.id,
        session.agent_id or "",
        session.task_id or "",
        session.status,
        iso_millis(session.created_at_us),
        iso_millis(session.last_active_at_us),
        session.message_count,
        msgspec.Raw(session.data) if session.data is not None else EMPTY,
        session.prompt if session.prompt is not None else UNSET,
    )


def conversation_out(session: Session, messages: Sequence[StoredMessage]) -> Conversation:
    """Return a session with its last messages, which are given oldest first."""
    fields = msgspec.structs.asdict(details_out(session))
    return Conversation(**fields, messages=[message_out(message) for message in messages])


def message_out(event: StoredMessage) -> MessageOut:
    message = unpack_message(event.body)
    return MessageOut(
        make_message_id(event.session_id, event.seq),
        message.role,
        text_of(message.content),
        iso_millis(event.created_at_us),
    )


def created_out(session: Session) -> Created:
    """Return a new session as the document has it: created, though a prompt may have made it active already."""
    return Created(
        session.id,
        session.agent_id or "",
        session.task_id or "",
        Status.CREATED,
        iso_millis(session.created_at_us),
    )


def sent_out(event: Event) -> Sent:
    return Sent(make_message_id(event.session_id, event.seq), "sent", iso_millis(event.created_at_us))
