"""`sessiond agents`: what is typed becomes an agent, and what cannot be one is refused by its name."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from sessiond.cli.agent_options import describe_runners, parse_options, show_options
from sessiond.core.agent import HIDDEN, RUNNERS, NewAgent
from tests.cli.program import refusal, run, run_json

CHAT = ("--runner", "chat", "--option", "base_url=http://127.0.0.1:1/v1", "--option", "model=m")


def test_an_agent_is_registered_then_changed_then_removed(database: str) -> None:
    here = ("--database", database)

    first = run_json("agents", "add", "mine", "--runner", "echo", "--option", "delay_ms=5", *here)
    second = run_json(
        *("agents", "add", "mine", "--runner", "command", "--option", "command=cat -u", "--time-limit", "1.5"),
        *("--retries", "0", "--backoff", "0", "--concurrency", "3", "--history", "7", "--fails-session", *here),
    )
    listed = run_json("agents", "list", *here)
    removed = run_json("agents", "remove", "mine", *here)

    assert (first.pop("new"), second.pop("new")) == (True, False)
    assert first["options"] == {"delay_ms": 5}
    assert second.pop("updated_at") > second.pop("created_at") == first["created_at"]
    assert second == {
        "id": "mine",
        "workspace": "default",
        "runner": "command",
        "options": {"command": "cat -u"},
        "time_limit_seconds": 1.5,
        "retries": 0,
        "backoff_seconds": 0,
        "concurrency": 3,
        "history": 7,
        "fails_session": True,
    }
    assert [{**each, "created_at": 0, "updated_at": 0} for each in listed] == [
        {**second, "created_at": 0, "updated_at": 0}
    ]
    assert removed == {"id": "mine", "workspace": "default", "removed": True}
    assert run_json("agents", "list", *here) == []


def test_people_are_told_whether_it_was_there(tmp_path: Path) -> None:
    adding = ("agents", "add", "mine", "--runner", "echo", "--database", f"sqlite:///{tmp_path}/sessiond.db")

    assert [run(*adding).stdout.split()[0] for _ in range(2)] == ["registered", "changed"]


def test_an_agent_belongs_to_one_workspace(tmp_path: Path) -> None:
    here = ("--database", f"sqlite:///{tmp_path}/sessiond.db")
    run("workspaces", "create", "acme", *here)
    run("agents", "add", "mine", "--runner", "echo", "--workspace", "acme", *here)

    assert run_json("agents", "list", *here) == []
    assert [each["id"] for each in run_json("agents", "list", "--workspace", "acme", *here)] == ["mine"]
    assert "sessiond agents list" in refusal("agents", "remove", "mine", *here)
    assert "sessiond workspaces create" in refusal("agents", "add", "x", "--runner", "echo", "--workspace", "no", *here)


def test_what_is_secret_is_never_printed(tmp_path: Path) -> None:
    here = ("--database", f"sqlite:///{tmp_path}/sessiond.db")
    secrets = ("--option", "api_key=sk-hush", "--option", "headers.X-Token=hush")

    printed = [
        run("agents", "add", "mine", *CHAT, *secrets, *here),
        run("agents", "list", *here),
        run("agents", "list", "--json", *here),
    ]

    for each in printed:
        assert "hush" not in each.stdout + each.stderr
        assert HIDDEN in each.stdout


def test_what_this_machine_lacks_is_a_warning_and_no_refusal(tmp_path: Path) -> None:
    here = ("--database", f"sqlite:///{tmp_path}/sessiond.db")

    program = run("agents", "add", "a", "--runner", "command", "--option", "command=no-such-program -x", *here)
    folder = run("agents", "add", "b", "--runner", "acp", "--option", "command=cat", "--option", "cwd=/no/such", *here)
    variable = run("agents", "add", "c", *CHAT, "--option", "api_key_env=NO_SUCH_KEY", *here)
    fine = run("agents", "add", "d", "--runner", "command", "--option", "command=cat", *here)

    assert "warning: there is no program 'no-such-program'" in program.stderr
    assert "warning: there is no folder '/no/such'" in folder.stderr
    assert "warning: the environment variable NO_SUCH_KEY is not set" in variable.stderr
    assert fine.stderr == ""


def test_a_program_is_looked_for_where_it_is_started(tmp_path: Path) -> None:
    here, program = ("--database", f"sqlite:///{tmp_path}/sessiond.db"), tmp_path / "agent.sh"
    program.write_text("#!/bin/sh\ncat\n")
    program.chmod(0o755)
    adding = ("agents", "add", "mine", "--runner", "command", *here)

    in_its_folder = run(*adding, "--option", "command=./agent.sh", "--option", f"cwd={tmp_path}")
    on_its_path = run(*adding, "--option", "command=agent.sh", "--option", f"env.PATH={tmp_path}")
    nowhere = run(*adding, "--option", "command=agent.sh")

    assert (in_its_folder.stderr, on_its_path.stderr) == ("", "")
    assert "no program 'agent.sh'" in nowhere.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("x", "--runner", "telepathy"), "--runner: runner must be one of echo, command"),
        (("x", "--runner", "chat"), "it needs the option `base_url`"),
        ((*("x", *CHAT), "--option", "modell=m"), "there is no option `modell`"),
        ((*("x", *CHAT), "--option", "tools=hammer"), "expected `array`, got `str` - at `$.tools`"),
        (("x", "--runner", "echo", "--option", "delay_ms"), "--option: 'delay_ms' must be KEY=VALUE"),
        (("x", "--runner", "command", "--option", "command='"), "options.command: No closing quotation"),
        (("x", "--runner", "echo", "--time-limit", "0"), "--time-limit: it cannot be 0.0"),
        (("x", "--runner", "echo", "--history", "5000"), "--history: it cannot be 5000"),
        (("a/b", "--runner", "echo"), "ID must not contain '/'"),
    ],
)
def test_what_cannot_be_an_agent_is_refused_by_name_before_anything_is_made(
    arguments: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    done = run("agents", "add", *arguments, "--database", f"sqlite:///{tmp_path}/never.db", status=2)

    assert named in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (["delay_ms=5"], {"delay_ms": "5"}),
        (["command=a=b c"], {"command": "a=b c"}),
        (['command=["a", "b c"]'], {"command": ["a", "b c"]}),
        (["system=[INST] be kind"], {"system": "[INST] be kind"}),
        (["env.A=1", "env.B.C={}"], {"env": {"A": "1", "B.C": "{}"}}),
        (['headers={"X-A": "1"}', "headers.X-B=2"], {"headers": {"X-A": "1", "X-B": "2"}}),
        (["system="], {"system": ""}),
    ],
)
def test_options_are_text_maps_by_dots_and_json_in_brackets(given: list[str], options: dict[str, Any]) -> None:
    assert parse_options(given) == options


@pytest.mark.parametrize(
    "given", [["=x"], ["env.=x"], [".a=x"], ["a=1", "a=2"], ["env.A=1", "env.A=2"], ["a=1", "a.b=2"]]
)
def test_an_option_without_a_name_or_given_twice_is_refused(given: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        parse_options(given)


def test_shown_options_can_be_typed_again() -> None:
    options = {"command": ["sh", "-c", "a 'b'"], "env": {"A": "x y"}, "cwd": "/srv/a b", "delay_ms": 5}

    shown = show_options(options)

    assert parse_options(shlex.split(shown)) == {**options, "delay_ms": "5"}


def test_the_help_names_every_runner_every_option_and_every_default() -> None:
    text = describe_runners()
    shown = run("agents", "add", "--help").stdout

    for runner, kind in RUNNERS.items():
        assert f"{runner}: " in text
        for name in kind.__struct_fields__:
            assert f"\n  {name}" in text
    assert all(line in shown for line in text.replace("\b\n", "").splitlines())
    new = NewAgent(runner="echo")
    for default in (new.time_limit_seconds, new.retries, new.backoff_seconds, new.history):
        assert f"[default: {default:g}]" in " ".join(shown.split())


def test_the_doctor_says_what_registered_agents_lack_here(database: str) -> None:
    here = ("--database", database)
    run("agents", "add", "fine", "--runner", "echo", *here)

    def found(*arguments: str) -> list[tuple[str, str]]:
        findings = run_json("doctor", *here, "--port", "0", *arguments)
        return [(each["state"], each["found"]) for each in findings if each["check"] == "agents"]

    assert found() == [("ok", "1 registered, none lacks anything here")]
    run("agents", "add", "bad", "--runner", "command", "--option", "command=no-such-program", *here)
    assert found() == [("warn", "bad in default: there is no program 'no-such-program' here")]
