"""Sealing anew what is kept in another way than it is to be: piece by piece, while everybody goes on.

A session is moved with its row in hand. First its row gets its new key, so that whatever is added from then on has it;
then its log, the newest first, and what else is its own. `sessions.resealing_seq` says how far that has come, so that
anybody may go on with it. Nobody notices: every sealed text names the key that opens it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from sessiond.core.ids import WorkspaceId
from sessiond.core.session import Session
from sessiond.crypto import SEALED, is_sealed, make_key_id
from sessiond.storage import idempotency, inboxes, mails, metadata_index, runs, seals, search, sessions, waits
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.vault import damaged

PIECE_EVENTS: Final = 300  # to a transaction: writers wait for it a few milliseconds
PIECE_BYTES: Final = 2 * 1024 * 1024
PIECE_RECORDS: Final = 20  # runs and mails may be megabytes each
PLAIN_KEY: Final = 0


class Held(msgspec.Struct, frozen=True):
    """How many texts of a kind are kept under a key of the workspace; `PLAIN_KEY`: in plain text, None: of no key
    that is there."""

    kind: str
    key_id: int | None
    n: int


async def find_sessions(tx: Tx, workspace_id: WorkspaceId, root_id: int | None, *, after: str, limit: int) -> list[str]:
    """Return sessions that are to be moved under a workspace's key, by id, from behind one."""
    root = root_id or PLAIN_KEY
    rows = await tx.all("sessions_to_reseal", workspace=workspace_id, root=root, after=after, limit=limit)
    return [row[0] for row in rows]


async def move_some(tx: Tx, workspace_id: WorkspaceId, session_id: str, root_id: int | None) -> tuple[int, bool]:
    """Move a bounded piece of a session under a workspace's key; return how many texts, and whether all is done."""
    if not await sessions.lock(tx, workspace_id, session_id):
        return 0, True
    session = await sessions.get(tx, workspace_id, session_id, user_id=None)
    state = await tx.one("session_seal", workspace=workspace_id, id=session_id)
    assert state is not None, "it is in hand"
    resealing_seq: int | None = state[1]
    moved = 0
    if await _root_of(tx, session) != root_id:
        session, resealing_seq = await _rekey(tx, session, root_id), session.last_seq
        moved += 1
    if resealing_seq is None:
        return moved, True
    if resealing_seq > 0:
        return moved + await _move_events(tx, session, resealing_seq), False
    records = await _move_records(tx, session)
    if records:
        return moved + records, False
    # What it said is to be found by hashes with the new key.
    forgotten = await search.forget(tx, workspace_id, session_id, limit=PIECE_EVENTS)
    if forgotten == PIECE_EVENTS:
        return moved + forgotten, False
    await tx.run("session_resealed_to", workspace=workspace_id, id=session_id, seq=None)
    key = session.key_id or PLAIN_KEY
    await tx.run("seal_keys_drop_of_session", workspace=workspace_id, session=session_id, key=key)
    return moved, True


async def move_apart(tx: Tx, workspace_id: WorkspaceId, root_id: int | None) -> int:
    """Move some of what belongs to no session; return how many records, 0 when all is done."""
    values = {"workspace": workspace_id, "key": root_id or PLAIN_KEY, "limit": PIECE_RECORDS}
    return await _move_found(tx, "{}_apart_to_reseal", values, root_id)


async def move_answers(
    tx: Tx, workspace_id: WorkspaceId, root_id: int | None, *, after: tuple[str, str], limit: int = PIECE_EVENTS
) -> tuple[str, str] | None:
    """Move some kept answers, from behind one; return the last, or None when there are no more."""
    rows = await tx.all("answers_after", workspace=workspace_id, user=after[0], key=after[1], limit=limit)
    for user_id, key, kept in rows:
        await idempotency.reseal(tx, workspace_id, user_id, key, bytes(kept), root_id)
    return (rows[-1][0], rows[-1][1]) if rows else None


async def count_held(tx: Tx, workspace_id: WorkspaceId) -> list[Held]:
    """Count all that is kept by the workspace's key that it is kept under, from what each text says itself."""
    roots = await _read_parents(tx, workspace_id)
    held: dict[tuple[str, int | None], int] = {}
    for kind, head, n in await _read_heads(tx, workspace_id):
        place = kind, _root_of_head(head, roots)
        held[place] = held.get(place, 0) + n
    return [Held(kind, key_id, n) for (kind, key_id), n in sorted(held.items(), key=str)]


async def find_other(tx: Tx, workspace_id: WorkspaceId, root_id: int | None) -> str | None:
    """Return the place of a text that is kept under another key than a workspace's; None when there is none."""
    roots = await _read_parents(tx, workspace_id)
    for kind, head, _ in await _read_heads(tx, workspace_id):
        if _root_of_head(head, roots) != (root_id or PLAIN_KEY):
            row = await tx.one("seal_place", **_TEXTS, workspace=workspace_id, kind=kind, head=head or b"")
            return row[0] if row is not None else None
    return None


async def _read_heads(tx: Tx, workspace_id: WorkspaceId) -> Sequence[Row]:
    return await tx.all("seal_heads", **_TEXTS, workspace=workspace_id)


def _root_of_head(head: bytes | None, roots: Mapping[int, int]) -> int | None:
    if head is None:
        return PLAIN_KEY
    return roots.get(_HEAD.unpack(bytes(head))[1]) if len(head) == _HEAD.size else None


async def settled(tx: Tx, mark: int) -> bool:
    """Whether every transaction has ended that was under way at a mark, and may have seen what was before it."""
    return await tx.one("transactions_settled", mark=mark) is not None


async def mark(tx: Tx) -> int:
    row = await tx.one("transactions_mark")
    assert row is not None
    found: int = row[0]
    return found


_HEAD: Final = struct.Struct(">cq")
_TEXTS: Final[dict[str, Value]] = {"sealed": SEALED, "deleted": runs.DELETED, "plain": b""}


async def _read_parents(tx: Tx, workspace_id: WorkspaceId) -> dict[int, int]:
    """Return for each key of a workspace which of the workspace's own it is, or is wrapped by."""
    roots, after = dict[int, int](), 0
    while rows := await tx.all("seal_key_parents", workspace=workspace_id, after=after, limit=1_000):
        for key_id, _, parent_id, session_id in rows:
            roots[key_id] = parent_id if session_id is not None else key_id
        after = rows[-1][0]
    return roots


async def _root_of(tx: Tx, session: Session) -> int | None:
    """Return the workspace's key that a session's is wrapped by."""
    if session.key_id is None:
        return None
    return (await seals.cipher_of(tx, session.workspace_id, session.key_id)).parent.key_id


async def _rekey(tx: Tx, session: Session, root_id: int | None) -> Session:
    """Give a session in hand a new key, and seal with it what its row says of it."""
    await metadata_index.drop(tx, session)
    key_id = make_key_id() if root_id is not None else None
    after = msgspec.structs.replace(session, key_id=key_id)
    if key_id is not None:
        await seals.make_session_key(
            tx,
            session.workspace_id,
            key_id,
            session_id=session.id,
            under=root_id,
            at_us=session.created_at_us,
        )
    await sessions.rekey(tx, after, resealing_seq=session.last_seq)
    return after


async def _move_events(tx: Tx, session: Session, seq: int) -> int:
    """Seal some events anew, from `seq` down; return how many."""
    limit = max(1, min(PIECE_EVENTS, PIECE_BYTES // max(1, session.largest_bytes)))
    rows = await tx.all("events_to_reseal", workspace=session.workspace_id, id=session.id, seq=seq, limit=limit)
    cipher = await seals.cipher_of(tx, session.workspace_id, session.key_id) if session.key_id is not None else None
    had_key = await tx.one(
        "session_had_key", workspace=session.workspace_id, session=session.id, key=session.key_id or PLAIN_KEY
    )
    values = list[dict[str, Value]]()
    for event_seq, body in rows:
        place = "event", session.id, event_seq
        if not is_sealed(body) and had_key is not None:
            raise damaged(*place)  # put there in plain text: sealed, it would be believed
        plain = await seals.open_any(tx, session.workspace_id, body, *place)
        sealed = cipher.seal(plain, *place) if cipher is not None else plain
        values.append({"workspace": session.workspace_id, "id": session.id, "seq": event_seq, "body": sealed})
    await tx.each("event_body", values)
    lowest = rows[-1][0] - 1 if rows else 0
    await tx.run("session_resealed_to", workspace=session.workspace_id, id=session.id, seq=lowest)
    return len(rows)


async def _move_records(tx: Tx, session: Session) -> int:
    """Seal some of a session's runs, waits, inboxes and mails anew; return how many."""
    values: dict[str, Value] = {
        "workspace": session.workspace_id,
        "session": session.id,
        "key": session.key_id or PLAIN_KEY,
        "limit": PIECE_RECORDS,
    }
    return await _move_found(tx, "{}_to_reseal", values, session.key_id)


async def _move_found(tx: Tx, statement: str, values: dict[str, Any], key_id: int | None) -> int:
    moved = 0
    for row in await tx.all(statement.format("runs"), **values):
        moved += 1
        await runs.rekey(tx, row, key_id)
    for row in await tx.all(statement.format("waits"), **values):
        moved += 1
        await waits.rekey(tx, row, key_id)
    for row in await tx.all(statement.format("mails"), **values):
        moved += 1
        await mails.rekey(tx, row, key_id)
    for row in await tx.all(statement.format("inboxes"), **values):
        moved += 1
        await inboxes.rekey(tx, row, key_id)
    return moved
