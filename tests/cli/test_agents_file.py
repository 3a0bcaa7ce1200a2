"""The file of agents: registered at the start, changed when it changes, refused by file, agent and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessiond.cli.agents_file import read_agents
from sessiond.settings import SettingsError
from tests.cli.program import refusal, run, run_json, start, start_worker
from tests.docs.pages import ROOT, blocks
from tests.postgres import PostgresServer

FILE = """\
[agents.parrot]
runner = "echo"

[agents.shout]
runner = "command"
time_limit_seconds = 30
retries = 0
concurrency = 4
history = 1
fails_session = true
[agents.shout.options]
command = ["tr", "a-z", "A-Z"]
protocol = "text"
env = { LC_ALL = "C" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agents.toml"
    path.write_text(FILE)
    return path


def test_a_start_registers_what_is_new_changes_what_changed_and_leaves_the_rest(database: str, file: Path) -> None:
    here = ("--database", database)
    run("agents", "add", "other", "--runner", "echo", *here)
    with start_worker(*here[1:], "--agents-file", str(file)):
        before = {each["id"]: each for each in run_json("agents", "list", *here)}

    file.write_text(FILE.replace("history = 1", "history = 2"))
    with start_worker(*here[1:], environment={"SESSIOND_AGENTS_FILE": str(file)}) as worker:
        after = {each["id"]: each for each in run_json("agents", "list", *here)}
        log = worker.read_log()

    assert before.keys() == after.keys() == {"other", "parrot", "shout"}
    assert (after["other"], after["parrot"]) == (before["other"], before["parrot"])
    changed = after["shout"]["updated_at"]
    assert changed > before["shout"]["updated_at"]
    assert after["shout"] == before["shout"] | {"history": 2, "updated_at": changed}
    assert log.count("agent=shout workspace=default was changed by") == log.count(" was ") == 1


def test_a_first_start_of_many_processes_registers_the_file_once(postgres: PostgresServer, file: Path) -> None:
    postgres.create_database("cli_agents_file")
    database = postgres.url("cli_agents_file")

    with start(database, "--workers", "2", "--agents-file", str(file)) as server:
        session = server.post("/v1/sessions", {"agent_id": "shout", "messages": [{"content": "hello"}]})
        server.wait_for_answer(session["id"], "HELLO")
        assert server.stop() == 0

    assert [each["id"] for each in run_json("agents", "list", "--database", database)] == ["echo", "parrot", "shout"]


def test_an_agent_of_a_workspace_that_is_not_there_stops_the_start_before_a_key_is_made(
    file: Path, tmp_path: Path
) -> None:
    file.write_text('[agents.parrot]\nrunner = "echo"\nworkspace = "acme"\n')
    database = f"sqlite:///{tmp_path}/sessiond.db"

    said = refusal("serve", "--database", database, "--port", "0", "--agents-file", str(file))

    assert f"{file}: agent 'parrot': there is no workspace 'acme'" in said
    assert "sessiond workspaces create" in said
    with start(database) as first:
        assert first.secret


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_wrong_file_stops_the_start_before_anything_is_made(command: str, tmp_path: Path) -> None:
    file = tmp_path / "agents.toml"
    file.write_text('[agents.x]\nrunner = "echo"\nretries = "many"\n')

    said = refusal(command, "--database", f"sqlite:///{tmp_path}/never.db", "--agents-file", str(file), status=2)

    assert said == f"sessiond: {file}: agent 'x': expected `int`, got `str` - at `$.retries`"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[agents.x]\n", "agent 'x': it needs the field `runner`"),
        ('[agents.x]\nrunner = "no"\n', "agent 'x': runner must be one of echo"),
        ('[agents.x]\nrunner = "echo"\nretry = 1\n', "agent 'x': there is no field `retry`"),
        ('[agents.x]\nrunner = "echo"\nworkspace = 1\n', "agent 'x': expected `str`, got `int` - at `$.workspace`"),
        (
            '[agents.x]\nrunner = "echo"\n[agents.x.options]\nspeed = 1\n',
            "agent 'x': options of the runner echo: there is no option `speed`",
        ),
        ('[agents."a/b"]\nrunner = "echo"\n', "agent 'a/b': the id must not contain"),
        ("[agents]\nx = 1\n", "agent 'x': expected `object`"),
        ("agents = 1\n", "agents must be tables"),
        ('[agent.x]\nrunner = "echo"\n', "agent means nothing there"),
        ("agents\n", "cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "agents.toml"
    file.write_text(text)

    with pytest.raises(SettingsError) as raised:
        read_agents(str(file))

    assert str(file) in str(raised.value)
    assert said in str(raised.value)


def test_the_file_that_the_page_shows_can_be_used(tmp_path: Path) -> None:
    (shown,) = (block.text for block in blocks(ROOT / "docs/operate/workers.md") if block.language == "toml")
    file = tmp_path / "agents.toml"
    file.write_text(shown)

    assert {each.new.runner for each in read_agents(str(file))} == {"acp", "chat"}


def test_without_a_file_there_are_no_agents_and_one_that_is_missing_is_refused(tmp_path: Path) -> None:
    assert read_agents(None) == []
    with pytest.raises(SettingsError, match="cannot be read"):
        read_agents(str(tmp_path / "nope.toml"))


def test_the_doctor_reports_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    done = run("doctor", "--port", "0", environment={"SESSIOND_AGENTS_FILE": f"{tmp_path}/nope.toml"}, status=1)

    assert "bad    settings  the agents file" in done.stdout
