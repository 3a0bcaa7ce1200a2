"""Agents of a workspace: register, find, list, remove."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from sessiond.actions.call import A, Call
from sessiond.core.agent import ECHO, Agent, NewAgent
from sessiond.core.audit import CREATE_AGENT, DELETE_AGENT, UPDATE_AGENT
from sessiond.core.caller import Scope
from sessiond.core.errors import Conflict, Forbidden, NotFound
from sessiond.core.ids import WorkspaceId
from sessiond.storage import agents
from sessiond.storage.engine import Engine, Tx


class Registered(msgspec.Struct, frozen=True):
    """An agent that was registered, or, with `new` false, changed."""

    agent: Agent
    new: bool


async def register(
    call: Call, agent_id: str, new: NewAgent, answer: Callable[[Registered], A], *, change: bool = True
) -> A:
    """Register an agent; with `change`, one that is registered becomes what `new` says.

    Raises:
        Forbidden: the caller lacks the admin scope, or the agent uses the machine and the caller lacks the host scope.
        InvalidInput: there is no such runner, or it does not take these options.
        Conflict: the id is taken, and it is not to be changed.
    """
    call.caller.require(Scope.ADMIN)
    agent = new.make(call.caller.workspace_id, agent_id, at_us=call.now_us)
    _require_host(call, agent)

    async def operation(tx: Tx) -> Registered:
        if await insert(tx, call, agent):
            return Registered(agent, new=True)
        before = await agents.find(tx, agent.workspace_id, agent.id)
        if not change or before is None:
            raise Conflict("an agent with this id is registered", field="id")
        _require_host(call, before)
        await agents.update(tx, agent)
        await call.audit(tx, UPDATE_AGENT, {"id": agent.id, "runner": agent.runner})
        return Registered(replace(agent, created_at_us=before.created_at_us), new=False)

    return await call.write(operation, answer)


async def insert(tx: Tx, call: Call, agent: Agent) -> bool:
    """Store a new agent, and note it in the audit log; False, and nothing happens, when its id is taken."""
    if not await agents.insert(tx, agent):
        return False
    await call.audit(tx, CREATE_AGENT, {"id": agent.id, "runner": agent.runner})
    return True


async def get(call: Call, agent_id: str) -> Agent:
    """Return an agent.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: the workspace has no such agent.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> Agent:
        agent = await agents.find(tx, call.caller.workspace_id, agent_id)
        if agent is None:
            raise NotFound("no such agent")
        return agent

    return await call.engine.read(operation)


async def read_page(call: Call, *, after: str = "", limit: int) -> list[Agent]:
    """Return up to `limit` agents of the workspace in the order of their ids, from behind `after`.

    Raises:
        Forbidden: the caller lacks the read scope.
    """
    call.caller.require(Scope.SESSIONS_READ)

    async def operation(tx: Tx) -> list[Agent]:
        return await agents.read_page(tx, call.caller.workspace_id, after=after, limit=limit)

    return await call.engine.read(operation)


async def remove(call: Call, agent_id: str, answer: Callable[[None], A]) -> A:
    """Remove an agent. Messages to its sessions are kept from now on; what is queued for it fails.

    Raises:
        Forbidden: the caller lacks the admin scope.
        NotFound: the workspace has no such agent.
    """
    call.caller.require(Scope.ADMIN)

    async def operation(tx: Tx) -> None:
        if not await agents.delete(tx, call.caller.workspace_id, agent_id):
            raise NotFound("no such agent")
        await call.audit(tx, DELETE_AGENT, {"id": agent_id})

    return await call.write(operation, answer)


def _require_host(call: Call, agent: Agent) -> None:
    if agent.needs_host and Scope.HOST not in call.caller.scopes:
        raise Forbidden("an agent that starts programs, or reads the environment, needs a key with the scope host")


async def find_registered(engine: Engine, workspace_id: WorkspaceId, agent_ids: frozenset[str]) -> frozenset[str]:
    """Return which of a few agents are registered."""

    async def operation(tx: Tx) -> frozenset[str]:
        return frozenset([each for each in agent_ids if await agents.find(tx, workspace_id, each) is not None])

    return await engine.read(operation)


def make_echo(workspace_id: WorkspaceId, *, at_us: int) -> Agent:
    """Return the agent that is there on the first start."""
    return NewAgent(runner=ECHO).make(workspace_id, ECHO, at_us=at_us)
