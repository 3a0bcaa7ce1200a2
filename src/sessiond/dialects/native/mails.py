"""The native wire's routes of mails: put one into an inbox, list, read, and what was found in them."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import UNSET

from sessiond.actions import mails
from sessiond.actions.call import Call
from sessiond.core.errors import InvalidInput
from sessiond.core.mail import Mail
from sessiond.dialects.native import mail_shapes, queries
from sessiond.web.answers import JSON, Answer, json_answer
from sessiond.web.requests import Request

RAW_MAIL: Final = "message/rfc822"
RAW: Final = (RAW_MAIL, "text/plain", "application/octet-stream")
"""As what a mail may come that is written already."""
# Also what nobody says anything of, and curl's word for what it was told nothing of: as on all other routes.
_WRITTEN_HERE: Final = (JSON, "", "application/x-www-form-urlencoded")
MAILS_READ: Final = 100  # at once, to find what was found in them


async def put_mail(request: Request) -> Answer:
    call = await request.call()
    raw = await _raw(request, call)

    def answer(mail: Mail) -> Answer:
        return json_answer(mail_shapes.mail_out(mail), 201, headers=(("location", f"/v1/mails/{mail.id}"),))

    return await mails.receive(call, request.params[0], raw, answer)


async def _raw(request: Request, call: Call) -> bytes:
    """Return the mail that a request brings, or the one that it describes.

    Raises:
        InvalidInput: it brings neither.
        TooLarge, Unavailable: as `Request.read`; or something in it is too long for a mail.
    """
    kind = request.content_type
    if kind in RAW:
        raw = await request.read()
        if not raw:
            raise InvalidInput("the body is empty: it must be a mail", field="body")
        return raw
    if kind not in _WRITTEN_HERE:
        raise InvalidInput(f"Content-Type must be {', '.join(RAW)} or {JSON}", field="Content-Type")
    body = await request.body_as(mail_shapes.MailIn)
    message_id = f"{call.new_id('')}@{request.site.mail_domain}"
    # A megabyte takes longer than the loop should be held up.
    return await asyncio.to_thread(body.write, at_us=call.now_us, message_id=message_id)


async def list_mails(request: Request) -> Answer:
    query = request.query_as(queries.ListMails)
    descending = query.order == "desc"
    inbox, page, more = await mails.read_page(
        await request.call(),
        request.params[0],
        descending=descending,
        limit=query.limit,
        offset=queries.check_offset(query.offset, query.cursor),
        position=queries.place_of(query.cursor, descending=descending),
    )
    return json_answer(
        mail_shapes.MailPageOut(
            data=[mail_shapes.mail_out(mail) for mail in page],
            next_cursor=_cursor_behind(page[-1], descending=descending) if more else None,
            prev_cursor=None,
            total=inbox.mail_count if queries.wants_total(query.include) else UNSET,
        )
    )


async def list_extractions(request: Request) -> Answer:
    query = request.query_as(queries.ListExtractions)
    descending, call = query.order == "desc", await request.call()
    position = queries.place_of(query.cursor, descending=descending)
    found, more = list[mail_shapes.ExtractionOut](), True
    next_cursor: str | None = None
    while more and next_cursor is None:
        _, page, more = await mails.read_page(
            call, request.params[0], descending=descending, limit=MAILS_READ, position=position
        )
        for mail in page:
            found += mail_shapes.extractions_out(mail)
            # What was found in one mail stays together: a page may have two more than were asked for.
            if len(found) >= query.limit:
                if more or mail is not page[-1]:
                    next_cursor = _cursor_behind(mail, descending=descending)
                break
        if page:
            position = (page[-1].received_at_us, page[-1].id)
    return json_answer(mail_shapes.ExtractionPageOut(data=found, next_cursor=next_cursor, prev_cursor=None))


def _cursor_behind(mail: Mail, *, descending: bool) -> str:
    return queries.cursor_behind(mail.received_at_us, mail.id, descending=descending)


async def get_mail(request: Request) -> Answer:
    return json_answer(mail_shapes.full_mail_out(await mails.get(await request.call(), request.params[0])))


async def get_raw_mail(request: Request) -> Answer:
    mail_id = request.params[0]
    raw = await mails.get_raw(await request.call(), mail_id)
    # It comes from strangers: a browser that is sent here must not show it.
    return Answer(200, raw, RAW_MAIL, (("content-disposition", f'attachment; filename="{mail_id}.eml"'),))


async def extract(request: Request) -> Answer:
    return await mails.extract_again(
        await request.call(),
        request.params[0],
        lambda mail: json_answer(mail_shapes.Extractions(mail.extractions)),
    )
