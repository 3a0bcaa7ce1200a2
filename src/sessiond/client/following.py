"""A stream of events that outlives its connections: where it is, and when to connect again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from sessiond.client.call import Call, Response, query_of, reads_nothing
from sessiond.client.errors import ConnectionFailed, SessiondError, TimedOut, error_of
from sessiond.client.events import Event
from sessiond.client.resource import AsyncCarrier, Carrier
from sessiond.client.retrying import AGAIN, FIRST_SECONDS, backoff_seconds

GIVE_UP_SECONDS: Final = 300.0  # without a byte: whatever was restarted is back by then, or needs somebody
SILENCE_SECONDS: Final = 60.0  # servers say something every 15 s: who says nothing for so long is gone


class Delta(Struct, frozen=True, kw_only=True):
    """Text of a run as it is said. `offset` is how many characters of the attempt's text stand before it."""

    run_id: str
    attempt: int
    offset: int
    text: str


class Tail:
    """Where a follower is in a log, and what came of a connection. Pure: bytes in, events out."""

    def __init__(self, path: str, *, after: int, deltas: bool = False, ends: frozenset[str] = frozenset()) -> None:
        """`ends` are the types after which nothing more comes."""
        self._path = path
        self._deltas = deltas
        self._ends = ends
        self._rest = b""
        self.after = after
        self._ended = False

    def ended(self) -> bool:
        """Whether nothing more can come."""
        return self._ended

    def begin(self) -> Call[None]:
        """Return the call that goes on from here. What an earlier connection left unfinished is forgotten."""
        self._rest = b""
        query = query_of(after=self.after, deltas=self._deltas or None)
        headers = {"accept": "text/event-stream"}
        return Call(
            method="GET",
            path=self._path,
            query=query,
            headers=headers,
            held_seconds=SILENCE_SECONDS,
            read=reads_nothing,
        )

    def feed(self, chunk: bytes) -> list[Event | Delta]:
        """Return what is complete with these bytes."""
        *blocks, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        return [told for block in blocks if (told := self._read(block)) is not None]

    def _read(self, block: bytes) -> Event | Delta | None:
        name, lines = b"", []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                name = value
            elif field == b"data":
                lines.append(value)
        if not lines or self._ended:
            return None
        if name == b"run.delta":
            return _delta.decode(b"\n".join(lines))
        event = _event.decode(b"\n".join(lines))
        self.after = event.seq
        self._ended = event.type in self._ends
        return event


class Patience:
    """How long a follower has gone without a byte."""

    def __init__(self) -> None:
        self._heard = time.monotonic()
        self._tries = 0

    def heard(self) -> None:
        self._heard, self._tries = time.monotonic(), 0

    def after(self, what: Response | SessiondError | None) -> float:
        """Return after how many seconds to connect again; None is a stream that ended as if it were whole.

        Raises:
            ApiError: the server said no.
            SessiondError: it has been too long.
        """
        if isinstance(what, Response):
            refusal = error_of(what)
            if what.status not in AGAIN:
                raise refusal
            what = refusal
        self._tries += 1
        if time.monotonic() - self._heard > GIVE_UP_SECONDS:
            raise what or ConnectionFailed("the stream ends again and again")
        return backoff_seconds(self._tries) if what is not None else FIRST_SECONDS


def follow(carrier: Carrier, tail: Tail) -> Iterator[Event | Delta]:
    """Yield what a tail gets, over as many connections as it takes."""
    patience = Patience()
    while not tail.ended():
        came: Response | SessiondError | None = None
        try:
            with carrier.open_stream(tail.begin()) as opened:
                if opened.response.status == 204:
                    return
                if opened.response.status >= 400:
                    came = opened.response
                else:
                    for chunk in opened.chunks:
                        patience.heard()
                        yield from tail.feed(chunk)
                        if tail.ended():
                            return
        except (ConnectionFailed, TimedOut) as error:
            came = error
        time.sleep(patience.after(came))


async def follow_async(carrier: AsyncCarrier, tail: Tail) -> AsyncGenerator[Event | Delta]:
    """Yield what a tail gets, over as many connections as it takes."""
    patience = Patience()
    while not tail.ended():
        came: Response | SessiondError | None = None
        try:
            async with carrier.open_stream(tail.begin()) as opened:
                if opened.response.status == 204:
                    return
                if opened.response.status >= 400:
                    came = opened.response
                else:
                    async for chunk in opened.chunks:
                        patience.heard()
                        for told in tail.feed(chunk):
                            yield told
                        if tail.ended():
                            return
        except (ConnectionFailed, TimedOut) as error:
            came = error
        await asyncio.sleep(patience.after(came))


_event: Final = msgspec.json.Decoder(Event)
_delta: Final = msgspec.json.Decoder(Delta)
