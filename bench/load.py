"""A load generator: many connections that each ask again as soon as they are answered, in a process of its own.

It speaks just enough HTTP/1.1 for answers with a Content-Length or in chunks.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import uvloop

_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of requests came to."""

    requests: int
    seconds: float


class _Connection(asyncio.Protocol):
    """One connection; `requests` gives the bytes of its next request until there are none left."""

    def __init__(self, requests: Iterator[bytes], expected: int, done: Callable[[int], None]) -> None:
        self._requests = requests
        self._status = b"HTTP/1.1 %d" % expected
        self._answered = 0
        self._done = done
        self._buffer = bytearray()
        self._wanted = -1
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._wanted < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[: end + 2])
            assert head.startswith(self._status), bytes(self._buffer[:1000])
            length = _LENGTH.search(head)
            self._wanted = end + 4 + int(length.group(1)) if length else 0
        if self._wanted == 0:
            if not self._buffer.endswith(_LAST_CHUNK):
                return
        elif len(self._buffer) < self._wanted:
            return
        self._answered += 1
        self._buffer.clear()
        self._wanted = -1
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done(self._answered)  # whoever waits for all answers sees that some are missing
        if exc is not None:
            raise exc

    def _ask(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._transport.write(request)


def make_request(method: str, path: str, *, key: str, body: bytes = b"", storage_key: str | None = None) -> bytes:
    """Return a request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    if storage_key is not None:
        head += f"Storage-Key: {storage_key}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run_load(port: int, requests: list[bytes], *, connections: int, expected: int = 200) -> Load:
    """Send `requests`, shared out among `connections`, and wait for every answer."""

    async def run() -> Load:
        loop, finished = asyncio.get_running_loop(), asyncio.Event()
        shared, left, answered = iter(requests), connections, 0

        def done(requests: int) -> None:
            nonlocal left, answered
            answered += requests
            left -= 1
            if not left:
                finished.set()

        started = time.perf_counter()
        for _ in range(connections):
            await loop.create_connection(lambda: _Connection(shared, expected, done), "127.0.0.1", port)
        await finished.wait()
        seconds = time.perf_counter() - started
        assert answered == len(requests)
        return Load(requests=answered, seconds=seconds)

    return uvloop.run(run())
