"""The agentinbox wire's routes of inboxes and of what is in one: messages and extractions."""

from __future__ import annotations

from msgspec.structs import replace

from sessiond.actions import inboxes, mails
from sessiond.core.limits import PAGE_MAX, PAGE_MAX_BYTES
from sessiond.dialects.agentinbox import inbox_shapes, lists, message_shapes
from sessiond.dialects.agentinbox.message_shapes import ExtractionOut
from sessiond.web.answers import Answer, encode, json_answer
from sessiond.web.requests import Request


async def create_inbox(request: Request) -> Answer:
    body = await request.body_as(inbox_shapes.CreateInbox, empty=inbox_shapes.CreateInbox())
    given = body.parse()
    ttl_seconds = given.ttl_seconds if given.ttl_seconds is not None else inbox_shapes.TTL_DEFAULT_SECONDS
    call = await request.call()
    return await inboxes.create(
        call,
        replace(given, ttl_seconds=ttl_seconds),
        lambda inbox: json_answer(inbox_shapes.inbox_out(inbox, at_us=call.now_us), 201),
        domain=request.site.mail_domain,
        given=given,
    )


async def list_inboxes(request: Request) -> Answer:
    query = request.query_as(inbox_shapes.ListInboxes, filled=lists.FILTERS)
    call = await request.call()
    page = await inboxes.read_page(
        call,
        query.parse(at_us=call.now_us),
        limit=query.limit,
        offset=query.offset,
        position=lists.position_in(query.cursor, tuple[int, str], offset=query.offset),
        with_total=True,
    )
    assert page.total is not None, "it was asked for"
    return json_answer(
        lists.page_out(
            [inbox_shapes.inbox_out(inbox, at_us=call.now_us) for inbox in page.inboxes],
            limit=query.limit,
            offset=query.offset,
            total=page.total,
            behind=(page.inboxes[-1].created_at_us, page.inboxes[-1].id) if page.more else None,
        )
    )


async def get_inbox(request: Request) -> Answer:
    call = await request.call()
    return json_answer(inbox_shapes.inbox_out(await inboxes.get(call, request.params[0]), at_us=call.now_us))


async def delete_inbox(request: Request) -> Answer:
    return await inboxes.delete(
        await request.call(),
        request.params[0],
        lambda inbox: json_answer(inbox_shapes.DeletedInbox(id=inbox.id)),
    )


async def list_messages(request: Request) -> Answer:
    query = request.query_as(message_shapes.ListMessages)
    inbox, found, more = await mails.read_page(
        await request.call(),
        request.params[0],
        limit=query.limit,
        offset=query.offset,
        position=lists.position_in(query.cursor, tuple[int, str], offset=query.offset),
    )
    return json_answer(
        lists.page_out(
            [message_shapes.message_out(mail, to=inbox.address) for mail in found],
            limit=query.limit,
            offset=query.offset,
            total=inbox.mail_count,
            behind=(found[-1].received_at_us, found[-1].id) if more else None,
        )
    )


async def list_extractions(request: Request) -> Answer:
    """Answer what was found in an inbox's mails: those of the last one first, of one mail the surest first.

    To say how many there are, all mails are looked at: an inbox holds no more than `core.inbox.MAILS_MAX`.
    """
    query = request.query_as(message_shapes.ListExtractions, filled=lists.FILTERS)
    behind = lists.position_in(query.cursor, tuple[int, str, int], offset=query.offset)
    call = await request.call()
    shown, total, size, last = list[ExtractionOut](), 0, 0, behind
    position, more, full = None, True, False
    while more:
        _, found, more = await mails.read_page(call, request.params[0], limit=PAGE_MAX, position=position)
        for mail in found:
            for number, extraction in enumerate(message_shapes.extractions_out(mail)):
                if not query.wants(extraction):
                    continue
                total += 1
                here = (mail.received_at_us, mail.id, number)
                if total <= query.offset or not message_shapes.follows(here, behind):
                    continue
                size += len(encode(extraction))
                full = full or len(shown) == query.limit or (bool(shown) and size > PAGE_MAX_BYTES)
                if not full:
                    shown.append(extraction)
                    last = here
        position = (found[-1].received_at_us, found[-1].id) if more else None
    return json_answer(
        lists.page_out(shown, limit=query.limit, offset=query.offset, total=total, behind=last if full else None)
    )
