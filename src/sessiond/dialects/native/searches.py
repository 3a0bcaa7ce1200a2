"""The native wire's search over messages: in a workspace, and in one session."""

from __future__ import annotations

from typing import Final

import msgspec

from sessiond.actions import search
from sessiond.actions.search import Found, Place, Wanted
from sessiond.core.errors import InvalidInput
from sessiond.core.page import pack_cursor, unpack_cursor
from sessiond.dialects.native import log_shapes, queries
from sessiond.web.answers import Answer, encode, json_answer
from sessiond.web.requests import Request

_OF_LISTS: Final = frozenset({"after", "before", "offset", "include"})


class FoundOut(log_shapes.MessageOut, frozen=True):
    session_id: str
    snippet: str
    matches: list[tuple[int, int]]


class FoundPageOut(msgspec.Struct, frozen=True, kw_only=True):
    data: list[FoundOut]
    next_cursor: str | None
    complete: bool


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """A `FoundPageOut` on its way out."""

    data: list[msgspec.Raw]
    next_cursor: str | None
    complete: bool


async def search_messages(request: Request) -> Answer:
    query = request.query_as(queries.SearchMessages, filled=queries.FILTERS)
    wanted = Wanted(query=query.q, session_id=query.session_id, agent_id=query.agent_id, user_id=query.user_id)
    return await _search(request, query, wanted)


async def search_session(request: Request) -> Answer:
    """Search in one session, for who has sent `q` with a list of its messages.

    Raises:
        InvalidInput: it came with what a search does not take.
    """
    for name, value in request.query_pairs():
        if name in _OF_LISTS or (name == "order" and value == "asc"):
            raise InvalidInput(f"{name} cannot be combined with q, which finds the newest first", field=name)
    query = request.query_as(queries.SearchSession, filled=queries.FILTERS)
    return await _search(request, query, Wanted(query=query.q, session_id=request.params[0]))


async def _search(request: Request, query: queries.SearchSession, wanted: Wanted) -> Answer:
    behind = unpack_cursor(query.cursor, Place) if query.cursor is not None else None
    page = await search.read_page(await request.call(), wanted, behind=behind, limit=query.limit)
    return json_answer(
        _Page(
            data=[_found_out(found) for found in page.found],
            next_cursor=pack_cursor(page.next) if page.next is not None else None,
            complete=page.complete,
        )
    )


def _found_out(found: Found) -> msgspec.Raw:
    """Return what was found as a `FoundOut`; the message's body is not decoded on the way."""
    message = found.message
    return msgspec.Raw(
        b'{"session_id":%b,"snippet":%b,"matches":%b,%b'
        % (
            encode(message.session_id),
            encode(found.match.snippet),
            encode(found.match.matches),
            bytes(log_shapes.messages_out([message])[0])[1:],
        )
    )
