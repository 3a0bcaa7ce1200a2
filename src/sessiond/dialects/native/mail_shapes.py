"""What mails, and what is found in them, look like on the native wire."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType, field

from sessiond.actions.mails import FullMail
from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.extraction import Candidate, Extraction, ExtractionType, Source
from sessiond.core.mail import Attachment, Mail
from sessiond.core.mime import write_mail
from sessiond.dialects.native.times import iso
from sessiond.web.answers import iso_micros, parse_time

# Fields that are called otherwise where mails are written.
_NAMES = {"sender": "from", "recipients": "to"}


class MailOut(msgspec.Struct, frozen=True, kw_only=True):
    """A mail as lists show it."""

    id: str
    inbox_id: str
    session_id: str | None
    sender: str = field(name="from")
    from_name: str | None
    to: list[str]
    subject: str
    message_id: str | None
    sent_at: str | None
    received_at: str
    size: int
    extractions: list[Extraction]


class FullMailOut(MailOut, frozen=True, kw_only=True):
    text: str | None
    html: str | None
    headers: list[tuple[str, str]]
    attachments: list[Attachment]
    defects: list[str]


class MailPageOut(msgspec.Struct, frozen=True, kw_only=True):
    data: list[MailOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class Extractions(msgspec.Struct, frozen=True):
    data: list[Extraction]


class ExtractionOut(msgspec.Struct, frozen=True):
    """What was found in one of an inbox's mails."""

    mail_id: str
    type: ExtractionType
    value: str | None
    url: str | None
    confidence: float
    source: Source
    candidates: list[Candidate]
    received_at: str


class ExtractionPageOut(msgspec.Struct, frozen=True, kw_only=True):
    data: list[ExtractionOut]
    next_cursor: str | None
    prev_cursor: str | None


class MailIn(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that is not written yet."""

    sender: str = field(name="from")
    to: list[str] = []
    subject: str = ""
    text: str | None = None
    html: str | None = None
    message_id: str | None = None
    sent_at: str | None = None

    def write(self, *, at_us: int, message_id: str) -> bytes:
        """Return the mail as bytes; `at_us` and `message_id` stand for what was not said.

        Raises:
            InvalidInput: something cannot stand in a mail.
            TooLarge: something is longer than a mail has room for.
        """
        try:
            return write_mail(
                sender=self.sender,
                recipients=self.to,
                subject=self.subject,
                text=self.text,
                html=self.html,
                sent_at_us=parse_time(self.sent_at, "sent_at") if self.sent_at is not None else at_us,
                message_id=self.message_id if self.message_id is not None else message_id,
            )
        except (InvalidInput, TooLarge) as error:
            if error.field not in _NAMES:
                raise
            name = _NAMES[error.field]
            raise type(error)(error.message.replace(error.field, name, 1), field=name) from error


def mail_out(mail: Mail) -> MailOut:
    envelope = mail.envelope
    return MailOut(
        id=mail.id,
        inbox_id=mail.inbox_id,
        session_id=mail.session_id,
        sender=envelope.sender,
        from_name=envelope.sender_name,
        to=envelope.recipients,
        subject=envelope.subject,
        message_id=envelope.message_id,
        sent_at=iso(envelope.sent_at_us),
        received_at=iso_micros(mail.received_at_us),
        size=mail.size,
        extractions=mail.extractions,
    )


def full_mail_out(full: FullMail) -> FullMailOut:
    shown, content = mail_out(full.mail), full.content
    return FullMailOut(
        **{name: getattr(shown, name) for name in MailOut.__struct_fields__},
        text=content.text,
        html=content.html,
        headers=content.headers,
        attachments=content.attachments,
        defects=content.defects,
    )


def extractions_out(mail: Mail) -> list[ExtractionOut]:
    return [
        ExtractionOut(
            mail.id,
            found.type,
            found.value,
            found.url,
            found.confidence,
            found.source,
            found.candidates,
            iso_micros(mail.received_at_us),
        )
        for found in mail.extractions
    ]
