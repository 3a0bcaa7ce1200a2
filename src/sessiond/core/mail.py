"""A mail: what came to an inbox, as it was sent and as it was read."""

from __future__ import annotations

from typing import Final

import msgspec

from sessiond.core.extraction import Extraction
from sessiond.core.ids import SessionId, WorkspaceId

SUBJECT_MAX_CHARS: Final = 1_000
ADDRESS_MAX_CHARS: Final = 320  # RFC 5321: 64 for the mailbox, 255 for the domain, and the @
BODY_MAX_CHARS: Final = 256 * 1024  # of a text and of an HTML part, as they are read; the raw mail has the rest
HEADERS_MAX: Final = 200
HEADER_MAX_CHARS: Final = 2_000
ATTACHMENTS_MAX: Final = 100


class Attachment(msgspec.Struct, frozen=True):
    """What hangs on a mail, by name; its bytes are in the raw mail."""

    name: str | None
    content_type: str
    size: int
    """Of the part as it was sent, in bytes: encoded."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A mail as it was read. Whatever could not be is empty, and said in `defects`."""

    sender: str = ""
    """The address in From; empty where there is none."""
    sender_name: str | None = None
    recipients: list[str] = []
    """The addresses in To and Cc."""
    subject: str = ""
    message_id: str | None = None
    sent_at_us: int | None = None
    """What Date says: the sender's clock."""
    text: str | None = None
    html: str | None = None
    headers: list[tuple[str, str]] = []
    """As they came, decoded, in order."""
    attachments: list[Attachment] = []
    defects: list[str] = []
    """What was wrong with it, a sentence each; empty for most mails."""

    @property
    def has_attachments(self) -> bool:
        return bool(self.attachments)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What lists show of a mail."""

    sender: str
    sender_name: str | None
    recipients: list[str]
    subject: str
    message_id: str | None
    sent_at_us: int | None
    has_attachments: bool = False


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail says."""

    text: str | None
    html: str | None
    headers: list[tuple[str, str]]
    attachments: list[Attachment]
    defects: list[str]


class Mail(msgspec.Struct, frozen=True):
    """A mail in an inbox. The order of the fields is the order of the columns in `storage/sql/mails.sql`."""

    workspace_id: WorkspaceId
    id: str
    inbox_id: str
    session_id: SessionId | None
    user_id: str | None
    received_at_us: int
    size: int
    """Of the raw mail, in bytes."""
    envelope: Envelope
    extractions: list[Extraction]
    key_id: int | None = None
    """The key that its content is sealed with; None: it is kept in plain text. No wire shows it."""


def envelope_of(read: Read) -> Envelope:
    return Envelope(**{name: getattr(read, name) for name in Envelope.__struct_fields__})


def content_of(read: Read) -> Content:
    return Content(**{name: getattr(read, name) for name in Content.__struct_fields__})
