"""What must be true of a workspace's queue of runs, whatever was done to it, as read from the database itself."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import apsw
import asyncpg
import msgspec
from msgspec.structs import replace

from sessiond.core.event import RUN_ENDS, RUN_QUEUED, RUN_STARTED
from sessiond.core.ids import WorkspaceId
from sessiond.core.run import CANCELLED, COMPLETED, ENDED, RUNNING, WAITING, Run
from sessiond.core.session import ENDED as SESSION_ENDED
from sessiond.core.session import Status
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.open import sqlite_path
from sessiond.storage.runs import _row_to_run

ENDS: Final = frozenset(RUN_ENDS.values())
ANSWER: Final = "message.assistant"


class Row(msgspec.Struct, frozen=True):
    """A session as its queue has it."""

    id: str
    created_at_us: int
    status: str
    last_seq: int
    message_count: int
    log_bytes: int
    largest_bytes: int
    prompt_tokens: int
    completion_tokens: int
    ready_at_us: int | None
    ready_agent_id: str | None
    lease_owner: str | None
    lease_until_us: int
    fence: int
    open_runs: int


class Logged(msgspec.Struct, frozen=True):
    session_id: str
    seq: int
    type: str
    run_id: str | None
    size: int


class Seen(msgspec.Struct, frozen=True):
    """A workspace at one moment."""

    sessions: list[Row]
    runs: list[Run]
    events: list[Logged]

    def under_way(self, agent_id: str) -> int:
        return sum(run.agent_id == agent_id and is_under_way(run) for run in self.runs)


def is_under_way(run: Run) -> bool:
    """Whether a worker has it."""
    return run.status in (RUNNING, WAITING) and run.wait_id is None


class Eye:
    """Looks into the database past the engine."""

    def __init__(self, engine: Engine, connection: Any) -> None:
        self._engine = engine
        self._connection = connection

    async def rows(self, sql: str) -> Sequence[Any]:
        if isinstance(self._connection, apsw.Connection):
            return self._connection.execute(sql).fetchall()
        return [tuple(row) for row in await self._connection.fetch(sql)]

    async def look(self, workspace_id: WorkspaceId) -> Seen:
        where = f"where workspace_id = '{workspace_id}'"

        async def runs(tx: Tx) -> list[Run]:
            found = await tx.select(
                "run_select", "where workspace_id = :workspace order by queued_seq", {"workspace": workspace_id}
            )
            return [await _row_to_run(tx, row) for row in found]

        columns = ", ".join(Row.__struct_fields__)
        return Seen(
            [Row(*row) for row in await self.rows(f"select {columns} from sessions {where} order by id")],
            await self._engine.read(runs),
            [
                Logged(*row)
                for row in await self.rows(
                    f"select session_id, seq, type, run_id, length(body) from events {where} order by session_id, seq"
                )
            ],
        )


@asynccontextmanager
async def open_eye(engine: Engine, database: str) -> AsyncIterator[Eye]:
    path = sqlite_path(database)
    if path is not None:
        file = apsw.Connection(str(path))
        file.set_busy_timeout(10_000)
        try:
            yield Eye(engine, file)
        finally:
            file.close()
        return
    server = await asyncpg.connect(database)
    try:
        yield Eye(engine, server)
    finally:
        await server.close()


def check(seen: Seen) -> None:
    """Check what is true at every moment."""
    by_session = defaultdict[str, list[Run]](list)
    for run in seen.runs:
        assert run.session_id is not None or run.ended, "a run whose session was deleted has ended"
        if run.session_id is not None:
            by_session[run.session_id].append(run)
    logs = defaultdict[str, list[Logged]](list)
    for event in seen.events:
        logs[event.session_id].append(event)
    assert {*by_session, *logs} <= {session.id for session in seen.sessions}
    for session in seen.sessions:
        _check_log(session, logs[session.id])
        _check_queue(session, by_session[session.id])
        _check_order(by_session[session.id], logs[session.id])
        for run in by_session[session.id]:
            _check_run(run, [event for event in logs[session.id] if event.run_id == run.id])


def _check_log(session: Row, log: Sequence[Logged]) -> None:
    assert [event.seq for event in log] == list(range(1, session.last_seq + 1)), "a log has no gap"
    assert session.message_count == sum(event.type.startswith("message.") for event in log)
    assert session.log_bytes == sum(event.size for event in log)
    assert session.largest_bytes == max(event.size for event in log)


def _check_queue(session: Row, runs: Sequence[Run]) -> None:
    waiting = [run for run in runs if not run.ended]
    under_way = [run for run in waiting if is_under_way(run)]
    parked = [run for run in waiting if run.wait_id is not None]
    assert parked in ([], waiting[:1]), "who waits without a worker keeps its place"
    assert session.open_runs == len(waiting)
    assert (session.prompt_tokens, session.completion_tokens) == (
        sum(run.prompt_tokens for run in runs),
        sum(run.completion_tokens for run in runs),
    )
    if session.lease_owner is None:
        assert not under_way, "whoever works on a session has its lease"
        idle = session.status != Status.ACTIVE or not waiting or bool(parked)
        assert (session.ready_at_us is None) == idle, "a session is due exactly while there is something to do"
        assert session.ready_agent_id == (waiting[0].agent_id if waiting else None)
    else:
        assert under_way == waiting[:1], "one run at a time, and the first"
        assert under_way[0].worker == session.lease_owner
        assert session.ready_at_us == session.lease_until_us
        assert session.ready_agent_id is None
    if session.status in SESSION_ENDED:
        assert waiting == under_way, "nothing is queued in a session that has ended"
        assert all(run.cancel_requested_at_us is not None for run in waiting)


def _check_order(runs: Sequence[Run], log: Sequence[Logged]) -> None:
    starts = [(event.seq, event.run_id) for event in log if event.type == RUN_STARTED]
    for seq, run_id in starts:
        (place,) = (number for number, run in enumerate(runs) if run.id == run_id)
        for earlier in runs[:place]:
            assert earlier.ended_seq is not None, "a run begins when those before have ended"
            assert earlier.ended_seq < seq


def _check_run(run: Run, events: Sequence[Logged]) -> None:
    types = Counter(event.type for event in events)
    assert types[RUN_STARTED] == run.attempts
    assert types[RUN_QUEUED] == 1
    assert types[ANSWER] <= (run.status is COMPLETED)
    assert sum(types[end] for end in ENDS) == run.ended, "a run ends once"
    assert (run.ask is not None) == (run.status is WAITING and run.wait_id is None)
    assert run.wait_id is None or run.status is WAITING
    assert not run.ended or run.cancel_requested_at_us is None or run.status is CANCELLED
    if run.ended:
        assert (events[-1].type, events[-1].seq) == (RUN_ENDS[run.status], run.ended_seq), "and says no more"


def settled(run: Run) -> Run:
    """Return what of an ended run never changes: it may still be given to another user, or lose its session."""
    assert run.status in ENDED
    return replace(run, session_id=None, user_id=None)
