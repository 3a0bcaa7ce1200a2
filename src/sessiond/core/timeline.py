"""What replay shows: the steps of a log, each with what went in, what came out, and how long it took."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from sessiond.core.agent import HIDDEN
from sessiond.core.event import (
    MESSAGE_REMOVED,
    RUN_AGENT,
    RUN_TOOL_RESULT,
    SESSION_CREATED,
    SESSION_UPDATED,
    Event,
)
from sessiond.core.ids import MESSAGE, make_event_id

TEXT_SHOWN_MAX_CHARS: Final = 4_096

# Names under which people keep secrets, also within longer ones: `db_password`, `X-API-Key`.
_SECRET: Final = re.compile(
    r"passw|passphrase|passcode|pwd|secret|(?:api|access|private|signing|storage)[-_]?key(?![-_]?id)|authorization|bearer"
    r"|cookie|credential",
    re.IGNORECASE,
)
# `accessToken` is a secret, `token_count` a number.
_TOKEN: Final = re.compile("token(?!i[sz])", re.IGNORECASE)

_decoder: Final = msgspec.json.Decoder(dict[str, Any])


class Step(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    seq: int
    at_us: int
    action: str
    input: dict[str, Any]
    output: dict[str, Any]
    duration_us: int
    of_client: bool = False
    """Whether a client logged what it did itself: what goes in and out is in its own words."""


def make_steps(events: Iterable[Event], *, first_index: int = 0) -> list[Step]:
    """Return the steps among `events`, in order, counted from `first_index`."""
    steps: list[Step] = []
    for event in events:
        if event.action is None:
            continue
        given, result = _in_and_out(event)
        steps.append(
            Step(
                index=first_index + len(steps),
                seq=event.seq,
                at_us=event.created_at_us,
                action=event.action,
                input=show(given),
                output=show(result),
                duration_us=event.duration_us or 0,
                of_client=event.of_client,
            )
        )
    return steps


class Steps:
    """The steps of a log that is in memory, each made when it is asked for: all at once would be many times the log."""

    def __init__(self, events: Iterable[Event]) -> None:
        steps = (event.seq for event in events if event.action is not None)
        self._indexes = {seq: index for index, seq in enumerate(steps)}

    def find(self, event: Event) -> Step | None:
        """Return the step that an event of the log is; None when it is none."""
        return self.get(event) if event.action is not None else None

    def get(self, event: Event) -> Step:
        (step,) = make_steps([event], first_index=self._indexes[event.seq])
        return step


def _in_and_out(event: Event) -> tuple[dict[str, Any], dict[str, Any]]:
    """Derive a step's input and output from what its event holds, so that neither is stored twice."""
    body = _decoder.decode(event.body)
    if event.of_client:
        return body.get("input", {}), body.get("output", {})
    if event.is_message:
        return body, {"id": make_event_id(MESSAGE, event.session_id, event.seq)}
    if event.type == SESSION_CREATED:
        return body, {"id": event.session_id}
    if event.type == SESSION_UPDATED:
        return body, {"id": event.session_id, "seq": event.seq}
    if event.type == MESSAGE_REMOVED:
        return {}, body
    if event.type == RUN_TOOL_RESULT:
        given = {name: body.get(name) for name in ("id", "name", "arguments")}
        return given, {"output": body.get("output"), "is_error": body.get("is_error", False)}
    if event.action == RUN_AGENT:
        given = {"run_id": event.run_id, "agent_id": body.get("agent_id"), "input": body.get("input")}
        return given, {name: body.get(name) for name in ("status", "output", "error")}
    return body.get("input", {}), body.get("output", {"id": event.session_id})


def show(value: Any) -> Any:
    """Return JSON as replay shows it: what is named like a secret is hidden, and long text is cut."""
    if isinstance(value, dict):
        return {name: _show_named(name, each) for name, each in value.items()}
    if isinstance(value, list):
        return [show(each) for each in value]
    if isinstance(value, str) and len(value) > TEXT_SHOWN_MAX_CHARS:
        return f"{value[:TEXT_SHOWN_MAX_CHARS]}… ({len(value):,} characters)"
    return value


def _show_named(name: str, value: Any) -> Any:
    if value and _SECRET.search(name):
        return HIDDEN
    return _hide_text(value) if _TOKEN.search(name) else show(value)


def _hide_text(value: Any) -> Any:
    """Return JSON without its text: the numbers beside it are counts."""
    if isinstance(value, dict):
        return {name: HIDDEN if each and _SECRET.search(name) else _hide_text(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_hide_text(each) for each in value]
    return HIDDEN if isinstance(value, str) and value else value
