"""SQLite: one writer thread that commits in groups, and readers that never wait for it.

Calling a thread for every write costs 100 µs of CPU and an fsync 200 µs. So the writer takes everything that is
queued, runs it in one transaction, commits once, and then answers all; an operation that fails takes no other along.
Operations are the same coroutines PostgreSQL awaits; here nothing in them suspends, so `drive` runs them to their
end without an event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import count, groupby
from pathlib import Path
from typing import Any, Final, Self

import apsw

from sessiond.core.errors import Damaged, Unavailable
from sessiond.core.event import Delta
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.storage.engine import Combined, I, Load, Operation, R, Schema, T, Watched, Watches
from sessiond.storage.sqlite_tx import SqliteSnapshot, SqliteTx, drive, read_now, translate
from sessiond.storage.statements import load_statements
from sessiond.storage.vault import KeyNeeded, Vault

log: Final = logging.getLogger("sessiond.storage")

BUSY_MS: Final = 10_000  # another process (`sessiond keys create`) may be writing; it never takes this long
GROUP_MAX: Final = 256  # operations to a commit: bounds how long the first of them waits for its answer
OTHERS_SHARE: Final = 4  # of the time that a commit takes: what is lost where nobody comes
OTHERS_MAX_SECONDS: Final = 0.001
SCAN_THREADS: Final = 4
SCANS_WAITING_MAX: Final = 256
CHECKPOINT_PAGES: Final = 4_000  # 16 MiB of log: a page that is written again and again is copied home once
CHECKPOINT_COMMITS: Final = 64  # how often the log's size is looked at
LOG_MAX_BYTES: Final = 4 * CHECKPOINT_PAGES * 4096
CHECKPOINT_WAIT_MS: Final = 200  # for readers to leave the log; writers wait as long
CACHE_KIB: Final = 4 * 1024  # per connection; the system caches the file anyway, and memory must not grow with it


def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """Open a connection set up for durability: an answered commit survives a crash and a power cut.

    Raises:
        Unavailable: the file cannot be opened.
    """
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        connection = apsw.Connection(str(path), flags=flags, statementcachesize=200)
        connection.set_busy_timeout(BUSY_MS)
        if read_only:
            connection.execute("pragma query_only = on")
        else:
            _use_wal(connection)
            # What is deleted or replaced is not to be found in the file's free pages.
            connection.execute("pragma secure_delete = on")
        connection.create_scalar_function("now_us", _now_us, 0)
        connection.execute("pragma synchronous = full")
        connection.execute(f"pragma cache_size = -{CACHE_KIB}")
        connection.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
    except apsw.Error as error:
        raise Unavailable(f"the database {path} cannot be opened: {error}") from error
    return connection


def _now_us(*_nothing: Any) -> int:
    return time.time_ns() // 1000


def _use_wal(connection: apsw.Connection) -> None:
    """Switch to the write-ahead log. Of several who do so to a new file all but one are busy, whatever the timeout."""
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
            return
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


class _Write:
    """An operation in the queue, and who waits for it. One with an `item` is run once for all items that it gets."""

    __slots__ = ("error", "future", "item", "operation", "result")

    def __init__(self, operation: Any, item: Any, future: asyncio.Future[Any]) -> None:
        self.operation = operation
        self.item = item
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, tx: SqliteTx) -> None:
        if self.item is None:
            self.result = drive(self.operation(tx))
        else:
            self.result = drive(self.operation(tx, (self.item,)))[0]


class SqliteEngine:
    """See `engine.Engine`. Belongs to the event loop it was opened on."""

    name: Final = "sqlite"
    poll_seconds: Final = 1.0  # a look is a point read of a few microseconds

    def __init__(self, path: Path, *, queue_max: int, vault: Vault) -> None:
        self.vault = vault
        self._path = path
        self._log_path = path.with_name(f"{path.name}-wal")
        self._queue_max = queue_max
        self._statements = load_statements("sqlite")
        self.watches = Watches()
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Write] = []
        """What this turn of the loop has written so far."""
        self._queue: deque[_Write] = deque()
        self._queued = threading.Condition()
        self._closing = False
        self._commits = 0
        self._operations = 0
        self._commit_seconds = 0.0
        """How long the last one took."""
        self._writers = 0
        """How many were waiting for it, or for the next."""
        self._writer_connection = connect(path)
        self._point = SqliteTx(connect(path, read_only=True), self._statements, vault)
        self._reading = False
        self._scans = ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="sessiond-scan")
        self._scans_waiting = 0
        self._scanner = threading.local()
        self._scan_connections: list[apsw.Connection] = []
        self._snapshots_idle: list[apsw.Connection] = []
        self._writer = threading.Thread(target=self._write_on, name="sessiond-writer", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, path: Path, *, queue_max: int, vault: Vault | None = None) -> Self:
        """Open a database whose schema is current. At most `queue_max` writes wait."""
        return cls(path, queue_max=queue_max, vault=vault or Vault(None))

    async def write(self, operation: Operation[T]) -> T:
        for tries in count():  # as `Vault.with_keys`, without its turn
            try:
                result: T = await self._enqueue(operation, None)
                return result
            except (KeyNeeded, Damaged) as error:
                await self.vault.settle(error, tries)
        raise AssertionError("the vault lets nobody try for ever")

    async def combine(self, operation: Combined[I, R], item: I) -> R:
        for tries in count():
            try:
                result: R = await self._enqueue(operation, item)
                return result
            except (KeyNeeded, Damaged) as error:
                await self.vault.settle(error, tries)
        raise AssertionError("the vault lets nobody try for ever")

    def _enqueue(self, operation: Any, item: Any) -> asyncio.Future[Any]:
        """Have the writer run an operation, with all that this turn of the loop writes.

        It is woken once a turn: taking up each write as it comes, it would commit several times, and the loop and the
        writer would wait for the interpreter in turns.
        """
        if self._closing or len(self._queue) + len(self._gathered) >= self._queue_max:
            raise Unavailable("too many writes are waiting" if not self._closing else "the server is shutting down")
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(_Write(operation, item, future))
        return future

    def _hand_over(self) -> None:
        with self._queued:
            self._queue.extend(self._gathered)
            self._gathered.clear()
            self._queued.notify()

    async def read(self, operation: Operation[T]) -> T:
        for tries in count():  # as `Vault.with_keys`, without its turn: a twentieth of a read
            try:
                if not self._reading:
                    self._begin_reading()
                return read_now(operation, self._point)
            except (KeyNeeded, Damaged) as error:
                await self.vault.settle(error, tries)
        raise AssertionError("the vault lets nobody try for ever")

    async def scan(self, operation: Operation[T]) -> T:
        return await self.vault.with_keys(lambda: self._scan_apart(operation))

    async def _scan_apart(self, operation: Operation[T]) -> T:
        if self._scans_waiting >= SCANS_WAITING_MAX:
            raise Unavailable("too many long reads are waiting")
        self._scans_waiting += 1
        try:
            return await self._loop.run_in_executor(self._scans, self._scan, operation)
        finally:
            self._scans_waiting -= 1

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SqliteSnapshot]:
        # Used again: a new connection knows neither schema nor statements, which costs more than most snapshots.
        idle = self._snapshots_idle
        connection = idle.pop() if idle else await asyncio.to_thread(connect, self._path, read_only=True)
        snapshot = SqliteSnapshot(SqliteTx(connection, self._statements, self.vault), self._scans)
        try:
            connection.execute("begin")  # the moment is that of the first read
            yield snapshot
        finally:
            await snapshot.settle()
            connection.execute("rollback")
            idle.append(connection)

    def tell(
        self, workspace_id: WorkspaceId, session_id: SessionId, delta: Delta, *, key_id: int | None = None
    ) -> None:
        self.watches.tell(workspace_id, session_id, delta)  # another process on the file sees what is in the log

    def load(self) -> Load:
        return Load(
            writes_waiting=len(self._queue) + len(self._gathered), commits=self._commits, operations=self._operations
        )

    async def schema(self) -> Schema:
        from sessiond.storage.migrate import sqlite_schema

        if not self._writer.is_alive():
            raise Unavailable("the writer has ended")
        try:
            return sqlite_schema(self._point_connection)
        except apsw.Error as error:
            raise translate(error) from error

    async def tidy(self) -> None:
        """Empty the write-ahead log, which holds pages as they were. Pages themselves are overwritten (`connect`)."""
        await asyncio.to_thread(self._empty_log)

    def _empty_log(self) -> None:
        connection = connect(self._path)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            log.warning("the write-ahead log could not be emptied: somebody reads it all the time")
        finally:
            connection.close()

    async def close(self) -> None:
        self._closing = True
        self._hand_over()
        await asyncio.to_thread(self._writer.join)
        self._end_reading()
        await asyncio.to_thread(self._scans.shutdown)
        for connection in [
            *self._scan_connections,
            *self._snapshots_idle,
            self._point_connection,
            self._writer_connection,
        ]:
            connection.close()

    @property
    def _point_connection(self) -> apsw.Connection:
        return self._point._connection

    def _begin_reading(self) -> None:
        """Let all reads of this turn of the loop share one snapshot: taking one costs as much as a read.

        Nobody who was told of a commit can be shown what was before it: the end of an older snapshot stands in the
        loop's queue before `_answer`.
        """
        try:
            self._point_connection.execute("begin")
        except apsw.Error as error:
            raise translate(error) from error
        self._reading = True
        self._loop.call_soon(self._end_reading)

    def _end_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._point_connection.execute("commit")

    def _scan(self, operation: Operation[T]) -> T:
        tx: SqliteTx | None = getattr(self._scanner, "tx", None)
        if tx is None:
            connection = connect(self._path, read_only=True)
            self._scan_connections.append(connection)
            tx = self._scanner.tx = SqliteTx(connection, self._statements, self.vault)
        return read_now(operation, tx)

    def _write_on(self) -> None:
        """Be the writer: until closed and nothing is left, commit group after group."""
        while True:
            with self._queued:
                while not self._queue and not self._closing:
                    self._queued.wait()
                self._await_others()
                group = [self._queue.popleft() for _ in range(min(len(self._queue), GROUP_MAX))]
            if not group:
                return
            began = time.monotonic()
            woken = self._commit(group)
            self._commit_seconds = time.monotonic() - began
            self._writers = len(group) + len(self._queue)
            try:
                self._bound_log()
            except (apsw.Error, OSError) as error:
                log.warning("the write-ahead log cannot be bounded: %r", error)
            with suppress(RuntimeError):  # the loop is gone, and with it everybody who waited
                self._loop.call_soon_threadsafe(self._answer, group, woken)

    def _await_others(self) -> None:
        """Give those who wrote a moment ago some time to write again, a part of what a commit takes.

        Else writers that come in two halves stay so: while one half is committed the other queues, and there are twice
        as many commits. Who writes alone does not wait.
        """
        deadline = time.monotonic() + min(OTHERS_MAX_SECONDS, self._commit_seconds / OTHERS_SHARE)
        wanted = min(self._writers, GROUP_MAX)
        while len(self._queue) < wanted and not self._closing and (left := deadline - time.monotonic()) > 0:
            self._queued.wait(left)

    def _commit(self, group: list[_Write]) -> set[Watched]:
        """Run a group in one transaction; leave a result or an error with each."""
        tx = SqliteTx(self._writer_connection, self._statements, self.vault)
        try:
            self._writer_connection.execute("begin immediate")
            if not _run_all(group, tx):
                # One of them failed. So that it takes no other along, each has a savepoint of its own this time; always
                # to do so would cost each two statements more.
                if self._writer_connection.in_transaction:
                    self._writer_connection.execute("rollback")
                tx = SqliteTx(self._writer_connection, self._statements, self.vault)
                self._writer_connection.execute("begin immediate")
                for write in group:
                    self._run(write, tx)
            tx.flush()
            self._writer_connection.execute("commit")
        except Exception as error:
            log.warning("a group of %d writes was not committed: %r", len(group), error)
            lost = Unavailable("the database cannot write now")
            for write in group:
                write.error = write.error or lost
            self._recover()
            return set()
        self._commits += 1
        self._operations += len(group)
        return tx.woken

    def _recover(self) -> None:
        """Undo what failed; where even that fails, start over with a new connection."""
        try:
            if self._writer_connection.in_transaction:
                self._writer_connection.execute("rollback")
        except apsw.Error:
            log.exception("the writer's connection is given up")
            with suppress(Unavailable, apsw.Error):
                fresh = connect(self._path)
                self._writer_connection.close(True)
                self._writer_connection = fresh

    def _bound_log(self) -> None:
        """Start the write-ahead log over when it has grown because some reader was always in it."""
        if self._commits % CHECKPOINT_COMMITS or self._log_path.stat().st_size <= LOG_MAX_BYTES:
            return
        self._writer_connection.set_busy_timeout(CHECKPOINT_WAIT_MS)
        try:
            self._writer_connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            log.debug("the write-ahead log is read all the time; next time")
        finally:
            self._writer_connection.set_busy_timeout(BUSY_MS)

    def _run(self, write: _Write, tx: SqliteTx) -> None:
        """Run one operation so that, if it fails, nothing of it stays."""
        mine = SqliteTx(self._writer_connection, self._statements, self.vault)
        self._writer_connection.execute("savepoint operation")
        try:
            write.run(mine)
        except Exception as error:
            write.error = translate(error)
            self._writer_connection.execute("rollback to operation")
        else:
            for key, n in mine.tallies.items():
                tx.tallies[key] += n
            tx.woken |= mine.woken
        finally:
            self._writer_connection.execute("release operation")

    def _answer(self, group: list[_Write], woken: set[Watched]) -> None:
        for write in group:
            if write.future.done():  # whoever waited has gone; what was written stays written
                continue
            if write.error is not None:
                write.future.set_exception(write.error)
            else:
                write.future.set_result(write.result)
        self.watches.wake(woken)


def _run_all(group: list[_Write], tx: SqliteTx) -> bool:
    """Run a group as if nothing could fail; False when something did, and all of it must be undone."""
    try:
        for operation, writes in groupby(group, key=_combined):
            if operation is None:
                for write in writes:
                    write.run(tx)
            else:
                together = list(writes)
                results = drive(operation(tx, [write.item for write in together]))
                for write, result in zip(together, results, strict=True):
                    write.result = result
    except Exception:
        return False
    return True


def _combined(write: _Write) -> Any:
    """Return the operation that a write shares with its neighbours, None where it has its own."""
    return write.operation if write.item is not None else None
