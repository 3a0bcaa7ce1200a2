"""A database in this process behind the client's calls: the whole house, but for what listens.

A call goes through the same site as a request that came by HTTP, so that everything is as it is with a server: checks,
errors, streams. Only the bytes between are left out.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sessiond.actions import workspaces
from sessiond.assembly import open_site, open_worker
from sessiond.client.call import Call, Response
from sessiond.client.errors import ClientClosed, ConnectionFailed, SessiondError
from sessiond.client.home import Home
from sessiond.client.transport import AsyncStreaming, Streaming
from sessiond.core.errors import SessiondError as OwnError
from sessiond.core.ids import WorkspaceId
from sessiond.crypto import SecretError
from sessiond.settings import Settings, SettingsError, load_settings
from sessiond.storage.open import POSTGRES_SCHEMES, migrate
from sessiond.web.answers import JSON
from sessiond.web.asgi import Message, Scope
from sessiond.web.proxies import Client
from sessiond.web.requests import Request
from sessiond.web.site import Site

T = TypeVar("T")

BODY_MAX_BYTES: Final = 64 * 1024 * 1024  # nobody but this process sends anything
CHUNKS_MAX: Final = 16  # of a stream that nobody has taken yet
SERVER: Final = ("localhost", 0)
JSON_HEADERS: Final = {"content-type": JSON}
NOBODY: Final = Client("", "http")
"""Who asks without a network."""
FINISH_SECONDS: Final = 5.0  # for requests under way when the database is closed


class SiteTransport:
    """Requests to a site in this process, in the name of whoever holds a key."""

    sure = True

    def __init__(self, site: Site, headers: dict[str, str], *, address: str = "") -> None:
        """`address` is where whoever asks is, for the log and the audit log; empty in this process."""
        self._site = site
        self._headers = _encoded(headers)
        self._said = headers
        self._client = Client(address, "http") if address else NOBODY
        self._asking = set[_Asking]()
        self._answered = asyncio.Event()
        self._closing = False
        self._streaming = dict[asyncio.Task[Any], _Exchange]()

    async def send(self, call: Call[Any]) -> Response:
        """Return the answer. Of a call that is cancelled, nobody knows whether it was done."""
        asking = _Asking(call.body or b"")
        self._asking.add(asking)
        try:
            answer = await self._site.answer(self._request(call, asking))
        finally:
            self._asking.discard(asking)
            if self._closing:
                self._answered.set()
        headers = JSON_HEADERS if answer.content_type == JSON else {"content-type": answer.content_type}
        return Response(answer.status, {**headers, **dict(answer.headers)} if answer.headers else headers, answer.body)

    def open_stream(self, call: Call[Any]) -> _Stream:
        exchange = _Exchange(_Asking(call.body or b""))
        return _Stream(exchange, self._begin(call, exchange))

    async def close(self) -> None:
        """Have what is under way through this end; the site is its owner's to close."""
        self._closing = True
        for asking in self._asking:
            asking.hang_up()
        for exchange in self._streaming.values():
            exchange.asking.hang_up()
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                while self._asking:
                    self._answered.clear()
                    await self._answered.wait()
                if self._streaming:
                    await asyncio.wait({*self._streaming})

    def _begin(self, call: Call[Any], exchange: _Exchange) -> asyncio.Task[None]:
        task = asyncio.create_task(self._answer(call, exchange))
        self._streaming[task] = exchange
        task.add_done_callback(self._streaming.pop)
        return task

    async def _answer(self, call: Call[Any], exchange: _Exchange) -> None:
        try:
            await self._site(self._scope(call), exchange.asking.receive, exchange.send)
        finally:
            exchange.end()

    def _request(self, call: Call[Any], asking: _Asking) -> Request:
        """Return a call as a request whose parts are there, and need not be read."""
        path, _, query = call.target.partition("?") if call.query else (call.path, "", "")
        scope = {
            "method": call.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "server": SERVER,
        }
        headers = {**self._said, **call.headers} if call.headers else self._said
        # What is too large is read as from a network, and refused.
        body = asking.take() if len(call.body or b"") <= BODY_MAX_BYTES else None
        return Request(scope, asking.receive, site=self._site, headers=headers, body=body, client=self._client)

    def _scope(self, call: Call[Any]) -> Scope:
        path, _, query = call.target.partition("?")
        raw_path = path.encode()
        return {
            "type": "http",
            "method": call.method,
            "scheme": "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": query.encode(),
            "headers": [*self._headers, *_encoded(call.headers)] if call.headers else self._headers,
            "client": (self._client.address, 0) if self._client.address else None,
            "server": SERVER,
        }


class AsyncLocalTransport:
    """A database, opened by the first request, on whatever loop that is on, and closed with that loop at the latest."""

    def __init__(
        self, database: str | Path, *, workspace: str, storage_key: str | None, run_agents: bool = True
    ) -> None:
        self._database = database
        self._run_agents = run_agents
        self._workspace = workspace
        self._storage_key = storage_key
        self.sure = not str(database).startswith(POSTGRES_SCHEMES)  # whose connection may be lost during a commit
        self._opening = asyncio.Lock()
        self._stop = asyncio.Event()
        self._site: SiteTransport | None = None
        self._living: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def send(self, call: Call[Any]) -> Response:
        site = self._site
        if site is None or self._closed or self._loop is not asyncio.get_running_loop():
            site = await self.open()
        return await site.send(call)

    def open_stream(self, call: Call[Any]) -> AbstractAsyncContextManager[AsyncStreaming]:
        return _Opening(self, call)

    async def open(self) -> SiteTransport:
        """Open the database, whose schema is brought up to date, once.

        Raises:
            SessiondError: it cannot be opened, or has no such workspace.
            ClientClosed: it is closed, or open on another event loop.
        """
        self._check_loop()
        if self._site is None or self._closed:
            async with self._opening:
                if self._closed:
                    raise ClientClosed("this client is closed")
                if self._site is None:
                    self._site = await self._begin()
        return self._site

    async def close(self) -> None:
        """Close the database; once more is fine."""
        self._check_loop()
        async with self._opening:  # which may be under way
            self._closed = True
        self._stop.set()
        if self._living is not None:
            await asyncio.wait({self._living})

    def _check_loop(self) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise ClientClosed("this client belongs to another event loop: make one for each")

    async def _begin(self) -> SiteTransport:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[SiteTransport] = loop.create_future()
        self._living = living = loop.create_task(self._live(opened))
        try:
            either: set[asyncio.Future[Any]] = {living, opened}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not opened.done():
                await living  # which raises why
        except BaseException:
            living.cancel()
            await asyncio.wait({living})
            self._living = None
            raise
        self._loop = loop
        return opened.result()

    async def _live(self, opened: asyncio.Future[SiteTransport]) -> None:
        """Have the database open until told to stop, or cancelled, as every task is at the end of its loop."""
        async with AsyncExitStack() as stack:
            try:
                site = await self._open(stack)
            except (OwnError, SettingsError, SecretError, OSError) as error:
                raise SessiondError(f"the database cannot be opened: {error}") from error
            opened.set_result(site)
            try:
                await self._stop.wait()
            finally:
                self._closed = True

    async def _open(self, stack: AsyncExitStack) -> SiteTransport:
        settings = _settings(self._database, run_agents=self._run_agents)
        await migrate(settings.database)
        site = await stack.enter_async_context(open_site(settings, access=None))
        if self._workspace == workspaces.DEFAULT:
            await workspaces.begin_without_key(site.engine)
        await workspaces.get(site.engine, self._workspace)
        await stack.enter_async_context(open_worker(settings, site.engine, telemetry=site.telemetry))
        headers = {"authorization": f"Bearer {site.authenticator.admit(WorkspaceId(self._workspace))}"}
        if self._storage_key is not None:
            headers["storage-key"] = self._storage_key
        transport = SiteTransport(site, headers)
        stack.push_async_callback(transport.close)
        stack.callback(site.close_streams)
        return transport


class LocalTransport:
    """A database behind a loop in a thread of its own, for threads that wait."""

    def __init__(
        self, database: str | Path, *, workspace: str, storage_key: str | None, run_agents: bool = True
    ) -> None:
        """Open the database.

        Raises:
            SessiondError: as `AsyncLocalTransport.open`.
        """
        self._transport = AsyncLocalTransport(
            database, workspace=workspace, storage_key=storage_key, run_agents=run_agents
        )
        self.sure = self._transport.sure
        self._home = Home(self._transport)
        weakref.finalize(self, self._home.leave).atexit = False  # whoever forgets to close: nobody waits for it

    def send(self, call: Call[Any]) -> Response:
        return self._home.send(call)

    @contextmanager
    def open_stream(self, call: Call[Any]) -> Iterator[Streaming]:
        opening = self._transport.open_stream(call)
        opened = self._home.run(opening.__aenter__())
        try:
            yield Streaming(opened.response, self._each(opened.chunks))
        finally:
            self._home.begin(opening.__aexit__(None, None, None))

    def close(self) -> None:
        """Close the database; once more is fine."""
        self._home.close()

    def _each(self, chunks: AsyncIterator[bytes]) -> Iterator[bytes]:
        while (chunk := self._home.run(_next(chunks))) is not None:
            yield chunk


# No generators: the end of a loop closes all that were left half-way at once, those within others too.
class _Opening:
    """A stream of a database that may have to be opened first."""

    def __init__(self, transport: AsyncLocalTransport, call: Call[Any]) -> None:
        self._transport = transport
        self._call = call

    async def __aenter__(self) -> AsyncStreaming:
        self._stream = (await self._transport.open()).open_stream(self._call)
        return await self._stream.__aenter__()

    async def __aexit__(self, *_error: object) -> None:
        await self._stream.__aexit__()


class _Stream:
    """A request whose answer is taken while it comes."""

    def __init__(self, exchange: _Exchange, task: asyncio.Task[None]) -> None:
        self._exchange = exchange
        self._task = task

    async def __aenter__(self) -> AsyncStreaming:
        exchange = self._exchange
        try:
            await exchange.begun.wait()
            body = b"".join([chunk async for chunk in exchange]) if exchange.status >= 400 else b""
        except BaseException:
            await self.__aexit__()
            raise
        return AsyncStreaming(Response(exchange.status, exchange.headers, body), exchange)

    async def __aexit__(self, *_error: object) -> None:
        self._exchange.asking.hang_up()
        self._task.cancel()
        await asyncio.wait({self._task})


class _Asking:
    """One request to a site, as the site receives it. Nothing is made that most answers do without."""

    __slots__ = ("_body", "_gone", "_hung_up")

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._gone: asyncio.Event | None = None
        self._hung_up = False

    def take(self) -> bytes | None:
        """Return the body, which then need not be received."""
        body, self._body = self._body, None
        return body

    async def receive(self) -> Message:
        if self._body is not None:
            return {"type": "http.request", "body": self.take()}
        if not self._hung_up:
            self._gone = self._gone or asyncio.Event()
            await self._gone.wait()
        return {"type": "http.disconnect"}

    def hang_up(self) -> None:
        self._hung_up = True
        if self._gone is not None:
            self._gone.set()


class _Exchange:
    """What comes back of a request: iterated, in pieces as they come."""

    def __init__(self, asking: _Asking) -> None:
        self.asking = asking
        self.status = 500
        self.headers: dict[str, str] = {}
        self.chunks = deque[bytes]()
        self.begun = asyncio.Event()
        self._room = asyncio.Semaphore(CHUNKS_MAX)
        self._came = asyncio.Event()
        self._ended = False
        self._whole = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
            self.begun.set()
            return
        self._whole = not message.get("more_body")
        if message.get("body"):
            await self._room.acquire()
            self.chunks.append(message["body"])
            self._came.set()

    def end(self) -> None:
        self._ended = True
        self.begun.set()
        self._came.set()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Return what comes next.

        Raises:
            ConnectionFailed: it was cut short, as what went wrong could not be said any more.
        """
        while not self.chunks:
            if self._ended:
                if not self._whole:
                    raise ConnectionFailed("what was sent was cut short")
                raise StopAsyncIteration
            self._came.clear()
            await self._came.wait()
        self._room.release()
        return self.chunks.popleft()


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


def _settings(database: str | Path, *, run_agents: bool) -> Settings:
    if database == ":memory:":
        raise SettingsError("a database in memory is not supported: name a file, in a temporary directory for instance")
    url = database if isinstance(database, str) and "://" in database else f"sqlite:///{quote(os.fspath(database))}"
    runs_max = None if run_agents else 0
    return load_settings({"database": url, "body_max_bytes": BODY_MAX_BYTES, "runs_max": runs_max})


def _encoded(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
