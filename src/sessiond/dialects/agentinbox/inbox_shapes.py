"""Inboxes on the agentinbox wire."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from sessiond.core.ids import parse_id
from sessiond.core.inbox import Inbox, InboxFilter, NewInbox
from sessiond.core.limits import PAGE_DEFAULT, check_text
from sessiond.core.metadata import JsonObject, RawObject, pack_metadata
from sessiond.dialects.agentinbox.lists import Limit, Offset
from sessiond.dialects.agentinbox.shapes import EMPTY, Ttl, check_ttl
from sessiond.dialects.agentinbox.times import iso
from sessiond.web.answers import iso_millis

TTL_DEFAULT_SECONDS: Final = 3600

InboxStatus = Literal["active", "expired"]


class InboxOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    object: Literal["inbox"] = "inbox"
    email_address: str
    status: InboxStatus
    purpose: str | None
    ttl_seconds: int | None
    """None where it never expires, which other wires can ask for."""
    expires_at: str | None
    completed_at: str | None
    """When it expired."""
    created_at: str
    metadata: RawObject
    session_id: str | None


class DeletedInbox(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["inbox"] = "inbox"
    deleted: Literal[True] = True


class CreateInbox(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    ttl_seconds: Ttl | None = None
    purpose: str | None = None
    metadata: JsonObject | None = None
    session_id: str | None = None

    def parse(self) -> NewInbox:
        """Return the inbox meant, as it was said.

        Raises:
            InvalidInput, TooLarge: something cannot be kept.
        """
        return NewInbox(
            session_id=parse_id(self.session_id, "sessionId") if self.session_id is not None else None,
            purpose=check_text(self.purpose, "purpose") if self.purpose is not None else None,
            metadata=pack_metadata(self.metadata),
            ttl_seconds=check_ttl(self.ttl_seconds) if self.ttl_seconds is not None else None,
        )


class ListInboxes(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    limit: Limit = PAGE_DEFAULT
    offset: Offset = 0
    cursor: str | None = None
    status: InboxStatus | None = None
    session_id: str | None = None

    def parse(self, *, at_us: int) -> InboxFilter:
        active = None if self.status is None else self.status == "active"
        return InboxFilter(session_id=self.session_id, active=active, at_us=at_us)


def inbox_out(inbox: Inbox, *, at_us: int) -> InboxOut:
    """Return an inbox as it is at a time: that it has expired may not have been noticed yet."""
    active, expires_at_us = inbox.takes_mail(at_us), inbox.expires_at_us
    ended_at_us = inbox.expired_at_us if inbox.expired_at_us is not None else expires_at_us
    return InboxOut(
        id=inbox.id,
        email_address=inbox.address,
        status="active" if active else "expired",
        purpose=inbox.purpose,
        ttl_seconds=(expires_at_us - inbox.created_at_us) // 1_000_000 if expires_at_us is not None else None,
        expires_at=iso(expires_at_us),
        completed_at=iso(ended_at_us) if not active else None,
        created_at=iso_millis(inbox.created_at_us),
        metadata=msgspec.Raw(inbox.metadata) if inbox.metadata is not None else EMPTY,
        session_id=inbox.session_id,
    )
