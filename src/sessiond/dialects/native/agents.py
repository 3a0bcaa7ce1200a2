"""The native wire's routes of agents: list, register, read, replace, remove."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from sessiond.actions import agents
from sessiond.actions.agents import Registered
from sessiond.core.ids import parse_id
from sessiond.core.page import pack_cursor, unpack_cursor
from sessiond.dialects.native import agent_shapes, queries
from sessiond.web.answers import Answer, json_answer
from sessiond.web.requests import Request


async def list_agents(request: Request) -> Answer:
    query = request.query_as(queries.Listing)
    (after,) = unpack_cursor(query.cursor, tuple[str]) if query.cursor is not None else ("",)
    found = await agents.read_page(await request.call(), after=after, limit=query.limit + 1)
    page = found[: query.limit]
    return json_answer(
        agent_shapes.AgentPage(
            data=[agent_shapes.agent_out(agent, request.caller) for agent in page],
            next_cursor=pack_cursor((page[-1].id,)) if len(found) > len(page) else None,
            prev_cursor=None,
        )
    )


async def create_agent(request: Request) -> Answer:
    body = await request.body_as(agent_shapes.CreateAgent)
    return await agents.register(
        await request.call(), parse_id(body.id, "id"), body, _registered(request), change=False
    )


async def get_agent(request: Request) -> Answer:
    return json_answer(
        agent_shapes.agent_out(await agents.get(await request.call(), request.params[0]), request.caller)
    )


async def put_agent(request: Request) -> Answer:
    body = await request.body_as(agent_shapes.PutAgent)
    return await agents.register(
        await request.call(), parse_id(request.params[0], "agent_id"), body, _registered(request)
    )


async def delete_agent(request: Request) -> Answer:
    return await agents.remove(await request.call(), request.params[0], lambda _: Answer(204))


def _registered(request: Request) -> Callable[[Registered], Answer]:
    def answer(registered: Registered) -> Answer:
        agent = agent_shapes.agent_out(registered.agent, request.caller)
        if not registered.new:
            return json_answer(agent)
        return json_answer(agent, 201, headers=(("location", f"/v1/agents/{quote(agent.id, safe='')}"),))

    return answer
