"""What a database must do for the rest of sessiond, and what both engines share.

A write is a *function* handed to the engine, not a `with` block held open: `await engine.write(operation)`. The engine
commits it, perhaps together with its neighbours, and only then answers. An operation does no I/O of its own, and may
be run a second time after a first attempt that left nothing behind.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, Protocol, TypeVar

import msgspec

from sessiond.core.event import Delta
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.storage.vault import Vault

DELTAS_MAX: Final = 1_000  # what a slow follower is told at most at once; the log has it all

Row = Sequence[Any]
Value = str | int | bytes | Sequence[str | int | bytes | None] | None
Tally = tuple[WorkspaceId, str, str, int]
"""What is counted: a workspace, a field ("all", "agent", "user", "task", "status"), its value, and the row's shard."""
Watched = tuple[WorkspaceId, SessionId]


class Tx(Protocol):
    """One transaction. Statements are named as in `storage/sql/`; values are passed by name."""

    vault: Vault
    """The keys that content is sealed with, so far as they are in memory."""

    async def one(self, statement: str, /, **values: Value) -> Row | None:
        """Return the first row, or None."""
        ...

    async def all(self, statement: str, /, **values: Value) -> Sequence[Row]:
        """Return every row: the statement must bound them."""
        ...

    async def run(self, statement: str, /, **values: Value) -> None: ...

    async def each(self, statement: str, values: Sequence[Mapping[str, Value]], /) -> None:
        """Run one statement once per set of values."""
        ...

    async def turns(self, statement: str, values: Sequence[Sequence[Value]], /) -> Sequence[Row]:
        """Run one statement once per set of values, which stand as it first names them; return the rows of all."""
        ...

    async def select(self, statement: str, tail: str, values: Mapping[str, Value], /) -> Sequence[Row]:
        """Run a named query that its caller completes; `tail` is made of constants, everything else is in `values`."""
        ...

    @property
    def takes_arrays(self) -> bool:
        """Whether statements named `…_each` exist, which do with arrays in one round trip what others do in several."""
        ...

    def tally(self, workspace_id: WorkspaceId, field: str, value: str, n: int, *, of: SessionId) -> None:
        """Add `n` to a total, on account of the session `of`, when this commits."""
        ...

    def wake(self, workspace_id: WorkspaceId, session_id: SessionId) -> None:
        """Wake whoever watches this session when this commits."""
        ...


T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")
Operation = Callable[[Tx], Coroutine[Any, Any, T]]
Combined = Callable[[Tx, Sequence[I]], Coroutine[Any, Any, Sequence[R]]]


class Watch:
    """Tells that a session's log may have grown. Open it before reading, so that nothing falls in between."""

    __slots__ = ("_deltas", "_event", "_grown")

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._grown = False
        self._deltas: deque[Delta] = deque(maxlen=DELTAS_MAX)

    def wake(self) -> None:
        self._grown = True
        self._event.set()

    def take_grown(self) -> bool:
        """Whether the log may have grown since the last call; else what woke was a delta."""
        grown, self._grown = self._grown, False
        return grown

    def tell(self, delta: Delta) -> None:
        self._deltas.append(delta)
        self._event.set()

    def take_deltas(self) -> list[Delta]:
        """Return what was told since the last call; the oldest is gone where it was too much."""
        deltas = list(self._deltas)
        self._deltas.clear()
        return deltas

    async def wait(self, timeout_seconds: float) -> bool:
        """Return True at the next wake or at one since the last call, False after `timeout_seconds` without any."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Watches:
    """Who watches what in this process."""

    def __init__(self) -> None:
        self._by_session: Final[defaultdict[Watched, set[Watch]]] = defaultdict(set)
        self._live: Final[defaultdict[Watched, set[Watch]]] = defaultdict(set)

    @contextmanager
    def open(self, workspace_id: WorkspaceId, session_id: SessionId, *, live: bool = False) -> Iterator[Watch]:
        """Watch a session until the block ends; `live`: be told of the text that its runs are writing, too."""
        watch, watched = Watch(), (workspace_id, session_id)
        sets = (self._by_session, self._live) if live else (self._by_session,)
        for by_session in sets:
            by_session[watched].add(watch)
        try:
            yield watch
        finally:
            for by_session in sets:
                by_session[watched].discard(watch)
                if not by_session[watched]:
                    del by_session[watched]

    def wake(self, watched: Iterable[Watched]) -> None:
        for one in watched:
            for watch in self._by_session.get(one, ()):
                watch.wake()

    def tell(self, workspace_id: WorkspaceId, session_id: SessionId, delta: Delta) -> None:
        for watch in self._live.get((workspace_id, session_id), ()):
            watch.tell(delta)

    def wake_all(self) -> None:
        """Wake everybody, after a time in which wakes may have been lost."""
        self.wake(list(self._by_session))

    def __len__(self) -> int:
        return sum(map(len, self._by_session.values()))


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How busy the engine is, for `/metrics`."""

    writes_waiting: int
    commits: int
    """Transactions committed since the start."""
    operations: int
    """Operations committed since the start; more than `commits` where one commit carries several."""


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """Which migrations a database has seen."""

    version: int
    newest: int
    """What this release of sessiond brings."""


class Snapshot(Protocol):
    """The database as it was at one moment, whatever is written meanwhile."""

    async def read(self, operation: Operation[T]) -> T:
        """Run a read of any length.

        Raises:
            Unavailable: the database cannot be read now, or the moment is gone.
        """
        ...


class Engine(Protocol):
    """A database, open."""

    watches: Watches
    vault: Vault

    @property
    def name(self) -> str: ...

    @property
    def poll_seconds(self) -> float:
        """How long a follower may wait before it looks for itself: heals lost wakes."""
        ...

    async def write(self, operation: Operation[T]) -> T:
        """Run an operation in a transaction; it is on disk when this returns.

        Raises:
            Unavailable: too much is waiting, or the database cannot be reached. Where the connection broke during the
                commit the write may still have happened: an idempotency key tells.
        """
        ...

    async def combine(self, operation: Combined[I, R], item: I) -> R:
        """Like `write`, for an operation on many independent items: `item` may share a transaction with others'."""
        ...

    async def read(self, operation: Operation[T]) -> T:
        """Run a short read: a few rows found by key. It sees every write that was answered before."""
        ...

    async def scan(self, operation: Operation[T]) -> T:
        """Run a read that may take long, without holding up anyone."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Have all reads of a block see one moment. It holds up nobody, but keeps the database from tidying up.

        Raises:
            Unavailable: not now.
        """
        ...

    def tell(
        self, workspace_id: WorkspaceId, session_id: SessionId, delta: Delta, *, key_id: int | None = None
    ) -> None:
        """Tell who follows a session live, in every process. Nobody waits for it, and it may be lost.

        What goes to other processes is sealed with the key `key_id`, which they have who have read the session.
        """
        ...

    def load(self) -> Load: ...

    async def schema(self) -> Schema:
        """Return the schema's version, which also shows that the database answers."""
        ...

    async def tidy(self) -> None:
        """Leave nothing behind of what was just removed or replaced, so far as the database lets us."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then close."""
        ...
