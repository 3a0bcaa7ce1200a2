"""The agentinbox wire's routes of sessions: create, list, get, complete, tell what happened and what was done."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sessiond.actions import inboxes, sessions, timeline
from sessiond.actions.call import Call
from sessiond.core.page import pack_cursor, position_of
from sessiond.core.session import Session, Sort
from sessiond.dialects.agentinbox import detail, lists, log_shapes, shapes
from sessiond.dialects.agentinbox.lists import ListOut, Pagination
from sessiond.web.answers import Answer, Stream, encode, gathered, json_answer
from sessiond.web.requests import Request


async def create_session(request: Request) -> Answer:
    body = await request.body_as(shapes.CreateSession)
    call = await request.call()
    return await sessions.create(
        call,
        body.parse(at_us=call.now_us),
        lambda created: json_answer(shapes.session_out(created.session, inboxes=[], waits=[]), 201),
        session_id=call.new_id("sess_"),
        given=body.given(),
    )


async def list_sessions(request: Request) -> Answer:
    query = request.query_as(shapes.ListSessions, filled=lists.FILTERS)
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
        ListOut(
            data=[shapes.session_summary(session) for session in page.sessions],
            pagination=Pagination(query.limit, query.offset, page.total),
            has_more=next_cursor is not None,
            next_cursor=next_cursor,
        )
    )


async def get_session(request: Request) -> Answer | Stream:
    included = request.query_as(shapes.GetSession).parse()
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    of_inboxes, of_waits = await inboxes.read_ids(call, session.id)
    if not included:
        return json_answer(shapes.session_out(session, inboxes=of_inboxes, waits=of_waits))
    whole = shapes.session_whole(session, inboxes=of_inboxes, waits=of_waits)
    return Stream(gathered(detail.read(call, session, whole, included)))


async def complete_session(request: Request) -> Answer:
    return await _complete(request)


async def complete_session_in_short(request: Request) -> Answer:
    return await _complete(request)


async def get_timeline(request: Request) -> Stream:
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    return Stream(lists.joined(b'{"events":[', detail.read_events(call, session), b"]}"))


async def replay_session(request: Request) -> Stream:
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    await call.claim()
    return Stream(lists.joined(b'{"steps":[', _steps(call, session), b"]}"))


async def _complete(request: Request) -> Answer:
    return await sessions.complete(
        await request.call(),
        request.params[0],
        lambda session: json_answer(shapes.completed_out(session)),
    )


async def _steps(call: Call, session: Session) -> AsyncIterator[list[bytes]]:
    index = 0
    async for page in timeline.read_steps(call, session):
        shown = [step for step in page if step.of_client or step.action != log_shapes.CREATION]
        yield [encode(log_shapes.step_out(step, index=index + n)) for n, step in enumerate(shown)]
        index += len(shown)
