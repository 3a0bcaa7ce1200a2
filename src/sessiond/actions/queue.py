"""A session's queue of runs, as it changes inside somebody's transaction: added to, held, emptied.

The session is in hand (`sessions.take`); what is said of its runs goes into its log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import waiting
from sessiond.actions.call import Author, note
from sessiond.core import run as states
from sessiond.core.agent import Agent
from sessiond.core.errors import Conflict
from sessiond.core.event import (
    MESSAGE_TYPES,
    RUN_AGENT,
    RUN_CANCEL_REQUESTED,
    RUN_ENDS,
    RUN_QUEUED,
    Entry,
    make_entry,
    shorten,
)
from sessiond.core.ids import RunId
from sessiond.core.message import Role, unpack_message
from sessiond.core.run import CANCELLED, QUEUED_MAX, Failure, Run, RunStatus, Strategy
from sessiond.core.session import Session
from sessiond.storage import agents, clock, events, runs, sessions, waits
from sessiond.storage.appends import Append
from sessiond.storage.engine import Tx

# It stands in the log as a message already, and a thousand runs may end at once.
INPUT_SHOWN_MAX_BYTES: Final = 16 * 1024


def starts(entries: Sequence[Entry]) -> bool:
    """Whether an append makes the agent work: its last word is the user's."""
    return bool(entries) and entries[-1].type == MESSAGE_TYPES[Role.USER]


async def find_agent(tx: Tx, session: Session) -> Agent | None:
    """Return the session's agent if it is registered."""
    return await agents.find(tx, session.workspace_id, session.agent_id) if session.agent_id is not None else None


async def make_way(tx: Tx, by: Author, session: Session, strategy: Strategy | None) -> tuple[Session, int]:
    """Have what is open in a session give way to a new run, or refuse the new one.

    Returns the session with its log as it is now, and how many runs have ended.

    Raises:
        Conflict: a run is open and `strategy`, or else the session's own, is to reject, or too many are.
    """
    count = await runs.count_open(tx, session.workspace_id, session.id)
    if not count:
        return session, 0
    match strategy or session.multitask_strategy:
        case Strategy.REJECT:
            raise Conflict("the session has a run that has not ended")
        case Strategy.INTERRUPT:
            return await cancel_open(tx, by, session, "interrupted by a message")
    if count >= QUEUED_MAX:
        raise Conflict(f"the session has {QUEUED_MAX} runs that have not ended, which is the most it may have")
    return session, 0


def begin_run(
    by: Author,
    session: Session,
    agent: Agent,
    entries: Sequence[Entry],
    *,
    run_id: RunId,
    retry_of: Run | None = None,
    simulates: RunId | None = None,
) -> tuple[Run, list[Entry]]:
    """Return a run that answers the messages `entries`, and what is to be appended: they and the word of it."""
    marked = [replace(entry, run_id=run_id) for entry in entries]
    input_seq = session.last_seq + len(marked)
    given = bytes(unpack_message(marked[-1].body).content) if marked else None
    run = Run(
        workspace_id=session.workspace_id,
        id=run_id,
        session_id=session.id,
        agent_id=agent.id,
        user_id=session.user_id,
        status=states.QUEUED,
        queued_seq=input_seq + 1,
        input_seq=retry_of.input_seq if retry_of is not None else input_seq,
        input=retry_of.input if retry_of is not None else given,
        output=None,
        error=None,
        ask=None,
        answer=None,
        prompt_tokens=0,
        completion_tokens=0,
        attempts=0,
        failures=0,
        worker=None,
        actor=by.actor,
        retry_of=retry_of.id if retry_of is not None else None,
        cancel_requested_at_us=None,
        created_at_us=by.at_us,
        started_at_us=None,
        completed_at_us=None,
        ended_seq=None,
        wait_id=None,
        waits=0,
        simulates=simulates,
        key_id=session.key_id,
    )
    body = {"agent_id": agent.id} | ({"retry_of": retry_of.id} if retry_of is not None else {})
    return run, [*marked, make_entry(RUN_QUEUED, body, run_id=run_id)]


async def add(tx: Tx, run: Run, *, ended: int = 0) -> None:
    """Put a run at the end of its session's queue, whose session was saved; `ended` others have made way."""
    now_us = await clock.read_us(tx)
    if ended:
        assert run.session_id is not None
        await runs.schedule(tx, run.workspace_id, run.session_id, opened=-ended, now_us=now_us)
    await runs.insert(tx, run, now_us=now_us)


async def settle(tx: Tx, session: Session, *, ended: int = 0, now_us: int | None = None) -> None:
    """Have the queue follow its session's status, once that was saved: paused holds it, active lets it go on."""
    now_us = await clock.read_us(tx) if now_us is None else now_us
    await runs.schedule(tx, session.workspace_id, session.id, opened=-ended, now_us=now_us)


async def save(
    tx: Tx, by: Author, before: Session, after: Session, said: Append, *, reason: str, now_us: int | None = None
) -> Session:
    """Save a changed session with what is said of it; its runs and waits follow its status.

    Where it has ended, they are cancelled for `reason`. `now_us` is the database's clock, where it is known.
    """
    ended, moved = 0, after.status != before.status
    if moved and after.ended:
        after, ended = await cancel_open(tx, by, after, reason)
        if entries := await waiting.cancel_pending(tx, after, at_us=by.at_us, reason=reason):
            after = await events.append_to(tx, after, note(after, by, *entries))
    after = await sessions.save(tx, before, await events.append_to(tx, after, said))
    if moved and (ended or await runs.count_open(tx, after.workspace_id, after.id)):
        await settle(tx, after, ended=ended, now_us=now_us)
    return after


async def cancel_open(tx: Tx, by: Author, session: Session, reason: str) -> tuple[Session, int]:
    """Cancel all that is open; see `cancel`."""
    ended = last_seq = 0
    while page := await runs.read_open(tx, session.workspace_id, session.id, after=last_seq):
        for run in page:
            session, after = await cancel(tx, by, session, run, reason)
            ended += after.ended
        last_seq = page[-1].queued_seq
    return session, ended


async def cancel(tx: Tx, by: Author, session: Session, run: Run, reason: str) -> tuple[Session, Run]:
    """Cancel a queued run, or have the worker of one that is under way cancel it: only it knows when that is true.

    The session is to be saved with its log as it is returned, and then `settle`d for the runs that ended.
    """
    if run.cancel_requested_at_us is not None:
        return session, run
    error = msgspec.json.encode(Failure("cancelled", reason))
    entries = list[Entry]()
    if run.status is RunStatus.QUEUED or run.wait_id is not None:
        after = replace(run.become(CANCELLED, by.at_us), cancel_requested_at_us=by.at_us, error=error, wait_id=None)
        entries.append(end_entry(after))
    else:
        after = replace(run, cancel_requested_at_us=by.at_us, error=error)
        entries.append(make_entry(RUN_CANCEL_REQUESTED, {"reason": reason}, run_id=run.id))
    if run.wait_id is not None:
        wait = await waits.get(tx, run.workspace_id, run.wait_id, user_id=None)
        await runs.save(tx, after)  # before its wait: it does not go on with that
        entries = await waiting.cancel_each(tx, [wait], at_us=by.at_us, reason=reason) + entries
    session = await events.append_to(tx, session, note(session, by, *entries))
    if after.ended:
        after = replace(after, ended_seq=session.last_seq)
    await runs.save(tx, after)
    return session, after


def end_entry(run: Run, *, duration_us: int = 0) -> Entry:
    """Return the event of a run's end, which replay shows as its step."""
    body = {
        "agent_id": run.agent_id,
        "status": run.status,
        "attempts": run.attempts,
        "input": shorten(run.input, INPUT_SHOWN_MAX_BYTES) if run.input is not None else None,
        "output": msgspec.Raw(run.output) if run.output is not None else None,
        "error": msgspec.Raw(run.error) if run.error is not None else None,
        "prompt_tokens": run.prompt_tokens,
        "completion_tokens": run.completion_tokens,
    }
    return make_entry(RUN_ENDS[run.status], body, action=RUN_AGENT, run_id=run.id, duration_us=duration_us)
