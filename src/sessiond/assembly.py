"""The house put together: a database, everything above it, and its chores. What listens for requests is `server`'s."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sessiond import __version__
from sessiond.core.errors import SessiondError, Unavailable
from sessiond.crypto import load_master
from sessiond.dialects import agentinbox, native, openagents, operativus, viben
from sessiond.runners.worker import Worker
from sessiond.settings import Settings
from sessiond.storage.engine import Engine
from sessiond.storage.open import open_engine
from sessiond.sweeper import Sweeper
from sessiond.telemetry import AccessLog, Telemetry
from sessiond.web.proxies import Proxies
from sessiond.web.routes import Dialect, Route
from sessiond.web.site import Site

log: Final = logging.getLogger("sessiond.server")

DIALECTS: Final[tuple[Dialect, ...]] = (
    native.DIALECT,
    openagents.DIALECT,
    operativus.DIALECT,
    viben.DIALECT,
    agentinbox.DIALECT,
)

GIVE_BACK_SECONDS: Final = 4.0  # an agent that is told to stop is gone within two
HOUSEKEEPING_SECONDS: Final = 2.0


@asynccontextmanager
async def open_site(
    settings: Settings,
    *,
    access: AccessLog | None,
    proxies: Proxies | None = None,
    shared: Path | None = None,
    beside: Sequence[Route] = (),
) -> AsyncIterator[Site]:
    """Open the database, whose schema must be current, and everything above it; close it all on the way out.

    `shared` is a folder where processes that serve together leave their metrics for each other. `beside` is answered
    beside the wires, in the native one's words.
    """
    engine = await open_engine_of(settings)
    try:
        site = Site(
            DIALECTS,
            engine=engine,
            telemetry=Telemetry(access, shared=shared),
            version=__version__,
            default_dialect=settings.default_dialect,
            body_max_bytes=settings.body_max_bytes,
            streams_max=settings.streams_max,
            keep_alive_seconds=settings.keep_alive_seconds,
            mail_domain=settings.mail_domain,
            auth_failures_max=settings.auth_failures_max,
            proxies=proxies or Proxies(),
            beside=beside,
        )
        sweeper = Sweeper(engine)
        site.telemetry.gauge("sessiond_search_behind", "Events not indexed yet.", lambda: sweeper.unindexed)
        try:
            async with running(_keep_house(site)), running(sweeper.work()):
                yield site
        finally:
            for chore in (site.authenticator.note_used, site.authenticator.refusals.write):
                with suppress(SessiondError):
                    await chore()
    finally:
        await engine.close()


@asynccontextmanager
async def running(chores: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have something that never ends by itself go on until the block ends."""
    task = asyncio.create_task(chores)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def open_engine_of(settings: Settings) -> Engine:
    """Open the database of these settings, whose schema must be current."""
    return await open_engine(
        settings.database,
        queue_max=settings.write_queue_max,
        pool_max=settings.pool_max,
        command_timeout_seconds=settings.command_timeout_seconds,
        master=load_master(os.environ, file=settings.master_key_file),
    )


@asynccontextmanager
async def open_worker(
    settings: Settings, engine: Engine, *, telemetry: Telemetry | None = None
) -> AsyncIterator[Worker]:
    """Work on runs until the block ends; then let those under way finish, and give back the rest."""
    worker = Worker(engine, runs_max=settings.runs_max, lease_seconds=settings.lease_seconds, telemetry=telemetry)
    if telemetry is not None:
        telemetry.gauge("sessiond_runs_under_way", "Runs that agents are at work on.", lambda: worker.under_way)
    working = asyncio.create_task(worker.work() if settings.runs_max else asyncio.sleep(0))
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait({working}, timeout=settings.shutdown_seconds - worker.stopped_seconds)
        if not working.done():
            log.warning("%d runs were not finished and are given back", worker.under_way)
            worker.give_back()
            await asyncio.wait({working}, timeout=GIVE_BACK_SECONDS)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


async def _keep_house(site: Site) -> None:
    """Do what is due now and then; what fails is done next time."""
    while True:
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
        await _try(site.telemetry.share)
        await _try(site.authenticator.note_used)
        await _try(site.authenticator.refusals.write_due)
        await _try(site.engine.vault.forget_old)


async def _try(chore: Callable[[], Awaitable[None] | None]) -> None:
    try:
        doing = chore()
        if doing is not None:
            await doing
    except Unavailable as error:
        log.warning("housekeeping waits: %s", error)
    except Exception:
        log.exception("housekeeping failed")
