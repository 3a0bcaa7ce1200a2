"""Agents as rows, and how many runs of one may be under way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from sessiond.core.agent import Agent, NewAgent
from sessiond.core.ids import WorkspaceId
from sessiond.core.run import RUNNING, WAITING
from sessiond.storage import agents, runs
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.statements import load_statements
from tests.storage.making import ELSEWHERE, NOW, WORKSPACE, add, make_session
from tests.storage.plans import read_through
from tests.storage.test_runs import make_run, statements_of

SQL: Final = Path(agents.__file__).parent / "sql" / "agents.sql"
# Reads the agents that have a limit: there are few.
OF_THE_LIMITED: Final = {"agents_full"}


def make_agent(agent_id: str = "a", *, workspace: WorkspaceId = WORKSPACE, **said: Any) -> Agent:
    return NewAgent(runner="echo", **said).make(workspace, agent_id, at_us=NOW)


async def insert(engine: Engine, agent: Agent) -> bool:
    return await engine.write(lambda tx: agents.insert(tx, agent))


async def find(engine: Engine, agent_id: str = "a") -> Agent | None:
    return await engine.read(lambda tx: agents.find(tx, WORKSPACE, agent_id))


async def test_an_agent_comes_back_as_it_was_kept_and_an_id_is_taken_once(engine: Engine) -> None:
    full = make_agent(
        options={"delay_ms": 5},
        time_limit_seconds=1.5,
        retries=3,
        backoff_seconds=0.25,
        concurrency=4,
        history=5,
        fails_session=True,
    )
    assert await insert(engine, full) is True

    assert await insert(engine, make_agent()) is False
    assert await insert(engine, make_agent(workspace=ELSEWHERE)) is True
    assert await find(engine) == full
    assert await find(engine, "b") is None


async def test_what_changes_is_all_but_when_it_was_made(engine: Engine) -> None:
    before = make_agent(concurrency=1)
    await insert(engine, before)
    after = msgspec.structs.replace(
        make_agent(history=7, fails_session=True, retries=0), created_at_us=1, updated_at_us=NOW + 9
    )

    await engine.write(lambda tx: agents.update(tx, after))

    assert await find(engine) == msgspec.structs.replace(after, created_at_us=NOW)


async def test_agents_are_listed_by_id_and_removed_once(engine: Engine) -> None:
    for agent_id in ("c", "a", "b", "Z", "é"):
        await insert(engine, make_agent(agent_id))
    await insert(engine, make_agent("d", workspace=ELSEWHERE))

    async def listed(after: str = "", limit: int = 10) -> list[str]:
        return [
            one.id for one in await engine.read(lambda tx: agents.read_page(tx, WORKSPACE, after=after, limit=limit))
        ]

    assert await listed() == ["Z", "a", "b", "c", "é"]
    assert await listed(after="a", limit=2) == ["b", "c"]
    removed = [await engine.write(lambda tx: agents.delete(tx, WORKSPACE, "b")) for _ in range(2)]
    assert removed == [True, False]
    assert await listed() == ["Z", "a", "c", "é"]


async def under_way(engine: Engine, count: int) -> None:
    """Give the agent some runs; every second one waits."""

    async def operation(tx: Tx) -> None:
        for number in range(count):
            await runs.insert(tx, make_run(f"r{number}", f"s{number}"), now_us=NOW)
            running = make_run(f"r{number}", f"s{number}").become(RUNNING, NOW)
            await runs.save(tx, running.become(WAITING, NOW) if number % 2 else running)

    await add(engine, *(make_session(f"s{number}") for number in range(count + 1)))
    await engine.write(operation)
    await engine.write(lambda tx: runs.insert(tx, make_run("queued", f"s{count}"), now_us=NOW))


@pytest.mark.parametrize(("concurrency", "place"), [(None, True), (3, True), (2, False), (1, False)])
async def test_an_agent_has_a_place_for_a_run_until_its_limit(
    engine: Engine, concurrency: int | None, place: bool
) -> None:
    agent = make_agent(concurrency=concurrency)
    await insert(engine, agent)
    await under_way(engine, 2)

    assert await engine.write(lambda tx: agents.take_place(tx, agent)) is place
    full = await engine.read(agents.read_full)
    assert full == ([] if place else [(WORKSPACE, "a")])


async def test_who_counts_an_agents_runs_is_alone_in_it_and_nobody_waits(engine: Engine) -> None:
    agent = make_agent(concurrency=1)
    await insert(engine, agent)
    await under_way(engine, 0)

    async def take(tx: Tx) -> bool | None:
        place = await agents.take_place(tx, agent)
        if place:
            await runs.save(tx, make_run("queued", "s0").become(RUNNING, NOW))
        return place

    taken = await asyncio.gather(*(engine.write(take) for _ in range(8)))

    assert taken.count(True) == 1
    assert await engine.write(take) is False


async def test_no_statement_of_an_agent_reads_a_table_through(database: str, engine: Engine) -> None:
    statements = load_statements(engine.name)
    for name in statements_of(SQL):
        steps = await read_through(database, statements[name])
        assert steps == [] or name in OF_THE_LIMITED, name


async def test_which_agents_are_full_is_asked_of_those_with_a_limit_only(database: str, engine: Engine) -> None:
    steps = await read_through(database, load_statements(engine.name)["agents_full"])

    assert len(steps) == 1
    assert "agents_limited" in steps[0]
