"""Many sessions on three workers: each session has one run at a time, in the order of its messages.

`MANY_SESSIONS=1000 pytest -s tests/end_to_end/test_many_sessions.py` does it with a thousand, and says how fast.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from tests.conftest import make_database
from tests.end_to_end.running import add_agent, check_log, open_workers, read_log, wait_for_all
from tests.program import open_program

SESSIONS: Final = int(os.environ.get("MANY_SESSIONS", "60"))
MESSAGES: Final = 5
WORKERS: Final = 3
RUNS_MAX: Final = 20


@pytest.mark.timeout(120 + SESSIONS)
def test_a_session_has_one_run_at_a_time_and_in_order(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    database = make_database("postgres", tmp_path, request)
    said = {f"s{number}": [f"{turn} of {number}" for turn in range(MESSAGES)] for number in range(SESSIONS)}
    with open_program(database, "--runs-max", "0") as program, program.client() as client:
        add_agent(database, "program", "command", *_records(tmp_path))
        for session_id in said:
            client.post("/v1/sessions", json={"id": session_id, "agent_id": "program"}).raise_for_status()

        began = time.monotonic()
        with open_workers(database, WORKERS, "--runs-max", f"{RUNS_MAX}"):
            for turn in range(MESSAGES):
                for session_id, words in said.items():
                    client.post(f"/v1/sessions/{session_id}/messages", json={"content": words[turn]}).raise_for_status()
            wait_for_all(client, SESSIONS * MESSAGES, seconds=60 + SESSIONS)
        seconds = time.monotonic() - began
        logs = {session_id: read_log(client, session_id) for session_id in said}

    workers = set[str]()
    for session_id, log in logs.items():
        check_log(log, said[session_id])
        queue = [event["run_id"] for event in log if event["type"] == "run.queued"]
        lines = (tmp_path / session_id).read_text().splitlines()
        assert lines == [f"{word} {run_id}" for run_id in queue for word in ("begin", "end")]
        workers |= {event["data"]["worker"] for event in log if event["type"] == "run.started"}
    assert len(workers) == WORKERS
    runs = SESSIONS * MESSAGES
    sys.stdout.write(f"{runs} runs in {SESSIONS} sessions took {seconds:.1f} s: {runs / seconds:.0f} a second\n")


def _records(folder: Path) -> list[str]:
    """Return an agent that says what it was told, and writes to its session's file when it begins and ends."""
    file = f'"{folder}/$SESSIOND_SESSION"'
    script = f'echo "begin $SESSIOND_RUN" >> {file}; read -r said; echo "$said"; echo "end $SESSIOND_RUN" >> {file}'
    command: list[Any] = ["sh", "-c", script]
    return ["--option", f"command={msgspec.json.encode(command).decode()}", "--option", "protocol=text"]
