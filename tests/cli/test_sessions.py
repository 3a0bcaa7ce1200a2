"""The commands for people: against a server on both engines, and a database in the process.

What is about processes is tried with the real program; the rest, which are many, in this process.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from sessiond import Client
from sessiond.cli import app
from sessiond.client import Session
from tests.cli.program import PROGRAM, SECONDS, make_environment, refusal, run, run_afresh, start
from tests.serving import Tenant

NOWHERE: Final = "/nonexistent"  # nobody's own logins take part


def _call(*arguments: str, status: int = 0, environment: Mapping[str, str]) -> Any:
    """Call a command in this process; it must end with this status."""
    done = CliRunner().invoke(app, arguments, env=environment)
    assert done.exit_code == status, f"{arguments} ended with {done.exit_code}:\n{done.output}{done.exception!r}"
    return done


def _call_json(*arguments: str, environment: Mapping[str, str]) -> Any:
    return json.loads(_call(*arguments, "--json", environment=environment).stdout)


def _refusal(*arguments: str, environment: Mapping[str, str]) -> str:
    done = _call(*arguments, status=1, environment=environment)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return str(line)


def _environment(tenant: Tenant) -> dict[str, str]:
    return {"SESSIOND_URL": tenant.serving.url, "SESSIOND_API_KEY": tenant.key, "XDG_CONFIG_HOME": NOWHERE}


@pytest.fixture
def client(tenant: Tenant) -> Iterator[Client]:
    with Client(tenant.key, tenant.serving.url) as client:
        client.agents.create("echo", "echo", {"delay_ms": 20})
        yield client


@contextmanager
def _tail(*arguments: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [*PROGRAM, "sessions", "tail", *arguments]
    with subprocess.Popen(
        command, env=make_environment(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _read_until(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout is not None
    read = ""
    while not read.endswith(wanted):
        character = process.stdout.read(1)
        assert character, f"it ended after {read!r}"
        read += character
    return read


def test_what_is_said_is_answered_listed_and_shown(tenant: Tenant, client: Client) -> None:
    environment = _environment(tenant)
    created = _call("sessions", "create", "--agent", "echo", "--user", "ada", environment=environment).stdout.strip()
    client.sessions.create(id="other", user_id="eve")

    said = run("sessions", "send", created, environment=environment, said="Is anybody\x1b[31m there?\n")
    shown = run("sessions", "show", created, environment=environment).stdout
    listed = _call_json("sessions", "list", "--agent", "echo", "--status", "active", environment=environment)

    assert (said.stdout, said.stderr) == ("Is anybody\\x1b[31m there?\n", "")
    assert "  user (ada)\n  Is anybody\\x1b[31m there?\n\n" in shown
    assert "  assistant (echo)\n  Is anybody\\x1b[31m there?\n" in shown
    assert "· run completed" in shown
    assert [each["id"] for each in listed] == [created]
    table = _call("sessions", "list", "--limit", "1", environment=environment).stdout.splitlines()
    assert [line.split()[0] for line in table] == ["ID", "other"]


def test_ends_of_sessions_and_runs_are_told(tenant: Tenant, client: Client) -> None:
    environment = _environment(tenant)
    client.agents.put("slow", "echo", {"delay_ms": 60_000})
    session = client.sessions.create(id="work", agent_id="slow")
    run_id = client.messages.append(session.id, "Begin").run_id or ""

    assert _call("runs", "cancel", run_id, "--reason", "late", environment=environment).stdout.endswith("cancelled\n")
    assert [each["id"] for each in _call_json("runs", "list", "--session", "work", environment=environment)] == [run_id]
    assert "is completed" in _call("sessions", "complete", "work", environment=environment).stdout
    assert "the session is completed" in _refusal("sessions", "send", "work", "Hello?", environment=environment)
    assert _call_json("sessions", "delete", "work", environment=environment) == {"id": "work", "deleted": True}
    missing = _refusal("sessions", "show", "work", environment=environment)
    assert "there is no such session: sessiond sessions list" in missing


def test_a_code_is_waited_for_and_stands_alone_on_standard_output(tenant: Tenant, client: Client) -> None:
    environment = _environment(tenant)
    inbox = _call_json("inboxes", "create", "--purpose", "sign up", "--ttl", "1h", environment=environment)
    subject = "Your code is 482913"
    client.inboxes.put_mail(inbox["id"], sender="acme@example.com", subject=subject, text=subject)

    code = _call("waits", "create", "--inbox", inbox["id"], "--since", "10m", environment=environment).stdout
    late = _refusal("waits", "create", "--inbox", inbox["id"], "--timeout", "1s", environment=environment)

    assert code == "482913\n"
    assert "timed out" in late
    shown = _call("inboxes", "show", inbox["id"], environment=environment).stdout
    assert "acme@example.com  Your code is 482913  482913" in shown
    statuses = [each["status"] for each in _call_json("waits", "list", "--inbox", inbox["id"], environment=environment)]
    assert statuses == ["timed_out", "completed"]


def test_a_tail_begins_with_the_last_messages_tells_words_at_once_and_ends_with_ctrl_c(
    tenant: Tenant, client: Client
) -> None:
    client.agents.put("slow", "echo", {"delay_ms": 300})
    session = client.sessions.create(id="talk", agent_id="slow", messages=[{"content": "one"}, {"content": "two"}])

    with _tail("talk", "--last", "1", environment=_environment(tenant)) as process:
        begun = _read_until(process, "two\n")
        client.messages.append(session.id, "first second third fourth fifth")
        _read_until(process, "assistant (slow)\n  first")
        unfinished = client.runs.list(session_id="talk").data[0].status
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=SECONDS)

    assert "one" not in begun
    assert unfinished == "running"
    assert rest.endswith("\n")
    assert (errors, process.returncode) == ("", 130)


def test_a_tail_outlives_a_restart_of_the_server(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/sessiond.db"
    with start(database) as first:
        environment = {"SESSIOND_URL": first.url, "SESSIOND_API_KEY": first.secret, "XDG_CONFIG_HOME": NOWHERE}
        first.post("/v1/sessions", {"id": "talk", "messages": [{"content": "one"}]})
        with _tail("talk", "--json", environment=environment) as process:
            _read_until(process, '"content":"one","metadata":{}}}\n')
            port, secret = first.port, first.secret
            assert first.stop() == 0
            with start(database, "--port", port), Client(secret, first.url) as client:
                client.messages.append("talk", "two")
                told = json.loads(_read_until(process, "\n"))
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=SECONDS)

    assert (told["type"], told["data"]["content"]) == ("message.user", "two")
    assert process.returncode == 130


def test_a_database_is_worked_with_in_this_process(tmp_path: Path) -> None:
    file, environment = tmp_path / "data.db", {"XDG_CONFIG_HOME": NOWHERE}
    there = ("--database", str(file))
    assert "there is no database" in _refusal("sessions", "list", *there, environment=environment)
    with Client.local(file) as client:
        session: Session = client.sessions.create(agent_id="echo")

    assert run("sessions", "send", session.id, "Hello", *there, environment=environment).stdout == "Hello\n"
    shown = _call_json("sessions", "show", session.id, "--last", "1", *there, environment=environment)
    assert shown["session"]["id"] == session.id
    assert [each["type"] for each in shown["events"]] == ["message.assistant", "run.completed"]
    assert "no workspace 'nope'" in _refusal("runs", "list", *there, "--workspace", "nope", environment=environment)


def test_what_keeps_a_command_from_working_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    nothing = {"XDG_CONFIG_HOME": str(tmp_path)}

    assert "sessiond login" in _refusal("sessions", "list", environment=nothing)
    unreachable = refusal("runs", "list", "--url", "http://127.0.0.1:1", "--key", "sd_x", environment=nothing)
    assert "http://127.0.0.1:1 cannot be reached" in unreachable
    both = _call("waits", "list", "--database", "x.db", "--key", "sd_x", environment=nothing, status=2)
    assert "not both" in both.stderr


def test_logins_are_kept_checked_changed_and_forgotten(tenant: Tenant, tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    url, file = tenant.serving.url, tmp_path / "sessiond" / "profiles.toml"
    wrong = _refusal("login", "--url", url, "--key", "sd_wrong", environment=environment)
    assert "does not take this key" in wrong
    assert not file.exists()

    kept = run("login", "--url", f"{url}/v1/", environment=environment, said=f"{tenant.key}\n").stdout

    assert file.stat().st_mode & 0o777 == 0o600
    who = _call("whoami", environment=environment).stdout
    assert tenant.workspace in who
    listed = _call("profiles", "list", environment=environment).stdout
    assert "default  current" in listed
    assert tenant.key not in kept + who + listed
    assert _call_json("sessions", "list", environment=environment) == []
    _call("logout", environment=environment)
    assert tenant.key not in file.read_text()
    assert "sessiond login" in _refusal("whoami", environment=environment)


def test_a_server_is_exported_and_takes_no_bundle(tenant: Tenant, client: Client, tmp_path: Path) -> None:
    environment, file = _environment(tenant), tmp_path / "all.jsonl"
    for name in ("a", "b"):
        client.sessions.create(id=name, messages=[{"content": "x" * 100_000}])
    there = ("--url", tenant.serving.url, "--output", str(file))

    assert _call_json("export", *there, environment=environment)["sessions"] == 2
    assert file.read_bytes() == b"".join(client.export())
    assert _call_json("export", *there, "--session", "a", environment=environment)["sessions"] == 1
    refused = _call("import", str(file), "--url", tenant.serving.url, environment=environment, status=2)
    assert "a server takes no bundles" in refused.stderr


def test_shells_complete_commands_and_options() -> None:
    assert "_SESSIOND_COMPLETE=complete_bash" in run("completion", "bash").stdout

    asked = {"COMP_WORDS": "sessiond sessions show --la", "COMP_CWORD": "3", "_SESSIOND_COMPLETE": "complete_bash"}
    assert run_afresh(environment=asked).stdout == "--last\n"
