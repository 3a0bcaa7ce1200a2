"""Agents for the tests of the wires, and their answers waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from sessiond.actions import agents, workspaces
from sessiond.actions.call import Call, itself
from sessiond.core.agent import NewAgent
from tests.serving import Tenant

PATIENCE_SECONDS: Final = 20.0


def register(
    tenant: Tenant, agent_id: str, runner: str = "echo", *, fields: dict[str, Any] | None = None, **options: Any
) -> None:
    """Register an agent in a tenant's workspace; `fields` are those of `NewAgent` beside the runner's options."""

    async def make() -> None:
        engine = tenant.serving.site.engine
        operator = workspaces.operator(await workspaces.get(engine, tenant.workspace))
        new = NewAgent(runner=runner, options=options, **(fields or {}))
        await agents.register(Call(engine, operator), agent_id, new, itself)

    tenant.serving.run(make())


def register_script(tenant: Tenant, agent_id: str, script: str, **fields: Any) -> None:
    """Register a Python program that speaks lines of JSON."""
    register(tenant, agent_id, "command", command=[sys.executable, "-c", script], fields=fields)


def eventually(look: Callable[[], Any]) -> Any:
    """Return what `look` finds, once it finds something: these wires tell nobody of an end."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)
    return found
