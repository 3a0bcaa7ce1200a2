"""What goes back to a client: an answer that is whole, or a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from sessiond.core.errors import InvalidInput
from sessiond.core.limits import TIME_MAX_US

JSON: Final = "application/json"
CHUNK_BYTES: Final = 256 * 1024  # a chunk costs a system call, and waits in memory for the client to take it


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """A whole answer; it can be kept, and given again to the same request."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Stream(msgspec.Struct, frozen=True):
    """An answer that is written while it is made. The first chunk is made before anything is sent."""

    chunks: AsyncIterator[bytes]
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    lasting: bool = False
    """Open until one side has had enough: counted, and closed when the server stops."""


_encoder: Final = msgspec.json.Encoder()
_packer: Final = msgspec.msgpack.Encoder()
_unpacker: Final = msgspec.msgpack.Decoder(Answer)


async def gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield pieces joined to chunks worth sending."""
    chunk = bytearray()
    async for piece in pieces:
        chunk += piece
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def encode(value: Any) -> bytes:
    return _encoder.encode(value)


def json_answer(value: Any, status: int = 200, *, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return Answer(status, _encoder.encode(value), JSON, headers)


def pack_answer(answer: Answer) -> bytes:
    return _packer.encode(answer)


def unpack_answer(packed: bytes) -> Answer:
    return _unpacker.decode(packed)


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=8192)  # what is read once is read again, and its three times are often one
def iso_micros(at_us: int) -> str:
    """Return a time as `2026-11-21T17:55:46.123456Z`."""
    return f"{_second(at_us // 1_000_000)}.{at_us % 1_000_000:06d}Z"


@lru_cache(maxsize=8192)
def iso_millis(at_us: int) -> str:
    """Return a time as JavaScript writes it: `2026-11-21T17:55:46.123Z`."""
    return f"{_second(at_us // 1_000_000)}.{at_us // 1000 % 1000:03d}Z"


def parse_time(text: str, field: str) -> int:
    """Return an ISO 8601 time as microseconds; without an offset it is UTC.

    Raises:
        InvalidInput: it is no such time, or before 1970.
    """
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{field} must be a time such as 2026-11-21T17:55:46Z", field=field) from error
    at_us = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    if not 0 <= at_us <= TIME_MAX_US:
        raise InvalidInput(f"{field} must be a time between 1970 and 9999", field=field)
    return at_us
