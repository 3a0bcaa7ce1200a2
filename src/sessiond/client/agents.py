"""Agents: registered, listed, replaced, removed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from sessiond.client.call import Call, Page, body_of, path_of, query_of, reads, reads_nothing
from sessiond.client.resource import Async, Iterated, Method, Sync


class Agent(Struct, frozen=True, kw_only=True):
    """An agent; what is secret in its options is shown as `***`."""

    id: str
    runner: str
    """`echo`, `command`, `acp`, `chat` or `webhook`."""
    options: dict[str, Any] | None = None
    """None for a key without the scope `admin`."""
    time_limit_seconds: float
    retries: int
    backoff_seconds: float
    concurrency: int | None = None
    history: int
    """How many messages a run gets to see."""
    fails_session: bool
    created_at: datetime
    updated_at: datetime


def create_agent(
    id: str,
    runner: str,
    options: Mapping[str, Any] | None = None,
    *,
    time_limit_seconds: float | None = None,
    retries: int | None = None,
    backoff_seconds: float | None = None,
    concurrency: int | None = None,
    history: int | None = None,
    fails_session: bool | None = None,
) -> Call[Agent]:
    """Register an agent. Runners that start programs need a key with the scope `host`.

    Raises:
        Conflict: the id is taken.
    """
    body = body_of(
        id=id,
        runner=runner,
        options=options,
        time_limit_seconds=time_limit_seconds,
        retries=retries,
        backoff_seconds=backoff_seconds,
        concurrency=concurrency,
        history=history,
        fails_session=fails_session,
    )
    return Call(method="POST", path="/v1/agents", body=body, read=reads(Agent))


def put_agent(
    id: str,
    runner: str,
    options: Mapping[str, Any] | None = None,
    *,
    time_limit_seconds: float | None = None,
    retries: int | None = None,
    backoff_seconds: float | None = None,
    concurrency: int | None = None,
    history: int | None = None,
    fails_session: bool | None = None,
) -> Call[Agent]:
    """Register an agent, or replace all that was said of it; it counts from the next run on."""
    call = create_agent(
        id,
        runner,
        options,
        time_limit_seconds=time_limit_seconds,
        retries=retries,
        backoff_seconds=backoff_seconds,
        concurrency=concurrency,
        history=history,
        fails_session=fails_session,
    )
    return msgspec.structs.replace(call, method="PUT", path=path_of("agents", id))


def list_agents(*, limit: int | None = None, cursor: str | None = None) -> Call[Page[Agent]]:
    """Return a page of the workspace's agents, by id."""
    return Call(method="GET", path="/v1/agents", query=query_of(limit=limit, cursor=cursor), read=reads(Page[Agent]))


def get_agent(agent_id: str) -> Call[Agent]:
    """Return an agent.

    Raises:
        NotFound: there is none.
    """
    return Call(method="GET", path=path_of("agents", agent_id), read=reads(Agent))


def delete_agent(agent_id: str) -> Call[None]:
    """Remove an agent; its sessions stay, and what is queued for it fails."""
    return Call(method="DELETE", path=path_of("agents", agent_id), read=reads_nothing)


class AgentCalls:
    """What both clients can do with agents."""

    create = Method(create_agent)
    put = Method(put_agent)
    list = Method(list_agents)
    iterate = Iterated(list_agents)
    get = Method(get_agent)
    delete = Method(delete_agent)


class Agents(Sync, AgentCalls):
    """`client.agents`."""


class AsyncAgents(Async, AgentCalls):
    """`client.agents`."""
