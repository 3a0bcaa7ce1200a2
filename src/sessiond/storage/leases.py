"""Leases: who works on a session. The session's row is the lease, and every write of a run checks it.

All times are the database's clock, given by the caller, so that a test can have a clock of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from sessiond.core.ids import RunId, SessionId, WorkspaceId
from sessiond.core.run import Run, RunStatus
from sessiond.core.session import Status
from sessiond.storage import appends, events, runs, seals
from sessiond.storage.appends import Append
from sessiond.storage.engine import Tx

Lane = tuple[WorkspaceId, str]
"""An agent for which sessions wait, by workspace and id."""

FIRST: Final[Lane] = (WorkspaceId(""), "")
LANES_MAX: Final = 256  # agents looked at by one claim; where there are more, the next one begins behind them


class Lease(msgspec.Struct, frozen=True):
    """The right to work on one session. `fence` is a new one each time the session is taken."""

    workspace_id: WorkspaceId
    session_id: SessionId
    worker: str
    fence: int


class Due(msgspec.Struct, frozen=True):
    """A session in which something is to be done."""

    workspace_id: WorkspaceId
    session_id: SessionId
    status: Status
    agent_id: str | None
    """Whose turn it is to begin; None when the worker was lost that had begun."""


class Look(msgspec.Struct, frozen=True):
    """What has become of a run since its worker last looked."""

    held: bool
    status: RunStatus
    cancel_requested: bool
    answer: bytes | None


async def find_next(tx: Tx) -> int | None:
    """Return when something is due next, by the database's clock; None when there is nothing to do.

    Where more agents are waited for than are looked at, that is at once: `read_due` knows.
    """
    locked = await seals.read_locked(tx)
    row = await tx.one("session_next_lapse", locked=seals.as_parameter(tx, locked))
    lanes, behind = await _read_lanes(tx, FIRST)
    if behind != FIRST:
        return 0
    times = [at_us for workspace_id, _, at_us in lanes if workspace_id not in locked]
    if row is not None and row[0] is not None:
        times.append(row[0])
    return min(times, default=None)


async def read_due(
    tx: Tx, *, full: Collection[Lane], now_us: int, limit: int, behind: Lane = FIRST
) -> tuple[list[Due], bool, Lane]:
    """Return sessions that are due, and keep them from others until this transaction ends.

    First those whose worker was lost; then those of the agents that are waited for, the longest due first, to each
    agent its share. Those in `full` are passed by, and workspaces whose key a client holds. Returns too whether there
    may be more, and behind which agent to look the next time: where many are waited for, not all are looked at.
    """
    locked = await seals.read_locked(tx)
    passed_by = seals.as_parameter(tx, locked)
    found = [*await tx.all("sessions_lapsed", now_us=now_us, limit=limit, locked=passed_by)]
    lanes, next_behind = await _read_lanes(tx, behind)
    open_lanes = (lane for lane in lanes if lane[2] <= now_us and lane[:2] not in full and lane[0] not in locked)
    due = sorted(open_lanes, key=lambda lane: lane[2])
    more = len(found) == limit
    for left, (workspace_id, agent_id, _) in zip(range(len(due), 0, -1), due, strict=True):
        if len(found) >= limit:
            more = True
            break
        share = max(1, (limit - len(found)) // left)
        rows = await tx.all("sessions_due", workspace=workspace_id, agent=agent_id, now_us=now_us, limit=share)
        found += rows
        more |= len(rows) == share
    return [Due(row[0], row[1], Status(row[2]), row[3]) for row in found], more, next_behind


async def _read_lanes(tx: Tx, behind: Lane) -> tuple[list[tuple[WorkspaceId, str, int]], Lane]:
    """Return up to `LANES_MAX` lanes with the time from which each is waited for, and behind which to go on."""
    rows = await tx.all("lanes", workspace=behind[0], agent=behind[1], limit=LANES_MAX)
    cut: Lane = (rows[-1][0], rows[-1][1]) if len(rows) == LANES_MAX else FIRST
    return [(row[0], row[1], row[2]) for row in rows if row[2] is not None], cut


async def take(tx: Tx, due: Due, worker: str, *, until_us: int) -> Lease:
    """Take the lease of a session that is due, from whoever had it."""
    row = await tx.one("lease_take", workspace=due.workspace_id, id=due.session_id, worker=worker, until_us=until_us)
    assert row is not None, "a session that is due is there: this transaction has it"
    return Lease(due.workspace_id, due.session_id, worker, row[0])


async def drop(tx: Tx, due: Due) -> None:
    """Take a session out of the queue in which nothing is open."""
    await tx.run("lease_drop", workspace=due.workspace_id, id=due.session_id)


async def put_away(tx: Tx, due: Due) -> None:
    """Have a session be due no more until its runs or its status change."""
    await tx.run("lease_put_away", workspace=due.workspace_id, id=due.session_id)


async def renew(tx: Tx, leases: Sequence[Lease], *, until_us: int) -> list[Lease]:
    """Renew leases; return those that are still held."""
    held = []
    # In one order everywhere, so that two workers do not wait for each other in a circle.
    for lease in sorted(leases, key=_place):
        if await tx.one("lease_renew", **_keys(lease), until_us=until_us) is not None:
            held.append(lease)
    return held


async def hold(tx: Tx, lease: Lease) -> bool:
    """Keep a leased session from changing until this transaction ends; False when the lease is lost."""
    return await tx.one("lease_hold", **_keys(lease)) is not None


async def append(tx: Tx, lease: Lease, wanted: Append) -> int | None:
    """Append to the log of a leased session; return the first seq, or None, with nothing written, when it is lost."""
    row = await tx.one(
        "lease_bump",
        **_keys(lease),
        events=len(wanted.entries),
        messages=wanted.messages,
        bytes=wanted.size,
        largest=wanted.largest if wanted.entries else 0,
        at_us=wanted.at_us,
    )
    if row is None:
        return None
    await appends.move_slot(tx, wanted, row[1])
    first_seq: int = row[0] - len(wanted.entries) + 1
    await events.insert(tx, wanted, first_seq=first_seq, key_id=row[3])
    if row[2]:
        await events.tell_waits(tx, lease.workspace_id, lease.session_id)
    return first_seq


async def append_each(tx: Tx, writes: Sequence[tuple[Lease, Append]]) -> list[int | None]:
    """Append to many leased sessions; see `append`."""
    first: list[int | None] = [None] * len(writes)
    # In the order of `renew`.
    for index in sorted(range(len(writes)), key=lambda index: _place(writes[index][0])):
        first[index] = await append(tx, *writes[index])
    return first


async def find_written(tx: Tx, lease: Lease, run_id: RunId, *, actor: str, after: int) -> int | None:
    """Return the last seq behind `after` that a run wrote, if any: tells whether a commit whose answer was lost was."""
    row = await tx.one(
        "run_written", workspace=lease.workspace_id, id=lease.session_id, run=run_id, actor=actor, after=after
    )
    seq: int | None = row[0] if row is not None else None
    return seq


async def release(tx: Tx, lease: Lease, before: Run, after: Run, *, ready_us: int) -> None:
    """Give a lease back, with the run as it was saved; what is next in the session may begin at `ready_us`.

    What the run has used since it was `before` is added to the session's.
    """
    row = await tx.one(
        "lease_release",
        **_keys(lease),
        ended=int(after.ended),
        prompt_tokens=after.prompt_tokens - before.prompt_tokens,
        completion_tokens=after.completion_tokens - before.completion_tokens,
        ready_us=ready_us,
    )
    if row is not None and row[0] is not None:
        tx.wake(*runs.DUE)


def tell_of_room(tx: Tx) -> None:
    """Have all workers look again: an agent that had enough to do may take one more run."""
    tx.wake(*runs.DUE)


async def look(tx: Tx, lease: Lease, run_id: RunId) -> Look | None:
    """Return what has become of a leased run; None when its session is gone."""
    row = await tx.one("lease_look", workspace=lease.workspace_id, id=lease.session_id, run=run_id)
    if row is None:
        return None
    held = (row[0], row[1]) == (lease.fence, lease.worker)
    answer = await seals.open_with(tx, lease.workspace_id, row[5], row[4], "run", run_id, "answer")
    return Look(held, RunStatus(row[2]), row[3] is not None, answer)


def _place(lease: Lease) -> tuple[WorkspaceId, SessionId]:
    return lease.workspace_id, lease.session_id


def _keys(lease: Lease) -> dict[str, str | int]:
    return {"workspace": lease.workspace_id, "id": lease.session_id, "worker": lease.worker, "fence": lease.fence}
