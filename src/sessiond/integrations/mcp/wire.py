"""The tools at /mcp of a server: one POST a request, by the streamable HTTP of MCP without sessions of its own.

The library takes two seconds to import, and who never asks for /mcp is spared that: the first request pays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from sessiond.client import AsyncClient
from sessiond.core.errors import Unavailable
from sessiond.local import SiteTransport
from sessiond.web.answers import Answer
from sessiond.web.asgi import Message
from sessiond.web.requests import Request
from sessiond.web.routes import Route

PATH: Final = "/mcp"
HEADERS: Final = ("storage-key", "x-request-id")
"""What is handed on of a request to those that its tools make, beside who asks."""
LOOK_SECONDS: Final = 1.0


@asynccontextmanager
async def open_routes() -> AsyncIterator[tuple[Route, ...]]:
    """Yield what answers /mcp until the block ends: nothing, where the extra `mcp` is not installed."""
    if find_spec("mcp") is None:
        yield ()
        return
    wire = _Wire()
    try:
        yield (
            Route(
                method="POST",
                path=PATH,
                handler=wire.answer,
                summary="Use the tools of the Model Context Protocol",
                content=False,  # a tool asks the site in turn, with the key and the storage key that came with it
            ),
        )
    finally:
        await wire.close()


class _Wire:
    """The library's part, from the first request on."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._handler: Any = None
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def answer(self, request: Request) -> Answer:
        async with self._opening:
            if self._handler is None:
                self._handler = await self._open()
        body, answered = await request.read(), _Answered()

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        scope = request.scope | {"sessiond.request": request}
        handling = asyncio.create_task(self._handler(scope, receive, answered.send))
        try:
            while not (await asyncio.wait({handling}, timeout=LOOK_SECONDS))[0]:
                await _check_wanted(request)
        finally:
            handling.cancel()
            await asyncio.wait({handling})
        handling.result()
        return answered.whole()

    async def close(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    async def _open(self) -> Any:
        tools = await asyncio.to_thread(import_module, "sessiond.integrations.mcp.tools")
        managing = await asyncio.to_thread(import_module, "mcp.server.streamable_http_manager")
        logging.getLogger("mcp").setLevel(logging.WARNING)  # it has a line of its own for each request
        manager = managing.StreamableHTTPSessionManager(
            app=tools.make_server(_client_of), stateless=True, json_response=True
        )
        running = asyncio.Event()

        async def keep() -> None:
            async with manager.run():
                running.set()
                await self._stop.wait()

        self._task = asyncio.create_task(keep())
        waiting = asyncio.create_task(running.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        return manager.handle_request


async def _check_wanted(request: Request) -> None:
    """Raise unless somebody still waits for what a tool does, which may be minutes, and the server goes on."""
    if await request.hung_up():
        raise Unavailable("the client went away")
    await request.site.still_allowed(request)


def _client_of(context: Any) -> AsyncClient:
    """Return a client that asks the same site in the name of whoever asks here."""
    request: Request = context.request.scope["sessiond.request"]
    headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
    if request.credential is not None:
        headers["authorization"] = request.credential
    return AsyncClient(transport=SiteTransport(request.site, headers, address=request.address))


class _Answered:
    """What the library answers, held until it is whole."""

    def __init__(self) -> None:
        self._status = 500
        self._headers: dict[str, str] = {}
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            self._body += message.get("body", b"")

    def whole(self) -> Answer:
        kind = self._headers.get("content-type", "application/json")
        kept = tuple((name, value) for name, value in self._headers.items() if name.startswith("mcp-"))
        return Answer(self._status, self._body, kind, kept)
