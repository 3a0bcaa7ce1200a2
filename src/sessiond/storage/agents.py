"""Registered agents as rows."""

from __future__ import annotations

from typing import Any

import msgspec

from sessiond.core.agent import Agent
from sessiond.core.ids import WorkspaceId
from sessiond.storage.engine import Row, Tx


async def insert(tx: Tx, agent: Agent) -> bool:
    """Add an agent; False, and nothing happens, when its id is taken."""
    return await tx.one("agent_insert", **_columns(agent)) is not None


async def update(tx: Tx, agent: Agent) -> None:
    """Change an agent that is there; the time of its creation stays."""
    columns = _columns(agent)
    del columns["created_at_us"]
    await tx.run("agent_update", **columns)


async def find(tx: Tx, workspace_id: WorkspaceId, agent_id: str) -> Agent | None:
    row = await tx.one("agent_get", workspace=workspace_id, id=agent_id)
    return _row_to_agent(row) if row is not None else None


async def read_page(tx: Tx, workspace_id: WorkspaceId, *, after: str = "", limit: int) -> list[Agent]:
    """Return up to `limit` agents in the order of their ids, from behind `after`."""
    rows = await tx.all("agent_list", workspace=workspace_id, after=after, limit=limit)
    return [_row_to_agent(row) for row in rows]


async def delete(tx: Tx, workspace_id: WorkspaceId, agent_id: str) -> bool:
    """Remove an agent; False when there is none of that id."""
    return await tx.one("agent_delete", workspace=workspace_id, id=agent_id) is not None


async def read_full(tx: Tx) -> list[tuple[WorkspaceId, str]]:
    """Return the workspace and id of each agent that may start no more runs just now."""
    return [(row[0], row[1]) for row in await tx.all("agents_full")]


async def take_place(tx: Tx, agent: Agent) -> bool | None:
    """Whether one more run of an agent may start; None when another worker is counting them just now.

    Nobody else starts one until this transaction ends.
    """
    if agent.concurrency is None:
        return True
    if await tx.one("agent_lock", workspace=agent.workspace_id, id=agent.id) is None:
        return None
    row = await tx.one("agent_under_way", workspace=agent.workspace_id, id=agent.id)
    assert row is not None
    return bool(row[0] < agent.concurrency)


def _columns(agent: Agent) -> dict[str, Any]:
    columns = msgspec.structs.asdict(agent)
    columns["workspace"] = columns.pop("workspace_id")
    return columns


def _row_to_agent(row: Row) -> Agent:
    columns = [*row]
    columns[_FAILS] = bool(columns[_FAILS])
    return Agent(*columns)


_FAILS = Agent.__struct_fields__.index("fails_session")
