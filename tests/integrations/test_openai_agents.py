"""Sessions of the OpenAI Agents SDK: what goes in comes out, and everybody else can read it."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
from agents.memory import Session, SessionSettings
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond import AsyncClient, Client
from sessiond.client import Conflict
from sessiond.integrations.openai_agents import SessiondSession
from tests.serving import Tenant

CALL: Final = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"at": "sea"}'}
RESULT: Final = {"type": "function_call_output", "call_id": "call_1", "output": "wide"}
TURN: Final[list[Any]] = [
    {"role": "user", "content": "How is the lighthouse?"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
    CALL,
    RESULT,
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Lit.", "annotations": []}],
    },
]

SIXTEEN: Final = 16
EACH: Final = 6

_names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _names,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(_names, below, max_size=3),
    max_leaves=8,
)
_fields = st.dictionaries(
    st.sampled_from(["type", "id", "status", "role", "content", "whole", "fields"]) | _names, _values
)
_said = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer", "tool"])},
    optional={"content": _values | st.lists(st.dictionaries(_names, _values, max_size=3), max_size=3)},
)


@pytest.fixture
def client(tenant: Tenant) -> Iterator[Client]:
    with Client(tenant.key, tenant.serving.url) as client:
        yield client


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Client]:
    with Client.local(tmp_path / "data.db") as client:
        yield client


def test_any_item_comes_back_as_it_was(local: Client) -> None:
    @given(items=st.lists(_fields | st.builds(lambda item, more: more | item, _said, _fields), max_size=8))
    @settings(max_examples=30)
    def check(items: list[Any]) -> None:
        session = SessiondSession(uuid.uuid4().hex, local)

        asyncio.run(session.add_items(items))

        assert asyncio.run(session.get_items()) == items

    check()


async def test_it_is_a_session_of_the_framework(local: Client) -> None:
    session = SessiondSession("chat", local, session_settings={"limit": 1})

    await session.add_items(TURN)

    assert isinstance(session, Session)
    assert session.session_settings == SessionSettings(limit=1)
    assert await session.get_items() == TURN[-1:]
    assert await session.get_items(3) == TURN[-3:]


async def test_what_was_said_is_text_for_everybody_else(client: Client) -> None:
    await SessiondSession("chat", client, user_id="ada", metadata={"channel": "web"}).add_items(TURN)

    said = client.messages.list("chat").data
    assert [message.role for message in said] == ["user", "assistant", "assistant", "tool", "assistant"]
    assert said[0].content == "How is the lighthouse?"
    assert said[0].metadata == {}
    assert said[2].content == [CALL]
    assert said[3].content == [RESULT]
    assert said[4].content == TURN[4]["content"]
    assert [found.seq for found in client.messages.search("lighthouse").data] == [said[0].seq]
    assert client.sessions.list(user_id="ada", metadata={"channel": "web"}).data[0].id == "chat"


async def test_what_others_have_said_is_an_item(local: Client) -> None:
    local.sessions.create(id="chat")
    local.messages.append("chat", "Hello")
    local.messages.append(
        "chat", [{"type": "text", "text": "Two"}, {"type": "text", "text": "parts"}], role="assistant"
    )
    local.messages.append("chat", [{"type": "input_text", "text": "One"}])
    local.messages.append("chat", [{"type": "look", "at": "sea"}], role="tool")
    session = SessiondSession("chat", local)

    assert await session.get_items() == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Two\nparts"},
        {"role": "user", "content": [{"type": "input_text", "text": "One"}]},
        {"role": "assistant", "content": '{"type":"look","at":"sea"}'},
    ]
    assert await session.pop_item() == {"role": "assistant", "content": '{"type":"look","at":"sea"}'}


async def test_more_items_than_a_batch_holds_stay_in_order(local: Client) -> None:
    items: list[Any] = [{"role": "user", "content": f"{number}"} for number in range(2_500)]
    session = SessiondSession("long", local)

    await session.add_items(items)

    assert await session.get_items() == items
    assert await session.get_items(1_500) == items[-1_500:]


async def test_of_a_batch_with_something_that_is_not_json_nothing_is_added(local: Client) -> None:
    session = SessiondSession("chat", local)

    with pytest.raises(TypeError):
        await session.add_items([*TURN, {"role": "user", "content": cast(Any, object())}])

    assert await session.get_items() == []


async def test_a_session_that_was_cleared_is_written_to_again(client: Client) -> None:
    session = SessiondSession("chat", client)
    assert await session.get_items() == []
    assert await session.pop_item() is None
    await session.clear_session()

    await session.add_items(TURN)
    assert await session.pop_item() == TURN[-1]
    await session.clear_session()
    assert await session.get_items() == []
    await session.add_items(TURN[:1])

    assert await session.get_items() == TURN[:1]


async def test_a_session_that_has_ended_takes_no_more(client: Client) -> None:
    session = SessiondSession("chat", client)
    await session.add_items(TURN)
    client.sessions.complete("chat")

    with pytest.raises(Conflict):
        await session.add_items(TURN)
    assert await session.get_items() == TURN


async def test_items_do_not_start_a_registered_agent(local: Client) -> None:
    session = SessiondSession("chat", local, agent_id="echo")  # each new workspace has it

    await session.add_items(TURN[:1])

    assert local.sessions.get("chat").agent_registered
    assert local.runs.list(session_id="chat").data == []


def _write_from_threads(client: Client) -> None:
    session = SessiondSession("shared", client)

    def write(writer: int) -> None:
        for number in range(EACH):
            asyncio.run(session.add_items([{"role": "user", "content": f"{writer} {number}"}, cast(Any, CALL)]))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(SIXTEEN)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    _check_written(asyncio.run(session.get_items()))


def _check_written(items: list[Any]) -> None:
    """Nothing is lost, each writer's items are in its order, and those of one addition are together."""
    assert len(items) == SIXTEEN * EACH * 2
    assert items[1::2] == [CALL] * SIXTEEN * EACH
    for writer in range(SIXTEEN):
        texts = [item["content"] for item in items[::2] if item["content"].startswith(f"{writer} ")]
        assert texts == [f"{writer} {number}" for number in range(EACH)]


def test_sixteen_threads_with_loops_of_their_own_lose_nothing_on_a_server(client: Client) -> None:
    _write_from_threads(client)


def test_sixteen_threads_with_loops_of_their_own_lose_nothing_in_a_file(local: Client) -> None:
    _write_from_threads(local)


async def test_sixteen_coroutines_of_one_loop_lose_nothing(tenant: Tenant) -> None:
    async with AsyncClient(tenant.key, tenant.serving.url) as client:
        session = SessiondSession("shared", client)

        async def write(writer: int) -> None:
            for number in range(EACH):
                await session.add_items([{"role": "user", "content": f"{writer} {number}"}, cast(Any, CALL)])

        async with asyncio.TaskGroup() as group:
            for writer in range(SIXTEEN):
                group.create_task(write(writer))

        _check_written(await session.get_items())


async def test_who_is_cancelled_while_adding_waits_for_what_became_of_it(local: Client) -> None:
    session = SessiondSession("chat", local)
    adding = asyncio.create_task(session.add_items(TURN))
    await asyncio.sleep(0)  # it has begun

    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding

    assert await session.get_items() == TURN


async def test_an_async_client_is_refused_on_another_loop(tmp_path: Path) -> None:
    async with AsyncClient.local(tmp_path / "data.db") as client:
        session = SessiondSession("chat", client)
        await session.add_items(TURN)

        with pytest.raises(RuntimeError, match="a Client can be used on several"):
            await asyncio.to_thread(asyncio.run, session.get_items())


def test_without_the_framework_the_import_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "sessiond.integrations.openai_agents"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "agents.memory", None)

    with pytest.raises(ImportError, match=r"pip install 'sessiond\[openai-agents\]'"):
        importlib.import_module(name)
