"""The native wire: parse, call, shape."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from sessiond.actions import keys, sessions
from sessiond.core.caller import Scope
from sessiond.core.ids import parse_id
from sessiond.core.metadata import check_filter
from sessiond.core.page import SessionPage, end_of, pack_cursor, position_of, unpack_cursor
from sessiond.core.session import Session, SessionFilter, Sort
from sessiond.dialects.native import logs, queries, shapes
from sessiond.web import operations
from sessiond.web.answers import Answer, encode, json_answer, pack_answer, parse_time
from sessiond.web.requests import Request
from sessiond.web.routes import Dialect, Problem, Route


async def create_session(request: Request) -> Answer:
    body = await request.body_as(shapes.CreateSession)
    call = await request.call()
    first = shapes.parse_batch(body.messages) if body.messages else []

    def answer(created: sessions.Created) -> Answer:
        session = created.session
        if not created.new:
            # Its id was the caller's to choose, what it holds is not theirs to see for that.
            call.caller.require(Scope.SESSIONS_READ)
        location = ("location", f"/v1/sessions/{quote(session.id, safe='')}")
        return _session(session, 201 if created.new else 200, location)

    return await sessions.create(
        call,
        body.parse(),
        answer,
        session_id=parse_id(body.id, "id") if body.id is not None else call.new_id("sess_"),
        messages=first,
        if_exists=body.if_exists,
    )


async def list_sessions(request: Request) -> Answer:
    query = request.query_as(queries.ListSessions, filled=queries.FILTERS)
    metadata = [
        check_filter(name.removeprefix("metadata."), value)
        for name, value in request.query_pairs()
        if name.startswith("metadata.")
    ]
    wanted = SessionFilter(
        agent_ids=queries.check_values(query.agent_id, "agent_id"),
        user_ids=queries.check_values(query.user_id, "user_id"),
        task_ids=queries.check_values(query.task_id, "task_id"),
        statuses=tuple(dict.fromkeys(query.status)),
        metadata=tuple(queries.check_values(metadata, "metadata")),
        created_after_us=parse_time(query.created_after, "created_after") if query.created_after else None,
        created_before_us=parse_time(query.created_before, "created_before") if query.created_before else None,
    )
    sort, descending = Sort(query.sort), query.order == "desc"
    page = await sessions.read_page(
        await request.call(),
        wanted,
        sort=sort,
        descending=descending,
        limit=query.limit,
        offset=queries.check_offset(query.offset, query.cursor),
        cursor=query.cursor,
        with_total=queries.wants_total(query.include),
    )
    next_cursor, prev_cursor = _cursors(page, sort, descending=descending)
    return json_answer(
        shapes.SessionPage(
            data=[shapes.session_out(session) for session in page.sessions],
            next_cursor=next_cursor,
            prev_cursor=prev_cursor,
            total=page.total if page.total is not None else UNSET,
        )
    )


async def get_session(request: Request) -> Answer:
    return _session(await sessions.get(await request.call(), request.params[0]))


async def patch_session(request: Request) -> Answer:
    body = await request.body_as(shapes.PatchSession)
    return await sessions.patch(await request.call(), request.params[0], body.parse(), _session)


async def delete_session(request: Request) -> Answer:
    return await sessions.delete(await request.call(), request.params[0], _nothing)


async def complete_session(request: Request) -> Answer:
    body = await request.body_as(shapes.End, empty=shapes.End())
    return await sessions.complete(await request.call(), request.params[0], _session, reason=body.parse())


async def fail_session(request: Request) -> Answer:
    body = await request.body_as(shapes.End, empty=shapes.End())
    return await sessions.fail(await request.call(), request.params[0], _session, reason=body.parse())


async def me(request: Request) -> Answer:
    return json_answer(shapes.me_out(request.caller))


async def list_keys(request: Request) -> Answer:
    query = request.query_as(queries.ListKeys)
    after = unpack_cursor(query.cursor, tuple[int, str]) if query.cursor is not None else (-1, "")
    found = await keys.read_page(await request.call(), after=after, limit=query.limit + 1)
    page = found[: query.limit]
    more = len(found) > query.limit
    return json_answer(
        shapes.KeyPage(
            data=[shapes.key_out(key) for key in page],
            next_cursor=pack_cursor((page[-1].created_at_us, page[-1].id)) if more else None,
            prev_cursor=None,
        )
    )


async def create_key(request: Request) -> Answer:
    body = await request.body_as(shapes.CreateKey)
    call = await request.call()
    if call.retry is not None:
        # What is kept for a retry has no secret in it: secrets are stored nowhere.
        call.retry = msgspec.structs.replace(call.retry, pack=_pack_without_secret)
    dialects = frozenset(dialect.name for dialect in request.site.table.dialects)
    return await keys.create(
        call, body.parse(dialects, at_us=call.now_us), lambda made: json_answer(shapes.made_key_out(made), 201)
    )


async def revoke_key(request: Request) -> Answer:
    answer = await keys.revoke(await request.call(), request.params[0], _nothing)
    request.site.authenticator.forget()
    return answer


def _session(session: Session, status: int = 200, *headers: tuple[str, str]) -> Answer:
    return json_answer(shapes.session_out(session), status, headers=(("etag", session.etag), *headers))


def _nothing(_result: None) -> Answer:
    return Answer(204)


def _cursors(page: SessionPage, sort: Sort, *, descending: bool) -> tuple[str | None, str | None]:
    if not page.sessions:
        # Nothing there: what is before it are the last of all.
        end = end_of(sort, descending=descending)
        return None, pack_cursor(end) if page.more_before else None
    first, last = page.sessions[0], page.sessions[-1]
    return (
        pack_cursor(position_of(last, sort, descending=descending)) if page.more_after else None,
        pack_cursor(position_of(first, sort, descending=descending, backwards=True)) if page.more_before else None,
    )


def _pack_without_secret(answer: Answer) -> bytes:
    key = msgspec.json.decode(answer.body, type=shapes.KeyOut)
    return pack_answer(json_answer(msgspec.structs.replace(key, key=None), answer.status))


def render(problem: Problem) -> Answer:
    """Return an error as problem details (RFC 9457)."""
    error = problem.error
    status = shapes.STATUS.get(type(error), 500)
    title = shapes.TITLES[status]
    body = shapes.ProblemOut(
        type=f"urn:sessiond:problem:{title.lower().replace(' ', '-')}",
        title=title,
        status=status,
        detail=error.message,
        request_id=problem.request_id,
        field=error.field,
    )
    return Answer(status, encode(body), "application/problem+json")


_ERRORS: Final = dict.fromkeys((400, 401, 403, 413, 503), shapes.ProblemOut)
_FINDS: Final = _ERRORS | {404: shapes.ProblemOut}
_CHANGES: Final = _FINDS | dict.fromkeys((409, 412, 422), shapes.ProblemOut)

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions",
        handler=create_session,
        summary="Create a session",
        body=shapes.CreateSession,
        answers={201: shapes.SessionOut, 200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/v1/sessions",
        handler=list_sessions,
        summary="List sessions",
        description="Any number of parameters `metadata.<key>` filter by a value in the metadata: a string, a number or"
        " a boolean, as JSON writes it but without quotation marks.",
        query=queries.ListSessions,
        answers={200: shapes.SessionPage} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}",
        handler=get_session,
        summary="Get a session",
        answers={200: shapes.SessionOut} | _FINDS,
    ),
    Route(
        method="PATCH",
        path="/v1/sessions/{session_id}",
        handler=patch_session,
        summary="Change a session (JSON merge patch)",
        body=shapes.PatchSession,
        answers={200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="DELETE",
        path="/v1/sessions/{session_id}",
        handler=delete_session,
        summary="Delete a session with its log",
        answers={204: None} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/complete",
        handler=complete_session,
        summary="End a session well",
        body=shapes.End,
        body_optional=True,
        answers={200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/fail",
        handler=fail_session,
        summary="End a session badly",
        body=shapes.End,
        body_optional=True,
        answers={200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/messages",
        handler=logs.append_messages,
        summary="Append one message, or a batch: all of it, in order",
        body=shapes.MessagesIn,
        answers={201: (shapes.MessageOut, shapes.MessageList)} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/messages",
        handler=logs.list_messages,
        summary="Read messages",
        query=queries.ListMessages,
        answers={200: shapes.MessagePage} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/messages/{message_id}",
        handler=logs.get_message,
        summary="Get a message",
        answers={200: shapes.MessageOut} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/events",
        handler=logs.list_events,
        summary="Read the log",
        query=queries.ListEvents,
        answers={200: shapes.EventPage} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/stream",
        handler=logs.stream_events,
        summary="Follow the log as Server-Sent Events",
        query=queries.StreamFrom,
        answers={200: bytes} | _FINDS,
        content_type="text/event-stream",
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/replay",
        handler=logs.replay_session,
        summary="Show what was done, step by step",
        answers={200: shapes.Steps, 422: shapes.ProblemOut} | _FINDS,
    ),
    Route(method="GET", path="/v1/me", handler=me, summary="Who am I", answers={200: shapes.Me} | _ERRORS),
    Route(
        method="GET",
        path="/v1/keys",
        handler=list_keys,
        summary="List the workspace's keys",
        query=queries.ListKeys,
        answers={200: shapes.KeyPage} | _ERRORS,
    ),
    Route(
        method="POST",
        path="/v1/keys",
        handler=create_key,
        summary="Create a key; its secret is shown once",
        body=shapes.CreateKey,
        answers={201: shapes.KeyOut} | _CHANGES,
    ),
    Route(
        method="DELETE",
        path="/v1/keys/{key_id}",
        handler=revoke_key,
        summary="Revoke a key, within seconds everywhere",
        answers={204: None} | _FINDS,
    ),
)

DIALECT: Final = Dialect(
    name="native",
    title="sessiond",
    prefix="",
    routes=(*ROUTES, *operations.ROUTES),
    render=render,
    error=shapes.ProblemOut,
    error_content_type="application/problem+json",
)
