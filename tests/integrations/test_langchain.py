"""LangChain keeps what was said here, as it keeps it in memory."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from sessiond import AsyncClient, Client
from sessiond.integrations.langchain import SessiondChatMessageHistory
from tests.serving import Tenant

pytestmark = pytest.mark.filterwarnings("ignore:.* deprecated:DeprecationWarning")

MESSAGES: Final[list[BaseMessage]] = [
    SystemMessage("Be kind.", additional_kwargs={"__openai_role__": "developer"}),
    HumanMessage("What is the weather in Ålesund?", id="h1", name="ann"),
    HumanMessage(["look", {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]),
    HumanMessage([{"type": "text", "text": "and there?"}]),
    AIMessage(
        "",
        id="a1",
        tool_calls=[{"name": "weather", "args": {"city": "Ålesund", "exact": 0.1}, "id": "c1"}],
        invalid_tool_calls=[{"name": "w", "args": "{", "id": "c2", "error": "no JSON"}],
        usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        response_metadata={"model": "m", "none": None, "empty": []},
    ),
    ToolMessage("rain", tool_call_id="c1", status="error", artifact={"mm": [1, 2.5]}),
    FunctionMessage(content="old", name="weather"),
    AIMessageChunk(content="It rai", tool_call_chunks=[{"name": "f", "args": '{"a":', "id": "c3", "index": 0}]),
    ChatMessage(content="I object.", role="critic"),
    ChatMessage(content="I am a model.", role="assistant"),
    RemoveMessage(id="h1"),
    AIMessage("long", additional_kwargs={"thoughts": "t" * 200_000}),
    AIMessage([]),
]


async def test_a_history_does_what_one_in_memory_does(tenant: Tenant) -> None:
    memory: Any = InMemoryChatMessageHistory()
    with Client(tenant.key, tenant.serving.url) as client:
        async with AsyncClient(tenant.key, tenant.serving.url) as async_client:
            ours = SessiondChatMessageHistory("chat", client, async_client)
            assert ours.messages == await ours.aget_messages() == memory.messages == []
            for history in (ours, memory):
                history.add_user_message("hello")
                history.add_messages(MESSAGES)
                await history.aadd_messages(MESSAGES[:3])
                history.add_messages([])

            assert ours.messages == memory.messages
            assert [type(each) for each in ours.messages] == [type(each) for each in memory.messages]
            assert await ours.aget_messages() == memory.messages
            for history in (ours, memory):
                await history.aclear()
                history.clear()
                history.add_ai_message("anew")
            assert ours.messages == memory.messages
            assert str(ours) == str(memory)


def test_others_read_what_was_said_and_are_read(tenant: Tenant) -> None:
    with Client(tenant.key, tenant.serving.url) as client:
        history = SessiondChatMessageHistory("chat", client, user_id="ann", metadata={"team": "red"})
        history.add_messages(MESSAGES)
        roles = [message.role for message in client.messages.iterate("chat")]
        session = client.sessions.get("chat")
        client.messages.append_batch(
            "chat", [{"role": role, "content": role} for role in ("user", "tool", "developer")]
        )

        others = history.messages[len(MESSAGES) :]

        assert " ".join(roles) == (
            "system user user user assistant tool tool assistant user assistant system assistant assistant"
        )
        assert (session.user_id, session.metadata) == ("ann", {"team": "red"})
        assert [type(each) for each in others] == [HumanMessage, ToolMessage, SystemMessage]
        assert [each.content for each in others] == ["user", "tool", "developer"]
        texts = [message.content for message in client.messages.iterate("chat")]
        assert texts[1] == "What is the weather in Ålesund?"
        assert texts[2][0] == {"type": "text", "text": "look"}
        assert texts[11][0] == {"type": "text", "text": "long"}


async def test_a_chain_goes_on_where_it_was(tenant: Tenant) -> None:
    from langchain_core.runnables.history import RunnableWithMessageHistory

    model = FakeListChatModel(responses=["one", "two", "three"])
    kept: dict[str, Any] = {"memory": InMemoryChatMessageHistory()}
    with Client(tenant.key, tenant.serving.url) as client:
        kept["ours"] = SessiondChatMessageHistory("chat", client)
        for name in kept:
            chain = RunnableWithMessageHistory(model.model_copy(update={"i": 0}), lambda session_id: kept[session_id])
            config: Any = {"configurable": {"session_id": name}}
            chain.invoke([HumanMessage("a")], config)
            await chain.ainvoke([HumanMessage("b")], config)
            for _ in chain.stream([HumanMessage("c")], config):
                pass

        said = [(type(each), each.content) for each in kept["ours"].messages]

    assert said == [(type(each), each.content) for each in kept["memory"].messages]
    assert [content for _, content in said] == ["a", "one", "b", "two", "c", "three"]


def test_many_messages_are_added_and_read(tmp_path: Path) -> None:
    with Client.local(tmp_path / "data.db") as client:
        many = [HumanMessage(str(number)) for number in range(1_200)]
        SessiondChatMessageHistory("chat", client).add_messages(many)

        assert SessiondChatMessageHistory("chat", client).messages == many


def test_what_json_does_not_know_is_refused(tmp_path: Path) -> None:
    with Client.local(tmp_path / "data.db") as client:
        history = SessiondChatMessageHistory("chat", client)
        with pytest.raises(TypeError, match="has to be JSON"):
            history.add_messages([ToolMessage("r", tool_call_id="c", artifact={"raw": b"x"})])
        with pytest.raises(ValueError, match="JSON"):
            history.add_messages([ToolMessage("r", tool_call_id="c", artifact=float("nan"))])
        assert history.messages == []


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="give a Client"):
        SessiondChatMessageHistory("chat")

    monkeypatch.setitem(sys.modules, "langchain_core.chat_history", None)
    monkeypatch.delitem(sys.modules, "sessiond.integrations.langchain")
    with pytest.raises(ImportError, match=r"pip install 'sessiond\[langchain\]'"):
        importlib.import_module("sessiond.integrations.langchain")
