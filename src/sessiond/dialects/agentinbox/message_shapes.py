"""Messages on the agentinbox wire, which are mails, and what was found in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from sessiond.core.extraction import Candidate, Extraction, ExtractionType, Source
from sessiond.core.limits import PAGE_DEFAULT
from sessiond.core.mail import Content, Mail
from sessiond.dialects.agentinbox.lists import Limit, Offset
from sessiond.web.answers import iso_millis

ExtractionPosition = tuple[int, str, int]
"""When a mail came, its id, and which of what was found in it."""

RAW_SHOWN_MAX_BYTES: Final = 1024 * 1024
"""Of a mail as it was sent; all of it is at `/v1/mails/{id}/raw`."""


class MessageOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A message as lists show it."""

    id: str
    object: Literal["message"] = "message"
    inbox_id: str
    subject: str | None
    from_: str = msgspec.field(name="from")
    to: list[str]
    from_email: str | None
    from_name: str | None
    to_email: str
    has_attachments: bool
    size_bytes: int
    received_at: str
    read: bool


class BodyOut(msgspec.Struct, frozen=True):
    text: str | None
    html: str | None
    raw: str
    """The mail as it was sent; bytes that are not UTF-8 are replaced."""


class ExtractionOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    object: Literal["extraction"] = "extraction"
    inbox_id: str
    message_id: str
    type: ExtractionType
    value: str
    """The code, or the URL of a link."""
    url: str | None
    confidence: float
    candidates: list[Candidate]
    source: Source
    created_at: str


class MessageWhole(MessageOut, frozen=True, kw_only=True, rename="camel"):
    """A message with what it says."""

    headers: dict[str, str]
    body: BodyOut
    text_body: str | None
    html_body: str | None
    extractions: list[ExtractionOut]


class Extract(msgspec.Struct, frozen=True):
    type: ExtractionType | None = None
    """Only this is answered."""


class ListMessages(msgspec.Struct, frozen=True, kw_only=True):
    limit: Limit = PAGE_DEFAULT
    offset: Offset = 0
    cursor: str | None = None


class ListExtractions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    limit: Limit = PAGE_DEFAULT
    offset: Offset = 0
    cursor: str | None = None
    message_id: str | None = None
    type: ExtractionType | None = None

    def wants(self, found: ExtractionOut) -> bool:
        return self.message_id in (None, found.message_id) and self.type in (None, found.type)


def follows(here: ExtractionPosition, place: ExtractionPosition | None) -> bool:
    """Whether something stands behind a place in a list that has the last mail first."""
    return place is None or here[:2] < place[:2] or (here[:2] == place[:2] and here[2] > place[2])


def message_out(mail: Mail, *, to: str) -> MessageOut:
    """Return a message of a list; `to` is its inbox's address."""
    return MessageOut(**_fields(mail, to=to), read=False)


def message_whole(mail: Mail, content: Content, raw: bytes, *, to: str) -> MessageWhole:
    """Return a message with what it says; `to` is its inbox's address."""
    return MessageWhole(
        **_fields(mail, to=to),
        read=True,
        headers=_headers(content.headers),
        body=BodyOut(content.text, content.html, raw[:RAW_SHOWN_MAX_BYTES].decode(errors="replace")),
        text_body=content.text,
        html_body=content.html,
        extractions=extractions_out(mail),
    )


def extractions_out(mail: Mail) -> list[ExtractionOut]:
    return [extraction_out(mail, found) for found in mail.extractions]


def extraction_out(mail: Mail, found: Extraction) -> ExtractionOut:
    """Return what was found in a mail, where there is at most one of each type: its id says which."""
    return ExtractionOut(
        id=f"ext_{found.type}.{mail.id}",
        inbox_id=mail.inbox_id,
        message_id=mail.id,
        type=found.type,
        value=found.value if found.value is not None else found.url or "",
        url=found.url,
        confidence=found.confidence,
        candidates=found.candidates,
        source=found.source,
        created_at=iso_millis(mail.received_at_us),
    )


def _headers(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return headers by name; what several of one name say stands behind one another."""
    headers, names = dict[str, str](), dict[str, str]()
    for name, value in pairs:
        shown = names.setdefault(name.lower(), name)
        headers[shown] = f"{headers[shown]}, {value}" if shown in headers else value
    return headers


def _fields(mail: Mail, *, to: str) -> dict[str, Any]:
    envelope = mail.envelope
    return {
        "id": mail.id,
        "inbox_id": mail.inbox_id,
        "subject": envelope.subject or None,
        "from_": envelope.sender,
        "to": envelope.recipients,
        "from_email": envelope.sender or None,
        "from_name": envelope.sender_name,
        "to_email": to,
        "has_attachments": envelope.has_attachments,
        "size_bytes": mail.size,
        "received_at": iso_millis(mail.received_at_us),
    }
