"""Runs: start, find, list, wait for, cancel, answer, try again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import queue
from sessiond.actions.call import A, Call, itself, note
from sessiond.actions.events import follow
from sessiond.actions.sessions import activation, creation
from sessiond.core.caller import Scope
from sessiond.core.errors import Conflict, NotFound
from sessiond.core.event import ENDS, RUN_ANSWERED, Delta, Entry, Event, make_entry, message_entry
from sessiond.core.ids import RunId, SessionId
from sessiond.core.message import Message
from sessiond.core.run import CANCELLED, COMPLETED, RUNNING, WAITING, Answer, Ask, Run, RunFilter, RunPage, Strategy
from sessiond.core.session import ACTIVE, CREATED, NewSession, Session
from sessiond.storage import agents, events, runs, sessions
from sessiond.storage.engine import Tx

LOOK_SECONDS: Final = 1.0  # how long whoever waits for a run trusts its wakes
PAGE_RUNS: Final = 20  # what a run was told and what it said may be a MiB each


async def start(
    call: Call,
    session_id: str,
    answer: Callable[[Run], A],
    *,
    message: Message | None = None,
    strategy: Strategy | None = None,
    simulates: RunId | None = None,
) -> A:
    """Queue a run of a session's agent, over `message`, which is appended, or over what was said before.

    `simulates` is the run whose recorded tools answer those of the new one.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is no session of that id that the caller may see.
        Conflict: the session has ended or has no registered agent, or an open run is in the way.
        PreconditionFailed: the session is not in the version of the caller's If-Match.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    entries = [message_entry(message)] if message is not None else []

    async def operation(tx: Tx) -> Run:
        before = await sessions.take(tx, call.caller.workspace_id, session_id, user_id=call.caller.user_id)
        before.require_version(call.if_match)
        return await _start(tx, call, before, entries, strategy=strategy, simulates=simulates)

    return await call.write(operation, answer, about=itself)


async def start_in(call: Call, session_id: str, answer: Callable[[Run], A], *, new: NewSession, message: Message) -> A:
    """Queue a run of the agent that `new` names, over `message`, in a session that is made as `new` says if need be.

    One that is there must be that agent's, and the user's whom `new` names, if any. A caller who is bound to a user
    means that one.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: the agent is not registered; then there is no new session either.
        Conflict: the session is another's, or has ended, or an open run is in the way.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    if call.caller.user_id is not None:
        new = replace(new, user_id=call.caller.user_id)
    begun = new.begin(call.caller.workspace_id, SessionId(session_id), at_us=call.now_us)
    created = call.append(begun.id, creation(new))

    async def operation(tx: Tx) -> Run:
        if await agents.find(tx, begun.workspace_id, new.agent_id or "") is None:
            raise NotFound("no such agent")
        at_first = replace(begun, last_seq=1, log_bytes=created.size, largest_bytes=created.largest)
        inserted = await sessions.insert(tx, at_first)
        if inserted is not None:
            await events.insert(tx, created, first_seq=1, key_id=inserted.key_id)
        try:
            before = await sessions.take(tx, begun.workspace_id, session_id, user_id=new.user_id)
        except NotFound:
            # That its id is taken is all that may be known of another user's session.
            raise Conflict("a session with this id exists", field="id") from None
        if before.agent_id != new.agent_id:
            raise Conflict("the session is not this agent's")
        return await _start(tx, call, before, [message_entry(message)])

    return await call.write(operation, answer, about=itself)


async def retry(call: Call, run_id: str, answer: Callable[[Run], A], *, simulates: RunId | None = None) -> A:
    """Queue a new run with what a failed or cancelled one was given; `simulates` as in `start`.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is no run of that id that the caller may see, or its session is gone.
        Conflict: the run has not failed, its session has ended, or its agent is not registered.
    """
    call.caller.require(Scope.SESSIONS_WRITE)

    async def operation(tx: Tx) -> Run:
        session, run = await _take(tx, call, run_id)
        if not run.ended or run.status is COMPLETED:
            raise Conflict(f"a run that is {run.status} cannot be tried again")
        return await _start(tx, call, session, [], retry_of=run, simulates=simulates)

    return await call.write(operation, answer, about=itself)


async def get(call: Call, run_id: str) -> Run:
    """Return a run.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is none of that id that the caller may see.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> Run:
        return await _get(tx, call, run_id)

    return await call.engine.read(operation)


async def read_page(
    call: Call,
    wanted: RunFilter,
    *,
    descending: bool = True,
    limit: int,
    position: tuple[int, str] | None = None,
    with_total: bool = False,
) -> RunPage:
    """Return up to `limit` of the runs that the caller may see, from behind `position`.

    Raises:
        Forbidden: the caller lacks the read scope.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> RunPage:
        return await runs.read_page(
            tx,
            call.caller.workspace_id,
            wanted,
            user_id=call.caller.user_id,
            descending=descending,
            limit=limit,
            position=position,
            with_total=with_total,
        )

    return await call.engine.scan(operation)


async def read_all(call: Call, wanted: RunFilter) -> AsyncIterator[list[Run]]:
    """Yield all of the runs that the caller may see, oldest first, in pages that fit in memory.

    Raises:
        Forbidden: the caller lacks the read scope.
    """
    position = None
    while True:
        page = await read_page(call, wanted, descending=False, limit=PAGE_RUNS, position=position)
        if page.runs:
            yield page.runs
        position = page.next_position
        if position is None:
            return


async def wait(
    call: Call,
    run_id: str,
    *,
    timeout_seconds: float,
    still_allowed: Callable[[], Awaitable[object]] | None = None,
) -> Run:
    """Return a run once it has ended or waits for an answer, or as it is after `timeout_seconds`.

    One that waits and is to be cancelled is waited for. Ends early with what `still_allowed` raises.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is none of that id that the caller may see.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    run = await get(call, run_id)
    if run.ended or run.session_id is None:
        return run
    with call.engine.watches.open(run.workspace_id, run.session_id) as watch:
        while True:
            run = await get(call, run_id)
            left = deadline - loop.time()
            waits = run.status is WAITING and run.cancel_requested_at_us is None
            if run.ended or waits or left <= 0:
                return run
            if still_allowed is not None:
                await still_allowed()
            await watch.wait(min(left, LOOK_SECONDS, call.engine.poll_seconds))


async def cancel(call: Call, run_id: str, answer: Callable[[Run], A], *, reason: str | None = None) -> A:
    """Cancel a run. One that is under way ends when its worker has stopped it, within seconds; once more is fine.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is none of that id that the caller may see.
        Conflict: it has completed or failed.
    """
    call.caller.require(Scope.SESSIONS_WRITE)

    async def operation(tx: Tx) -> Run:
        if _is_cancelled(run := await _get(tx, call, run_id)):
            return run
        before, run = await _take(tx, call, run_id)
        if _is_cancelled(run):
            return run  # by somebody else, meanwhile
        session, after = await queue.cancel(tx, call.author, before, run, reason or "cancelled by a caller")
        await sessions.save(tx, before, session)
        if after.ended:
            await queue.settle(tx, session, ended=1)
        return after

    return await call.write(operation, answer, about=itself)


async def respond(call: Call, run_id: str, given: Answer, answer: Callable[[Run], A]) -> A:
    """Answer a run that waits; it goes on.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is none of that id that the caller may see.
        Conflict: it does not wait, or did not offer what was chosen.
    """
    call.caller.require(Scope.SESSIONS_WRITE)

    async def operation(tx: Tx) -> Run:
        before, run = await _take(tx, call, run_id)
        if run.status is not WAITING or run.ask is None:
            raise Conflict(f"the run is {run.status}, and waits for no answer")
        offered = [choice.id for choice in msgspec.json.decode(run.ask, type=Ask).options]
        if offered and given.option_id not in offered:
            raise Conflict(f"option_id must be one of {', '.join(offered)}", field="option_id")
        after = replace(run.become(RUNNING, call.now_us), answer=msgspec.json.encode(given))
        await runs.save(tx, after)
        entry = make_entry(RUN_ANSWERED, given, run_id=run.id)
        session = await events.append_to(tx, before, note(before, call.author, entry))
        await sessions.save(tx, before, session)
        return after

    return await call.write(operation, answer, about=itself)


async def follow_run(
    call: Call,
    run: Run,
    *,
    after: int | None,
    silence_seconds: float,
    still_allowed: Callable[[], Awaitable[object]],
    live: bool = False,
) -> AsyncIterator[list[Event | Delta]]:
    """Yield a run's events after the seq `after` (None: from its beginning), and end with its last.

    Yields an empty list at once, and when there was nothing for `silence_seconds`. Consume it under `aclosing`; see
    `events.follow`.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: its session is gone.
    """
    if run.session_id is None:
        raise NotFound("the run's session was deleted, and its events with it")
    position = max(run.queued_seq - 1, after or 0)
    followed = follow(
        call,
        run.session_id,
        after=position,
        silence_seconds=silence_seconds,
        still_allowed=still_allowed,
        live=live,
    )
    loop = asyncio.get_running_loop()
    spoke = loop.time()
    async with aclosing(followed) as pages:  # type: ignore[type-var]  # `follow` is a generator
        async for page in pages:
            mine = [one for one in page if one.run_id == run.id]
            # While others speak in the session, this one is silent.
            if mine or not page or loop.time() - spoke >= silence_seconds:
                yield mine
                spoke = loop.time()
            for one in page:
                if isinstance(one, Event):
                    position = one.seq
                    if one.run_id == run.id and one.type in ENDS:
                        return
            # Who comes back after the end, or with a place that there is not, has nothing to wait for.
            if not page:
                now = await get(call, run.id)
                if now.session_id is None or (now.ended_seq is not None and position >= now.ended_seq):
                    return


async def _start(
    tx: Tx,
    call: Call,
    before: Session,
    entries: list[Entry],
    *,
    strategy: Strategy | None = None,
    retry_of: Run | None = None,
    simulates: RunId | None = None,
) -> Run:
    before.require_open()
    by, now = call.author, before
    agent = (
        await agents.find(tx, before.workspace_id, retry_of.agent_id)
        if retry_of is not None
        else await queue.find_agent(tx, before)
    )
    if agent is None:
        wanted = retry_of.agent_id if retry_of is not None else before.agent_id
        raise Conflict(
            f"the agent {wanted!r} is not registered: POST /v1/agents, or sessiond agents add, registers it"
            if wanted is not None
            else "the session names no agent"
        )
    if before.status is CREATED:
        now = await events.append_to(tx, replace(before, status=ACTIVE), call.append(before.id, activation()))
    now, ended = await queue.make_way(tx, by, now, strategy)
    run_id = RunId(call.new_id("run_"))
    run, said = queue.begin_run(by, now, agent, entries, run_id=run_id, retry_of=retry_of, simulates=simulates)
    now = await events.append_to(tx, now, call.append(before.id, *said))
    await sessions.save(tx, before, now)
    await queue.add(tx, run, ended=ended)
    return run


def _is_cancelled(run: Run) -> bool:
    """Whether a run is cancelled already; raise Conflict when it has ended otherwise."""
    if run.ended and run.status is not CANCELLED:
        raise Conflict(f"the run has {run.status}")
    return run.ended


async def _take(tx: Tx, call: Call, run_id: str) -> tuple[Session, Run]:
    """Return a run with its session, in hand.

    Raises:
        NotFound: there is none that the caller may see, or its session is gone.
    """
    run = await _get(tx, call, run_id)
    if run.session_id is None:
        raise NotFound("the run's session was deleted")
    session = await sessions.take(tx, run.workspace_id, run.session_id, user_id=call.caller.user_id)
    # Read again: while the session was waited for, its worker may have gone on.
    return session, await _get(tx, call, run_id)


async def _get(tx: Tx, call: Call, run_id: str) -> Run:
    run = await runs.find(tx, call.caller.workspace_id, run_id, user_id=call.caller.user_id)
    if run is None:
        raise NotFound("no such run")
    return run
