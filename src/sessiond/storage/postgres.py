"""PostgreSQL: a pool of connections, combined appends, and LISTEN/NOTIFY between processes.

Two departures from the obvious, both measured:

- Appends from many requests share a transaction: while one is under way the next gathers, so that a busy server spends
  four round trips on a hundred appends and not on one.
- Wakes are sent right *after* the commit, coalesced, on a connection of their own. A NOTIFY inside the transaction
  makes PostgreSQL hold a lock of the whole database until the commit is on disk, so that no two commits share an
  fsync. A wake lost with its process is made good by every follower's slow poll.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, Final, Self
from zlib import crc32

import asyncpg
import msgspec

from sessiond.core.errors import Unavailable
from sessiond.core.event import Delta
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.storage.counts import pack_tallies
from sessiond.storage.engine import (
    DELTAS_MAX,
    Combined,
    I,
    Load,
    Operation,
    R,
    Row,
    Schema,
    T,
    Tally,
    Value,
    Watched,
    Watches,
)
from sessiond.storage.notices import Told, open_delta, payloads_of, seal_delta
from sessiond.storage.postgres_errors import CONTENDED, LOST, TOO_LONG, unavailable, without_content
from sessiond.storage.statements import load_statements, number_parameters
from sessiond.storage.vault import Vault

log: Final = logging.getLogger("sessiond.storage")

COUNT_SHARDS: Final = 8  # a total's row is locked until its transaction is on disk; this many can be in flight
COMBINE_MAX: Final = 256  # appends to a transaction: bounds how long the first of them waits
ATTEMPTS: Final = 3  # a deadlock or a connection that a restarted server left behind costs one
ACQUIRE_SECONDS: Final = 5.0
CHANNEL: Final = "sessiond_wakes"
LIVE_CHANNEL: Final = "sessiond_deltas"
TO_NOTIFY_MAX: Final = 10_000
HEAL_SECONDS: Final = 1.0
SNAPSHOT_IDLE_MS: Final = 120_000  # between two reads, one may wait as long as a client that takes what was read


class PostgresTx:
    """See `engine.Tx`."""

    takes_arrays = True

    def __init__(self, connection: Any, statements: Mapping[str, str], vault: Vault) -> None:
        self.vault = vault
        self._connection = connection
        self._statements = statements
        self.tallies: dict[Tally, int] = defaultdict(int)
        self.woken: set[Watched] = set()

    async def one(self, statement: str, /, **values: Value) -> Row | None:
        sql, names = _number(self._statements[statement])
        row: Row | None = await self._connection.fetchrow(sql, *[values[name] for name in names])
        return row

    async def all(self, statement: str, /, **values: Any) -> Sequence[Row]:
        sql, names = _number(self._statements[statement])
        rows: Sequence[Row] = await self._connection.fetch(sql, *[values[name] for name in names])
        return rows

    async def run(self, statement: str, /, **values: Any) -> None:
        sql, names = _number(self._statements[statement])
        await self._connection.execute(sql, *[values[name] for name in names])

    async def each(self, statement: str, values: Sequence[Mapping[str, Value]], /) -> None:
        sql, names = _number(self._statements[statement])
        await self._connection.executemany(sql, [[each[name] for name in names] for each in values])

    async def turns(self, statement: str, values: Sequence[Sequence[Value]], /) -> Sequence[Row]:
        sql, _ = _number(self._statements[statement])
        return [row for each in values for row in await self._connection.fetch(sql, *each)]

    async def select(self, statement: str, tail: str, values: Mapping[str, Value], /) -> Sequence[Row]:
        sql, names = _number(f"{self._statements[statement]} {tail}")
        rows: Sequence[Row] = await self._connection.fetch(sql, *[values[name] for name in names])
        return rows

    def tally(self, workspace_id: WorkspaceId, field: str, value: str, n: int, *, of: SessionId) -> None:
        # A session counts in one shard all its life, so that what it added there is taken away there.
        self.tallies[workspace_id, field, value, crc32(of.encode()) % COUNT_SHARDS] += n

    def wake(self, workspace_id: WorkspaceId, session_id: SessionId) -> None:
        self.woken.add((workspace_id, session_id))

    async def flush(self) -> None:
        """Write the totals: last, because their rows are the ones that others wait for."""
        rows = pack_tallies(self.tallies)
        if rows is not None:
            await self.run("count_add", rows=rows)


class PostgresSnapshot:
    """See `engine.Snapshot`."""

    def __init__(self, tx: PostgresTx) -> None:
        self._tx = tx

    async def read(self, operation: Operation[T]) -> T:
        return await self._tx.vault.with_keys(lambda: self._read(operation))

    async def _read(self, operation: Operation[T]) -> T:
        try:
            return await operation(self._tx)
        except LOST as error:
            raise unavailable(error) from error
        except asyncpg.PostgresError as error:
            raise without_content(error) from None


_number = lru_cache(maxsize=1024)(number_parameters)


class _Combiner:
    """Gathers items for one operation while its last transaction is under way."""

    def __init__(self, engine: PostgresEngine, operation: Combined[Any, Any]) -> None:
        self._engine = engine
        self._operation = operation
        self._waiting: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._under_way = False

    async def add(self, item: Any) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._under_way:
            self._under_way = True
            self._engine.start(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), COMBINE_MAX))]
                await self._write(group)
        finally:
            self._under_way = False

    async def _write(self, group: list[tuple[Any, asyncio.Future[Any]]]) -> None:
        items = [item for item, _ in group]

        async def operation(tx: PostgresTx) -> Sequence[Any]:
            return await self._operation(tx, items)

        try:
            results = await self._engine.transact(operation, weight=len(items))
        except Exception as error:
            if len(group) > 1 and not isinstance(error, Unavailable):
                # What one item met is not its neighbours': each on its own, and only the one sees the error.
                for one in group:
                    await self._write([one])
                return
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)


class PostgresEngine:
    """See `engine.Engine`. Belongs to the event loop it was opened on."""

    name: Final = "postgres"
    poll_seconds: Final = 5.0  # a look is a query, and the listener wakes everybody when it was away

    def __init__(
        self, url: str, pool: asyncpg.Pool[Any], *, queue_max: int, command_timeout_seconds: float, vault: Vault
    ) -> None:
        self.vault = vault
        self._url = url
        self._pool = pool
        self._queue_max = queue_max
        self._command_timeout_seconds = command_timeout_seconds
        self._statements = load_statements("postgres")
        self.watches = Watches()
        self._combiners: dict[Any, _Combiner] = {}
        self._in_hand = 0
        self._commits = 0
        self._operations = 0
        self._closing = False
        self._to_notify: dict[Watched, None] = {}
        self._to_tell: deque[Told] = deque(maxlen=DELTAS_MAX)
        self._notify = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = asyncio.create_task(self._listen_on(), name="sessiond-listener")

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        queue_max: int,
        pool_max: int,
        command_timeout_seconds: float,
        vault: Vault | None = None,
    ) -> Self:
        """Connect to a database whose schema is current. At most `queue_max` writes wait.

        Raises:
            Unavailable: no server answers at `url`, or it does not let us in.
        """
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=pool_max,
                command_timeout=command_timeout_seconds,
                timeout=ACQUIRE_SECONDS,
                max_inactive_connection_lifetime=300.0,
                # A connection is given back clean: every operation is a transaction, and nothing else is set on it.
                reset=_nothing,
                server_settings=_server_settings(command_timeout_seconds),
            )
        except (*LOST, asyncpg.PostgresError, ValueError) as error:  # ValueError: a port that is no number
            raise Unavailable(f"PostgreSQL cannot be reached ({type(error).__name__}: {error})") from error
        return cls(
            url,
            pool,
            queue_max=queue_max,
            command_timeout_seconds=command_timeout_seconds,
            vault=vault or Vault(None),
        )

    async def write(self, operation: Operation[T]) -> T:
        result: T = await self._admitted(self.transact(operation))
        return result

    async def combine(self, operation: Combined[I, R], item: I) -> R:
        combiner = self._combiners.get(operation)
        if combiner is None:
            combiner = self._combiners[operation] = _Combiner(self, operation)
        result: R = await self._admitted(combiner.add(item))
        return result

    async def read(self, operation: Operation[T]) -> T:
        return await self.vault.with_keys(lambda: self._read(operation))

    async def _read(self, operation: Operation[T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._connection() as connection:
                    result: T = await operation(PostgresTx(connection, self._statements, self.vault))
                    return result
            except LOST as error:
                if attempt == ATTEMPTS or isinstance(error, (*TOO_LONG, ValueError)):
                    raise unavailable(error) from error
            except asyncpg.PostgresError as error:
                raise without_content(error) from None
        raise AssertionError("the last attempt returns or raises")

    async def scan(self, operation: Operation[T]) -> T:
        return await self.read(operation)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresSnapshot]:
        async with AsyncExitStack() as held:
            try:
                connection = await held.enter_async_context(self._connection())
                transaction = connection.transaction(isolation="repeatable_read", readonly=True)
                await transaction.start()
                await connection.execute(f"set local idle_in_transaction_session_timeout = {SNAPSHOT_IDLE_MS}")
            except LOST as error:
                raise unavailable(error) from error
            try:
                yield PostgresSnapshot(PostgresTx(connection, self._statements, self.vault))
            finally:
                await _roll_back(transaction)

    def tell(
        self, workspace_id: WorkspaceId, session_id: SessionId, delta: Delta, *, key_id: int | None = None
    ) -> None:
        self.watches.tell(workspace_id, session_id, delta)
        told = seal_delta(self.vault, workspace_id, session_id, delta, key_id=key_id)
        if told is not None:
            self._to_tell.append((workspace_id, session_id, told))
            self._notify.set()

    def load(self) -> Load:
        return Load(writes_waiting=self._in_hand, commits=self._commits, operations=self._operations)

    async def schema(self) -> Schema:
        from sessiond.storage.migrate import postgres_schema

        try:
            async with self._connection() as connection:
                return await postgres_schema(connection)
        except LOST as error:
            raise unavailable(error) from error

    async def tidy(self) -> None:
        """Nothing to be done from here: what was replaced is in no dump, and VACUUM frees its place."""

    async def close(self) -> None:
        self._closing = True
        while self._in_hand:  # noqa: ASYNC110 - once in a process's life
            await asyncio.sleep(0.01)
        self._listener.cancel()
        with suppress(asyncio.CancelledError):
            await self._listener
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    def start(self, coroutine: Any) -> None:
        """Run a coroutine until it ends, whoever started it."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def transact(self, operation: Callable[[Any], Any], *, weight: int = 1) -> Any:
        """Run an operation in a transaction, again where that is safe and of use; then wake who watches."""
        return await self.vault.with_keys(lambda: self._transact(operation, weight=weight))

    async def _transact(self, operation: Callable[[Any], Any], *, weight: int) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                async with self._connection() as connection:
                    tx = PostgresTx(connection, self._statements, self.vault)
                    transaction = connection.transaction()
                    await transaction.start()
                    try:
                        result = await operation(tx)
                        await tx.flush()
                    except BaseException:
                        await _roll_back(transaction)
                        raise
                    committing = True
                    await transaction.commit()
            except CONTENDED as error:
                if attempt == ATTEMPTS:
                    raise unavailable(error) from error
            except LOST as error:
                if isinstance(error, ValueError):  # the driver's word for a value of the wrong type: a bug of ours
                    raise
                # A commit that was sent may have happened; a command that timed out would time out again.
                if attempt == ATTEMPTS or committing or isinstance(error, TOO_LONG):
                    raise unavailable(error) from error
            except asyncpg.PostgresError as error:
                raise without_content(error) from None
            else:
                self._commits += 1
                self._operations += weight
                self._wake(tx.woken)
                return result
        raise AssertionError("the last attempt returns or raises")

    async def _admitted(self, work: Any) -> Any:
        if self._closing or self._in_hand >= self._queue_max:
            work.close()
            raise Unavailable("too many writes are waiting" if not self._closing else "the server is shutting down")
        self._in_hand += 1
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._release)
        # Shielded: a client that hangs up must not leave a transaction half way.
        return await asyncio.shield(task)

    def _release(self, task: asyncio.Future[Any]) -> None:
        self._in_hand -= 1
        if not task.cancelled():
            task.exception()  # looked at, also when whoever waited for it has gone

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
        try:
            yield connection
        except (asyncpg.InternalClientError, asyncpg.ReadOnlySQLTransactionError):
            connection.terminate()  # else the pool would lend it to the next attempt too
            raise
        finally:
            await self._pool.release(connection)

    def _wake(self, woken: set[Watched]) -> None:
        self.watches.wake(woken)
        if woken:
            if len(self._to_notify) >= TO_NOTIFY_MAX:
                self._to_notify.clear()  # nobody is listening, or hears too late: their polls will find it
            self._to_notify.update(dict.fromkeys(woken))
            self._notify.set()

    async def _listen_on(self) -> None:
        """Hear of other processes' commits and tell them of ours, on a connection that is opened again when lost."""
        while True:
            connection: Any = None
            try:
                connection = await asyncpg.connect(
                    self._url,
                    timeout=ACQUIRE_SECONDS,
                    command_timeout=self._command_timeout_seconds,
                )
                await connection.add_listener(CHANNEL, self._heard)
                await connection.add_listener(LIVE_CHANNEL, self._heard_live)
                self.watches.wake_all()
                await self._tell(connection)
            except (*LOST, asyncpg.PostgresError):  # whatever it was: without this task nobody hears of anything
                await asyncio.sleep(HEAL_SECONDS)
            finally:
                if connection is not None:
                    connection.terminate()

    async def _tell(self, connection: Any) -> None:
        while not connection.is_closed():
            try:
                async with asyncio.timeout(HEAL_SECONDS):
                    await self._notify.wait()
            except TimeoutError:
                # A connection that was cut without a word is found out by talking.
                await connection.execute("select 1", timeout=ACQUIRE_SECONDS)
            self._notify.clear()
            told, self._to_notify = list(self._to_notify), {}
            for payload in payloads_of(told):
                await connection.execute("select pg_notify($1, $2)", CHANNEL, payload)
            deltas = [self._to_tell.popleft() for _ in range(len(self._to_tell))]
            for payload in payloads_of(deltas):
                await connection.execute("select pg_notify($1, $2)", LIVE_CHANNEL, payload)

    def _heard(self, connection: Any, pid: int, _channel: str, payload: object) -> None:
        if not connection.is_closed() and pid != connection.get_server_pid():
            self.watches.wake(msgspec.json.decode(str(payload), type=list[Watched]))

    def _heard_live(self, connection: Any, pid: int, _channel: str, payload: object) -> None:
        if not connection.is_closed() and pid != connection.get_server_pid():
            for workspace_id, session_id, told in msgspec.json.decode(str(payload), type=list[Told]):
                delta = open_delta(self.vault, workspace_id, session_id, told)
                if delta is not None:
                    self.watches.tell(workspace_id, session_id, delta)


def _server_settings(command_timeout_seconds: float) -> dict[str, str]:
    timeout_ms = str(int(command_timeout_seconds * 1000))
    return {
        "application_name": "sessiond",
        # The server gives up too: else a command that the client abandoned would keep its locks.
        "statement_timeout": timeout_ms,
        "idle_in_transaction_session_timeout": timeout_ms,
        # Queries are short and planned once; compiling them to machine code costs more than they do.
        "jit": "off",
        # What the statements are written for, whatever the database's own default is.
        "default_transaction_isolation": "read committed",
    }


async def _nothing(_connection: Any) -> None:
    return


async def _roll_back(transaction: Any) -> None:
    """Undo; where the connection is gone, the server has done so already."""
    with suppress(*LOST):
        await transaction.rollback()
