"""An event: one entry of a session's log, the only history there is.

A message is an event whose type begins with `message.`; a step is an event that carries an `action`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sessiond.core.ids import SessionId
from sessiond.core.message import Message, Role, pack_message
from sessiond.core.session import Status

SESSION_CREATED: Final = "session.created"
SESSION_UPDATED: Final = "session.updated"
MESSAGES: Final = ("message.*",)
"""The types of all messages, as a filter."""
MESSAGE_TYPES: Final = {role: f"message.{role}" for role in Role}

# What a change of status is called in the log.
STATUS_TYPES: Final = {
    Status.ACTIVE: "session.activated",
    Status.PAUSED: "session.paused",
    Status.COMPLETED: "session.completed",
    Status.FAILED: "session.failed",
}


class Event(msgspec.Struct, frozen=True):
    """One entry as it is stored. The order of the fields is the order of the columns in `storage/sql/events.sql`."""

    session_id: SessionId
    seq: int
    type: str
    created_at_us: int
    actor: str
    """The id of the key that did it."""
    run_id: str | None
    action: str | None
    """What was done, for replay; None for an event that only followed from another."""
    duration_us: int | None
    """From the request's arrival to the write."""
    body: bytes
    """A JSON object."""

    @property
    def is_message(self) -> bool:
        return self.type.startswith("message.")


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as its readers need it: its event without who sent it and how, which a long page need not carry.

    The order of the fields is the order of the columns in `storage/sql/events.sql`.
    """

    session_id: SessionId
    seq: int
    created_at_us: int
    run_id: str | None
    body: bytes


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event that has no place in a log yet."""

    type: str
    body: bytes
    action: str | None = None
    run_id: str | None = None

    @property
    def is_message(self) -> bool:
        return self.type.startswith("message.")


_encoder: Final = msgspec.json.Encoder()


def make_entry(type: str, body: object, *, action: str | None = None) -> Entry:
    return Entry(type=type, body=_encoder.encode(body), action=action)


def message_entry(message: Message) -> Entry:
    return Entry(type=MESSAGE_TYPES[message.role], body=pack_message(message), action="send_message")
