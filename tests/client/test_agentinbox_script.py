"""The Python lines of the published document of AgentInbox run as they stand, wherever the sessions are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from sessiond import Client
from tests.postgres import PostgresServer
from tests.program import open_program

# As the document shows them, but for the line breaks before `print`, which it has lost.
LINES: Final = (
    'session = client.sessions.create( name="user-signup-flow", metadata={"environment": "staging"},)'
    ' print(session.id) # "sess_789"',
    'sessions = client.sessions.list(status="active", limit=20, offset=0)print(len(sessions.data))',
    'session = client.sessions.get("sess_789")print(session.status, session.inboxes, session.waits)',
    'timeline = client.sessions.timeline("sess_789")print(timeline.events)',
)
# What it has no Python for.
MORE: Final = (
    'print([step.action for step in client.sessions.replay("sess_789").steps])',
    'print(client.sessions.complete("sess_789").status)',
)


def _script() -> str:
    return "\n".join(line.replace("print(", "\nprint(", 1).replace("\n ", "\n") for line in (*LINES, *MORE))


def _run(client: Client, capsys: pytest.CaptureFixture[str], *, prepare: Client | None = None) -> None:
    other = prepare or client
    other.sessions.create(id="sess_789", name="user-signup-flow")
    inbox = other.inboxes.create(session_id="sess_789", ttl_seconds=3600)
    wait = other.waits.create("otp", inbox_id=inbox.id, timeout_seconds=120)

    exec(compile(_script(), "document", "exec"), {"client": client})  # noqa: S102  # that is what is tested

    made, count, shown, events, steps, status = capsys.readouterr().out.splitlines()
    assert other.sessions.get(made).metadata == {"environment": "staging"}
    assert (count, shown) == ("2", f"active ['{inbox.id}'] ['{wait.id}']")
    assert events.startswith("[Event(id='evt_1.sess_789', seq=1, type='session.created'")
    assert (steps, status) == ("['create_session', 'create_inbox', 'create_wait']", "completed")


def test_it_runs_on_a_file(local: Client, capsys: pytest.CaptureFixture[str]) -> None:
    _run(local, capsys)


def test_it_runs_on_a_server_with_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        open_program(f"sqlite:///{tmp_path}/sessiond.db") as program,
        Client(api_key=program.key, base_url=program.url) as client,
    ):
        _run(client, capsys)


def test_it_runs_on_a_cluster_with_postgresql(postgres: PostgresServer, capsys: pytest.CaptureFixture[str]) -> None:
    postgres.create_database("agentinbox_script")
    database = postgres.url("agentinbox_script")
    with (
        open_program(database) as one,
        open_program(database) as other,
        Client(api_key=one.key, base_url=one.url) as client,
        Client(api_key=one.key, base_url=other.url) as prepare,
    ):
        _run(client, capsys, prepare=prepare)
