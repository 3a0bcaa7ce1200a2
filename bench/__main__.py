"""What we claim about speed, measured: CPU of the whole server process per request, as a ratio to the floor.

The floor is the same HTTP server answering a constant 200-byte JSON through Starlette. It is measured again before
and after every row, since these machines are shared and slow down and speed up; a row is the median of its rounds.

    python -m bench [--engine sqlite|postgres] [--connections 64] [--rounds 5] [--sessions 100000] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench.load import make_request, run_load
from bench.process import Floor, Sessiond
from tests.postgres import open_postgres

TEXT: Final = "x" * 200
SESSION: Final = json.dumps({"agent_id": "echo", "user_id": "u-1", "name": "bench"}).encode()
MESSAGE: Final = json.dumps({"role": "user", "content": TEXT}).encode()
FEW_SESSIONS: Final = 1_000
FEW_MESSAGES: Final = 10
MANY_MESSAGES: Final = 10_000


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    engine: str
    request: str
    cpu_us: float
    ratio: float
    budget: float | None
    per_second: float


class Bench:
    """One engine under measurement."""

    def __init__(self, server: Sessiond, floor: Floor, *, connections: int, rounds: int) -> None:
        self.server = server
        self.floor = floor
        self.connections = connections
        self.rounds = rounds
        self.rows: list[Row] = []

    def measure(self, request: str, requests: list[bytes], *, expected: int = 200, budget: float | None = None) -> Row:
        """Send `requests` in rounds, the floor in between, and note the median."""
        return self.compare([(request, requests)], expected=expected, budget=budget)[0]

    def compare(
        self, kinds: list[tuple[str, list[bytes]]], *, expected: int = 200, budget: float | None = None
    ) -> list[Row]:
        """Measure several kinds of request in turns, so that a machine that slows down slows them all alike."""
        costs: list[list[float]] = [[] for _ in kinds]
        ratios: list[list[float]] = [[] for _ in kinds]
        rates: list[list[float]] = [[] for _ in kinds]
        before = self.floor.cost(self.connections)
        for number in range(self.rounds):
            for which, (_, requests) in enumerate(kinds):
                share = len(requests) // self.rounds
                part = requests[number * share : (number + 1) * share]
                cpu = self.server.cpu_seconds()
                load = run_load(self.server.port, part, connections=self.connections, expected=expected)
                cost = (self.server.cpu_seconds() - cpu) / len(part)
                after = self.floor.cost(self.connections)
                costs[which].append(cost)
                ratios[which].append(cost / ((before + after) / 2))
                rates[which].append(load.requests / load.seconds)
                before = after
        rows = [
            Row(
                engine=self.server.engine,
                request=request,
                cpu_us=median(costs[which]) * 1e6,
                ratio=median(ratios[which]),
                budget=budget,
                per_second=median(rates[which]),
            )
            for which, (request, _) in enumerate(kinds)
        ]
        for row in rows:
            print(_line(row), file=sys.stderr, flush=True)
        self.rows += rows
        return rows

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        return make_request(method, path, key=self.server.key, body=body)

    def fill(self, sessions: int) -> None:
        """Create sessions until there are so many."""
        missing = sessions - self.server.count_sessions()
        if missing > 0:
            run_load(
                self.server.port, [self.ask("POST", "/v1/sessions", SESSION)] * missing, connections=64, expected=201
            )

    def make_log(self, messages: int) -> str:
        """Return the id of a new session that has so many messages."""
        session_id = str(self.server.call("POST", "/v1/sessions", {"name": "log"})["id"])
        for start in range(0, messages, 1000):
            batch = [{"content": TEXT}] * min(1000, messages - start)
            self.server.call("POST", f"/v1/sessions/{session_id}/messages", {"messages": batch})
        return session_id


def run(bench: Bench, *, many_sessions: int) -> None:
    """Measure everything that DESIGN.md's budgets and flatness rows name."""
    measure, ask = bench.measure, bench.ask
    bench.fill(FEW_SESSIONS)
    ids = bench.server.session_ids(FEW_SESSIONS)
    few_memory = bench.server.memory_mib()
    measure("list 20, with total", [ask("GET", "/v1/sessions?limit=20&include=total")] * 1500)
    few_list = bench.rows[-1]

    for session_id in ids:
        bench.server.call("POST", f"/v1/sessions/{session_id}/messages", {"content": "first"})
    get = [ask("GET", f"/v1/sessions/{random.choice(ids)}") for _ in range(15_000)]
    measure("get a session", get, budget=2)
    append = [ask("POST", f"/v1/sessions/{random.choice(ids)}/messages", MESSAGE) for _ in range(9_000)]
    measure("append a message", append, expected=201, budget=4)
    measure("create a session", [ask("POST", "/v1/sessions", SESSION)] * 6_000, expected=201, budget=5)

    short, long = bench.make_log(FEW_MESSAGES), bench.make_log(MANY_MESSAGES)
    fifty = bench.make_log(60)
    last_50 = "?order=desc&limit=50"
    few_last, many_last = bench.compare(
        [
            ("last 50 messages", [ask("GET", f"/v1/sessions/{fifty}/messages{last_50}")] * 2_000),
            ("last 50 of 10,000", [ask("GET", f"/v1/sessions/{long}/messages{last_50}")] * 2_000),
        ],
        budget=6,
    )
    few_append, many_append = bench.compare(
        [
            ("append to 10", [ask("POST", f"/v1/sessions/{short}/messages", MESSAGE)] * 5_000),
            ("append to 10,000", [ask("POST", f"/v1/sessions/{long}/messages", MESSAGE)] * 5_000),
        ],
        expected=201,
        budget=4,
    )

    bench.fill(many_sessions)
    measure(f"list 20 of {many_sessions:,}", [ask("GET", "/v1/sessions?limit=20&include=total")] * 1500, budget=10)
    many_list = bench.rows[-1]
    many_memory = bench.server.memory_mib()

    engine = bench.server.engine
    print(f"\n{engine}: does it stay flat?\n")
    print("| what | few | many | many ÷ few | at most |\n| --- | --- | --- | --- | --- |")
    _print_flat("append, session of 10 and of 10,000 messages", few_append.ratio, many_append.ratio, 1.2)
    _print_flat("last 50, session of 60 and of 10,000 messages", few_last.ratio, many_last.ratio, 1.2)
    _print_flat(f"list 20, of 1,000 and of {many_sessions:,} sessions", few_list.ratio, many_list.ratio, 1.5)
    _print_flat(f"memory (MiB), 1,000 and {many_sessions:,} sessions", few_memory, many_memory, 1.3)
    print()


def _print_flat(what: str, few: float, many: float, at_most: float) -> None:
    print(f"| {what} | {few:.1f} | {many:.1f} | {many / few:.2f} | {at_most} |")


def _line(row: Row) -> str:
    budget = f"{row.budget:g}" if row.budget is not None else ""
    return f"| {row.engine} | {row.request} | {row.cpu_us:.0f} | {row.ratio:.1f} | {budget} | {row.per_second:,.0f} |"


@contextmanager
def open_database(engine: str) -> Iterator[str]:
    """Yield the URL of an empty database of that engine, and remove it afterwards."""
    if engine == "sqlite":
        with tempfile.TemporaryDirectory(prefix="sessiond-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'sessiond.db'}"
    else:
        with open_postgres() as server:
            server.create_database("bench")
            yield server.url("bench")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", choices=("sqlite", "postgres"), action="append", help="default: both")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=100_000, help="how many are many")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON at the end")
    options = parser.parse_args()
    rows: list[Row] = []
    with Floor() as floor:
        for engine in options.engine or ["sqlite", "postgres"]:
            with open_database(engine) as database, Sessiond(database, engine) as server:
                bench = Bench(server, floor, connections=options.connections, rounds=options.rounds)
                run(bench, many_sessions=options.sessions)
                rows += bench.rows
    print(f"CPU of the server per request, {options.connections} connections; the floor is 1.0\n")
    print("| engine | request | CPU µs | × floor | budget | requests/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(_line(row))
    if options.json:
        print(msgspec.json.encode(rows).decode())


if __name__ == "__main__":
    main()
