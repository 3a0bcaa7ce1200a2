"""The native wire's route of replay: what was done in a session, shown, or done again and compared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from sessiond.actions import replays, sessions, timeline
from sessiond.actions.call import Call
from sessiond.core.caller import Scope
from sessiond.core.comparison import Comparison, Mode, Summary
from sessiond.core.errors import Conflict
from sessiond.core.session import Session
from sessiond.dialects.native import log_shapes, replay_shapes
from sessiond.web.answers import Stream, encode
from sessiond.web.requests import Request
from sessiond.web.sse import EVENT_STREAM, HEADERS, KEEP_ALIVE, format_event

PAUSE: Final = b"\n"  # between two parts of a JSON document: keeps a connection open, and means nothing

Told = Comparison | Summary


async def replay_session(request: Request) -> Stream:
    body = await request.body_as(replay_shapes.Replay, empty=replay_shapes.Replay())
    call = await request.call()
    if body.mode is replay_shapes.Mode.SHOW:
        session = await sessions.get(call, request.params[0])
        await call.claim()
        return Stream(_steps(call, session))
    call.caller.require(Scope.SESSIONS_WRITE)
    session = await sessions.get(call, request.params[0])
    new_id = call.new_id("sess_")
    if (before := await call.claim(new_id.encode())) is not None:
        # What was answered then was too long to be kept, and doing it all twice is what the key is to prevent.
        raise Conflict(f"this was asked for before: the session that it made is {before.decode()}")
    told = _with_silence(
        replays.rerun(
            call,
            session.id,
            new_id=new_id,
            mode=Mode(body.mode),
            domain=request.site.mail_domain,
            still_allowed=lambda: request.site.still_allowed(request),
        ),
        request.site.keep_alive_seconds,
    )
    if request.headers.get("accept", "").startswith("text/event-stream"):
        return Stream(_events(told), EVENT_STREAM, HEADERS, lasting=True)
    return Stream(_document(told, new_id, body.mode), headers=HEADERS)


async def _steps(call: Call, session: Session) -> AsyncIterator[bytes]:
    separator = b'{"steps":['
    async for page in timeline.read_steps(call, session):
        for step in page:
            yield separator + encode(log_shapes.step_out(step))
            separator = b","
    yield (separator if separator != b"," else b"") + b"]}"


async def _document(told: AsyncGenerator[Told | None], new_id: str, mode: str) -> AsyncIterator[bytes]:
    """Yield one JSON document, a step as soon as it is known."""
    separator = b'{"session_id":%b,"mode":%b,"steps":[' % (encode(new_id), encode(mode))
    async with aclosing(told) as each:
        async for one in each:
            match one:
                case None:
                    # Not before the beginning: what fails until then is an answer like any other.
                    yield PAUSE
                case Comparison():
                    yield separator + encode(replay_shapes.comparison_out(one))
                    separator = b","
                case Summary():
                    yield b'],"summary":%b}' % encode(replay_shapes.summary_out(one))


async def _events(told: AsyncGenerator[Told | None]) -> AsyncIterator[bytes]:
    async with aclosing(told) as each:
        async for one in each:
            match one:
                case None:
                    yield KEEP_ALIVE
                case Comparison():
                    yield format_event(id=None, event="step", data=encode(replay_shapes.comparison_out(one)))
                case Summary():
                    yield format_event(id=None, event="summary", data=encode(replay_shapes.summary_out(one)))


async def _with_silence(told: AsyncGenerator[Told], seconds: float) -> AsyncGenerator[Told | None]:
    """Yield what comes, and None whenever nothing did for so long: what is between would cut the connection."""
    coming = asyncio.ensure_future(anext(told, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=seconds)
            if not done:
                yield None
                continue
            if (one := coming.result()) is None:
                return
            yield one
            coming = asyncio.ensure_future(anext(told, None))
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await coming
        await told.aclose()
