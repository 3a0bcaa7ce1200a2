"""A call of the API as a value: what to send, and how to read the answer. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET, Struct

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Query = tuple[tuple[str, str], ...]

_encoder: Final = msgspec.json.Encoder()


class Response(Struct, frozen=True):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes = b""


class Call(Struct, Generic[T_co], frozen=True, kw_only=True):
    """One request, and what its answer means."""

    method: str
    path: str
    """Already quoted, from `/v1` on."""
    read: Callable[[Response], T_co]
    query: Query = ()
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    held_seconds: float = 0.0
    """For how long the server may hold the answer back because it was asked to."""

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def at(self, cursor: str) -> Call[T_co]:
        """Return the call for another page of the same list."""
        kept = tuple(pair for pair in self.query if pair[0] not in ("cursor", "offset"))
        return msgspec.structs.replace(self, query=(*kept, ("cursor", cursor)))

    def of_pages(self, limit: int) -> Call[T_co]:
        """Return the call for pages of `limit`, unless it says how large they are to be."""
        if any(name == "limit" for name, _ in self.query):
            return self
        return msgspec.structs.replace(self, query=(*self.query, ("limit", str(limit))))


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list. Both cursors are None at its ends."""

    data: list[T]
    next_cursor: str | None = None
    prev_cursor: str | None = None
    total: int | None = None
    """How many there are in all, where that was asked for with `include_total`."""


_readers: Final[dict[Any, Callable[[Response], Any]]] = {}


def path_of(*segments: str) -> str:
    """Return a path below `/v1`; a segment may be any text that an id may be.

    Raises:
        TypeError: an id is not a text, but what it is the id of, or None.
        ValueError: no id is like that, and the path would be another's.
    """
    try:
        return _path_of(*segments)
    except TypeError:
        wrong = next(kind for kind in map(type, segments) if not issubclass(kind, str))
        raise TypeError(f"an id is a str, not {wrong.__name__}") from None


@lru_cache(maxsize=4096)  # whoever talks in a session names it each time
def _path_of(*segments: str) -> str:
    for segment in segments:
        if segment in ("", ".", ".."):
            raise ValueError(f"{segment!r} is no id")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def query_of(**fields: Any) -> Query:
    """Return a query string's fields: those that are None are left out, a list comes once for each of its values."""
    pairs = list[tuple[str, str]]()
    for name, value in fields.items():
        if value is None:
            continue
        for each in value if isinstance(value, list | tuple | set | frozenset) else (value,):
            pairs.append((name, _text(each)))
    return tuple(pairs)


def body_of(**fields: Any) -> bytes:
    """Return a JSON object; fields that are None or UNSET are left out."""
    return _encoder.encode({name: value for name, value in fields.items() if value is not None and value is not UNSET})


def patch_of(**fields: Any) -> bytes:
    """Return a merge patch: what is UNSET is left out, what is None is removed."""
    return _encoder.encode({name: value for name, value in fields.items() if value is not UNSET})


def headers_of(*, idempotency_key: str | None = None, if_match: str | None = None) -> dict[str, str]:
    """Return the headers that say on which terms something is to be done.

    Raises:
        ValueError: one has what no header can have.
    """
    headers = {}
    if idempotency_key is not None:
        headers["idempotency-key"] = _header("idempotency_key", idempotency_key)
    if if_match is not None:
        headers["if-match"] = _header("if_match", if_match)
    return headers


def reads(kind: Any) -> Callable[[Response], Any]:
    """Return what reads an answer's body as a `kind`."""
    read = _readers.get(kind)
    if read is None:
        decoder = msgspec.json.Decoder(kind)
        read = _readers[kind] = lambda response: decoder.decode(response.body)
    return read


def reads_nothing(_response: Response) -> None:
    """What an answer without a body means."""


def include_of(*, total: bool) -> str | None:
    return "total" if total else None


def _header(name: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{name} must be printable ASCII, not {value!r}")
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)
