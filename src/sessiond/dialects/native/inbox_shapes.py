"""What inboxes look like on the native wire."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sessiond.core.ids import parse_id
from sessiond.core.inbox import TTL_MAX_SECONDS, Inbox, NewInbox
from sessiond.core.limits import check_text
from sessiond.core.metadata import JsonObject, RawObject, pack_metadata
from sessiond.dialects.native.shapes import EMPTY
from sessiond.dialects.native.times import iso
from sessiond.web.answers import iso_micros


class InboxOut(msgspec.Struct, frozen=True):
    """An inbox on the wire."""

    id: str
    session_id: str | None
    user_id: str | None
    address: str
    purpose: str | None
    metadata: RawObject
    status: Literal["active", "expired"]
    mail_count: int
    created_at: str
    expires_at: str | None
    expired_at: str | None


class InboxPageOut(msgspec.Struct, frozen=True, kw_only=True):
    data: list[InboxOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class CreateInbox(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str | None = None
    user_id: str | None = None
    purpose: str | None = None
    metadata: JsonObject | None = None
    ttl_seconds: Annotated[int, Meta(ge=1, le=TTL_MAX_SECONDS)] | None = None

    def parse(self) -> NewInbox:
        return NewInbox(
            session_id=parse_id(self.session_id, "session_id") if self.session_id is not None else None,
            user_id=parse_id(self.user_id, "user_id") if self.user_id is not None else None,
            purpose=check_text(self.purpose, "purpose") if self.purpose is not None else None,
            metadata=pack_metadata(self.metadata),
            ttl_seconds=self.ttl_seconds,
        )


def inbox_out(inbox: Inbox, *, at_us: int) -> InboxOut:
    """Return an inbox as it is at a time: one whose time is over takes no mail, whether or not anybody noticed."""
    active = inbox.takes_mail(at_us)
    ended_at_us = inbox.expired_at_us if inbox.expired_at_us is not None else inbox.expires_at_us
    return InboxOut(
        inbox.id,
        inbox.session_id,
        inbox.user_id,
        inbox.address,
        inbox.purpose,
        msgspec.Raw(inbox.metadata) if inbox.metadata is not None else EMPTY,
        "active" if active else "expired",
        inbox.mail_count,
        iso_micros(inbox.created_at_us),
        iso(inbox.expires_at_us),
        iso(ended_at_us) if not active else None,
    )
