"""Sessions on the agentinbox wire: camelCase, times in milliseconds, three statuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.inbox import TTL_MAX_SECONDS
from sessiond.core.limits import PAGE_DEFAULT, check_text
from sessiond.core.metadata import JsonObject, RawObject, pack_metadata
from sessiond.core.session import ACTIVE, COMPLETED, CREATED, FAILED, PAUSED, NewSession, Session, SessionFilter, Status
from sessiond.dialects.agentinbox.lists import Limit, Offset
from sessiond.dialects.agentinbox.times import iso
from sessiond.web.answers import iso_millis

EMPTY: Final = msgspec.Raw(b"{}")

Ttl = Annotated[int, Meta(ge=1, extra_json_schema={"maximum": TTL_MAX_SECONDS})]
"""A time to live in seconds; see `check_ttl`."""

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


class Completed(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    status: Literal["completed"]
    completed_at: str


class CreateSession(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str | None = None
    metadata: JsonObject | None = None
    ttl_seconds: Ttl | None = None

    def parse(self, *, at_us: int) -> NewSession:
        """Return the session meant.

        Raises:
            InvalidInput, TooLarge: the name is missing, or something cannot be kept.
        """
        if self.name is None or not self.name.strip():
            raise InvalidInput("name is required", field="name")
        ttl_seconds = check_ttl(self.ttl_seconds) if self.ttl_seconds is not None else None
        return NewSession(
            name=check_text(self.name, "name"),
            metadata=pack_metadata(self.metadata),
            expires_at_us=at_us + ttl_seconds * 1_000_000 if ttl_seconds is not None else None,
        )

    def given(self) -> JsonObject:
        """Return what the client said, as the log has it."""
        said = msgspec.structs.asdict(self)
        return {name: value for name, value in said.items() if value is not None}


class ListSessions(msgspec.Struct, frozen=True):
    limit: Limit = PAGE_DEFAULT
    offset: Offset = 0
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


def check_ttl(seconds: int) -> int:
    """Return `seconds` if something can live so long.

    Raises:
        TooLarge: it is more than `TTL_MAX_SECONDS`.
    """
    if seconds > TTL_MAX_SECONDS:
        raise TooLarge(f"ttlSeconds is more than {TTL_MAX_SECONDS}", field="ttlSeconds")
    return seconds


def session_out(session: Session, *, inboxes: list[str], waits: list[str]) -> SessionOut:
    """Return a session with the ids of its inboxes and of its waits."""
    return SessionOut(
        **_fields(session),
        completed_at=iso(session.completed_at_us),
        inboxes=inboxes,
        waits=waits,
        expires_at=iso(session.expires_at_us) or UNSET,
    )


def session_summary(session: Session) -> SessionSummary:
    return SessionSummary(**_fields(session), expires_at=iso(session.expires_at_us))


def session_whole(session: Session, *, inboxes: list[str], waits: list[str]) -> SessionWhole:
    """Return a session with the ids of its inboxes and of its waits."""
    return SessionWhole(
        **_fields(session),
        completed_at=iso(session.completed_at_us),
        inboxes=inboxes,
        waits=waits,
        expires_at=iso(session.expires_at_us),
    )


def completed_out(session: Session) -> Completed:
    assert session.completed_at_us is not None, "it has ended"
    return Completed(session.id, "completed", iso_millis(session.completed_at_us))


def _fields(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "name": session.name or "",
        "status": _WIRE_STATUS[session.status],
        "created_at": iso_millis(session.created_at_us),
        "updated_at": iso_millis(session.updated_at_us),
        "metadata": msgspec.Raw(session.metadata) if session.metadata is not None else EMPTY,
    }
