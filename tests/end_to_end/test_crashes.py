"""Workers killed again and again in the middle of runs: each run ends once, in its turn, and nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

from tests.conftest import make_database
from tests.end_to_end.running import (
    add_agent,
    check_log,
    count_runs,
    open_workers,
    read_log,
    wait_for_all,
)
from tests.program import Program, open_program
from tests.runners.loops import wait_until_gone

SESSIONS: Final = 30
MESSAGES: Final = 4
KILLS: Final = 7
LEASE_SECONDS: Final = 1.5
TAKE_OVER_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 80.0
ALL: Final = SESSIONS * MESSAGES


class Kill(msgspec.Struct, frozen=True):
    """Which worker was killed, and when somebody could take over what it had."""

    at: float
    worker: str | None
    """None: all there were."""
    replaced_at: float


class Deployment(msgspec.Struct, frozen=True):
    program: Program
    kill: Callable[[], Kill]
    """Kills something, and starts it again."""


@contextmanager
def serving_alone(database: str, *arguments: str) -> Iterator[Deployment]:
    """The server does the runs."""
    with open_program(database, "--lease-seconds", f"{LEASE_SECONDS}", *arguments) as program:

        def kill() -> Kill:
            program.kill()
            at = time.time()
            program.start()
            return Kill(at, None, time.time())

        yield Deployment(program, kill)


@contextmanager
def with_workers(database: str) -> Iterator[Deployment]:
    """Three workers do the runs, one of which is killed at a time."""
    with ExitStack() as stack:
        program = stack.enter_context(open_program(database, "--runs-max", "0"))
        workers = stack.enter_context(open_workers(database, 3, "--lease-seconds", f"{LEASE_SECONDS}"))

        def kill() -> Kill:
            killed = workers.running[0]  # the oldest: it has had the time to begin
            worker = killed.name
            workers.kill(killed)
            at = time.time()
            workers.start()
            return Kill(at, worker, at)

        yield Deployment(program, kill)


DEPLOYMENTS: Final = {
    "sqlite": ("sqlite", serving_alone, ()),
    "postgres with workers": ("postgres", with_workers, ()),
    "postgres with two serving": ("postgres", serving_alone, ("--workers", "2")),
}


@pytest.fixture(params=list(DEPLOYMENTS.values()), ids=list(DEPLOYMENTS))
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    engine_name, make, arguments = request.param
    with make(make_database(engine_name, tmp_path, request), *arguments) as made:
        yield made


@pytest.mark.timeout(240)
def test_killed_again_and_again_every_run_ends_once(deployment: Deployment, tmp_path: Path) -> None:
    program, pids = deployment.program, tmp_path / "pids"
    add_agents(program.database, pids)
    with program.client() as client:
        said = {f"s{number}": say(client, number) for number in range(SESSIONS)}

        kills = [kill_at_work(client, deployment.kill) for _ in range(KILLS)]
        wait_for_all(client, ALL, seconds=WAIT_SECONDS)
        logs = {session_id: read_log(client, session_id) for session_id in said}
        runs = client.get("/v1/runs", params={"limit": 1000}).json()["data"]

    for session_id, log in logs.items():
        check_log(log, said[session_id])
    assert {run["status"] for run in runs} == {"completed"}
    assert len(runs) == ALL
    assert max(run["attempts"] for run in runs) > 1, "nothing was killed in the middle of a run"
    waits = [wait for log in logs.values() for wait in take_overs(log, kills)]
    assert waits
    assert max(waits) < TAKE_OVER_SECONDS
    wait_until_gone(map(int, pids.read_text().split()))


def add_agents(database: str, pids: Path) -> None:
    # It has a child that nobody but the worker ends, if it is killed itself.
    script = f"sleep 300 & echo $$ $! >> {pids}; sleep 0.6; kill $!; exec cat"
    options = msgspec.json.encode(["sh", "-c", script]).decode()
    add_agent(database, "program", "command", "--option", f"command={options}", "--option", "protocol=text")
    add_agent(database, "speaker", "echo", "--option", "delay_ms=80")


def say(client: httpx.Client, number: int) -> list[str]:
    """Say everything at once in a session of its own; return it."""
    agent_id = ("program", "speaker")[number % 2]
    client.post("/v1/sessions", json={"id": f"s{number}", "agent_id": agent_id}).raise_for_status()
    said = [f"{turn} of session {number} is so many words" for turn in range(MESSAGES)]
    for words in said:
        client.post(f"/v1/sessions/s{number}/messages", json={"content": words}).raise_for_status()
    return said


def kill_at_work(client: httpx.Client, kill: Callable[[], Kill]) -> Kill:
    """Kill when something is under way, and something has ended since the last time."""
    deadline = time.monotonic() + WAIT_SECONDS
    before = count_runs(client, "completed")
    while not (count_runs(client, "completed") > before and count_runs(client, "running")):
        assert time.monotonic() < deadline
        assert count_runs(client, "completed") < ALL, "all is done, and there is nobody to be killed at work"
        time.sleep(0.02)
    return kill()


def take_overs(log: Sequence[Mapping[str, Any]], kills: Sequence[Kill]) -> Iterator[float]:
    """Yield how long it took, from when the lease had run out, until the run of a killed worker was started over."""
    workers = dict[str, str]()
    for event in log:
        if event["type"] != "run.started":
            continue
        lost, at = workers.get(event["run_id"]), datetime.fromisoformat(event["created_at"]).timestamp()
        workers[event["run_id"]] = event["data"]["worker"]
        if event["data"]["after_loss"]:
            causes = [kill for kill in kills if kill.at < at and kill.worker in (None, lost)]
            # On a machine that is busy enough a worker loses a lease as short as this also when it was not killed.
            if causes:
                yield at - max(causes[-1].at + LEASE_SECONDS, causes[-1].replaced_at)
