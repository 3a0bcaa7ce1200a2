"""What is in a session's log on the agentinbox wire: the timeline's events and the replay's steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sessiond.core.event import MAIL_RECEIVED, SESSION_CREATED, WAIT_ENDS, Event
from sessiond.core.ids import MESSAGE, make_event_id
from sessiond.core.message import unpack_message
from sessiond.core.metadata import JsonObject
from sessiond.core.timeline import Step
from sessiond.core.wait import CANCELLED
from sessiond.dialects.agentinbox.times import iso
from sessiond.web.answers import iso_millis

CANCELED: Final = "canceled"
"""How this wire writes it."""
CREATION: Final = "create_session"
"""The step that every log begins with. The document's replay begins behind it."""

_TYPES: Final[Mapping[str, str]] = {MAIL_RECEIVED: "message.received", WAIT_ENDS[CANCELLED]: f"wait.{CANCELED}"}
_ACTIONS: Final[Mapping[str, str]] = {"receive_mail": "receive_message"}
# What these events tell of: the document shows its id and nothing else.
_SUBJECTS: Final[Mapping[str, tuple[str, str]]] = {
    "inbox": ("inboxId", "inbox_id"),
    "mail": ("messageId", "mail_id"),
    "wait": ("waitId", "wait_id"),
}
_FILTERS: Final[Mapping[str, str]] = {"sender": "from", "subject_contains": "subjectContains", "since_us": "since"}
_STEP: Final = frozenset({"input", "output"})


class TimelineEvent(msgspec.Struct, frozen=True):
    timestamp: str
    type: str
    payload: JsonObject


class Timeline(msgspec.Struct, frozen=True):
    events: list[TimelineEvent]


class StepOut(msgspec.Struct, frozen=True, rename="camel"):
    index: int
    timestamp: str
    action: str
    input: JsonObject
    output: JsonObject
    duration_ms: int


class Steps(msgspec.Struct, frozen=True):
    steps: list[StepOut]


def event_out(event: Event) -> TimelineEvent:
    return TimelineEvent(iso_millis(event.created_at_us), _TYPES.get(event.type, event.type), _payload(event))


def step_out(step: Step, *, index: int) -> StepOut:
    if step.of_client:
        return _step(step, step.action, step.input, step.output, index=index)
    given, result = _filtered(step.input) if step.action == "create_wait" else step.input, step.output
    if step.action == "cancel_wait" and result.get("status") == CANCELLED:
        result = result | {"status": CANCELED}
    return _step(step, _ACTIONS.get(step.action, step.action), translated(given), translated(result), index=index)


def _step(step: Step, action: str, given: JsonObject, result: JsonObject, *, index: int) -> StepOut:
    # Rounded up: a step that took time never shows none.
    return StepOut(index, iso_millis(step.at_us), action, given, result, -(-step.duration_us // 1000))


def filters_out(terms: JsonObject) -> JsonObject:
    """Return which mails a wait's terms let count, in this wire's names."""
    found = {_FILTERS[name]: value for name, value in terms.items() if name in _FILTERS}
    if "since" in found:
        found["since"] = iso_millis(found["since"])
    return found


def translated(fields: JsonObject) -> JsonObject:
    """Return the log's names in camelCase. What callers hang on sessions, such as metadata, is left as it is."""
    return dict(_translated_field(name, value) for name, value in fields.items())


_bodies: Final = msgspec.json.Decoder(JsonObject)


def _payload(event: Event) -> JsonObject:
    of_run = {"runId": event.run_id} if event.run_id is not None else {}
    if event.is_message:
        message = unpack_message(event.body)
        message_id = make_event_id(MESSAGE, event.session_id, event.seq)
        return {"messageId": message_id, "role": message.role, "content": message.content, **of_run}
    body = _bodies.decode(event.body)
    if event.of_client:
        # In a client's own words, which may be any.
        return {"sessionId": event.session_id, "data": body}
    subject = _SUBJECTS.get(event.type.partition(".")[0])
    if subject is not None:
        shown, kept = subject
        return {shown: body[kept], **of_run}
    payload: JsonObject = {"sessionId": event.session_id, **of_run}
    if event.type != SESSION_CREATED:
        payload |= translated(body)
    if event.run_id is None:
        # `input` and `output` belong to the step that the same event is; runs and their tools are told whole.
        for name in _STEP:
            payload.pop(name, None)
    return payload


def _filtered(given: JsonObject) -> JsonObject:
    """Return what was said of a wait with its filters in one place, as this wire takes them."""
    said = {name: value for name, value in given.items() if name not in _FILTERS}
    filters = filters_out(given)
    return said | {"filters": filters} if filters else said


def _translated_field(name: str, value: Any) -> tuple[str, Any]:
    if name.endswith("_at_us"):
        name, value = name.removesuffix("_us"), iso(value)
    elif name == "timeout_seconds" and isinstance(value, float) and value.is_integer():
        value = int(value)
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest)), value
