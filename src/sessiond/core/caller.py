"""Who is asking, and what they may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from sessiond.core.errors import Forbidden
from sessiond.core.ids import KeyId, WorkspaceId

DEFAULT_WORKSPACE: Final = WorkspaceId("default")
"""The one that the first start makes; the operator's."""


class Scope(StrEnum):
    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    ADMIN = "admin"
    HOST = "host"
    """Use the machine that agents run on: have them start programs there, and read its environment."""


ALL_SCOPES = frozenset(Scope)


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Someone a credential was checked for. Every statement on their behalf names their workspace."""

    workspace_id: WorkspaceId
    database_id_hash: str
    key_id: KeyId
    scopes: frozenset[Scope]
    user_id: str | None = None
    """When set, the caller sees and changes only this user's sessions."""
    dialect: str | None = None
    """The wire this caller means where several claim a path."""
    storage_key_id: int | None = None
    """The key of the workspace that a client holds, who must send it along; None where none does."""
    audits_reads: bool = False
    """Whether what is read in the workspace is noted: it is sealed, and asks for that."""

    def require(self, scope: Scope) -> None:
        """Raise Forbidden unless the caller holds `scope`; nobody who is bound to a user administers a workspace."""
        if scope is Scope.ADMIN and self.user_id is not None:
            raise Forbidden("this key is bound to a user, and cannot administer the workspace")
        if scope not in self.scopes:
            raise Forbidden(f"this key lacks the scope {scope}")

    def require_own(self, user_id: str | None) -> None:
        """Raise Forbidden when the caller is bound to a user and `user_id` is another."""
        if self.user_id is not None and user_id != self.user_id:
            raise Forbidden("this key is bound to another user", field="user_id")


class Key(msgspec.Struct, frozen=True):
    """An API key as it is kept: everything but the secret, of which only a SHA-256 is stored."""

    id: KeyId
    workspace_id: WorkspaceId
    name: str | None
    scopes: frozenset[Scope]
    dialect: str | None
    user_id: str | None
    created_at_us: int
    expires_at_us: int | None
    revoked_at_us: int | None
    last_used_at_us: int | None


class Workspace(msgspec.Struct, frozen=True):
    """A tenant: nothing in one is visible from another."""

    id: WorkspaceId
    database_id_hash: str
    """64 hex characters; openagents clients name their database by it."""
    created_at_us: int
    retention_seconds: int | None = None
    """How long sessions and inboxes are kept after they have ended; None: until somebody deletes them."""
    audit_reads: bool = False
    """Whether reads of sealed content are noted in the audit log."""
    sealed: bool = False
    """Whether new content is sealed."""

    @property
    def audits_reads(self) -> bool:
        return self.audit_reads and self.sealed
