"""Workers as people run them, to be killed and started again, and what a session's log must say whatever happened."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from tempfile import TemporaryFile
from typing import IO, Any, Final

import httpx

from tests.cli.program import PROGRAM, make_environment, run_json

ENDS: Final = frozenset({"run.completed", "run.failed", "run.cancelled"})
SAID: Final = frozenset({"run.text", "run.thought", "run.tool_call", "run.tool_result", "run.waiting"})


class WorkerProcess:
    """`sessiond worker`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process: Final = process

    @cached_property
    def name(self) -> str:
        """What it is called in the log, as soon as it looks for work."""
        assert self.process.stdout is not None
        name = self.process.stdout.readline().removeprefix("working as ").partition(",")[0]
        assert name, "it ended at its start"
        return name

    def kill(self) -> None:
        with self.process:
            self.process.send_signal(signal.SIGKILL)


class WorkerProcesses:
    """Some on one database."""

    def __init__(self, database: str, log: IO[str], *arguments: str) -> None:
        self._command = [*PROGRAM, "worker", "--database", database, "--log-level", "warning", *arguments]
        self._log = log
        self.running: Final[list[WorkerProcess]] = []

    def start(self) -> WorkerProcess:
        process = subprocess.Popen(
            self._command,
            env=make_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        worker = WorkerProcess(process)
        self.running.append(worker)
        return worker

    def kill(self, worker: WorkerProcess) -> None:
        self.running.remove(worker)
        worker.kill()


@contextmanager
def open_workers(database: str, n: int, *arguments: str) -> Iterator[WorkerProcesses]:
    """Have workers at work until the block ends, whichever were killed and started in it."""
    with TemporaryFile("a+") as log:
        workers = WorkerProcesses(database, log, *arguments)
        try:
            for _ in range(n):
                workers.start()
            yield workers
        finally:
            for worker in [*workers.running]:
                workers.kill(worker)
            log.seek(0)
            written = log.read()
        sys.stderr.write(written)
        assert "Traceback" not in written


def add_agent(database: str, agent_id: str, runner: str, *arguments: str) -> None:
    run_json("agents", "add", agent_id, "--runner", runner, "--database", database, *arguments)


def wait_for_all(client: httpx.Client, n: int, *, seconds: float) -> None:
    """Wait until so many runs have ended."""
    deadline = time.monotonic() + seconds
    while (ended := count_runs(client, "completed", "failed", "cancelled")) < n:
        assert time.monotonic() < deadline, f"{ended} of {n} runs have ended after {seconds} s"
        time.sleep(0.1)


def count_runs(client: httpx.Client, *statuses: str) -> int:
    asked: list[tuple[str, str | int | float | bool | None]] = [
        ("limit", "1"),
        ("include", "total"),
        *(("status", status) for status in statuses),
    ]
    total: int = client.get("/v1/runs", params=asked).raise_for_status().json()["total"]
    return total


def read_log(client: httpx.Client, session_id: str) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = []
    while (
        page := client.get(f"/v1/sessions/{session_id}/events", params={"after": len(log), "limit": 1000})
        .raise_for_status()
        .json()["data"]
    ):
        log += page
    return log


def check_log(log: Sequence[dict[str, Any]], said: Sequence[str]) -> None:
    """Check that everything `said` in a session, and nothing else, was answered with itself: once, and in order.

    At no time did two runs speak, and what each said in its last attempt is its answer.
    """
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1)), "a log has no gaps"
    queue = [event["run_id"] for event in log if event["type"] == "run.queued"]
    assert len(queue) == len(set(queue)) == len(said)
    ends = [event["run_id"] for event in log if event["type"] in ENDS]
    assert ends == queue, "each run ends once, in the order of their messages"

    turn, speaking, spoken = iter(queue), None, ""
    answers = dict[str, str]()
    for event in log:
        run_id, type = event["run_id"], event["type"]
        if type == "run.started":
            expected = speaking if speaking is not None else next(turn)
            assert run_id == expected, "one run at a time, and each when its turn has come"
            speaking, spoken = run_id, ""
        elif type in SAID:
            assert run_id == speaking, "nobody speaks while another does"
            if type == "run.text":
                assert event["data"]["offset"] == len(spoken), "a piece is missing, or there twice"
                spoken += event["data"]["text"]
        elif type == "message.assistant":
            assert run_id == speaking
            assert run_id not in answers, "a run answers once"
            answers[run_id] = event["data"]["content"]
            assert answers[run_id] == spoken
        elif type in ENDS:
            assert type == "run.completed", event
            assert run_id == speaking
            speaking = None
    assert [answers[run_id] for run_id in queue] == list(said)
