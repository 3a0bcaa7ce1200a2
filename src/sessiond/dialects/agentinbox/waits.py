"""The agentinbox wire's routes of waits: make, list, get, wait for, cancel."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import waits
from sessiond.actions.call import Call
from sessiond.core.caller import Scope
from sessiond.core.errors import NotFound, Unauthenticated, Unavailable
from sessiond.core.wait import Wait
from sessiond.dialects.agentinbox import lists, wait_shapes
from sessiond.web.answers import Answer, encode, json_answer
from sessiond.web.requests import Request


async def create_wait(request: Request) -> Answer:
    body = await request.body_as(wait_shapes.CreateWait)
    hold_seconds = request.query_as(wait_shapes.Hold).wait
    given = body.parse()
    timeout_seconds = (
        given.timeout_seconds if given.timeout_seconds is not None else wait_shapes.TIMEOUT_DEFAULT_SECONDS
    )
    call = await request.call()
    answer = await waits.create(
        call,
        replace(given, timeout_seconds=timeout_seconds),
        lambda made: json_answer(_shown(call, made.wait), 201),
        given=given,
    )
    if not hold_seconds or Scope.SESSIONS_READ not in call.caller.scopes:
        return answer
    try:
        # What was answered may have been kept: it is the same wait, as it is now.
        wait = await _wait(request, call, _named.decode(answer.body).id, hold_seconds)
    except (NotFound, Unauthenticated, Unavailable):
        return answer  # what was asked for is done: only how it went on cannot be said
    return replace(answer, body=encode(wait_shapes.wait_out(wait)))


async def list_waits(request: Request) -> Answer:
    query = request.query_as(wait_shapes.ListWaits, filled=lists.FILTERS)
    page = await waits.read_page(
        await request.call(),
        query.parse(),
        limit=query.limit,
        offset=query.offset,
        position=lists.position_in(query.cursor, tuple[int, str], offset=query.offset),
        with_total=True,
    )
    assert page.total is not None, "it was asked for"
    return json_answer(
        lists.page_out(
            [wait_shapes.wait_out(wait) for wait in page.waits],
            limit=query.limit,
            offset=query.offset,
            total=page.total,
            behind=(page.waits[-1].created_at_us, page.waits[-1].id) if page.more else None,
        )
    )


async def get_wait(request: Request) -> Answer:
    hold_seconds = request.query_as(wait_shapes.Hold).wait
    wait = await _wait(request, await request.call(), request.params[0], hold_seconds)
    return json_answer(wait_shapes.wait_out(wait))


async def cancel_wait(request: Request) -> Answer:
    return await _cancel(request)


async def delete_wait(request: Request) -> Answer:
    return await _cancel(request)


async def _cancel(request: Request) -> Answer:
    call = await request.call()
    return await waits.cancel(call, request.params[0], lambda wait: json_answer(_shown(call, wait)))


async def _wait(request: Request, call: Call, wait_id: str, seconds: float) -> Wait:
    return await waits.wait(
        call, wait_id, timeout_seconds=seconds, still_allowed=lambda: request.site.still_allowed(request)
    )


def _shown(call: Call, wait: Wait) -> wait_shapes.WaitOut:
    """Return a wait as the caller may see it: a key that may not read is not told what came."""
    return wait_shapes.wait_out(wait if Scope.SESSIONS_READ in call.caller.scopes else replace(wait, result=None))


class _Named(msgspec.Struct, frozen=True):
    id: str


_named: Final = msgspec.json.Decoder(_Named)
