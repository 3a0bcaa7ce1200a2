"""The operativus wire's routes about runs: start one, follow it, look at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Final
from uuid import UUID

import msgspec

from sessiond.actions import runs
from sessiond.actions.call import Call
from sessiond.core.caller import Scope
from sessiond.core.errors import NotFound, SessiondError
from sessiond.core.ids import parse_id
from sessiond.core.run import Run, RunFilter
from sessiond.dialects.operativus import shapes
from sessiond.dialects.operativus.stream import Telling, tell_end, tell_error, tell_start
from sessiond.web.answers import Answer, Stream, encode, gathered, json_answer
from sessiond.web.requests import Request
from sessiond.web.sse import EVENT_STREAM, HEADERS, KEEP_ALIVE

WAIT_SECONDS: Final = 300.0  # what stands between gives up sooner as a rule; the run goes on all the same


class _Begun(msgspec.Struct, frozen=True):
    """What is kept under an idempotency key: who asks again waits for the same run."""

    id: str


async def list_runs(request: Request) -> Stream:
    # Whether there is such a session is not told.
    return Stream(gathered(_runs(await request.call(), request.params[0])))


async def run_agent(request: Request) -> Answer | Stream:
    body = await request.body_as(shapes.StartRun)
    wanted = body.stream
    if wanted is None:
        wanted = request.headers.get("accept", "").startswith("text/event-stream")
    if wanted:
        return _stream(request, body)
    call = await request.call()
    run = await _wait(request, call, await _begin(request, call, body))
    return json_answer(shapes.result_out(run), 200 if run.ended else 202)


async def stream_agent(request: Request) -> Stream:
    return _stream(request, await request.body_as(shapes.StartRun))


async def get_run(request: Request) -> Answer:
    return json_answer(shapes.run_out(await runs.get(await request.call(), request.params[0])))


async def _runs(call: Call, session_id: str) -> AsyncIterator[bytes]:
    separator = b"["
    async for page in runs.read_all(call, RunFilter(session_ids=(session_id,))):
        yield separator + b",".join(encode(shapes.run_out(run)) for run in page)
        separator = b","
    yield b"]" if separator == b"," else b"[]"


async def _begin(request: Request, call: Call, body: shapes.StartRun) -> str:
    """Queue a run, and return its id."""
    # Asked for before anything is done: who may not read cannot be told what becomes of it.
    request.caller.require(Scope.SESSIONS_READ)
    session_id = parse_id(body.session_id, "sessionId") if body.session_id else str(UUID(call.new_id("")))
    begun = await runs.start_in(
        call,
        session_id,
        lambda run: json_answer(_Begun(run.id)),
        new=body.parse(request.params[0]),
        message=body.said(),
    )
    return msgspec.json.decode(begun.body, type=_Begun).id


async def _wait(request: Request, call: Call, run_id: str) -> Run:
    """Return a run once it has ended; as it is, when that takes long, when it asks something or the server stops."""
    try:
        return await runs.wait(
            call,
            run_id,
            timeout_seconds=WAIT_SECONDS,
            still_allowed=lambda: request.site.still_allowed(request),
        )
    except SessiondError:
        # The run is there, and goes on: to say otherwise would have it started again.
        return await runs.get(call, run_id)


def _stream(request: Request, body: shapes.StartRun) -> Stream:
    return Stream(_tell(request, body), EVENT_STREAM, HEADERS, lasting=True)


async def _tell(request: Request, body: shapes.StartRun) -> AsyncIterator[bytes]:
    """Start a run, in the stream's first chunk so that a refusal is an answer like any other, and tell of it."""
    call = await request.call()
    run = await runs.get(call, await _begin(request, call, body))
    yield tell_start(run)
    followed = runs.follow_run(
        call,
        run,
        after=None,
        silence_seconds=request.site.keep_alive_seconds,
        still_allowed=lambda: request.site.still_allowed(request),
        live=True,
    )
    telling = Telling()
    try:
        # Where the session is deleted there is nothing more to follow, and the run has ended.
        with suppress(NotFound):
            async with aclosing(followed) as pages:  # type: ignore[type-var]  # `follow_run` is a generator
                async for page in pages:
                    if told := telling.tell(page) if page else KEEP_ALIVE:
                        yield told
        run = await runs.get(call, run.id)
    except SessiondError as error:
        yield tell_error(error.message)
    else:
        yield tell_end(run)
