"""The native wire's routes of inboxes: make, list, read, remove."""

from __future__ import annotations

from msgspec import UNSET

from sessiond.actions import inboxes
from sessiond.core.inbox import InboxFilter
from sessiond.dialects.native import inbox_shapes, queries
from sessiond.web.answers import Answer, json_answer
from sessiond.web.requests import Request


async def create_inbox(request: Request) -> Answer:
    body = await request.body_as(inbox_shapes.CreateInbox, empty=inbox_shapes.CreateInbox())
    call = await request.call()
    return await inboxes.create(
        call,
        body.parse(),
        lambda inbox: json_answer(
            inbox_shapes.inbox_out(inbox, at_us=call.now_us), 201, headers=(("location", f"/v1/inboxes/{inbox.id}"),)
        ),
        domain=request.site.mail_domain,
    )


async def list_inboxes(request: Request) -> Answer:
    query = request.query_as(queries.ListInboxes, filled=queries.FILTERS)
    descending, call = query.order == "desc", await request.call()
    page = await inboxes.read_page(
        call,
        InboxFilter(session_id=query.session_id, active=query.active, at_us=call.now_us),
        descending=descending,
        limit=query.limit,
        offset=queries.check_offset(query.offset, query.cursor),
        position=queries.place_of(query.cursor, descending=descending),
        with_total=queries.wants_total(query.include),
    )
    next_cursor = None
    if page.more:
        last = page.inboxes[-1]
        next_cursor = queries.cursor_behind(last.created_at_us, last.id, descending=descending)
    return json_answer(
        inbox_shapes.InboxPageOut(
            data=[inbox_shapes.inbox_out(inbox, at_us=call.now_us) for inbox in page.inboxes],
            next_cursor=next_cursor,
            prev_cursor=None,
            total=page.total if page.total is not None else UNSET,
        )
    )


async def get_inbox(request: Request) -> Answer:
    call = await request.call()
    inbox = await inboxes.get(call, request.params[0])
    return json_answer(inbox_shapes.inbox_out(inbox, at_us=call.now_us))


async def delete_inbox(request: Request) -> Answer:
    return await inboxes.delete(await request.call(), request.params[0], lambda _: Answer(204))
