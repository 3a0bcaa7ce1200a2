"""Routes as data, and the table that finds one: which wire answers a path is decided here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from sessiond.core.errors import InvalidInput, SessiondError
from sessiond.web.answers import Answer, Stream
from sessiond.web.requests import Request

PATHS_KNOWN_MAX: Final = 4_096  # that are remembered: about 2 MB
PATH_KNOWN_MAX_BYTES: Final = 200  # longer ones are rare, and would be anybody's way to fill memory

Handler = Callable[[Request], Awaitable[Answer | Stream]]


class Route(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One method on one path, and what its OpenAPI document says of it."""

    method: str
    path: str
    """As in the wire's document: `/api/sessions/{id}`."""
    handler: Handler
    summary: str
    description: str = ""
    query: Any = None
    """A struct, one field a parameter."""
    body: Any = None
    """The type of the JSON body."""
    body_optional: bool = False
    other_bodies: tuple[str, ...] = ()
    """Types of content that a body may have in place of JSON; it is then taken as it is."""
    answers: Mapping[int, Any] = msgspec.field(default_factory=dict)
    """By status, the type of the JSON body or a tuple of types; None for an empty one, `bytes` for other than JSON."""
    content_type: str = "application/json"
    public: bool = False
    """Answers without a key."""
    content: bool = True
    """Whether what people and agents say stands in what it takes or shows.

    A workspace may seal that: where a client holds the key, it must come along.
    """
    reads: bool = True
    """Whether its answer shows content that is kept, and not only what was sent: the audit log may want to know."""

    versioned: bool = False
    """Of a POST: whether If-Match guards it."""

    @property
    def guarded(self) -> bool:
        """Whether If-Match is honoured: on every PATCH and DELETE of what has versions, and where it is said."""
        return self.method in ("PATCH", "DELETE") or self.versioned

    @property
    def shows_content(self) -> bool:
        """Whether an answer that went well is a read of content: unless told otherwise, each that has a body."""
        bodies = (kind for status, kind in self.answers.items() if status < HTTPStatus.BAD_REQUEST)
        return self.content and self.reads and not self.public and any(kind is not None for kind in bodies)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error on its way out, for a wire to put in its own words."""

    error: SessiondError
    """`web.errors.Internal` for a bug: its text says nothing."""
    path: str
    request_id: str
    route: Route | None


class Dialect(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One wire: its routes and its way of saying no."""

    name: str
    title: str
    prefix: str
    """Where it is always mounted; empty for the native wire, which has its paths to itself."""
    routes: tuple[Route, ...]
    render: Callable[[Problem], Answer]
    error: Any
    """The type of the JSON body that `render` makes."""
    error_content_type: str = "application/json"


class Claim(msgspec.Struct, frozen=True, eq=False):
    """A route at a path that it answers."""

    dialect: Dialect
    route: Route
    path: str
    prefixed: bool


class _Node:
    __slots__ = ("below", "claims", "open")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.open: _Node | None = None
        self.claims: dict[str, list[Claim]] = {}


class Found(msgspec.Struct, frozen=True):
    """What answers a path: by method, every route that claims it; empty where nothing does."""

    claims: Mapping[str, list[Claim]]
    params: tuple[str, ...]


class Table:
    """Every path that is answered, under each dialect's prefix and at the root."""

    def __init__(self, dialects: Iterable[Dialect], *, documents: Iterable[Claim] = ()) -> None:
        self.dialects = tuple(dialects)
        self._root = _Node()
        # A client that talks asks for the same few paths again and again.
        self._find_known = lru_cache(PATHS_KNOWN_MAX)(self._find)
        for claim in documents:
            self._add(claim)
        for dialect in self.dialects:
            for route in dialect.routes:
                for prefix in dict.fromkeys(("", dialect.prefix)):
                    self._add(Claim(dialect, route, prefix + route.path, prefixed=prefix == dialect.prefix))

    def __iter__(self) -> Iterator[Claim]:
        """Every claim, by path and method."""
        yield from sorted(self._below(self._root), key=lambda claim: (claim.path, claim.route.method))

    def find(self, raw_path: bytes) -> Found:
        """Return what claims a path as it came over the wire.

        A segment may be empty: an id that is missing is the route's to complain of. It may be no text at all, which
        `check_params` refuses once it is known in whose words.
        """
        return (self._find_known if len(raw_path) <= PATH_KNOWN_MAX_BYTES else self._find)(raw_path)

    def _find(self, raw_path: bytes) -> Found:
        node, params = self._root, []
        for segment in split_path(raw_path):
            below = node.below.get(segment)
            if below is None:
                below = node.open
                if below is None:
                    return Found({}, ())
                params.append(segment)
            node = below
        return Found(node.claims, tuple(params))

    def dialect_of(self, raw_path: bytes) -> Dialect | None:
        """Return the wire under whose prefix a path lies."""
        for dialect in self.dialects:
            if dialect.prefix and raw_path.startswith(f"{dialect.prefix}/".encode()):
                return dialect
        return None

    def _add(self, claim: Claim) -> None:
        node = self._root
        for segment in claim.path.split("/")[1:]:
            if segment.startswith("{"):
                if node.open is None:
                    node.open = _Node()
                node = node.open
            else:
                node = node.below.setdefault(segment, _Node())
        node.claims.setdefault(claim.route.method, []).append(claim)

    def _below(self, node: _Node) -> Iterator[Claim]:
        for claims in node.claims.values():
            yield from claims
        for below in [*node.below.values(), *([node.open] if node.open else [])]:
            yield from self._below(below)


def split_path(raw_path: bytes) -> list[str]:
    """Return a path's segments, decoded one by one: a `%2F` belongs to its segment. Bytes that are not UTF-8 stay as
    surrogates.
    """
    segments = raw_path.decode("ascii", "surrogateescape").split("/")[1:]
    return [unquote(segment, errors="surrogateescape") for segment in segments] if b"%" in raw_path else segments


def check_params(params: tuple[str, ...]) -> tuple[str, ...]:
    """Return `params` if they are text that can be looked for.

    Raises:
        InvalidInput: one is not UTF-8, or has a NUL, which PostgreSQL takes in no text.
    """
    for param in params:
        if _UNUSABLE.search(param):
            raise InvalidInput("the path is not valid UTF-8, or contains a NUL character", field="path")
    return params


_UNUSABLE: Final = re.compile("[\0\ud800-\udfff]")
