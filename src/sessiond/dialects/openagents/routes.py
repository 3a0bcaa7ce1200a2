"""The openagents wire: parse, call, shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from sessiond.actions import audit, messages, sessions
from sessiond.actions.call import Call
from sessiond.auth.refusals import WRONG_DATABASE
from sessiond.core.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from sessiond.core.ids import parse_id
from sessiond.core.page import pack_cursor, position_of
from sessiond.core.session import Session, SessionFilter, Sort
from sessiond.dialects.openagents import shapes
from sessiond.web.answers import Answer, Stream, encode, gathered, json_answer
from sessiond.web.requests import Request
from sessiond.web.routes import Dialect, Problem, Route

PAGE_SESSIONS: Final = 100  # read together, with their messages


async def list_sessions(request: Request) -> Stream:
    call = await _call(request)
    wanted = request.query_as(shapes.ListSessions).parse()
    return Stream(gathered(_all_sessions(call, wanted)))


async def find_sessions(request: Request) -> Stream:
    call = await _call(request)
    query = request.query_as(shapes.FindSessions)
    wanted = query.parse(request.params[0])
    return Stream(gathered(_page_of_sessions(call, wanted, query)))


async def create_session(request: Request) -> Answer:
    call = await _call(request)
    session_id = _id(request)
    body = await request.body_as(shapes.CreateSession)

    def answer(created: sessions.Created) -> Answer:
        found = shapes.SessionId(created.session.id)
        if not created.new:
            return json_answer(shapes.CreatedOut("Session already exists", found))
        return json_answer(shapes.CreatedOut("Session created", found, 200))

    return await sessions.create(
        call,
        body.parse(),
        answer,
        session_id=parse_id(session_id, "id"),
        if_exists=sessions.IfExists.RETURN,
    )


async def create_session_without_id(request: Request) -> Answer:
    await _call(request)
    raise _no_id()


async def delete_session(request: Request) -> Answer:
    return await sessions.delete(await _call(request), _id(request), _deleted)


async def delete_session_without_id(request: Request) -> Answer:
    await _call(request)
    raise _no_id()


async def list_audit(request: Request) -> Answer:
    call = await _call(request)
    query = request.query_as(shapes.ListAudit)
    entries, _total = await audit.read_page(call, limit=query.limit, offset=query.offset)
    database_id_hash = call.caller.database_id_hash
    return json_answer([shapes.audit_out(entry, database_id_hash=database_id_hash) for entry in entries])


async def _call(request: Request) -> Call:
    """Return the call that this request makes, for a client that has named the right database.

    Raises:
        Unauthenticated: the client names none.
        Forbidden: it names another than its key's.
        InvalidInput: as `Request.call`.
    """
    headers = request.headers
    # The published client sends the second name, the document has the first.
    database_id_hash = headers.get("database-id-hash") or headers.get("x-database-id")
    if not database_id_hash:
        raise Unauthenticated("missing database: send the header database-id-hash")
    if database_id_hash.strip().lower() != request.caller.database_id_hash:
        request.note_refusal(WRONG_DATABASE)
        raise Forbidden("this key is for another database than database-id-hash names")
    return await request.call()


def _id(request: Request) -> str:
    session_id = request.params[0]
    if not session_id:
        raise _no_id()
    return session_id


def _no_id() -> InvalidInput:
    return InvalidInput("Invalid request, no id provided within request url", field="id")


def _deleted(_result: None) -> Answer:
    return json_answer(shapes.MessageOut("Data deleted successfully!", 200))


async def _all_sessions(call: Call, wanted: SessionFilter) -> AsyncIterator[bytes]:
    """Yield a JSON array of every session that matches, newest first."""
    cursor, begun = None, False
    while True:
        page = await sessions.read_page(call, wanted, limit=PAGE_SESSIONS, cursor=cursor)
        yield b"," if begun else b"["
        async for piece in _rows(call, page.sessions):
            yield piece
        if not page.more_after:
            break
        cursor, begun = pack_cursor(position_of(page.sessions[-1], Sort.CREATED, descending=True)), True
    yield b"]"


async def _page_of_sessions(call: Call, wanted: SessionFilter, query: shapes.FindSessions) -> AsyncIterator[bytes]:
    """Yield the JSON of a `SessionPage`."""
    sort, descending = shapes.ORDERS[query.order_by]
    page = await sessions.read_page(
        call,
        wanted,
        sort=sort,
        descending=descending,
        limit=query.limit,
        offset=query.offset,
        with_total=True,
    )
    assert page.total is not None, "it was asked for"
    whole = encode(shapes.SessionPage([], page.total, query.limit, query.offset, query.order_by, query.query or ""))
    before, _, after = whole.partition(b"]")  # the end of `rows`, which come first
    yield before
    for start in range(0, len(page.sessions), PAGE_SESSIONS):
        if start:
            yield b","
        async for piece in _rows(call, page.sessions[start : start + PAGE_SESSIONS]):
            yield piece
    yield b"]" + after


async def _rows(call: Call, rows: Sequence[Session]) -> AsyncIterator[bytes]:
    """Yield sessions with all their messages, as JSON with commas between; never more than a page of a log at once."""
    separator = b""
    async for session, pages in messages.read_each(call, rows):
        before, after = shapes.split_session(session)
        yield separator + before
        separator = b""
        # A session that is deleted while it is read must not spoil the list: what was read of it stands.
        with suppress(NotFound):
            async for page in pages:
                for event in page:
                    yield separator + shapes.message_text(event)
                    separator = b","
        yield after
        separator = b","


def render(problem: Problem) -> Answer:
    """Return an error as `{"message", "status"}`."""
    error = problem.error
    status, message = shapes.status_of(error), error.message
    if isinstance(error, NotFound) and problem.route is not None:
        status, message = 400, "Data not found!"
    return json_answer(shapes.MessageOut(message, status), status)


_ERRORS: Final = dict.fromkeys((400, 401, 403, 429, 503), shapes.MessageOut)
_CHANGES: Final = _ERRORS | dict.fromkeys((409, 412, 413), shapes.MessageOut)

ROUTES: Final = (
    Route(
        method="GET",
        path="/api/session",
        handler=list_sessions,
        summary="List all sessions, newest first",
        query=shapes.ListSessions,
        answers={200: list[shapes.SessionDTO]} | _ERRORS,
    ),
    Route(
        method="DELETE",
        path="/api/session/{id}",
        handler=delete_session,
        summary="Delete a session, and note it in the audit log",
        answers={200: shapes.MessageOut} | _CHANGES,
    ),
    Route(
        method="DELETE",
        path="/api/session",
        handler=delete_session_without_id,
        summary="Say that the id is missing",
        answers=_ERRORS,
    ),
    Route(
        method="POST",
        path="/api/exec/session/{id}",
        handler=create_session,
        summary="Create a session, or find the one that has this id",
        body=shapes.CreateSession,
        answers={200: shapes.CreatedOut} | _CHANGES,
        reads=False,
    ),
    Route(
        method="POST",
        path="/api/exec/session",
        handler=create_session_without_id,
        summary="Say that the id is missing",
        answers=_ERRORS,
    ),
    Route(
        method="GET",
        path="/api/agent/{agentId}/session",
        handler=find_sessions,
        summary="Search an agent's sessions, page by page",
        query=shapes.FindSessions,
        answers={200: shapes.SessionPage} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/api/audit",
        handler=list_audit,
        summary="Read the audit log, newest first",
        query=shapes.ListAudit,
        answers={200: list[shapes.AuditDTO]} | _ERRORS,
        content=False,
    ),
)

DIALECT: Final = Dialect(
    name="openagents",
    title="Open Agents Builder sessions, by sessiond",
    prefix="/openagents",
    routes=ROUTES,
    render=render,
    error=shapes.MessageOut,
)
