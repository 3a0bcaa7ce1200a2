"""`sessiond replay`: a session shown, run again and saved by the real program, without a server and beside one."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cli.program import PROGRAM, Started, make_environment, refusal, run, run_json, start
from tests.conftest import make_database

ANSWERS: Final = """
import json, sys
brief = json.loads(sys.stdin.readline())
print(json.dumps({"type": "tool_call", "id": "c", "name": "look_up", "arguments": {"of": brief["input"]}}))
print(json.dumps({"type": "tool_result", "id": "c", "output": WORD}))
print(json.dumps({"type": "text", "text": "First.\\nThen " + WORD + "."}))
"""


def register(database: str, word: str) -> None:
    source = ANSWERS.replace("WORD", repr(word))
    command = json.dumps([sys.executable, "-c", source])
    run("agents", "add", "says", "--runner", "command", "--option", f"command={command}", "--database", database)


def record(server: Started) -> None:
    server.post("/v1/sessions", {"id": "recorded", "agent_id": "says", "data": {"api_key": "hush"}})
    for said in ("one", "two"):
        server.post("/v1/sessions/recorded/runs?wait=20", {"input": said})
    server.post("/v1/sessions/recorded/complete", {"reason": "done"})


@pytest.fixture(scope="module")
def recorded(engine_name: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """A database with a session that was recorded, and whose agent is as it was."""
    database = make_database(engine_name, tmp_path_factory.mktemp("replay"), request)
    with start(database) as server:
        register(database, "sun")
        record(server)
    return database


def test_a_session_is_shown_step_by_step(recorded: str) -> None:
    lines = run("replay", "recorded", "--database", recorded).stdout.splitlines()

    assert lines[0].split() == ["STEP", "ACTION", "MS", "INPUT", "OUTPUT"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["0", "create_session"],
        *[[str(place), ["send_message", "call_tool", "run_agent"][(place - 1) % 3]] for place in range(1, 7)],
        ["7", "complete_session"],
    ]
    assert "\x1b" not in "".join(lines)
    assert "hush" not in "".join(lines)


def test_what_is_shown_is_json_too(recorded: str) -> None:
    shown = run_json("replay", "recorded", "--database", recorded)

    assert shown["session_id"] == "recorded"
    assert [step["index"] for step in shown["steps"]] == list(range(8))
    assert shown["steps"][-1]["input"] == {"reason": "done"}


def test_a_session_runs_again_without_a_server(recorded: str) -> None:
    done = run("replay", "recorded", "--rerun", "--database", recorded)

    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines[:3]] == [
        ["0", "same", "create_session"],
        ["1", "same", "send_message"],
        ["2", "same", "call_tool"],
    ]
    assert lines[-1].startswith("8 same, 0 changed, 0 failed; the new session is sess_")
    again = run_json("replay", lines[-1].split()[-1], "--database", recorded)
    assert again["steps"][0]["input"]["parent"] == "recorded"


def test_a_session_runs_again_beside_a_server(recorded: str) -> None:
    with start(recorded):
        done = run_json("replay", "recorded", "--rerun", "--database", recorded)

    assert done["summary"] == {"session_id": done["session_id"], "same": 8, "changed": 0, "failed": 0}
    assert [step["verdict"] for step in done["steps"]] == ["same"] * 8


def test_what_changed_is_shown_as_a_diff_and_ends_with_1(recorded: str) -> None:
    register(recorded, "rain")
    try:
        done = run("replay", "recorded", "--rerun", "--diff", "--database", recorded, status=1)
        simulated = run_json("replay", "recorded", "--simulate", "--database", recorded, status=1)
    finally:
        register(recorded, "sun")

    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines if line[:4].strip().isdigit()] == [
        ["2", "changed", "call_tool"],
        ["3", "changed", "run_agent"],
        ["5", "changed", "call_tool"],
        ["6", "changed", "run_agent"],
    ]
    assert "      -output: sun" in lines
    assert "      +output: rain" in lines
    assert "      -  Then sun." in lines
    assert "      +  Then rain." in lines
    assert lines[-1].startswith("4 same, 4 changed, 0 failed")
    # This program says itself what its tool answers, whatever the recording has.
    assert (simulated["mode"], simulated["summary"]["changed"]) == ("simulate", 2)


def test_in_a_terminal_lines_fit_and_have_colours(recorded: str) -> None:
    shown = in_terminal("replay", "recorded", "--database", recorded, columns=80)
    done = in_terminal("replay", "recorded", "--rerun", "--database", recorded, columns=80)

    assert all(len(line) <= 80 for line in map(plain, shown.splitlines()))
    assert "\x1b[32msame" in done
    assert all(len(plain(line)) <= 80 for line in done.splitlines()[:-1])


def in_terminal(*arguments: str, columns: int, errors: bool = False) -> str:
    """Run a command in a terminal of its own, and return what it showed; with `errors` only what went there as such."""

    ours, theirs = pty.openpty()
    environment = make_environment({"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm"})
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [*PROGRAM, *arguments],
        env=environment,
        stdin=theirs,
        stdout=theirs if not errors else subprocess.DEVNULL,
        stderr=theirs if errors else subprocess.PIPE,
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                read = os.read(ours, 65_536)
            except OSError:  # what a terminal says when its other end is closed
                break
            if not read:
                break
            shown += read
        process.wait(30)
    os.close(ours)
    return shown.decode()


def plain(line: str) -> str:

    return re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip("\r")


def test_a_session_is_saved_without_the_secrets_of_its_agents(recorded: str, tmp_path: Path) -> None:
    file = tmp_path / "saved.session.jsonl"

    said = run("replay", "recorded", "--save", str(file), "--database", recorded).stdout

    lines: list[Any] = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["agents"] == [{"id": "says", "runner": "command"}]
    assert (lines[0]["format"], lines[0]["session"]["id"]) == (1, "recorded")
    assert [line["seq"] for line in lines[1:]] == list(range(1, len(lines)))
    assert said == f"saved {len(lines) - 1} events and 0 mails to {file}\n"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_cannot_be_is_refused(recorded: str, tmp_path: Path) -> None:
    assert "there is no session 'nobody' in default" in refusal("replay", "nobody", "--database", recorded)
    assert "there is no session 'nobody' in default" in refusal("replay", "nobody", "--rerun", "--database", recorded)
    nowhere = str(tmp_path / "none" / "x.session.jsonl")
    assert "cannot be written" in refusal("replay", "recorded", "--save", nowhere, "--database", recorded)
    for flags in (["--rerun", "--simulate"], ["--diff"], ["--rerun", "--save", "x"]):
        run("replay", "recorded", *flags, "--database", recorded, status=2)
