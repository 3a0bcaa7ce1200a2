"""Runs as rows, and the queue that each session is: the session's row says when something is due and who does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.run import Failure, Run, RunFilter, RunPage, RunStatus
from sessiond.storage import seals
from sessiond.storage.engine import Row, Tx, Value, Watched
from sessiond.storage.pages import add_any_of, page_tail, read_fitting

DUE: Final[Watched] = (WorkspaceId(""), SessionId("due"))
"""What workers watch: some session has something to do. No workspace has an empty id."""
OPEN_PAGE: Final = 50  # runs of a queue that are read at once: what each was told may be a MiB


class Answering(msgspec.Struct, frozen=True):
    """Where in the log a run stands, and what it answers. The order of the fields is that of `runs_before`."""

    id: str
    queued_seq: int
    input_seq: int
    ended_seq: int | None


DELETED: Final = msgspec.json.encode(Failure("cancelled", "the session was deleted"))
"""The error of runs whose session was deleted before they had ended."""
SEALED: Final = ("input", "output", "error", "ask", "answer")

_STATUS: Final = {str(status): status for status in RunStatus}
_STATUS_COLUMN: Final = Run.__struct_fields__.index("status")
_KEY_COLUMN: Final = Run.__struct_fields__.index("key_id")
_FIXED: Final = ("session_id", "agent_id", "user_id", "queued_seq", "input_seq", "input", "actor", "retry_of")


async def insert(tx: Tx, run: Run, *, now_us: int) -> None:
    """Add a run to its session's queue, and tell the workers. `now_us` is the database's clock."""
    await tx.run("run_insert", **await _columns(tx, run))
    assert run.session_id is not None
    await schedule(tx, run.workspace_id, run.session_id, opened=1, now_us=now_us)


async def restore(tx: Tx, found: Sequence[Run]) -> None:
    """Add runs as they were elsewhere, of sessions that are not there yet or not any more."""
    rows = list[dict[str, Value]]()
    for run in found:
        key_id = await seals.key_for(tx, run.workspace_id, run.session_id)
        rows.append(await _columns(tx, msgspec.structs.replace(run, key_id=key_id)))
    await tx.each("run_insert", rows)


async def schedule(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId, *, opened: int = 0, now_us: int) -> None:
    """Settle when a session is due, after its runs or its status changed.

    `opened` is how many of its runs were added, less those that ended; the session's new status is in its row already.
    """
    row = await tx.one("session_schedule", workspace=workspace_id, id=session_id, opened=opened, now_us=now_us)
    if row is not None and row[0] is not None:
        tx.wake(*DUE)


async def save(tx: Tx, run: Run) -> None:
    """Write what may change of a run."""
    columns = await _columns(tx, run)
    for fixed in (*_FIXED, "created_at_us", "key_id"):
        del columns[fixed]
    await tx.run("run_update", **columns)


async def find(tx: Tx, workspace_id: WorkspaceId, run_id: str, *, user_id: str | None) -> Run | None:
    """Return the run, or None when the workspace has none of that id, or when it is not of `user_id`'s session."""
    row = await tx.one("run_get", workspace=workspace_id, id=run_id, user=user_id)
    return await _row_to_run(tx, row) if row is not None else None


async def count_open(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId) -> int:
    row = await tx.one("session_open_runs", workspace=workspace_id, id=session_id)
    return row[0] if row is not None else 0


async def read_open(
    tx: Tx, workspace_id: WorkspaceId, session_id: SessionId, *, after: int = 0, limit: int = OPEN_PAGE
) -> list[Run]:
    """Return up to `limit` of a session's runs that have not ended, first the one whose turn it is.

    `after` is the `queued_seq` of the last that was read.
    """
    rows = await tx.all("runs_open", workspace=workspace_id, session=session_id, after=after, limit=limit)
    return [await _row_to_run(tx, row) for row in rows]


async def read_before(
    tx: Tx, workspace_id: WorkspaceId, session_id: SessionId, *, seq: int, limit: int
) -> list[Answering]:
    """Return up to `limit` of the last runs that were queued up to `seq`, in their order."""
    rows = await tx.all("runs_before", workspace=workspace_id, session=session_id, seq=seq, limit=limit)
    return [Answering(*row) for row in reversed(rows)]


async def rebind(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId, user_id: str | None) -> None:
    """Give a session's runs to the user that the session was given to."""
    await tx.run("runs_rebind", workspace=workspace_id, session=session_id, user=user_id)


async def orphan(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId, *, at_us: int) -> None:
    """Cancel a session's runs that have not ended, and take them away from it, before it is deleted."""
    await tx.run("runs_orphan_open", workspace=workspace_id, session=session_id, error=DELETED, at_us=at_us)


async def orphan_some(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> int:
    """Take up to `limit` runs that have ended away from a session that is deleted; return how many."""
    return len(await tx.all("runs_orphan_some", workspace=workspace_id, session=session_id, limit=limit))


async def empty_some(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> int:
    """Like `orphan_some`, and forget what they were told, what they said, and whose they were."""
    return len(await tx.all("runs_empty_some", workspace=workspace_id, session=session_id, limit=limit))


async def empty_open(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, at_us: int) -> int:
    """Like `orphan`, and forget the same; return how many."""
    return len(await tx.all("runs_empty_open", workspace=workspace_id, session=session_id, at_us=at_us))


async def find_left(tx: Tx, workspace_id: WorkspaceId, user_id: str) -> str | None:
    """Return the id of a session that was deleted and from which not all of a user's runs have been taken away yet."""
    row = await tx.one("runs_left_in", workspace=workspace_id, user=user_id)
    return row[0] if row is not None else None


async def empty_some_alone(tx: Tx, workspace_id: WorkspaceId, user_id: str, *, until_us: int, limit: int) -> int:
    """Like `empty_some`, for runs of a user that were asked for up to a time and whose session was deleted before."""
    rows = await tx.all("runs_empty_alone", workspace=workspace_id, user=user_id, until_us=until_us, limit=limit)
    return len(rows)


async def read_page(
    tx: Tx,
    workspace_id: WorkspaceId,
    wanted: RunFilter,
    *,
    user_id: str | None,
    descending: bool,
    limit: int,
    position: tuple[int, str] | None = None,
    with_total: bool = False,
) -> RunPage:
    """Return up to `limit` runs by time of creation, from behind `position`, a time and an id.

    A page ends early, but not empty, rather than hold more than `PAGE_MAX_BYTES`.
    """
    where, values = _where(workspace_id, wanted, user_id)
    total = None
    if with_total:
        rows = await tx.select("run_count_select", f"where {' and '.join(where)}", values)
        total = rows[0][0]
    # Where one session is asked for, its queue tells the order: two runs of one microsecond have one.
    by = "queued_seq" if len(wanted.session_ids) == 1 else "created_at_us"
    tail = page_tail(where, values, by=by, descending=descending, limit=limit, position=position)
    rows, more = await read_fitting(tx, "run_select", "run_size_select", tail, values, limit=limit)
    await seals.prepare(tx, workspace_id, [row[_KEY_COLUMN] for row in rows])
    page = [await _row_to_run(tx, row) for row in rows]
    return RunPage(runs=page, next_position=position_of(page[-1], wanted) if more else None, total=total)


async def read_orphans(
    tx: Tx,
    workspace_id: WorkspaceId,
    *,
    agent_id: str | None,
    user_id: str | None,
    limit: int,
    position: tuple[int, str] | None = None,
) -> tuple[list[Run], bool]:
    """Return up to `limit` runs whose session was deleted, by time of creation, and whether there are more."""
    where, values = _where(workspace_id, RunFilter(agent_ids=(agent_id,) if agent_id is not None else ()), user_id)
    where.append("session_id is null")
    tail = page_tail(where, values, by="created_at_us", descending=False, limit=limit, position=position)
    rows, more = await read_fitting(tx, "run_select", "run_size_select", tail, values, limit=limit)
    await seals.prepare(tx, workspace_id, [row[_KEY_COLUMN] for row in rows])
    return [await _row_to_run(tx, row) for row in rows], more


def position_of(run: Run, wanted: RunFilter) -> tuple[int, str]:
    """Return where a run stands in a list."""
    return (run.queued_seq if len(wanted.session_ids) == 1 else run.created_at_us), run.id


def _where(workspace_id: WorkspaceId, wanted: RunFilter, user_id: str | None) -> tuple[list[str], dict[str, Value]]:
    where, values = ["workspace_id = :workspace"], dict[str, Value](workspace=workspace_id)
    add_any_of(where, values, "session_id", wanted.session_ids)
    add_any_of(where, values, "agent_id", wanted.agent_ids)
    add_any_of(where, values, "status", [str(status) for status in wanted.statuses])
    if user_id is not None:
        where.append("user_id = :user")
        values["user"] = user_id
    return where, values


async def _columns(tx: Tx, run: Run) -> dict[str, Any]:
    columns = msgspec.structs.asdict(run)
    if run.key_id is not None:
        for name in SEALED:
            columns[name] = await seals.seal_with(tx, run.workspace_id, run.key_id, columns[name], "run", run.id, name)
    columns["workspace"] = columns.pop("workspace_id")
    columns["status"] = str(run.status)
    return columns


async def _row_to_run(tx: Tx, row: Row) -> Run:
    columns = [*row]
    columns[_STATUS_COLUMN] = _STATUS[columns[_STATUS_COLUMN]]
    run = Run(*columns)
    if run.key_id is None:
        return run
    opened = {name: await open_field(tx, run, name, getattr(run, name)) for name in SEALED}
    return msgspec.structs.replace(run, **opened)


async def open_field(tx: Tx, run: Run, name: str, kept: bytes | None) -> bytes | None:
    if kept == DELETED:
        return kept  # the same for all, and no content: see `orphan`
    return await seals.open_with(tx, run.workspace_id, run.key_id, kept, "run", run.id, name)


async def rekey(tx: Tx, row: Row, key_id: int | None) -> None:
    """Seal a run, as it was selected, with another key, or none."""
    run = await _row_to_run(tx, row)
    columns = await _columns(tx, msgspec.structs.replace(run, key_id=key_id))
    sealed = {name: columns[name] for name in SEALED}
    await tx.run("run_rekey", workspace=run.workspace_id, id=run.id, key=key_id, **sealed)
