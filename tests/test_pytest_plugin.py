"""The plugin for pytest, in a pytest of its own: recorded sessions that pass, that have drifted, that are none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.cli.program import make_environment, run, start

SECONDS: Final = 60

ANSWERS: Final = """
import json, sys
brief = json.loads(sys.stdin.readline())
print(json.dumps({"type": "tool_call", "id": "c", "name": "look_up", "arguments": {}}), flush=True)
if brief.get("recorded") is None:
    answer = WORD
    print(json.dumps({"type": "tool_result", "id": "c", "output": answer}), flush=True)
else:
    answer = json.loads(sys.stdin.readline())["output"]
print(json.dumps({"type": "text", "text": "It is " + answer}))
"""

CODE_MAIL: Final = {"from": "shop@shop.test", "subject": "Your code", "text": "Your verification code is 481516."}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recorded session of two agents with an inbox, as `replay --save` writes it."""
    folder = tmp_path_factory.mktemp("saved")
    database, file = f"sqlite:///{folder}/sessiond.db", folder / "weather.session.jsonl"
    with start(database) as server:
        command = json.dumps([sys.executable, "-c", ANSWERS.replace("WORD", "'sunny'")])
        run("agents", "add", "says", "--runner", "command", "--option", f"command={command}", "--database", database)
        server.post("/v1/sessions", {"id": "weather", "agent_id": "says"})
        server.post("/v1/sessions/weather/runs?wait=20", {"input": "Oslo?"})
        inbox = server.post("/v1/inboxes", {"session_id": "weather"})
        server.post("/v1/waits", {"type": "otp", "inbox_id": inbox["id"], "timeout_seconds": 60})
        server.post(f"/v1/inboxes/{inbox['id']}/mails", CODE_MAIL)
        server.post("/v1/sessions", {"id": "echoed", "agent_id": "echo"})
        server.post("/v1/sessions/echoed/runs?wait=20", {"input": "hello"})
    run("replay", "weather", "--save", str(file), "--database", database)
    run("replay", "echoed", "--save", str(folder / "echoed.session.jsonl"), "--database", database)
    return str(folder)


def copy(saved: str, folder: Path, *names: str) -> None:
    for name in names:
        file = f"{name}.session.jsonl"
        (folder / file).write_bytes((Path(saved) / file).read_bytes())


def write_agents(folder: Path, word: str) -> None:
    source = ANSWERS.replace("WORD", repr(word))
    command = json.dumps([sys.executable, "-c", source])
    (folder / "agents.toml").write_text(f'[agents.says]\nrunner = "command"\noptions = {{ command = {command} }}\n')


def run_pytest(folder: Path, *arguments: str, status: int) -> str:
    """Run pytest in a folder of its own, with whatever plugins are installed but those that slow it down."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-rA", *arguments],
        cwd=folder,
        env=make_environment({"PYTEST_ADDOPTS": ""}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_a_recording_whose_agent_is_as_it_was_passes(saved: str, tmp_path: Path) -> None:
    copy(saved, tmp_path, "weather", "echoed")
    write_agents(tmp_path, "sunny")
    (tmp_path / "pytest.ini").write_text("[pytest]\nsessiond_agents = agents.toml\n")

    said = run_pytest(tmp_path, status=0)

    assert "2 passed" in said
    assert "PASSED weather.session.jsonl::weather" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "agents.toml",
        "echoed.session.jsonl",
        "pytest.ini",
        "weather.session.jsonl",
    ]


def test_drift_fails_with_the_changed_steps_and_no_other(saved: str, tmp_path: Path) -> None:
    copy(saved, tmp_path, "weather", "echoed")
    write_agents(tmp_path, "rainy")
    (tmp_path / "pytest.ini").write_text("[pytest]\nsessiond_agents = agents.toml\n")

    said = run_pytest(tmp_path, status=1)

    assert "1 failed, 1 passed" in said
    assert "weather.session.jsonl: 2 steps are not as they were" in said
    assert "step 2, call_tool: changed, its output differs" in said
    assert "  -output: It is sunny" in said
    assert "  +output: It is rainy" in said
    assert "create_inbox" not in said
    assert "Traceback" not in said


def test_in_a_simulation_tools_need_not_answer_as_they_did(saved: str, tmp_path: Path) -> None:
    copy(saved, tmp_path, "weather")
    write_agents(tmp_path, "rainy")
    (tmp_path / "pytest.ini").write_text("[pytest]\nsessiond_agents = agents.toml\nsessiond_mode = simulate\n")

    assert "1 passed" in run_pytest(tmp_path, status=0)


def test_without_its_agent_a_recording_fails_and_says_so(saved: str, tmp_path: Path) -> None:
    copy(saved, tmp_path, "weather", "echoed")

    said = run_pytest(tmp_path, status=1)

    assert "step 3, run_agent: failed, its agent is not registered" in said
    assert "PASSED echoed.session.jsonl::echoed" in said


@pytest.mark.parametrize(
    ("ini", "content", "words"),
    [
        ("", "", "broken.session.jsonl cannot be run again: it is empty"),
        ("", '{"line": "event"}', "broken.session.jsonl cannot be run again: line 1 is none of a recorded session"),
        ("sessiond_mode = show", "", "sessiond_mode must be rerun or simulate, not 'show'"),
        ("sessiond_agents = none.toml", "", "none.toml cannot be read"),
    ],
)
def test_what_is_no_recording_fails_and_says_so(tmp_path: Path, ini: str, content: str, words: str) -> None:
    (tmp_path / "broken.session.jsonl").write_text(content)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{ini}\n")

    assert words in run_pytest(tmp_path, status=1)


def test_nothing_of_sessiond_is_imported_until_there_is_a_recording(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\n\ndef test_it() -> None:\n"
        "    assert {name for name in sys.modules if name.startswith('sessiond')}"
        " == {'sessiond', 'sessiond.pytest_plugin'}\n"
    )

    assert "1 passed" in run_pytest(tmp_path, status=0)
