"""One transaction on SQLite, and how an operation is run in it: to its end, without an event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import apsw

from sessiond.core.errors import Unavailable
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.storage.counts import pack_tallies
from sessiond.storage.engine import Operation, Row, T, Tally, Value, Watched
from sessiond.storage.vault import Vault

log: Final = logging.getLogger("sessiond.storage")


class SqliteTx:
    """See `engine.Tx`. The methods are `async` in form only."""

    takes_arrays = False

    def __init__(self, connection: apsw.Connection, statements: Mapping[str, str], vault: Vault) -> None:
        self.vault = vault
        self._connection = connection
        self._statements = statements
        self.tallies: dict[Tally, int] = defaultdict(int)
        self.woken: set[Watched] = set()

    async def one(self, statement: str, /, **values: Value) -> Row | None:
        row: Row | None = self._connection.execute(self._statements[statement], values).fetchone()
        return row

    async def all(self, statement: str, /, **values: Value) -> Sequence[Row]:
        return self._connection.execute(self._statements[statement], values).fetchall()

    async def run(self, statement: str, /, **values: Value) -> None:
        self._connection.execute(self._statements[statement], values)

    async def each(self, statement: str, values: Sequence[Mapping[str, Value]], /) -> None:
        self._connection.executemany(self._statements[statement], values)

    async def turns(self, statement: str, values: Sequence[Sequence[Value]], /) -> Sequence[Row]:
        return self._connection.executemany(self._statements[statement], values).fetchall()

    async def select(self, statement: str, tail: str, values: Mapping[str, Value], /) -> Sequence[Row]:
        return self._connection.execute(f"{self._statements[statement]} {tail}", values).fetchall()

    def tally(self, workspace_id: WorkspaceId, field: str, value: str, n: int, *, of: SessionId) -> None:
        self.tallies[workspace_id, field, value, 0] += n  # one writer: nobody queues behind a row

    def wake(self, workspace_id: WorkspaceId, session_id: SessionId) -> None:
        self.woken.add((workspace_id, session_id))

    def flush(self) -> None:
        """Write the totals."""
        rows = pack_tallies(self.tallies)
        if rows is not None:
            self._connection.execute(self._statements["count_add"], {"rows": rows})


class SqliteSnapshot:
    """See `engine.Snapshot`."""

    def __init__(self, tx: SqliteTx, threads: ThreadPoolExecutor) -> None:
        self._tx = tx
        self._threads = threads
        self._reading: asyncio.Future[Any] | None = None

    async def read(self, operation: Operation[T]) -> T:
        return await self._tx.vault.with_keys(lambda: self._read(operation))

    async def _read(self, operation: Operation[T]) -> T:
        self._reading = reading = asyncio.get_running_loop().run_in_executor(
            self._threads, read_now, operation, self._tx
        )
        return await asyncio.shield(reading)

    async def settle(self) -> None:
        """Wait for a read that nobody waits for any more: its thread has the connection."""
        if self._reading is not None and not self._reading.done():
            await asyncio.wait({self._reading})
            self._reading.exception()  # looked at


def read_now(operation: Operation[T], tx: SqliteTx) -> T:
    try:
        return drive(operation(tx))
    except apsw.Error as error:
        raise translate(error) from error


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("an operation waited for something that is not the database")


# SQLite cannot do what was asked now; the same may work later.
_PASSING: Final = (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.NoMemError)


def translate(error: Exception) -> Exception:
    if isinstance(error, _PASSING):
        log.warning("the database refused: %r", error)
        return Unavailable("the database cannot do this now")
    return error
