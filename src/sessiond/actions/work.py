"""What workers do with runs: claim, write, put off, end. Each is one transaction's worth, given the database's clock.

A worker's writes name its lease. Where that was lost they do nothing and answer None: whoever has it now goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import queue, waiting
from sessiond.actions.call import Author, note
from sessiond.core import session as session_states
from sessiond.core.agent import Agent
from sessiond.core.errors import Conflict, Damaged
from sessiond.core.event import (
    RUN_RETRYING,
    RUN_STARTED,
    RUN_WAITING,
    STATUS_TYPES,
    Entry,
    answer_entry,
    make_entry,
)
from sessiond.core.ids import RunId
from sessiond.core.message import Role, make_message
from sessiond.core.run import (
    BACKOFF_MAX_SECONDS,
    CANCELLED,
    COMPLETED,
    FAILED,
    LOST_MAX,
    QUEUED,
    RUNNING,
    WAITING,
    WAITS_MAX,
    Ask,
    Failure,
    Run,
    RunStatus,
    WaitFor,
)
from sessiond.core.session import Status
from sessiond.storage import agents, leases, runs, sessions
from sessiond.storage.appends import Append
from sessiond.storage.engine import Tx
from sessiond.storage.leases import Lane, Lease

SECOND_US: Final = 1_000_000

log: Final = logging.getLogger("sessiond.runs")


class Work(msgspec.Struct, frozen=True):
    """A run that a worker has, as it was when it started."""

    lease: Lease
    run: Run
    agent: Agent
    started_seq: int
    """Where in the log it says that this attempt began."""


class Claimed(msgspec.Struct, frozen=True):
    works: list[Work]
    more: bool
    """Whether there may be more to be had at once."""
    behind: Lane
    """Where the next claim is to look."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended."""

    status: RunStatus
    """completed, failed or cancelled."""
    output: str | None = None
    failure: Failure | None = None
    entries: tuple[Entry, ...] = ()
    """What the log is not told yet."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    duration_us: int = 0


async def claim(tx: Tx, worker: str, *, now_us: int, lease_us: int, limit: int, behind: Lane = leases.FIRST) -> Claimed:
    """Take up to `limit` sessions in which something is to be done, and start their runs.

    What cannot be started is settled on the way: the run of an agent that is gone fails, one whose cancellation was
    asked for is cancelled, one whose session is paused goes back into the queue. `behind` is what the worker's last
    claim says.
    """
    full = set(await agents.read_full(tx))
    dues, more, behind = await leases.read_due(tx, full=full, now_us=now_us, limit=limit, behind=behind)
    works, known = list[Work](), dict[tuple[str, str], Agent | None]()
    for due in dues:
        if (due.workspace_id, due.agent_id) in full:
            continue  # it was the last place that this claim took
        try:
            open_runs = await runs.read_open(tx, due.workspace_id, due.session_id, limit=1)
        except Damaged as error:
            log.error("session %s was due, and %s", due.session_id, error)
            await leases.put_away(tx, due)
            continue
        if not open_runs:
            # A row that somebody changed by hand must not be the first one, and stop every claim, again and again.
            log.error("session %s was due without an open run", due.session_id)
            await leases.drop(tx, due)
            continue
        run = open_runs[0]
        if run.wait_id is not None:
            log.error("session %s was due while its run waits", due.session_id)
            await leases.put_away(tx, due)
            continue
        named = (due.workspace_id, run.agent_id)
        if named not in known:
            known[named] = await agents.find(tx, *named)
        agent = known[named]
        settled = _settle(run, agent)
        starts = settled is None and due.status is session_states.ACTIVE
        if starts and agent is not None and run.status is QUEUED:
            place = await agents.take_place(tx, agent)
            if not place:
                # Its session stays as it is: the longest due is still the first, the next time.
                full.add((agent.workspace_id, agent.id))
                more |= place is None
                continue
        lease = await leases.take(tx, due, worker, until_us=now_us + lease_us)
        if starts and agent is not None:
            works.append(await _start(tx, lease, run, agent, now_us=now_us))
            continue
        if settled is not None:
            await _conclude(tx, lease, run, agent, settled, now_us=now_us)
        else:
            await _put_back(tx, lease, run, now_us=now_us)
        more = True  # what is next in this session, or had to wait for this run's place
    return Claimed(works, more, behind)


async def append(tx: Tx, items: Sequence[tuple[Lease, Append]]) -> list[int | None]:
    """Write pieces of many runs; return the first seq of each, None where the lease was lost."""
    return await leases.append_each(tx, items)


async def ask(tx: Tx, lease: Lease, run_id: RunId, wanted: Ask, entries: tuple[Entry, ...], *, now_us: int) -> bool:
    """Have a run wait for an answer; it stays with its worker. False when the lease was lost."""
    run = await _held(tx, lease, run_id)
    if run is None:
        return False
    if run.status is WAITING:
        return True  # it was said before, and the word of it was lost
    after = replace(run.become(WAITING, now_us), ask=msgspec.json.encode(wanted))
    said = (*entries, make_entry(RUN_WAITING, wanted, run_id=run.id))
    if await leases.append(tx, lease, append_of(lease, run, said, at_us=now_us)) is None:
        return False
    await runs.save(tx, after)
    return True


async def park(tx: Tx, work: Work, outcome: Outcome, *, wanted: WaitFor, wait_id: str, now_us: int) -> Run | None:
    """Have a run wait without its worker; when the wait has ended, it is started again.

    Raises:
        InvalidInput, NotFound, Conflict: there can be no such wait.
    """
    run = await _held(tx, work.lease, work.run.id)
    if run is None:
        return None
    if run.cancel_requested_at_us is not None:
        return await _conclude(tx, work.lease, run, work.agent, _cancelled(outcome), now_us=now_us)
    if run.waits >= WAITS_MAX:
        raise Conflict(f"a run may wait {WAITS_MAX} times")
    assert run.session_id is not None
    session = await sessions.get(tx, run.workspace_id, run.session_id, user_id=None)
    after = replace(_with_usage(run, outcome).become(WAITING, now_us), wait_id=wait_id, waits=run.waits + 1)
    await runs.save(tx, after)
    by = Author(run.workspace_id, actor_of(run), now_us)
    new = replace(wanted.make(since_us=now_us - outcome.duration_us), session_id=session.id, user_id=session.user_id)
    entries = (*outcome.entries, make_entry(RUN_WAITING, {"wait_id": wait_id}, run_id=run.id))
    # What the run itself has said is nothing that it waits for.
    behind = replace(session, last_seq=session.last_seq + len(entries))
    _, said = await waiting.begin(tx, by, behind, new, wait_id=wait_id, run_id=run.id)
    entries += tuple(said)
    if await leases.append(tx, work.lease, append_of(work.lease, after, entries, at_us=now_us)) is None:
        return None
    await leases.release(tx, work.lease, run, after, ready_us=now_us)
    leases.tell_of_room(tx)
    return after


async def finish(tx: Tx, work: Work, outcome: Outcome, *, now_us: int) -> Run | None:
    """End a run for good, with its last pieces and its answer, and give the session to whoever comes next."""
    run = await _held(tx, work.lease, work.run.id)
    if run is None:
        return None
    if run.cancel_requested_at_us is not None:
        outcome = _cancelled(outcome)
    return await _conclude(tx, work.lease, run, work.agent, outcome, now_us=now_us)


async def retry_later(tx: Tx, work: Work, outcome: Outcome, *, now_us: int) -> Run | None:
    """Put a failed attempt's run back into the queue, to be tried again after the agent's backoff."""
    run = await _held(tx, work.lease, work.run.id)
    if run is None:
        return None
    if run.cancel_requested_at_us is not None:
        return await _conclude(tx, work.lease, run, work.agent, _cancelled(outcome), now_us=now_us)
    seconds = min(work.agent.backoff_seconds * 2**run.failures, BACKOFF_MAX_SECONDS)
    ready_us = now_us + int(seconds * SECOND_US)
    after = replace(
        _with_usage(run, outcome).become(QUEUED, now_us),
        failures=run.failures + 1,
        error=msgspec.json.encode(outcome.failure),
    )
    body = {"attempt": run.attempts, "error": outcome.failure, "backoff_seconds": seconds}
    entries = (*outcome.entries, make_entry(RUN_RETRYING, body, run_id=run.id))
    return await _requeue(tx, work.lease, run, after, entries, ready_us=ready_us, now_us=now_us)


async def give_back(tx: Tx, work: Work, outcome: Outcome, *, now_us: int) -> Run | None:
    """Put the run of a worker that stops back into the queue; another starts it over."""
    run = await _held(tx, work.lease, work.run.id)
    if run is None:
        return None
    if run.cancel_requested_at_us is not None:
        return await _conclude(tx, work.lease, run, work.agent, _cancelled(outcome), now_us=now_us)
    after = _with_usage(run, outcome).become(QUEUED, now_us)
    body = {"attempt": run.attempts, "error": Failure("worker_stopped", "its worker was stopped"), "backoff_seconds": 0}
    entries = (*outcome.entries, make_entry(RUN_RETRYING, body, run_id=run.id))
    return await _requeue(tx, work.lease, run, after, entries, ready_us=now_us, now_us=now_us)


def _settle(run: Run, agent: Agent | None) -> Outcome | None:
    """Return how a run ends that is not to be started."""
    if run.cancel_requested_at_us is not None:
        return Outcome(status=CANCELLED)
    if agent is None:
        return Outcome(
            status=FAILED, failure=Failure("not_configured", f"the agent {run.agent_id!r} is not registered any more")
        )
    if run.attempts - run.failures - run.waits >= LOST_MAX:
        lost = Failure("worker_lost", f"its worker was lost or stopped {LOST_MAX} times")
        return Outcome(status=FAILED, failure=lost)
    return None


async def _start(tx: Tx, lease: Lease, run: Run, agent: Agent, *, now_us: int) -> Work:
    lost = run.status is not QUEUED
    started = replace(run.become(RUNNING, now_us), attempts=run.attempts + 1, worker=lease.worker)
    body = {"agent_id": agent.id, "attempt": started.attempts, "worker": lease.worker, "after_loss": lost}
    entry = make_entry(RUN_STARTED, body, run_id=run.id)
    seq = await leases.append(tx, lease, append_of(lease, started, (entry,), at_us=now_us))
    assert seq is not None, "the lease was taken just now"
    await runs.save(tx, started)
    return Work(lease, started, agent, seq)


async def _put_back(tx: Tx, lease: Lease, run: Run, *, now_us: int) -> None:
    """Leave a run whose worker was lost, and whose session was paused since, for when that goes on."""
    after = run.become(QUEUED, now_us) if run.status is not QUEUED else run
    await runs.save(tx, after)
    await leases.release(tx, lease, run, after, ready_us=now_us)


async def _requeue(
    tx: Tx, lease: Lease, before: Run, after: Run, entries: tuple[Entry, ...], *, ready_us: int, now_us: int
) -> Run | None:
    if await leases.append(tx, lease, append_of(lease, after, entries, at_us=now_us)) is None:
        return None
    await runs.save(tx, after)
    await leases.release(tx, lease, before, after, ready_us=ready_us)
    leases.tell_of_room(tx)  # rare enough to do without asking whether the agent has a limit
    return after


async def _conclude(
    tx: Tx, lease: Lease, run: Run, agent: Agent | None, outcome: Outcome, *, now_us: int
) -> Run | None:
    ended = _with_usage(run, outcome).become(outcome.status, now_us)
    ended = replace(
        ended,
        output=msgspec.json.encode(outcome.output) if outcome.output is not None else None,
        error=msgspec.json.encode(outcome.failure) if outcome.failure is not None else _kept_error(ended),
    )
    entries = list(outcome.entries)
    if outcome.status is COMPLETED and outcome.output:
        entries.append(answer_entry(make_message(Role.ASSISTANT, outcome.output), run.id))
    entries.append(queue.end_entry(ended, duration_us=outcome.duration_us))
    first_seq = await leases.append(tx, lease, append_of(lease, ended, tuple(entries), at_us=now_us))
    if first_seq is None:
        return None
    ended = replace(ended, ended_seq=first_seq + len(entries) - 1)
    await runs.save(tx, ended)
    await leases.release(tx, lease, run, ended, ready_us=now_us)
    if agent is not None and agent.concurrency is not None:
        leases.tell_of_room(tx)
    if outcome.status is FAILED and agent is not None and agent.fails_session:
        await _fail_session(tx, lease, ended, now_us=now_us)
    return ended


def _with_usage(run: Run, outcome: Outcome) -> Run:
    return replace(
        run,
        prompt_tokens=run.prompt_tokens + outcome.prompt_tokens,
        completion_tokens=run.completion_tokens + outcome.completion_tokens,
    )


def _cancelled(outcome: Outcome) -> Outcome:
    """Return how an attempt ends whose run is to be cancelled: nobody waits for its answer, or why it has none.

    The session may have ended since, or given way to another message.
    """
    return replace(outcome, status=CANCELLED, output=None, failure=None)


def _kept_error(run: Run) -> bytes | None:
    """What a cancelled run says is why; what an attempt before a good one met is no error of the run."""
    return run.error if run.status is CANCELLED else None


async def _fail_session(tx: Tx, lease: Lease, run: Run, *, now_us: int) -> None:
    before = await sessions.take(tx, lease.workspace_id, lease.session_id, user_id=None)
    if before.ended:
        return
    by = Author(run.workspace_id, actor_of(run), now_us)
    body = {"from": before.status, "status": Status.FAILED, "reason": "a run failed", "run_id": run.id}
    said = note(before, by, make_entry(STATUS_TYPES[Status.FAILED], body))
    reason = f"the session failed with the run {run.id}"
    await queue.save(tx, by, before, before.become(Status.FAILED, now_us), said, reason=reason, now_us=now_us)


async def _held(tx: Tx, lease: Lease, run_id: RunId) -> Run | None:
    """Return a run as it is now, with its session in hand; None when it is not this worker's any more."""
    if not await leases.hold(tx, lease):
        return None
    run = await runs.find(tx, lease.workspace_id, run_id, user_id=None)
    assert run is not None
    return run


def append_of(lease: Lease, run: Run, entries: tuple[Entry, ...], *, at_us: int) -> Append:
    """Return what a run writes as an append to its session's log."""
    return Append(
        workspace_id=lease.workspace_id,
        session_id=lease.session_id,
        user_id=None,
        at_us=at_us,
        actor=actor_of(run),
        duration_us=0,
        entries=entries,
    )


def actor_of(run: Run) -> str:
    """Return who the log says has written what a run writes."""
    return f"agent:{run.agent_id}"
