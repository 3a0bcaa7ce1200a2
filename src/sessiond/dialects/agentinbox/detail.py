"""A session and, beside it, all that is in it: written while it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from sessiond.actions import events, inboxes, mails, waits
from sessiond.actions.call import Call
from sessiond.core.errors import NotFound
from sessiond.core.inbox import InboxFilter
from sessiond.core.mail import Mail
from sessiond.core.session import Session
from sessiond.core.wait import WaitFilter
from sessiond.dialects.agentinbox.inbox_shapes import InboxOut, inbox_out
from sessiond.dialects.agentinbox.lists import joined
from sessiond.dialects.agentinbox.log_shapes import TimelineEvent, event_out
from sessiond.dialects.agentinbox.message_shapes import ExtractionOut, MessageWhole, extractions_out, message_whole
from sessiond.dialects.agentinbox.shapes import INCLUDES, SessionWhole
from sessiond.dialects.agentinbox.wait_shapes import WaitOut, wait_out
from sessiond.web.answers import encode

AT_ONCE: Final = 100  # read in one go

Pages = AsyncIterator[list[bytes]]


class SessionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A session and what was asked for beside it."""

    session: SessionWhole
    inboxes: list[InboxOut] | UnsetType = UNSET
    waits: list[WaitOut] | UnsetType = UNSET
    messages: list[MessageWhole] | UnsetType = UNSET
    """Mails: what is said in a session is in its timeline."""
    extractions: list[ExtractionOut] | UnsetType = UNSET
    timeline: list[TimelineEvent] | UnsetType = UNSET


async def read(call: Call, session: Session, whole: SessionWhole, included: frozenset[str]) -> AsyncIterator[bytes]:
    """Yield a `SessionDetail`, in pieces: each list from the first to the last."""
    yield b'{"session":' + encode(whole)
    for name in INCLUDES:
        if name in included:
            async for piece in joined(f',"{name}":['.encode(), _PAGES[name](call, session), b"]"):
                yield piece
    yield b"}"


async def read_events(call: Call, session: Session) -> Pages:
    async for page in events.read_all(call, session):
        yield [encode(event_out(event)) for event in page]


async def _inboxes(call: Call, session: Session) -> Pages:
    wanted, position, more = InboxFilter(session_id=session.id), None, True
    while more:
        page = await inboxes.read_page(call, wanted, descending=False, limit=AT_ONCE, position=position)
        yield [encode(inbox_out(inbox, at_us=call.now_us)) for inbox in page.inboxes]
        more = page.more
        position = (page.inboxes[-1].created_at_us, page.inboxes[-1].id) if more else None


async def _waits(call: Call, session: Session) -> Pages:
    wanted, position, more = WaitFilter(session_id=session.id), None, True
    while more:
        page = await waits.read_page(call, wanted, descending=False, limit=AT_ONCE, position=position)
        yield [encode(wait_out(wait)) for wait in page.waits]
        more = page.more
        position = (page.waits[-1].created_at_us, page.waits[-1].id) if more else None


async def _mails(call: Call, session: Session) -> AsyncIterator[list[Mail]]:
    after = None
    while found := await mails.read_of_session(call, session.id, after=after, limit=AT_ONCE):
        yield found
        after = (found[-1].received_at_us, found[-1].id)


async def _messages(call: Call, session: Session) -> Pages:
    addresses = dict[str, str]()
    async for page in _mails(call, session):
        for mail in page:
            try:
                if mail.inbox_id not in addresses:
                    addresses[mail.inbox_id] = (await inboxes.get(call, mail.inbox_id)).address
                full, raw = await mails.get(call, mail.id), await mails.get_raw(call, mail.id)
            except NotFound:
                continue  # gone since the page was read
            # One by one: each can be as large as a mail may be.
            yield [encode(message_whole(full.mail, full.content, raw, to=addresses[mail.inbox_id]))]


async def _extractions(call: Call, session: Session) -> Pages:
    async for page in _mails(call, session):
        yield [encode(found) for mail in page for found in extractions_out(mail)]


_PAGES: Final[Mapping[str, Callable[[Call, Session], Pages]]] = {
    "inboxes": _inboxes,
    "waits": _waits,
    "messages": _messages,
    "extractions": _extractions,
    "timeline": read_events,
}
