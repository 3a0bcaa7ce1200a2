"""Agents of a workspace: registered, changed, listed, removed."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from sessiond.actions import agents
from sessiond.actions.agents import Registered
from sessiond.actions.call import Call, itself
from sessiond.core.agent import Agent, NewAgent
from sessiond.core.caller import ALL_SCOPES, Scope
from sessiond.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from sessiond.storage.engine import Engine
from tests.actions.calling import ELSEWHERE, HERE, ME, caller, make_workspaces, retried

ECHO = NewAgent(runner="echo")
PROGRAM = NewAgent(runner="command", options={"command": "true"})
WITHOUT_HOST = caller(scopes=ALL_SCOPES - {Scope.HOST})


async def register(
    engine: Engine, agent_id: str = "a", new: NewAgent = ECHO, *, change: bool = True, call: Call | None = None
) -> Registered:
    await make_workspaces(engine)
    return await agents.register(call or Call(engine, ME), agent_id, new, itself, change=change)


async def listed(engine: Engine) -> list[Agent]:
    return await agents.read_page(Call(engine, ME), limit=10)


async def test_an_agent_that_is_registered_again_becomes_what_was_said_last(engine: Engine) -> None:
    first = await register(engine)
    assert first.new

    again = await register(engine, new=NewAgent(runner="echo", history=3))

    assert not again.new
    assert again.agent == replace(first.agent, history=3, updated_at_us=again.agent.updated_at_us)
    assert again.agent.updated_at_us > first.agent.updated_at_us
    assert await agents.get(Call(engine, ME), "a") == again.agent
    with pytest.raises(Conflict):
        await register(engine, change=False)


async def test_of_many_who_register_one_agent_at_once_one_is_first(engine: Engine) -> None:
    made = await asyncio.gather(*(register(engine) for _ in range(8)))

    assert [one.new for one in made].count(True) == 1
    assert len(await listed(engine)) == 1


async def test_an_agent_that_cannot_be_is_not_registered(engine: Engine) -> None:
    with pytest.raises(InvalidInput):
        await register(engine, new=NewAgent(runner="none"))
    assert await listed(engine) == []


async def test_who_lacks_the_host_scope_neither_makes_nor_changes_what_uses_the_host(engine: Engine) -> None:
    await register(engine, "program", PROGRAM)

    for agent_id, new in {"new": PROGRAM, "program": ECHO}.items():
        with pytest.raises(Forbidden, match="host"):
            await register(engine, agent_id, new, call=Call(engine, WITHOUT_HOST))
    await register(engine, "mine", ECHO, call=Call(engine, WITHOUT_HOST))

    assert [(agent.id, agent.runner) for agent in await listed(engine)] == [("mine", "echo"), ("program", "command")]


async def test_a_removed_agent_is_gone_and_its_id_free(engine: Engine) -> None:
    await register(engine)

    await agents.remove(Call(engine, ME), "a", itself)

    for act in (agents.get(Call(engine, ME), "a"), agents.remove(Call(engine, ME), "a", itself)):
        with pytest.raises(NotFound):
            await act
    assert (await register(engine)).new


async def test_a_request_that_comes_twice_registers_once(engine: Engine) -> None:
    await make_workspaces(engine)

    def said(made: Registered) -> str:
        return f"new: {made.new}"

    answers = [
        await agents.register(Call(engine, ME, retry=retried("k")), "a", ECHO, said, change=False) for _ in range(2)
    ]

    assert answers == ["new: True"] * 2


async def test_which_of_some_agents_are_registered_is_each_workspaces_own(engine: Engine) -> None:
    for agent_id in ("a", "b"):
        await register(engine, agent_id)

    wanted = frozenset({"a", "c"})
    assert await agents.find_registered(engine, HERE, wanted) == {"a"}
    assert await agents.find_registered(engine, ELSEWHERE, wanted) == frozenset()
    page = await agents.read_page(Call(engine, ME), after="a", limit=5)
    assert [agent.id for agent in page] == ["b"]
