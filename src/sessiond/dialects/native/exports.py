"""The native wire's route of exports: a workspace, or a part of it, as a bundle."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from sessiond.actions import exports
from sessiond.core.bundle import Scope, Subject
from sessiond.core.errors import InvalidInput, Unavailable
from sessiond.core.ids import parse_id
from sessiond.dialects.native import queries
from sessiond.web.answers import Stream, gathered
from sessiond.web.requests import Request

LINES: Final = "application/x-ndjson"
# For as long as one session is read, the database keeps what others remove: a slow client must not make that for ever.
MOMENT_MAX_SECONDS: Final = 600.0


async def export(request: Request) -> Stream:
    query = request.query_as(queries.Export, filled=queries.FILTERS)
    bundle = exports.export(await request.call(), _subject(query), moment_max_seconds=MOMENT_MAX_SECONDS)
    if request.site.exports.locked():
        raise Unavailable("too many exports are under way", retry_after_seconds=10)
    return Stream(_chunks(request, bundle), LINES)


async def _chunks(request: Request, bundle: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with request.site.exports, aclosing(bundle):
        async for chunk in gathered(bundle):
            await request.site.still_allowed(request)
            yield chunk


def _subject(query: queries.Export) -> Subject:
    asked = {Scope.AGENT: query.agent_id, Scope.USER: query.user_id, Scope.SESSION: query.session_id}
    wanted = [Subject(scope, parse_id(id, f"{scope}_id")) for scope, id in asked.items() if id is not None]
    if len(wanted) > 1:
        raise InvalidInput("send one of agent_id, user_id and session_id", field="agent_id")
    return wanted[0] if wanted else Subject()
