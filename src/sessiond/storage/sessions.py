"""Sessions as rows: made, found, listed, counted, changed, removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from sessiond.core.errors import NotFound, Unavailable
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.limits import ID_MAX_CHARS, PAGE_MAX_BYTES, TEXT_MAX_CHARS
from sessiond.core.page import Position, SessionPage
from sessiond.core.session import Session, SessionFilter, Sort, Status
from sessiond.crypto import make_key_id
from sessiond.storage import events, metadata_index, seals, search_names, trash
from sessiond.storage.counts import read_total
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.pages import add_any_of, count_fitting
from sessiond.storage.slots import slot_of
from sessiond.storage.trash import Trash
from sessiond.storage.vault import damaged

SEARCH_TEXT_MAX_CHARS: Final = 3 * (ID_MAX_CHARS + 2 * TEXT_MAX_CHARS) + 2  # a folded character may be three
GOES_AT_ONCE_EVENTS: Final = 500  # of a log that is deleted: they hold up other writers for some milliseconds
NAMES: Final = ("name", "user_name", "user_email")
DETAILS: Final = (*NAMES, "metadata", "data", "prompt")
"""What is sealed of a session, in this order."""

_Details = tuple[str | None, str | None, str | None, bytes | None, bytes | None, str | None]
_encoder: Final = msgspec.msgpack.Encoder()
_get_details: Final = attrgetter(*DETAILS)
_unpack_details: Final = msgspec.msgpack.Decoder(_Details).decode
_STATUS: Final = {str(status): status for status in Status}
_STATUS_COLUMN: Final = Session.__struct_fields__.index("status")
_REGISTERED_COLUMN: Final = Session.__struct_fields__.index("agent_registered")
_KEY_COLUMN: Final = Session.__struct_fields__.index("key_id")


async def insert(tx: Tx, session: Session) -> Session | None:
    """Add a session, count it, and return it, with its key; None, and nothing stays, when its id is taken.

    Its log begins in the same transaction.

    Raises:
        Unavailable: the log of one that had its id is still being removed.
    """
    # What seals new sessions hardly ever changes: the statement itself finds out, and spares a look at it before.
    under = tx.vault.newest.get(session.workspace_id)
    while (inserted := await _insert(tx, session, under)) is None:
        state = await seals.read_state(tx, session.workspace_id)
        if state.key_id == under:
            return None
        under = tx.vault.newest[session.workspace_id] = state.key_id
    return inserted


async def _insert(tx: Tx, session: Session, under: int | None) -> Session | None:
    """Add a session with a key of its own under a workspace's, or in plain text; None if its id or that is wrong."""
    has_key = session.key_id is not None  # from when its content came
    if under is not None and not has_key:
        session = msgspec.structs.replace(session, key_id=make_key_id())
    row = await tx.one("session_insert", **_columns(session), key_id=session.key_id, under=under)
    if row is None:
        if await trash.has(tx, session.workspace_id, trash.SESSION, session.id):
            raise Unavailable(events.BEING_REMOVED, retry_after_seconds=events.REMOVAL_SECONDS)
        return None
    if session.key_id is not None and not has_key:
        await seals.make_session_key(
            tx,
            session.workspace_id,
            session.key_id,
            session_id=session.id,
            under=under,
            at_us=session.created_at_us,
        )
    if _has_details(session):
        await put_details(tx, session)
        await metadata_index.put(tx, session)
        await _put_names(tx, session)
    _tally(tx, session, 1)
    return msgspec.structs.replace(session, agent_registered=_as_bool(row[0]))


async def find(
    tx: Tx, workspace_id: WorkspaceId, session_id: str, *, user_id: str | None, opens: bool = True
) -> Session | None:
    """Return the session, or None when the workspace has none of that id, or when it is not `user_id`'s.

    Without `opens` what is sealed of it is missing: enough to remove it, also when it cannot be opened.
    """
    row = await tx.one("session_get", workspace=workspace_id, id=session_id, user=user_id)
    if row is None:
        return None
    return await _open_session(tx, row) if opens else _to_session(row)


async def get(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, user_id: str | None) -> Session:
    """Return the session.

    Raises:
        NotFound: the workspace has none of that id, or it is not `user_id`'s.
    """
    session = await find(tx, workspace_id, session_id, user_id=user_id)
    if session is None:
        # Another workspace's session looks just the same: its existence is not the caller's to know.
        raise NotFound("no such session")
    return session


async def glance(tx: Tx, session: Session, *, user_id: str | None) -> Session | None:
    """Return what has become of a session's log since it was read; None when it is gone, or another's by now."""
    row = await tx.one("session_glance", workspace=session.workspace_id, id=session.id, user=user_id)
    if row is None or row[1] != session.created_at_us:
        return None
    return msgspec.structs.replace(session, last_seq=row[0], log_bytes=row[2], largest_bytes=row[3])


async def take(
    tx: Tx, workspace_id: WorkspaceId, session_id: str, *, user_id: str | None, opens: bool = True
) -> Session:
    """Return the session and keep it from changing until this transaction ends.

    Without `opens` what is sealed of it is missing: enough to remove it, also when it cannot be opened.

    Raises:
        NotFound: as `get`.
    """
    # Locked first, read then: in one statement PostgreSQL would wait for the session but show its details, which are
    # joined to it, as they were before the wait.
    if not await lock(tx, workspace_id, session_id):
        raise NotFound("no such session")
    session = await find(tx, workspace_id, session_id, user_id=user_id, opens=opens)
    if session is None:
        raise NotFound("no such session")
    return session


async def lock(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> bool:
    """Keep a session from changing until this transaction ends; False when there is none."""
    return await tx.one("session_lock", workspace=workspace_id, id=session_id) is not None


async def lock_free(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> bool:
    """Like `lock`, but False, without waiting, when somebody else has it in hand."""
    return await tx.one("session_lock_free", workspace=workspace_id, id=session_id) is not None


async def lock_free_each(tx: Tx, places: Collection[tuple[WorkspaceId, SessionId]]) -> set[tuple[str, str]]:
    """Like `lock_free`, for many; return those that are in hand now."""
    in_order = sorted(places)
    if not tx.takes_arrays:
        return {place for place in in_order if await lock_free(tx, *place)}
    workspaces, ids = [place[0] for place in in_order], [place[1] for place in in_order]
    rows = await tx.all("sessions_lock_free_each", workspaces=workspaces, ids=ids) if places else []
    return {(row[0], row[1]) for row in rows}


async def save(tx: Tx, before: Session, after: Session) -> Session:
    """Write what differs between a session that was taken and what it becomes, keep the totals right, and return it."""
    columns = _columns(after)
    for fixed in ("created_at_us", "parent", "prompt_tokens", "completion_tokens"):
        del columns[fixed]
    row = await tx.one("session_update", **columns)
    if row is not None and row[0] and after.last_seq > before.last_seq:
        await events.tell_waits(tx, after.workspace_id, after.id)
    if _wide(before) != _wide(after):
        await put_details(tx, after)
    if before.metadata != after.metadata:
        await metadata_index.drop(tx, before)
        await metadata_index.put(tx, after)
    if (before.user_name, before.user_email) != (after.user_name, after.user_email):
        await _put_names(tx, after)
    _tally(tx, before, -1)
    _tally(tx, after, 1)
    if after.agent_id == before.agent_id:
        return after
    registered = await tx.one("agent_get", workspace=after.workspace_id, id=after.agent_id) is not None
    return msgspec.structs.replace(after, agent_registered=registered if after.agent_id is not None else None)


async def delete(tx: Tx, session: Session, *, leaves: bool = False, erasure_id: str | None = None) -> None:
    """Remove a session that was taken, open or not. Nobody can read its log any more: it goes too, or into the trash.

    `leaves`: something else is left of it, to be removed a piece at a time.
    """
    place = {"workspace": session.workspace_id, "id": session.id}
    await metadata_index.drop(tx, session)
    for statement in ("session_details_delete", "session_delete"):
        await tx.run(statement, **place)
    _tally(tx, session, -1)
    if session.last_seq <= GOES_AT_ONCE_EVENTS and session.log_bytes <= PAGE_MAX_BYTES:
        await tx.run("event_delete_until", **place, seq=session.last_seq)
    else:
        leaves = True
    # What is left of it nobody can open any more; outputs of its runs stay, and with them the key that they have.
    await seals.destroy_unused(tx, session.workspace_id, session.id)
    if leaves:
        await trash.put(tx, Trash(session.workspace_id, trash.SESSION, session.id, erasure_id))


async def count_all(tx: Tx, workspace_id: WorkspaceId) -> int:
    """Return how many sessions a workspace has, as it is kept."""
    return await read_total(tx, workspace_id, "all", ("",))


async def read_page(
    tx: Tx,
    workspace_id: WorkspaceId,
    wanted: SessionFilter,
    *,
    sort: Sort,
    descending: bool,
    limit: int,
    offset: int = 0,
    position: Position | None = None,
    most_bytes: int = PAGE_MAX_BYTES,
) -> SessionPage | None:
    """Return up to `limit` sessions in order, from `position` on or `offset` in.

    A page ends early, but not empty, rather than hold more than `PAGE_MAX_BYTES`. None when it would hold more than
    `most_bytes`, where that is less: read it where it holds up nobody.
    """
    backwards = position is not None and position.backwards
    where, values = await conditions(tx, workspace_id, wanted)
    down = descending != backwards
    if position is not None:
        where += _beyond(position, values, down=down)
    values |= {"limit": limit + 1, "offset": offset}
    tail = f"where {' and '.join(where)} order by {_order(sort, down=down)} limit :limit offset :offset"
    sizes = [row[0] for row in await tx.select("session_size_select", tail, values)]
    if sum(sizes[:limit]) > most_bytes < PAGE_MAX_BYTES:
        return None
    fitting = count_fitting(sizes, limit)
    values["limit"] = fitting + 1
    rows = await tx.select("session_select", tail, values)
    found = await _to_sessions(tx, workspace_id, rows[:fitting])
    more = len(rows) > fitting
    if backwards:
        return SessionPage(sessions=found[::-1], more_after=True, more_before=more)
    return SessionPage(sessions=found, more_after=more, more_before=position is not None or offset > 0)


def in_order_of_an_index(wanted: SessionFilter | None, sort: Sort) -> bool:
    """Whether a page touches no more rows than it has: an index has what is wanted, in order, and the total is kept."""
    if wanted is None:
        return True
    single = [wanted.agent_ids, wanted.user_ids, wanted.task_ids, wanted.statuses]
    narrow = sum(map(len, single)) <= 1 and not wanted.metadata and not wanted.ids
    whole = wanted.created_after_us is None and wanted.created_before_us is None
    return sort is Sort.CREATED and narrow and whole and wanted.query is None


async def count(tx: Tx, workspace_id: WorkspaceId, wanted: SessionFilter) -> int:
    """Return how many sessions match: kept where at most one field is asked for, else counted through an index."""
    fields = {
        "agent": wanted.agent_ids,
        "user": wanted.user_ids,
        "task": wanted.task_ids,
        "status": tuple(str(status) for status in wanted.statuses),
    }
    asked = {field: values for field, values in fields.items() if values}
    kept = wanted.query is None and not wanted.ids and not wanted.metadata
    if kept and len(asked) <= 1 and wanted.created_after_us is None and wanted.created_before_us is None:
        field, values = next(iter(asked.items()), ("all", ("",)))
        return await read_total(tx, workspace_id, field, dict.fromkeys(values))
    where, parameters = await conditions(tx, workspace_id, wanted)
    rows = await tx.select("session_count_select", f"where {' and '.join(where)}", parameters)
    total: int = rows[0][0]
    return total


_SORT_COLUMNS: Final = {
    Sort.CREATED: "s.created_at_us",
    Sort.UPDATED: "s.updated_at_us",
    # Alike on both engines, where they would put what is null at different ends.
    Sort.USER_NAME: "coalesce(s.user_name, '')",
    Sort.USER_EMAIL: "coalesce(s.user_email, '')",
}


def _order(sort: Sort, *, down: bool) -> str:
    direction = "desc" if down else "asc"
    columns = [_SORT_COLUMNS[sort], "s.id"]
    if sort is Sort.UPDATED:
        columns.insert(0, "s.updated_slot")  # the same order, and the one there is an index for
    return ", ".join(f"{column} {direction}" for column in columns)


def _beyond(position: Position, values: dict[str, Value], *, down: bool) -> list[str]:
    values |= {"at": position.value, "at_id": position.id}
    sign = "<" if down else ">"
    beyond = [f"({_SORT_COLUMNS[position.sort]}, s.id) {sign} (:at, :at_id)"]
    if position.sort is Sort.UPDATED:
        values["at_slot"] = slot_of(int(position.value))
        beyond.append(f"s.updated_slot {sign}= :at_slot")
    return beyond


async def conditions(tx: Tx, workspace_id: WorkspaceId, wanted: SessionFilter) -> tuple[list[str], dict[str, Value]]:
    """Return what rows must fulfil, and its parameters. Of a sealed session a `query` sees the id only."""
    where, values = ["s.workspace_id = :workspace"], dict[str, Value](workspace=workspace_id)
    add_any_of(where, values, "id", wanted.ids, table="s")
    add_any_of(where, values, "agent_id", wanted.agent_ids, table="s")
    add_any_of(where, values, "user_id", wanted.user_ids, table="s")
    add_any_of(where, values, "task_id", wanted.task_ids, table="s")
    add_any_of(where, values, "status", [str(status) for status in wanted.statuses], table="s")
    for number, options in enumerate(await metadata_index.options(tx, workspace_id, wanted.metadata)):
        anything = []
        for option, (key, value) in enumerate(options):  # the names are ours, the values are parameters
            values |= {f"key_{number}_{option}": key, f"value_{number}_{option}": value}
            anything.append(
                "exists (select 1 from session_metadata m where m.workspace_id = s.workspace_id"
                f" and m.key = :key_{number}_{option} and m.value = :value_{number}_{option}"
                " and m.created_at_us = s.created_at_us and m.session_id = s.id)"
            )
        where.append(f"({' or '.join(anything)})")
    if wanted.created_after_us is not None:
        values["after_us"] = wanted.created_after_us
        where.append("s.created_at_us > :after_us")
    if wanted.created_before_us is not None:
        values["before_us"] = wanted.created_before_us
        where.append("s.created_at_us < :before_us")
    if wanted.query is not None:
        part = wanted.query.casefold()
        if len(part) > SEARCH_TEXT_MAX_CHARS:
            where.append("false")  # nothing is as long; and SQLite refuses patterns of 50,000 bytes
        else:
            values["pattern"] = f"%{_escape_like(part)}%"
            where.append(r"s.search_text like :pattern escape '\'")
    return where, values


async def read_each(tx: Tx, workspace_id: WorkspaceId, where: str, values: Mapping[str, Value]) -> list[Session]:
    """Return the sessions that fulfil a condition: its caller bounds how many."""
    return await _to_sessions(tx, workspace_id, await tx.select("session_select", where, values))


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def search_text(session: Session, *, sealed: bool = False) -> str:
    """Return what a partial match looks in, for `sealed` ones in the id only."""
    parts = (session.id,) if sealed else (session.id, session.user_name, session.user_email)
    return "\n".join(part for part in parts if part is not None).casefold()


async def _to_sessions(tx: Tx, workspace_id: WorkspaceId, rows: Sequence[Row]) -> list[Session]:
    """Return rows as sessions, with what is sealed opened.

    Raises:
        Damaged: it was changed or moved; the message names the session.
    """
    await seals.prepare(tx, workspace_id, [row[_KEY_COLUMN] for row in rows])
    return [await _open_session(tx, row) if row[_KEY_COLUMN] is not None else _to_session(row) for row in rows]


async def _open_session(tx: Tx, row: Row) -> Session:
    session = _to_session(row)
    return session if session.key_id is None else await _open_details(tx, session, row[-2], row[-1])


def _to_session(row: Row) -> Session:
    """Return a row as a session, without what is sealed of it."""
    columns = [*row[:-2]]
    columns[_STATUS_COLUMN] = _STATUS[columns[_STATUS_COLUMN]]
    columns[_REGISTERED_COLUMN] = _as_bool(columns[_REGISTERED_COLUMN])
    return Session(*columns)


async def _open_details(tx: Tx, session: Session, sealed: bytes | None, size: int) -> Session:
    # In plain text, where nobody looks for it; or gone, and the session's row says that there is some.
    if _has_details(session) or (sealed is None and size):
        raise damaged("session", session.id)
    details = await seals.open_with(tx, session.workspace_id, session.key_id, sealed, "session", session.id)
    if details is None:
        return session
    try:
        values = _unpack_details(details)
    except msgspec.DecodeError as error:
        raise damaged("session", session.id) from error
    return msgspec.structs.replace(session, **dict(zip(DETAILS, values, strict=True)))


def _as_bool(value: int | None) -> bool | None:
    return bool(value) if value is not None else None


def _details_bytes(session: Session) -> int:
    prompt = session.prompt.encode() if session.prompt is not None else None
    # One more for each that is there: an empty prompt is not none.
    size = sum(len(detail) + 1 for detail in (session.metadata, session.data, prompt) if detail is not None)
    return size or int(session.key_id is not None and _has_details(session))


def _has_details(session: Session) -> bool:
    """Whether a session has anything of what is kept apart, or sealed."""
    wide = _wide(session)
    return wide.count(None) < len(wide)


def _wide(session: Session) -> tuple[object, ...]:
    if session.key_id is None:
        return session.metadata, session.data, session.prompt
    found: tuple[object, ...] = _get_details(session)
    return found


def _columns(session: Session) -> dict[str, Any]:
    """Return the session's row; what is wide is not in it."""
    columns = msgspec.structs.asdict(session)
    for elsewhere in ("metadata", "data", "prompt", "agent_registered", "key_id"):
        del columns[elsewhere]
    if session.key_id is not None:
        columns |= dict.fromkeys(NAMES)
    columns["workspace"] = columns.pop("workspace_id")
    columns["status"] = str(session.status)
    columns["search_text"] = search_text(session, sealed=session.key_id is not None)
    columns["details_bytes"] = _details_bytes(session)
    columns["updated_slot"] = slot_of(session.updated_at_us)
    return columns


async def rekey(tx: Tx, session: Session, *, resealing_seq: int) -> None:
    """Write a session in hand that has got another key, or none, whose metadata cannot be found any more.

    Events up to `resealing_seq` are still kept as before.
    """
    columns = _columns(session)
    await tx.run(
        "session_rekey",
        workspace=session.workspace_id,
        id=session.id,
        key_id=session.key_id,
        resealing_seq=resealing_seq,
        **{name: columns[name] for name in (*NAMES, "search_text", "details_bytes")},
    )
    await put_details(tx, session)
    await metadata_index.put(tx, session)
    await search_names.drop(tx, session.workspace_id, session.id)
    await _put_names(tx, session)


async def _put_names(tx: Tx, session: Session) -> None:
    """Have a sealed session be found by a part of its user's name or e-mail; a plain one's stand in its row."""
    if session.key_id is None:
        return
    parent = (await seals.cipher_of(tx, session.workspace_id, session.key_id)).parent
    named = "\n".join(part for part in (session.user_name, session.user_email) if part is not None)
    await search_names.put_names(tx, seals.index_key(parent), session, named)


async def put_details(tx: Tx, session: Session) -> None:
    """Write what is wide of a session, or, of one that has a key, all that is sealed."""
    plain, sealed = session, None
    if session.key_id is not None:
        plain = msgspec.structs.replace(session, metadata=None, data=None, prompt=None)
        packed = _encoder.encode(_wide(session)) if _has_details(session) else None
        sealed = await seals.seal_with(tx, session.workspace_id, session.key_id, packed, "session", session.id)
    await tx.run(
        "session_details_put",
        workspace=session.workspace_id,
        id=session.id,
        metadata=plain.metadata,
        data=plain.data,
        prompt=plain.prompt,
        sealed=sealed,
    )


def _tally(tx: Tx, session: Session, n: int) -> None:
    values = {
        "all": "",
        "agent": session.agent_id,
        "user": session.user_id,
        "task": session.task_id,
        "status": str(session.status),
    }
    for field, value in values.items():
        if value is not None:
            tx.tally(session.workspace_id, field, value, n, of=session.id)


def total_bytes(sessions: Iterable[Session]) -> int:
    """Return how much the logs of `sessions` hold, so that a reader knows before whether they fit in memory."""
    return sum(session.log_bytes for session in sessions)
