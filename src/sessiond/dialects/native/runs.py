"""The native wire's routes of runs: start, wait for, read, follow, cancel, try again, answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from sessiond.actions import runs, sessions
from sessiond.actions.call import Call
from sessiond.core.caller import Scope
from sessiond.core.errors import InvalidInput, NotFound, Unauthenticated, Unavailable
from sessiond.core.page import pack_cursor, unpack_cursor
from sessiond.core.run import Run, RunFilter
from sessiond.dialects.native import logs, queries, run_shapes, shapes
from sessiond.web.answers import Answer, Stream, encode, json_answer
from sessiond.web.requests import Request
from sessiond.web.sse import EVENT_STREAM, HEADERS


async def start_run(request: Request) -> Answer:
    body = await request.body_as(run_shapes.StartRun, empty=run_shapes.StartRun())
    wait_seconds = request.query_as(queries.StartRun).wait
    call = await request.call()
    started = await runs.start(
        call, request.params[0], _started(call), message=body.parse(), strategy=body.multitask_strategy
    )
    return await _waited_for(request, call, started, wait_seconds)


async def list_session_runs(request: Request) -> Answer:
    query = request.query_as(queries.ListSessionRuns, filled=queries.FILTERS)
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    return await _page(call, query, session_ids=(session.id,))


async def list_runs(request: Request) -> Answer:
    query = request.query_as(queries.ListRuns, filled=queries.FILTERS)
    session_ids = queries.check_values(query.session_id, "session_id")
    return await _page(await request.call(), query, session_ids=session_ids)


async def get_run(request: Request) -> Answer:
    return json_answer(run_shapes.run_out(await runs.get(await request.call(), request.params[0])))


async def stream_run(request: Request) -> Answer | Stream:
    wanted = logs.stream_from(request)
    call = await request.call()
    run = await runs.get(call, request.params[0])
    if run.session_id is not None and run.ended_seq is not None and (wanted.after or 0) >= run.ended_seq:
        # The only status at which an EventSource does not come back.
        return Answer(204)
    followed = runs.follow_run(
        call,
        run,
        after=wanted.after,
        silence_seconds=request.site.keep_alive_seconds,
        still_allowed=lambda: request.site.still_allowed(request),
        live=request.query_as(queries.StreamFrom).deltas,
    )
    return Stream(logs.as_sse(followed), EVENT_STREAM, HEADERS, lasting=True)


async def cancel_run(request: Request) -> Answer:
    body = await request.body_as(shapes.End, empty=shapes.End())
    wait_seconds = request.query_as(queries.CancelRun).wait
    call = await request.call()
    cancelled = await runs.cancel(call, request.params[0], _changed(call), reason=body.parse())
    return await _waited_for(request, call, cancelled, wait_seconds)


async def retry_run(request: Request) -> Answer:
    call = await request.call()
    return await runs.retry(call, request.params[0], _started(call))


async def respond_to_run(request: Request) -> Answer:
    body = await request.body_as(run_shapes.Respond)
    call = await request.call()
    return await runs.respond(call, request.params[0], body.parse(), _changed(call))


def _shown(call: Call, run: Run) -> run_shapes.RunOut:
    """Return a run as the caller may see it: a key that may not read is not told what was said."""
    if Scope.SESSIONS_READ not in call.caller.scopes:
        run = replace(run, input=None, output=None, error=None, ask=None)
    return run_shapes.run_out(run)


def _changed(call: Call) -> Callable[[Run], Answer]:
    return lambda run: json_answer(_shown(call, run))


def _started(call: Call) -> Callable[[Run], Answer]:
    return lambda run: json_answer(_shown(call, run), 201, headers=(("location", f"/v1/runs/{run.id}"),))


async def _page(call: Call, query: queries.ListSessionRuns, *, session_ids: tuple[str, ...]) -> Answer:
    wanted = RunFilter(
        session_ids=session_ids,
        agent_ids=queries.check_values(query.agent_id, "agent_id"),
        statuses=tuple(dict.fromkeys(query.status)),
    )
    of_one_session, descending = len(session_ids) == 1, query.order == "desc"
    position = unpack_cursor(query.cursor, run_shapes.RunPosition) if query.cursor is not None else None
    if position is not None and (position.of_one_session, position.descending) != (of_one_session, descending):
        raise InvalidInput("cursor was made for another list or order", field="cursor")
    page = await runs.read_page(
        call,
        wanted,
        descending=descending,
        limit=query.limit,
        position=(position.at, position.id) if position is not None else None,
        with_total=queries.wants_total(query.include),
    )
    next_cursor = None
    if page.next_position is not None:
        next_cursor = pack_cursor(run_shapes.RunPosition(of_one_session, descending, *page.next_position))
    return json_answer(
        run_shapes.RunPageOut(
            data=[run_shapes.run_out(run) for run in page.runs],
            next_cursor=next_cursor,
            prev_cursor=None,
            total=page.total if page.total is not None else UNSET,
        )
    )


class _Named(msgspec.Struct, frozen=True):
    id: str


_named: Final = msgspec.json.Decoder(_Named)


async def _waited_for(request: Request, call: Call, answer: Answer, wait_seconds: float) -> Answer:
    """Return an answer that shows a run, also one that was kept, with the run as it is after `wait_seconds` at most.

    A key that may not read gets it at once.
    """
    if not wait_seconds or Scope.SESSIONS_READ not in call.caller.scopes:
        return answer
    try:
        run = await runs.wait(
            call,
            _named.decode(answer.body).id,
            timeout_seconds=wait_seconds,
            still_allowed=lambda: request.site.still_allowed(request),
        )
    except (NotFound, Unauthenticated, Unavailable):
        return answer  # what was asked for is done: only how it went on cannot be said
    return replace(answer, body=encode(run_shapes.run_out(run)))
