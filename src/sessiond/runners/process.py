"""Programs that do a run's work: how they are started, and how nothing of them is left afterwards.

It knows nothing of what they say; that is the runner's.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from sessiond.core.agent import HIDDEN
from sessiond.core.run import Brief
from sessiond.runners.runner import LINE_MAX_BYTES, NOT_CONFIGURED, UNREACHABLE, AgentError

log: Final = logging.getLogger("sessiond.runners")

# Together less than the two seconds that a cancelled run may take to be over.
TERMINATE_SECONDS: Final = 0.8
KILL_SECONDS: Final = 0.4
FAMILY_SECONDS: Final = 0.2
LEFT_SECONDS: Final = 0.45
CLOSE_SECONDS: Final = 0.1  # so that a loop that is closed next finds no open pipe

LINGER_SECONDS: Final = 0.5  # a child such as `tee` may still have to write what the program said last
LOOK_AGAIN_SECONDS: Final = 0.005  # what was killed is usually gone by then
COMPLAINT_MAX_CHARS: Final = 500
STDERR_MAX_BYTES: Final = 4_096  # what is kept of it: the end, where the error stands
SECRET_MIN_CHARS: Final = 6  # shorter values are words that stand in any text

PRIVATE: Final = ("SESSIOND_", "PGPASS")  # our own settings, and where the database's driver looks for a password
RUN: Final = "SESSIOND_RUN"  # with the next also the mark by which we find what a program has left behind
ATTEMPT: Final = "SESSIOND_ATTEMPT"

LINUX: Final = sys.platform == "linux"
PR_SET_PDEATHSIG: Final = 1
CLOSE_RANGE: Final = 436  # the system call's number, everywhere; glibc has a name for it since 2.34
CLOSE_RANGE_CLOEXEC: Final = 4  # Linux 5.11; before, nothing happens

# Looked up now: between fork and exec is no time to load anything.
_c: Final = ctypes.CDLL(None) if LINUX else None
_LAST: Final = ctypes.c_uint(2**32 - 1)

# Threads of their own: those of the loop may all be waiting for a name server.
_lookers: Final = ThreadPoolExecutor(2, thread_name_prefix="sessiond-programs")

NO_PIPE: Final = -1  # uvloop's error when it can open no more files
_BUSY: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, NO_PIPE})
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")

T = TypeVar("T")
Family = dict[int, str]
"""Processes by number, with when each began."""


class Program:
    """A program that runs, with its standard input and output. Made by `open_program`."""

    def __init__(self, transport: asyncio.SubprocessTransport, pipes: _Pipes, env: Mapping[str, str]) -> None:
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        self.stdin: Final = pipes.stdin
        self.stdout: Final = pipes.stdout
        self.pid: Final = transport.get_pid()
        self._transport = transport
        self._pipes = pipes
        self._secrets = [value for value in env.values() if len(value) >= SECRET_MIN_CHARS]

    async def wait(self) -> int:
        """Wait until it has ended, and return its exit code: negative is the signal that killed it.

        What it said on standard error is known then.
        """
        await self._pipes.exited.wait()
        with suppress(TimeoutError):
            # A child that has it open too is gone by then.
            async with asyncio.timeout(LINGER_SECONDS + LEFT_SECONDS):
                await self._pipes.stderr_closed.wait()
        code = self._transport.get_returncode()
        return 255 if code is None else code  # None: something else in this process took it

    def complaint(self) -> str:
        """Return the end of what it said on standard error, as one line; empty when it said nothing."""
        text = _ESCAPES.sub("", self._pipes.stderr_end.decode(errors="replace"))
        text = "".join(char if char.isprintable() else " " for char in text)
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return " ".join(text.split())[-COMPLAINT_MAX_CHARS:]


@asynccontextmanager
async def open_program(
    brief: Brief, command: list[str], *, cwd: str | None, env: Mapping[str, str]
) -> AsyncIterator[Program]:
    """Start a program for a run; when the block is left, nothing of it is left either, two seconds later at most.

    It is asked first (SIGTERM), then killed, with everything that it started: its session, and whoever else has the
    run's mark in its environment. When this process is killed, the program is killed with it; what the program had
    started by then is killed before the run's next attempt on this machine.

    Raises:
        AgentError: it cannot be started.
    """
    if brief.attempt > 1:
        await _kill_left(brief.run_id, attempt=brief.attempt - 1, leader=None)
    started = list[_Started]()
    try:
        await _see_through(_start(brief, command, cwd=cwd, env=env, started=started))
        yield started[0].program
    finally:
        for each in started:
            await _see_through(_stop(each))


class _Pipes(asyncio.subprocess.SubprocessStreamProtocol):
    """Reads standard error by itself and keeps its end; says when the program has ended, whoever holds its pipes."""

    def __init__(self) -> None:
        super().__init__(limit=LINE_MAX_BYTES, loop=asyncio.get_running_loop())
        self.stderr_end = bytearray()
        self.exited: Final = asyncio.Event()
        self.stdout_closed: Final = asyncio.Event()
        self.stderr_closed: Final = asyncio.Event()
        self.closed: Final = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        if fd != 2:
            super().pipe_data_received(fd, data)
            return
        assert isinstance(data, bytes)
        self.stderr_end += data
        del self.stderr_end[:-STDERR_MAX_BYTES]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        # A program need not read its input; Python 3.11.2 would log that nobody asked how writing to it ended.
        super().pipe_connection_lost(fd, exc if fd != 0 else None)
        if fd == 1:
            self.stdout_closed.set()
        elif fd == 2:
            self.stderr_closed.set()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.closed.set()


class _Started:
    """A program, and what is needed to stop it."""

    def __init__(self, program: Program, brief: Brief, transport: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
        self.program: Final = program
        self.run_id: Final = brief.run_id
        self.attempt: Final = brief.attempt
        self.transport: Final = transport
        self.pipes: Final = pipes
        self.watch: Final = asyncio.create_task(_end_output(self))  # cancelled and awaited by `_stop`


async def _start(
    brief: Brief, command: list[str], *, cwd: str | None, env: Mapping[str, str], started: list[_Started]
) -> None:
    # Into a list and not as a result: whoever is cancelled meanwhile must still be able to stop it.
    try:
        transport, pipes = await asyncio.get_running_loop().subprocess_exec(
            _Pipes,
            *command,
            cwd=cwd,
            env=_environment(brief, env),
            start_new_session=True,
            preexec_fn=_make_ready(),
        )
    except (OSError, ValueError) as error:
        raise _say_why(error, command[0], cwd) from error
    program = Program(transport, pipes, env)
    started.append(_Started(program, brief, transport, pipes))


def _environment(brief: Brief, env: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    told = {RUN: brief.run_id, "SESSIOND_SESSION": brief.session.id, ATTEMPT: str(brief.attempt)}
    return inherited | dict(env) | told


def _make_ready() -> Callable[[], None] | None:
    """Return what a new process does before it becomes the program, None when it can do nothing here."""
    if _c is None:
        return None
    parent, prctl, syscall = os.getpid(), _c.prctl, _c.syscall

    def make_ready() -> None:
        # Killed when this process ends: strictly, when the thread of this loop does.
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before we could ask
            os._exit(1)
        # uvloop (0.23) leaves our program a second copy of its pipes: its output would not end when it closes that.
        syscall(CLOSE_RANGE, 3, _LAST, CLOSE_RANGE_CLOEXEC)

    return make_ready


def _say_why(error: OSError | ValueError, name: str, cwd: str | None) -> AgentError:
    if isinstance(error, OSError) and error.errno in _BUSY:
        reason = os.strerror(errno.EMFILE if error.errno == NO_PIPE else error.errno)
        return AgentError(UNREACHABLE, f"the program {name!r} cannot be started now: {reason}")
    if cwd is not None and not os.path.isdir(cwd):
        message = f"there is no folder {cwd!r} to start the program in"
    elif isinstance(error, FileNotFoundError | NotADirectoryError):
        message = f"there is no program {name!r} on this machine"
    elif isinstance(error, PermissionError):
        message = f"the program {name!r} may not be started: {error.strerror}"
    else:
        message = f"the program {name!r} cannot be started: {error}"
    return AgentError(NOT_CONFIGURED, message, permanent=True)


async def _end_output(started: _Started) -> None:
    """When the program has ended, end its output too, even though a child of it holds that open."""
    pipes = started.pipes
    await pipes.exited.wait()
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            await pipes.stdout_closed.wait()
            await pipes.stderr_closed.wait()
    except TimeoutError:
        await _kill_left(started.run_id, attempt=started.attempt, leader=started.program.pid)


async def _stop(started: _Started) -> None:
    """End the program and all that it started, and close its pipes."""
    pipes, pid = started.pipes, started.program.pid
    started.watch.cancel()
    await asyncio.wait([started.watch])
    below: Family = {}
    if LINUX and not pipes.exited.is_set():
        # While each still has its parent: one that cleared its environment is not found by it later.
        below = await asyncio.get_running_loop().run_in_executor(_lookers, _find_below, {pid})
    for number, seconds in ((signal.SIGTERM, TERMINATE_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        if pipes.exited.is_set():
            break
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await pipes.exited.wait()
    if below:
        await asyncio.get_running_loop().run_in_executor(_lookers, _kill_family, below)
    await _kill_left(started.run_id, attempt=started.attempt, leader=pid)
    started.transport.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await pipes.closed.wait()


async def _kill_left(run_id: str, *, attempt: int, leader: int | None) -> None:
    """Kill every process with the mark of the run, or of the session of `leader`, a program that has ended.

    Those of a later attempt than `attempt` stay: who has lost the run must not end what another worker here began.
    """
    if not LINUX:
        if leader is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        return
    loop, deadline, others, looked = asyncio.get_running_loop(), time.monotonic() + LEFT_SECONDS, set[int](), False
    while True:
        killed = await loop.run_in_executor(_lookers, _kill_marked, run_id, attempt, leader, others)
        # One look is not enough: while it went on, a process that was not reached yet may have left a child behind.
        if looked and not killed:
            return
        looked = True
        if time.monotonic() > deadline:
            log.warning("run=%s cannot be ended: pids=%s", run_id, killed)
            return
        if killed:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _kill_marked(run_id: str, attempt: int, leader: int | None, others: set[int]) -> list[int]:
    """Look through all processes but `others` once; return those killed, and add to `others` those of someone else."""
    # The leader's number names its session as long as that has members, and may be anyone's after that.
    session = None if leader is None or os.path.exists(f"/proc/{leader}") else leader
    killed = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or (pid := int(name)) in others:
            continue
        try:
            with open(f"/proc/{name}/environ", "rb", buffering=0) as file:
                environment = file.read()
            ours = _has_mark(environment, run_id, attempt) or (session is not None and os.getsid(pid) == session)
            if ours and pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            elif environment:  # without any it may be about to become another program
                others.add(pid)
        except PermissionError:
            others.add(pid)
        except OSError:
            continue  # it has ended
    return killed


def _find_below(pids: set[int]) -> Family:
    """Return the children of processes, theirs, and so on, with when each began: its number may be another's later."""
    children, begun = defaultdict[int, list[int]](list), dict[int, str]()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # the name before it may have anything in it
            children[int(fields[1])].append(int(name))
            begun[int(name)] = fields[19]
    found, next_ones = Family(), [child for pid in pids for child in children[pid]]
    while next_ones:
        found |= {pid: begun[pid] for pid in next_ones}
        next_ones = [child for pid in next_ones for child in children[pid] if child not in found]
    return found


def _kill_family(family: Family) -> None:
    """Kill what is left of processes that were found, and what they have started since; return when they have ended."""
    deadline = time.monotonic() + FAMILY_SECONDS
    while time.monotonic() < deadline:
        now = _find_below({0})  # all there are
        left = {pid for pid, begun in family.items() if now.get(pid) == begun}
        left |= set(_find_below(left) if left else ())
        killed = [pid for pid in left if _kill(pid)]
        if not killed:
            return
        time.sleep(LOOK_AGAIN_SECONDS)


def _kill(pid: int) -> bool:
    """Kill a process; return whether it may still run: one that only waits for its parent to notice does not."""
    try:
        os.kill(pid, signal.SIGKILL)
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in b"ZX"
    except OSError:
        return False  # it has ended, or is not ours


def _has_mark(environment: bytes, run_id: str, attempt: int) -> bool:
    variables = environment.split(b"\0")
    if f"{RUN}={run_id}".encode() not in variables:
        return False
    number = dict(each.partition(b"=")[::2] for each in variables).get(ATTEMPT.encode(), b"")
    return not number.isdigit() or int(number) <= attempt


async def _see_through(work: Coroutine[Any, Any, T]) -> T:
    """Await something to its end, also when cancelled meanwhile; the cancellation is raised after that."""
    task, cancelled = asyncio.create_task(work), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # seen, so that nobody is told that it never was
        raise cancelled
    return task.result()
