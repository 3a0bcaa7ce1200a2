"""An event: one entry of a session's log, the only history there is.

A message is an event whose type begins with `message.`; a step is an event that carries an `action`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sessiond.core.ids import MESSAGE, SessionId, make_event_id
from sessiond.core.message import Message, Role, pack_message, unpack_message
from sessiond.core.run import ENDED as ENDED_RUNS
from sessiond.core.session import Status
from sessiond.core.wait import PENDING, WaitStatus

SESSION_CREATED: Final = "session.created"
SESSION_UPDATED: Final = "session.updated"
MESSAGES: Final = ("message.*",)
"""The types of all messages, as a filter."""

RUN_AGENT: Final = "run_agent"
CALL_TOOL: Final = "call_tool"
"""The actions of a run's steps."""
RUN_QUEUED: Final = "run.queued"
RUN_STARTED: Final = "run.started"
RUN_TEXT: Final = "run.text"
RUN_THOUGHT: Final = "run.thought"
RUN_TOOL_CALL: Final = "run.tool_call"
RUN_TOOL_RESULT: Final = "run.tool_result"
RUN_WAITING: Final = "run.waiting"
RUN_ANSWERED: Final = "run.answered"
RUN_RETRYING: Final = "run.retrying"
RUN_CANCEL_REQUESTED: Final = "run.cancel_requested"
RUN_ENDS: Final = {status: f"run.{status}" for status in ENDED_RUNS}
"""What the end of a run is called."""
ENDS: Final = frozenset(RUN_ENDS.values())

INBOX_CREATED: Final = "inbox.created"
INBOX_EXPIRED: Final = "inbox.expired"
INBOX_DELETED: Final = "inbox.deleted"
MAIL_RECEIVED: Final = "mail.received"
WAIT_CREATED: Final = "wait.created"
WAIT_ENDS: Final = {status: f"wait.{status}" for status in WaitStatus if status is not PENDING}
"""What the end of a wait is called."""

MESSAGE_REMOVED: Final = "session.message_removed"
REMOVED: Final = "removed"
"""What the event of a message that was taken back is from then on: its place in the log, with nothing in it."""

MESSAGE_TYPES: Final = {role: f"message.{role}" for role in Role}

# What a change of status is called in the log.
STATUS_TYPES: Final = {
    Status.ACTIVE: "session.activated",
    Status.PAUSED: "session.paused",
    Status.COMPLETED: "session.completed",
    Status.FAILED: "session.failed",
}


_KINDS: Final = (SESSION_CREATED, RUN_QUEUED, INBOX_CREATED, MAIL_RECEIVED, WAIT_CREATED, *MESSAGES)
OWN_WORDS: Final = frozenset(kind.partition(".")[0] for kind in _KINDS) | {"messages", "removed", "sessiond"}
"""What the types of the log's own events begin with, and may one day: no event of a client's does."""


def is_of_client(type: str) -> bool:
    """Whether a client logs events of a type, in words of its own: see `core/client_event.py`."""
    return type.partition(".")[0] not in OWN_WORDS


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

    @property
    def of_client(self) -> bool:
        return is_of_client(self.type)


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as its readers need it: its event without who sent it and how, which a long page need not carry.

    The order of the fields is the order of the columns in `storage/sql/events.sql`.
    """

    session_id: SessionId
    seq: int
    created_at_us: int
    run_id: str | None
    body: bytes


class Delta(msgspec.Struct, frozen=True):
    """Text of a run on its way to who follows it live; the `run.text` that is in the log soon after has it too."""

    run_id: str
    attempt: int
    offset: int
    """How many characters of the attempt's text stand before it."""
    text: str

    @property
    def end(self) -> int:
        return self.offset + len(self.text)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event that has no place in a log yet."""

    type: str
    body: bytes
    action: str | None = None
    run_id: str | None = None
    duration_us: int | None = None
    """How long the action took; None: as long as the request so far."""

    @property
    def is_message(self) -> bool:
        return self.type.startswith("message.")

    @property
    def of_client(self) -> bool:
        return is_of_client(self.type)


_encoder: Final = msgspec.json.Encoder()


def make_entry(
    type: str,
    body: object,
    *,
    action: str | None = None,
    run_id: str | None = None,
    duration_us: int | None = None,
) -> Entry:
    return Entry(type=type, body=_encoder.encode(body), action=action, run_id=run_id, duration_us=duration_us)


def shorten(value: bytes, max_bytes: int) -> Any:
    """Return JSON as it stands in an event's body: of more than `max_bytes` only the beginning, and how long it is."""
    if len(value) <= max_bytes:
        return msgspec.Raw(value)
    return {"shortened": value[:max_bytes].decode(errors="ignore"), "bytes": len(value)}


def message_entry(message: Message, *, run_id: str | None = None) -> Entry:
    """Return the event of a message that a caller sends; `run_id` is the run that it starts."""
    return Entry(type=MESSAGE_TYPES[message.role], body=pack_message(message), action="send_message", run_id=run_id)


def answer_entry(message: Message, run_id: str) -> Entry:
    """Return the event of the message that a run ends with; replay shows the run, not this."""
    return Entry(type=MESSAGE_TYPES[message.role], body=pack_message(message), run_id=run_id)


def removal_entry(message: StoredMessage) -> Entry:
    """Return the event of a message's being taken back: which it was, and nothing that it said."""
    message_id = make_event_id(MESSAGE, message.session_id, message.seq)
    body = {"message_id": message_id, "seq": message.seq, "role": unpack_message(message.body).role}
    return make_entry(MESSAGE_REMOVED, body, action="pop_message")
