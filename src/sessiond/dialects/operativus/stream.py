"""A run as the events of an operativus stream: lines of `data:`, each an object that names its event."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from sessiond.core import event as kinds
from sessiond.core.event import Delta, Event
from sessiond.core.metadata import JsonObject
from sessiond.core.run import CANCELLED, COMPLETED, FAILED, Run, RunStatus
from sessiond.dialects.operativus.shapes import RunOut, StreamEvent, StreamEventType, error_text, run_out
from sessiond.web.answers import encode

_ENDS: Final[Mapping[RunStatus, StreamEventType]] = {
    COMPLETED: "CONTENT_DONE",
    FAILED: "ERROR",
    CANCELLED: "CANCELLED",
}

_bodies: Final = msgspec.json.Decoder(JsonObject)


class Telling:
    """What a client has been told of a run, so that it is told each word once: they come live, and in the log."""

    def __init__(self) -> None:
        self._attempt = 0
        self._length = 0

    def tell(self, page: Iterable[Event | Delta]) -> bytes:
        return b"".join(map(self._tell_one, page))

    def _tell_one(self, one: Event | Delta) -> bytes:
        if isinstance(one, Delta):
            return self._tell_text(one.offset, one.text, _now_ms()) if one.attempt == self._attempt else b""
        body, at_ms = _bodies.decode(one.body), one.created_at_us // 1000
        match one.type:
            case kinds.RUN_STARTED:
                return self._start_over(body["attempt"], at_ms)
            case kinds.RUN_TEXT:
                return self._tell_text(body["offset"], body["text"], at_ms)
        return _tell_other(one.type, body, at_ms)

    def _start_over(self, attempt: int, at_ms: int) -> bytes:
        self._attempt, self._length = attempt, 0
        return _frame("START", "", at_ms) if attempt > 1 else b""

    def _tell_text(self, offset: int, text: str, at_ms: int) -> bytes:
        if offset > self._length:
            return b""  # what stands before it was lost on the way; the log will have it all
        new = text[self._length - offset :]
        self._length += len(new)
        return _frame("CONTENT_DELTA", new, at_ms) if new else b""


def tell_start(run: Run) -> bytes:
    return _frame("START", "", run.created_at_us // 1000, run_out(run))


def tell_end(run: Run) -> bytes:
    """Return the last events of a run that has ended."""
    assert run.completed_at_us is not None, "it has ended"
    at_ms = run.completed_at_us // 1000
    return _frame(_ENDS[run.status], error_text(run) or "", at_ms) + _frame("STOP", "", at_ms, run_out(run))


def tell_error(message: str) -> bytes:
    """Return the word that a stream is cut short; its run goes on."""
    return _frame("ERROR", message, _now_ms())


def _tell_other(type: str, body: JsonObject, at_ms: int) -> bytes:
    match type:
        case kinds.RUN_THOUGHT:
            return _frame("REASONING_DELTA", body["text"], at_ms)
        case kinds.RUN_TOOL_CALL:
            return _frame("TOOL_START", _json(id=body["id"], name=body["name"], input=body["arguments"]), at_ms)
        case kinds.RUN_TOOL_RESULT:
            ended: StreamEventType = "TOOL_ERROR" if body["is_error"] else "TOOL_END"
            return _frame(ended, _json(id=body["id"], name=body["name"], output=body["output"]), at_ms)
        case kinds.RUN_WAITING:
            # One that waits without its agent asks nobody: its event names the wait.
            asked = _json(**{name: body[name] for name in ("title", "options", "detail", "wait_id") if name in body})
            return _frame("PAUSED", asked, at_ms)
    return b""


def _json(**fields: Any) -> str:
    return encode(fields).decode()


def _frame(event: StreamEventType, data: str, at_ms: int, run: RunOut | None = None) -> bytes:
    told = StreamEvent(event, data, at_ms, run if run is not None else msgspec.UNSET)
    return b"data: %s\n\n" % encode(told)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
