"""The native wire's routes below a session: its messages, its events, its stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Final

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from sessiond.actions import client_events, events, messages
from sessiond.core.errors import InvalidInput
from sessiond.core.event import Delta, Event
from sessiond.core.ids import SEQ_MAX
from sessiond.core.page import E, LogPage, LogPosition, pack_cursor, unpack_cursor
from sessiond.dialects.native import event_shapes, log_shapes, queries, searches
from sessiond.web.answers import Answer, Stream, encode, json_answer
from sessiond.web.requests import Request
from sessiond.web.sse import EVENT_STREAM, HEADERS, KEEP_ALIVE, format_event

DELTA: Final = "run.delta"


async def append_messages(request: Request) -> Answer:
    body = await request.body_as(log_shapes.MessagesIn)
    call, session_id, said = await request.call(), request.params[0], body.parse()
    strategy, start_run = body.multitask_strategy, body.start_run

    def answer(appended: list[Event], *headers: tuple[str, str]) -> Answer:
        out = log_shapes.messages_out(appended)
        return json_answer({"data": out} if body.batch else out[0], 201, headers=headers)

    def answer_version(made: messages.Appended) -> Answer:
        return answer(made.events, ("etag", made.session.etag))

    if body.data is None and call.if_match is None:
        return await messages.append(call, session_id, said, answer, strategy=strategy, start_run=start_run)
    return await messages.append_in_hand(
        call, session_id, said, answer_version, data=body.data, strategy=strategy, start_run=start_run
    )


async def pop_message(request: Request) -> Answer:
    def answer(popped: messages.Popped) -> Answer:
        etag = ("etag", popped.session.etag)
        if popped.message is None:
            return Answer(204, headers=(etag,))
        return json_answer(log_shapes.messages_out([popped.message])[0], headers=(etag,))

    return await messages.pop(await request.call(), request.params[0], answer)


async def list_messages(request: Request) -> Answer:
    if any(name == "q" for name, _ in request.query_pairs()):
        return await searches.search_session(request)
    query = request.query_as(queries.ListMessages, filled=queries.FILTERS)
    wanted = _stretch(query)
    found = await messages.read_page(
        await request.call(),
        request.params[0],
        after=wanted.after,
        before=wanted.before,
        descending=wanted.descending,
        limit=query.limit,
        offset=query.offset,
    )
    return _log_answer(found, wanted, log_shapes.messages_out, total=found.session.message_count)


async def get_message(request: Request) -> Answer:
    event = await messages.get(await request.call(), request.params[0], request.params[1])
    return json_answer(log_shapes.messages_out([event])[0])


async def list_events(request: Request) -> Answer:
    query = request.query_as(queries.ListEvents, filled=queries.FILTERS)
    wanted = _stretch(query)
    if query.type and wanted.with_total:
        raise InvalidInput("include=total cannot be combined with type", field="include")
    found = await events.read_page(
        await request.call(),
        request.params[0],
        after=wanted.after,
        before=wanted.before,
        types=queries.check_types(query.type),
        descending=wanted.descending,
        limit=query.limit,
        offset=query.offset,
    )
    return _log_answer(found, wanted, log_shapes.events_out, total=found.session.last_seq)


async def append_events(request: Request) -> Answer:
    body = await request.body_as(event_shapes.EventsIn)

    def answer(appended: list[Event]) -> Answer:
        out = log_shapes.events_out(appended)
        return json_answer({"data": out} if body.batch else out[0], 201)

    return await client_events.append(await request.call(), request.params[0], body.parse(), answer)


async def stream_events(request: Request) -> Stream:
    wanted = stream_from(request)
    followed = events.follow(
        await request.call(),
        request.params[0],
        after=wanted.after,
        silence_seconds=request.site.keep_alive_seconds,
        still_allowed=lambda: request.site.still_allowed(request),
        live=wanted.deltas,
    )
    return Stream(as_sse(followed), EVENT_STREAM, HEADERS, lasting=True)


def stream_from(request: Request) -> queries.StreamFrom:
    """Return where a stream is to begin, and what is wanted of it.

    Raises:
        InvalidInput: the place is not a number.
    """
    query = request.query_as(queries.StreamFrom)
    last_event_id = request.headers.get("last-event-id")
    if not last_event_id:
        return query
    # A reconnecting client says where it was; the URL still says where it once began.
    return replace(query, after=queries.parse_seq(last_event_id, "Last-Event-ID"))


class _Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a log to read, and how the page it makes continues."""

    after: int | None
    before: int | None
    descending: bool
    """As it is read; a page that is read backwards is turned round."""
    backwards: bool
    started: bool
    """Whether there is a page before it."""
    with_total: bool


def _stretch(query: queries.ListLog) -> _Stretch:
    """Return what a query asks for.

    Raises:
        InvalidInput: the cursor is not of this list and order, or comes with an offset.
    """
    descending, after, before = query.order == "desc", query.after, query.before
    cursor = unpack_cursor(query.cursor, LogPosition) if query.cursor is not None else None
    backwards = cursor is not None and cursor.backwards
    if cursor is not None:
        queries.check_offset(query.offset, query.cursor)
        if cursor.descending != descending or not 0 <= cursor.seq <= SEQ_MAX:
            raise InvalidInput("cursor was made for another order", field="cursor")
        if descending != backwards:
            before = min(cursor.seq, before) if before is not None else cursor.seq
        else:
            after = max(cursor.seq, after) if after is not None else cursor.seq
    return _Stretch(
        after=after,
        before=before,
        descending=descending != backwards,
        backwards=backwards,
        started=cursor is not None or query.offset > 0,
        with_total=queries.wants_total(query.include),
    )


def _log_answer(
    found: LogPage[E], wanted: _Stretch, out: Callable[[list[E]], Sequence[msgspec.Raw]], *, total: int
) -> Answer:
    page = found.events[::-1] if wanted.backwards else found.events
    before_it, after_it = (found.more, True) if wanted.backwards else (wanted.started, found.more)
    descending = wanted.descending != wanted.backwards

    def cursor(seq: int, *, backwards: bool) -> str:
        return pack_cursor(LogPosition(seq, descending, backwards))

    # Nothing there: what is before it are the last of all.
    first = page[0].seq if page else 0 if descending else SEQ_MAX
    return json_answer(
        log_shapes.LogPageOut(
            data=out(page),
            next_cursor=cursor(page[-1].seq, backwards=False) if page and after_it else None,
            prev_cursor=cursor(first, backwards=True) if before_it else None,
            total=total if wanted.with_total else UNSET,
        )
    )


async def as_sse(followed: AsyncIterator[list[Event | Delta]]) -> AsyncIterator[bytes]:
    async with aclosing(followed) as pages:  # type: ignore[type-var]  # `follow` is a generator
        async for page in pages:
            if not page:
                yield KEEP_ALIVE
            else:
                yield b"".join(map(_format, page))


def _format(told: Event | Delta) -> bytes:
    if isinstance(told, Delta):
        return format_event(id=None, event=DELTA, data=encode(told))
    return format_event(id=told.seq, event=told.type, data=encode(log_shapes.event_out(told)))
