"""What is in a session's log on the native wire: messages in and out, events, steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from sessiond.core.errors import InvalidInput
from sessiond.core.event import SESSION_CREATED, SESSION_UPDATED, Event, StoredMessage
from sessiond.core.ids import EVENT, make_event_id
from sessiond.core.limits import MESSAGES_PER_APPEND
from sessiond.core.message import NO_METADATA, Message, RawContent, Role, check_content
from sessiond.core.metadata import JsonObject, RawObject, pack_metadata
from sessiond.core.run import Strategy
from sessiond.core.timeline import Step
from sessiond.core.wait import FOR_MAIL, WaitType
from sessiond.dialects.native.times import iso
from sessiond.web.answers import encode, iso_micros


class MessageOut(msgspec.Struct, frozen=True):
    id: str
    seq: int
    role: Role
    content: RawContent
    run_id: str | None
    metadata: RawObject
    created_at: str


class EventOut(msgspec.Struct, frozen=True):
    id: str
    seq: int
    type: str
    created_at: str
    actor: str
    run_id: str | None
    data: RawObject


class StepOut(msgspec.Struct, frozen=True):
    index: int
    at: str
    action: str
    input: JsonObject
    output: JsonObject
    duration_ms: float


class MessagePage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[MessageOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[EventOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class LogPageOut(msgspec.Struct, frozen=True, kw_only=True):
    """A `MessagePage` or an `EventPage` on its way out."""

    data: Sequence[msgspec.Raw]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class Steps(msgspec.Struct, frozen=True):
    steps: list[StepOut]


class MessageList(msgspec.Struct, frozen=True):
    data: list[MessageOut]


class MessageIn(msgspec.Struct, frozen=True, kw_only=True):
    role: Role = Role.USER
    content: RawContent
    metadata: JsonObject | None = None

    def parse(self, field: str = "") -> Message:
        packed = pack_metadata(self.metadata)
        return Message(
            role=self.role,
            content=check_content(self.content, f"{field}content"),
            metadata=msgspec.Raw(packed) if packed is not None else NO_METADATA,
        )


class MessagesIn(msgspec.Struct, frozen=True, kw_only=True):
    """One message, or a batch under `messages`."""

    role: Role = Role.USER
    content: RawContent | UnsetType = UNSET
    metadata: JsonObject | None = None
    messages: list[MessageIn] | UnsetType = UNSET
    multitask_strategy: Strategy | None = None
    start_run: bool = True
    data: JsonObject | None = None
    """A JSON merge patch of the session's `data`, done with it."""

    @property
    def batch(self) -> bool:
        return self.messages is not UNSET

    def parse(self) -> list[Message]:
        """Return the messages meant.

        Raises:
            InvalidInput: there is none, or one and a batch.
        """
        if self.messages is not UNSET:
            if self.content is not UNSET:
                raise InvalidInput("send either content or messages", field="messages")
            return parse_batch(self.messages)
        if self.content is UNSET:
            raise InvalidInput("content is required", field="content")
        return [MessageIn(role=self.role, content=self.content, metadata=self.metadata).parse()]


def messages_out(events: Sequence[Event | StoredMessage]) -> list[msgspec.Raw]:
    """Return messages of one session as JSON, each a `MessageOut`; their bodies are not decoded on the way."""
    if not events:
        return []
    # An id ends with the session's, which is the same in all: escaped once, with its closing quote.
    session_id = encode(events[0].session_id)[1:]
    return [
        msgspec.Raw(
            b'{"id":"msg_%d.%b,"seq":%d,"run_id":%b,"created_at":"%b",%b'
            % (
                event.seq,
                session_id,
                event.seq,
                b"null" if event.run_id is None else encode(event.run_id),
                iso_micros(event.created_at_us).encode(),
                event.body[1:],  # `{"role":…,"content":…,"metadata":…}`, as `core.message` packs it
            )
        )
        for event in events
    ]


def event_out(event: Event) -> EventOut:
    return EventOut(
        make_event_id(EVENT, event.session_id, event.seq),
        event.seq,
        event.type,
        iso_micros(event.created_at_us),
        event.actor,
        event.run_id,
        msgspec.Raw(_data(event)),
    )


_OF_MAIL: Final = ("inbox.", "mail.", "wait.")
_ENDED_BY_US: Final = FOR_MAIL | {WaitType.TIMER}
_TIMES: Final = frozenset({"expires_at_us", "received_at_us", "since_us", "at_us"})
_fields: Final = msgspec.json.Decoder(JsonObject)


def _data(event: Event) -> bytes:
    """Return what an event says, in this wire's words; only where the log has others, it is decoded."""
    body = event.body
    if event.type in (SESSION_CREATED, SESSION_UPDATED) and (b'"expires_at_us"' in body or b'"accept_terms"' in body):
        return encode(translated(_fields.decode(body)))
    if event.type.startswith(_OF_MAIL):
        return encode(_told(event.type, _fields.decode(body)))
    return body


def _told(type: str, fields: JsonObject) -> JsonObject:
    """Return what an event of a type says in this wire's words."""
    if type in (SESSION_CREATED, SESSION_UPDATED):
        return translated(fields)
    if not type.startswith(_OF_MAIL):
        return fields
    # Without the step that it may be too, which replay shows.
    told = translated({name: value for name, value in fields.items() if name not in ("input", "output")})
    if "result" in told:
        told["result"] = result_out(told["type"], told["result"])
    return told


def result_out(type: str, result: JsonObject) -> JsonObject:
    """Return what a wait of a type was completed with; what somebody said is as they said it."""
    if type in _ENDED_BY_US:
        return translated(result)
    if type == WaitType.EVENT and "data" in result:
        return result | {"data": _told(result["type"], result["data"])}
    return result


def translated(fields: JsonObject) -> JsonObject:
    """Return what the log has in the core's words in those of this wire."""
    return dict(_translated_field(name, value) for name, value in fields.items())


def _translated_field(name: str, value: Any) -> tuple[str, Any]:
    if name in _TIMES:
        return name.removesuffix("_us"), iso(value)
    if name == "sender":
        return "from", value
    if name == "accept_terms":
        return name, value == "true" if value is not None else None
    return name, value


def events_out(events: Sequence[Event]) -> list[msgspec.Raw]:
    return [msgspec.Raw(encode(event_out(event))) for event in events]


def step_out(step: Step) -> StepOut:
    return StepOut(
        step.index,
        iso_micros(step.at_us),
        step.action,
        translated(step.input) if not step.of_client else step.input,
        step.output,
        step.duration_us / 1000,
    )


def parse_batch(messages: list[MessageIn]) -> list[Message]:
    """Return a batch's messages.

    Raises:
        InvalidInput: there are none, too many, or one of them is wrong; the message says which.
    """
    if not 1 <= len(messages) <= MESSAGES_PER_APPEND:
        raise InvalidInput(f"messages must be 1 to {MESSAGES_PER_APPEND}", field="messages")
    return [message.parse(f"messages[{index}].") for index, message in enumerate(messages)]
