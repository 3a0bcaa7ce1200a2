"""Lines of the tables, and what every scenario needs to make them."""

from __future__ import annotations

import json
import sys
from statistics import median
from typing import Final

import msgspec

from bench.load import make_request, run_load
from bench.process import Floor, Sessiond

TEXT: Final = "x" * 200
# Of an agent that nobody has registered: messages are kept, and nobody answers them.
SESSION: Final = json.dumps({"agent_id": "assistant", "user_id": "u-1", "name": "bench"}).encode()


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
            print(line(row), file=sys.stderr, flush=True)
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
        self.server.settle()

    def make_log(self, messages: int) -> str:
        """Return the id of a new session that has so many messages."""
        session_id = str(self.server.call("POST", "/v1/sessions", {"name": "log"})["id"])
        for start in range(0, messages, 1000):
            batch = [{"content": TEXT}] * min(1000, messages - start)
            self.server.call("POST", f"/v1/sessions/{session_id}/messages", {"messages": batch})
        return session_id


def print_flat(what: str, few: float, many: float, at_most: float) -> None:
    print(f"| {what} | {few:.1f} | {many:.1f} | {many / few:.2f} | {at_most} |")


def line(row: Row) -> str:
    budget = f"{row.budget:g}" if row.budget is not None else ""
    return f"| {row.engine} | {row.request} | {row.cpu_us:.0f} | {row.ratio:.1f} | {budget} | {row.per_second:,.0f} |"
