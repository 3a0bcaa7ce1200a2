"""A stream of events that outlives its connections: where it is, and when to connect again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from typing import Final

import msgspec
from msgspec import Struct

from sessiond.client.call import Call, Response, query_of, reads_nothing
from sessiond.client.errors import (
    SHOWN_BYTES,
    ApiError,
    ConnectionFailed,
    SessiondError,
    TimedOut,
    UnexpectedAnswer,
    error_of,
    unexpected,
)
from sessiond.client.events import Event
from sessiond.client.resource import AsyncCarrier, Carrier
from sessiond.client.retrying import AGAIN, backoff_seconds

GIVE_UP_SECONDS: Final = 300.0  # without a good connection: whatever was restarted is back by then, or needs somebody
GOOD_SECONDS: Final = 5.0  # a connection that has lasted so long was good, though nothing happened in it
STREAM: Final = "text/event-stream"
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
        headers = {"accept": STREAM}
        return Call(
            method="GET",
            path=self._path,
            query=query,
            headers=headers,
            held_seconds=SILENCE_SECONDS,
            read=reads_nothing,
        )

    def accept(self, response: Response) -> bool:
        """Return whether a connection has begun to tell; False after the end.

        Raises:
            ApiError: the server said no.
            UnexpectedAnswer: this is no stream.
        """
        if response.status >= 400:
            raise error_of(response)
        if response.status == 204:
            return False
        if not response.headers.get("content-type", "").startswith(STREAM):
            raise unexpected(response)
        return True

    def feed(self, chunk: bytes) -> list[Event | Delta]:
        """Return what is complete with these bytes."""
        *blocks, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        return [told for block in blocks if (told := self._read(block)) is not None]

    def _read(self, block: bytes) -> Event | Delta | None:
        fields: dict[bytes, bytes] = {}
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            fields[name] = fields[name] + b"\n" + value if name == b"data" and name in fields else value
        if b"data" not in fields or self._ended:
            return None
        try:
            if fields.get(b"event") == b"run.delta":
                return _delta.decode(fields[b"data"])
            if b"id" not in fields:
                return None  # in no log: something that a newer server tells besides
            event = _event.decode(fields[b"data"])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UnexpectedAnswer(f"the stream has something else than an event: {block[:SHOWN_BYTES]!r}") from error
        if event.seq <= self.after:
            return None
        self.after = event.seq
        self._ended = event.type in self._ends
        return event


class Patience:
    """For how long, and how often, a follower has not got on."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._after = tail.after
        self._begun = self._heard = self._since = time.monotonic()
        self._tries = 0

    def heard(self) -> None:
        self._heard = time.monotonic()

    def after(self, error: SessiondError | None) -> float:
        """Return after how many seconds to connect again; None is a stream that ended as if it were whole.

        Raises:
            SessiondError: that error, if it is for good, or it has been too long.
        """
        if isinstance(error, ApiError) and error.status not in AGAIN:
            raise error
        now, got_on = time.monotonic(), self._tail.after > self._after
        if got_on or self._heard - self._begun > GOOD_SECONDS:
            self._after, self._tries, self._since = self._tail.after, 0, now
        if now - self._since > GIVE_UP_SECONDS:
            raise error or ConnectionFailed("the stream ends again and again")
        self._tries += not got_on
        wait_seconds = backoff_seconds(self._tries) if self._tries else 0.0
        self._begun = now + wait_seconds
        return wait_seconds


def follow(carrier: Carrier, tail: Tail) -> Generator[Event | Delta]:
    """Yield what a tail gets, over as many connections as it takes."""
    patience = Patience(tail)
    while not tail.ended():
        came: SessiondError | None = None
        try:
            with carrier.open_stream(tail.begin()) as opened:
                if not tail.accept(opened.response):
                    return
                for chunk in opened.chunks:
                    patience.heard()
                    yield from tail.feed(chunk)
                    if tail.ended():
                        return
        except (ConnectionFailed, TimedOut, ApiError) as error:
            came = error
        time.sleep(patience.after(came))


async def follow_async(carrier: AsyncCarrier, tail: Tail) -> AsyncGenerator[Event | Delta]:
    """Yield what a tail gets, over as many connections as it takes."""
    patience = Patience(tail)
    while not tail.ended():
        came: SessiondError | None = None
        try:
            async with carrier.open_stream(tail.begin()) as opened:
                if not tail.accept(opened.response):
                    return
                async for chunk in opened.chunks:
                    patience.heard()
                    for told in tail.feed(chunk):
                        yield told
                    if tail.ended():
                        return
        except (ConnectionFailed, TimedOut, ApiError) as error:
            came = error
        await asyncio.sleep(patience.after(came))


_event: Final = msgspec.json.Decoder(Event)
_delta: Final = msgspec.json.Decoder(Delta)
