"""Events that clients log themselves, in words of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sessiond.actions.call import A, Call
from sessiond.actions.messages import append_entries
from sessiond.core.event import Entry, Event


async def append(call: Call, session_id: str, entries: Sequence[Entry], answer: Callable[[list[Event]], A]) -> A:
    """Add a client's events to a session's log, all of them in order or none, and tell its followers.

    They are as `core/client_event.py` makes them, and on disk when this returns. A created session becomes active; its
    agent is not told.

    Raises:
        Forbidden: the caller lacks the write scope.
        NotFound: there is no session of that id that the caller may see.
        Conflict: the session is completed or failed.
        PreconditionFailed: the session is not in the version of the caller's If-Match.
    """
    return await append_entries(call, session_id, entries, answer)
