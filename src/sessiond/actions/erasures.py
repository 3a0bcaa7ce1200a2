"""Erasures: all that there is of a person, or of a session, removed for good, and a signed receipt for it.

Sessions go a few at a time, each in a transaction with what is counted of it, those before whose copies are left. So an
erasure that was cut short goes on where it was when it is asked for again, and nobody waits long for the database.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import inboxes, sessions, waiting
from sessiond.actions.call import Call
from sessiond.actions.waiting import Place
from sessiond.core.audit import ERASE
from sessiond.core.caller import Scope
from sessiond.core.erasure import (
    FORMAT,
    Counts,
    Erasure,
    Receipt,
    Subject,
    SubjectOut,
    add_to_digest,
    hash_subject,
    iso_time,
    signed_part,
)
from sessiond.core.errors import InvalidInput, NotFound
from sessiond.core.limits import ID_MAX_CHARS, check_text
from sessiond.core.session import Session
from sessiond.crypto import is_signed, make_salt, sign
from sessiond.storage import audit, clock, erasures, idempotency, runs, seals, session_ids, trash, waits
from sessiond.storage import inboxes as stored_inboxes
from sessiond.storage import sessions as stored_sessions
from sessiond.storage.engine import Tx

SESSIONS_MAX: Final = 20  # to a transaction
EVENTS_MAX: Final = 1_000  # of their logs: writers get their turn in between
ROWS_MAX: Final = 500  # of anything else
INBOXES_MAX: Final = 20  # each may have waits to be cancelled

Piece = Callable[[Tx, Erasure], Awaitable[tuple[Erasure, int]]]
"""Erases some of what is to be erased; returns the erasure with that counted, and how much it was: 0 when all is."""


async def erase_user(call: Call, user_id: str) -> Receipt:
    """Erase what there is of a user: their sessions, copies of these, and inboxes, waits and runs of no session.

    Nobody can read any of it when this returns. What of it was made after this was first asked for stays. Where an
    erasure of this user was cut short, it goes on.

    Raises:
        Forbidden: the caller neither administers the workspace nor is bound to this user with the write scope.
        InvalidInput: that can be nobody's id.
    """
    if call.caller.user_id is None:
        call.caller.require(Scope.ADMIN)
    else:
        call.caller.require(Scope.SESSIONS_WRITE)
        call.caller.require_own(user_id)
    if not check_text(user_id, "user_id", max_chars=ID_MAX_CHARS):
        raise InvalidInput("user_id is required", field="user_id")
    new = _make(call, Subject.USER, user_id)

    async def begin(tx: Tx) -> Erasure:
        return await erasures.begin(tx, new)

    begun = await call.engine.write(begin)
    while await _do(call, begun, _erase_sessions):
        pass
    while await _erase_inboxes(call, begun):
        pass
    for piece in (_erase_waits, _erase_runs, _erase_answers):
        while await _do(call, begun, piece):
            pass
    return await _complete(call, begun)


async def erase_session(call: Call, session_id: str) -> Receipt:
    """Erase a session with its log and all that is its own, and the sessions that were made from it.

    Nobody can read any of it when this returns. Its runs stay, with nothing of what was said in them.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is none of that id that the caller may see, nor an erasure of it that was cut short.
        PreconditionFailed: the session is not in the version of the caller's If-Match.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    workspace_id = call.caller.workspace_id
    new = _make(call, Subject.SESSION, session_id)

    async def begin(tx: Tx) -> Erasure:
        session = await stored_sessions.find(tx, workspace_id, session_id, user_id=call.caller.user_id, opens=False)
        if session is None:
            begun = await erasures.find_under_way(tx, workspace_id, Subject.SESSION, session_id)
            if begun is None or (call.caller.user_id is not None and begun.actor != call.caller.key_id):
                raise NotFound("no such session")
            return begun
        session.require_version(call.if_match)
        return await erasures.begin(tx, new)

    begun = await call.engine.write(begin)
    while await _do(call, begun, _erase_sessions):
        pass
    return await _complete(call, begun)


async def get(call: Call, erasure_id: str) -> Receipt:
    """Return an erasure, with its receipt's signature once it is complete.

    Raises:
        Forbidden: the caller lacks the admin scope.
        NotFound: the workspace has none of that id.
    """
    call.caller.require(Scope.ADMIN)

    async def operation(tx: Tx) -> Receipt:
        return await _show(tx, await erasures.get(tx, call.caller.workspace_id, erasure_id))

    return await call.engine.read(operation)


async def read_page(
    call: Call, *, limit: int, position: tuple[int, str] | None = None
) -> tuple[list[Receipt], tuple[int, str] | None]:
    """Return up to `limit` erasures, the last asked for first, and where the next page begins, if there is one.

    Raises:
        Forbidden: the caller lacks the admin scope.
    """
    call.caller.require(Scope.ADMIN)

    async def operation(tx: Tx) -> tuple[list[Receipt], tuple[int, str] | None]:
        found, more = await erasures.read_page(tx, call.caller.workspace_id, limit=limit, position=position)
        following = (found[-1].requested_at_us, found[-1].id) if more else None
        return [await _show(tx, erasure) for erasure in found], following

    return await call.engine.scan(operation)


def verify(document: bytes, *, public_key: str | None = None) -> Receipt:
    """Return a receipt if it is as it was signed, by `public_key` if that is given: anybody can make a key.

    Raises:
        InvalidInput: it is not; the message says how.
    """
    try:
        said: dict[str, Any] = msgspec.json.decode(document, type=dict[str, Any])
        receipt = msgspec.convert(said, Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"this is no receipt: {error}") from error
    if receipt.format != FORMAT:
        raise InvalidInput(f"this is no receipt of the format {FORMAT}")
    if receipt.signature is None or receipt.public_key is None:
        raise InvalidInput("the receipt is not signed: ask again for the erasure, which was not complete")
    if public_key is not None and public_key != receipt.public_key:
        raise InvalidInput(f"the receipt was signed with another key: {receipt.public_key}")
    if not is_signed(_unpack(receipt.public_key), signed_part(said), _unpack(receipt.signature)):
        raise InvalidInput("the receipt is not as it was signed: somebody has changed it, or made it up")
    subject = receipt.subject
    if subject.id is not None and hash_subject(_unhex(subject.salt), subject.id).hex() != subject.hash:
        raise InvalidInput("subject.id is not the one that the receipt was made for")
    return receipt


def _make(call: Call, kind: Subject, subject: str) -> Erasure:
    salt = make_salt()
    return Erasure(
        workspace_id=call.caller.workspace_id,
        id=call.new_id("era_"),
        kind=kind,
        subject=subject,
        salt=salt,
        subject_hash=hash_subject(salt, subject),
        actor=call.caller.key_id,
        requested_at_us=call.now_us,
        completed_at_us=None,
        counts=Counts(),
        sessions_digest=salt,
        receipt=None,
        signature=None,
    )


async def _do(call: Call, begun: Erasure, piece: Piece) -> bool:
    """Do a piece, and keep what it counts; False when there was nothing left for it."""

    async def operation(tx: Tx) -> bool:
        before = await erasures.take(tx, begun.workspace_id, begun.id)
        if before.completed:  # by somebody who asked for the same
            return False
        after, done = await piece(tx, before)
        if after != before:
            await erasures.save(tx, after)
        return done > 0

    return await call.engine.write(operation)


async def _erase_sessions(tx: Tx, erasure: Erasure) -> tuple[Erasure, int]:
    chosen = await _choose(tx, erasure)
    # In the order in which everybody takes sessions.
    in_hand = {each for each in sorted(chosen) if await stored_sessions.lock(tx, erasure.workspace_id, each)}
    at_us, events = await clock.read_us(tx), 0
    for session_id in chosen:
        if session_id not in in_hand or events >= EVENTS_MAX:
            continue
        session = await stored_sessions.find(tx, erasure.workspace_id, session_id, user_id=None, opens=False)
        assert session is not None, "it is in hand"
        erasure, gone = await _erase_session(tx, erasure, session, at_us=at_us)
        if not gone:
            break
        if erasure.kind is Subject.SESSION and session.id == erasure.subject:
            return erasure, 0  # whatever gets its id from now on is another
        events += min(session.last_seq, stored_sessions.GOES_AT_ONCE_EVENTS)
    return erasure, len(chosen)


async def _erase_session(tx: Tx, erasure: Erasure, session: Session, *, at_us: int) -> tuple[Erasure, bool]:
    """Erase a session that is in hand, or some of its runs where they are many; return whether it is gone."""
    place = session.workspace_id, session.id
    emptied = await runs.empty_some(tx, *place, limit=ROWS_MAX)
    if emptied == ROWS_MAX:
        return replace(erasure, counts=erasure.counts.plus(runs=emptied)), False
    emptied += await runs.empty_open(tx, *place, at_us=at_us)
    waited = await waits.count_of(tx, *place)
    destroyed = await seals.destroy(tx, *place)
    removed = await sessions.remove(tx, session, at_us=at_us, erasure_id=erasure.id)
    counts = erasure.counts.plus(
        sessions=1,
        events=session.last_seq,
        messages=session.message_count,
        runs=emptied,
        inboxes=removed.inboxes,
        mails=removed.mails,
        waits=waited,
        keys_destroyed=int(destroyed),
    )
    return replace(erasure, counts=counts, sessions_digest=add_to_digest(erasure.sessions_digest, session.id)), True


async def _choose(tx: Tx, erasure: Erasure) -> list[str]:
    """Return the ids of some sessions that are to go now, each behind those that were made from it.

    In this order, since a copy is found by what it was made from.
    """
    assert erasure.subject is not None, "it is under way"
    workspace_id = erasure.workspace_id
    if erasure.kind is Subject.USER:
        first = await session_ids.read_ids_of_user(
            tx, workspace_id, erasure.subject, until_us=erasure.requested_at_us, limit=SESSIONS_MAX
        )
    else:
        found = await stored_sessions.find(tx, workspace_id, erasure.subject, user_id=None, opens=False)
        first = [found.id] if found is not None else []
    chosen, seen = list[str](), set[str]()
    for session_id in first:
        path = [session_id] if session_id not in seen else []
        seen.add(session_id)
        while path:
            # One more than were seen: one of them is new, if any is. Ids that were used again may make a circle.
            made = await session_ids.read_ids_of_parent(tx, workspace_id, path[-1], limit=len(seen) + 1)
            new = next((each for each in made if each not in seen), None)
            if new is not None:
                seen.add(new)
                path.append(new)
                continue
            chosen.append(path.pop())
            if len(chosen) >= SESSIONS_MAX:
                return chosen
    return chosen


async def _erase_inboxes(call: Call, begun: Erasure) -> bool:
    async def erase(places: frozenset[Place]) -> bool:
        async def piece(tx: Tx, erasure: Erasure) -> tuple[Erasure, int]:
            workspace_id, user_id, until_us = _whose(erasure)
            found = await stored_inboxes.read_alone(tx, workspace_id, user_id, until_us=until_us, limit=INBOXES_MAX)
            for inbox in found:
                mails = await inboxes.remove(tx, call.author, inbox, places=places, erasure_id=erasure.id)
                counts = erasure.counts.plus(inboxes=int(mails is not None), mails=mails or 0)
                erasure = replace(erasure, counts=counts)
            return erasure, len(found)

        return await _do(call, begun, piece)

    return await waiting.with_sessions(erase)


async def _erase_waits(tx: Tx, erasure: Erasure) -> tuple[Erasure, int]:
    workspace_id, user_id, until_us = _whose(erasure)
    done = await waits.remove_some_alone(tx, workspace_id, user_id, until_us=until_us, limit=ROWS_MAX)
    return replace(erasure, counts=erasure.counts.plus(waits=done)), done


async def _erase_runs(tx: Tx, erasure: Erasure) -> tuple[Erasure, int]:
    workspace_id, user_id, until_us = _whose(erasure)
    left = await runs.find_left(tx, workspace_id, user_id)
    if left is not None:
        done = await runs.empty_some(tx, workspace_id, left, limit=ROWS_MAX)
        # Also where the sweeper has just taken them: then they are found below.
        return replace(erasure, counts=erasure.counts.plus(runs=done)), max(done, 1)
    done = await runs.empty_some_alone(tx, workspace_id, user_id, until_us=until_us, limit=ROWS_MAX)
    return replace(erasure, counts=erasure.counts.plus(runs=done)), done


async def _erase_answers(tx: Tx, erasure: Erasure) -> tuple[Erasure, int]:
    workspace_id, user_id, until_us = _whose(erasure)
    return erasure, await idempotency.forget_some_of_user(tx, workspace_id, user_id, until_us=until_us, limit=ROWS_MAX)


def _whose(erasure: Erasure) -> tuple[Any, str, int]:
    assert erasure.subject is not None, "it is under way"
    return erasure.workspace_id, erasure.subject, erasure.requested_at_us


async def _complete(call: Call, begun: Erasure) -> Receipt:
    """Sign the receipt, note the erasure in the audit log, and forget whose it was."""

    async def operation(tx: Tx) -> Receipt:
        now = await erasures.take(tx, begun.workspace_id, begun.id)
        if not now.completed:
            at_us = max(await clock.read_us(tx), now.requested_at_us)
            locator = {"id": now.id, "kind": str(now.kind)}
            await audit.append(tx, now.workspace_id, ERASE, locator, actor=now.actor, at_us=at_us, address=call.address)
            seq = await audit.read_last_seq(tx, now.workspace_id)
            key = await erasures.get_signing_key(tx, now.workspace_id, at_us=at_us)
            now = replace(now, subject=None, completed_at_us=at_us)
            receipt = _receipt(now, audit_seq=seq, public_key=_pack(key.public))
            text = signed_part(msgspec.to_builtins(receipt))
            now = replace(now, receipt=text, signature=sign(key, text))
            await erasures.save(tx, now)
        return await _show(tx, now, subject=begun.subject)

    return await call.engine.write(operation)


async def _show(tx: Tx, erasure: Erasure, *, subject: str | None = None) -> Receipt:
    receipt = _receipt(erasure)
    if erasure.receipt is not None and erasure.signature is not None:
        receipt = replace(msgspec.json.decode(erasure.receipt, type=Receipt), signature=_pack(erasure.signature))
    # What is in the trash names the erasure that it is part of.
    left = await trash.has_of_erasure(tx, erasure.workspace_id, erasure.id)
    return replace(receipt, subject=replace(receipt.subject, id=subject), purged=erasure.completed and not left)


def _receipt(erasure: Erasure, *, audit_seq: int | None = None, public_key: str | None = None) -> Receipt:
    completed_at_us = erasure.completed_at_us
    return Receipt(
        format=FORMAT,
        id=erasure.id,
        workspace=erasure.workspace_id,
        subject=SubjectOut(kind=erasure.kind, salt=erasure.salt.hex(), hash=erasure.subject_hash.hex()),
        requested_at=iso_time(erasure.requested_at_us),
        completed_at=iso_time(completed_at_us) if completed_at_us is not None else None,
        by=erasure.actor,
        counts=erasure.counts,
        sessions_digest=erasure.sessions_digest.hex(),
        audit_seq=audit_seq,
        public_key=public_key,
    )


def _pack(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _unpack(text: str) -> bytes:
    """Return what `_pack` was given; nothing that could be a key or a signature for anything else."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
