"""Replay: what was done in a session, step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sessiond.actions.call import Call
from sessiond.actions.events import read_all
from sessiond.core.session import Session
from sessiond.core.timeline import Step, make_steps


async def read_steps(call: Call, session: Session) -> AsyncIterator[list[Step]]:
    """Yield the steps of a session's log, in order, in pages that fit in memory.

    Raises:
        Forbidden: the caller lacks the read scope.
    """
    index = 0
    async for page in read_all(call, session):
        steps = make_steps(page, first_index=index)
        index += len(steps)
        if steps:
            yield steps
