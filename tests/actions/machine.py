"""A workspace to which anything may happen in any order, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from sessiond.actions import agents, messages, runs, sessions, waits, work
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.actions.work import Outcome, Work
from sessiond.core.agent import NewAgent
from sessiond.core.caller import Caller, Workspace
from sessiond.core.errors import Conflict, NotFound
from sessiond.core.event import RUN_TEXT, make_entry
from sessiond.core.ids import WorkspaceId
from sessiond.core.message import Role, make_message
from sessiond.core.run import (
    CANCELLED,
    COMPLETED,
    FAILED,
    QUEUED,
    RUNNING,
    WAITING,
    Answer,
    Ask,
    Choice,
    Failure,
    Run,
    RunStatus,
    Strategy,
    WaitFor,
)
from sessiond.core.session import NewSession, Status
from sessiond.core.wait import WaitType
from sessiond.storage import leases, workspaces
from sessiond.storage import runs as run_rows
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import caller, text
from tests.actions.queueing import Eye, Seen, check, settled

SECOND: Final = 1_000_000
LEASE: Final = 10 * SECOND
DAY: Final = 86_400 * SECOND
WORKERS: Final = ("w0", "w1", "w2")
AGENTS: Final = {
    "any": NewAgent(runner="echo", retries=1),
    "one": NewAgent(runner="echo", concurrency=1, backoff_seconds=30),
    "strict": NewAgent(runner="echo", fails_session=True, retries=0),
}
SESSIONS: Final = {"a": "any", "b": "one", "c": "one", "d": "one", "e": "strict"}
OUTCOMES: Final = {
    "completes": Outcome(status=COMPLETED, output="done", prompt_tokens=3, completion_tokens=2),
    "says nothing": Outcome(status=COMPLETED, output="", prompt_tokens=1),
    "fails": Outcome(status=FAILED, failure=Failure("agent_failed", "no"), prompt_tokens=5),
    "stops": Outcome(status=CANCELLED, completion_tokens=1),
}
QUESTION: Final = Ask("may I?", [Choice("y", "yes"), Choice("n", "no")])

T = TypeVar("T")
any_session: Final = st.sampled_from(sorted(SESSIONS))
any_agent: Final = st.sampled_from(sorted(AGENTS))
any_one: Final = st.integers(0, 50)


class Bench:
    """An engine and the loop it belongs to, for machines that know nothing of loops."""

    def __init__(self, runner: asyncio.Runner, engine: Engine, eye: Eye) -> None:
        self.do = runner.run
        self.engine = engine
        self.eye = eye


class AnyQueue(RuleBasedStateMachine):
    """Sessions, agents and workers of one workspace, to which anything may happen at any time."""

    bench: Bench

    def __init__(self) -> None:
        super().__init__()
        self.me: Caller = caller(workspace=WorkspaceId(uuid.uuid4().hex))
        # Ahead of the database's own clock: what is queued by that is due by this.
        self.now_us = time.time_ns() // 1000 + DAY
        self.works: list[Work] = []
        self.over: dict[str, Run] = {}
        self.most: dict[str, int] = {}

    def call(self) -> Call:
        return Call(self.bench.engine, self.me)

    def write(self, operation: Callable[[Tx], Coroutine[Any, Any, T]]) -> T:
        return self.bench.do(self.bench.engine.write(operation))

    def tried(self, action: Coroutine[Any, Any, object]) -> bool:
        """Do what may be refused."""
        try:
            self.bench.do(action)
        except (Conflict, NotFound):
            return False
        return True

    def look(self) -> Seen:
        return self.bench.do(self.bench.eye.look(self.me.workspace_id))

    @initialize()
    def begin(self) -> None:
        here = Workspace(self.me.workspace_id, self.me.workspace_id * 2, 1)
        self.write(lambda tx: workspaces.insert(tx, here))
        for agent_id in AGENTS:
            self.register(agent_id)
        for session_id in SESSIONS:
            self.create(session_id)

    def register(self, agent_id: str, **changes: Any) -> None:
        new = msgspec.structs.replace(AGENTS[agent_id], **changes)
        self.bench.do(agents.register(self.call(), agent_id, new, itself))
        if new.concurrency is None:
            self.most.pop(agent_id, None)
        else:
            self.most[agent_id] = max(new.concurrency, self.look().under_way(agent_id))

    def create(self, session_id: str) -> None:
        new = NewSession(agent_id=SESSIONS[session_id])
        self.tried(sessions.create(self.call(), new, itself, session_id=session_id, messages=[text("hello")]))

    def pick(self, number: int, *statuses: RunStatus) -> Run | None:
        found = [run for run in self.look().runs if not statuses or run.status in statuses]
        return found[-1 - number % len(found)] if found else None

    @rule(session_id=any_session, strategy=st.sampled_from([None, *Strategy]), count=st.integers(1, 2))
    def a_message_comes(self, session_id: str, strategy: Strategy | None, count: int) -> None:
        said = [text(f"{number}") for number in range(count)]
        before = {run.id for run in self.look().runs}

        self.tried(messages.append(self.call(), session_id, said, itself, strategy=strategy))

        mine = [run for run in self.look().runs if run.session_id == session_id]
        if strategy in (Strategy.REJECT, Strategy.INTERRUPT) and any(run.id not in before for run in mine):
            for run in mine[:-1]:
                assert run.ended or run.cancel_requested_at_us is not None
                assert run.ended or strategy is Strategy.INTERRUPT

    @rule(session_id=any_session)
    def something_comes_that_nobody_answers(self, session_id: str) -> None:
        said = make_message(Role.ASSISTANT, "by hand")
        if self.tried(messages.append(self.call(), session_id, [said], itself)):
            return
        self.create(session_id)

    @rule(session_id=any_session, strategy=st.sampled_from(Strategy))
    def a_run_is_started(self, session_id: str, strategy: Strategy) -> None:
        self.tried(runs.start(self.call(), session_id, itself, strategy=strategy))

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 6), later=st.sampled_from([0, 0, 1, 11, 40]))
    def a_worker_claims(self, worker: str, limit: int, later: int) -> None:
        self.now_us += later * SECOND

        async def operation(tx: Tx) -> work.Claimed:
            return await work.claim(tx, worker, now_us=self.now_us, lease_us=LEASE, limit=limit)

        claimed = self.write(operation)

        assert len(claimed.works) <= limit
        for taken in claimed.works:
            assert taken.lease.worker == worker
            if taken.agent.concurrency is not None and taken.run.attempts == 1:
                assert self.look().under_way(taken.agent.id) <= taken.agent.concurrency
            (session,) = (one for one in self.look().sessions if one.id == taken.lease.session_id)
            assert session.status == Status.ACTIVE
        self.works += claimed.works
        if not claimed.more:
            self.nothing_is_left_lying()

    def nothing_is_left_lying(self) -> None:
        seen = self.look()
        for session in seen.sessions:
            if session.ready_at_us is not None and session.ready_at_us <= self.now_us:
                agent_id = session.ready_agent_id
                assert agent_id is not None, "a session whose worker was lost is taken over"
                busy = agent_id in self.most and seen.under_way(agent_id) > 0
                assert busy, "one of an agent that could do more is taken"

    def held(self, taken: Work) -> bool:
        """Whether the database says that a worker still has what it took."""
        return any(
            (session.id, session.fence, session.lease_owner)
            == (taken.lease.session_id, taken.lease.fence, taken.lease.worker)
            for session in self.look().sessions
        )

    @precondition(lambda self: self.works)
    @rule(
        number=st.integers(0, 9),
        doing=st.sampled_from(["write", "ask", "retry", "give back", "park", *OUTCOMES]),
    )
    def a_worker_writes(self, number: int, doing: str) -> None:
        """Also one that was frozen, and does not know that others have gone on."""
        taken = self.works[-1 - number % len(self.works)]
        had_it, before = self.held(taken), self.look()

        done = self.write(lambda tx: self.doing(tx, taken, doing))

        assert bool(done) == had_it
        if not had_it:
            assert self.look() == before, "who has lost a run writes nothing"

    async def doing(self, tx: Tx, taken: Work, doing: str) -> object:
        piece = make_entry(RUN_TEXT, {"text": "x"}, run_id=taken.run.id)
        if doing == "park" and await self.asks(tx, taken):
            doing = "write"  # it has no time to wait for anything else
        match doing:
            case "park":
                what, wait_id = WaitFor(WaitType.APPROVAL), f"wait_{uuid.uuid4().hex}"
                outcome = Outcome(status=COMPLETED, entries=(piece,), prompt_tokens=2)
                return await work.park(tx, taken, outcome, wanted=what, wait_id=wait_id, now_us=self.now_us)
            case "write":
                wanted = work.append_of(taken.lease, taken.run, (piece,), at_us=self.now_us)
                return (await work.append(tx, [(taken.lease, wanted)]))[0]
            case "ask":
                return await work.ask(tx, taken.lease, taken.run.id, QUESTION, (piece,), now_us=self.now_us)
            case "retry":
                return await work.retry_later(tx, taken, OUTCOMES["fails"], now_us=self.now_us)
            case "give back":
                return await work.give_back(tx, taken, Outcome(status=CANCELLED, prompt_tokens=4), now_us=self.now_us)
        outcome = msgspec.structs.replace(OUTCOMES[doing], entries=(piece,))
        return await work.finish(tx, taken, outcome, now_us=self.now_us)

    async def asks(self, tx: Tx, taken: Work) -> bool:
        run = await run_rows.find(tx, self.me.workspace_id, taken.run.id, user_id=None)
        return run is not None and run.status is WAITING

    @rule(number=any_one, how=st.sampled_from(["complete", "cancel"]))
    def what_a_run_waits_for_ends(self, number: int, how: str) -> None:
        found = [run for run in self.look().runs if run.wait_id is not None]
        if not found:
            return
        run = found[number % len(found)]
        assert run.wait_id is not None
        if how == "complete":
            self.bench.do(waits.complete(self.call(), run.wait_id, {}, itself))
        else:
            self.bench.do(waits.cancel(self.call(), run.wait_id, itself))
        (after,) = (one for one in self.look().runs if one.id == run.id)
        assert (after.status, after.wait_id, after.attempts) == (QUEUED, None, run.attempts)

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_beats(self, worker: str) -> None:
        mine = [taken.lease for taken in self.works if taken.lease.worker == worker]
        holding = {taken.lease for taken in self.works if taken.lease.worker == worker and self.held(taken)}

        async def operation(tx: Tx) -> list[leases.Lease]:
            return await leases.renew(tx, mine, until_us=self.now_us + LEASE)

        assert set(self.write(operation)) == holding

    @rule(number=any_one, statuses=st.sampled_from([(), (RUNNING, WAITING)]))
    def a_run_is_cancelled(self, number: int, statuses: tuple[RunStatus, ...]) -> None:
        run = self.pick(number, *statuses)
        if run is not None:
            assert self.tried(runs.cancel(self.call(), run.id, itself)) == (not run.ended or run.status is CANCELLED)

    @rule(number=any_one)
    def a_run_is_tried_again(self, number: int) -> None:
        run = self.pick(number)
        if run is not None:
            self.tried(runs.retry(self.call(), run.id, itself))

    @rule(number=any_one)
    def a_run_is_answered(self, number: int) -> None:
        run = self.pick(number, WAITING)
        if run is not None and run.wait_id is None:
            assert self.tried(runs.respond(self.call(), run.id, Answer("y"), itself))

    @rule(session_id=any_session, status=st.sampled_from([Status.PAUSED, Status.ACTIVE, Status.COMPLETED]))
    def a_session_changes(self, session_id: str, status: Status) -> None:
        self.tried(sessions.patch(self.call(), session_id, SessionPatch(status=status), itself))

    @rule(session_id=any_session, agent_id=any_agent)
    def a_session_gets_another_agent(self, session_id: str, agent_id: str) -> None:
        self.tried(sessions.patch(self.call(), session_id, SessionPatch(agent_id=agent_id), itself))

    @rule(session_id=any_session)
    def a_session_is_deleted(self, session_id: str) -> None:
        self.tried(sessions.delete(self.call(), session_id, itself))

    @rule(session_id=any_session, user_id=st.sampled_from(["u", "v", None]))
    def a_session_is_given_away(self, session_id: str, user_id: str | None) -> None:
        self.tried(sessions.patch(self.call(), session_id, SessionPatch(user_id=user_id), itself))
        owners = {run.user_id for run in self.look().runs if run.session_id == session_id}
        assert owners <= {user_id}

    @rule(agent_id=any_agent, concurrency=st.sampled_from([None, 1, 2]))
    def an_agent_changes(self, agent_id: str, concurrency: int | None) -> None:
        self.register(agent_id, concurrency=concurrency)

    @rule(agent_id=any_agent)
    def an_agent_is_removed(self, agent_id: str) -> None:
        if self.tried(agents.remove(self.call(), agent_id, itself)):
            self.most.pop(agent_id, None)

    @invariant()
    def all_is_well(self) -> None:
        seen = self.look()
        check(seen)
        for agent_id, most in self.most.items():
            assert seen.under_way(agent_id) <= most, f"{agent_id} does more at once than it may"
        for run in seen.runs:
            if run.ended:
                assert self.over.setdefault(run.id, settled(run)) == settled(run), "an ended run never changes"
            if run.wait_id is not None:
                assert not self.bench.do(waits.get(self.call(), run.wait_id)).ended, "what waits goes on in the end"
        assert self.over.keys() <= {run.id for run in seen.runs}

    def teardown(self) -> None:
        try:
            self.everything_runs_out()
        finally:
            leave = f"update sessions set ready_at_us = null where workspace_id = '{self.me.workspace_id}'"
            self.bench.do(self.bench.eye.rows(leave))

    def everything_runs_out(self) -> None:
        for session_id in SESSIONS:
            self.a_session_changes(session_id, Status.ACTIVE)
        for _ in range(500):
            self.a_worker_claims("last", 6, 60)
            for taken in [taken for taken in self.works if taken.lease.worker == "last"]:
                self.write(lambda tx, taken=taken: self.doing(tx, taken, "completes"))  # type: ignore[misc]
            self.works = []
            while any(run.wait_id is not None for run in self.look().runs):
                self.what_a_run_waits_for_ends(0, "complete")
            if all(run.ended for run in self.look().runs):
                break
        assert all(run.ended for run in self.look().runs), "every run ends"
        self.all_is_well()
