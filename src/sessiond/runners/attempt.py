"""One attempt at a run: its agent at work, what it says written down, and the end that this comes to."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from enum import Enum
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from sessiond.actions import work
from sessiond.actions.briefs import read_brief
from sessiond.actions.call import new_id
from sessiond.actions.events import is_short
from sessiond.actions.work import Outcome, Work
from sessiond.core.errors import Conflict, InvalidInput, NotFound, TooLarge, Unavailable
from sessiond.core.event import Delta
from sessiond.core.ids import RunId
from sessiond.core.run import (
    CANCELLED,
    COMPLETED,
    FAILED,
    Answer,
    Ask,
    Brief,
    Failure,
    Piece,
    Recorded,
    Run,
    Text,
    ToolCall,
    Usage,
    WaitFor,
)
from sessiond.core.session import Session
from sessiond.runners.lines import check_usage
from sessiond.runners.pieces import Pieces, check_ask, valid
from sessiond.runners.recording import Recording
from sessiond.runners.runner import BAD_OUTPUT, INTERNAL, NO_OUTPUT, TIME_LIMIT, AgentError, Reply, Runner, find_runner
from sessiond.storage import clock, leases, sessions
from sessiond.storage.engine import Engine, Operation, Tx, Watch

log: Final = logging.getLogger("sessiond.runs")

GATHER_SECONDS: Final = 0.05  # what an agent says in this time is one row of the log
GATHER_BYTES: Final = 64 * 1024  # or as soon as it is this much
BREATH_PIECES: Final = 100  # an agent that says much at once lets the others in so often, about once a millisecond
LOOK_PAUSE_SECONDS: Final = 0.1  # between two looks: an agent that writes much is not looked after each time
LOOK_SECONDS: Final = 1.0  # how late a cancellation can be whose wake was lost
CONCLUDE_SECONDS: Final = 600.0  # a database may be away so long before a finished run must be done again
TROUBLE_SECONDS: Final = 0.5  # before another try, when the database was away
ASK_SECONDS: Final = 86_400.0  # how long a run waits for somebody to answer
PASSED_FOR_ONE: Final = 4  # events that a read passes by for each message that it finds; in longer logs it has an index

T = TypeVar("T")
Ending = Callable[..., Coroutine[Any, Any, Run | None]]
_REFUSALS: Final = (InvalidInput, NotFound, Conflict, TooLarge)
"""What is said of a wait that there cannot be."""


class Stop(Enum):
    """Why an attempt is stopped from outside."""

    CANCEL = "cancelled"
    LOST = "lost"
    WORKER = "given back"


class Attempt:
    """Belongs to a worker, which renews its lease."""

    def __init__(self, engine: Engine, taken: Work, *, lease_seconds: float) -> None:
        self.work: Final = taken
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._loop = asyncio.get_running_loop()
        self._lease_ends = self._loop.time() + lease_seconds
        self._began = self._loop.time()
        self._pieces = Pieces(taken.run.id)
        self._usage = Usage()
        self._last_seq = taken.started_seq
        self._writing = asyncio.Lock()
        self._news = Watch()
        self._flush_due: asyncio.TimerHandle | None = None
        self._limit: asyncio.Timeout | None = None
        self._answered: asyncio.Future[Answer] | None = None
        self._failure: AgentError | None = None
        self._wait: WaitFor | None = None
        self._stop: Stop | None = None
        self._doing: asyncio.Task[None] | None = None
        self.concluding = False
        """Whether the agent has ended: the lease is about to be given back, or has been."""

    @property
    def run_id(self) -> RunId:
        return self.work.run.id

    @property
    def waiting(self) -> bool:
        """Whether it waits for somebody to answer, and does nothing."""
        return self._answered is not None and not self._answered.done()

    @property
    def lapsed(self) -> bool:
        """Whether the lease may have run out: no renewal came through for as long as it lasts."""
        return self._loop.time() > self._lease_ends

    def renewed(self, began: float) -> None:
        """Note that the lease was renewed, by a request that began at `began`, by the loop's clock."""
        self._lease_ends = began + self._lease_seconds

    def stop(self, reason: Stop) -> None:
        """Stop the agent; the first reason counts."""
        if self._stop is not None or self.concluding:
            return
        if self._doing is None or self._doing.cancel():  # else it has ended this moment
            self._stop = reason

    async def make(self) -> str:
        """Have the agent do its work, write down how it ended, and return that: the run's status, or `lost`."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch_on())
            self._doing = group.create_task(self._do(group))
            if self._stop is not None:
                self._doing.cancel()
            await asyncio.wait({self._doing})
            self.concluding = True
            watching.cancel()
            if self._flush_due is not None:
                self._flush_due.cancel()
        if self._stop is Stop.LOST:
            log.warning("run=%s worker=%s attempt=%d lost its lease", self.run_id, *self._who)
            return Stop.LOST.value
        ending, outcome = self._ending()  # once: it takes the last pieces
        try:
            ended = await self._insist(partial(self._conclude, ending, outcome))
        except Exception as error:
            if self._wait is not None and isinstance(error, _REFUSALS):
                failure = Failure(BAD_OUTPUT, f"it cannot wait for that: {error.message}")
                failed = replace(outcome, status=FAILED, failure=failure)
            else:
                log.exception("run=%s worker=%s attempt=%d cannot be concluded", self.run_id, *self._who)
                # What another attempt says could not be kept either.
                failure = Failure(INTERNAL, f"how it ended could not be kept: {type(error).__name__}")
                failed = Outcome(status=FAILED, failure=failure, duration_us=outcome.duration_us)
            ended = await self._insist(partial(self._conclude, work.finish, failed))
        status = ended.status if ended is not None else Stop.LOST.value
        log.info(
            "run=%s session=%s agent=%s worker=%s attempt=%d status=%s seconds=%.3f%s",
            self.run_id,
            self.work.lease.session_id,
            self.work.agent.id,
            *self._who,
            status,
            self._loop.time() - self._began,
            f" error={self._failure.code}" if self._failure is not None else "",
        )
        return status

    @property
    def _who(self) -> tuple[str, int]:
        return self.work.lease.worker, self.work.run.attempts

    async def _do(self, group: asyncio.TaskGroup) -> None:
        """Run the agent to its end; leave what went wrong in `_failure`."""
        agent = self.work.agent
        try:
            runner = await _load(agent.runner)
            brief = await self._insist(self._read_brief)
            if brief is None:
                self._stop = self._stop or Stop.LOST
                return
            async with asyncio.timeout(agent.time_limit_seconds) as self._limit, aclosing(runner(brief)) as said:
                await self._hear(said, group, recorded=brief.recorded)
            if self._pieces.nothing and self._usage == Usage() and self._wait is None:
                raise AgentError(NO_OUTPUT, "the agent ended without having said anything", permanent=True)
        except AgentError as error:
            self._failure = error
        except Exception as error:
            if self._limit is not None and self._limit.expired():
                self._failure = AgentError(
                    TIME_LIMIT, f"it took longer than its time limit of {agent.time_limit_seconds:g} s", permanent=True
                )
            else:
                log.exception("run=%s worker=%s attempt=%d failed by a bug", self.run_id, *self._who)
                self._failure = AgentError(INTERNAL, f"the runner {agent.runner} failed: {type(error).__name__}")

    async def _hear(
        self, said: AsyncGenerator[Piece, Reply], group: asyncio.TaskGroup, *, recorded: list[Recorded] | None
    ) -> None:
        answer: Reply = None
        recording = Recording(recorded) if recorded is not None else None
        for number in count(1):
            try:
                piece = await said.asend(answer)
            except StopAsyncIteration:
                return
            answer = None
            if number % BREATH_PIECES == 0:
                await asyncio.sleep(0)  # what was read ahead comes without a pause
            if isinstance(piece, Usage):
                self._usage = check_usage(
                    Usage(
                        self._usage.prompt_tokens + piece.prompt_tokens,
                        self._usage.completion_tokens + piece.completion_tokens,
                    )
                )
            elif isinstance(piece, Ask):
                answer = await self._ask(piece)
            elif isinstance(piece, WaitFor):
                self._wait = piece
                return
            else:
                if isinstance(piece, Text) and piece.text:
                    self._tell(valid(piece.text))
                if recording is not None and recording.answered(piece):
                    continue  # it is in the log already
                self._pieces.add(piece)
                if recording is not None and isinstance(piece, ToolCall):
                    answer = recording.answer(piece)
                    self._pieces.add(answer)
                if self._pieces.waiting_bytes > GATHER_BYTES:
                    # A task of its own: what was taken is written, also when this one is cancelled meanwhile.
                    await asyncio.shield(group.create_task(self._flush_or_stop()))
                elif self._flush_due is None:
                    self._flush_due = self._loop.call_later(GATHER_SECONDS, self._begin_flush, group)

    def _tell(self, text: str) -> None:
        lease, run = self.work.lease, self.work.run
        delta = Delta(run.id, run.attempts, self._pieces.length, text)
        self._engine.tell(lease.workspace_id, lease.session_id, delta, key_id=run.key_id)

    def _begin_flush(self, group: asyncio.TaskGroup) -> None:
        self._flush_due = None
        if not self.concluding:
            group.create_task(self._flush_or_stop())

    async def _flush_or_stop(self) -> None:
        try:
            await self._flush()
        except Exception as error:
            log.exception("run=%s worker=%s attempt=%d cannot be written", self.run_id, *self._who)
            self._failure = AgentError(INTERNAL, f"what the agent said could not be kept: {type(error).__name__}")
            if self._doing is not None:
                self._doing.cancel()

    async def _flush(self) -> None:
        """Write what is gathered. Nothing is written twice, also where a commit's answer is lost."""
        lease = self.work.lease
        async with self._writing:
            entries = self._pieces.take()
            if not entries:
                return
            wanted = work.append_of(lease, self.work.run, entries, at_us=time.time_ns() // 1000)

            def last(first_seq: int | None) -> int | None:
                return first_seq + len(entries) - 1 if first_seq is not None else None

            async def write() -> int | None:
                return last(await self._engine.combine(work.append, (lease, wanted)))

            async def append(tx: Tx) -> int | None:
                return last(await leases.append(tx, lease, wanted))

            self._note_written(await self._insist(write, again=partial(self._write_unless_written, append)))

    async def _write_unless_written(self, append: Operation[int | None]) -> int | None:
        """Make a write that failed again, unless its commit came through and only the word of that was lost."""

        async def operation(tx: Tx) -> int | None:
            # Whoever holds the session waits here for a transaction of ours that may still be under way.
            if not await leases.hold(tx, self.work.lease):
                return None
            return await self._find_written(tx) or await append(tx)

        return await self._engine.write(operation)

    async def _find_written(self, tx: Tx) -> int | None:
        lease, run = self.work.lease, self.work.run
        return await leases.find_written(tx, lease, run.id, actor=work.actor_of(run), after=self._last_seq)

    def _note_written(self, last_seq: int | None) -> None:
        if last_seq is not None:
            self._last_seq = last_seq
            return
        self.stop(Stop.LOST)
        self._stop = Stop.LOST  # also when the agent has ended: something of what it said is not kept

    async def _ask(self, wanted: Ask) -> Answer:
        """Have the run wait for an answer, and return it. Meanwhile its time does not run."""
        check_ask(wanted)
        async with self._writing:
            entries = self._pieces.take()

            async def ask(tx: Tx) -> int | None:
                now_us = await clock.read_us(tx)
                asked = await work.ask(tx, self.work.lease, self.run_id, wanted, entries, now_us=now_us)
                return await self._find_written(tx) if asked else None

            last_seq = await self._insist(
                partial(self._engine.write, ask), again=partial(self._write_unless_written, ask)
            )
            self._note_written(last_seq)
        self._answered = self._loop.create_future()
        self._news.wake()
        assert self._limit is not None
        ends = self._limit.when()
        left = ends - self._loop.time() if ends is not None else None
        self._limit.reschedule(None)
        done, _ = await asyncio.wait({self._answered}, timeout=ASK_SECONDS)
        if left is not None:
            self._limit.reschedule(self._loop.time() + left)
        if not done:
            raise AgentError(TIME_LIMIT, "nobody answered what it asked", permanent=True)
        return self._answered.result()

    async def _watch_on(self) -> None:
        """Look after the run whenever its session was written to: is it still ours, was it cancelled or answered."""
        lease = self.work.lease

        async def look(tx: Tx) -> leases.Look | None:
            return await leases.look(tx, lease, self.run_id)

        with self._engine.watches.open(lease.workspace_id, lease.session_id) as self._news:
            while True:
                # What the run itself writes wakes this too. Most runs are over before the first look.
                await asyncio.sleep(LOOK_PAUSE_SECONDS)
                # From before the look: that may still show the answer to an earlier question.
                answered = self._answered
                try:
                    seen = await self._engine.read(look)
                except Unavailable:
                    await asyncio.sleep(TROUBLE_SECONDS)
                    continue
                if seen is None or not seen.held:
                    self.stop(Stop.LOST)
                elif seen.cancel_requested:
                    self.stop(Stop.CANCEL)
                elif seen.answer is not None and answered is not None and not answered.done():
                    answered.set_result(msgspec.json.decode(seen.answer, type=Answer))
                await self._news.wait(min(LOOK_SECONDS, self._engine.poll_seconds))

    async def _read_brief(self) -> Brief | None:
        lease = self.work.lease

        async def find(tx: Tx) -> Session | None:
            return await sessions.find(tx, lease.workspace_id, lease.session_id, user_id=None)

        session = await self._engine.read(find)
        if session is None:
            return None

        async def operation(tx: Tx) -> Brief:
            return await read_brief(tx, self.work, session)

        # What holds up nobody is read at once: to have a thread do it costs more than the reading.
        short = is_short(session, PASSED_FOR_ONE * self.work.agent.history) and self.work.run.simulates is None
        return await (self._engine.read if short else self._engine.scan)(operation)

    async def _conclude(self, ending: Ending, outcome: Outcome) -> Run | None:
        async def operation(tx: Tx) -> Run | None:
            return await ending(tx, self.work, outcome, now_us=await clock.read_us(tx))

        return await self._engine.write(operation)

    def _ending(self) -> tuple[Ending, Outcome]:
        failure, taken = self._failure, self.work
        outcome = Outcome(
            status=COMPLETED,
            entries=self._pieces.take(),
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens,
            duration_us=int((self._loop.time() - self._began) * 1_000_000),
        )
        if self._stop is Stop.CANCEL:
            return work.finish, replace(outcome, status=CANCELLED)
        if self._stop is Stop.WORKER:
            return work.give_back, outcome
        if failure is None and self._wait is not None:
            return partial(work.park, wanted=self._wait, wait_id=new_id("wait_")), outcome
        if failure is None:
            return work.finish, replace(outcome, output=self._pieces.text)
        outcome = replace(outcome, status=FAILED, failure=Failure(failure.code, valid(failure.message)))
        tried_enough = failure.permanent or taken.run.failures >= taken.agent.retries
        return (work.finish if tried_enough else work.retry_later), outcome

    async def _insist(
        self,
        doing: Callable[[], Coroutine[Any, Any, T]],
        *,
        again: Callable[[], Coroutine[Any, Any, T]] | None = None,
    ) -> T | None:
        """Do what the database must do, `again` while it is away; None once it was for longer than the lease lasts.

        An agent that has ended is not in the way of another: what it said may come later.
        """
        while True:
            try:
                return await doing()
            except Unavailable as error:
                log.warning("run=%s worker=%s attempt=%d waits: %s", self.run_id, *self._who, error)
                if self._loop.time() > self._lease_ends + (CONCLUDE_SECONDS if self.concluding else 0):
                    return None
                doing = again or doing
                await asyncio.sleep(TROUBLE_SECONDS)


async def _load(kind: str) -> Runner:
    """Return a runner; the first time in a thread, since what it imports may take a second."""
    if f"sessiond.runners.{kind}" in sys.modules:
        return find_runner(kind)
    return await asyncio.to_thread(find_runner, kind)
