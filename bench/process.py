"""The servers under measurement, each a process whose CPU time the kernel counts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, Self

import asyncpg

from bench.load import make_request, run_load
from sessiond.crypto import MASTER_KEY_VARIABLE, make_master_key

FLOOR_REQUESTS: Final = 6_000


class Process:
    """A program that prints a line with its port when it is ready, and is stopped by its process id."""

    port: int

    def __init__(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, *self._command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environment,
        )
        assert self._process.stdout is not None
        self.port = self._wait_for_port(self._process.stdout)
        # Whatever else it says is read and forgotten: a program that cannot print stands still.
        threading.Thread(target=self._process.stdout.read, name="reading", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the time that the process's threads have run, user and system, to the nanosecond.

        `stat` counts in ticks of 10 ms, a tenth of what a short round takes.
        """
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def memory_mib(self) -> float:
        """Return the process's resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _wait_for_port(self, output: IO[str]) -> int:
        for line in output:
            if line.strip().isdigit():
                return int(line)
            if line.startswith("listening on "):
                return int(line.rsplit(":", 1)[1])
        raise RuntimeError(f"{' '.join(self._command)} ended before it was ready")


class Floor(Process):
    """The least that a request can cost."""

    def __init__(self) -> None:
        super().__init__("-m", "bench.floor")

    def cost(self, connections: int) -> float:
        """Return the CPU seconds of one request, as this machine is just now."""
        request = make_request("GET", "/", key="none")
        before = self.cpu_seconds()
        run_load(self.port, [request] * FLOOR_REQUESTS, connections=connections)
        return (self.cpu_seconds() - before) / FLOOR_REQUESTS


class Sessiond(Process):
    """A server on a database of its own, with a key for it."""

    def __init__(self, database: str, engine: str) -> None:
        self.master_key = make_master_key()
        environment = {MASTER_KEY_VARIABLE: self.master_key}
        super().__init__("-m", "sessiond", "serve", "--port", "0", "--database", database, environment=environment)
        self.database = database
        self.engine = engine
        self.key = ""

    def __enter__(self) -> Self:
        super().__enter__()
        self.key = json.loads(self.command("keys", "create", "--json"))["key"]
        return self

    def command(self, *arguments: str) -> str:
        """Run one of the operator's commands on the server's database, and return what it prints."""
        return subprocess.check_output(
            [sys.executable, "-m", "sessiond", *arguments, "--database", self.database],
            text=True,
            env=self._environment,
        )

    def call(
        self, method: str, path: str, body: object = None, *, key: str | None = None, storage_key: str | None = None
    ) -> dict[str, Any]:
        """Ask the server and return its answer."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        if storage_key is not None:
            headers["Storage-Key"] = storage_key
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers=headers,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            decoded: dict[str, Any] = json.load(answer)
            return decoded

    def settle(self) -> None:
        """Have PostgreSQL look at what is in its tables, as it does by itself within a minute.

        Until then it plans for empty ones: it finds a session by reading all of its workspace's.
        """

        async def analyze() -> None:
            connection = await asyncpg.connect(self.database)
            try:
                await connection.execute("analyze")
            finally:
                await connection.close()

        if self.engine == "postgres":
            asyncio.run(analyze())

    def add_agent(self, agent_id: str, *arguments: str) -> None:
        self.command("agents", "add", agent_id, *arguments)

    def count_sessions(self) -> int:
        total: int = self.call("GET", "/v1/sessions?limit=1&include=total")["total"]
        return total

    def session_ids(self, limit: int) -> list[str]:
        return [session["id"] for session in self.call("GET", f"/v1/sessions?limit={limit}")["data"]]
