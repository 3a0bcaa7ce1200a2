"""What clients log themselves on the native wire: events in, and what is answered."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sessiond.core.client_event import DURATION_MAX_MS, EMPTY, TYPE, TYPE_MAX_CHARS, client_entry, step_entry
from sessiond.core.errors import InvalidInput
from sessiond.core.event import Entry
from sessiond.core.limits import MESSAGES_PER_APPEND
from sessiond.core.metadata import RawObject
from sessiond.dialects.native.log_shapes import EventOut

Type = Annotated[str, Meta(extra_json_schema={"pattern": TYPE, "maxLength": TYPE_MAX_CHARS})]
Duration = Annotated[float, Meta(ge=0, le=DURATION_MAX_MS)]


class EventIn(msgspec.Struct, frozen=True, kw_only=True):
    """With `action` it is a step."""

    type: Type
    data: RawObject | UnsetType = UNSET
    action: str | None = None
    input: RawObject | UnsetType = UNSET
    output: RawObject | UnsetType = UNSET
    duration_ms: Duration | None = None

    def parse(self, field: str = "") -> Entry:
        if self.action is not None:
            return step_entry(
                self.type,
                _object(self.data),
                action=self.action,
                input=_object(self.input),
                output=_object(self.output),
                duration_us=round(self.duration_ms * 1000) if self.duration_ms is not None else 0,
                field=field,
            )
        for name in ("input", "output", "duration_ms"):
            if getattr(self, name) not in (UNSET, None, _NULL):
                raise InvalidInput(f"{field}{name} belongs to a step: it needs an action", field=f"{field}{name}")
        return client_entry(self.type, _object(self.data), field=field)


class EventsIn(msgspec.Struct, frozen=True, kw_only=True):
    """One event, or a batch under `events`."""

    type: Type | UnsetType = UNSET
    data: RawObject | UnsetType = UNSET
    action: str | None = None
    input: RawObject | UnsetType = UNSET
    output: RawObject | UnsetType = UNSET
    duration_ms: Duration | None = None
    events: list[EventIn] | UnsetType = UNSET

    @property
    def batch(self) -> bool:
        return self.events is not UNSET

    def parse(self) -> list[Entry]:
        """Return the events meant.

        Raises:
            InvalidInput: there is none, one and a batch, too many, or one is wrong; the message says which.
        """
        if self.events is UNSET:
            if self.type is UNSET:
                raise InvalidInput("type is required", field="type")
            fields = {name: getattr(self, name) for name in EventIn.__struct_fields__}
            return [EventIn(**fields).parse()]
        if self.type is not UNSET:
            raise InvalidInput("send either type or events", field="events")
        if not 1 <= len(self.events) <= MESSAGES_PER_APPEND:
            raise InvalidInput(f"events must be 1 to {MESSAGES_PER_APPEND}", field="events")
        return [event.parse(f"events[{index}].") for index, event in enumerate(self.events)]


class EventList(msgspec.Struct, frozen=True):
    data: list[EventOut]


_NULL = msgspec.Raw(b"null")


def _object(value: msgspec.Raw | UnsetType) -> msgspec.Raw:
    """Return an object as it came; null is as good as nothing."""
    return EMPTY if value is UNSET or value == _NULL else value
