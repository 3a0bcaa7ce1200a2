"""What a new user tries first."""

from __future__ import annotations

import pytest

from sessiond import Client
from sessiond.client import NotFound


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


def test_a_client_of_a_server_does_what_the_first_page_shows(client: Client) -> None:
    _use(client)


def test_a_client_of_a_file_does_what_the_first_page_shows(local: Client) -> None:
    _use(local)
