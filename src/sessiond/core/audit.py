"""The audit log of a workspace: who did what that somebody may have to answer for."""

from __future__ import annotations

from typing import Final

import msgspec

DELETE_SESSION: Final = "deleteSession"
EXPORT: Final = "export"
IMPORT: Final = "import"


class AuditEntry(msgspec.Struct, frozen=True):
    """One entry. The order of the fields is the order of the columns in `storage/sql/audit.sql`."""

    seq: int
    """Counted in the workspace, from 1, without gaps."""
    at_us: int
    actor: str
    """The id of the key that did it."""
    event: str
    record_locator: bytes
    """A JSON object that says which record: `{"id": …}`."""
