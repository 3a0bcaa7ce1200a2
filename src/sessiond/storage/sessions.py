"""Sessions as rows: made, found, listed, counted, changed, removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from sessiond.core.errors import NotFound
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.limits import ID_MAX_CHARS, PAGE_MAX_BYTES, TEXT_MAX_CHARS
from sessiond.core.metadata import filterable
from sessiond.core.page import Position, SessionPage
from sessiond.core.session import Session, SessionFilter, Sort, Status
from sessiond.storage import events
from sessiond.storage.counts import read_total
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.pages import add_any_of, count_fitting
from sessiond.storage.slots import slot_of

SEARCH_TEXT_MAX_CHARS: Final = 3 * (ID_MAX_CHARS + 2 * TEXT_MAX_CHARS) + 2  # a folded character may be three
_STATUS: Final = {str(status): status for status in Status}
_STATUS_COLUMN: Final = Session.__struct_fields__.index("status")
_REGISTERED_COLUMN: Final = Session.__struct_fields__.index("agent_registered")


async def insert(tx: Tx, session: Session) -> Session | None:
    """Add a session, count it, and return it; None, and nothing happens, when its id is taken."""
    row = await tx.one("session_insert", **_columns(session))
    if row is None:
        return None
    if _details_bytes(session):
        await _put_details(tx, session)
        await tx.each("session_metadata_insert", _metadata_rows(session))
    _tally(tx, session, 1)
    return msgspec.structs.replace(session, agent_registered=_as_bool(row[0]))


async def begin_restoring(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> bool:
    """Make room for a session that is to come from elsewhere: before its events and runs, which come before it.

    Removes up to `limit` of each kind of what an attempt has left that was broken off; whether that was all. Nothing
    where the session is there by now.
    """
    # Else it could be whole in the next moment, with what is removed here.
    await tx.one("workspace_lock", workspace=workspace_id)
    if await lock(tx, workspace_id, session_id):
        return True
    of_it: dict[str, Value] = {"workspace": workspace_id, "session": session_id, "limit": limit}
    left = await events.remove_some(tx, workspace_id, session_id, limit=limit)
    for statement in ("runs_delete_some", "waits_delete_some"):
        left = max(left, len(await tx.all(statement, **of_it)))
    return left < limit


async def has_left(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> bool:
    """Whether something is there of a session that is not."""
    row = await tx.one("session_has_left", workspace=workspace_id, session=session_id)
    assert row is not None
    return bool(row[0])


async def count_restored(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> tuple[int, int, int]:
    """Return how many events, runs and waits there are of a session; nobody removes any until it is there."""
    await tx.one("workspace_lock", workspace=workspace_id)
    row = await tx.one("session_restored", workspace=workspace_id, session=session_id)
    assert row is not None
    return row[0], row[1], row[2]


async def restore(tx: Tx, session: Session, *, open_runs: int) -> bool:
    """Add a session whose log and runs are there, and with that show it; False when its id is taken.

    Nobody works on its runs until it is `runs.schedule`d.
    """
    if await insert(tx, session) is None:
        return False
    if open_runs:
        await tx.run("session_open_runs_set", workspace=session.workspace_id, id=session.id, n=open_runs)
    tx.wake(session.workspace_id, session.id)
    return True


async def read_ids(
    tx: Tx, workspace_id: WorkspaceId, *, agent_id: str | None, user_id: str | None, after: str, until: str, limit: int
) -> list[str]:
    """Return up to `limit` ids of sessions, in their order, from behind `after` to `until`."""
    asked: dict[str, Value] = {"workspace": workspace_id, "agent": agent_id, "user": user_id}
    rows = await tx.all("session_ids", **asked, after=after, until=until, limit=limit)
    return [row[0] for row in rows]


async def find_last_id(tx: Tx, workspace_id: WorkspaceId, *, agent_id: str | None, user_id: str | None) -> str | None:
    """Return the id that comes last in the order of ids; None when there is no session."""
    row = await tx.one("session_last_id", workspace=workspace_id, agent=agent_id, user=user_id)
    return row[0] if row is not None else None


async def find(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, user_id: str | None) -> Session | None:
    """Return the session, or None when the workspace has none of that id, or when it is not `user_id`'s."""
    row = await tx.one("session_get", workspace=workspace_id, id=session_id, user=user_id)
    return _row_to_session(row) if row is not None else None


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


async def take(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, user_id: str | None) -> Session:
    """Return the session and keep it from changing until this transaction ends.

    Raises:
        NotFound: as `get`.
    """
    # Locked first, read then: in one statement PostgreSQL would wait for the session but show its details, which are
    # joined to it, as they were before the wait.
    if not await lock(tx, workspace_id, session_id):
        raise NotFound("no such session")
    return await get(tx, workspace_id, session_id, user_id=user_id)


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
    if (before.metadata, before.data, before.prompt) != (after.metadata, after.data, after.prompt):
        await _put_details(tx, after)
    if before.metadata != after.metadata:
        await tx.each("session_metadata_delete", _metadata_rows(before))
        await tx.each("session_metadata_insert", _metadata_rows(after))
    _tally(tx, before, -1)
    _tally(tx, after, 1)
    if after.agent_id == before.agent_id:
        return after
    registered = await tx.one("agent_get", workspace=after.workspace_id, id=after.agent_id) is not None
    return msgspec.structs.replace(after, agent_registered=registered if after.agent_id is not None else None)


async def delete(tx: Tx, session: Session) -> None:
    """Remove a session that was taken, with its log."""
    await tx.each("session_metadata_delete", _metadata_rows(session))
    for statement in ("session_details_delete", "event_delete_all", "session_delete"):
        await tx.run(statement, workspace=session.workspace_id, id=session.id)
    _tally(tx, session, -1)


async def read_expired(tx: Tx, *, now_us: int, limit: int) -> list[tuple[WorkspaceId, str]]:
    """Return open sessions of all workspaces whose time is over, the first first."""
    return [(row[0], row[1]) for row in await tx.all("sessions_expired", now_us=now_us, limit=limit)]


async def find_next_expiry(tx: Tx) -> int | None:
    row = await tx.one("sessions_next_expiry")
    return row[0] if row is not None else None


async def read_kept_long(tx: Tx, workspace_id: WorkspaceId, *, before_us: int, limit: int) -> list[str]:
    """Return sessions that ended before a time, the first first."""
    rows = await tx.all("sessions_kept_long", workspace=workspace_id, before_us=before_us, limit=limit)
    return [row[0] for row in rows]


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
    where, values = _where(workspace_id, wanted)
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
    found = [_row_to_session(row) for row in rows[:fitting]]
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
    where, parameters = _where(workspace_id, wanted)
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


def _where(workspace_id: WorkspaceId, wanted: SessionFilter) -> tuple[list[str], dict[str, Value]]:
    where, values = ["s.workspace_id = :workspace"], dict[str, Value](workspace=workspace_id)
    add_any_of(where, values, "id", wanted.ids, table="s")
    add_any_of(where, values, "agent_id", wanted.agent_ids, table="s")
    add_any_of(where, values, "user_id", wanted.user_ids, table="s")
    add_any_of(where, values, "task_id", wanted.task_ids, table="s")
    add_any_of(where, values, "status", [str(status) for status in wanted.statuses], table="s")
    for number, (key, value) in enumerate(wanted.metadata):  # the names are ours, the values are parameters
        values |= {f"key_{number}": key, f"value_{number}": value}
        where.append(
            "exists (select 1 from session_metadata m where m.workspace_id = s.workspace_id"
            f" and m.key = :key_{number} and m.value = :value_{number}"
            " and m.created_at_us = s.created_at_us and m.session_id = s.id)"
        )
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


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _search_text(session: Session) -> str:
    parts = (session.id, session.user_name, session.user_email)
    return "\n".join(part for part in parts if part is not None).casefold()


def _row_to_session(row: Row) -> Session:
    columns = [*row]
    columns[_STATUS_COLUMN] = _STATUS[columns[_STATUS_COLUMN]]
    columns[_REGISTERED_COLUMN] = _as_bool(columns[_REGISTERED_COLUMN])
    return Session(*columns)


def _as_bool(value: int | None) -> bool | None:
    return bool(value) if value is not None else None


def _details_bytes(session: Session) -> int:
    prompt = session.prompt.encode() if session.prompt is not None else None
    # One more for each that is there: an empty prompt is not none.
    return sum(len(detail) + 1 for detail in (session.metadata, session.data, prompt) if detail is not None)


def _columns(session: Session) -> dict[str, Any]:
    """Return the session's row; what is wide is not in it."""
    columns = msgspec.structs.asdict(session)
    for elsewhere in ("metadata", "data", "prompt", "agent_registered"):
        del columns[elsewhere]
    columns["workspace"] = columns.pop("workspace_id")
    columns["status"] = str(session.status)
    columns["search_text"] = _search_text(session)
    columns["details_bytes"] = _details_bytes(session)
    columns["updated_slot"] = slot_of(session.updated_at_us)
    return columns


async def _put_details(tx: Tx, session: Session) -> None:
    await tx.run(
        "session_details_put",
        workspace=session.workspace_id,
        id=session.id,
        metadata=session.metadata,
        data=session.data,
        prompt=session.prompt,
    )


def _metadata_rows(session: Session) -> list[dict[str, Value]]:
    return [
        {
            "workspace": session.workspace_id,
            "key": key,
            "value": value,
            "created_at_us": session.created_at_us,
            "id": session.id,
        }
        for key, value in filterable(session.metadata).items()
    ]


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
