"""Logs: appended to, read by page. Nothing is rewritten but a message that is taken back: see `messages.py`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec

from sessiond.core.errors import Unavailable
from sessiond.core.event import Event, StoredMessage
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.limits import PAGE_MAX_BYTES
from sessiond.core.page import LogPage
from sessiond.core.session import Session
from sessiond.crypto import HEAD_BYTES, SEALED, is_sealed
from sessiond.storage import seals
from sessiond.storage.appends import (
    Append,
    append_each_in_arrays,
    append_each_in_turn,
    cipher_for,
    in_arrays,
    insert_each,
    move_slot,
    rows_of,
)
from sessiond.storage.engine import Row, Tx, Value, Watched
from sessiond.storage.pages import count_fitting
from sessiond.storage.slots import slot_of
from sessiond.storage.vault import Cipher, damaged

WAITS_DUE: Final[Watched] = (WorkspaceId(""), SessionId("waits"))
"""What the sweeper watches: some wait is to be looked at sooner than it knew. No workspace has an empty id."""
BEING_REMOVED: Final = "the log of a session that had this id is still being removed: try again in a moment"
REMOVAL_SECONDS: Final = 2  # in which some 10,000 events go


async def append_each(tx: Tx, appends: Sequence[Append]) -> list[int | None]:
    """Append to many sessions; return the first seq that each append got.

    None where the session is not there, not under way, in somebody's hands just now, or its agent is to be put to work:
    then nothing was appended, and `sessions.take` waits, or tells why.
    """
    if tx.takes_arrays:
        return await append_each_in_arrays(tx, appends)
    return await append_each_in_turn(tx, appends)


async def append_to(tx: Tx, session: Session, append: Append) -> Session:
    """Append to a session that was taken, and return it as its row must be saved."""
    await insert(tx, append, first_seq=session.last_seq + 1, key_id=session.key_id)
    return msgspec.structs.replace(
        session,
        last_seq=session.last_seq + len(append.entries),
        message_count=session.message_count + append.messages,
        log_bytes=session.log_bytes + append.size,
        largest_bytes=max(session.largest_bytes, append.largest),
        updated_at_us=append.at_us,
        last_active_at_us=append.at_us if append.active else session.last_active_at_us,
    )


async def insert(tx: Tx, append: Append, *, first_seq: int, key_id: int | None) -> None:
    """Add events that have got their numbers, sealed with the session's key, and tell who follows.

    Raises:
        Unavailable: a log begins, and the one that had its id is still being removed.
    """
    rows = rows_of(append, first_seq, await cipher_for(tx, append.workspace_id, key_id))
    if first_seq == 1 and tx.takes_arrays:
        place = {"workspace": append.workspace_id, "id": append.session_id}
        if not await tx.all("event_insert_new", **place, **in_arrays(rows)):
            raise Unavailable(BEING_REMOVED, retry_after_seconds=REMOVAL_SECONDS)
    else:
        await tx.each("event_insert", rows)
    tx.wake(append.workspace_id, append.session_id)


async def note(tx: Tx, append: Append) -> None:
    """Append to a session whatever its state: what happens to it from outside. Nothing where it is gone."""
    row = await tx.one(
        "session_note",
        workspace=append.workspace_id,
        id=append.session_id,
        events=len(append.entries),
        messages=append.messages,
        bytes=append.size,
        largest=append.largest,
        at_us=append.at_us,
    )
    if row is None:
        return
    await move_slot(tx, append, row[1])
    await insert(tx, append, first_seq=row[0] - len(append.entries) + 1, key_id=row[3])
    if row[2]:
        await tell_waits(tx, append.workspace_id, append.session_id)


async def note_each(tx: Tx, appends: Sequence[Append]) -> None:
    """Like `note`, to many sessions, each of which is there once."""
    if not tx.takes_arrays or not appends:
        for append in appends:
            await note(tx, append)
        return
    noted = {(append.workspace_id, append.session_id): append for append in appends}
    found = await tx.all(
        "session_note_each",
        workspaces=[append.workspace_id for append in appends],
        ids=[append.session_id for append in appends],
        events=[len(append.entries) for append in appends],
        messages=[append.messages for append in appends],
        bytes=[append.size for append in appends],
        largest=[append.largest for append in appends],
        ats_us=[append.at_us for append in appends],
    )
    rows, moved = list[dict[str, Value]](), list[dict[str, Value]]()
    for workspace_id, session_id, last_seq, slot, event_waits, key_id in found:
        append = noted[workspace_id, session_id]
        cipher = await cipher_for(tx, workspace_id, key_id)
        rows += rows_of(append, last_seq - len(append.entries) + 1, cipher)
        if slot != slot_of(append.at_us):
            moved.append({"workspace": workspace_id, "id": session_id, "slot": slot_of(append.at_us)})
        tx.wake(workspace_id, session_id)
        if event_waits:
            await tell_waits(tx, workspace_id, session_id)
    await insert_each(tx, rows)
    await tx.each("session_slot", moved)


async def tell_waits(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId) -> None:
    """Have those who wait for an event of a session looked at: its log has grown."""
    await tx.run("waits_for_events_due", workspace=workspace_id, session=session_id)
    tx.wake(*WAITS_DUE)


async def remove_some(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> int:
    """Remove up to `limit` events of a session that is gone, fewer where they are large, the first first.

    Return how many; 0 when there are none.
    """
    tail = "where workspace_id = :workspace and session_id = :id order by seq limit :limit"
    found = await tx.select("event_size_select", tail, {"workspace": workspace_id, "id": session_id, "limit": limit})
    if not found:
        return 0
    fitting = count_fitting((size for _, size in found), limit)
    await tx.run("event_delete_until", workspace=workspace_id, id=session_id, seq=found[fitting - 1][0])
    return fitting


async def find(tx: Tx, session: Session, seq: int) -> Event | None:
    row = await tx.one("event_get", workspace=session.workspace_id, id=session.id, seq=seq)
    return Event(*(await _open(tx, session, [row]))[0]) if row is not None else None


async def read_page(
    tx: Tx,
    session: Session,
    *,
    after: int | None = None,
    before: int | None = None,
    types: Sequence[str] = (),
    descending: bool = False,
    limit: int,
    offset: int = 0,
) -> LogPage[Event]:
    """Return up to `limit` events with `after` < seq < `before`, in order.

    `types` are names, or beginnings of names with `*` behind. A page that could hold more than `PAGE_MAX_BYTES` ends
    early, but not empty.
    """
    where = _where(session, after=after, before=before, types=types)
    rows, more = await _read_rows(tx, "event_select", session, where, descending=descending, limit=limit, offset=offset)
    opened = await _open(tx, session, rows)
    return LogPage(session=session, events=[Event(*row) for row in opened], more=more)


async def read_message_page(
    tx: Tx,
    session: Session,
    *,
    after: int | None = None,
    before: int | None = None,
    descending: bool = False,
    limit: int,
    offset: int = 0,
) -> LogPage[StoredMessage]:
    """Return up to `limit` messages; see `read_page`."""
    where = _where(session, after=after, before=before, types=())
    # Written out, as in the index of messages: no database looks for it with a parameter.
    where = f"{where[0]} and type like 'message.%'", where[1]
    statement = "message_select_sparse" if _is_sparse(session) else "message_select"
    rows, more = await _read_rows(tx, statement, session, where, descending=descending, limit=limit, offset=offset)
    opened = await _open(tx, session, rows)
    return LogPage(session=session, events=[StoredMessage(*row) for row in opened], more=more)


async def read_history(tx: Tx, session: Session, *, input_seq: int, until: int, limit: int) -> list[StoredMessage]:
    """Return up to `limit` messages up to `input_seq`, and as many of the answers that runs gave up to `until`."""
    statement = "message_select_sparse" if _is_sparse(session) else "message_select"

    async def read(after: int | None, before: int, condition: str) -> Sequence[Row]:
        where, values = _where(session, after=after, before=before, types=())
        said = f"{where} and {condition}"
        rows, _ = await _read_rows(tx, statement, session, (said, values), descending=True, limit=limit, offset=0)
        return rows[::-1]

    found = await read(None, input_seq + 1, "type like 'message.%'")
    if until > input_seq:
        found = [*found, *await read(input_seq, until + 1, "type like 'message.%' and action is null")]
    return [StoredMessage(*row) for row in await _open(tx, session, found)]


async def read_messages(tx: Tx, sessions: Sequence[Session]) -> dict[SessionId, list[StoredMessage]]:
    """Return all messages of a few sessions of one workspace, in one query: for logs known to fit in memory."""
    found: dict[SessionId, list[StoredMessage]] = {session.id: [] for session in sessions}
    if sessions:
        ids = {f"id_{number}": session.id for number, session in enumerate(sessions)}
        listed = ", ".join(f":{name}" for name in ids)
        rows = await tx.select(
            "message_select",
            f"where workspace_id = :workspace and session_id in ({listed}) and type like 'message.%'"
            " order by session_id, seq",
            {"workspace": sessions[0].workspace_id, **ids},
        )
        await seals.prepare(tx, sessions[0].workspace_id, [session.key_id for session in sessions])
        by_id = {session.id: session for session in sessions}
        for session_id, of_session in groupby(rows, key=itemgetter(0)):
            opened = await _open(tx, by_id[session_id], list(of_session))
            found[session_id] = [StoredMessage(*row) for row in opened]
    return found


async def read_tails(
    tx: Tx, workspace_id: WorkspaceId, stretches: Sequence[tuple[SessionId, int, int]], *, limit: int, sealed: bool
) -> list[StoredMessage]:
    """Return the first `limit` messages of each stretch: of a session, behind a seq, up to another one.

    `sealed`: nothing in the workspace may be in plain text.
    """
    if tx.takes_arrays:
        rows = await tx.all(
            "message_tails",
            workspace=workspace_id,
            ids=[stretch[0] for stretch in stretches],
            afters=[stretch[1] for stretch in stretches],
            untils=[stretch[2] for stretch in stretches],
            limit=limit,
        )
        return await _open_each(tx, workspace_id, rows, sealed=sealed)
    found = list[Row]()
    for session_id, after, until in stretches:
        values: dict[str, Value] = {"workspace": workspace_id, "id": session_id}
        tail = f"{_OF_SESSION} and seq > :after and seq <= :until and type like 'message.%' order by seq limit :limit"
        # A run says much between two messages.
        statement = "message_select_sparse" if until - after > limit else "message_select"
        found += await tx.select(statement, tail, values | {"after": after, "until": until, "limit": limit})
    return await _open_each(tx, workspace_id, found, sealed=sealed)


async def read_messages_at(
    tx: Tx, workspace_id: WorkspaceId, places: Sequence[tuple[SessionId, int]], *, sealed: bool
) -> list[StoredMessage]:
    """Return messages by session and seq, those that are there, in any order: for as many as fit in memory.

    `sealed`: nothing in the workspace may be in plain text.
    """
    if tx.takes_arrays:
        ids, seqs = [place[0] for place in places], [place[1] for place in places]
        rows = await tx.all("messages_at", workspace=workspace_id, ids=ids, seqs=seqs)
        return await _open_each(tx, workspace_id, rows, sealed=sealed)
    found = list[Row]()
    for session_id, seq in places:
        values: dict[str, Value] = {"workspace": workspace_id, "id": session_id, "seq": seq}
        found += await tx.select("message_select", f"{_OF_SESSION} and seq = :seq and type like 'message.%'", values)
    return await _open_each(tx, workspace_id, found, sealed=sealed)


async def read_messages_of_docs(
    tx: Tx,
    workspace_id: WorkspaceId,
    docs: Collection[int],
    *,
    session_id: str | None,
    user_id: str | None,
    agent_id: str | None,
    sealed: bool,
) -> list[StoredMessage]:
    """Return messages by their numbers in the index, in one round trip: `search.locate` and `read_messages_at`."""
    rows = await tx.all(
        "messages_of_docs",
        workspace=workspace_id,
        docs=list(docs) if tx.takes_arrays else msgspec.json.encode(list(docs)).decode(),
        session=session_id,
        user=user_id,
        agent=agent_id,
    )
    return await _open_each(tx, workspace_id, rows, sealed=sealed)


_OF_SESSION: Final = "where workspace_id = :workspace and session_id = :id"


async def _read_rows(
    tx: Tx,
    statement: str,
    session: Session,
    where: tuple[str, dict[str, Value]],
    *,
    descending: bool,
    limit: int,
    offset: int,
) -> tuple[Sequence[Row], bool]:
    """Return a page's rows, and whether there are more behind it."""
    condition, values = where
    values["limit"] = limit + 1
    tail = f"where {condition} order by seq {'desc' if descending else 'asc'} limit :limit"
    if offset:
        tail, values["offset"] = f"{tail} offset :offset", offset
    fitting = limit
    if _could_be_huge(session, limit):
        sizes = [size for _, size in await tx.select("event_size_select", tail, values)]
        fitting = count_fitting(sizes, limit)
        values["limit"] = fitting + 1
    rows = await tx.select(statement, tail, values)
    return rows[:fitting], len(rows) > fitting


def _is_sparse(session: Session) -> bool:
    """Whether so few events are messages that an index of them is worth its look-ups."""
    return session.message_count * 4 < session.last_seq


def _could_be_huge(session: Session, limit: int) -> bool:
    """Whether a page must be measured before it is read, which costs about half as much again."""
    return min(session.log_bytes, limit * session.largest_bytes) > PAGE_MAX_BYTES


async def _open(tx: Tx, session: Session, rows: Sequence[Row]) -> Sequence[Row]:
    """Return rows of a log, their last column being the body, with what is sealed opened.

    Raises:
        Damaged: a body was changed or moved, or put there in plain text; the message names the event.
    """
    if session.key_id is None and SEALED not in [row[-1][:1] for row in rows]:
        return rows
    await seals.prepare(tx, session.workspace_id, seals.sealed_keys([row[-1] for row in rows]))
    opened, state, ciphers = list[Row](), None, dict[bytes, Cipher]()
    for row in rows:
        seq, body = row[1], row[-1]
        if is_sealed(body):
            cipher = ciphers.get(head := body[:HEAD_BYTES])
            if cipher is None:
                place = "event", session.id, seq
                cipher = ciphers[head] = await seals.cipher_named(tx, session.workspace_id, body, *place)
            body = cipher.open(body, "event", session.id, seq)
        elif session.key_id is not None:
            # In plain text it may be if its turn to be sealed has not come; as its session is now, not as it was read.
            state = state or await tx.one("session_seal", workspace=session.workspace_id, id=session.id)
            if state is not None and state[0] is not None and (state[1] is None or seq > state[1]):
                raise damaged("event", session.id, seq)
        opened.append((*row[:-1], body))
    return opened


async def _open_each(tx: Tx, workspace_id: WorkspaceId, rows: Sequence[Row], *, sealed: bool) -> list[StoredMessage]:
    """Return rows of several logs as messages, with what is sealed opened.

    Raises:
        Damaged: as `_open`.
    """
    if not sealed and not any(row[-1][:1] == SEALED for row in rows):
        return [StoredMessage(*row) for row in rows]
    await seals.prepare(tx, workspace_id, seals.sealed_keys([row[-1] for row in rows]))
    found = list[StoredMessage]()
    for row in rows:
        message = StoredMessage(*row)
        if sealed and not is_sealed(message.body):
            raise damaged("event", message.session_id, message.seq)
        opened = await seals.open_any(tx, workspace_id, message.body, "event", message.session_id, message.seq)
        found.append(msgspec.structs.replace(message, body=opened))
    return found


def _where(
    session: Session, *, after: int | None, before: int | None, types: Sequence[str]
) -> tuple[str, dict[str, Value]]:
    where = ["workspace_id = :workspace", "session_id = :id"]
    values: dict[str, Value] = {"workspace": session.workspace_id, "id": session.id}
    if after is not None:
        where.append("seq > :after")
        values["after"] = after
    if before is not None:
        where.append("seq < :before")
        values["before"] = before
    options = []
    for number, wanted in enumerate(types):
        if wanted.endswith("*"):
            # Of what stands in a type only `_` has a meaning for `like`, which is any character.
            options.append(f"type like :type_{number} escape '!'")
            values[f"type_{number}"] = wanted[:-1].replace("_", "!_") + "%"
        else:
            options.append(f"type = :type_{number}")
            values[f"type_{number}"] = wanted
    if options:
        where.append(f"({' or '.join(options)})")
    return " and ".join(where), values
