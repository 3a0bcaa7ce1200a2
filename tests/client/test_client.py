"""What a new user tries first."""

from __future__ import annotations

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
