"""What a new user tries first."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessiond import Client
from sessiond.client import NotFound, PreconditionFailed


def _use(client: Client) -> None:
    session = client.sessions.create(name="user-signup-flow", metadata={"environment": "staging"})
    client.messages.append(session.id, "Hello!")
    client.messages.append_batch(session.id, [{"role": "assistant", "content": "Yes?"}])

    assert [message.content for message in client.messages.iterate(session.id)] == ["Hello!", "Yes?"]
    assert client.sessions.list(status="active", limit=20, offset=0).data[0].id == session.id
    assert client.sessions.get(session.id).inboxes == []
    assert next(event.type for event in client.sessions.timeline(session.id).events) == "session.created"
    assert client.sessions.replay(session.id).steps[0].action == "create_session"
    assert client.sessions.complete(session.id).status == "completed"
    with pytest.raises(NotFound) as error:
        client.sessions.get("nobody")
    assert error.value.request_id


def test_a_guarded_append_tells_the_version_for_the_next(client: Client) -> None:
    session = client.sessions.create()

    first = client.messages.append(session.id, "One", if_match=session.etag, data={"step": 1})
    [_, second] = client.messages.append_batch(
        session.id, [{"content": "Two"}, {"content": "Three"}], if_match=first.etag
    )

    assert client.sessions.get(session.id).etag == second.etag
    assert client.sessions.get(session.id).data == {"step": 1}
    with pytest.raises(PreconditionFailed):
        client.messages.append(session.id, "Four", if_match=first.etag)


def test_a_client_of_a_server_does_what_the_first_page_shows(client: Client) -> None:
    _use(client)


def test_a_client_of_a_file_does_what_the_first_page_shows(local: Client) -> None:
    _use(local)


def test_a_client_of_a_file_leaves_agents_to_others_when_told_to(tmp_path: Path) -> None:
    with Client.local(tmp_path / "data.db", run_agents=False) as client:
        session = client.sessions.create(agent_id="echo")
        run_id = client.messages.append(session.id, "Hello!").run_id
        assert run_id is not None
        assert client.runs.start(session.id, "Anybody?", wait_seconds=0.5).status == "queued"
    with Client.local(tmp_path / "data.db") as client:
        assert client.runs.wait(run_id).output == "Hello!"
