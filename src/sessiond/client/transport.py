"""How requests get to a server: over HTTP here, within this process in `local`."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    suppress,
)
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct

from sessiond.client.call import Call, Response
from sessiond.client.errors import ClientClosed, ConnectionFailed, SessiondError, TimedOut
from sessiond.client.resource import AsyncOpened, Opened

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS: Final = 10.0
SPARE_SECONDS: Final = 5.0  # on top of what a server may hold an answer back
CONNECTIONS_MAX: Final = 100


class Terms(Struct, frozen=True, kw_only=True):
    """Where a client's server is, and what each request says."""

    url: str
    headers: dict[str, str]
    timeout_seconds: float
    """How long the server may be silent before it is given up."""
    ssl_context: ssl.SSLContext | None


class Transport(Protocol):
    """Gets one request to a server, once.

    Raises:
        ConnectionFailed: it did not get there, or no answer came back.
        TimedOut: the answer did not come in time.
        ClientClosed: it is closed.
    """

    @property
    def sure(self) -> bool:
        """Whether an answer cannot be lost on its way: then a write needs no key to be done once."""

    def send(self, call: Call[Any]) -> Response: ...

    def open_stream(self, call: Call[Any]) -> AbstractContextManager[Opened]: ...

    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """As `Transport`."""

    @property
    def sure(self) -> bool: ...

    async def send(self, call: Call[Any]) -> Response: ...

    def open_stream(self, call: Call[Any]) -> AbstractAsyncContextManager[AsyncOpened]: ...

    async def close(self) -> None: ...


class Streaming(Struct, frozen=True):
    """A stream that has begun."""

    response: Response
    chunks: Iterator[bytes]


class AsyncStreaming(Struct, frozen=True):
    """A stream that has begun."""

    response: Response
    chunks: AsyncIterator[bytes]


class HttpTransport:
    """Over HTTP, with connections that are kept."""

    sure = False

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._client = _open_client(terms)
        self._process = os.getpid()
        self._streams = set[Any]()
        self._closed = False

    def send(self, call: Call[Any]) -> Response:
        with _translated(self._terms.url):
            answer = self._http().request(**_request(self._terms, call))
            return Response(answer.status_code, answer.headers, answer.content)

    @contextmanager
    def open_stream(self, call: Call[Any]) -> Iterator[Streaming]:
        with _translated(self._terms.url), self._http().stream(**_request(self._terms, call)) as answer:
            body = answer.read() if answer.status_code >= 400 else b""
            self._streams.add(answer)
            try:
                yield Streaming(Response(answer.status_code, answer.headers, body), answer.iter_bytes())
            finally:
                self._streams.discard(answer)

    def close(self) -> None:
        self._closed = True
        if self._process != os.getpid():
            return
        for answer in [*self._streams]:
            _wake(answer)
        self._client.close()

    def _http(self) -> httpx2.Client:
        if self._closed:
            raise ClientClosed("this client is closed")
        if self._process != os.getpid():  # a fork shares connections with its parent, and would read its answers
            self._client, self._process, self._streams = _open_client(self._terms), os.getpid(), set()
        return self._client


class AsyncHttpTransport:
    """Over HTTP, with connections that are kept, each for the event loop that opened it."""

    sure = False

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._client = _open_async_client(terms)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def send(self, call: Call[Any]) -> Response:
        with _translated(self._terms.url):
            answer = await self._http().request(**_request(self._terms, call))
            return Response(answer.status_code, answer.headers, answer.content)

    def open_stream(self, call: Call[Any]) -> AbstractAsyncContextManager[AsyncOpened]:
        return _AsyncHttpStream(self._http(), _request(self._terms, call), url=self._terms.url)

    async def close(self) -> None:
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            await self._client.aclose()

    def _http(self) -> httpx2.AsyncClient:
        if self._closed:
            raise ClientClosed("this client is closed")
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:  # whose connections nobody on this one can use
            self._client = _open_async_client(self._terms)
        self._loop = loop
        return self._client


class _AsyncHttpStream:
    """A request whose answer is taken while it comes.

    No generator: the end of a loop closes all that were left half-way at once, those within others too.
    """

    def __init__(self, client: httpx2.AsyncClient, request: dict[str, Any], *, url: str) -> None:
        self._client = client
        self._request = request
        self._url = url

    async def __aenter__(self) -> AsyncStreaming:
        with _translated(self._url):
            self._answer = answer = await self._client.send(self._client.build_request(**self._request), stream=True)
            try:
                body = await answer.aread() if answer.status_code >= 400 else b""
            except BaseException:
                await answer.aclose()
                raise
        return AsyncStreaming(Response(answer.status_code, answer.headers, body), self._chunks())

    async def __aexit__(self, *_error: object) -> None:
        with _translated(self._url):
            await self._answer.aclose()

    async def _chunks(self) -> AsyncIterator[bytes]:
        with _translated(self._url):
            async for chunk in self._answer.aiter_bytes():
                yield chunk


@contextmanager
def _translated(url: str) -> Iterator[None]:
    import httpx2

    try:
        yield
    except httpx2.TimeoutException as error:
        raise TimedOut(f"no answer from {url} in time") from error
    except (httpx2.RequestError, httpx2.StreamError) as error:
        raise ConnectionFailed(f"{url} cannot be reached: {str(error) or type(error).__name__}") from error


def _open_client(terms: Terms) -> httpx2.Client:
    import httpx2  # a fifth of a second that is nobody's who works in this process

    with _checked(terms.url):
        return httpx2.Client(**_options(terms))


def _open_async_client(terms: Terms) -> httpx2.AsyncClient:
    import httpx2

    with _checked(terms.url):
        return httpx2.AsyncClient(**_options(terms))


@contextmanager
def _checked(url: str) -> Iterator[None]:
    import httpx2

    try:
        yield
    except httpx2.InvalidURL as error:
        raise SessiondError(f"base_url cannot be {url!r}: {error}") from error


def _options(terms: Terms) -> dict[str, Any]:
    import httpx2

    return {
        "base_url": terms.url,
        "headers": terms.headers,
        "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS_MAX),
        "verify": terms.ssl_context if terms.ssl_context is not None else True,
    }


def _request(terms: Terms, call: Call[Any]) -> dict[str, Any]:
    import httpx2

    headers = dict(call.headers)
    if call.body is not None:
        headers.setdefault("content-type", "application/json")
    read = max(terms.timeout_seconds, call.held_seconds + SPARE_SECONDS if call.held_seconds else 0.0)
    timeout = httpx2.Timeout(terms.timeout_seconds, connect=min(CONNECT_SECONDS, terms.timeout_seconds), read=read)
    return {"method": call.method, "url": call.target, "content": call.body, "headers": headers, "timeout": timeout}


def _wake(answer: httpx2.Response) -> None:
    """End a stream that another thread may be reading: closing its socket would leave that thread waiting."""
    with suppress(OSError):  # ended by itself meanwhile
        answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
