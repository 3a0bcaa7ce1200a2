"""Sessions of the OpenAI Agents SDK, kept in sessiond.

    from agents import Agent, Runner
    from sessiond.integrations.openai_agents import SessiondSession

    session = SessiondSession("support-1")
    await Runner.run(Agent(name="helper"), "Where is my parcel?", session=session)

An item of the framework is one message. What people and models said is the message's own text, so that everybody who
reads the session, and search, sees it. Whatever else an item is, a call or its result, is a part in its content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from sessiond.client import AsyncClient, Client, Message
from sessiond.integrations.log import Asker, Log, text_of

try:
    from agents.memory import SessionSettings
    from agents.memory.session_settings import coerce_session_settings, resolve_session_limit
except ImportError as error:
    raise ImportError(
        "the OpenAI Agents SDK is not installed: pip install 'sessiond[openai-agents]'", name=error.name
    ) from error

if TYPE_CHECKING:
    from agents import TResponseInputItem

MARK: Final = "openai_agents"
"""The key of a message's metadata that says how its item is put together again.

`{"fields": {…}}`: role and content are the message's own, and these are the item's other fields. `{"whole": true}`: the
item is the one part of the content. Without it the message is all there is to the item, or was said by somebody else.
"""

FIELDS_MAX_BYTES: Final = 16 * 1024  # metadata of a message may have 64 KiB
ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
PARTS: Final = frozenset({"input_text", "input_image", "input_file", "input_audio", "output_text", "refusal"})
"""Types of parts that the framework's models read."""


class SessiondSession:
    """The memory of an agent: the items of one session, in order.

    It is created with the first items, and created again when they come after it was deleted. Each call raises what
    `sessiond.client.errors` lists; an ended session takes no more items (`Conflict`).
    """

    session_id: str
    session_settings: SessionSettings | None = None

    def __init__(
        self,
        session_id: str,
        client: Client | AsyncClient | None = None,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        """Name the session `session_id`, whether or not it exists yet.

        A `Client` may be shared by any number of sessions, threads and event loops. An `AsyncClient` belongs to one
        event loop, and so does a session that uses it. Without either the session makes a `Client` from the environment
        (SESSIOND_API_KEY, SESSIOND_URL), which `close` closes.

        `user_id`, `agent_id` and `metadata` are the session's when it is created. An agent that is registered with the
        server does not answer what is added here.

        Raises:
            SessiondError: there is no client, and no key in the environment.
        """
        self.session_id = session_id
        self.session_settings = (
            coerce_session_settings(session_settings) if session_settings is not None else SessionSettings()
        )
        self._own = Client() if client is None else None
        asker = Asker(client if client is not None else cast(Client, self._own))
        self._log = Log(asker, session_id, user_id=user_id, agent_id=agent_id, metadata=metadata)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the latest `limit` items, or all of them, the oldest first; none where there is no session.

        Without a limit that of `session_settings` counts. What others have said in the session is an item too.
        """
        limit = resolve_session_limit(limit, self.session_settings)
        return [_item_of(message) for message in await self._log.read(limit)]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items behind those there are: all of them or none, where there are at most 1,000; else in such batches.

        They are on disk when this returns. When it is cancelled, it still waits for what became of them.

        Raises:
            Conflict: the session has ended.
            TypeError: an item has something in it that JSON has not.
        """
        await self._log.append([_message_of(cast(dict[str, Any], item)) for item in items])

    async def pop_item(self) -> TResponseInputItem | None:
        """Take back the latest item, and return it; None where there is none. Of several callers each gets another.

        Raises:
            Conflict: the session has ended.
        """
        message = await self._log.pop()
        return _item_of(message) if message is not None else None

    async def clear_session(self) -> None:
        """Delete the session with all that is in its log. One that does not exist is fine."""
        await self._log.delete()

    def close(self) -> None:
        """Close the client that was made from the environment. One that was given is its owner's to close."""
        if self._own is not None:
            self._own.close()


def _message_of(item: Mapping[str, Any]) -> dict[str, Any]:
    role, content = item.get("role"), item.get("content")
    said = isinstance(role, str) and role in ROLES
    if said and (isinstance(content, str) or _are_parts(content)):
        fields = {name: value for name, value in item.items() if name not in ("role", "content")}
        if not fields and isinstance(content, str):
            return {"role": role, "content": content}
        if len(msgspec.json.encode(fields)) <= FIELDS_MAX_BYTES:
            return {"role": role, "content": content, "metadata": {MARK: {"fields": fields}}}
    if not said:
        role = "tool" if str(item.get("type")).endswith("_output") else "assistant"
    return {"role": role, "content": [item], "metadata": {MARK: {"whole": True}}}


def _item_of(message: Message) -> TResponseInputItem:
    mark = message.metadata.get(MARK)
    item: dict[str, Any]
    match mark, message.content:
        case {"whole": True}, [dict() as item]:
            pass
        case {"fields": dict() as fields}, content:
            item = {"role": message.role, "content": content, **fields}
        case _:
            # What a tool has said without a call that it answers is nothing that models take: the nearest to it.
            role = message.role if message.role in ROLES else "assistant"
            item = {"role": role, "content": _readable(message.content)}
    return cast("TResponseInputItem", item)


def _readable(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return what somebody else has said as the framework's models take it."""
    if isinstance(content, str) or all(part.get("type") in PARTS for part in content):
        return content
    return text_of(content)


def _are_parts(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(part, dict) for part in content)
