"""The native wire's routes of erasures: forget somebody, and read the receipts of it."""

from __future__ import annotations

from sessiond.actions import erasures
from sessiond.core.page import pack_cursor, unpack_cursor
from sessiond.dialects.native import erasure_shapes, queries
from sessiond.web.answers import Answer, json_answer
from sessiond.web.requests import Request


async def erase_user(request: Request) -> Answer:
    return json_answer(await erasures.erase_user(await request.call(), request.params[0]))


async def list_erasures(request: Request) -> Answer:
    query = request.query_as(queries.Listing)
    position = unpack_cursor(query.cursor, tuple[int, str]) if query.cursor is not None else None
    found, following = await erasures.read_page(await request.call(), limit=query.limit, position=position)
    return json_answer(
        erasure_shapes.ErasurePage(
            data=found, next_cursor=pack_cursor(following) if following is not None else None, prev_cursor=None
        )
    )


async def get_erasure(request: Request) -> Answer:
    return json_answer(await erasures.get(await request.call(), request.params[0]))
