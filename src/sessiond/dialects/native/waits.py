"""The native wire's routes of waits: make, list, wait for, cancel, complete; and the URL that completes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from sessiond.actions import waits
from sessiond.actions.call import Call
from sessiond.core.caller import Scope
from sessiond.core.errors import NotFound, TooLarge, Unauthenticated, Unavailable
from sessiond.core.wait import Wait, WaitFilter
from sessiond.dialects.native import queries, shapes, wait_shapes
from sessiond.web.answers import Answer, encode, json_answer, pack_answer
from sessiond.web.requests import Request

HOOKS: Final = "/v1/hooks/"
HOOK_MAX_BYTES: Final = 64 * 1024  # anybody may call who has the URL
CONTENT_TYPE_MAX_CHARS: Final = 200


async def create_wait(request: Request) -> Answer:
    body = await request.body_as(wait_shapes.CreateWait)
    wait_seconds = request.query_as(queries.WaitFor).wait
    call = await request.call()
    if call.retry is not None:
        # What is kept for a retry has no URL in it: it is a secret, and secrets are stored nowhere.
        call.retry = replace(call.retry, pack=_pack_without_url)

    def answer(made: waits.Made) -> Answer:
        url = f"{request.origin}{HOOKS}{made.hook}" if made.hook is not None else UNSET
        shown = wait_shapes.wait_out(_visible(call, made.wait), hook_url=url)
        return json_answer(shown, 201, headers=(("location", f"/v1/waits/{made.wait.id}"),))

    made = await waits.create(call, body.parse(at_us=call.now_us), answer)
    return await _waited_for(request, call, made, wait_seconds)


async def list_waits(request: Request) -> Answer:
    query = request.query_as(queries.ListWaits, filled=queries.FILTERS)
    descending = query.order == "desc"
    page = await waits.read_page(
        await request.call(),
        WaitFilter(session_id=query.session_id, inbox_id=query.inbox_id, status=query.status, type=query.type),
        descending=descending,
        limit=query.limit,
        offset=queries.check_offset(query.offset, query.cursor),
        position=queries.place_of(query.cursor, descending=descending),
        with_total=queries.wants_total(query.include),
    )
    next_cursor = None
    if page.more:
        last = page.waits[-1]
        next_cursor = queries.cursor_behind(last.created_at_us, last.id, descending=descending)
    return json_answer(
        wait_shapes.WaitPageOut(
            data=[wait_shapes.wait_out(wait) for wait in page.waits],
            next_cursor=next_cursor,
            prev_cursor=None,
            total=page.total if page.total is not None else UNSET,
        )
    )


async def get_wait(request: Request) -> Answer:
    wait_seconds, wait_id = request.query_as(queries.WaitFor).wait, request.params[0]
    call = await request.call()
    if not wait_seconds:
        return json_answer(wait_shapes.wait_out(await waits.get(call, wait_id)))
    try:
        wait = await _wait(request, call, wait_id, wait_seconds)
    except Unavailable:
        # The server stops, which is no reason to say no: whoever asks again is answered by another.
        wait = await waits.get(call, wait_id)
    return json_answer(wait_shapes.wait_out(wait))


async def cancel_wait(request: Request) -> Answer:
    body = await request.body_as(shapes.End, empty=shapes.End())
    call = await request.call()
    return await waits.cancel(call, request.params[0], _changed(call), reason=body.parse())


async def complete_wait(request: Request) -> Answer:
    body = await request.body_as(wait_shapes.CompleteWait, empty=wait_shapes.CompleteWait())
    call = await request.call()
    return await waits.complete(call, request.params[0], body.result or {}, _changed(call))


async def call_hook(request: Request) -> Answer:
    body = await request.read()
    if len(body) > HOOK_MAX_BYTES:
        raise TooLarge(f"the body is larger than {HOOK_MAX_BYTES} bytes", field="body")
    content_type = request.headers.get("content-type")
    result = wait_shapes.hook_result(body, content_type[:CONTENT_TYPE_MAX_CHARS] if content_type else None)
    await waits.call_hook(request.site.engine, request.params[0], result)
    # Nothing more: whoever has the URL need not know whose it is.
    return json_answer(wait_shapes.HookCalled("completed"), 202)


def _visible(call: Call, wait: Wait) -> Wait:
    """Return a wait as the caller may see it: a key that may not read is not told what is waited for, or came."""
    if Scope.SESSIONS_READ in call.caller.scopes:
        return wait
    return replace(wait, terms=b"{}", result=None, reason=None)


def _changed(call: Call) -> Callable[[Wait], Answer]:
    return lambda wait: json_answer(wait_shapes.wait_out(_visible(call, wait)))


class _Made(msgspec.Struct, frozen=True):
    id: str
    hook_url: str | UnsetType = UNSET


_made: Final = msgspec.json.Decoder(_Made)


def _pack_without_url(answer: Answer) -> bytes:
    wait = msgspec.json.decode(answer.body, type=wait_shapes.WaitOut)
    return pack_answer(replace(answer, body=encode(replace(wait, hook_url=UNSET))))


async def _waited_for(request: Request, call: Call, answer: Answer, wait_seconds: float) -> Answer:
    """Return an answer that shows a new wait, also one that was kept, with the wait as it is after `wait_seconds`.

    A key that may not read gets it at once.
    """
    if not wait_seconds or Scope.SESSIONS_READ not in call.caller.scopes:
        return answer
    made = _made.decode(answer.body)
    try:
        wait = await _wait(request, call, made.id, wait_seconds)
    except (NotFound, Unauthenticated, Unavailable):
        return answer  # it is made: only how it went on cannot be said
    return replace(answer, body=encode(wait_shapes.wait_out(wait, hook_url=made.hook_url)))


async def _wait(request: Request, call: Call, wait_id: str, timeout_seconds: float) -> Wait:
    """Return a wait once it has ended, or as it is after a time; for as long as the client is there and may know.

    Raises:
        NotFound: there is none that the caller may see.
        Unauthenticated: the key is not good any more.
        Unavailable: the client or the server goes, or the database is away.
    """

    async def still_allowed() -> None:
        if await request.hung_up():
            raise Unavailable("the client went away")
        await request.site.still_allowed(request)

    return await waits.wait(call, wait_id, timeout_seconds=timeout_seconds, still_allowed=still_allowed)
