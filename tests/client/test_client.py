"""What a new user tries first."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sessiond import Client
from sessiond.client import NotFound, PreconditionFailed, SessiondError


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


def test_threads_that_share_a_file_get_each_its_own_answers(local: Client) -> None:
    sessions = [local.sessions.create(name=f"{number}").id for number in range(8)]

    def say(session_id: str) -> list[str]:
        return [str(local.messages.append(session_id, f"{session_id} {number}").content) for number in range(20)]

    with ThreadPoolExecutor(len(sessions)) as threads:
        said = list(threads.map(say, sessions))

    for session_id, texts in zip(sessions, said, strict=True):
        assert texts == [f"{session_id} {number}" for number in range(20)]
        assert [message.content for message in local.messages.iterate(session_id)] == texts


def test_a_client_of_a_file_that_is_closed_says_so(local: Client) -> None:
    local.close()

    with pytest.raises(SessiondError, match="closed"):
        local.sessions.list()


def test_a_client_of_a_file_may_wait_for_an_answer_that_is_held_back(local: Client) -> None:
    wait = local.waits.create("approval", title="Go on?")

    began = time.monotonic()

    assert local.waits.get(wait.id, wait_seconds=0.2).status == "pending"
    assert time.monotonic() - began >= 0.2
    assert local.waits.complete(wait.id, {"approved": True}).ended


def test_a_client_of_a_file_leaves_agents_to_others_when_told_to(tmp_path: Path) -> None:
    with Client.local(tmp_path / "data.db", run_agents=False) as client:
        session = client.sessions.create(agent_id="echo")
        run_id = client.messages.append(session.id, "Hello!").run_id
        assert run_id is not None
        assert client.runs.start(session.id, "Anybody?", wait_seconds=0.5).status == "queued"
    with Client.local(tmp_path / "data.db") as client:
        assert client.runs.wait(run_id).output == "Hello!"
