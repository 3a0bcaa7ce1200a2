"""The real program in a process of its own, that can be stopped, killed and started again on the same port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any, Final

import httpx

from tests.cli.program import PROGRAM, make_environment, run_json
from tests.postgres import free_port
from tests.serving import TLS

SECONDS: Final = 30


class Program:
    """`sessiond serve` on a database; not running yet."""

    def __init__(self, database: str, log: IO[str], *arguments: str) -> None:
        self.database: Final = database
        # Its own, not the system's choice: whoever asks for the server while it is down would be lent that one, and
        # could even meet itself there.
        self.port: Final = free_port()
        self._log = log
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._key: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        """A key of the workspace `default` that may do everything."""
        if self._key is None:
            self._key = self.make_key("--scope", "sessions:read", "--scope", "sessions:write", "--scope", "admin")[
                "key"
            ]
        return self._key

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def make_key(self, *arguments: str) -> Any:
        """Make a key on the database, whether or not the server runs."""
        return run_json("keys", "create", "--database", self.database, *arguments)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=SECONDS, verify=TLS)

    def start(self) -> None:
        """Start the server, which must not be running; it answers when this returns."""
        assert self._process is None, "already running"
        self._process = subprocess.Popen(
            [*PROGRAM, "serve", "--database", self.database, "--port", str(self.port), *self._arguments],
            env=make_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # so that its workers can be killed with it
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("listening on "):
                assert line.strip() == f"listening on {self.url}"
                return
        raise AssertionError(f"the server ended with {self._process.wait(SECONDS)}:\n{self.read_log()}")

    def stop(self) -> int:
        """Tell the server to stop, and return how it ended."""
        assert self._process is not None, "not running"
        process, self._process = self._process, None
        process.terminate()
        with process:
            return process.wait(SECONDS)

    def kill(self) -> None:
        """Kill all of the server's processes at once (`kill -9`); its port is free again when this returns."""
        assert self._process is not None, "not running"
        process, self._process = self._process, None
        os.killpg(process.pid, signal.SIGKILL)
        with process:
            process.wait(SECONDS)
        deadline = time.monotonic() + SECONDS
        while not self._port_is_free():
            assert time.monotonic() < deadline, "a killed server still listens"
            time.sleep(0.005)

    def read_log(self) -> str:
        """Return what the server wrote to standard error since its first start."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        """Kill the server if it still runs."""
        if self._process is not None:
            self.kill()

    def _port_is_free(self) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return False
        return True


@contextmanager
def open_program(database: str, *arguments: str) -> Iterator[Program]:
    """Serve a database until the block ends, whatever was stopped, killed and started in it."""
    with TemporaryFile("a+") as kept:
        program = Program(database, kept, "--log-level", "warning", *arguments)
        try:
            program.start()
            yield program
            # Whatever it was, the server says so in its log, and a test that passes has none.
            assert "a bug:" not in program.read_log(), program.read_log()
        finally:
            program.close()
