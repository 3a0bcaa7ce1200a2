"""A follower of one session, as a browser's EventSource is one, and a way between it and its server that breaks."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from tests.end_to_end.connection import close, read_head

SECONDS: Final = 20


class Refused(Exception):
    """The stream was answered with another status than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Told(msgspec.Struct, frozen=True):
    """An event as it came over the stream; a comment has no id."""

    id: str | None
    event: str
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def parse_frame(frame: bytes) -> Told:
    """Return what stands between two empty lines of a stream (WHATWG HTML, section 9.2.6)."""
    fields: dict[str, str] = {}
    for line in frame.decode().split("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.removeprefix(" ")
    return Told(fields.get("id"), fields.get("event", ""), fields.get("data", ""))


class Stream:
    """An open stream. What was not told whole when it breaks is not told at all."""

    def __init__(self, reader: asyncio.StreamReader, headers: Mapping[str, str]) -> None:
        self.headers: Final = headers
        self._reader = reader
        self._chunk_left = 0
        self._begun = False
        self._rest = b""

    async def next(self) -> Told | None:
        """Return the next event or comment, None at the end that the server made.

        Raises:
            EOFError, OSError, ValueError: the stream was cut.
        """
        while b"\n\n" not in self._rest:
            async with asyncio.timeout(SECONDS):
                piece = await self._read_piece()
            if not piece:
                return None
            self._rest += piece
        frame, _, self._rest = self._rest.partition(b"\n\n")
        return parse_frame(frame)

    async def _read_piece(self) -> bytes:
        """Return what has come of the chunked body, empty at its end; what comes of a chunk that is cut counts too."""
        if not self._chunk_left:
            if self._begun:
                await self._reader.readexactly(2)
            self._begun = True
            self._chunk_left = int(await self._reader.readuntil(b"\r\n"), 16)
            if not self._chunk_left:
                return b""
        piece = await self._reader.read(self._chunk_left)
        if not piece:
            raise EOFError("cut off")
        self._chunk_left -= len(piece)
        return piece

    async def next_event(self) -> Told | None:
        """Return the next event, passing by comments."""
        while (told := await self.next()) is not None and told.id is None:
            pass
        return told

    async def read_events(self, n: int) -> list[Told]:
        """Return the next `n` events."""
        events = [await self.next_event() for _ in range(n)]
        assert None not in events, "the stream ended"
        return [event for event in events if event is not None]

    async def read_to_end(self) -> list[Told]:
        """Return what is told until the server ends the stream."""
        told = []
        while (one := await self.next()) is not None:
            told.append(one)
        return told


@asynccontextmanager
async def open_stream(
    url: str,
    session: str,
    headers: Mapping[str, str],
    *,
    after: int | None = None,
    last_event_id: str | None = None,
) -> AsyncIterator[Stream]:
    """Follow a session until the block ends.

    Raises:
        Refused: the answer is no stream.
    """
    address = urlsplit(url)
    fields = {"Host": address.netloc, "Accept": "text/event-stream", **headers}
    if last_event_id is not None:
        fields["Last-Event-ID"] = last_event_id
    query = f"?after={after}" if after is not None else ""
    lines = [f"GET /v1/sessions/{session}/stream{query} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(SECONDS):
            status, answered = await read_head(reader)
        if status != 200:
            raise Refused(status)
        yield Stream(reader, answered)
    finally:
        await close(writer)


class Cutter:
    """A proxy that passes on a random number of a server's bytes, then cuts both sides without a word."""

    def __init__(self, target: str, *, seed: int, bytes_max: int) -> None:
        address = urlsplit(target)
        self._target = (address.hostname, address.port)
        self._chance = random.Random(seed)
        self._bytes_max = bytes_max
        self.url = ""
        self.cuts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        try:
            back.write(await reader.readuntil(b"\r\n\r\n"))
            left = self._chance.randrange(self._bytes_max)
            while left and (piece := await there.read(left)):
                left -= len(piece)
                writer.write(piece)
                await writer.drain()
            self.cuts += 1
            # Sent first what was passed on: an abort forgets what waits, and the follower would see fewer bytes.
            writer.close()
            await writer.wait_closed()
        except (OSError, EOFError):
            pass
        finally:
            await close(back)
            await close(writer)


@asynccontextmanager
async def open_cutter(target: str, *, seed: int, bytes_max: int) -> AsyncIterator[Cutter]:
    cutter = Cutter(target, seed=seed, bytes_max=bytes_max)
    async with await asyncio.start_server(cutter.serve, "127.0.0.1", 0) as server:
        cutter.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        yield cutter
