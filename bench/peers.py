"""What an append costs, and the last 50 messages, beside others that keep sessions: CPU of their whole processes.

Every side keeps its sessions in an SQLite file, and every append that was answered has been flushed to disk. They are
asked in turns, so that what slows the machine down slows all alike; a number is the median of its rounds, and a ratio
the median of the ratios within a round.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

import msgspec

from bench.process import Process, Sessiond
from bench.sides import APP, FILLED, TEXT, copy_events

WRITERS: Final = 16
APPENDS: Final = 1_600  # a round
READS: Final = 320
SLOW_APPENDS: Final = 80  # a round, of what takes milliseconds
SLOW_READS: Final = 48
HTTP_SHARE: Final = 4  # over HTTP a client costs ten times as much: a quarter of a round will do
FEW: Final = 10
MANY: Final = 10_000
ALONE: Final = 60  # a round, one after the other
OURS: Final = "sessiond, embedded (tasks)"
HTTP: Final = "sessiond over HTTP"


class Cost(msgspec.Struct, frozen=True):
    """Of one append, or of one read."""

    cpu_us: float
    """Of the process that asks."""
    server_us: float
    """Of the server's, where there is one."""
    per_second: float

    @property
    def all_us(self) -> float:
        return self.cpu_us + self.server_us


class Child:
    """A side in a process of its own; see `bench.sides`."""

    def __init__(
        self, name: str, side: str, database: str, *, slow: bool = False, server: Process | None = None
    ) -> None:
        self.name = name
        self.slow = slow
        self._side = side
        self._database = database
        self._server = server
        self.durability = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.sides", self._side, self._database, str(WRITERS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.durability = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, kind: str, count: int, of: int | None = None) -> Cost | None:
        if of is not None and self._side == "threads":
            return None
        assert self._process.stdin is not None
        server = self._server.cpu_seconds() if self._server is not None else 0.0
        self._process.stdin.write(f"{kind} {count} {'' if of is None else of}\n")
        self._process.stdin.flush()
        found = self._read()
        served = (self._server.cpu_seconds() - server) / count * 1e6 if self._server is not None else 0.0
        return Cost(found["cpu_us"], served, found["per_second"])

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended")
        return json.loads(line)


class AdkServer(Process):
    """ADK's own server. It appends what changes a session's state, and shows a session with all of its events.

    It is asked by one client: of appends by 16 it answers some with a status of 500.
    """

    name: Final = "ADK api_server (one client)"
    slow: Final = True

    def __init__(self, folder: Path) -> None:
        agents = folder / "agents" / APP["app_name"]
        agents.mkdir(parents=True)
        (agents / "__init__.py").write_text("")
        (agents / "agent.py").write_text("from google.adk.agents import Agent\n\nroot_agent = Agent(name='bench')\n")
        with socket.create_server(("127.0.0.1", 0)) as held:
            self._free_port: int = held.getsockname()[1]
        self._file = folder / "adk-server.db"
        uri = f"sqlite+aiosqlite:///{self._file}"
        command = ("-m", "google.adk.cli", "api_server", "--port", str(self._free_port), "--session_service_uri", uri)
        super().__init__(*command, "--log_level", "error", str(agents.parent))
        self.durability = "as the embedded one"
        self._sessions: list[str] = []
        self._alone: dict[int, str] = {}
        self._connection: HTTPConnection | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        self._sessions = [self._make(FILLED) for _ in range(WRITERS)]
        return self

    def _wait_for_port(self, output: Any) -> int:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._free_port), timeout=1).close()
                return self._free_port
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("ADK's server did not start")

    def ask(self, kind: str, count: int, of: int | None = None) -> Cost | None:
        self._hang_up()  # it closes what is idle for five seconds
        if of is not None and of not in self._alone:
            self._alone[of] = self._make(of)
            self._hang_up()
        asked = self._sessions if of is None else [self._alone[of]]
        cpu, started = self.cpu_seconds(), time.perf_counter()
        for number in range(count):
            self._request(kind, asked[number % len(asked)])
        seconds = time.perf_counter() - started
        return Cost(0.0, (self.cpu_seconds() - cpu) / count * 1e6, count / seconds)

    def _make(self, messages: int) -> str:
        session_id = f"s{len(self._sessions)}-{messages}-{time.time_ns()}"
        self._send("POST", self._path(), {"session_id": session_id})
        self._request("append", session_id)
        copy_events(self._file, session_id, messages)
        return session_id

    def _request(self, kind: str, session_id: str) -> None:
        path = f"{self._path()}/{session_id}"
        if kind == "last":
            self._send("GET", path)
        else:
            self._send("PATCH", path, {"state_delta": {"said": TEXT}})

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        if self._connection is None:
            self._connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        said = json.dumps(body) if body is not None else None
        self._connection.request(method, path, said, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        response.read()
        if response.status >= 400:
            raise RuntimeError(f"ADK's server answered {response.status}")

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _path(self) -> str:
        return f"/apps/{APP['app_name']}/users/{APP['user_id']}/sessions"


def run(*, rounds: int, adk_server: bool = True) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory(prefix="sessiond-peers-") as folder, open_sides(Path(folder), adk_server) as sides:
        print("\nHow each side's database commits:\n")
        for side in sides:
            print(f"- {side.name}: {side.durability}")
        for kind, what in (("append", f"append a message, {WRITERS} writers"), ("last", f"last 50, {WRITERS} readers")):
            print_table(what, sides, measure(sides, kind, rounds))
        print_flatness(sides, max(3, rounds // 2))


@contextmanager
def open_sides(folder: Path, adk_server: bool) -> Iterator[Sequence[Child | AdkServer]]:
    with ExitStack() as stack:
        server = stack.enter_context(Sessiond(f"sqlite:///{folder / 'served.db'}", "sqlite"))
        sides: list[Child | AdkServer] = [
            Child(OURS, "embedded", f"{folder}/tasks.db"),
            Child("sessiond, embedded (threads)", "threads", f"{folder}/threads.db"),
            Child(HTTP, "http", f"{server.port}-{server.key}", server=server),
            Child("OpenAI Agents SDK, SQLiteSession", "openai", f"{folder}/openai.db"),
            Child("ADK DatabaseSessionService", "adk", f"{folder}/adk.db", slow=True),
        ]
        if adk_server:
            sides.append(AdkServer(folder))
        for side in sides:
            stack.enter_context(side)
        sides[2].durability = sides[0].durability  # the same engine
        yield sides


def measure(sides: Sequence[Child | AdkServer], kind: str, rounds: int) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {side.name: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides:
            fast, slow = (APPENDS, SLOW_APPENDS) if kind == "append" else (READS, SLOW_READS)
            if side.name == HTTP:
                fast //= HTTP_SHARE
            cost = side.ask(kind, slow if side.slow else fast)
            if number and cost is not None:  # the first is for getting warm
                costs[side.name].append(cost)
    return costs


def print_table(what: str, sides: Sequence[Child | AdkServer], costs: dict[str, list[Cost]]) -> None:
    print(f"\n| {what} | CPU µs | of it the server's | × ours | a second |\n| --- | --- | --- | --- | --- |")
    for side in sides:
        found = costs[side.name]
        ratio = median(cost.all_us / ours.all_us for cost, ours in zip(found, costs[OURS], strict=True))
        served = median(cost.server_us for cost in found)
        print(
            f"| {side.name} | {median(cost.all_us for cost in found):,.0f} | {f'{served:,.0f}' if served else ''}"
            f" | {ratio:.1f} | {median(cost.per_second for cost in found):,.0f} |",
            flush=True,
        )


def print_flatness(sides: Sequence[Child | AdkServer], rounds: int) -> None:
    print(f"\nOne writer; CPU µs in a session of {FEW} messages and of {MANY:,}:\n")
    print(f"| | append to {FEW} | to {MANY:,} | × | last 50 of {FEW} | of {MANY:,} | × |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for side in sides:
        cells = []
        for kind in ("append", "last"):
            found: dict[int, list[float]] = {FEW: [], MANY: []}
            slowest = isinstance(side, AdkServer)  # it reads all of the session each time
            for number in range(2 if slowest else rounds + 1):
                for of in (FEW, MANY):
                    cost = side.ask(kind, 2 if slowest else ALONE // 3 if side.slow else ALONE, of)
                    if number and cost is not None:
                        found[of].append(cost.all_us)
            if not found[FEW]:
                break
            few, many = median(found[FEW]), median(found[MANY])
            cells += [f"{few:,.0f}", f"{many:,.0f}", f"{many / few:.1f}"]
        if cells:
            print(f"| {side.name} | {' | '.join(cells)} |", flush=True)
