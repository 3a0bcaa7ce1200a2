"""Inboxes: make, find, list, remove."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

from sessiond.actions import waiting
from sessiond.actions.call import A, Author, Call, itself
from sessiond.actions.waiting import Place
from sessiond.core.caller import Scope
from sessiond.core.errors import Conflict, NotFound
from sessiond.core.event import INBOX_CREATED, INBOX_DELETED, make_entry
from sessiond.core.inbox import PER_SESSION_MAX, Inbox, InboxFilter, InboxPage, NewInbox
from sessiond.core.metadata import JsonObject, unpack
from sessiond.core.wait import CANCELLED, PENDING_PER_INBOX_MAX, PENDING_PER_SESSION_MAX
from sessiond.storage import events, inboxes, sessions, waits
from sessiond.storage.engine import Tx

LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # none that people take for another
ADDRESS_CHARS: Final = 14  # 70 bits: nobody guesses an address
INLINE_IDS: Final = 100  # as many may be read and still count as short


async def create(
    call: Call, new: NewInbox, answer: Callable[[Inbox], A], *, domain: str, given: NewInbox | None = None
) -> A:
    """Make an inbox with an address of its own at `domain`, in a session where `new` names one.

    `given` is what the caller said, where `new` has more than that.

    Raises:
        Forbidden: the caller lacks the write scope, or is bound to another user.
        InvalidInput, TooLarge: what is said of it cannot be.
        NotFound: there is no such session that the caller may see.
        Conflict: the session has ended, or has as many inboxes as it may have.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    user_id = new.user_id if new.user_id is not None else call.caller.user_id
    call.caller.require_own(user_id)
    new.checked()
    name = "".join(secrets.choice(LETTERS) for _ in range(ADDRESS_CHARS))

    async def operation(tx: Tx) -> Inbox:
        session = None
        if new.session_id is not None:
            session = await sessions.take(tx, call.caller.workspace_id, new.session_id, user_id=call.caller.user_id)
            session.require_version(call.if_match)
            session.require_open()
            made = await inboxes.read_ids(tx, session.workspace_id, session.id, limit=PER_SESSION_MAX)
            if len(made) >= PER_SESSION_MAX:
                raise Conflict(f"the session has {PER_SESSION_MAX} inboxes, which is the most it may have")
        inbox = Inbox(
            workspace_id=call.caller.workspace_id,
            id=call.new_id("inb_"),
            session_id=session.id if session is not None else None,
            user_id=session.user_id if session is not None else user_id,
            address=f"{name}@{domain}",
            purpose=new.purpose,
            metadata=new.metadata,
            actor=call.caller.key_id,
            mail_count=0,
            mail_bytes=0,
            created_at_us=call.now_us,
            expires_at_us=call.now_us + new.ttl_seconds * 1_000_000 if new.ttl_seconds is not None else None,
            expired_at_us=None,
        )
        kept = await inboxes.insert(tx, inbox)
        if session is not None:
            body: JsonObject = {"inbox_id": inbox.id, "address": inbox.address, "purpose": inbox.purpose}
            body |= {"expires_at_us": inbox.expires_at_us, "input": _given(given or new), "output": {"id": inbox.id}}
            said = call.append(session.id, make_entry(INBOX_CREATED, body, action="create_inbox"))
            await sessions.save(tx, session, await events.append_to(tx, session, said))
        return kept

    return await call.write(operation, answer, about=itself)


async def get(call: Call, inbox_id: str) -> Inbox:
    """Return an inbox.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is none of that id that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> Inbox:
        return await inboxes.get(tx, call.caller.workspace_id, inbox_id, user_id=call.caller.user_id)

    return await call.engine.read(operation)


async def read_page(
    call: Call,
    wanted: InboxFilter,
    *,
    descending: bool = True,
    limit: int,
    offset: int = 0,
    position: tuple[int, str] | None = None,
    with_total: bool = False,
) -> InboxPage:
    """Return up to `limit` of the inboxes that the caller may see, by time of creation, from behind `position`.

    Raises:
        Forbidden: the caller lacks the read scope.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> InboxPage:
        return await inboxes.read_page(
            tx,
            call.caller.workspace_id,
            wanted,
            user_id=call.caller.user_id,
            descending=descending,
            limit=limit,
            offset=offset,
            position=position,
            with_total=with_total,
        )

    return await call.engine.scan(operation)


async def delete(call: Call, inbox_id: str, answer: Callable[[Inbox], A]) -> A:
    """Remove an inbox with its mails; what waits for one is cancelled.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is none of that id that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_WRITE)

    async def delete(places: frozenset[Place]) -> A:
        async def operation(tx: Tx) -> Inbox:
            inbox = await inboxes.get(tx, call.caller.workspace_id, inbox_id, user_id=call.caller.user_id)
            if await remove(tx, call.author, inbox, places=places) is None:
                raise NotFound("no such inbox")
            if inbox.session_id is not None:
                body: JsonObject = {"inbox_id": inbox.id, "input": {"inbox_id": inbox.id}, "output": {"id": inbox.id}}
                said = make_entry(INBOX_DELETED, body, action="delete_inbox")
                await events.note(tx, call.append(inbox.session_id, said))
            return inbox

        return await call.write(operation, answer, about=itself)

    return await waiting.with_sessions(delete)


async def remove(
    tx: Tx, by: Author, inbox: Inbox, *, places: frozenset[Place], erasure_id: str | None = None
) -> int | None:
    """Remove an inbox with its mails; what waits for one is cancelled.

    `places` are the sessions of what waits, as far as they are known. Return how many mails go with it; None when it
    is gone already.

    Raises:
        OtherSessionsError: a wait would end whose session is not among them.
    """
    in_hand = {*places, *([(inbox.workspace_id, inbox.session_id)] if inbox.session_id is not None else [])}
    for place in sorted(in_hand):
        await sessions.lock(tx, *place)
    if await inboxes.take(tx, inbox.workspace_id, inbox.id) is None:
        return None
    found = await waits.read_pending_in(tx, inbox.workspace_id, inbox.id, limit=PENDING_PER_INBOX_MAX)
    waiting.require_in_hand(found, in_hand)
    for wait in found:
        await waiting.end_and_note(tx, by, wait, CANCELLED, reason="the inbox was deleted")
    return await inboxes.delete(tx, inbox.workspace_id, inbox.id, erasure_id=erasure_id)


async def read_ids(call: Call, session_id: str) -> tuple[list[str], list[str]]:
    """Return the ids of a session's inboxes and of its waits, each in the order in which they were made.

    The session is known to be the caller's.

    Raises:
        Forbidden: the caller lacks the read scope.
    """
    call.caller.require(Scope.SESSIONS_READ)
    workspace_id = call.caller.workspace_id

    async def read(tx: Tx, *, most: int) -> tuple[list[str], list[str]]:
        found = await inboxes.read_ids(tx, workspace_id, session_id, limit=min(most, PER_SESSION_MAX))
        return found, await waits.read_ids(tx, workspace_id, session_id, limit=min(most, PENDING_PER_SESSION_MAX))

    found = await call.engine.read(partial(read, most=INLINE_IDS))
    if max(map(len, found)) < INLINE_IDS:
        return found
    return await call.engine.scan(partial(read, most=PENDING_PER_SESSION_MAX))


def _given(new: NewInbox) -> JsonObject:
    """Return what was said of an inbox, without where it is: the log it stands in says that."""
    said = {"ttl_seconds": new.ttl_seconds, "purpose": new.purpose, "metadata": unpack(new.metadata) or None}
    return {name: value for name, value in said.items() if value is not None}
