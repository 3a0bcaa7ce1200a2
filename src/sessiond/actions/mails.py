"""Mails: taken in, from whichever way they come; found, listed, read."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from sessiond.actions import waiting
from sessiond.actions.call import A, Author, Call, itself, new_id, note_in
from sessiond.actions.waiting import Place
from sessiond.core.caller import Scope
from sessiond.core.errors import NotFound, TooLarge
from sessiond.core.event import MAIL_RECEIVED, Entry, make_entry
from sessiond.core.extraction import Extraction, extract
from sessiond.core.inbox import BYTES_MAX, MAILS_MAX, Inbox
from sessiond.core.mail import Content, Mail, Read, content_of, envelope_of
from sessiond.core.metadata import JsonObject
from sessiond.core.mime import read_mail
from sessiond.core.wait import COMPLETED, find_in
from sessiond.storage import clock, events, inboxes, mails, sessions, waits
from sessiond.storage.engine import Engine, Tx

SMTP: Final = "smtp"
"""Who the log says has written what came by SMTP."""

DELIVERIES_MAX: Final = 4  # at once; the others wait for an inbox here, and not with a connection in hand

# One: a mail is milliseconds of work that hold the interpreter, and whoever sends many waits for its turn.
_reader: Final = ThreadPoolExecutor(1, thread_name_prefix="sessiond-mails")


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that was read and is not kept yet."""

    raw: bytes
    read: Read
    extractions: list[Extraction]


class FullMail(msgspec.Struct, frozen=True):
    mail: Mail
    content: Content


class Mailboxes:
    """What the SMTP listener puts mail into."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns = asyncio.Semaphore(DELIVERIES_MAX)

    async def knows(self, address: str) -> bool:
        """Whether an inbox takes mail at an address, which is in lower case."""

        async def operation(tx: Tx) -> bool:
            inbox = await inboxes.find_by_address(tx, address)
            return inbox is not None and inbox.takes_mail(await clock.read_us(tx))

        return await self._engine.read(operation)

    async def deliver(self, addresses: Sequence[str], raw: bytes, *, sender: str) -> None:
        """Put a mail into the inboxes of all addresses or of none; it is on disk when this returns.

        `sender` is the one of its envelope, for a mail that does not say.

        Raises:
            NotFound: an inbox takes no more mail.
            TooLarge: an inbox is full.
            Unavailable: not now.
        """
        incoming = await prepare(raw, sender=sender)

        async def find(tx: Tx) -> list[Inbox]:
            found = [await inboxes.find_by_address(tx, address) for address in dict.fromkeys(addresses)]
            if None in found:
                raise NotFound("no such inbox")
            return [inbox for inbox in found if inbox is not None]

        targets = await self._engine.read(find)

        async def deliver(places: frozenset[Place]) -> None:
            async def operation(tx: Tx) -> None:
                await _deliver(tx, targets, incoming, actor=SMTP, known=places)

            await self._engine.write(operation)

        async with self._turns:
            await waiting.with_sessions(deliver)


async def prepare(raw: bytes, *, sender: str = "") -> Incoming:
    """Read a mail, off the loop."""

    def read() -> Incoming:
        seen = read_mail(raw)
        if not seen.sender and sender:
            seen = msgspec.structs.replace(seen, sender=sender)
        extractions = extract(subject=seen.subject, text=seen.text, html=seen.html)
        return Incoming(raw=raw, read=seen, extractions=extractions)

    return await asyncio.get_running_loop().run_in_executor(_reader, read)


async def receive(call: Call, inbox_id: str, raw: bytes, answer: Callable[[Mail], A]) -> A:
    """Put a mail into an inbox, for people whose provider hands it on by HTTP.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is no such inbox that the caller may see, or it takes no more mail.
        TooLarge: the inbox is full.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    incoming = await prepare(raw)

    async def find(tx: Tx) -> Inbox:
        return await inboxes.get(tx, call.caller.workspace_id, inbox_id, user_id=call.caller.user_id)

    inbox = await call.engine.read(find)

    async def deliver(places: frozenset[Place]) -> A:
        async def operation(tx: Tx) -> Mail:
            (mail,) = await _deliver(tx, [inbox], incoming, actor=call.caller.key_id, known=places, call=call)
            return mail

        return await call.write(operation, answer, about=itself)

    return await waiting.with_sessions(deliver)


async def get(call: Call, mail_id: str) -> FullMail:
    """Return a mail with what it says.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is none of that id that the caller may see, or its inbox is gone.
    """
    call.caller.require(Scope.SESSIONS_READ)
    return await _get(call, mail_id)


async def get_raw(call: Call, mail_id: str) -> bytes:
    """Return a mail as it was sent.

    Raises:
        As `get`.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> bytes:
        mail = await mails.get(tx, call.caller.workspace_id, mail_id, user_id=call.caller.user_id)
        return await mails.read_raw(tx, mail)

    return await call.engine.scan(operation)


async def read_page(
    call: Call,
    inbox_id: str,
    *,
    descending: bool = True,
    limit: int,
    offset: int = 0,
    position: tuple[int, str] | None = None,
) -> tuple[Inbox, list[Mail], bool]:
    """Return an inbox, up to `limit` of its mails by time of arrival, and whether there are more.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is no inbox of that id that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> tuple[Inbox, list[Mail], bool]:
        inbox = await inboxes.get(tx, call.caller.workspace_id, inbox_id, user_id=call.caller.user_id)
        found, more = await mails.read_page(
            tx,
            inbox.workspace_id,
            inbox.id,
            descending=descending,
            limit=limit,
            offset=offset,
            position=position,
        )
        return inbox, found, more

    return await call.engine.scan(operation)


async def read_of_session(call: Call, session_id: str, *, after: tuple[int, str] | None, limit: int) -> list[Mail]:
    """Return up to `limit` mails that came to any inbox of a session, the first first, from behind `after`.

    The session is known to be the caller's.

    Raises:
        Forbidden: the caller lacks the read scope.
    """
    call.caller.require(Scope.SESSIONS_READ)
    workspace_id = call.caller.workspace_id

    async def operation(tx: Tx) -> list[Mail]:
        return await mails.read_of_session(tx, workspace_id, session_id, after=after, limit=limit)

    return await call.engine.scan(operation)


async def extract_again(call: Call, mail_id: str, answer: Callable[[Mail], A]) -> A:
    """Look once more for what a mail was sent for, by the rules of today, and keep what is found.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is none of that id that the caller may see, or its inbox is gone.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    full = await _get(call, mail_id)

    def look() -> list[Extraction]:
        return extract(subject=full.mail.envelope.subject, text=full.content.text, html=full.content.html)

    found = await asyncio.get_running_loop().run_in_executor(_reader, look)

    async def operation(tx: Tx) -> Mail:
        mail = await mails.take(tx, call.caller.workspace_id, mail_id, user_id=call.caller.user_id)
        await mails.set_extractions(tx, mail, found)
        return msgspec.structs.replace(mail, extractions=found)

    return await call.write(operation, answer, about=itself)


async def _get(call: Call, mail_id: str) -> FullMail:
    async def operation(tx: Tx) -> FullMail:
        mail = await mails.get(tx, call.caller.workspace_id, mail_id, user_id=call.caller.user_id)
        return FullMail(mail, await mails.read_content(tx, mail))

    return await call.engine.scan(operation)


async def _deliver(
    tx: Tx,
    targets: Sequence[Inbox],
    incoming: Incoming,
    *,
    actor: str,
    known: Collection[Place],
    call: Call | None = None,
) -> list[Mail]:
    """Put a mail into inboxes, and end what waited for it; `known` are sessions whose waits are to be expected.

    Raises:
        NotFound: an inbox takes no more mail.
        TooLarge: an inbox is full.
        OtherSessionsError: a wait would end whose session is not in hand.
    """
    places = {*known, *((inbox.workspace_id, inbox.session_id) for inbox in targets if inbox.session_id is not None)}
    for place in sorted(places):
        await sessions.lock(tx, *place)
    at_us = await clock.read_us(tx)
    made, said = list[Mail](), defaultdict[Place, list[Entry]](list)
    for target in sorted(targets, key=lambda inbox: (inbox.workspace_id, inbox.id)):
        inbox = await inboxes.take(tx, target.workspace_id, target.id)
        if inbox is None or not inbox.takes_mail(at_us):
            raise NotFound("the inbox takes no more mail")
        if inbox.mail_count >= MAILS_MAX or inbox.mail_bytes + len(incoming.raw) > BYTES_MAX:
            raise TooLarge("the inbox is full")
        waiting_for_it = await waits.read_for_mail(
            tx, inbox.workspace_id, inbox_id=inbox.id, session_id=inbox.session_id
        )
        waiting.require_in_hand(waiting_for_it, places)
        mail = _mail(inbox, incoming, at_us=at_us)
        await mails.insert(tx, mail, content_of(incoming.read), incoming.raw)
        await inboxes.count_up(tx, inbox, size=mail.size)
        made.append(mail)
        if inbox.session_id is not None:
            said[inbox.workspace_id, inbox.session_id].append(_arrival(mail, step=call is not None))
        for wait in waiting_for_it:
            if (found := find_in(wait, mail)) is None:
                continue
            entry = await waiting.end(tx, wait, COMPLETED, at_us=at_us, result=msgspec.json.encode(found))
            if entry is not None and wait.session_id is not None:
                said[wait.workspace_id, wait.session_id].append(entry)
    for (workspace_id, session_id), entries in sorted(said.items()):
        if call is not None:
            await events.note(tx, call.append(session_id, *entries))
        else:
            await events.note(tx, note_in(session_id, Author(workspace_id, actor, at_us), *entries))
    return made


def _mail(inbox: Inbox, incoming: Incoming, *, at_us: int) -> Mail:
    return Mail(
        workspace_id=inbox.workspace_id,
        id=new_id("msg_"),
        inbox_id=inbox.id,
        session_id=inbox.session_id,
        user_id=inbox.user_id,
        received_at_us=at_us,
        size=len(incoming.raw),
        envelope=envelope_of(incoming.read),
        extractions=incoming.extractions,
    )


def _arrival(mail: Mail, *, step: bool) -> Entry:
    body: JsonObject = {
        "mail_id": mail.id,
        "inbox_id": mail.inbox_id,
        "sender": mail.envelope.sender,
        "subject": mail.envelope.subject,
        "size": mail.size,
    }
    if step:
        # What it says is not shown: replay is for what was done.
        body |= {"input": {"inbox_id": mail.inbox_id, "size": mail.size}, "output": {"id": mail.id}}
    return make_entry(MAIL_RECEIVED, body, action="receive_mail" if step else None)
