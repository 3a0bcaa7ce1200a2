"""The operativus wire: parse, call, shape."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from sessiond.actions import messages, sessions
from sessiond.actions.call import Call, itself
from sessiond.core.errors import NotFound
from sessiond.core.event import StoredMessage
from sessiond.core.session import Session, SessionFilter
from sessiond.dialects.operativus import runs, shapes
from sessiond.web.answers import Answer, Stream, encode, gathered, iso_millis, json_answer
from sessiond.web.requests import Request
from sessiond.web.routes import Dialect, Problem, Route


async def list_sessions(request: Request) -> Stream:
    query = request.query_as(shapes.ListSessions)
    sort, descending = query.order()
    # A caller who is bound to a user lists that user's sessions whatever they ask for, as the original's users do.
    user_id = query.user_id if request.caller.user_id is None else None
    call = await request.call()
    page = await sessions.read_page(
        call,
        SessionFilter(
            user_ids=(user_id,) if user_id is not None else (),
            agent_ids=(query.agent_id,) if query.agent_id is not None else (),
        ),
        sort=sort,
        descending=descending,
        limit=query.limit,
        offset=query.page * query.limit,
        with_total=True,
    )
    opening = encode(shapes.page_out(page, number=query.page, size=query.limit)).removesuffix(b"]}")
    return Stream(gathered(_enclosed(opening, _sessions(call, page.sessions))))


async def get_session(request: Request) -> Stream:
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    return Stream(gathered(_sessions(call, [session])), headers=(("etag", session.etag),))


async def delete_session(request: Request) -> Answer:
    with suppress(NotFound):
        await sessions.delete(await request.call(), request.params[0], itself)
    return Answer(204)


async def _enclosed(opening: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Write a page: it ends with the list that `opening` begins."""
    yield opening
    async for piece in pieces:
        yield piece
    yield b"]}"


async def _sessions(call: Call, wanted: Sequence[Session]) -> AsyncIterator[bytes]:
    """Write sessions with all their messages, however many there are."""
    before = b""
    async for session, pages in messages.read_each(call, wanted):
        yield before + encode(shapes.session_out(session)).removesuffix(b"]}")
        between = b""
        with suppress(NotFound):  # deleted in the meantime: what else there is to write is still true
            async for page in pages:
                yield between + _messages(page)
                between = b","
        yield b"]}"
        before = b","


def _messages(page: Sequence[StoredMessage]) -> bytes:
    return b",".join(encode(shapes.message_out(event)) for event in page)


def render(problem: Problem) -> Answer:
    """Return an error as Spring Boot writes it."""
    status = shapes.STATUS.get(type(problem.error), 500)
    return json_answer(
        shapes.ErrorOut(
            timestamp=iso_millis(time.time_ns() // 1000),
            status=status,
            error=shapes.REASONS[status],
            message=problem.error.message,
            path=problem.path,
        ),
        status,
    )


_ERRORS: Final = dict.fromkeys((400, 401, 403, 429, 503), shapes.ErrorOut)
_STARTS: Final = _ERRORS | dict.fromkeys((404, 409, 413, 422), shapes.ErrorOut)

ROUTES: Final = (
    Route(
        method="GET",
        path="/api/sessions",
        handler=list_sessions,
        summary="List sessions with their messages, page by page",
        query=shapes.ListSessions,
        answers={200: shapes.PageOut} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/api/sessions/{sessionId}",
        handler=get_session,
        summary="Get a session with its messages",
        answers={200: shapes.SessionOut, 404: shapes.ErrorOut} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/api/sessions/{sessionId}/runs",
        handler=runs.list_runs,
        summary="List the runs of a session, oldest first",
        answers={200: list[shapes.RunOut]} | _ERRORS,
    ),
    Route(
        method="DELETE",
        path="/api/sessions/{sessionId}",
        handler=delete_session,
        summary="Delete a session, if there is one",
        answers={204: None, 412: shapes.ErrorOut} | _ERRORS,
    ),
    Route(
        method="POST",
        path="/api/agents/{agentId}/runs",
        handler=runs.run_agent,
        summary="Run an agent, and wait for what it says",
        description="With `stream`, or `Accept: text/event-stream`, it is told as below `/runs/stream`.",
        body=shapes.StartRun,
        answers={200: shapes.RunResult, 202: shapes.RunResult} | _STARTS,
    ),
    Route(
        method="POST",
        path="/api/agents/{agentId}/runs/stream",
        handler=runs.stream_agent,
        summary="Run an agent, and follow it as Server-Sent Events",
        body=shapes.StartRun,
        answers={200: bytes} | _STARTS,
        content_type="text/event-stream",
    ),
    Route(
        method="GET",
        path="/api/v1/runs/{runId}",
        handler=runs.get_run,
        summary="Get a run",
        answers={200: shapes.RunOut, 404: shapes.ErrorOut} | _ERRORS,
    ),
)

DIALECT: Final = Dialect(
    name="operativus",
    title="Operativus Agent Manager: sessions and runs",
    prefix="/operativus",
    routes=ROUTES,
    render=render,
    error=shapes.ErrorOut,
)
