"""What the openagents wire looks like: camelCase, times in milliseconds, messages as JSON inside a JSON string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sessiond.core import errors
from sessiond.core.audit import AuditEntry
from sessiond.core.errors import InvalidInput
from sessiond.core.event import StoredMessage
from sessiond.core.ids import parse_id
from sessiond.core.limits import OFFSET_MAX, PAGE_MAX, TIME_MAX_US, check_text
from sessiond.core.message import RawContent, Role, unpack_message
from sessiond.core.session import NewSession, Session, SessionFilter, Sort
from sessiond.web.answers import encode, iso_millis
from sessiond.web.errors import MethodNotAllowed

OrderBy = Literal["userName", "userEmail", "createdAt", "updatedAt"]
Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
Offset = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]

# Each order, and whether it is descending: names as a phone book has them, times as a log viewer.
ORDERS: Final[Mapping[str, tuple[Sort, bool]]] = {
    "userName": (Sort.USER_NAME, False),
    "userEmail": (Sort.USER_EMAIL, False),
    "createdAt": (Sort.CREATED, True),
    "updatedAt": (Sort.UPDATED, True),
}


class SessionDTO(msgspec.Struct, frozen=True, rename="camel"):
    """A session, under the name that its document gives it."""

    id: str
    agent_id: str
    """Empty where a session of another wire has no agent: this wire's is a string always."""
    user_name: str | None
    user_email: str | None
    accept_terms: str | None
    messages: str
    """JSON: a list of `ChatMessage`."""
    prompt_tokens: int
    completion_tokens: int
    created_at: str
    updated_at: str
    finalized_at: str | None


class ChatMessage(msgspec.Struct, frozen=True):
    role: Role
    content: RawContent


class SessionPage(msgspec.Struct, frozen=True, rename="camel"):
    rows: list[SessionDTO]
    total: int
    limit: int
    offset: int
    order_by: OrderBy
    query: str
    """What was searched for; empty when nothing was."""


class AuditDTO(msgspec.Struct, frozen=True, rename="camel"):
    id: int
    key_locator_hash: str
    """The id of the key that did it."""
    database_id_hash: str
    record_locator: str
    """JSON: `{"id": …}`."""
    event_name: str
    created_at: str
    ip: str | None
    """Where it was asked from; null for what did not come over the network."""
    result: str
    hash: str | None
    """Of this entry and the hash before it, in hex; null for one that is not in the chain yet."""


class SessionId(msgspec.Struct, frozen=True):
    id: str


class CreatedOut(msgspec.Struct, frozen=True):
    message: str
    data: SessionId
    status: int | UnsetType = UNSET
    """Not there when the session was: so the document has it."""


class MessageOut(msgspec.Struct, frozen=True):
    """What came of it, good or bad."""

    message: str
    status: int


class CreateSession(msgspec.Struct, frozen=True, rename="camel"):
    agent_id: str | None = None
    user_name: str | None = None
    user_email: str | None = None
    accept_terms: str | None = None

    def parse(self) -> NewSession:
        """Return the session meant.

        Raises:
            InvalidInput, TooLarge: something is missing, or cannot be kept.
        """
        if not self.agent_id or not self.user_name or not self.user_email:
            raise InvalidInput("Invalid request, missing required fields")
        return NewSession(
            agent_id=parse_id(self.agent_id, "agentId"),
            user_name=check_text(self.user_name, "userName"),
            user_email=check_text(self.user_email, "userEmail"),
            accept_terms="true" if self.accept_terms == "true" else "false",
        )


class ListSessions(msgspec.Struct, frozen=True, rename="camel"):
    id: str | None = None
    agent_id: str | None = None

    def parse(self) -> SessionFilter:
        return SessionFilter(
            ids=(parse_id(self.id, "id"),) if self.id is not None else (),
            agent_ids=(parse_id(self.agent_id, "agentId"),) if self.agent_id is not None else (),
        )


class FindSessions(msgspec.Struct, frozen=True, rename="camel"):
    limit: Limit = 10
    offset: Offset = 0
    order_by: OrderBy = "updatedAt"
    query: str | None = None

    def parse(self, agent_id: str) -> SessionFilter:
        return SessionFilter(
            agent_ids=(parse_id(agent_id, "agentId"),),
            query=check_text(self.query, "query") if self.query is not None else None,
        )


class ListAudit(msgspec.Struct, frozen=True):
    limit: Limit = 100
    offset: Offset = 0


STATUS: Final[Mapping[type[errors.SessiondError], int]] = {
    errors.InvalidInput: 400,
    errors.Locked: 400,
    errors.KeyReused: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.Damaged: 500,
    errors.TooMany: 429,
    errors.Unavailable: 503,
    MethodNotAllowed: 405,
}


def status_of(error: errors.SessiondError) -> int:
    if isinstance(error, errors.TooLarge) and error.field != "body":
        return 400  # a field that is too long is one more invalid parameter
    return STATUS.get(type(error), 500)


def split_session(session: Session) -> tuple[bytes, bytes]:
    """Return a session's JSON in two parts: what stands between them is the inside of its list of messages.

    The list is a string, so what goes there is escaped: `message_text`.
    """
    completed = session.completed_at_us
    whole = encode(
        SessionDTO(
            session.id,
            session.agent_id or "",
            session.user_name,
            session.user_email,
            session.accept_terms,
            "[]",
            session.prompt_tokens,
            session.completion_tokens,
            iso_millis(session.created_at_us),
            iso_millis(session.updated_at_us),
            iso_millis(completed) if completed is not None else None,
        )
    )
    # No value can look like this field: within a string every quotation mark is escaped.
    before, after = whole.split(b'"messages":"[]"')
    return before + b'"messages":"[', b']"' + after


def message_text(event: StoredMessage) -> bytes:
    """Return a message as JSON, escaped to stand inside a JSON string. Escapes are per character, so parts add up."""
    message = unpack_message(event.body)
    return encode(encode(ChatMessage(message.role, message.content)).decode())[1:-1]


def audit_out(entry: AuditEntry, *, database_id_hash: str) -> AuditDTO:
    return AuditDTO(
        entry.seq,
        entry.actor,
        database_id_hash,
        entry.record_locator.decode(),
        entry.event,
        iso_millis(min(max(entry.at_us, 0), TIME_MAX_US)),
        entry.address,
        entry.result,
        entry.hash.hex() if entry.hash is not None else None,
    )
