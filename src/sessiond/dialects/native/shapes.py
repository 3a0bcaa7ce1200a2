"""What sessions and keys look like on the native wire: snake_case, times in microseconds."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from sessiond.actions.keys import MadeKey, NewKey
from sessiond.actions.sessions import IfExists, SessionPatch
from sessiond.core.caller import Caller, Key, Scope
from sessiond.core.errors import InvalidInput
from sessiond.core.ids import parse_id
from sessiond.core.limits import check_prose, check_text
from sessiond.core.metadata import JsonObject, RawObject, pack_data, pack_metadata
from sessiond.core.run import Strategy
from sessiond.core.session import NewSession, Session, Status
from sessiond.dialects.native.log_shapes import MessageIn
from sessiond.dialects.native.times import iso
from sessiond.web.answers import iso_micros, parse_time

EMPTY = msgspec.Raw(b"{}")


class SessionOut(msgspec.Struct, frozen=True):
    """A session on the wire."""

    id: str
    agent_id: str | None
    agent_registered: bool | None
    """Whether a user's message makes the agent work; null without an agent."""
    user_id: str | None
    task_id: str | None
    name: str | None
    user_name: str | None
    user_email: str | None
    accept_terms: bool | None
    status: Status
    multitask_strategy: Strategy | None
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


class SessionDetail(SessionOut, frozen=True):
    """A session with what was asked for beside it: ids, the oldest first, at most 10,000."""

    inboxes: list[str] | UnsetType = UNSET
    waits: list[str] | UnsetType = UNSET


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


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[SessionOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[KeyOut]
    next_cursor: str | None
    prev_cursor: str | None


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
    multitask_strategy: Strategy | None = None
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
            multitask_strategy=self.multitask_strategy,
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
    multitask_strategy: Strategy | UnsetType | None = UNSET

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
            multitask_strategy=self.multitask_strategy,
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


def session_out(session: Session) -> SessionOut:
    terms = session.accept_terms
    return SessionOut(
        session.id,
        session.agent_id,
        session.agent_registered,
        session.user_id,
        session.task_id,
        session.name,
        session.user_name,
        session.user_email,
        terms == "true" if terms is not None else None,
        session.status,
        session.multitask_strategy,
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
        iso(session.completed_at_us),
        iso(session.expires_at_us),
    )


def session_detail(session: Session, *, inboxes: list[str] | UnsetType, waits: list[str] | UnsetType) -> SessionDetail:
    return SessionDetail(**msgspec.structs.asdict(session_out(session)), inboxes=inboxes, waits=waits)


def key_out(key: Key) -> KeyOut:
    return KeyOut(
        id=key.id,
        name=key.name,
        scopes=sorted(key.scopes),
        dialect=key.dialect,
        user_id=key.user_id,
        created_at=iso_micros(key.created_at_us),
        expires_at=iso(key.expires_at_us),
        revoked_at=iso(key.revoked_at_us),
        last_used_at=iso(key.last_used_at_us),
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
