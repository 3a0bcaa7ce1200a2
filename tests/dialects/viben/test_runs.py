"""What a session's agent does: messages are answered, held, and left unanswered, as this wire says."""

from __future__ import annotations

import tracemalloc
from typing import Any

import httpx
import msgspec

from sessiond.actions import sessions, workspaces
from sessiond.actions.call import Call, itself
from sessiond.core.message import Role, make_message
from sessiond.core.session import NewSession
from sessiond.dialects.viben.routes import _every_message
from sessiond.storage.engine import Engine
from tests.dialects.agents import eventually, register
from tests.serving import Tenant


def make_session(api: httpx.Client, **fields: Any) -> str:
    made = api.post("/api/sessions", json={"agent_id": "echo"} | fields)
    assert made.status_code == 201, made.text
    session_id: str = made.json()["id"]
    return session_id


def send(api: httpx.Client, session_id: str, content: str) -> str:
    sent = api.post(f"/api/sessions/{session_id}/message", json={"content": content})
    assert sent.status_code == 200, sent.text
    message_id: str = sent.json()["message_id"]
    return message_id


def said(api: httpx.Client, session_id: str) -> list[tuple[str, str]]:
    read = api.get(f"/api/sessions/{session_id}").json()
    return [(message["role"], message["content"]) for message in read["messages"]]


def wait_for(api: httpx.Client, session_id: str, count: int) -> list[tuple[str, str]]:
    """Return what was said in a session once it is so many messages."""
    found: list[tuple[str, str]] = eventually(lambda: len(now := said(api, session_id)) >= count and now)
    return found


def runs_of(client: httpx.Client, session_id: str) -> list[tuple[str, str]]:
    found = client.get(f"/operativus/api/sessions/{session_id}/runs").json()
    return [(run["input"], run["status"]) for run in found]


def test_a_message_is_answered_and_the_answer_is_in_the_session(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo")
    session_id = make_session(api)

    message_id = send(api, session_id, "Hello!")

    assert wait_for(api, session_id, 2) == [("user", "Hello!"), ("assistant", "Hello!")]
    read = api.get(f"/api/sessions/{session_id}").json()
    assert (read["status"], read["message_count"]) == ("active", 2)
    assert [set(message) for message in read["messages"]] == [{"id", "role", "content", "created_at"}] * 2
    assert read["messages"][0]["id"] == message_id
    assert read["messages"][1]["id"].startswith("msg-")


def test_a_prompt_is_answered(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo")

    session_id = make_session(api, prompt="Do it")

    assert wait_for(api, session_id, 2) == [("user", "Do it"), ("assistant", "Do it")]


def test_a_changed_prompt_starts_nothing(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register(tenant, "echo")
    session_id = make_session(api, prompt="one")
    wait_for(api, session_id, 2)

    api.patch(f"/api/sessions/{session_id}", json={"prompt": "two"}).raise_for_status()

    assert runs_of(client, session_id) == [("one", "COMPLETED")]


def test_messages_are_answered_one_after_the_other(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "echo", delay_ms=20)
    session_id = make_session(api)

    for content in ("one", "two", "three"):
        send(api, session_id, content)

    answers = [content for role, content in wait_for(api, session_id, 6) if role == "assistant"]
    assert answers == ["one", "two", "three"]


def test_an_agent_that_is_not_registered_leaves_messages_unanswered(
    tenant: Tenant, client: httpx.Client, api: httpx.Client
) -> None:
    register(tenant, "echo")
    session_id = make_session(api, agent_id="CLAUDE_CODE", prompt="Do it")

    wait_for(api, make_session(api, prompt="another's"), 2)

    assert said(api, session_id) == [("user", "Do it")]
    assert runs_of(client, session_id) == []


def test_a_paused_session_holds_its_messages_until_it_is_active_again(
    tenant: Tenant, client: httpx.Client, api: httpx.Client
) -> None:
    register(tenant, "echo")
    session_id = make_session(api, prompt="go")
    wait_for(api, session_id, 2)
    api.patch(f"/api/sessions/{session_id}", json={"status": "paused"}).raise_for_status()

    send(api, session_id, "one")
    send(api, session_id, "two")
    # Another session's message is answered meanwhile.
    wait_for(api, make_session(api, prompt="another's"), 2)

    assert runs_of(client, session_id)[1:] == [("one", "QUEUED"), ("two", "QUEUED")]
    api.patch(f"/api/sessions/{session_id}", json={"status": "active"}).raise_for_status()
    assert wait_for(api, session_id, 6)[4:] == [("assistant", "one"), ("assistant", "two")]
    assert runs_of(client, session_id)[1:] == [("one", "COMPLETED"), ("two", "COMPLETED")]


def test_a_session_that_ends_leaves_nothing_under_way(tenant: Tenant, client: httpx.Client, api: httpx.Client) -> None:
    register(tenant, "slow", delay_ms=60_000)
    for status in ("completed", "failed"):
        session_id = make_session(api, agent_id="slow", prompt="one")
        send(api, session_id, "two")

        api.patch(f"/api/sessions/{session_id}", json={"status": status}).raise_for_status()

        def ended(session_id: str = session_id) -> bool:
            return [state for _, state in runs_of(client, session_id)] == ["CANCELLED", "CANCELLED"]

        eventually(ended)
        read = api.get(f"/api/sessions/{session_id}").json()
        assert (read["status"], [message["content"] for message in read["messages"]]) == (status, ["one", "two"])


def test_a_run_that_fails_fails_the_session_where_its_agent_is_set_so(tenant: Tenant, api: httpx.Client) -> None:
    register(tenant, "broken", "command", fields={"fails_session": True, "retries": 0}, command="false")
    session_id = make_session(api, agent_id="broken", prompt="go")

    eventually(lambda: api.get(f"/api/sessions/{session_id}").json()["status"] == "failed")


def test_a_session_shows_its_last_50_messages_and_all_are_listed(
    tenant: Tenant, client: httpx.Client, api: httpx.Client
) -> None:
    session_id = make_session(api, agent_id="none")
    sent = [{"role": "user", "content": str(number)} for number in range(60)]
    client.post(f"/v1/sessions/{session_id}/messages", json={"messages": sent}).raise_for_status()

    listed = api.get(f"/api/sessions/{session_id}/messages")

    assert [message["content"] for message in listed.json()["messages"]] == [str(number) for number in range(60)]
    shown = api.get(f"/api/sessions/{session_id}").json()
    assert shown["messages"] == listed.json()["messages"][10:]
    assert shown["message_count"] == 60


def test_a_session_without_messages_has_an_empty_list_of_them(api: httpx.Client) -> None:
    session_id = make_session(api)

    assert api.get(f"/api/sessions/{session_id}/messages").json() == {"messages": []}
    assert api.get(f"/api/sessions/{session_id}").json()["messages"] == []


def test_content_of_parts_becomes_its_text(client: httpx.Client, api: httpx.Client) -> None:
    session_id = make_session(api, agent_id="none")
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    client.post(f"/v1/sessions/{session_id}/messages", json={"content": parts}).raise_for_status()

    assert said(api, session_id) == [("user", "one\ntwo")]


def test_messages_of_a_session_that_is_not_there_are_not_found(tenant: Tenant, client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"id": "bobs", "user_id": "bob"}).raise_for_status()

    with tenant.make_key(user_id="alice").client("/viben") as alice:
        for session_id in ("none", "bobs"):
            missing = alice.get(f"/api/sessions/{session_id}/messages")
            assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_messages_too_many_for_memory_are_listed_whole(tenant: Tenant) -> None:
    with tenant.client("/viben") as api, tenant.client() as client:
        session_id = make_session(api, agent_id="none")
        batch = {"messages": [{"content": "x" * 200}] * 1000}
        for _ in range(50):
            client.post(f"/v1/sessions/{session_id}/messages", json=batch).raise_for_status()
        size = 0
        tracemalloc.start()
        with api.stream("GET", f"/api/sessions/{session_id}/messages") as answer:
            for chunk in answer.iter_bytes():
                size += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert size > 50_000 * 200
    assert peak < 8_000_000


async def test_messages_of_a_session_deleted_while_they_are_listed_end_there(engine: Engine) -> None:
    workspace = await workspaces.create(engine, "w")
    call = Call(engine, workspaces.operator(workspace))
    made = await sessions.create(
        call, NewSession(), itself, session_id="s", messages=[make_message(Role.USER, "hello")]
    )
    await sessions.delete(call, "s", itself)

    written = b"".join([piece async for piece in _every_message(call, made.session)])

    assert msgspec.json.decode(written) == {"messages": []}
