"""A session: its fields, its states, and what may become of it.

Every visible change of a session is an event of its log, so `last_seq` is also the session's version.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from sessiond.core.errors import Conflict, PreconditionFailed
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.run import Strategy


class Status(StrEnum):
    CREATED = "created"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"


CREATED, ACTIVE, PAUSED, COMPLETED, FAILED = Status

NEXT: Final[Mapping[Status, frozenset[Status]]] = {
    CREATED: frozenset({ACTIVE, COMPLETED, FAILED}),
    ACTIVE: frozenset({PAUSED, COMPLETED, FAILED}),
    PAUSED: frozenset({ACTIVE, COMPLETED, FAILED}),
    # An ended session goes on only when someone says so.
    COMPLETED: frozenset({ACTIVE}),
    FAILED: frozenset({ACTIVE}),
}

ENDED: Final = frozenset({COMPLETED, FAILED})


class Session(msgspec.Struct, frozen=True):
    """One session as it is now. The order of the fields is the order of the columns in `storage/sql/sessions.sql`.

    A `Struct`, not a dataclass: a page holds hundreds, and these are made ten times faster.
    """

    workspace_id: WorkspaceId
    id: SessionId
    agent_id: str | None
    user_id: str | None
    task_id: str | None
    name: str | None
    user_name: str | None
    user_email: str | None
    accept_terms: str | None
    """"true", "false", or None when nobody was asked."""
    status: Status
    message_count: int
    last_seq: int
    log_bytes: int
    """Sum of the sizes of the log's bodies: tells a reader beforehand whether the whole log fits in memory."""
    largest_bytes: int
    """Size of the largest body that the log has, or had: tells a reader beforehand how much a page can come to."""
    prompt_tokens: int
    completion_tokens: int
    parent: SessionId | None
    """The session this one was forked or replayed from."""
    created_at_us: int
    updated_at_us: int
    last_active_at_us: int
    """When the last message came or run moved."""
    completed_at_us: int | None
    """When the session ended, completed or failed; None while it is open."""
    expires_at_us: int | None
    multitask_strategy: Strategy | None
    """What becomes of a message that comes during a run; None: it waits for its turn."""
    agent_registered: bool | None
    """Whether a message makes its agent work; None without an agent. No part of the row: agents come and go."""
    metadata: bytes | None
    """A JSON object; None is the empty one."""
    data: bytes | None
    """A JSON object; None is the empty one."""
    prompt: str | None
    key_id: int | None = None
    """The key that its content is sealed with; None: it is kept in plain text. No wire shows it."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def etag(self) -> str:
        # The time of creation is there for a session that was deleted and made again under its old id.
        return f'"{self.last_seq}-{self.created_at_us:x}"'

    def require_open(self) -> None:
        """Raise Conflict when the session has ended."""
        if self.ended:
            raise Conflict(f"the session is {self.status}")

    def require_version(self, if_match: str | None) -> None:
        """Raise PreconditionFailed when `if_match`, the value of an If-Match header, names another version."""
        if if_match is None or if_match.strip() == "*":
            return
        if self.etag not in [tag.strip() for tag in if_match.split(",")]:
            raise PreconditionFailed("the session has changed since it was read")

    def become(self, status: Status, at_us: int) -> Session:
        """Return the session in `status`; itself when it is in it already.

        Raises:
            Conflict: no step leads there; the message names both states.
        """
        if status == self.status:
            return self
        if status not in NEXT[self.status]:
            raise Conflict(f"a session that is {self.status} cannot become {status}")
        return replace(self, status=status, completed_at_us=at_us if status in ENDED else None)


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a session to be made; the fields mean what they mean in `Session`."""

    agent_id: str | None = None
    user_id: str | None = None
    task_id: str | None = None
    name: str | None = None
    user_name: str | None = None
    user_email: str | None = None
    accept_terms: str | None = None
    expires_at_us: int | None = None
    multitask_strategy: Strategy | None = None
    metadata: bytes | None = None
    data: bytes | None = None
    prompt: str | None = None
    parent: SessionId | None = None
    """The session that this one replays."""

    def begin(self, workspace_id: WorkspaceId, session_id: SessionId, *, at_us: int) -> Session:
        """Return the session as it is before anything has happened in it.

        With an agent it waits for its first message or run; without one it is somebody's workflow, under way already.
        """
        return Session(
            workspace_id=workspace_id,
            id=session_id,
            agent_id=self.agent_id,
            user_id=self.user_id,
            task_id=self.task_id,
            name=self.name,
            user_name=self.user_name,
            user_email=self.user_email,
            accept_terms=self.accept_terms,
            status=CREATED if self.agent_id is not None else ACTIVE,
            message_count=0,
            last_seq=0,
            log_bytes=0,
            largest_bytes=0,
            prompt_tokens=0,
            completion_tokens=0,
            parent=self.parent,
            created_at_us=at_us,
            updated_at_us=at_us,
            last_active_at_us=at_us,
            completed_at_us=None,
            expires_at_us=self.expires_at_us,
            multitask_strategy=self.multitask_strategy,
            agent_registered=False if self.agent_id is not None else None,
            metadata=self.metadata,
            data=self.data,
            prompt=self.prompt,
        )


class SessionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions to list. Several values of one field: any of them. Several fields: all of them."""

    ids: tuple[str, ...] = ()
    agent_ids: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    task_ids: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    """Pairs of a key and the scalar it must hold, as `metadata.py` writes it."""
    created_after_us: int | None = None
    """Strictly after."""
    created_before_us: int | None = None
    """Strictly before."""
    query: str | None = None
    """Part of the user's name, their e-mail or the session's id, whatever the case."""


class Sort(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    USER_NAME = "user_name"
    USER_EMAIL = "user_email"
