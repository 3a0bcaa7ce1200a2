"""The native wire's routes of sessions: parse, call, shape."""

from __future__ import annotations

from urllib.parse import quote

from msgspec import UNSET

from sessiond.actions import erasures, inboxes, sessions
from sessiond.core.caller import Scope
from sessiond.core.ids import parse_id
from sessiond.core.metadata import check_filter
from sessiond.core.page import SessionPage, end_of, pack_cursor, position_of
from sessiond.core.session import Session, SessionFilter, Sort
from sessiond.dialects.native import log_shapes, queries, shapes
from sessiond.web.answers import Answer, json_answer, parse_time
from sessiond.web.requests import Request


async def create_session(request: Request) -> Answer:
    body = await request.body_as(shapes.CreateSession)
    call = await request.call()
    first = log_shapes.parse_batch(body.messages) if body.messages else []

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
    included = request.query_as(queries.GetSession).parse()
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    if not included:
        return _session(session)
    of_inboxes, of_waits = await inboxes.read_ids(call, session.id)
    detail = shapes.session_detail(
        session,
        inboxes=of_inboxes if "inboxes" in included else UNSET,
        waits=of_waits if "waits" in included else UNSET,
    )
    return json_answer(detail, headers=(("etag", session.etag),))


async def patch_session(request: Request) -> Answer:
    body = await request.body_as(shapes.PatchSession)
    return await sessions.patch(await request.call(), request.params[0], body.parse(), _session)


async def delete_session(request: Request) -> Answer:
    if request.query_as(queries.DeleteSession).erase:
        return json_answer(await erasures.erase_session(await request.call(), request.params[0]))
    return await sessions.delete(await request.call(), request.params[0], _nothing)


async def complete_session(request: Request) -> Answer:
    body = await request.body_as(shapes.End, empty=shapes.End())
    return await sessions.complete(await request.call(), request.params[0], _session, reason=body.parse())


async def fail_session(request: Request) -> Answer:
    body = await request.body_as(shapes.End, empty=shapes.End())
    return await sessions.fail(await request.call(), request.params[0], _session, reason=body.parse())


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
