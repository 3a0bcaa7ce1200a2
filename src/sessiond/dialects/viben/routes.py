"""The viben wire: parse, call, shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from sessiond.actions import messages, sessions
from sessiond.actions.call import Call
from sessiond.core.errors import NotFound
from sessiond.core.event import Event
from sessiond.core.message import Role, make_message
from sessiond.core.page import SessionPage, pack_cursor, position_of
from sessiond.core.session import Session, SessionFilter, Sort
from sessiond.dialects.viben import shapes
from sessiond.web.answers import Answer, Stream, encode, gathered, json_answer
from sessiond.web.requests import Request
from sessiond.web.routes import Dialect, Problem, Route

LAST_MESSAGES: Final = 50  # what a session shows; it has all of them below `/messages`
PAGE: Final = 100  # what is read at once of a list, and the bound of one that is asked for with a cursor alone


async def list_sessions(request: Request) -> Answer | Stream:
    query = request.query_as(shapes.ListSessions, filled=shapes.FILTERS)
    wanted = SessionFilter(
        agent_ids=(query.agent_id,) if query.agent_id is not None else (),
        task_ids=(query.task_id,) if query.task_id is not None else (),
        statuses=(shapes.parse_status(query.status),) if query.status is not None else (),
    )
    call = await request.call()
    if query.limit is None and query.cursor is None:
        return Stream(_every_session(call, wanted))
    page = await sessions.read_page(call, wanted, limit=query.limit or PAGE, cursor=query.cursor)
    summaries = [shapes.summary_out(session) for session in page.sessions]
    return json_answer(shapes.SessionList(summaries, _next_cursor(page)))


async def create_session(request: Request) -> Answer:
    new = (await request.body_as(shapes.CreateSession)).parse()
    call = await request.call()
    return await sessions.create(
        call,
        new,
        lambda made: _with_etag(made.session, shapes.created_out(made.session), 201),
        session_id=call.new_id(shapes.SESSION),
        messages=[make_message(Role.USER, new.prompt)] if new.prompt is not None else (),
    )


async def get_session(request: Request) -> Answer:
    last = await messages.read_page(await request.call(), request.params[0], descending=True, limit=LAST_MESSAGES)
    session = last.session
    # What has come since the session was read is not in its count either.
    shown = [message for message in reversed(last.events) if message.seq <= session.last_seq]
    return _with_etag(session, shapes.conversation_out(session, shown), 200)


async def list_messages(request: Request) -> Stream:
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    return Stream(gathered(_every_message(call, session)))


async def patch_session(request: Request) -> Answer:
    body = await request.body_as(shapes.PatchSession)
    return await sessions.patch(await request.call(), request.params[0], body.parse(), _details)


async def delete_session(request: Request) -> Answer:
    return await sessions.delete(await request.call(), request.params[0], lambda _: Answer(204))


async def send_message(request: Request) -> Answer:
    body = await request.body_as(shapes.SendMessage)

    def answer(appended: list[Event]) -> Answer:
        return json_answer(shapes.sent_out(appended[0]))

    return await messages.append(await request.call(), request.params[0], [body.parse()], answer)


async def _every_message(call: Call, session: Session) -> AsyncIterator[bytes]:
    yield b'{"messages":['
    separator = b""
    with suppress(NotFound):  # deleted in the meantime: what was read of it stands
        async for page in messages.read_all(call, session):
            yield separator + b",".join(encode(shapes.message_out(message)) for message in page)
            separator = b","
    yield b"]}"


async def _every_session(call: Call, wanted: SessionFilter) -> AsyncIterator[bytes]:
    """Write the whole list, a page at a time. What is made meanwhile would stand before its beginning."""
    before, cursor = b'{"sessions":[', None
    while True:
        page = await sessions.read_page(call, wanted, limit=PAGE, cursor=cursor)
        if page.sessions:
            yield before + b",".join(encode(shapes.summary_out(session)) for session in page.sessions)
            before = b","
        cursor = _next_cursor(page)
        if cursor is None:
            break
    yield b"]}" if before == b"," else before + b"]}"


def _next_cursor(page: SessionPage) -> str | None:
    # A page before the first one, which another API's cursor can ask for, is empty.
    if not page.more_after or not page.sessions:
        return None
    return pack_cursor(position_of(page.sessions[-1], Sort.CREATED, descending=True))


def _details(session: Session) -> Answer:
    return _with_etag(session, shapes.details_out(session), 200)


def _with_etag(session: Session, body: shapes.Created | shapes.Details | shapes.Conversation, status: int) -> Answer:
    return json_answer(body, status, headers=(("etag", session.etag),))


def render(problem: Problem) -> Answer:
    status = shapes.STATUS.get(type(problem.error), 500)
    return json_answer(shapes.ErrorOut(shapes.ErrorDetail(shapes.CODES[status], problem.error.message)), status)


_ERRORS: Final = dict.fromkeys((400, 401, 403, 413, 429, 503), shapes.ErrorOut)
_FINDS: Final = _ERRORS | {404: shapes.ErrorOut}
_CHANGES: Final = _FINDS | dict.fromkeys((409, 412, 422), shapes.ErrorOut)

ROUTES: Final = (
    Route(
        method="GET",
        path="/api/sessions",
        handler=list_sessions,
        summary="List sessions, newest first: all of them, unless limit or cursor is sent",
        query=shapes.ListSessions,
        answers={200: shapes.SessionList} | _ERRORS,
    ),
    Route(
        method="POST",
        path="/api/sessions",
        handler=create_session,
        summary="Create a session",
        body=shapes.CreateSession,
        answers={201: shapes.Created} | _CHANGES,
        reads=False,
    ),
    Route(
        method="GET",
        path="/api/sessions/{id}",
        handler=get_session,
        summary="Get a session and its last messages",
        answers={200: shapes.Conversation} | _FINDS,
    ),
    Route(
        method="PATCH",
        path="/api/sessions/{id}",
        handler=patch_session,
        summary="Change a session",
        body=shapes.PatchSession,
        answers={200: shapes.Details} | _CHANGES,
    ),
    Route(
        method="DELETE",
        path="/api/sessions/{id}",
        handler=delete_session,
        summary="Delete a session with its log",
        answers={204: None} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/api/sessions/{id}/message",
        handler=send_message,
        summary="Send a message to a session",
        body=shapes.SendMessage,
        answers={200: shapes.Sent} | _CHANGES,
        reads=False,
    ),
    Route(
        method="GET",
        path="/api/sessions/{id}/messages",
        handler=list_messages,
        summary="List all messages of a session, oldest first",
        answers={200: shapes.MessageList} | _FINDS,
    ),
)

DIALECT: Final = Dialect(
    name="viben",
    title="Viben: sessions",
    prefix="/viben",
    routes=ROUTES,
    render=render,
    error=shapes.ErrorOut,
)
