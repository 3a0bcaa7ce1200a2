"""What agents look like on the native wire."""

from __future__ import annotations

import msgspec

from sessiond.core.agent import Agent, NewAgent
from sessiond.core.caller import Caller, Scope
from sessiond.core.metadata import JsonObject
from sessiond.web.answers import iso_micros


class AgentOut(msgspec.Struct, frozen=True):
    """An agent on the wire; what is secret in its options is hidden."""

    id: str
    runner: str
    options: JsonObject | None
    """Null for a key without the scope `admin`."""
    time_limit_seconds: float
    retries: int
    backoff_seconds: float
    concurrency: int | None
    history: int
    fails_session: bool
    created_at: str
    updated_at: str


class AgentPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[AgentOut]
    next_cursor: str | None
    prev_cursor: str | None


class PutAgent(NewAgent, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """An agent as it is to be. An agent as it was read can be sent back: what it cannot change is ignored."""


class CreateAgent(PutAgent, frozen=True, kw_only=True, forbid_unknown_fields=False):
    id: str


def agent_out(agent: Agent, caller: Caller) -> AgentOut:
    return AgentOut(
        agent.id,
        agent.runner,
        agent.shown_options() if Scope.ADMIN in caller.scopes and caller.user_id is None else None,
        agent.time_limit_seconds,
        agent.retries,
        agent.backoff_seconds,
        agent.concurrency,
        agent.history,
        agent.fails_session,
        iso_micros(agent.created_at_us),
        iso_micros(agent.updated_at_us),
    )
