"""Commands of the program, each forked from a process that has imported the program once.

A start takes 0.3 s of a processor, most of it for imports; a fork makes that a third. What a command reads, prints and
ends with is its own: it is a process with arguments, an environment, a folder and files, and ends as an interpreter
does. Servers and workers that tests start are started from scratch.

Run as a program, this file is the process that is forked from. It reads what to run from the socket that is its
standard input, and ends when nobody holds the other end.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

MESSAGE_MAX_BYTES: Final = 200_000  # more than a socket takes in one piece by default
STDIO: Final = 3
# Of what the commands import when they are called; what is missing here is imported by each.
USED: Final = (
    "asyncpg",
    "httpx",
    "sessiond.assembly",
    "sessiond.server",
    "sessiond.storage.postgres",
    "typer._adapters",
)


def run_forked(
    *arguments: str, environment: Mapping[str, str], folder: Path | None, said: str, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `said` is what it may read.

    Raises:
        TimeoutExpired: it took longer, and was killed.
    """
    wanted = {"arguments": arguments, "environment": dict(environment), "folder": str(folder or Path.cwd())}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, TemporaryFile("w+") as printed, TemporaryFile("w+") as errors, TemporaryFile("w+") as read:
        read.write(said)
        read.seek(0)
        with theirs:
            files = [read.fileno(), printed.fileno(), errors.fileno(), theirs.fileno()]
            socket.send_fds(_parent(), [json.dumps(wanted).encode()], files)
        ours.settimeout(seconds)
        process_id = int(ours.recv(100))
        try:
            status = int(ours.recv(100))
        except TimeoutError:
            os.kill(process_id, signal.SIGKILL)
            raise subprocess.TimeoutExpired(arguments, seconds) from None
        printed.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, status, printed.read(), errors.read())


@cache
def _parent() -> socket.socket:
    """Start the process that is forked from; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # In a session of its own: Ctrl-C is for the tests, and with them it ends.
        process = subprocess.Popen([sys.executable, "-P", __file__], stdin=theirs.fileno(), start_new_session=True)

    def end() -> None:
        ours.close()
        process.wait(10)

    atexit.register(end)
    return ours


def _serve(wanted: socket.socket) -> None:
    """Fork for each command, until nobody is there to ask for one."""
    while True:
        message, files, _flags, _address = socket.recv_fds(wanted, MESSAGE_MAX_BYTES, STDIO + 1)
        if not message:
            return
        # Who waits for the command is forked too, so that several may run at once.
        if os.fork() == 0:
            _mind(json.loads(message), files)
        for file in files:
            os.close(file)


def _mind(wanted: Mapping[str, object], files: list[int]) -> None:
    """Fork the command, say who it is, wait for it, and say how it ended; in the command this returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process_id = os.fork()
    if process_id == 0:
        _become(wanted, files)
    with socket.socket(fileno=files[STDIO]) as asked:
        asked.send(str(process_id).encode())
        _, status = os.waitpid(process_id, 0)
        asked.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(wanted: Mapping[str, object], files: list[int]) -> None:
    for number in range(STDIO):
        os.dup2(files[number], number)
    for file in files:
        os.close(file)
    match wanted:
        case {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["sessiond", *arguments]
    runpy.run_module("sessiond", run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    for name in ("sessiond.cli", *USED):
        import_module(name)
    gc.freeze()  # else each command's collector looks at all that was imported, and the system copies it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how those that mind a command have ended
    _serve(socket.socket(fileno=os.dup(0)))
