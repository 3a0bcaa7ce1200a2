"""The agentinbox wire's routes of messages, which are mails: read one, look through it once more."""

from __future__ import annotations

import asyncio

from sessiond.actions import inboxes, mails
from sessiond.core.mail import Mail
from sessiond.dialects.agentinbox import lists, message_shapes
from sessiond.web.answers import Answer, json_answer
from sessiond.web.requests import Request


async def get_message(request: Request) -> Answer:
    call = await request.call()
    full, raw = await mails.get(call, request.params[0]), await mails.get_raw(call, request.params[0])
    inbox = await inboxes.get(call, full.mail.inbox_id)

    def answer() -> Answer:
        return json_answer(message_shapes.message_whole(full.mail, full.content, raw, to=inbox.address))

    # Of a mail full of what is no UTF-8 megabytes are written: longer than the loop should be held up.
    return await asyncio.to_thread(answer)


async def extract_message(request: Request) -> Answer:
    body = await request.body_as(message_shapes.Extract, empty=message_shapes.Extract())

    def answer(mail: Mail) -> Answer:
        found = [one for one in message_shapes.extractions_out(mail) if body.type in (None, one.type)]
        return json_answer(lists.page_out(found, limit=len(found), offset=0, total=len(found), behind=None))

    return await mails.extract_again(await request.call(), request.params[0], answer)
