"""The agentinbox wire: parse, call, shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from sessiond.actions import events, sessions, timeline
from sessiond.actions.call import Call
from sessiond.core.errors import NotFound, Unauthenticated
from sessiond.core.page import pack_cursor, position_of
from sessiond.core.session import Session, Sort
from sessiond.dialects.agentinbox import shapes
from sessiond.web.answers import Answer, Stream, encode, json_answer
from sessiond.web.errors import Internal
from sessiond.web.requests import Request
from sessiond.web.routes import Dialect, Handler, Problem, Route


async def create_session(request: Request) -> Answer:
    body = await request.body_as(shapes.CreateSession)
    call = await request.call()
    return await sessions.create(
        call,
        body.parse(at_us=call.now_us),
        lambda created: json_answer(shapes.session_out(created.session), 201),
        session_id=call.new_id("sess_"),
        given=body.given(),
    )


async def list_sessions(request: Request) -> Answer:
    query = request.query_as(shapes.ListSessions, filled=shapes.FILTERS)
    page = await sessions.read_page(
        await request.call(),
        query.parse(),
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        with_total=True,
    )
    assert page.total is not None, "it was asked for"
    next_cursor = None
    if page.more_after and page.sessions:
        next_cursor = pack_cursor(position_of(page.sessions[-1], Sort.CREATED, descending=True))
    return json_answer(
        shapes.SessionList(
            data=[shapes.session_summary(session) for session in page.sessions],
            pagination=shapes.Pagination(query.limit, query.offset, page.total),
            has_more=next_cursor is not None,
            next_cursor=next_cursor,
        )
    )


async def get_session(request: Request) -> Answer | Stream:
    included = request.query_as(shapes.GetSession).parse()
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    if not included:
        return json_answer(shapes.session_out(session))
    return Stream(_detail(call, session, included))


async def complete_session(request: Request) -> Answer:
    return await _complete(request)


async def complete_session_in_short(request: Request) -> Answer:
    return await _complete(request)


async def get_timeline(request: Request) -> Stream:
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    return Stream(_timeline(call, session, before=b'{"events":[', after=b"]}"))


async def replay_session(request: Request) -> Stream:
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    await call.claim()
    return Stream(_steps(call, session))


async def _complete(request: Request) -> Answer:
    return await sessions.complete(
        await request.call(),
        request.params[0],
        lambda session: json_answer(shapes.completed_out(session)),
    )


async def _detail(call: Call, session: Session, included: frozenset[str]) -> AsyncIterator[bytes]:
    # There are no inboxes and no waits in any session yet, so there is nothing in them either.
    lists: dict[str, Any] = {name: [] for name in included - {"timeline"}}
    detail = encode(shapes.SessionDetail(session=shapes.session_whole(session), **lists))
    if "timeline" not in included:
        yield detail
        return
    async for chunk in _timeline(call, session, before=detail[:-1] + b',"timeline":[', after=b"]}"):
        yield chunk


async def _timeline(call: Call, session: Session, *, before: bytes, after: bytes) -> AsyncIterator[bytes]:
    """Yield a session's whole log between `before` and `after`, a chunk a page.

    A log is never empty: it begins with its session's creation, which is a step too.
    """
    separator = before
    async for page in events.read_all(call, session):
        yield separator + b",".join(encode(shapes.event_out(event)) for event in page)
        separator = b","
    yield after


async def _steps(call: Call, session: Session) -> AsyncIterator[bytes]:
    separator = b'{"steps":['
    async for page in timeline.read_steps(call, session):
        yield separator + b",".join(encode(shapes.step_out(step)) for step in page)
        separator = b","
    yield b"]}"


def render(problem: Problem) -> Answer:
    """Return an error in the document's two words: what kind it is, and what happened."""
    error = problem.error
    status, message = shapes.status_of(error), error.message
    match error:
        case Unauthenticated():
            message = "Invalid or missing API key"
        case NotFound() if problem.route is not None:
            message = "Session not found"
        case Internal() if problem.route is not None:
            message = _FAILED.get(problem.route.handler, message)
    return json_answer(shapes.ErrorOut(shapes.WORDS[status], message), status)


_FAILED: Final[Mapping[Handler, str]] = {
    create_session: "Failed to create session",
    list_sessions: "Failed to list sessions",
    get_session: "Failed to retrieve session",
    complete_session: "Failed to complete session",
    complete_session_in_short: "Failed to complete session",
    get_timeline: "Failed to retrieve timeline",
    replay_session: "Failed to replay session",
}

_ERRORS: Final = dict.fromkeys((400, 401, 403, 503), shapes.ErrorOut)
_FINDS: Final = _ERRORS | {404: shapes.ErrorOut}
_ENDS: Final = _FINDS | {409: shapes.ErrorOut, 413: shapes.ErrorOut}

ROUTES: Final = (
    Route(
        method="POST",
        path="/api/v1/sessions",
        handler=create_session,
        summary="Create a session",
        body=shapes.CreateSession,
        answers={201: shapes.SessionOut, 409: shapes.ErrorOut, 413: shapes.ErrorOut} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/api/v1/sessions",
        handler=list_sessions,
        summary="List sessions, newest first",
        query=shapes.ListSessions,
        answers={200: shapes.SessionList} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/api/v1/sessions/{id}",
        handler=get_session,
        summary="Get a session",
        query=shapes.GetSession,
        answers={200: (shapes.SessionOut, shapes.SessionDetail)} | _FINDS,
    ),
    Route(
        method="POST",
        path="/api/v1/sessions/{id}/complete",
        handler=complete_session,
        summary="Complete a session",
        answers={200: shapes.Completed} | _ENDS,
    ),
    Route(
        method="POST",
        path="/api/v1/sessions/{id}",
        handler=complete_session_in_short,
        summary="Complete a session, as the published clients do it",
        answers={200: shapes.Completed} | _ENDS,
    ),
    Route(
        method="GET",
        path="/api/v1/sessions/{id}/timeline",
        handler=get_timeline,
        summary="Get what happened in a session",
        answers={200: shapes.Timeline} | _FINDS,
    ),
    Route(
        method="POST",
        path="/api/v1/sessions/{id}/replay",
        handler=replay_session,
        summary="Show what was done in a session, step by step",
        answers={200: shapes.Steps} | _ENDS,
    ),
)

DIALECT: Final = Dialect(
    name="agentinbox",
    title="AgentInbox sessions, by sessiond",
    prefix="/agentinbox",
    routes=ROUTES,
    render=render,
    error=shapes.ErrorOut,
)
