"""Agents, and workers without any agent behind them, for the tests of runs; by a clock of the test's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import agents, events, runs, sessions, work
from sessiond.actions.briefs import read_brief
from sessiond.actions.call import Call, itself
from sessiond.actions.work import Claimed, Outcome, Work
from sessiond.core.agent import NewAgent
from sessiond.core.caller import Caller
from sessiond.core.event import Event
from sessiond.core.ids import RunId
from sessiond.core.message import Message
from sessiond.core.run import COMPLETED, FAILED, Ask, Brief, Choice, Failure, Run, RunFilter
from sessiond.core.session import NewSession, Session
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import ME, append, gathered, make_workspaces, text

SECOND: Final = 1_000_000
LEASE: Final = 10 * SECOND
# Ahead of the database's own clock: what is queued by that is due by this.
NOW: Final = time.time_ns() // 1000 + 86_400 * SECOND

DONE: Final = Outcome(status=COMPLETED, output="done")
QUESTION: Final = Ask("may I?", [Choice("y", "yes"), Choice("n", "no")])
BROKEN: Final = Outcome(status=FAILED, failure=Failure("agent_failed", "it broke"))


async def register(engine: Engine, agent_id: str = "a", **new: Any) -> None:
    await make_workspaces(engine)
    await agents.register(Call(engine, ME), agent_id, NewAgent(runner="echo", **new), itself)


async def begin(engine: Engine, session_id: str = "s", *messages: str, agent_id: str = "a", **new: Any) -> None:
    """Make a session of a registered agent, with its first messages."""
    said = [text(each) for each in messages]
    made = NewSession(agent_id=agent_id, **new)
    await sessions.create(Call(engine, ME), made, itself, session_id=session_id, messages=said)


async def send(engine: Engine, *contents: str, session_id: str = "s", by: Caller = ME) -> RunId:
    """Say something; return the run that it starts."""
    said = await append(engine, session_id, *contents, by=by)
    assert said[-1].run_id is not None
    return RunId(said[-1].run_id)


async def start(engine: Engine, session_id: str = "s", message: Message | None = None, **how: Any) -> Run:
    return await runs.start(Call(engine, ME), session_id, itself, message=message, **how)


async def claim(engine: Engine, worker: str = "w", *, at_us: int = NOW, limit: int = 10) -> Claimed:
    async def operation(tx: Tx) -> Claimed:
        return await work.claim(tx, worker, now_us=at_us, lease_us=LEASE, limit=limit)

    return await engine.write(operation)


async def take(engine: Engine, worker: str = "w", *, at_us: int = NOW) -> Work:
    """Claim the one run that is due."""
    (taken,) = (await claim(engine, worker, at_us=at_us)).works
    return taken


async def finish(engine: Engine, taken: Work, outcome: Outcome = DONE, *, at_us: int = NOW, **said: Any) -> Run | None:
    return await engine.write(lambda tx: work.finish(tx, taken, replace(outcome, **said), now_us=at_us))


async def retry_later(engine: Engine, taken: Work, *, at_us: int = NOW, **said: Any) -> Run | None:
    return await engine.write(lambda tx: work.retry_later(tx, taken, replace(BROKEN, **said), now_us=at_us))


async def give_back(engine: Engine, taken: Work, *, at_us: int = NOW, **said: Any) -> Run | None:
    return await engine.write(lambda tx: work.give_back(tx, taken, replace(DONE, output=None, **said), now_us=at_us))


async def ask(engine: Engine, taken: Work, question: Ask = QUESTION) -> bool:
    return await engine.write(lambda tx: work.ask(tx, taken.lease, taken.run.id, question, (), now_us=NOW))


async def do_one(engine: Engine, answer: str = "done", *, at_us: int = NOW) -> Run:
    """Claim the one run that is due, and complete it."""
    run = await finish(engine, await take(engine, at_us=at_us), output=answer, at_us=at_us)
    assert run is not None
    return run


async def brief_of(engine: Engine, taken: Work) -> Brief:
    session = await get_session(engine, taken.lease.session_id)
    return await engine.scan(lambda tx: read_brief(tx, taken, session))


async def history(engine: Engine, taken: Work) -> list[Any]:
    """Return the contents of the conversation that an agent is told."""
    return [msgspec.json.decode(said.content) for said in (await brief_of(engine, taken)).messages]


async def get(engine: Engine, run_id: str) -> Run:
    return await runs.get(Call(engine, ME), run_id)


async def get_session(engine: Engine, session_id: str = "s") -> Session:
    return await sessions.get(Call(engine, ME), session_id)


async def listed(engine: Engine, *, by: Caller = ME, **wanted: Sequence[Any]) -> list[Run]:
    """Return all runs that a caller sees, oldest first."""
    page = await runs.read_page(Call(engine, by), RunFilter(**wanted), descending=False, limit=100)  # type: ignore[arg-type]  # tuples
    return page.runs


async def log_of(engine: Engine, session_id: str = "s") -> list[Event]:
    return await gathered(events.read_all(Call(engine, ME), await get_session(engine, session_id)))


async def types_of(engine: Engine, run_id: str, session_id: str = "s") -> list[str]:
    """Return what the log says of one run."""
    return [event.type for event in await log_of(engine, session_id) if event.run_id == run_id]


def error_of(run: Run | None) -> Failure:
    assert run is not None
    assert run.error is not None
    return msgspec.json.decode(run.error, type=Failure)
