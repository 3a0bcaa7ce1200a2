"""Messages of Pydantic AI as messages of a session, and back.

What is spoken is a part `{"type": "text", "text": …}`, for everybody to read and to search. All else stands beside it
as the framework writes it: other parts under `part`, a part's fields under `data`, a message's own in a part of type
`pydantic_ai`. What stands under `data` is not searched: names of fields and kinds are nobody's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter

from sessiond.client import Message
from sessiond.integrations.log import text_of

MARK: Final = "pydantic_ai"
"""The type of the part that holds all of a message but its parts."""

SPOKEN: Final = frozenset({"user-prompt", "system-prompt", "text"})


def messages_of(models: Sequence[ModelMessage]) -> list[dict[str, Any]]:
    """Return the framework's messages as ours, to append."""
    return [message_of(written) for written in written_of(models)]


def written_of(messages: Sequence[ModelMessage]) -> list[dict[str, Any]]:
    """Return messages as the framework writes them, as JSON."""
    written: list[dict[str, Any]] = msgspec.json.decode(ModelMessagesTypeAdapter.dump_json(list(messages)))
    return written


def message_of(written: Mapping[str, Any], link: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a message as the framework writes it as one of ours; `link` has its `id` and `parent_id`, of an entry."""
    rest = {name: value for name, value in written.items() if name != "parts"}
    marked: dict[str, Any] = {"type": MARK, "data": {"message": rest}}
    if link is not None:
        # First, to be among the words that are indexed, however long the message is.
        marked = {"type": MARK, "entry": link["id"], "data": {"message": rest, "parent": link["parent_id"]}}
    return {"role": _role_of(written), "content": [marked, *(_part_of(part) for part in written["parts"])]}


def _part_of(part: Mapping[str, Any]) -> dict[str, Any]:
    kind, content = part["part_kind"], part.get("content")
    if kind in SPOKEN and isinstance(content, str):
        return {"type": "text", "text": content, "data": {name: part[name] for name in part if name != "content"}}
    if kind in SPOKEN and isinstance(content, list):
        return {"type": "text", "text": "\n".join(each for each in content if isinstance(each, str)), "data": part}
    return {"type": kind, "part": {name: part[name] for name in part if name != "part_kind"}}


def _role_of(written: Mapping[str, Any]) -> str:
    if written["kind"] == "response":
        return "assistant"
    kinds = {part["part_kind"] for part in written["parts"]}
    if "user-prompt" in kinds or not kinds:
        return "user"
    return "system" if "system-prompt" in kinds else "tool"


def entry_messages(entries: Sequence[ConversationEntry]) -> list[dict[str, Any]]:
    return [
        message_of(written, {"id": entry.id, "parent_id": entry.parent_id})
        for entry, written in zip(entries, written_of([entry.message for entry in entries]), strict=True)
    ]


def as_entries(messages: Sequence[Message]) -> list[ConversationEntry]:
    entries = list[ConversationEntry]()
    for message, model in zip(messages, as_models(messages), strict=True):
        entry_id, parent_id = link_of(message)
        assert entry_id is not None
        entries.append(ConversationEntry(id=entry_id, parent_id=parent_id, message=model))
    return entries


def as_models(messages: Sequence[Message]) -> list[ModelMessage]:
    """Return messages as the framework's; one of somebody else is a request or a response of text."""
    return ModelMessagesTypeAdapter.validate_json(msgspec.json.encode([_written_as(each) for each in messages]))


def _written_as(message: Message) -> dict[str, Any]:
    marked = _mark_of(message)
    if marked is not None:
        parts = [_written_part(part) for part in message.content if isinstance(part, dict) and part.get("type") != MARK]
        return {**marked["data"]["message"], "parts": parts}
    text, at = text_of(message.content), message.created_at.isoformat()
    if message.role in ("assistant", "tool"):
        return {"kind": "response", "timestamp": at, "parts": [{"part_kind": "text", "content": text}]}
    kind = "user-prompt" if message.role == "user" else "system-prompt"
    return {"kind": "request", "timestamp": at, "parts": [{"part_kind": kind, "content": text, "timestamp": at}]}


def _written_part(part: Mapping[str, Any]) -> dict[str, Any]:
    if "part" in part:
        return {**part["part"], "part_kind": part["type"]}
    return {"content": part["text"], **part["data"]}


def _mark_of(message: Message) -> Mapping[str, Any] | None:
    if isinstance(message.content, str):
        return None
    return next((part for part in message.content if part.get("type") == MARK), None)


def link_of(message: Message) -> tuple[str | None, str | None]:
    """Return the id of the entry that a message is, and of the one before it."""
    marked = _mark_of(message)
    return (marked.get("entry"), marked["data"].get("parent")) if marked is not None else (None, None)
