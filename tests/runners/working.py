"""Real workers on a real engine, and what tests of them ask for: agents, sessions, messages, and how a run went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import msgspec

from sessiond.actions import agents, events, runs, sessions
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import IfExists
from sessiond.core.agent import NewAgent
from sessiond.core.event import RUN_TEXT, Event
from sessiond.core.ids import RunId
from sessiond.core.message import Role, unpack_message
from sessiond.core.run import Failure, Run, RunStatus
from sessiond.core.session import NewSession
from sessiond.runners.worker import Worker
from sessiond.storage.engine import Engine
from tests.actions.calling import ME, append, gathered, make_workspaces

SECONDS: Final = 30  # for what takes a moment when nothing else runs
LEASE_SECONDS: Final = 8.0


@asynccontextmanager
async def open_worker(
    engine: Engine, *, runs_max: int = 100, lease_seconds: float = LEASE_SECONDS
) -> AsyncIterator[Worker]:
    """Have a worker at work until the block ends; what it has then is given back."""
    worker = Worker(engine, runs_max=runs_max, lease_seconds=lease_seconds)
    working = asyncio.create_task(worker.work())
    try:
        yield worker
    finally:
        worker.give_back()
        async with asyncio.timeout(SECONDS):
            await working


async def register(engine: Engine, agent_id: str = "a", *, runner: str = "echo", **new: Any) -> None:
    await make_workspaces(engine)
    await agents.register(
        Call(engine, ME), agent_id, NewAgent(runner=runner, **{"backoff_seconds": 0.0, **new}), itself
    )


async def register_script(engine: Engine, script: str, *, agent_id: str = "a", **new: Any) -> None:
    """Register a shell's script as an agent that is given text and prints text."""
    options = {"command": ["sh", "-c", script], "protocol": "text"}
    await register(engine, agent_id, runner="command", options=options, **new)


async def register_lines(engine: Engine, *lines: str | dict[str, Any], agent_id: str = "a", **new: Any) -> None:
    """Register a program that prints these pieces, whatever it is told."""
    printed = [line if isinstance(line, str) else msgspec.json.encode(line).decode() for line in lines]
    await register(engine, agent_id, runner="command", options={"command": ["printf", r"%s\n", *printed]}, **new)


async def send(engine: Engine, *words: str, session_id: str = "s", agent_id: str = "a") -> list[RunId]:
    """Say something in a session, which is made when it is not there; return the runs that it started."""
    new = NewSession(agent_id=agent_id)
    await sessions.create(Call(engine, ME), new, itself, session_id=session_id, if_exists=IfExists.RETURN)
    sent = [(await append(engine, session_id, word))[0] for word in words]
    return [RunId(str(event.run_id)) for event in sent]


async def get(engine: Engine, run_id: RunId) -> Run:
    return await runs.get(Call(engine, ME), run_id)


async def ended(engine: Engine, run_id: RunId) -> Run:
    """Wait for the end of a run."""
    run = await runs.wait(Call(engine, ME), run_id, timeout_seconds=SECONDS)
    assert run.ended, f"it is {run.status} after {SECONDS} s"
    return run


async def all_ended(engine: Engine, run_ids: Sequence[RunId]) -> list[Run]:
    return await asyncio.gather(*(ended(engine, run_id) for run_id in run_ids))


def failure_of(run: Run) -> Failure:
    assert run.status is RunStatus.FAILED, run
    assert run.error is not None
    return msgspec.json.decode(run.error, type=Failure)


def output_of(run: Run) -> str:
    assert run.status is RunStatus.COMPLETED, run
    assert run.output is not None
    text: str = msgspec.json.decode(run.output)
    return text


async def read_log(engine: Engine, session_id: str = "s") -> list[Event]:
    call = Call(engine, ME)
    return await gathered(events.read_all(call, await sessions.get(call, session_id)))


async def events_of(engine: Engine, run_id: RunId, *types: str) -> list[Event]:
    """Return what the log has of a run, of these types if any are given."""
    session_id = (await get(engine, run_id)).session_id
    assert session_id is not None
    log = await read_log(engine, session_id)
    return [event for event in log if event.run_id == run_id and (not types or event.type in types)]


async def types_of(engine: Engine, run_id: RunId) -> list[str]:
    return [event.type for event in await events_of(engine, run_id)]


async def seen(
    engine: Engine, run_id: RunId, type: str, *, where: Callable[[dict[str, Any]], bool] = lambda body: True
) -> Event:
    """Wait for an event of a run."""
    call, session_id = Call(engine, ME), (await get(engine, run_id)).session_id
    assert session_id is not None

    async def allowed() -> None: ...

    followed = events.follow(call, session_id, after=0, silence_seconds=SECONDS, still_allowed=allowed)
    async with asyncio.timeout(SECONDS), aclosing(followed) as pages:  # type: ignore[type-var]  # it is a generator
        async for page in pages:
            for event in page:
                assert isinstance(event, Event)
                if event.run_id == run_id and event.type == type and where(body_of(event)):
                    return event
    raise AssertionError(f"there is no {type} of the run")


def body_of(event: Event) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(event.body)
    return body


async def text_in_log(engine: Engine, run_id: RunId) -> str:
    """Return what the pieces of a run say, having checked that each begins where the last one ended."""
    said = ""
    for event in await events_of(engine, run_id, RUN_TEXT):
        body = body_of(event)
        assert body["offset"] == len(said), "a piece is missing, or there twice"
        said += body["text"]
    return said


async def answers(engine: Engine, session_id: str = "s") -> list[str]:
    """Return what the assistant has said in a session."""
    said = [unpack_message(event.body) for event in await read_log(engine, session_id) if event.is_message]
    return [msgspec.json.decode(message.content) for message in said if message.role is Role.ASSISTANT]


def assert_no_gaps(log: Sequence[Event]) -> None:
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
