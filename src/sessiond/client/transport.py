"""How requests get to a server: over HTTP here, within this process in `local`."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct

from sessiond.client.call import Call, Response
from sessiond.client.errors import ConnectionFailed, TimedOut
from sessiond.client.resource import AsyncOpened, Opened

if TYPE_CHECKING:
    pass

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
        import httpx2  # a fifth of a second that is nobody's who works in this process

        self._terms = terms
        self._errors: Any = (httpx2.TransportError,)
        self._timeouts: Any = httpx2.TimeoutException
        self._client = httpx2.Client(**_options(terms))

    def send(self, call: Call[Any]) -> Response:
        with self._translated():
            answer = self._client.request(
                call.method,
                call.target,
                content=call.body,
                headers=_headers(call),
                timeout=_timeout(self._terms, call),
            )
            return Response(answer.status_code, answer.headers, answer.content)

    @contextmanager
    def open_stream(self, call: Call[Any]) -> Iterator[Streaming]:
        with (
            self._translated(),
            self._client.stream(
                call.method,
                call.target,
                content=call.body,
                headers=_headers(call),
                timeout=_timeout(self._terms, call),
            ) as answer,
        ):
            body = answer.read() if answer.status_code >= 400 else b""
            yield Streaming(Response(answer.status_code, answer.headers, body), answer.iter_bytes())

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._timeouts as error:
            raise TimedOut(f"no answer from {self._terms.url} in time") from error
        except self._errors as error:
            raise ConnectionFailed(f"{self._terms.url} cannot be reached: {error or type(error).__name__}") from error


class AsyncHttpTransport:
    """Over HTTP, with connections that are kept."""

    sure = False

    def __init__(self, terms: Terms) -> None:
        import httpx2  # as in `HttpTransport`

        self._terms = terms
        self._errors: Any = (httpx2.TransportError,)
        self._timeouts: Any = httpx2.TimeoutException
        self._client = httpx2.AsyncClient(**_options(terms))

    async def send(self, call: Call[Any]) -> Response:
        with self._translated():
            answer = await self._client.request(
                call.method,
                call.target,
                content=call.body,
                headers=_headers(call),
                timeout=_timeout(self._terms, call),
            )
            return Response(answer.status_code, answer.headers, answer.content)

    @asynccontextmanager
    async def open_stream(self, call: Call[Any]) -> AsyncIterator[AsyncStreaming]:
        with self._translated():
            async with self._client.stream(
                call.method,
                call.target,
                content=call.body,
                headers=_headers(call),
                timeout=_timeout(self._terms, call),
            ) as answer:
                body = await answer.aread() if answer.status_code >= 400 else b""
                yield AsyncStreaming(Response(answer.status_code, answer.headers, body), answer.aiter_bytes())

    async def close(self) -> None:
        await self._client.aclose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._timeouts as error:
            raise TimedOut(f"no answer from {self._terms.url} in time") from error
        except self._errors as error:
            raise ConnectionFailed(f"{self._terms.url} cannot be reached: {error or type(error).__name__}") from error


def _options(terms: Terms) -> dict[str, Any]:
    import httpx2

    return {
        "base_url": terms.url,
        "headers": terms.headers,
        "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS_MAX),
        "verify": terms.ssl_context if terms.ssl_context is not None else True,
    }


def _headers(call: Call[Any]) -> dict[str, str]:
    headers = dict(call.headers)
    if call.body is not None:
        headers.setdefault("content-type", "application/json")
    return headers


def _timeout(terms: Terms, call: Call[Any]) -> Any:
    import httpx2

    read = terms.timeout_seconds if not call.held_seconds else call.held_seconds + SPARE_SECONDS
    return httpx2.Timeout(terms.timeout_seconds, connect=CONNECT_SECONDS, read=max(read, terms.timeout_seconds))
