"""The tools of the Model Context Protocol, as its own client meets them: at /mcp of a server, and on stdio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client as Assistant
from mcp import MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from sessiond import AsyncClient, Client
from sessiond.core.caller import Scope
from sessiond.integrations.mcp.tools import make_server
from sessiond.storage.open import migrate
from tests.serving import Tenant, open_serving

EVERYTHING = {
    "list_sessions",
    "search_messages",
    "read_transcript",
    "create_session",
    "append_message",
    "create_inbox",
    "wait_for_code",
}


@asynccontextmanager
async def assistant_of(tenant: Tenant) -> AsyncIterator[Assistant]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {tenant.key}"}) as http,
        Assistant(streamable_http_client(f"{tenant.serving.url}/mcp", http_client=http)) as assistant,
    ):
        yield assistant


async def use(assistant: Assistant, name: str, /, **arguments: Any) -> Any:
    result = await assistant.call_tool(name, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def _try_all(assistant: Assistant, client: AsyncClient) -> None:
    assert {tool.name for tool in (await assistant.list_tools()).tools} == EVERYTHING
    session = await use(assistant, "create_session", name="trip")
    await use(assistant, "append_message", session_id=session["id"], content="Is Bergen far?")
    await use(assistant, "append_message", session_id=session["id"], content="An hour.", role="assistant")

    listed = await use(assistant, "list_sessions", limit=5)
    found = await use(assistant, "search_messages", query="bergen")
    read = await use(assistant, "read_transcript", session_id=session["id"], last=1)

    assert [each["name"] for each in listed["sessions"]] == ["trip"]
    assert [each["session_id"] for each in found["messages"]] == [session["id"]]
    assert [each["text"] for each in read["messages"]] == ["An hour."]
    assert read["earlier"]["before"] == read["messages"][0]["number"]
    inbox = await use(assistant, "create_inbox", session_id=session["id"])
    waiting = asyncio.create_task(use(assistant, "wait_for_code", inbox_id=inbox["id"], timeout_seconds=20))
    await client.inboxes.put_mail(
        inbox["id"], sender="no-reply@shop.example", subject="Your code", text="Your code is 482913."
    )
    assert (await waiting)["code"] == "482913"


async def test_an_assistant_finds_reads_writes_and_waits_at_a_server(tenant: Tenant) -> None:
    async with assistant_of(tenant) as assistant, AsyncClient(tenant.key, tenant.serving.url) as client:
        await _try_all(assistant, client)


async def test_an_assistant_finds_reads_writes_and_waits_on_a_file(tmp_path: Path) -> None:
    database = str(tmp_path / "data.db")
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "sessiond", "mcp", "--database", f"sqlite:///{database}"]
    )

    async with Assistant(stdio_client(command)) as assistant, AsyncClient.local(database) as client:
        await _try_all(assistant, client)


async def test_a_key_that_may_only_read_is_shown_and_may_use_only_that(tenant: Tenant) -> None:
    with Client(tenant.key, tenant.serving.url) as client:
        session = client.sessions.create()
    reader = tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ}))

    async with assistant_of(reader) as assistant:
        shown = {tool.name for tool in (await assistant.list_tools()).tools}
        result = await assistant.call_tool("append_message", {"session_id": session.id, "content": "no"})

    assert shown == {"list_sessions", "search_messages", "read_transcript"}
    assert result.is_error
    assert "sessions:write" in str(result.content)


async def test_another_workspace_is_not_there(tenant: Tenant) -> None:
    with Client(tenant.key, tenant.serving.url) as client:
        session = client.sessions.create()
    stranger = tenant.serving.make_tenant()

    async with assistant_of(stranger) as assistant:
        result = await assistant.call_tool("read_transcript", {"session_id": session.id})

    assert result.is_error
    assert "no such session" in str(result.content)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({}, "session_id"), ({"session_id": "x", "last": 0}, "last"), ({"session_id": "x", "of": 1}, "of")],
)
async def test_wrong_arguments_are_named(tenant: Tenant, arguments: dict[str, Any], said: str) -> None:
    async with assistant_of(tenant) as assistant:
        result = await assistant.call_tool("read_transcript", arguments)

    assert result.is_error
    assert said in str(result.content)


def test_nobody_gets_in_without_a_key(tenant: Tenant) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with tenant.client(headers={}) as stranger, tenant.client() as caller:
        refused = stranger.post("/mcp", json=call)
        other = caller.get("/mcp")

    assert refused.status_code == 401
    assert refused.json()["title"] == "Unauthenticated"
    assert other.status_code == 405


async def test_whoever_starts_it_with_a_wrong_key_is_told_so_in_a_line(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        AsyncClient("sd_wrong", tenant.serving.url) as client,
        Assistant(make_server(lambda _context: client)) as assistant,
    ):
        with pytest.raises(MCPError, match="invalid API key"):
            await assistant.list_tools()

    assert not [record for record in caplog.records if record.exc_info]


def test_what_an_assistant_waits_for_ends_with_the_server(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/served.db"
    asyncio.run(migrate(database))

    async def stop() -> None:
        serving.site.close_streams()

    with open_serving(database) as serving:
        tenant = serving.make_tenant()
        with Client(tenant.key, serving.url) as client, tenant.client() as caller, ThreadPoolExecutor(1) as pool:
            session = client.sessions.create()
            inbox = client.inboxes.create(session_id=session.id)
            arguments = {"inbox_id": inbox.id, "timeout_seconds": 300}
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
            waiting = pool.submit(
                caller.post,
                "/mcp",
                json=call | {"params": {"name": "wait_for_code", "arguments": arguments}},
                headers={"Accept": "application/json, text/event-stream"},
            )
            with closing(client.sessions.stream(session.id)) as events:
                assert any(event.type == "wait.created" for event in events)

            serving.run(stop())

            answer = waiting.result(10)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the server is shutting down"
