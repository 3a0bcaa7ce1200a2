"""A wait: for a mail, a code, somebody's word or a time; its states, and what ends it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.extraction import Extraction, ExtractionType
from sessiond.core.ids import RunId, SessionId, WorkspaceId
from sessiond.core.limits import METADATA_MAX_BYTES, check_nesting, check_text
from sessiond.core.mail import Mail

PENDING_PER_SESSION_MAX: Final = 10_000  # each is looked at when a mail comes, and ended when the session ends
PENDING_PER_INBOX_MAX: Final = PENDING_PER_SESSION_MAX  # where the waits of an inbox have no session
TIMEOUT_MAX_SECONDS: Final = 366 * 86_400
RESULT_MAX_BYTES: Final = 256 * 1024
TYPES_MAX: Final = 20  # of events that one wait is for


class WaitType(StrEnum):
    EMAIL = "email"
    OTP = "otp"
    MAGIC_LINK = "magic_link"
    PASSWORD_RESET = "password_reset"  # noqa: S105 - a kind of link
    APPROVAL = "approval"
    EVENT = "event"
    TIMER = "timer"
    WEBHOOK = "webhook"


class WaitStatus(StrEnum):
    PENDING = "pending"
    COMPLETED = "completed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


PENDING, COMPLETED, TIMED_OUT, CANCELLED = WaitStatus

FOR_MAIL: Final = frozenset({WaitType.EMAIL, WaitType.OTP, WaitType.MAGIC_LINK, WaitType.PASSWORD_RESET})
_EXTRACTED: Final = {
    WaitType.OTP: ExtractionType.OTP,
    WaitType.MAGIC_LINK: ExtractionType.MAGIC_LINK,
    WaitType.PASSWORD_RESET: ExtractionType.PASSWORD_RESET,
}


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What exactly is waited for. Kept as JSON."""

    sender: str | None = None
    """Part of the sender's address or name, whatever the case."""
    subject_contains: str | None = None
    """Whatever the case."""
    since_us: int | None = None
    """Mails that came at this time or later count, also those that came before the wait was made."""
    events: list[str] = []
    """Types of events, or their beginnings with `*` behind."""
    after_seq: int = 0
    """Events behind this one count."""
    title: str | None = None
    """What is to be approved."""
    detail: Any = None


class Wait(msgspec.Struct, frozen=True):
    """One wait as it is now. The order of the fields is the order of the columns in `storage/sql/waits.sql`."""

    workspace_id: WorkspaceId
    id: str
    session_id: SessionId | None
    inbox_id: str | None
    """None for a wait for mail: any inbox of its session."""
    run_id: RunId | None
    """The run that goes on when it ends."""
    user_id: str | None
    type: WaitType
    status: WaitStatus
    critical: bool
    """Whether its session fails when it times out."""
    terms: bytes
    """`Terms` as JSON."""
    result: bytes | None
    """What it was completed with, a JSON object."""
    reason: str | None
    """Why it was cancelled."""
    actor: str
    """The id of the key that made it, or the agent."""
    created_at_us: int
    times_out_at_us: int | None
    """Of a timer: when it completes."""
    ended_at_us: int | None
    key_id: int | None = None
    """The key that its content is sealed with; None: it is kept in plain text. No wire shows it."""

    @property
    def ended(self) -> bool:
        return self.status is not PENDING

    def read_terms(self) -> Terms:
        return msgspec.json.decode(self.terms, type=Terms)


class NewWait(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a wait to be made; the fields mean what they mean in `Wait` and `Terms`."""

    type: WaitType
    session_id: str | None = None
    inbox_id: str | None = None
    user_id: str | None = None
    timeout_seconds: float | None = None
    """Of a timer: until it completes. None: no end but its session's."""
    critical: bool = False
    terms: Terms = Terms()

    def checked(self) -> NewWait:
        """Return it as it is.

        Raises:
            InvalidInput: nothing could ever end it, or it says what its type has no use for.
            TooLarge: something in it is.
        """
        terms = self.terms
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds <= TIMEOUT_MAX_SECONDS:
            most = f"timeout_seconds must be more than 0 and at most {TIMEOUT_MAX_SECONDS}"
            raise InvalidInput(most, field="timeout_seconds")
        if self.type is WaitType.TIMER and self.timeout_seconds is None:
            raise InvalidInput("a timer needs timeout_seconds", field="timeout_seconds")
        if self.type is WaitType.EVENT and not terms.events:
            raise InvalidInput("a wait for an event needs events", field="events")
        if len(terms.events) > TYPES_MAX:
            raise TooLarge(f"events has more than {TYPES_MAX} entries", field="events")
        if self.type in FOR_MAIL:
            if self.inbox_id is None and self.session_id is None:
                raise InvalidInput("a wait for mail needs an inbox_id or a session_id", field="inbox_id")
        elif self.inbox_id is not None:
            raise InvalidInput(f"a wait of type {self.type} has no inbox", field="inbox_id")
        said = {"from": terms.sender, "subject_contains": terms.subject_contains, "title": terms.title}
        said["user_id"] = self.user_id
        for field, text in said.items():
            if text is not None:
                check_text(text, field)
        for event in terms.events:
            check_text(event, "events", max_chars=100)
        packed = msgspec.json.encode(terms.detail)
        if len(packed) > METADATA_MAX_BYTES:
            raise TooLarge(f"detail is larger than {METADATA_MAX_BYTES} bytes", field="detail")
        check_nesting(packed)
        return self


class WaitFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which waits to list: all of what is said."""

    session_id: str | None = None
    inbox_id: str | None = None
    status: WaitStatus | None = None
    type: WaitType | None = None


class WaitPage(msgspec.Struct, frozen=True, kw_only=True):
    waits: list[Wait]
    more: bool
    total: int | None = None
    """How many the list has; None unless it was asked for."""


class Found(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a wait for mail was completed with."""

    mail_id: str
    inbox_id: str
    sender: str
    subject: str
    received_at_us: int
    value: str | None = None
    """Of an otp."""
    url: str | None = None
    """Of a link."""
    confidence: float | None = None
    source: str | None = None


def find_in(wait: Wait, mail: Mail) -> Found | None:
    """Return what a mail completes a wait with, or None when it is not what is waited for."""
    terms, envelope = wait.read_terms(), mail.envelope
    if wait.inbox_id is not None and wait.inbox_id != mail.inbox_id:
        return None
    # No time of the wait's own is looked at: a mail that came before it is shown to it only where `since` says so.
    if terms.since_us is not None and mail.received_at_us < terms.since_us:
        return None
    if not _contains(f"{envelope.sender_name or ''} <{envelope.sender}>", terms.sender):
        return None
    if not _contains(envelope.subject, terms.subject_contains):
        return None
    found = Found(
        mail_id=mail.id,
        inbox_id=mail.inbox_id,
        sender=envelope.sender,
        subject=envelope.subject,
        received_at_us=mail.received_at_us,
    )
    if wait.type is WaitType.EMAIL:
        return found
    extracted = find_extraction(mail, _EXTRACTED[wait.type])
    if extracted is None:
        return None
    return msgspec.structs.replace(
        found, value=extracted.value, url=extracted.url, confidence=extracted.confidence, source=extracted.source
    )


def find_extraction(mail: Mail, wanted: ExtractionType) -> Extraction | None:
    return next((extraction for extraction in mail.extractions if extraction.type is wanted), None)


def _contains(text: str, part: str | None) -> bool:
    return part is None or part.casefold() in text.casefold()
