"""The audit log of a workspace: who did what that somebody may have to answer for, entry chained to entry.

An entry's hash covers the hash before it and every field, so that what is changed, removed, added or moved by hand is
found (`Check`). There is no secret in it: who can write the whole log anew can chain it anew. What protects from that
is a hash that was noted elsewhere, in an export or in the output of `sessiond audit verify`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Raw

from sessiond.core.ids import WorkspaceId

DELETE_SESSION: Final = "deleteSession"
DELETE_INBOX: Final = "deleteInbox"
CREATE_KEY: Final = "createKey"
REVOKE_KEY: Final = "revokeKey"
CREATE_AGENT: Final = "createAgent"
UPDATE_AGENT: Final = "updateAgent"
DELETE_AGENT: Final = "deleteAgent"
UPDATE_WORKSPACE: Final = "updateWorkspace"
EXPORT: Final = "export"
IMPORT: Final = "import"
ERASE: Final = "erase"
ENABLE_ENCRYPTION: Final = "enableEncryption"
DISABLE_ENCRYPTION: Final = "disableEncryption"
ROTATE_ENCRYPTION: Final = "rotateEncryption"
DESTROY_KEYS: Final = "destroyKeys"
"""A change of keys has come to its end, and nothing is sealed any more with those before."""
FAILED_AUTHENTICATION: Final = "failedAuthentication"
READ_SEALED: Final = "readSealed"
CHAIN_ENTRIES: Final = "chainEntries"
"""Entries without a hash, written by a release that had none, were taken into the chain."""

OK: Final = "ok"
REFUSED: Final = "refused"

SYSTEM: Final = "sessiond"
"""The actor of what the program does to the log by itself."""
NOBODY: Final = "unknown"
"""The actor where nobody knows who it was."""

Locator = Mapping[str, str | int | None]
"""Says which record an entry is about: ids, numbers and words of ours; never content, and never a secret."""

GENESIS: Final = bytes(32)
"""What stands for the hash before the first entry."""
_ENCODING: Final = b"sessiond audit 1"
_ABSENT: Final = (2**64 - 1).to_bytes(8, "big")  # no field is so long


class AuditEntry(msgspec.Struct, frozen=True):
    """One entry. The order of the fields is the order of the columns in `storage/sql/audit.sql`."""

    seq: int
    """Counted in the workspace, from 1, without gaps."""
    at_us: int
    actor: str
    """The id of the key that did it, `operator` for the command line, `clock` for what time did."""
    event: str
    record_locator: bytes
    """A JSON object that says which record: `{"id": …}`."""
    address: str | None = None
    """Where it was asked from; None for what did not come over the network."""
    result: str = OK
    hash: bytes | None = None
    """None for an entry that is not in the chain: older releases wrote none."""


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are wanted; what is empty or None does not narrow."""

    events: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    from_us: int | None = None
    before_us: int | None = None


class Head(msgspec.Struct, frozen=True):
    """What a workspace's row, or the first line of an export, knows of a log: what is missing at its end is found."""

    seq: int
    """The number of the last entry; 0 before the first."""
    chained: int
    """Up to which entry the log is chained; fewer than `seq` only where another release has written."""
    hash: bytes | None
    """That entry's hash; None when none is."""
    behind: int | None = None
    """The number of the first row behind the last entry, where there must be none."""


def hash_entry(before: bytes, workspace_id: WorkspaceId, entry: AuditEntry) -> bytes:
    """Return what chains an entry to the one before: SHA-256 over that one's hash and all fields.

    Each field stands behind its length in eight bytes, so that no two entries are the same bytes. docs/guides/audit.md
    has it for those who check a log without us.
    """
    digest = hashlib.sha256()
    for field in _fields(before, workspace_id, entry):
        digest.update(_ABSENT if field is None else len(field).to_bytes(8, "big") + field)
    return digest.digest()


def _fields(before: bytes, workspace_id: WorkspaceId, entry: AuditEntry) -> Iterator[bytes | None]:
    yield _ENCODING
    yield before
    for text in (workspace_id, str(entry.seq), str(entry.at_us), entry.actor, entry.event):
        yield _encode(text)
    yield entry.record_locator
    yield _encode(entry.address) if entry.address is not None else None
    yield _encode(entry.result)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # in an export that was changed by hand there may be anything


def show_record(entry: AuditEntry) -> Raw:
    """Return an entry's locator as a line of JSON: as it is, or, where it was made into something else, in a string."""
    locator = entry.record_locator
    try:
        msgspec.json.decode(locator)
        whole = b"\n" not in locator and b"\r" not in locator
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        whole = False
    return Raw(locator if whole else msgspec.json.encode(locator.decode("utf-8", "replace")))


class Why(StrEnum):
    CHANGED = "changed"
    MISSING = "missing"
    INSERTED = "inserted"
    UNCHAINED = "unchained"
    HEAD = "head"


class Fault(msgspec.Struct, frozen=True):
    """Where a log is not as it was written."""

    seq: int
    why: Why
    text: str


class Noted(msgspec.Struct, frozen=True):
    """An entry's hash as somebody noted it in good time."""

    seq: int
    hash: bytes


class Check:
    """Goes along a log in the order of its entries, and finds the first that is not as it was written.

    It keeps one hash, however long the log is.
    """

    def __init__(self, workspace_id: WorkspaceId, head: Head, *, noted: Noted | None = None) -> None:
        self._workspace_id = workspace_id
        self._head = head
        self._noted = noted
        self._hash = GENESIS
        self.seq = 0
        """The last entry that was looked at and found good."""

    @property
    def hash(self) -> bytes | None:
        """The hash of the last entry that is in the chain; None when none is."""
        return self._hash if self.seq and self._head.chained else None

    @property
    def unchained(self) -> int:
        """How many entries were found good but are not in the chain yet."""
        return max(self.seq - self._head.chained, 0)

    def take(self, entry: AuditEntry) -> Fault | None:
        """Look at the next entry; return what is wrong with it."""
        expected = self.seq + 1
        if entry.seq > self._head.seq:
            return self.finish() or _behind(entry.seq)
        if entry.seq > expected:
            return Fault(expected, Why.MISSING, "it was removed")
        if entry.seq < expected:
            return Fault(entry.seq, Why.INSERTED, "it was added: entries are numbered from 1, each number once")
        fault = self._check_hash(entry)
        if fault is None:
            self.seq = entry.seq
        return fault

    def finish(self) -> Fault | None:
        """Return what is missing behind the last entry, or stands there and must not."""
        head, noted = self._head, self._noted
        if self.seq < head.seq:
            return Fault(self.seq + 1, Why.MISSING, f"it was removed: the log's head says that there are {head.seq}")
        if head.chained > head.seq or (head.hash is None) != (head.chained == 0):
            return Fault(head.seq, Why.HEAD, "the log's head, which tells of its last entry, was changed")
        if noted is not None and noted.seq > head.seq:
            return Fault(head.seq + 1, Why.MISSING, f"it was removed: the hash of entry {noted.seq} was noted")
        if head.behind is not None:
            return _behind(head.behind)
        if 0 < head.chained < head.seq:
            return Fault(
                head.chained + 1,
                Why.UNCHAINED,
                "it has no hash: added by hand, or by a server of an older release that runs beside this one; the next"
                " entry takes it into the chain, and says so",
            )
        return None

    def _check_hash(self, entry: AuditEntry) -> Fault | None:
        if entry.seq > self._head.chained:
            if entry.hash is not None:
                return Fault(entry.seq, Why.INSERTED, "it was added: the log's head does not know its hash")
            if self._noted is not None and self._noted.seq == entry.seq:
                return Fault(entry.seq, Why.CHANGED, "its hash was noted, and is gone")
            return None
        reckoned = hash_entry(self._hash, self._workspace_id, entry)
        if reckoned != entry.hash:
            return Fault(entry.seq, Why.CHANGED, "its hash is not that of what it says and of the entry before")
        if entry.seq == self._head.chained and reckoned != self._head.hash:
            return Fault(entry.seq, Why.HEAD, "the log's head has another hash for the last entry")
        if self._noted is not None and self._noted.seq == entry.seq and self._noted.hash != reckoned:
            return Fault(entry.seq, Why.CHANGED, "another hash was noted for it: the log was written anew")
        self._hash = reckoned
        return None


def _behind(seq: int) -> Fault:
    return Fault(seq, Why.INSERTED, "it was added: the log's head knows of no entry so late")
