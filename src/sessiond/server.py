"""The program: processes, signals, and what they listen on, around the house that `assembly` puts together."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NoReturn

import uvloop

from sessiond.actions.mails import Mailboxes
from sessiond.assembly import GIVE_BACK_SECONDS, open_engine_of, open_site, open_worker, running
from sessiond.core.errors import SessiondError
from sessiond.integrations.mcp.wire import open_routes
from sessiond.mail.listener import MailListener
from sessiond.settings import Settings
from sessiond.sockets import Places, ServeError, Sockets, load_certificates, read_proxies, reserve
from sessiond.storage.engine import Engine
from sessiond.storage.open import sqlite_path
from sessiond.sweeper import Sweeper
from sessiond.telemetry import AccessLog, set_up_logging
from sessiond.web.connections import HttpServer

log: Final = logging.getLogger("sessiond.server")

CRASH_LOOP_SECONDS: Final = 2.0
SWITCH_SECONDS: Final = 0.0005  # Python's own 0.005, some times in one turn of the loop, would be felt


def serve(settings: Settings, announce: Callable[[Places], None]) -> NoReturn:
    """Serve until told to stop by SIGTERM or SIGINT; `announce` is told where, once requests are answered.

    Raises:
        ServeError: an address cannot be had, a file is no certificate, or SQLite was asked for more processes.
    """
    check_workers(settings)
    held = reserve(settings)
    places = held.places()
    _allow_many_files()
    if settings.workers == 1:
        _work(settings, held, lambda: announce(places))
    with TemporaryDirectory(prefix="sessiond-") as shared:
        failed = _supervise(settings, held, lambda: announce(places), Path(shared))
    os._exit(1 if failed else 0)


def work(settings: Settings, announce: Callable[[str], None]) -> NoReturn:
    """Do runs until told to stop by SIGTERM or SIGINT; `announce` is given the worker's name once it looks for some."""
    _allow_many_files()
    _end(_do_runs(settings, announce))


def check_workers(settings: Settings) -> None:
    """Refuse a number of processes that the database cannot serve.

    Raises:
        ServeError: more than one process was asked for on SQLite.
    """
    if settings.workers > 1 and sqlite_path(settings.database) is not None:
        raise ServeError(
            "SQLite has one writer, so more workers would only wait for each other: use PostgreSQL, or --workers 1"
        )


def check_addresses(settings: Settings) -> None:
    """Find out whether what is listened on can be had, without keeping it.

    Raises:
        ServeError: somebody else listens there, or there is no such address.
    """
    reserve(settings).close()


def check_transport(settings: Settings) -> None:
    """Find out whether certificates can be read, and what is said of proxies.

    Raises:
        ServeError: a file is no certificate, or something no address.
    """
    load_certificates(settings)
    read_proxies(settings)


def _work(settings: Settings, held: Sockets, ready: Callable[[], None], shared: Path | None = None) -> NoReturn:
    """Be one serving process."""
    access = AccessLog() if settings.log_level in ("debug", "info") else None
    _end(_serve(settings, held, access, ready, shared), access)


def _end(doing: Coroutine[Any, Any, int], access: AccessLog | None = None) -> NoReturn:
    """Run the program, and end the process with what it returns."""
    try:
        code = uvloop.run(doing)
    except SessiondError as error:
        log.error("%s", error)
        code = 1
    if access is not None:
        access.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Connections that were not let finish are held by threads which nothing else ends.
    os._exit(code)


async def _do_runs(settings: Settings, announce: Callable[[str], None]) -> int:
    stop = _stop_on_signals()
    engine = await open_engine_of(settings)
    try:
        async with running(Sweeper(engine).work()), open_worker(settings, engine) as worker:
            announce(worker.name)
            await stop.wait()
    finally:
        await engine.close()
    return 0


def _stop_on_signals() -> asyncio.Event:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _serve(
    settings: Settings,
    held: Sockets,
    access: AccessLog | None,
    ready: Callable[[], None],
    shared: Path | None,
) -> int:
    stop = _stop_on_signals()
    if held.certificates:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, held.certificates.reload)
    async with (
        open_routes() as beside,
        open_site(settings, access=access, proxies=read_proxies(settings), shared=shared, beside=beside) as site,
        open_worker(settings, site.engine, telemetry=site.telemetry) as worker,
        open_listener(settings, site.engine, held),
    ):
        tls = held.certificates.http.context if held.certificates.http is not None else None
        server = HttpServer(site, streams_max=settings.streams_max, ready=ready, tls=tls)
        # What is there now stays. The collector would look at it again and again, and stop everything for 0.1 s.
        gc.collect()
        gc.freeze()
        # Mails are read in a thread. Each time the loop asks SQLite it has to get the interpreter back from there.
        sys.setswitchinterval(SWITCH_SECONDS)
        running, stopping = asyncio.create_task(server.serve([held.http])), asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        server.stop()
        worker.stop()
        site.close_streams()
        finished, _ = await asyncio.wait({running}, timeout=settings.shutdown_seconds)
        if not finished:
            log.warning("requests were not finished in %.0f s and are cut off", settings.shutdown_seconds)
        elif error := running.exception():
            log.error("the HTTP server failed: %r", error)
            return 1
        return 0 if stop.is_set() else 1


@asynccontextmanager
async def open_listener(settings: Settings, engine: Engine, held: Sockets) -> AsyncIterator[None]:
    """Take mail until the block ends, if a port was given."""
    if held.smtp is None:
        yield
        return
    certificate = held.certificates.smtp
    listener = MailListener(
        Mailboxes(engine),
        domain=settings.mail_domain,
        max_bytes=settings.mail_max_bytes,
        tls=certificate.context if certificate is not None else None,
    )
    await listener.start(held.smtp)
    try:
        yield
    finally:
        await listener.stop()


def _supervise(settings: Settings, held: Sockets, ready: Callable[[], None], shared: Path) -> bool:
    """Keep as many serving processes as were asked for, on one socket, until told to stop; whether one failed."""
    told = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD]
    if held.certificates:
        told.append(signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, told)
    heard, saying = os.pipe()
    os.set_blocking(heard, False)
    parent, started, waiting, stopping, failed = os.getpid(), dict[int, float](), settings.workers, 0.0, False

    def start() -> None:
        pid = os.fork()
        if pid == 0:
            try:
                if held.certificates:
                    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is served: it would end the process
                signal.pthread_sigmask(signal.SIG_UNBLOCK, told)
                _end_with(parent)
                _work(settings, held, lambda: _say(saying), shared)
            finally:
                os._exit(1)
        started[pid] = time.monotonic()

    for _ in range(settings.workers):
        start()
    while started:
        if waiting > 0:
            with suppress(BlockingIOError):
                waiting -= len(os.read(heard, settings.workers))
                if waiting <= 0:
                    ready()
        caught = signal.sigtimedwait(told, 0.05 if waiting > 0 else 1.0)
        if caught is not None and caught.si_signo == signal.SIGHUP:
            held.certificates.reload()  # for processes that are started later
            for pid in started:
                os.kill(pid, signal.SIGHUP)
        elif caught is not None and caught.si_signo != signal.SIGCHLD and not stopping:
            stopping = time.monotonic()
            held.close()
            for pid in started:
                os.kill(pid, signal.SIGTERM)
        if stopping and time.monotonic() - stopping > settings.shutdown_seconds + GIVE_BACK_SECONDS + 5:
            for pid in started:
                os.kill(pid, signal.SIGKILL)
        while started and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            lived = time.monotonic() - started.pop(ended[0])
            if stopping:
                failed |= ended[1] != 0
            elif lived < CRASH_LOOP_SECONDS:
                log.error("a worker died %.1f s after its start; not trying again", lived)
                failed, stopping = True, time.monotonic()
                for pid in started:
                    os.kill(pid, signal.SIGTERM)
            else:
                log.error("worker %d died and is replaced", ended[0])
                start()
    return failed


def _say(pipe: int) -> None:
    os.write(pipe, b".")


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies, however that happens."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)


def _allow_many_files() -> None:
    """Ask for as many open files as the system lets us have: a follower is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.debug("open files: %d, was %d", resource.getrlimit(resource.RLIMIT_NOFILE)[0], soft)


def prepare(settings: Settings) -> None:
    """Set up what serving needs before the first process starts."""
    set_up_logging(settings.log_level)
