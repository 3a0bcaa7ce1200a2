"""An erasure: somebody's data removed for good, counted, and the receipt for it, as it is signed and as it is read."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from sessiond.core.ids import WorkspaceId

FORMAT: Final = "sessiond-erasure-1"
"""Stands in every receipt: what is signed for this is signed for nothing else."""
UNSIGNED: Final = ("signature", "purged")
"""Beside these nothing of a receipt but `subject.id` is left out of what is signed."""


class Subject(StrEnum):
    USER = "user"
    SESSION = "session"


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much was erased."""

    sessions: int = 0
    events: int = 0
    messages: int = 0
    runs: int = 0
    inboxes: int = 0
    mails: int = 0
    waits: int = 0
    keys_destroyed: int = 0

    def plus(self, **more: int) -> Counts:
        return msgspec.structs.replace(self, **{name: getattr(self, name) + n for name, n in more.items()})


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure as it is kept. The order of the fields is the order of the columns in `storage/sql/erasures.sql`."""

    workspace_id: WorkspaceId
    id: str
    kind: Subject
    subject: str | None
    """Whose data, or which session; None when all is done: then there is only a hash of it."""
    salt: bytes
    subject_hash: bytes
    actor: str
    requested_at_us: int
    completed_at_us: int | None
    """When nobody could read any of it any more; None until then."""
    counts: Counts
    sessions_digest: bytes
    """Over the ids of the sessions, in the order in which they went: see `add_to_digest`."""
    receipt: bytes | None
    """What was signed; None until all is done."""
    signature: bytes | None

    @property
    def completed(self) -> bool:
        return self.completed_at_us is not None


class SubjectOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom a receipt is about. Whoever knows the id can tell that it is the one: SHA-256 of salt and id."""

    kind: Subject
    salt: str
    hash: str
    """Both in hexadecimal."""
    id: str | None = None
    """Only in the copy of whoever asked for the erasure; not signed, but `hash` is."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, and when; signed once it is."""

    format: str
    id: str
    workspace: str
    subject: SubjectOut
    requested_at: str
    completed_at: str | None
    """When none of it could be read any more; null until then."""
    by: str
    """The id of the key that asked for it, or `operator`."""
    counts: Counts
    sessions_digest: str
    """SHA-256 in hexadecimal, over the salt and each erased session's id: see the guide."""
    audit_seq: int | None
    """Where the audit log tells of it."""
    public_key: str | None
    """Ed25519, in base64; the workspace's own."""
    signature: str | None = None
    """In base64, over all of this but itself, `purged` and `subject.id`; null until it is complete."""
    purged: bool = False
    """Whether the database has removed all of it; what is left until then nobody can read through this server."""


def iso_time(at_us: int) -> str:
    """Return a time as `2026-11-21T17:55:46.123456Z`."""
    return f"{(_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec='microseconds')}Z"


_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC, as the Z says


def hash_subject(salt: bytes, subject: str) -> bytes:
    return hashlib.sha256(salt + subject.encode()).digest()


def add_to_digest(digest: bytes, session_id: str) -> bytes:
    """Return the digest of some sessions and one more; it begins with the salt."""
    return hashlib.sha256(digest + session_id.encode()).digest()


def signed_part(receipt: dict[str, Any]) -> bytes:
    """Return what is signed of a receipt, as JSON has it: with sorted names and no spaces, in UTF-8."""
    part = {name: value for name, value in receipt.items() if name not in UNSIGNED}
    part["subject"] = {name: value for name, value in receipt["subject"].items() if name != "id"}
    return msgspec.json.encode(part, order="deterministic")
