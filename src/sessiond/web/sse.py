"""Server-Sent Events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from typing import Final

EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
KEEP_ALIVE: Final = b": keep-alive\n\n"
HEADERS: Final = (("x-accel-buffering", "no"),)  # nginx would collect events before it passes them on


def format_event(*, id: int | None, event: str, data: bytes) -> bytes:
    """Return one event. `data` is JSON; where a client wrote line breaks into its content they stay line breaks.

    Without an `id` a client that reconnects comes back to where it was before it.
    """
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.splitlines())
    place = b"id: %d\n" % id if id is not None else b""
    return b"%sevent: %s\ndata: %s\n\n" % (place, event.encode(), data)
