"""What the native wire looks like: snake_case, times in microseconds, problem details for errors (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from sessiond.actions.keys import MadeKey, NewKey
from sessiond.actions.sessions import IfExists, SessionPatch
from sessiond.core import errors
from sessiond.core.caller import Caller, Key, Scope
from sessiond.core.errors import InvalidInput
from sessiond.core.event import SESSION_CREATED, SESSION_UPDATED, Event, StoredMessage
from sessiond.core.ids import EVENT, make_event_id, parse_id
from sessiond.core.limits import (
    MESSAGES_PER_APPEND,
    check_prose,
    check_text,
)
from sessiond.core.message import NO_METADATA, Message, RawContent, Role, check_content
from sessiond.core.metadata import JsonObject, RawObject, pack_data, pack_metadata
from sessiond.core.session import NewSession, Session, Status
from sessiond.core.timeline import Step
from sessiond.web.answers import encode, iso_micros, parse_time
from sessiond.web.errors import MethodNotAllowed

EMPTY = msgspec.Raw(b"{}")


class SessionOut(msgspec.Struct, frozen=True):
    """A session on the wire."""

    id: str
    agent_id: str | None
    user_id: str | None
    task_id: str | None
    name: str | None
    user_name: str | None
    user_email: str | None
    accept_terms: bool | None
    status: Status
    metadata: RawObject
    data: RawObject
    prompt: str | None
    message_count: int
    last_seq: int
    prompt_tokens: int
    completion_tokens: int
    parent: str | None
    created_at: str
    updated_at: str
    last_active_at: str
    completed_at: str | None
    expires_at: str | None


class MessageOut(msgspec.Struct, frozen=True):
    id: str
    seq: int
    role: Role
    content: RawContent
    run_id: str | None
    metadata: RawObject
    created_at: str


class EventOut(msgspec.Struct, frozen=True):
    id: str
    seq: int
    type: str
    created_at: str
    actor: str
    run_id: str | None
    data: RawObject


class StepOut(msgspec.Struct, frozen=True):
    index: int
    at: str
    action: str
    input: JsonObject
    output: JsonObject
    duration_ms: float


class KeyOut(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str | None
    scopes: list[Scope]
    dialect: str | None
    user_id: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    key: str | UnsetType | None = UNSET
    """The secret: in the answer that made it, and nowhere else."""


class Me(msgspec.Struct, frozen=True):
    key_id: str
    workspace: str
    database_id_hash: str
    scopes: list[Scope]
    user_id: str | None
    dialect: str | None


class ProblemOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    field: str | None = None


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[SessionOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class MessagePage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[MessageOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[EventOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class LogPageOut(msgspec.Struct, frozen=True, kw_only=True):
    """A `MessagePage` or an `EventPage` on its way out."""

    data: Sequence[msgspec.Raw]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[KeyOut]
    next_cursor: str | None
    prev_cursor: str | None


class Steps(msgspec.Struct, frozen=True):
    steps: list[StepOut]


class MessageList(msgspec.Struct, frozen=True):
    data: list[MessageOut]


class MessageIn(msgspec.Struct, frozen=True, kw_only=True):
    role: Role = Role.USER
    content: RawContent
    metadata: JsonObject | None = None

    def parse(self, field: str = "") -> Message:
        packed = pack_metadata(self.metadata)
        return Message(
            role=self.role,
            content=check_content(self.content, f"{field}content"),
            metadata=msgspec.Raw(packed) if packed is not None else NO_METADATA,
        )


class MessagesIn(msgspec.Struct, frozen=True, kw_only=True):
    """One message, or a batch under `messages`."""

    role: Role = Role.USER
    content: RawContent | UnsetType = UNSET
    metadata: JsonObject | None = None
    messages: list[MessageIn] | UnsetType = UNSET

    @property
    def batch(self) -> bool:
        return self.messages is not UNSET

    def parse(self) -> list[Message]:
        """Return the messages meant.

        Raises:
            InvalidInput: there is none, or one and a batch.
        """
        if self.messages is not UNSET:
            if self.content is not UNSET:
                raise InvalidInput("send either content or messages", field="messages")
            return parse_batch(self.messages)
        if self.content is UNSET:
            raise InvalidInput("content is required", field="content")
        return [MessageIn(role=self.role, content=self.content, metadata=self.metadata).parse()]


class CreateSession(msgspec.Struct, frozen=True, kw_only=True):
    id: str | None = None
    agent_id: str | None = None
    user_id: str | None = None
    task_id: str | None = None
    name: str | None = None
    user_name: str | None = None
    user_email: str | None = None
    accept_terms: bool | None = None
    metadata: JsonObject | None = None
    data: JsonObject | None = None
    prompt: str | None = None
    expires_at: str | None = None
    messages: list[MessageIn] | None = None
    if_exists: IfExists = IfExists.ERROR

    def parse(self) -> NewSession:
        return NewSession(
            agent_id=_id(self.agent_id, "agent_id"),
            user_id=_id(self.user_id, "user_id"),
            task_id=_id(self.task_id, "task_id"),
            name=_text(self.name, "name"),
            user_name=_text(self.user_name, "user_name"),
            user_email=_text(self.user_email, "user_email"),
            accept_terms=_terms(self.accept_terms),
            metadata=pack_metadata(self.metadata),
            data=pack_data(self.data),
            prompt=_prompt(self.prompt),
            expires_at_us=parse_time(self.expires_at, "expires_at") if self.expires_at is not None else None,
        )


class PatchSession(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON merge patch; what a session cannot change is ignored."""

    agent_id: str | UnsetType | None = UNSET
    user_id: str | UnsetType | None = UNSET
    task_id: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    user_name: str | UnsetType | None = UNSET
    user_email: str | UnsetType | None = UNSET
    accept_terms: bool | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    metadata: JsonObject | UnsetType | None = UNSET
    data: JsonObject | UnsetType | None = UNSET
    prompt: str | UnsetType | None = UNSET
    expires_at: str | UnsetType | None = UNSET

    def parse(self) -> SessionPatch:
        expires_at = self.expires_at
        return SessionPatch(
            agent_id=_id(self.agent_id, "agent_id"),
            user_id=_id(self.user_id, "user_id"),
            task_id=_id(self.task_id, "task_id"),
            name=_text(self.name, "name"),
            user_name=_text(self.user_name, "user_name"),
            user_email=_text(self.user_email, "user_email"),
            accept_terms=_terms(self.accept_terms) if self.accept_terms is not UNSET else UNSET,
            status=self.status,
            metadata=self.metadata,
            data=self.data,
            prompt=_prompt(self.prompt),
            expires_at_us=parse_time(expires_at, "expires_at") if isinstance(expires_at, str) else expires_at,
        )


class End(msgspec.Struct, frozen=True, kw_only=True):
    reason: str | None = None

    def parse(self) -> str | None:
        return check_text(self.reason, "reason") if self.reason is not None else None


class CreateKey(msgspec.Struct, frozen=True, kw_only=True):
    name: str | None = None
    scopes: list[Scope] = msgspec.field(default_factory=lambda: [Scope.SESSIONS_READ, Scope.SESSIONS_WRITE])
    dialect: str | None = None
    user_id: str | None = None
    expires_at: str | None = None

    def parse(self, dialects: frozenset[str], *, at_us: int) -> NewKey:
        if self.dialect is not None and self.dialect not in dialects:
            raise InvalidInput(f"dialect must be one of {', '.join(sorted(dialects))}", field="dialect")
        expires_at_us = parse_time(self.expires_at, "expires_at") if self.expires_at is not None else None
        if expires_at_us is not None and expires_at_us <= at_us:
            raise InvalidInput("expires_at must be a time to come", field="expires_at")
        return NewKey(
            name=_text(self.name, "name"),
            scopes=frozenset(self.scopes),
            dialect=self.dialect,
            user_id=_id(self.user_id, "user_id"),
            expires_at_us=expires_at_us,
        )


STATUS: Final[Mapping[type[errors.SessiondError], int]] = {
    errors.InvalidInput: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.KeyReused: 422,
    errors.Unavailable: 503,
    MethodNotAllowed: 405,
}
TITLES: Final = {
    400: "Invalid input",
    401: "Unauthenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Too large",
    422: "Idempotency key reused",
    500: "Internal server error",
    503: "Unavailable",
}


def session_out(session: Session) -> SessionOut:
    terms, completed, expires = session.accept_terms, session.completed_at_us, session.expires_at_us
    return SessionOut(
        session.id,
        session.agent_id,
        session.user_id,
        session.task_id,
        session.name,
        session.user_name,
        session.user_email,
        terms == "true" if terms is not None else None,
        session.status,
        msgspec.Raw(session.metadata) if session.metadata is not None else EMPTY,
        msgspec.Raw(session.data) if session.data is not None else EMPTY,
        session.prompt,
        session.message_count,
        session.last_seq,
        session.prompt_tokens,
        session.completion_tokens,
        session.parent,
        iso_micros(session.created_at_us),
        iso_micros(session.updated_at_us),
        iso_micros(session.last_active_at_us),
        iso_micros(completed) if completed is not None else None,
        iso_micros(expires) if expires is not None else None,
    )


def messages_out(events: Sequence[Event | StoredMessage]) -> list[msgspec.Raw]:
    """Return messages of one session as JSON, each a `MessageOut`; their bodies are not decoded on the way."""
    if not events:
        return []
    # An id ends with the session's, which is the same in all: escaped once, with its closing quote.
    session_id = encode(events[0].session_id)[1:]
    return [
        msgspec.Raw(
            b'{"id":"msg_%d.%b,"seq":%d,"run_id":%b,"created_at":"%b",%b'
            % (
                event.seq,
                session_id,
                event.seq,
                b"null" if event.run_id is None else encode(event.run_id),
                iso_micros(event.created_at_us).encode(),
                event.body[1:],  # `{"role":…,"content":…,"metadata":…}`, as `core.message` packs it
            )
        )
        for event in events
    ]


def event_out(event: Event) -> EventOut:
    return EventOut(
        make_event_id(EVENT, event.session_id, event.seq),
        event.seq,
        event.type,
        iso_micros(event.created_at_us),
        event.actor,
        event.run_id,
        msgspec.Raw(_data(event)),
    )


_fields: Final = msgspec.json.Decoder(JsonObject)


def _data(event: Event) -> bytes:
    """Return what an event says, in this wire's words; only where the log has others, it is decoded."""
    body = event.body
    if event.type in (SESSION_CREATED, SESSION_UPDATED) and (b'"expires_at_us"' in body or b'"accept_terms"' in body):
        return encode(_translated(_fields.decode(body)))
    return body


def _translated(fields: JsonObject) -> JsonObject:
    return dict(_translated_field(name, value) for name, value in fields.items())


def _translated_field(name: str, value: Any) -> tuple[str, Any]:
    if name == "expires_at_us":
        return "expires_at", _iso(value)
    if name == "accept_terms":
        return name, value == "true" if value is not None else None
    return name, value


def events_out(events: Sequence[Event]) -> list[msgspec.Raw]:
    return [msgspec.Raw(encode(event_out(event))) for event in events]


def step_out(step: Step) -> StepOut:
    return StepOut(
        step.index,
        iso_micros(step.at_us),
        step.action,
        _translated(step.input),
        step.output,
        step.duration_us / 1000,
    )


def key_out(key: Key) -> KeyOut:
    return KeyOut(
        id=key.id,
        name=key.name,
        scopes=sorted(key.scopes),
        dialect=key.dialect,
        user_id=key.user_id,
        created_at=iso_micros(key.created_at_us),
        expires_at=_iso(key.expires_at_us),
        revoked_at=_iso(key.revoked_at_us),
        last_used_at=_iso(key.last_used_at_us),
    )


def made_key_out(made: MadeKey) -> KeyOut:
    return msgspec.structs.replace(key_out(made.key), key=made.secret)


def me_out(caller: Caller) -> Me:
    return Me(
        caller.key_id,
        caller.workspace_id,
        caller.database_id_hash,
        sorted(caller.scopes),
        caller.user_id,
        caller.dialect,
    )


def parse_batch(messages: list[MessageIn]) -> list[Message]:
    """Return a batch's messages.

    Raises:
        InvalidInput: there are none, too many, or one of them is wrong; the message says which.
    """
    if not 1 <= len(messages) <= MESSAGES_PER_APPEND:
        raise InvalidInput(f"messages must be 1 to {MESSAGES_PER_APPEND}", field="messages")
    return [message.parse(f"messages[{index}].") for index, message in enumerate(messages)]


def _iso(at_us: int | None) -> str | None:
    return iso_micros(at_us) if at_us is not None else None


def _id(value: Any, field: str) -> Any:
    return parse_id(value, field) if isinstance(value, str) else value


def _text(value: Any, field: str) -> Any:
    return check_text(value, field) if isinstance(value, str) else value


def _prompt(value: Any) -> Any:
    return check_prose(value, "prompt") if isinstance(value, str) else value


def _terms(value: bool | UnsetType | None) -> str | None:
    if value is None or value is UNSET:
        return None
    return "true" if value else "false"
