"""The worker: takes runs that are due, has their agents do them, and keeps what they say.

It knows leases, time limits, retries and cancellation, and nothing of how an agent is run. What an agent says is
gathered for a few tens of milliseconds, so that a word is not a transaction.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from sessiond.actions import work
from sessiond.actions.work import SECOND_US, Claimed
from sessiond.core.errors import SessiondError, Unavailable
from sessiond.runners.attempt import Attempt, Stop
from sessiond.storage import clock, leases, runs
from sessiond.storage.engine import Engine, Tx, Watch
from sessiond.telemetry import Telemetry

log: Final = logging.getLogger("sessiond.runs")

POLL_SECONDS: Final = 1.0  # how late a run can be whose wake was lost, or whose worker was
WAITING_MAX: Final = 1_000  # each may be a program that is kept alive
CLAIM_MAX: Final = 32  # runs to a transaction
BEATS: Final = 4  # renewals to a lease: three may fail
BUSY_SECONDS: Final = 0.02  # before another look, when other workers were in the way
TROUBLE_SECONDS: Final = 0.5  # before another try, when the database was away

T = TypeVar("T")


class Worker:
    """Does up to `runs_max` runs at once, until it is told to stop."""

    def __init__(
        self, engine: Engine, *, runs_max: int, lease_seconds: float, telemetry: Telemetry | None = None
    ) -> None:
        self.name: Final = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._engine = engine
        self._runs_max = runs_max
        self._lease_seconds = lease_seconds
        self._telemetry = telemetry
        self._attempts: dict[asyncio.Task[None], Attempt] = {}
        self._stopped_at: float | None = None
        self._gives_back = False
        self._news = Watch()
        self._behind = leases.FIRST

    @property
    def under_way(self) -> int:
        """How many runs it has just now."""
        return len(self._attempts)

    def stop(self) -> None:
        """Take no more runs; `work` returns when those under way have ended."""
        if self._stopped_at is None:
            self._stopped_at = asyncio.get_running_loop().time()
        self._news.wake()

    @property
    def stopped_seconds(self) -> float:
        """How long ago it was told to stop."""
        return asyncio.get_running_loop().time() - self._stopped_at if self._stopped_at is not None else 0.0

    def give_back(self) -> None:
        """Stop the agents too; their runs go back into the queue."""
        self.stop()
        self._gives_back = True
        for attempt in self._attempts.values():
            attempt.stop(Stop.WORKER)

    async def work(self) -> None:
        """Do runs until `stop`ped and none is left. Whatever goes wrong is logged, and it begins again."""
        while True:
            try:
                return await self._work()
            except Exception:
                # A bug of ours. Its leases run out, and its runs are started over: by itself, too.
                log.exception("worker=%s ended, and begins again", self.name)
                await asyncio.sleep(TROUBLE_SECONDS)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._beat_on())
            with self._engine.watches.open(*runs.DUE) as self._news:
                while self._stopped_at is None:
                    pause_seconds = await self._try(partial(self._claim, group)) if self._room > 0 else POLL_SECONDS
                    if pause_seconds is None:
                        await asyncio.sleep(TROUBLE_SECONDS)
                    elif pause_seconds:
                        await self._news.wait(pause_seconds)
            while self._attempts:
                await asyncio.wait(self._attempts)
            beating.cancel()

    @property
    def _room(self) -> int:
        """How many more runs it takes. Those that wait for an answer do nothing, and are not counted."""
        waiting = sum(attempt.waiting for attempt in self._attempts.values())
        return self._runs_max - len(self._attempts) + min(waiting, WAITING_MAX)

    async def _claim(self, group: asyncio.TaskGroup) -> float:
        """Take what is due, and start it; return how long there is nothing to do, in seconds."""
        now_us, next_us = await self._engine.read(_look)
        if next_us is None:
            return POLL_SECONDS
        if next_us > now_us:
            return min(POLL_SECONDS, (next_us - now_us) / SECOND_US)
        limit = min(self._room, CLAIM_MAX)

        async def take(tx: Tx) -> Claimed:
            now_us = await clock.read_us(tx)
            lease_us = int(self._lease_seconds * SECOND_US)
            return await work.claim(tx, self.name, now_us=now_us, lease_us=lease_us, limit=limit, behind=self._behind)

        claimed = await self._engine.write(take)
        self._behind = claimed.behind
        for taken in claimed.works:
            attempt = Attempt(self._engine, taken, lease_seconds=self._lease_seconds)
            if self._gives_back:  # it came after the others were told
                attempt.stop(Stop.WORKER)
            task = group.create_task(self._do(attempt))
            self._attempts[task] = attempt
            task.add_done_callback(self._forget)
        if claimed.more:
            return 0.0 if claimed.works else BUSY_SECONDS
        return POLL_SECONDS if not claimed.works else 0.0

    async def _do(self, attempt: Attempt) -> None:
        began, run = asyncio.get_running_loop().time(), attempt.work.run
        if self._telemetry is not None and run.attempts == 1 and run.started_at_us is not None:
            self._telemetry.run_started(seconds=(run.started_at_us - run.created_at_us) / SECOND_US)
        try:
            status = await attempt.make()
            if self._telemetry is not None:
                seconds = asyncio.get_running_loop().time() - began
                self._telemetry.run_ended(runner=attempt.work.agent.runner, status=status, seconds=seconds)
        except Exception:
            # Its lease runs out, and it is started over: there is nobody else to tell.
            log.exception("run=%s could not be done", attempt.run_id)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._attempts[task]
        self._news.wake()

    async def _beat_on(self) -> None:
        pause_seconds = self._lease_seconds / BEATS
        async with asyncio.TaskGroup() as group:
            beat: asyncio.Task[None] | None = None
            while True:
                await asyncio.sleep(pause_seconds)
                if beat is None or beat.done():
                    beat = group.create_task(self._try(self._beat))
                # Not for ever: a database that does not answer keeps nobody from seeing that a lease has run out.
                await asyncio.wait({beat}, timeout=pause_seconds)
                for attempt in self._attempts.values():
                    if attempt.lapsed:
                        attempt.stop(Stop.LOST)

    async def _beat(self) -> None:
        """Renew the leases of all runs under way; stop those whose lease somebody else has."""
        attempts = {attempt.work.lease: attempt for attempt in self._attempts.values() if not attempt.concluding}
        if not attempts:
            return
        began = asyncio.get_running_loop().time()

        async def renew(tx: Tx) -> list[leases.Lease]:
            until_us = await clock.read_us(tx) + int(self._lease_seconds * SECOND_US)
            return await leases.renew(tx, list(attempts), until_us=until_us)

        held = frozenset(await self._engine.write(renew))
        for lease, attempt in attempts.items():
            if lease in held:
                attempt.renewed(began)
            else:
                attempt.stop(Stop.LOST)

    async def _try(self, doing: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        try:
            return await doing()
        except Unavailable as error:
            log.warning("worker=%s waits: %s", self.name, error)
        except SessiondError as error:
            log.error("worker=%s was refused: %s", self.name, error)
        except Exception:
            log.exception("worker=%s failed, and goes on", self.name)
        return None


async def _look(tx: Tx) -> tuple[int, int | None]:
    return await clock.read_us(tx), await leases.find_next(tx)
