"""The native wire's routes of keys: who am I, and the keys of a workspace."""

from __future__ import annotations

import msgspec

from sessiond.actions import keys
from sessiond.core.page import pack_cursor, unpack_cursor
from sessiond.dialects.native import queries, shapes
from sessiond.web.answers import Answer, json_answer, pack_answer
from sessiond.web.requests import Request


async def me(request: Request) -> Answer:
    return json_answer(shapes.me_out(request.caller))


async def list_keys(request: Request) -> Answer:
    query = request.query_as(queries.Listing)
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
    answer = await keys.revoke(await request.call(), request.params[0], lambda _: Answer(204))
    request.site.authenticator.forget()
    return answer


def _pack_without_secret(answer: Answer) -> bytes:
    key = msgspec.json.decode(answer.body, type=shapes.KeyOut)
    return pack_answer(json_answer(msgspec.structs.replace(key, key=None), answer.status))
