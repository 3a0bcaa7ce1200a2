"""What runs of agents cost: how soon one starts, how many the server does, and whether that stays flat."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Final

from bench.load import run_load
from bench.rows import Bench, Row, line, print_flat

STARTS: Final = 100
START_BUDGET_MS: Final = 50.0
RUNS: Final = 2_000
WAIT_SECONDS: Final = 60.0
FEW_SESSIONS: Final = 100
MANY_SESSIONS: Final = 20_000
FEW_MESSAGES: Final = 10
MANY_MESSAGES: Final = 5_000
LOGS: Final = 16
SAID: Final = json.dumps({"content": "What is in a session? " * 4}).encode()
AGENT: Final = "forgetful"
"""It is told as much in a short session as in a long one."""


def run(bench: Bench) -> None:
    """Measure runs of an agent that echoes, on a server that has nothing else to do."""
    bench.server.add_agent(AGENT, "--runner", "echo", "--history", f"{FEW_MESSAGES}")
    sessions = make_sessions(bench, FEW_SESSIONS)
    warm_up(bench, sessions)
    latencies_ms = sorted(start_ms(bench, session_id) for session_id in sessions[:STARTS])
    few = measure(bench, f"a run, {FEW_SESSIONS} sessions", sessions)

    short = [make_log(bench, FEW_MESSAGES) for _ in range(LOGS)]
    long = [make_log(bench, MANY_MESSAGES) for _ in range(LOGS)]
    few_said = measure(bench, f"a run, behind {FEW_MESSAGES} messages", short)
    many_said = measure(bench, f"a run, behind {MANY_MESSAGES:,} messages", long)

    bench.fill(MANY_SESSIONS)
    many = measure(bench, f"a run, {MANY_SESSIONS:,} sessions", sessions)

    engine = bench.server.engine
    p50, p95 = median(latencies_ms), quantiles(latencies_ms, n=20)[-1]
    print(f"\n{engine}: from a message's answer to a follower's `run.started`, when idle:")
    print(f"median {p50:.1f} ms, 95th {p95:.1f} ms, at most {START_BUDGET_MS:g} ms\n")
    print("| what | few | many | many ÷ few | at most |\n| --- | --- | --- | --- | --- |")
    print_flat(f"a run, of {FEW_SESSIONS} and of {MANY_SESSIONS:,} sessions", few.ratio, many.ratio, 1.2)
    print_flat(
        f"a run, behind {FEW_MESSAGES} and behind {MANY_MESSAGES:,} messages", few_said.ratio, many_said.ratio, 1.2
    )
    print()


def make_sessions(bench: Bench, n: int) -> list[str]:
    return [str(bench.server.call("POST", "/v1/sessions", {"agent_id": AGENT})["id"]) for _ in range(n)]


def make_log(bench: Bench, messages: int) -> str:
    """Return the id of a session with so many messages, to which nobody has answered."""
    (session_id,) = make_sessions(bench, 1)
    for start in range(0, messages, 1000):
        said = [{"role": "assistant", "content": "x" * 200}] * min(1000, messages - start)
        bench.server.call("POST", f"/v1/sessions/{session_id}/messages", {"messages": said})
    return session_id


def warm_up(bench: Bench, sessions: Sequence[str]) -> None:
    send(bench, sessions)
    wait_until_done(bench)
    bench.server.settle()


def measure(bench: Bench, request: str, sessions: Sequence[str]) -> Row:
    """Send messages to `sessions` in turn, and note what the server spends on each until its answer is in the log."""
    share = RUNS // bench.rounds
    costs, ratios, rates = list[float](), list[float](), list[float]()
    before = bench.floor.cost(bench.connections)
    for _ in range(bench.rounds):
        began, cpu = time.perf_counter(), bench.server.cpu_seconds()
        send(bench, [sessions[number % len(sessions)] for number in range(share)])
        wait_until_done(bench)
        seconds = time.perf_counter() - began
        cost = (bench.server.cpu_seconds() - cpu) / share
        after = bench.floor.cost(bench.connections)
        costs.append(cost)
        ratios.append(cost / ((before + after) / 2))
        rates.append(share / seconds)
        before = after
    row = Row(
        engine=bench.server.engine,
        request=request,
        cpu_us=median(costs) * 1e6,
        ratio=median(ratios),
        budget=None,
        per_second=median(rates),
    )
    print(line(row), file=sys.stderr, flush=True)
    bench.rows.append(row)
    return row


def send(bench: Bench, sessions: Sequence[str]) -> None:
    asked = [bench.ask("POST", f"/v1/sessions/{session_id}/messages", SAID) for session_id in sessions]
    run_load(bench.server.port, asked, connections=bench.connections, expected=201)


def wait_until_done(bench: Bench) -> None:
    """Wait until every run has ended."""
    asked, deadline = "/v1/runs?limit=1&status=queued&status=running", time.monotonic() + WAIT_SECONDS
    while left := bench.server.call("GET", asked)["data"]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"there are runs that do not end: {left}")
        time.sleep(0.02)


def start_ms(bench: Bench, session_id: str) -> float:
    """Return how long after a message's answer a follower sees its run start."""
    server = bench.server
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
        stream.sendall(bench.ask("GET", f"/v1/sessions/{session_id}/stream"))
        heard = read_until(stream, b": keep-alive")
        server.call("POST", f"/v1/sessions/{session_id}/messages", json.loads(SAID))
        answered = time.perf_counter()
        heard = read_until(stream, b"event: run.started\n", heard)
        seen_ms = (time.perf_counter() - answered) * 1000
        read_until(stream, b"event: run.completed\n", heard)
    return seen_ms


def read_until(stream: socket.socket, wanted: bytes, heard: bytes = b"") -> bytes:
    while wanted not in heard:
        more = stream.recv(65536)
        assert more, "the stream has ended"
        heard += more
    return heard[heard.index(wanted) + len(wanted) :]
