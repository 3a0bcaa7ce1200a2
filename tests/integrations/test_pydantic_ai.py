"""Conversations of Pydantic AI, side by side with its own store, which keeps them in memory."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import Agent, UserError
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.messages import (
    BinaryImage,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.test import TestModel

from sessiond import AsyncClient, Client
from sessiond.integrations.pydantic_ai import SessiondConversationStore, append, load
from tests.serving import Tenant

PICTURES: Final[list[str | ImageUrl | BinaryImage]] = [
    *("And", ImageUrl(url="http://x/y.png")),
    *("now?", BinaryImage(data=b"\xff\0", media_type="image/png")),
]
LOOK: Final = ToolCallPart(tool_name="look", args={"at": "sea"}, tool_call_id="1")
TURN: Final[list[ModelMessage]] = [
    ModelRequest(parts=[SystemPromptPart(content="Be brief."), UserPromptPart(content="How is the lighthouse?")]),
    ModelResponse(parts=[ThinkingPart(content="hm"), LOOK]),
    ModelRequest(parts=[ToolReturnPart(tool_name="look", content={"wide": [1.5, None]}, tool_call_id="1")]),
    ModelResponse(parts=[TextPart(content="Lit.")], model_name="m-1", provider_details={"text": "data"}),
    ModelRequest(parts=[UserPromptPart(content=PICTURES)], instructions="Look well.", metadata={"type": "text"}),
    ModelRequest(parts=[]),
]

SIXTEEN: Final = 16


@pytest.fixture
def client(tenant: Tenant) -> Iterator[Client]:
    with Client(tenant.key, tenant.serving.url) as client:
        yield client


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Client]:
    with Client.local(tmp_path / "data.db") as client:
        yield client


@pytest.fixture(params=["theirs", "ours"])
def store(request: pytest.FixtureRequest, client: Client) -> ConversationStore:
    return SessiondConversationStore(client) if request.param == "ours" else InMemoryConversationStore()


def _say(text: str) -> ModelMessage:
    return ModelRequest(parts=[UserPromptPart(content=text)])


async def _save(
    store: ConversationStore, conversation_id: str, *messages: ModelMessage, scope: str | None = None
) -> Any:
    loaded = await store.load(conversation_id)
    conversation = loaded or Conversation(conversation_id=conversation_id)
    conversation.messages.extend(messages)
    return await store.save(conversation, scope=scope)


async def _loaded(
    store: ConversationStore, conversation_id: str, limit: int | None = None
) -> list[ModelMessage] | None:
    conversation = await store.load(conversation_id, limit=limit)
    return conversation.messages if conversation is not None else None


async def test_what_is_saved_is_loaded(store: ConversationStore) -> None:
    first = await _save(store, "chat", *TURN[:3], scope="ada")
    rest = await _save(store, "chat", *TURN[3:])

    assert await _loaded(store, "chat") == TURN
    assert await _loaded(store, "chat", 2) == TURN[-2:]
    assert await _loaded(store, "chat", 0) == []
    assert await store.load_entries("chat") == [*first, *rest]
    assert await store.read_entry(rest[0].id) == rest[0]
    assert await store.load("chat", scope="bea") is None
    with pytest.raises(LookupError):
        await store.read_entry("0192d1f0-0000-7000-8000-000000000000")


async def test_what_an_agent_carries_on_is_saved_with_its_usage(store: ConversationStore) -> None:
    agent = Agent(TestModel(custom_output_text="At the depot."))
    for question in ("Where is my parcel?", "Since when?"):
        conversation = await store.load("support") or Conversation(conversation_id="support")
        await store.save(await agent.run(question, conversation=conversation))

    loaded = await store.load("support")
    assert loaded is not None
    assert len(loaded.messages) == 4
    assert loaded.usage.requests == 2


async def test_a_save_over_somebody_elses_is_a_conflict(store: ConversationStore) -> None:
    await _save(store, "chat", _say("one"))
    mine, theirs = await store.load("chat"), await store.load("chat")
    assert mine is not None
    assert theirs is not None
    theirs.messages.append(_say("theirs"))
    await store.save(theirs)

    mine.messages.append(_say("mine"))
    with pytest.raises(ConversationConflict):
        await store.save(mine)
    with pytest.raises(ConversationConflict):
        await store.save(Conversation(conversation_id="chat"))
    with pytest.raises(ConversationConflict):
        await store.delete_record("chat", expected_revision=mine.revision or "")

    assert await _loaded(store, "chat") == theirs.messages


async def test_a_fork_outlives_what_it_was_made_from(store: ConversationStore) -> None:
    entries = await _save(store, "chat", *TURN)
    await store.fork("chat", at=3, new_conversation_id="other")
    await store.delete("chat")
    (on,) = await _save(store, "other", _say("on"))
    await store.fork("other", from_entry=entries[1].id, new_conversation_id="third")

    assert await store.load("chat") is None
    assert await _loaded(store, "other") == [*TURN[:3], on.message]
    assert await _loaded(store, "third") == TURN[:2]
    assert (await store.read_entry(entries[2].id)).message == TURN[2]


async def test_a_branch_that_was_left_can_be_gone_back_to(store: ConversationStore) -> None:
    entries = await _save(store, "chat", *TURN)
    branched = await store.branch("chat", at=1, expected_revision=await _revision(store))
    branched.messages.append(_say("otherwise"))
    await store.save(branched)
    assert await _loaded(store, "chat") == [TURN[0], branched.messages[1]]

    await store.branch("chat", from_entry=entries[-1].id, expected_revision=await _revision(store))

    assert await _loaded(store, "chat") == TURN
    record = await store.read_record("chat")
    assert record is not None
    assert len(record.branches) == 1


async def _revision(store: ConversationStore) -> str | None:
    record = await store.read_record("chat")
    return record.revision if record is not None else None


async def test_conversations_are_listed_the_last_saved_first(store: ConversationStore) -> None:
    for number in range(4):
        await _save(store, f"chat-{number}", _say("hello"), scope="ada" if number % 2 else "bea")
    await _save(store, "chat-0", _say("again"))

    async def ids(**options: Any) -> list[str]:
        return [record.conversation_id for record in await store.list_conversations(**options)]

    assert await ids() == ["chat-0", "chat-3", "chat-2", "chat-1"]
    assert await ids(limit=2) == ["chat-0", "chat-3"]
    assert await ids(scope="ada") == ["chat-3", "chat-1"]
    assert await ids(scope="nobody") == []


async def test_a_head_that_nobody_has_is_a_conflict(store: ConversationStore) -> None:
    (entry,) = await _save(store, "chat", _say("one"))
    record = await store.read_record("chat")
    assert record is not None
    await store.delete("chat")
    record.head_id = entry.id

    with pytest.raises(ConversationConflict):
        await store.write_record(record, expected_revision=None)
    assert await store.read_record("chat") is None


_steps = st.lists(
    st.tuples(
        st.sampled_from(["save", "save", "rewrite", "branch", "fork", "delete"]), st.integers(0, 3), st.integers(0, 4)
    ),
    max_size=12,
)


def test_the_two_stores_say_the_same_whatever_is_done(local: Client) -> None:
    example = 0

    @given(steps=_steps)
    @settings(max_examples=25)
    def check(steps: list[tuple[str, int, int]]) -> None:
        nonlocal example
        example += 1
        theirs, ours = InMemoryConversationStore(), SessiondConversationStore(local)

        async def both() -> None:
            for number, (step, which, at) in enumerate(steps):
                said = _say(f"{number}")
                outcomes = [await _take(store, step, f"{example}-{which}", at, said) for store in (theirs, ours)]
                assert outcomes[0] == outcomes[1], step

        asyncio.run(both())

    check()


async def _take(store: ConversationStore, step: str, name: str, at: int, said: ModelMessage) -> Any:
    """Take a step, and return what a user of the store can see of what came of it."""
    try:
        conversation = await store.load(name, limit=at or None)
        if step == "delete":
            await store.delete(name)
        elif step == "branch":
            await store.branch(name, at=at, expected_revision=conversation.revision if conversation else None)
        elif step == "fork":
            await store.fork(name, at=at, new_conversation_id=f"{name}-fork")
            name = f"{name}-fork"
        elif step == "rewrite" and conversation is not None:
            conversation = await store.load(name)
            assert conversation is not None
            conversation.messages[at:] = [said]
            await store.save(conversation)
        else:
            conversation = conversation or Conversation(conversation_id=name)
            conversation.messages.append(said)
            await store.save(conversation)
    except UserError as error:
        return type(error)
    record = await store.read_record(name)
    branches = (
        [[entry.message for entry in await store.read_history(tip)] for tip in record.branches] if record else None
    )
    return await _loaded(store, name), branches, record.forked_from if record else None


async def test_what_was_said_is_text_for_everybody_else(client: Client) -> None:
    await _save(SessiondConversationStore(client), "chat", *TURN, scope="ada")

    said = client.messages.list("chat").data
    assert [message.role for message in said] == ["user", "assistant", "tool", "assistant", "user", "user"]
    assert [_texts(message.content) for message in said[:5]] == [
        ["Be brief.", "How is the lighthouse?"],
        [],
        [],
        ["Lit."],
        ["And\nnow?"],
    ]
    assert [found.seq for found in client.messages.search("lighthouse").data] == [said[0].seq]
    for word in ("request", "prompt", "kind", "conversation"):
        assert client.messages.search(word).data == []


def _texts(content: Any) -> list[str]:
    return [part["text"] for part in content if part["type"] == "text"]


async def test_a_history_of_messages_alone_is_appended_to(client: Client) -> None:
    assert await load(client, "plain") == []

    await append(client, "plain", TURN[:2], user_id="ada")
    client.messages.append("plain", "From the phone")
    await append(client, "plain", TURN[2:])

    history = await load(client, "plain")
    assert [*history[:2], *history[3:]] == TURN
    (part,) = history[2].parts
    assert isinstance(part, UserPromptPart)
    assert part.content == "From the phone"
    assert await load(client, "plain") == history
    assert await load(client, "plain", limit=3) == history[-3:]
    assert client.sessions.get("plain").user_id == "ada"


async def test_a_session_that_others_have_begun_becomes_a_conversation(local: Client) -> None:
    local.sessions.create(id="chat", messages=[{"content": "Hello?"}], metadata={"channel": "web"})
    store = SessiondConversationStore(local)

    await _save(store, "chat", *TURN[:2], scope="ada")
    local.messages.append("chat", "From somebody else")
    await _save(store, "chat", TURN[2])

    assert await _loaded(store, "chat") == TURN[:3]
    assert [record.conversation_id for record in await store.list_conversations(scope="ada")] == ["chat"]
    assert local.sessions.get("chat").metadata["channel"] == "web"


async def test_more_messages_than_a_batch_holds_are_saved_and_forked(local: Client) -> None:
    store, messages = SessiondConversationStore(local), [_say(f"{number}") for number in range(1_200)]

    entries = await _save(store, "long", *messages)
    assert await SessiondConversationStore(local).read_entry(entries[0].id) == entries[0]
    await store.fork("long", new_conversation_id="fork")
    await store.delete("long")

    assert await _loaded(store, "fork") == messages
    assert await _loaded(SessiondConversationStore(local), "fork", 10) == messages[-10:]


async def test_of_sixteen_who_save_at_once_one_wins_and_nothing_of_the_others_stays(tenant: Tenant) -> None:
    async with AsyncClient(tenant.key, tenant.serving.url) as client:
        store = SessiondConversationStore(client)
        await _save(store, "chat", _say("one"))
        copies = [await store.load("chat") for _ in range(SIXTEEN)]

        async def save(number: int, copy: Conversation | None) -> bool:
            assert copy is not None
            copy.messages.append(_say(f"from {number}"))
            try:
                await store.save(copy)
            except ConversationConflict:
                return False
            return True

        won = await asyncio.gather(*(save(number, copy) for number, copy in enumerate(copies)))

        assert won.count(True) == 1
        winner = copies[won.index(True)]
        assert winner is not None
        assert await _loaded(store, "chat") == winner.messages
        assert (await client.sessions.get("chat")).message_count == 2


def test_without_the_framework_the_import_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("sessiond.integrations.pydantic_ai")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic_ai.messages", None)

    with pytest.raises(ImportError, match=r"pip install 'sessiond\[pydantic-ai\]'"):
        importlib.import_module("sessiond.integrations.pydantic_ai")
