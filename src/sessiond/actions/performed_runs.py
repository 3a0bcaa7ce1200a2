"""The runs of a recorded session while it is run again: started, waited for, answered, cancelled, and compared."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from sessiond.actions import agents, events, runs, waits
from sessiond.actions.call import Call, itself
from sessiond.core.agent import Agent
from sessiond.core.comparison import Called, Comparison, Ended, Verdict, compare_calls, compare_ends, pair
from sessiond.core.errors import Conflict, NotFound, SessiondError, Unauthenticated, Unavailable
from sessiond.core.event import ENDS, RUN_ENDS, RUN_QUEUED, RUN_TOOL_RESULT, Event
from sessiond.core.ids import RunId, SessionId
from sessiond.core.limits import PAGE_MAX
from sessiond.core.run import BACKOFF_MAX_SECONDS, CANCELLED, WAITING, Answer, Ask, Run
from sessiond.core.timeline import Step, Steps, make_steps

MARGIN_SECONDS: Final = 30.0  # beyond what its agent may take: it may have to wait for a worker
CANCEL_SECONDS: Final = 10.0  # a run that is cancelled has ended within two
GIVEN_MAX_SECONDS: Final = 60.0  # before what was cancelled then is cancelled again
WAIT_MAX_SECONDS: Final = 300.0  # for what ends a wait by itself: a time, an event
LEFT_OPEN: Final = "the recording ends here"


class Place:
    """Where comparisons go that may be known later than those behind them."""

    def __init__(self, *told: Comparison) -> None:
        self.told: Sequence[Comparison] | None = told or None


class _Run:
    """A recorded run and the one that does its work again."""

    def __init__(self, queued: Event, tools: Sequence[Event], end: Event | None) -> None:
        self.queued = queued
        self.tools = tools
        self.end = end
        self.run_id: RunId | None = None
        """The new one's; None when there is none."""
        self.seconds = 0.0
        """How long it may take."""
        self.failure: str | None = None
        """Why it could not be done."""
        self.remark: str | None = None
        """Why it went otherwise, where its end alone does not say."""
        self.over = False
        self.places = dict[int, Place]()
        """By the seq of the recorded step."""

    @property
    def was_cancelled(self) -> bool:
        return self.end is not None and self.end.type == RUN_ENDS[CANCELLED]


class Runs:
    """All runs of one recording, in the order of their queue."""

    def __init__(
        self,
        call: Callable[[], Call],
        recorded: Sequence[Event],
        steps: Steps,
        *,
        session_id: SessionId,
        simulates: bool,
        renamed: dict[str, str],
        waits: dict[str, str],
        still_allowed: Callable[[], Awaitable[object]] | None,
        deadline: float,
    ) -> None:
        self._call = call
        self._steps = steps
        self._session_id = session_id
        self._simulates = simulates
        self._renamed = renamed
        self._waits = waits
        self._still_allowed = still_allowed
        self._deadline = deadline
        self._runs = _runs_of(recorded)
        self._open = list[_Run]()
        self.paused = False
        """Whether the session is: its runs do not go on."""

    def simulated(self, recorded_id: str) -> RunId | None:
        """Return the run whose tools answer, for one that does a recorded run's work."""
        return RunId(recorded_id) if self._simulates else None

    def place_of(self, event: Event) -> Place:
        """Return where the comparison of a run's step will stand."""
        return self._runs[event.run_id or ""].places[event.seq]

    async def opened(self, recorded_id: str, new_id: str) -> None:
        """Note that a recorded run has begun again."""
        run = self._runs[recorded_id]
        run.run_id = RunId(new_id)
        self._renamed[recorded_id] = new_id
        seen = await runs.get(self._call(), new_id)
        run.seconds = _longest_seconds(await agents.get(self._call(), seen.agent_id)) + MARGIN_SECONDS
        self._open.append(run)

    async def failed(self, recorded_id: str, failure: str) -> None:
        """Note that a recorded run cannot begin again."""
        run = self._runs[recorded_id]
        run.failure = failure
        await self._close(run)

    async def lost(self, event: Event) -> None:
        """Note that a recorded run cannot begin again, if `event` is the message that it was to answer, taken back."""
        run_id = event.run_id or ""
        run = self._runs.get(run_id)
        if run is not None and run.run_id is None and not run.over:
            await self.failed(run_id, "the message that it answers was taken back")

    async def begin(self, event: Event) -> None:
        """Start what was started without a message, or tried again, if that is what `event` says."""
        run = self._runs[event.run_id or ""]
        if run.run_id is not None or run.over:
            return
        assert event.run_id is not None
        simulates = self.simulated(event.run_id)
        retried = msgspec.json.decode(event.body).get("retry_of")
        try:
            if retried is None:
                begun = await runs.start(self._call(), self._session_id, itself, simulates=simulates)
            else:
                earlier = self._runs.get(retried)
                if earlier is None or earlier.run_id is None:
                    raise NotFound("the run that was tried again was not done again")
                begun = await runs.retry(self._call(), earlier.run_id, itself, simulates=simulates)
        except (Unavailable, Unauthenticated):
            raise
        except SessiondError as error:
            await self.failed(event.run_id, error.message)
        else:
            await self.opened(event.run_id, begun.id)

    async def settle(self) -> None:
        """Wait for the runs that can end without more being done, one after the other."""
        while self._open and not self.paused and not self._open[0].was_cancelled:
            if not await self._follow(self._open[0]):
                return

    async def cancel(self, event: Event) -> None:
        """Cancel what was cancelled then, after as long as that took."""
        run = self._runs[event.run_id or ""]
        if run.over:
            return
        if run is self._open[0] and not self.paused:
            given_seconds = (event.created_at_us - run.queued.created_at_us) / 1_000_000
            if (await self._wait(run, min(given_seconds, GIVEN_MAX_SECONDS))).ended:
                await self._close(run)
                return
        await self._cancel(run, "cancelled as it was then")

    async def answer(self, event: Event) -> None:
        """Answer what a run asks as it was answered then."""
        run = self._runs[event.run_id or ""]
        if run.over or (seen := await self._get(run)).status is not WAITING or seen.ask is None:
            return
        try:
            await runs.respond(self._call(), seen.id, msgspec.json.decode(event.body, type=Answer), itself)
        except Conflict as error:
            run.remark = f"it was not answered as it was then: {error.message}"
            await self._cancel(run, LEFT_OPEN)

    async def note_wait(self, event: Event) -> None:
        """Note for which wait a run has given up its worker now, where it did so then."""
        run = self._runs[event.run_id or ""]
        if run.over or run.run_id is None or (now_id := (await self._get(run)).wait_id) is None:
            return
        recorded_id = msgspec.json.decode(event.body)["wait_id"]
        self._waits[recorded_id] = self._renamed[recorded_id] = now_id

    async def conclude(self, event: Event) -> None:
        """Have a run end that has ended in the recording by now."""
        run = self._runs[event.run_id or ""]
        if run.was_cancelled:
            await self.cancel(event)
        while not run.over:
            if self.paused or run is not self._open[0]:
                why = "the session is paused" if self.paused else "an earlier run has not ended"
                await self._give_up(run, f"it cannot go on: {why}")
            elif not await self._follow(run):
                await self._wait_for_its_wait(run)

    async def end(self) -> None:
        """Cancel the runs that the recording leaves open."""
        for run in reversed(self._open):
            await self._cancel(run, LEFT_OPEN)

    async def _follow(self, run: _Run) -> bool:
        """Wait for the end of a run; False when it waits for something itself."""
        seen = await self._wait(run, run.seconds)
        if seen.ended:
            await self._close(run)
            return True
        if seen.status is WAITING:
            return False
        within = f"{run.seconds:g} s" if self._left else "the time for running the session again"
        await self._give_up(run, f"it has not ended within {within}")
        return True

    async def _wait_for_its_wait(self, run: _Run) -> None:
        seen = await self._get(run)
        if seen.wait_id is not None:
            waited = await waits.wait(
                self._call(),
                seen.wait_id,
                timeout_seconds=min(WAIT_MAX_SECONDS, self._left),
                still_allowed=self._still_allowed,
            )
            if not waited.ended:
                await self._give_up(run, f"it still waits, of type {waited.type}")
        elif seen.status is WAITING:
            title = msgspec.json.decode(seen.ask, type=Ask).title if seen.ask is not None else ""
            run.remark = f"it asks what the recording has no answer to: {title}"
            await self._cancel(run, LEFT_OPEN)

    async def _give_up(self, run: _Run, failure: str) -> None:
        run.failure = failure
        await self._cancel(run, failure)

    async def _cancel(self, run: _Run, reason: str) -> None:
        assert run.run_id is not None
        with suppress(Conflict):  # it has ended this moment
            await runs.cancel(self._call(), run.run_id, itself, reason=reason)
        if not (await self._wait(run, CANCEL_SECONDS, at_least=CANCEL_SECONDS)).ended:
            run.failure = run.failure or "it could not be cancelled"
        await self._close(run)

    async def _wait(self, run: _Run, seconds: float, *, at_least: float = 0.0) -> Run:
        assert run.run_id is not None
        return await runs.wait(
            self._call(),
            run.run_id,
            timeout_seconds=max(at_least, min(seconds, self._left)),
            still_allowed=self._still_allowed,
        )

    async def _get(self, run: _Run) -> Run:
        assert run.run_id is not None
        return await runs.get(self._call(), run.run_id)

    @property
    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    async def _close(self, run: _Run) -> None:
        """Compare a run that is over with the recorded one."""
        run.over = True
        if run in self._open:
            self._open.remove(run)
        recorded = [*run.tools, *([run.end] if run.end is not None else [])]
        if run.failure is not None:
            for event in recorded:
                run.places[event.seq].told = [self._told(event, None, Verdict.FAILED, run.failure)]
            return
        assert run.run_id is not None
        now = await self._read_now(run)
        tools = [event for event in now if event.type == RUN_TOOL_RESULT]
        then_calls, now_calls = [_called(event) for event in run.tools], [_called(event) for event in tools]
        now_steps = {step.seq: step for step in make_steps(now)}
        before = list[Comparison]()
        for then_place, now_place in pair(then_calls, now_calls, self._renamed):
            now_step = now_steps[tools[now_place].seq] if now_place is not None else None
            if then_place is None:
                assert now_step is not None
                before.append(_new(now_step))
                continue
            told = self._compare_calls(
                run.tools[then_place],
                now_step,
                then_calls[then_place],
                now_calls[now_place] if now_place is not None else None,
            )
            run.places[run.tools[then_place].seq].told = [*before, told]
            before = []
        if run.end is not None:
            run.places[run.end.seq].told = [*before, self._compare_ends(run, now[-1], now_steps[now[-1].seq])]

    def _compare_calls(self, event: Event, now_step: Step | None, then: Called, now: Called | None) -> Comparison:
        if now is None or now_step is None:
            return self._told(event, None, Verdict.CHANGED, "the tool was not called")
        reason = compare_calls(then, now, self._renamed)
        told = self._told(event, now_step, Verdict.CHANGED if reason is not None else Verdict.SAME, reason)
        if reason is None:
            return told
        then_step = self._steps.get(event)
        # What went in is an input that is not the recording's, but its agent's.
        more = [name for name in ("name", "arguments") if then_step.input[name] != now_step.input[name]]
        return msgspec.structs.replace(
            told,
            recorded={name: then_step.input[name] for name in more} | then_step.output,
            output={name: now_step.input[name] for name in more} | now_step.output,
        )

    def _compare_ends(self, run: _Run, now: Event, now_step: Step) -> Comparison:
        assert run.end is not None
        reason = compare_ends(_ended(run.end), _ended(now), self._renamed)
        if reason is not None and run.remark is not None:
            reason = run.remark
        return self._told(run.end, now_step, Verdict.CHANGED if reason is not None else Verdict.SAME, reason)

    def _told(self, event: Event, now_step: Step | None, verdict: Verdict, reason: str | None) -> Comparison:
        step = self._steps.get(event)
        return Comparison(
            index=step.index,
            seq=step.seq,
            action=step.action,
            input=step.input,
            recorded=step.output,
            output=now_step.output if now_step is not None else None,
            verdict=verdict,
            reason=reason,
            recorded_us=step.duration_us,
            duration_us=now_step.duration_us if now_step is not None else None,
        )

    async def _read_now(self, run: _Run) -> list[Event]:
        """Return what the log has now of a run's tools and, last, of its end."""
        assert run.run_id is not None
        seen = await self._get(run)
        found, after = list[Event](), seen.queued_seq
        while True:
            types = (RUN_TOOL_RESULT, *sorted(ENDS))
            page = await events.read_page(self._call(), self._session_id, after=after, types=types, limit=PAGE_MAX)
            found += [event for event in page.events if event.run_id == run.run_id]
            if not page.more:
                return found
            after = page.events[-1].seq


def _runs_of(recorded: Sequence[Event]) -> dict[str, _Run]:
    queued, ends, tools = dict[str, Event](), dict[str, Event](), dict[str, list[Event]]()
    for event in recorded:
        if event.run_id is None:
            continue
        if event.type == RUN_QUEUED:
            queued[event.run_id] = event
        elif event.type == RUN_TOOL_RESULT:
            tools.setdefault(event.run_id, []).append(event)
        elif event.type in ENDS:
            ends[event.run_id] = event
    found = {run_id: _Run(event, tools.get(run_id, []), ends.get(run_id)) for run_id, event in queued.items()}
    for run in found.values():
        run.places = {event.seq: Place() for event in (*run.tools, *([run.end] if run.end is not None else []))}
    return found


def _longest_seconds(agent: Agent) -> float:
    """Return how long a run of an agent may take, with all that it may be tried again."""
    pauses = (min(agent.backoff_seconds * 2**failures, BACKOFF_MAX_SECONDS) for failures in range(agent.retries))
    return float(agent.time_limit_seconds * (agent.retries + 1) + sum(pauses))


def _new(step: Step) -> Comparison:
    return Comparison(
        index=None,
        seq=None,
        action=step.action,
        input=step.input,
        recorded=None,
        output=step.output,
        verdict=Verdict.CHANGED,
        reason="the tool was not called then",
        duration_us=step.duration_us,
    )


def _called(event: Event) -> Called:
    return msgspec.json.decode(event.body, type=Called)


def _ended(event: Event) -> Ended:
    return msgspec.json.decode(event.body, type=Ended)
