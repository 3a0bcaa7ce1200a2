"""HTTP/1.1 connections: uvicorn's, with the bounds it leaves out and a word when it is ready."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable
from uvicorn._types import Scope as UvicornScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sessiond.web.site import Site

HEAD_MAX_BYTES: Final = 64 * 1024  # the request line and all headers; ours are a few hundred bytes
HEAD_SECONDS: Final = 20.0  # a client that opens a connection and says nothing, or dribbles, is not waited for
CLOSE_SECONDS: Final = 2.0  # a client that does not say goodbye in TLS holds up nobody who stops
KEEP_ALIVE_SECONDS: Final = 75  # longer than the 60 s after which proxies drop an idle connection of theirs
BACKLOG: Final = 4096
# Requests that wait behind an unfinished answer while more is read: only who reads hears that a client has hung up.
PIPELINED_MAX: Final = 8
# Connections beside those that stream. Beyond it a request is answered 503 at once.
CONNECTIONS_MAX: Final = 10_000

# Answers are data for the one who asked: nobody else's to keep, no page, nothing to run, and no place to be named in.
_PRIVATE: Final = (
    b"cache-control: no-store\r\n"
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
    b"referrer-policy: no-referrer\r\n"
    b"x-content-type-options: nosniff\r\n"
)
# They go out with the line of the status, which uvicorn takes from this table whatever it answers. As headers of each
# answer it would check them each time, which takes 2 µs, and its own refusals would lack them.
STATUS_LINE.update({status: line + _PRIVATE for status, line in STATUS_LINE.items()})

_TOO_LARGE: Final = b"%scontent-length: 0\r\nconnection: close\r\n\r\n" % STATUS_LINE[431]


class Connection(HttpToolsProtocol):
    """One client's connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._message_ended = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._overtaken: list[RequestResponseCycle] = []
        """Answers that were not finished when the next request came; uvicorn keeps in mind the newest only."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        for cycle in self._overtaken:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._message_ended = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.pipeline and len(self.pipeline) <= PIPELINED_MAX and len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()
        if not self._in_head:
            return
        if not self._message_ended:  # else this was the end of a body too, and how much of it nobody says
            self._head_bytes += len(data)
        if self._head_bytes > HEAD_MAX_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._head_timer is None:
            # Set only when a head comes in pieces: most come whole, and a timer costs as much as parsing them.
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        before = self.cycle
        super().on_headers_complete()
        if before is not None and not before.response_complete:  # type: ignore[redundant-expr]  # none at first
            self._overtaken = [cycle for cycle in self._overtaken if not cycle.response_complete]
            self._overtaken.append(before)

    def on_message_complete(self) -> None:
        self._message_ended = True
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        async def run(scope: UvicornScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            await app(scope, receive, send)
            if cycle.response_started and not cycle.response_complete and not cycle.disconnected:
                # Cut short on purpose, which uvicorn would log as an error. What a client does not take is not kept.
                cycle.disconnected = True
                (self.transport.abort if self.flow.write_paused else self.transport.close)()

        super()._start_asgi_task(cycle, run)

    def _end_head(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class HttpServer(uvicorn.Server):
    """Serves a site on a socket until told to stop; signals are whoever's it is who runs the process."""

    def __init__(
        self, site: Site, *, streams_max: int, ready: Callable[[], None], tls: ssl.SSLContext | None = None
    ) -> None:
        # What clients send that is not HTTP is theirs to worry about, and answered 400.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        super().__init__(
            uvicorn.Config(
                site,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                limit_concurrency=streams_max + CONNECTIONS_MAX,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )
        self._ready = ready
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections. Uvicorn would wait three times as long for a handshake as we do for a head."""
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                lambda: Connection(self.config, self.server_state, {}, loop),
                sock=held,
                backlog=BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=HEAD_SECONDS if self._tls is not None else None,
                ssl_shutdown_timeout=CLOSE_SECONDS if self._tls is not None else None,
            )
            for held in sockets or ()
        ]
        self.started = True
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Accept no more, finish what was accepted."""
        self.should_exit = True
