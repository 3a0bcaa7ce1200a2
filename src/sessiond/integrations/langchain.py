"""Chat histories of LangChain, kept in sessiond.

    from sessiond import Client
    from sessiond.integrations.langchain import SessiondChatMessageHistory

    client = Client()
    chat = RunnableWithMessageHistory(model, lambda session_id: SessiondChatMessageHistory(session_id, client))

A message of the framework is a message of the session, with its role and content: everybody reads it, and search finds
it. What else it is stands in the message's metadata, so that it comes back exactly.

The framework calls its base class deprecated: new programs keep their state by a graph's checkpointer, as in
`langgraph.py` here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sessiond.client import AsyncClient, Client, Message, NotFound
from sessiond.client.messages import append_messages, list_messages
from sessiond.client.sessions import create_session, delete_session
from sessiond.integrations.steps import Clients, Steps, batches

try:
    from langchain_core.chat_history import BaseChatMessageHistory
    from langchain_core.messages import (
        AIMessage,
        BaseMessage,
        ChatMessage,
        HumanMessage,
        SystemMessage,
        ToolMessage,
        message_to_dict,
        messages_from_dict,
    )
except ImportError as error:
    raise ImportError("LangChain is not installed: pip install 'sessiond[langchain]'", name=error.name) from error

MARK: Final = "langchain"
"""The key of a message's metadata that has the framework's `type` and, in `data`, its fields apart from the content.

Where that is `{"apart": true}` they were too much for metadata, and are the last part of the content.
"""

PAGE: Final = 1_000
FIELDS_MAX_BYTES: Final = 16 * 1024  # metadata of a message may have 64 KiB
ROLES: Final = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "remove": "system",
    "tool": "tool",
    "function": "tool",
}
SAID_ROLES: Final = frozenset({"user", "assistant", "system", "developer", "tool"})


class SessiondChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, in order.

    It is created with the first messages, and created again when they come after it was deleted. Each call raises what
    `sessiond.client.errors` lists; an ended session takes no more messages (`Conflict`). An agent that is registered
    with the server does not answer what is added here.
    """

    def __init__(
        self,
        session_id: str,
        client: Client | AsyncClient | None = None,
        async_client: AsyncClient | None = None,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Name the session `session_id`, whether or not it exists yet.

        `messages`, `add_messages` and `clear` need a `Client`; `aget_messages` and its kin take the `AsyncClient`, or
        else the `Client`, in threads. Histories may share clients, which stay their maker's to close. `user_id`,
        `agent_id` and `metadata` are the session's when it is created.

        Raises:
            TypeError: there is no client.
        """
        self.session_id = session_id
        self._clients = Clients(client, async_client)
        self._new = {"user_id": user_id, "agent_id": agent_id, "metadata": metadata}

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # read each time, and not to be assigned
        """All messages, the oldest first, also what others have said in the session; none where there is no session."""
        return [*self._clients.each(self._read())]

    async def aget_messages(self) -> list[BaseMessage]:
        """As `messages`."""
        return [message async for message in self._clients.each_async(self._read())]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, on disk when this returns: all of them or none, up to 500 or 512 KiB.

        Raises:
            TypeError: one has something in it that JSON does not know.
            ValueError: one has a number in it that JSON does not know.
        """
        self._clients.first(self._add(messages))

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """As `add_messages`."""
        await self._clients.first_async(self._add(messages))

    def clear(self) -> None:
        """Delete the session, with all that is in it. It need not exist."""
        self._clients.first(self._delete())

    async def aclear(self) -> None:
        """As `clear`."""
        await self._clients.first_async(self._delete())

    def _read(self) -> Steps[BaseMessage]:
        cursor: str | None = None
        while True:
            try:
                page = yield list_messages(self.session_id, limit=PAGE, cursor=cursor)
            except NotFound:
                return
            for message in page.data:
                yield _unpacked(message)
            cursor = page.next_cursor
            if cursor is None:
                return

    def _add(self, messages: Sequence[BaseMessage]) -> Steps[None]:
        for batch in batches([_packed(message) for message in messages]):
            try:
                yield append_messages(self.session_id, batch, start_run=False)
            except NotFound:
                yield create_session(id=self.session_id, if_exists="return", **self._new)  # type: ignore[arg-type]
                yield append_messages(self.session_id, batch, start_run=False)

    def _delete(self) -> Steps[None]:
        try:
            yield delete_session(self.session_id)
        except NotFound:
            return


def _packed(message: BaseMessage) -> dict[str, Any]:
    """Return what to append for a message."""
    said = _as_json(message_to_dict(message))
    fields = type(message).model_fields
    content = said["data"].pop("content")
    mark = {
        "type": said["type"],
        "data": {
            name: value
            for name, value in said["data"].items()
            if name not in fields or value != fields[name].get_default(call_default_factory=True)
        },
    }
    if isinstance(content, list) and not all(isinstance(part, dict) for part in content):
        mark["data"]["content"] = content
        content = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in content]
    if len(json.dumps(mark)) > FIELDS_MAX_BYTES:
        if isinstance(content, str):
            mark["data"]["content"] = content
            content = [{"type": "text", "text": content}]
        content, mark = [*content, {"type": MARK, MARK: mark}], {"apart": True}
    role = ROLES.get(message.type.removesuffix("MessageChunk").lower())
    if role is None:
        role = message.role if isinstance(message, ChatMessage) and message.role in SAID_ROLES else "user"
    return {"role": role, "content": content, "metadata": {MARK: mark}}


def _unpacked(message: Message) -> BaseMessage:
    """Return a message of the framework, whoever has said it."""
    mark, content = message.metadata.get(MARK), message.content
    if isinstance(mark, dict) and "apart" in mark:
        mark, content = content[-1][MARK], content[:-1]  # type: ignore[index]  # these are parts
    if isinstance(mark, dict):
        return messages_from_dict([{"type": mark["type"], "data": {"content": content, **mark["data"]}}])[0]
    given: Any = content
    if message.role == "tool":
        return ToolMessage(content=given, tool_call_id=str(message.metadata.get("tool_call_id", "")), id=message.id)
    kinds: Mapping[str, type[BaseMessage]] = {"user": HumanMessage, "assistant": AIMessage}
    return kinds.get(message.role, SystemMessage)(content=given, id=message.id)


def _as_json(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except TypeError as error:
        raise TypeError(f"a message that is kept has to be JSON: {error}") from error
