"""Inboxes: addresses that take mail, and the mails and codes that came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, field

from sessiond.client.call import Call, Page, Response, body_of, include_of, path_of, query_of, reads, reads_nothing
from sessiond.client.resource import Async, Iterated, Method, Sync


class Inbox(Struct, frozen=True, kw_only=True):
    """An inbox as it was when it was read."""

    id: str
    address: str
    session_id: str | None = None
    user_id: str | None = None
    purpose: str | None = None
    metadata: dict[str, Any] = {}
    status: str
    """`active`, or `expired`: then it takes no more mail."""
    mail_count: int = 0
    created_at: datetime
    expires_at: datetime | None = None
    expired_at: datetime | None = None


class Candidate(Struct, frozen=True, kw_only=True):
    """Something that was weighed."""

    value: str
    confidence: float
    source: str


class Extraction(Struct, frozen=True, kw_only=True):
    """A code or a link that was found in a mail."""

    type: str
    """`otp`, `magic_link` or `password_reset`."""
    value: str | None = None
    url: str | None = None
    confidence: float
    """From 0.5 to 1."""
    source: str
    """`subject`, `text` or `html`."""
    candidates: list[Candidate] = []
    mail_id: str | None = None
    """In lists of an inbox's."""
    received_at: datetime | None = None
    """As `mail_id`."""


class Attachment(Struct, frozen=True, kw_only=True):
    """What came with a mail."""

    name: str | None
    content_type: str
    size: int
    """In bytes; they are in the raw mail."""


class Mail(Struct, frozen=True, kw_only=True):
    """A mail. In lists it comes without text, HTML, headers and attachments."""

    id: str
    inbox_id: str
    session_id: str | None = None
    sender: str = field(name="from")
    from_name: str | None = None
    to: list[str] = []
    subject: str
    message_id: str | None = None
    sent_at: datetime | None = None
    received_at: datetime
    size: int
    """In bytes."""
    extractions: list[Extraction] = []
    text: str | None = None
    html: str | None = None
    headers: list[tuple[str, str]] = []
    attachments: list[Attachment] = []
    defects: list[str] = []
    """What is wrong with it, a sentence each."""


class _Extractions(Struct, frozen=True):
    data: list[Extraction]


def create_inbox(
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    purpose: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    ttl_seconds: int | None = None,
) -> Call[Inbox]:
    """Make an inbox with an address that nobody guesses. It takes mail for `ttl_seconds`, for ever unless given.

    Raises:
        Conflict: the session has ended, or has a thousand inboxes.
    """
    body = body_of(session_id=session_id, user_id=user_id, purpose=purpose, metadata=metadata, ttl_seconds=ttl_seconds)
    return Call(method="POST", path="/v1/inboxes", body=body, read=reads(Inbox))


def list_inboxes(
    *,
    session_id: str | None = None,
    active: bool | None = None,
    order: Literal["asc", "desc"] | None = None,
    limit: int | None = None,
    offset: int | None = None,
    cursor: str | None = None,
    include_total: bool = False,
) -> Call[Page[Inbox]]:
    """Return a page of inboxes, the newest first; `active` are those that take mail."""
    query = query_of(
        session_id=session_id,
        active=active,
        order=order,
        limit=limit,
        offset=offset,
        cursor=cursor,
        include=include_of(total=include_total),
    )
    return Call(method="GET", path="/v1/inboxes", query=query, read=reads(Page[Inbox]))


def get_inbox(inbox_id: str) -> Call[Inbox]:
    """Return an inbox.

    Raises:
        NotFound: there is none.
    """
    return Call(method="GET", path=path_of("inboxes", inbox_id), read=reads(Inbox))


def delete_inbox(inbox_id: str) -> Call[None]:
    """Remove an inbox with its mails; what waits for one is cancelled."""
    return Call(method="DELETE", path=path_of("inboxes", inbox_id), read=reads_nothing)


def list_mails(
    inbox_id: str,
    *,
    order: Literal["asc", "desc"] | None = None,
    limit: int | None = None,
    offset: int | None = None,
    cursor: str | None = None,
    include_total: bool = False,
) -> Call[Page[Mail]]:
    """Return a page of an inbox's mails, the newest first, without what is wide."""
    query = query_of(order=order, limit=limit, offset=offset, cursor=cursor, include=include_of(total=include_total))
    return Call(method="GET", path=path_of("inboxes", inbox_id, "mails"), query=query, read=reads(Page[Mail]))


def list_extractions(
    inbox_id: str, *, order: Literal["asc", "desc"] | None = None, limit: int | None = None, cursor: str | None = None
) -> Call[Page[Extraction]]:
    """Return a page of the codes and links that were found in an inbox's mails, the newest first."""
    query = query_of(order=order, limit=limit, cursor=cursor)
    path = path_of("inboxes", inbox_id, "extractions")
    return Call(method="GET", path=path, query=query, read=reads(Page[Extraction]))


def put_mail(
    inbox_id: str,
    *,
    sender: str,
    to: Sequence[str] = (),
    subject: str = "",
    text: str | None = None,
    html: str | None = None,
    message_id: str | None = None,
    sent_at: datetime | None = None,
) -> Call[Mail]:
    """Put a mail into an inbox, as if it had come by SMTP."""
    fields = {"from": sender, "to": list(to) or None, "subject": subject, "text": text, "html": html}
    body = body_of(**fields, message_id=message_id, sent_at=sent_at)
    return Call(method="POST", path=path_of("inboxes", inbox_id, "mails"), body=body, read=reads(Mail))


def put_raw_mail(inbox_id: str, mail: bytes) -> Call[Mail]:
    """Put a mail into an inbox as it is (RFC 5322)."""
    headers = {"content-type": "message/rfc822"}
    path = path_of("inboxes", inbox_id, "mails")
    return Call(method="POST", path=path, body=mail, headers=headers, read=reads(Mail))


def get_mail(mail_id: str) -> Call[Mail]:
    """Return a mail with all that is in it.

    Raises:
        NotFound: there is none.
    """
    return Call(method="GET", path=path_of("mails", mail_id), read=reads(Mail))


def get_raw_mail(mail_id: str) -> Call[bytes]:
    """Return a mail as it came."""
    return Call(method="GET", path=path_of("mails", mail_id, "raw"), read=_read_bytes)


def extract(mail_id: str) -> Call[list[Extraction]]:
    """Look once more for codes and links, and keep what is found."""
    return Call(method="POST", path=path_of("mails", mail_id, "extract"), read=_read_extractions)


class InboxCalls:
    """What both clients can do with inboxes."""

    create = Method(create_inbox)
    list = Method(list_inboxes)
    iterate = Iterated(list_inboxes)
    get = Method(get_inbox)
    delete = Method(delete_inbox)
    mails = Method(list_mails)
    iterate_mails = Iterated(list_mails)
    extractions = Method(list_extractions)
    iterate_extractions = Iterated(list_extractions)
    put_mail = Method(put_mail)
    put_raw_mail = Method(put_raw_mail)


class MailCalls:
    """What both clients can do with mails."""

    get = Method(get_mail)
    raw = Method(get_raw_mail)
    extract = Method(extract)


class Inboxes(Sync, InboxCalls):
    """`client.inboxes`."""


class AsyncInboxes(Async, InboxCalls):
    """`client.inboxes`."""


class Mails(Sync, MailCalls):
    """`client.mails`."""


class AsyncMails(Async, MailCalls):
    """`client.mails`."""


def _read_bytes(response: Response) -> bytes:
    return response.body


def _read_extractions(response: Response) -> list[Extraction]:
    found: _Extractions = _extractions(response)
    return found.data


_extractions = reads(_Extractions)
