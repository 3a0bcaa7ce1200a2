"""An inbox: an address that takes mail, for a purpose and for a time."""

from __future__ import annotations

from typing import Final

import msgspec

from sessiond.core.errors import InvalidInput
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.limits import check_text

PER_SESSION_MAX: Final = 1_000
MAILS_MAX: Final = 1_000  # of one inbox: who wants more wants another inbox
BYTES_MAX: Final = 256 * 1024 * 1024  # of one inbox's mails, as they were sent
TTL_MAX_SECONDS: Final = 2**31 - 1  # 68 years; more is a mistake, and would leave what a date can say


class Inbox(msgspec.Struct, frozen=True):
    """One inbox as it is now. The order of the fields is the order of the columns in `storage/sql/inboxes.sql`."""

    workspace_id: WorkspaceId
    id: str
    session_id: SessionId | None
    user_id: str | None
    address: str
    """In lower case. No two inboxes have the same."""
    purpose: str | None
    metadata: bytes | None
    """A JSON object; None is the empty one."""
    actor: str
    """The id of the key that made it."""
    mail_count: int
    mail_bytes: int
    created_at_us: int
    expires_at_us: int | None
    expired_at_us: int | None
    """When it was noticed that its time is over; None while it takes mail."""
    key_id: int | None = None
    """The key that its content is sealed with; None: it is kept in plain text. No wire shows it."""

    def takes_mail(self, at_us: int) -> bool:
        return self.expired_at_us is None and (self.expires_at_us is None or at_us < self.expires_at_us)


class NewInbox(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of an inbox to be made."""

    session_id: str | None = None
    user_id: str | None = None
    """Of the session, where there is one."""
    purpose: str | None = None
    metadata: bytes | None = None
    ttl_seconds: int | None = None

    def checked(self) -> NewInbox:
        """Return it as it is.

        Raises:
            InvalidInput: something in it cannot be.
            TooLarge: something in it is.
        """
        if self.ttl_seconds is not None and not 0 < self.ttl_seconds <= TTL_MAX_SECONDS:
            raise InvalidInput(f"ttl_seconds must be 1 to {TTL_MAX_SECONDS}", field="ttl_seconds")
        for field, text in (("purpose", self.purpose), ("user_id", self.user_id)):
            if text is not None:
                check_text(text, field)
        return self


class InboxFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which inboxes to list: all of what is said."""

    session_id: str | None = None
    active: bool | None = None
    """Whether it takes mail."""
    at_us: int = 0
    """When that is asked."""


class InboxPage(msgspec.Struct, frozen=True, kw_only=True):
    inboxes: list[Inbox]
    more: bool
    total: int | None = None
    """How many the list has; None unless it was asked for."""
