"""A database in this process behind the client's calls: the whole house, but for what listens.

A call goes through the same site as a request that came by HTTP, so that everything is as it is with a server: checks,
errors, streams. Only the bytes between are left out.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from sessiond.actions import workspaces
from sessiond.assembly import open_site, open_worker
from sessiond.client.call import Call, Response
from sessiond.client.errors import SessiondError
from sessiond.client.transport import AsyncStreaming, Streaming
from sessiond.core.errors import SessiondError as OwnError
from sessiond.core.ids import WorkspaceId
from sessiond.settings import Settings, load_settings
from sessiond.storage.open import migrate
from sessiond.web.asgi import Message, Scope
from sessiond.web.proxies import Client
from sessiond.web.requests import Request
from sessiond.web.site import Site

T = TypeVar("T")

BODY_MAX_BYTES: Final = 64 * 1024 * 1024  # nobody but this process sends anything
CHUNKS_MAX: Final = 16  # of a stream that nobody has taken yet
CLOSE_SECONDS: Final = 15.0
CLOSED: Final = "this client is closed"
SERVER: Final = ("localhost", 0)
NOBODY: Final = Client("", "http")
"""Who asks without a network."""


class SiteTransport:
    """Requests to a site in this process, in the name of whoever holds a key."""

    sure = True

    def __init__(self, site: Site, headers: dict[str, str]) -> None:
        self._site = site
        self._said = headers
        self._headers = _encoded(headers)

    async def send(self, call: Call[Any]) -> Response:
        path, _, query = call.target.partition("?") if call.query else (call.path, "", "")
        scope = {
            "method": call.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "server": SERVER,
        }
        headers = {**self._said, **call.headers} if call.headers else self._said
        body = call.body or b""
        if len(body) <= BODY_MAX_BYTES:
            request = Request(scope, _stay, site=self._site, headers=headers, body=body, client=NOBODY)
        else:  # it is read as from a network, and refused
            request = Request(scope, _Exchange(body).receive, site=self._site, headers=headers, client=NOBODY)
        answer = await self._site.answer(request)
        return Response(answer.status, {"content-type": answer.content_type, **dict(answer.headers)}, answer.body)

    @asynccontextmanager
    async def open_stream(self, call: Call[Any]) -> AsyncIterator[AsyncStreaming]:
        exchange = _Exchange(call.body or b"", room=asyncio.Semaphore(CHUNKS_MAX))
        task = asyncio.create_task(self._answer(call, exchange))
        try:
            await exchange.begun.wait()
            body = b"".join([chunk async for chunk in exchange.read()]) if exchange.status >= 400 else b""
            yield AsyncStreaming(Response(exchange.status, exchange.headers, body), exchange.read())
        finally:
            exchange.gone.set()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        """The site is its owner's to close."""

    async def _answer(self, call: Call[Any], exchange: _Exchange) -> None:
        try:
            await self._site(self._scope(call), exchange.receive, exchange.send)
        finally:
            exchange.end()

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
            "client": None,
            "server": SERVER,
        }


class AsyncLocalTransport:
    """A database, opened by the first request on whatever loop that is on."""

    sure = True

    def __init__(self, database: str | Path, *, workspace: str, storage_key: str | None) -> None:
        self._settings = _settings(database)
        self._workspace = workspace
        self._storage_key = storage_key
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._site: SiteTransport | None = None

    async def send(self, call: Call[Any]) -> Response:
        return await (self._site or await self.open()).send(call)

    @asynccontextmanager
    async def open_stream(self, call: Call[Any]) -> AsyncIterator[AsyncStreaming]:
        site = self._site or await self.open()
        async with site.open_stream(call) as streaming:
            yield streaming

    async def open(self) -> SiteTransport:
        """Open the database, whose schema is brought up to date, once.

        Raises:
            SessiondError: it cannot be opened, or has no such workspace.
        """
        async with self._opening:
            if self._site is None:
                try:
                    self._site = await self._open()
                except OwnError as error:
                    await self._stack.aclose()
                    raise SessiondError(f"the database cannot be opened: {error}") from error
            return self._site

    async def close(self) -> None:
        self._site = None
        await self._stack.aclose()

    async def _open(self) -> SiteTransport:
        await migrate(self._settings.database)
        site = await self._stack.enter_async_context(open_site(self._settings, access=None))
        if self._workspace == workspaces.DEFAULT:
            await workspaces.begin_without_key(site.engine)
        await workspaces.get(site.engine, self._workspace)
        await self._stack.enter_async_context(open_worker(self._settings, site.engine, telemetry=site.telemetry))
        self._stack.callback(site.close_streams)
        headers = {"authorization": f"Bearer {site.authenticator.admit(WorkspaceId(self._workspace))}"}
        if self._storage_key is not None:
            headers["storage-key"] = self._storage_key
        return SiteTransport(site, headers)


class LocalTransport:
    """A database behind a loop in a thread of its own, for threads that wait."""

    sure = True

    def __init__(self, database: str | Path, *, workspace: str, storage_key: str | None) -> None:
        """Open the database.

        Raises:
            SessiondError: as `AsyncLocalTransport.open`.
        """
        self._loop = asyncio.new_event_loop()
        self._waiting: deque[_Waiting] = deque()
        self._woken = False
        self._tasks: set[asyncio.Task[None]] = set()
        # Not to be waited for at the end of the program: `close` is, which the interpreter calls before.
        self._thread = threading.Thread(target=self._loop.run_forever, name="sessiond", daemon=True)
        self._thread.start()
        self._transport = self._run(_made(database, workspace, storage_key))
        atexit.register(self.close)
        try:
            self._run(self._transport.open())
        except BaseException:
            self.close()
            raise

    def send(self, call: Call[Any]) -> Response:
        if self._loop.is_closed():
            raise SessiondError(CLOSED)
        waiting = _Waiting(call)
        self._waiting.append(waiting)
        # The loop is woken once for all calls that come until it takes them: a wake and a future for each of them would
        # cost as much as the rest of an append.
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._take)
            except RuntimeError as error:
                raise SessiondError(CLOSED) from error
        waiting.done.acquire()
        if waiting.error is not None:
            raise waiting.error
        assert waiting.response is not None, "it was answered, or failed"
        return waiting.response

    def _take(self) -> None:
        self._woken = False  # first: whoever comes from now on wakes again
        while self._waiting:
            task = self._loop.create_task(self._answer(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, waiting: _Waiting) -> None:
        try:
            waiting.response = await self._transport.send(waiting.call)
        except BaseException as error:
            waiting.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            waiting.done.release()

    @contextmanager
    def open_stream(self, call: Call[Any]) -> Iterator[Streaming]:
        stack = AsyncExitStack()
        opened = self._run(stack.enter_async_context(self._transport.open_stream(call)))
        try:
            yield Streaming(opened.response, self._each(opened.chunks))
        finally:
            self._run(stack.aclose())

    def close(self) -> None:
        """Close the database; once more is fine."""
        atexit.unregister(self.close)
        if self._loop.is_closed():
            return
        self._run(self._transport.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        self._loop.close()
        while self._waiting:  # what came too late
            waiting = self._waiting.popleft()
            waiting.error = SessiondError(CLOSED)
            waiting.done.release()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            coroutine.close()
            raise SessiondError(CLOSED)
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _each(self, chunks: AsyncIterator[bytes]) -> Iterator[bytes]:
        while (chunk := self._run(_next(chunks))) is not None:
            yield chunk


class _Waiting:
    """A call of a thread that waits for it."""

    __slots__ = ("call", "done", "error", "response")

    def __init__(self, call: Call[Any]) -> None:
        self.call = call
        self.response: Response | None = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()


class _Exchange:
    """One request to a site, and what comes back."""

    def __init__(self, body: bytes, *, room: asyncio.Semaphore | None = None) -> None:
        self.status = 500
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.begun = asyncio.Event()
        self.gone = asyncio.Event()
        self._body: bytes | None = body
        self._room = room
        self._came = asyncio.Event()
        self._ended = False

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
            self.begun.set()
            return
        if message.get("body"):
            if self._room is not None:
                await self._room.acquire()
            self.chunks.append(message["body"])
            self._came.set()

    def end(self) -> None:
        self._ended = True
        self.begun.set()
        self._came.set()

    async def read(self) -> AsyncIterator[bytes]:
        """Yield what comes until the end."""
        while True:
            self._came.clear()
            taken, self.chunks = self.chunks, []
            for chunk in taken:
                if self._room is not None:
                    self._room.release()
                yield chunk
            if not self.chunks:
                if self._ended:
                    return
                await self._came.wait()


async def _stay() -> Message:
    """What comes behind the body of a request that is whole: nobody hangs up who is waiting here."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nobody ends that")


async def _made(database: str | Path, workspace: str, storage_key: str | None) -> AsyncLocalTransport:
    return AsyncLocalTransport(database, workspace=workspace, storage_key=storage_key)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


def _settings(database: str | Path) -> Settings:
    url = database if isinstance(database, str) and "://" in database else f"sqlite:///{database}"
    return load_settings({"database": url, "body_max_bytes": BODY_MAX_BYTES})


def _encoded(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
