"""Lists of sessions by what is sealed in them: who is searched for by name, and in whose order.

No database can look there. So all that may match, by keyed hashes of parts of their names, are opened, a few at a time,
and only what they are sorted by is kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from sessiond.core.ids import WorkspaceId
from sessiond.core.limits import PAGE_MAX_BYTES
from sessiond.core.page import Position, SessionPage, position_of
from sessiond.core.session import Session, SessionFilter, Sort
from sessiond.storage import seals, search_names, sessions
from sessiond.storage.engine import Tx
from sessiond.storage.pages import count_fitting

CHUNK: Final = 50  # opened together: each may hold a MiB of data
_NAMED: Final = (Sort.USER_NAME, Sort.USER_EMAIL)

Place = tuple[int | str, str]
"""What a session is sorted by, and its id."""


async def applies(tx: Tx, workspace_id: WorkspaceId, wanted: SessionFilter, sort: Sort) -> bool:
    """Whether a list cannot be had from the database alone."""
    if wanted.query is None and sort not in _NAMED:
        return False
    state = await seals.read_state(tx, workspace_id)
    return state.key_id is not None or state.changing


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
) -> SessionPage:
    """Return a page as `sessions.read_page` does, and how many sessions the list has."""
    places = sorted(await _find_places(tx, workspace_id, wanted, sort), reverse=descending)
    start, stop = offset, offset + limit
    if position is not None:
        start, stop = _window(places, position, limit=limit, descending=descending)
    if position is not None and position.backwards:
        found = (await _read_fitting(tx, workspace_id, places[start:stop][::-1]))[::-1]
        start = stop - len(found)
    else:
        found = await _read_fitting(tx, workspace_id, places[start:stop])
        stop = start + len(found)
    return SessionPage(sessions=found, more_after=stop < len(places), more_before=start > 0, total=len(places))


async def _find_places(tx: Tx, workspace_id: WorkspaceId, wanted: SessionFilter, sort: Sort) -> list[Place]:
    places = dict[str, Place]()
    part = wanted.query.casefold() if wanted.query is not None else None
    async for chunk in _candidates(tx, workspace_id, wanted, part):
        for session in chunk:
            if part is None or part in sessions.search_text(session):
                at = position_of(session, sort, descending=False)
                places[at.id] = (at.value, at.id)
    return list(places.values())


async def _candidates(
    tx: Tx, workspace_id: WorkspaceId, wanted: SessionFilter, part: str | None
) -> AsyncIterator[list[Session]]:
    """Yield the sessions that may match, a few at a time, some of them perhaps twice."""
    anybody = msgspec.structs.replace(wanted, query=None)
    keys = await seals.read_index_keys(tx, workspace_id) if part is not None else []
    named = None
    if part is not None:
        named = await search_names.find_named(tx, workspace_id, keys, part, limit=CHUNK)
    if named is None:
        async for chunk in _read_through(tx, workspace_id, anybody):
            yield chunk
        return
    # By its id, or by its names where they are in plain text still.
    async for chunk in _read_through(tx, workspace_id, wanted):
        yield chunk
    while named:
        ids = tuple(each for each in named if not wanted.ids or each in wanted.ids)
        if ids:
            where, values = await sessions.conditions(tx, workspace_id, msgspec.structs.replace(anybody, ids=ids))
            yield await sessions.read_each(tx, workspace_id, f"where {' and '.join(where)}", values)
        if len(named) < CHUNK:
            return
        named = await search_names.find_named(tx, workspace_id, keys, part or "", after=named[-1], limit=CHUNK)


async def _read_through(tx: Tx, workspace_id: WorkspaceId, wanted: SessionFilter) -> AsyncIterator[list[Session]]:
    where, values = await sessions.conditions(tx, workspace_id, wanted)
    tail, after = f"where {' and '.join([*where, 's.id > :after_id'])} order by s.id limit :limit", ""
    while True:
        found = await sessions.read_each(tx, workspace_id, tail, {**values, "after_id": after, "limit": CHUNK})
        yield found
        if len(found) < CHUNK:
            return
        after = found[-1].id


def _window(places: list[Place], position: Position, *, limit: int, descending: bool) -> tuple[int, int]:
    """Return where a page begins and ends that is behind, or before, a place."""
    ascending = places[::-1] if descending else places
    at: Place = (position.value, position.id)
    behind = bisect_right(ascending, at)
    there = behind > 0 and ascending[behind - 1] == at
    if descending:
        first_after, end_before = len(places) - behind + there, len(places) - behind
    else:
        first_after, end_before = behind, behind - there
    return (max(0, end_before - limit), end_before) if position.backwards else (first_after, first_after + limit)


async def _read_fitting(tx: Tx, workspace_id: WorkspaceId, places: list[Place]) -> list[Session]:
    """Return sessions in the order of their places: as many as fit in memory, and at least one."""
    read, size = list[Session](), 0
    for start in range(0, len(places), CHUNK):
        wanted = SessionFilter(ids=tuple(session_id for _, session_id in places[start : start + CHUNK]))
        where, values = await sessions.conditions(tx, workspace_id, wanted)
        chunk = await sessions.read_each(tx, workspace_id, f"where {' and '.join(where)}", values)
        by_id: dict[str, Session] = {each.id: each for each in chunk}
        read += [by_id[each] for each in wanted.ids if each in by_id]
        size += sum(map(_size, chunk))
        if size > PAGE_MAX_BYTES:
            break
    return read[: count_fitting(map(_size, read), len(places))]


def _size(session: Session) -> int:
    return len(session.metadata or b"") + len(session.data or b"") + len((session.prompt or "").encode())
