"""The sweeper: does what is due by the clock, to the moment or now and then. Every process has one.

Waits time out and timers go off, sessions and inboxes expire; what has ended long ago is deleted, a piece at a time;
what was said is indexed.
What exactly happens is in `actions`: here is when.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from sessiond.actions import expiry, indexing, waits
from sessiond.actions.waits import SWEEP_MAX, Swept
from sessiond.core.errors import SessiondError, Unavailable
from sessiond.storage import clock, counts, idempotency, search, trash
from sessiond.storage.engine import Engine, Operation, Tx, Watch
from sessiond.storage.events import WAITS_DUE
from sessiond.storage.search import Tail

log: Final = logging.getLogger("sessiond.sweeper")

POLL_SECONDS: Final = 1.0  # how late something can be whose wake was lost
GATHER_SECONDS: Final = 0.01  # news that come one after another are one
BUSY_SECONDS: Final = 0.02  # before another look at what somebody has in hand
TROUBLE_SECONDS: Final = 0.5  # before another try, when the database was away
CLEAN_SECONDS: Final = 5.0  # between two looks for what has been kept long enough
INDEX_SECONDS: Final = 1.0  # between two looks for what is to be indexed: a search finds it meanwhile, too
REST_SECONDS: Final = 0.05  # between two pieces of what goes: writers get their turn
BUSY_MAX: Final = 1_000
SECOND_US: Final = 1_000_000


class Sweeper:
    """Works until it is cancelled. Any number may share a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._busy = 0
        self.unindexed = 0
        """Events behind which this process was with the index when it last looked at all there is."""
        self._indexer = indexing.Indexer(engine, name=uuid.uuid4().hex)

    async def work(self) -> None:
        """Do what is due until cancelled; whatever goes wrong is logged, and tried again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_time())
            group.create_task(self._clean())
            group.create_task(self._index())
            group.create_task(self._tidy_index())

    async def _keep_time(self) -> None:
        with self._engine.watches.open(*WAITS_DUE) as news:
            while True:
                pause_seconds = await self._try(partial(self._do_due, news))
                if pause_seconds is None:
                    await asyncio.sleep(TROUBLE_SECONDS)
                elif pause_seconds and await news.wait(pause_seconds):
                    await asyncio.sleep(GATHER_SECONDS)

    async def _do_due(self, news: Watch) -> float:
        """Do what is due; return how long there is nothing to do, in seconds."""
        news.take_grown()
        now_us, next_us = await self._engine.read(_look)
        if next_us is None:
            return POLL_SECONDS
        if next_us > now_us:
            return min(POLL_SECONDS, (next_us - now_us) / SECOND_US)
        # Those that somebody has in hand come first again: more are looked at, so that they keep nobody waiting.
        limit = SWEEP_MAX + min(self._busy, BUSY_MAX)
        swept: Swept = await self._write(lambda tx, now_us: waits.sweep(tx, now_us=now_us, limit=limit))
        self._busy = swept.busy
        expired = await self._write(lambda tx, now_us: expiry.expire_sessions(tx, now_us=now_us))
        expired += await self._write(lambda tx, now_us: expiry.expire_inboxes(tx, now_us=now_us))
        return 0.0 if swept.ended or expired else BUSY_SECONDS

    async def _clean(self) -> None:
        with self._engine.watches.open(*trash.PUT) as news:
            while True:
                for chore in (self._forget_answers, self._forget_counts, self._delete_ended, self._empty_trash):
                    await self._try(chore)
                until = asyncio.get_running_loop().time() + CLEAN_SECONDS
                while (left := until - asyncio.get_running_loop().time()) > 0 and await news.wait(left):
                    # What nobody sees any more is not to lie about, and whoever wants its id again waits for it.
                    await self._try(self._empty_trash)

    async def _forget_answers(self) -> None:
        await self._all(lambda tx, now_us: idempotency.sweep(tx, at_us=now_us), idempotency.SWEEP_MAX)

    async def _forget_counts(self) -> None:
        await self._all(lambda tx, _: counts.sweep(tx), counts.SWEEP_MAX)

    async def _delete_ended(self) -> None:
        for workspace_id, seconds in await self._engine.read(expiry.read_retentions):
            kept_us = seconds * SECOND_US
            await self._all(partial(expiry.delete_ended, workspace_id=workspace_id, kept_us=kept_us))

    async def _empty_trash(self) -> None:
        await self._all(lambda tx, _: expiry.empty_trash(tx))

    async def _index(self) -> None:
        """Make searchable what was said, a second or so later; a workspace that cannot be read now is passed by."""
        behind, left = indexing.START, 0
        while True:
            looked = await self._try(partial(self._indexer.look, behind))
            if looked is None:
                await asyncio.sleep(TROUBLE_SECONDS)
                continue
            behind = looked.behind
            if looked.tails:
                indexed = await self._try(partial(self._index_some, looked.tails))
                if indexed is None:
                    behind = indexing.past(looked.tails)
                elif indexed:  # else another process is at it, or there was nothing to do
                    left += max(0, sum(tail.behind for tail in looked.tails) - indexed)
            if looked.done:
                self.unindexed = left
                # What has come meanwhile waits until it is much: a message in a batch of hundreds costs half as much.
                await asyncio.sleep(0 if left else INDEX_SECONDS)
                behind, left = indexing.START, 0

    async def _index_some(self, tails: Sequence[Tail]) -> int | None:
        try:
            indexed = await self._indexer.index(tails)
            while indexed and await self._indexer.merge(tails[0].workspace_id):
                pass
        except Unavailable:
            raise
        except SessiondError as error:
            log.debug("a workspace is not indexed now: %s", error)
            return None
        return indexed

    async def _tidy_index(self) -> None:
        """Write anew what of the index has messages that are gone, and remove what nobody reads any more."""
        while True:
            behind: tuple[str, int] | None = ("", 0)
            while behind is not None:
                started = time.monotonic()
                behind = await self._try(partial(self._indexer.clean, behind))
                # A tenth of the time: the same piece may be to be written anew again and again.
                await asyncio.sleep(9 * (time.monotonic() - started))
            await self._try(self._forget_segments)
            await asyncio.sleep(CLEAN_SECONDS)

    async def _forget_segments(self) -> None:
        await self._all(lambda tx, now_us: search.sweep(tx, now_us=now_us))

    async def _all(self, piece: Callable[[Tx, int], Coroutine[Any, Any, int]], whole: int = 1) -> None:
        """Do piece after piece until one was not as much as a `whole` one."""
        while True:
            if await self._write(piece) < whole:
                return
            await asyncio.sleep(REST_SECONDS)

    async def _write(self, operation: Callable[[Tx, int], Coroutine[Any, Any, Any]]) -> Any:
        async def timed(tx: Tx) -> Any:
            return await operation(tx, await clock.read_us(tx))

        whole: Operation[Any] = timed
        return await self._engine.write(whole)

    async def _try(self, doing: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        try:
            return await doing()
        except Unavailable as error:
            log.warning("sweeping waits: %s", error)
        except SessiondError as error:
            log.error("sweeping was refused: %s", error)
        except Exception:
            log.exception("sweeping failed, and goes on")
        return None


async def _look(tx: Tx) -> tuple[int, int | None]:
    return await clock.read_us(tx), await expiry.find_next(tx)
