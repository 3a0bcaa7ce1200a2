"""The native wire: parse, call, shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET

from sessiond.actions import events, keys, messages, sessions, timeline
from sessiond.actions.call import Call
from sessiond.core.errors import InvalidInput
from sessiond.core.event import MESSAGES, Event
from sessiond.core.ids import SEQ_MAX, parse_id
from sessiond.core.limits import FILTER_MAX_VALUES
from sessiond.core.metadata import check_filter
from sessiond.core.page import LogPosition, SessionPage, pack_cursor, position_of, unpack_cursor
from sessiond.core.session import Session, SessionFilter, Sort
from sessiond.dialects.native import shapes
from sessiond.web import operations
from sessiond.web.answers import Answer, Stream, encode, json_answer, pack_answer, parse_time
from sessiond.web.requests import Request
from sessiond.web.routes import Dialect, Problem, Route
from sessiond.web.sse import EVENT_STREAM, HEADERS, KEEP_ALIVE, format_event

T = TypeVar("T")


async def create_session(request: Request) -> Answer:
    body = await request.body_as(shapes.CreateSession)
    call = await request.call()
    first = shapes.parse_batch(body.messages) if body.messages else []

    def answer(created: sessions.Created) -> Answer:
        session = created.session
        location = ("location", f"/v1/sessions/{session.id}")
        return _session(session, 201 if created.new else 200, location)

    return await sessions.create(
        call,
        body.parse(),
        answer,
        session_id=parse_id(body.id, "id") if body.id is not None else call.new_id("sess_"),
        messages=first,
        if_exists=body.if_exists,
    )


async def list_sessions(request: Request) -> Answer:
    query = request.query_as(shapes.ListSessions)
    metadata = [
        check_filter(name.removeprefix("metadata."), value)
        for name, value in request.query_pairs()
        if name.startswith("metadata.")
    ]
    wanted = SessionFilter(
        agent_ids=_values(query.agent_id, "agent_id"),
        user_ids=_values(query.user_id, "user_id"),
        task_ids=_values(query.task_id, "task_id"),
        statuses=tuple(dict.fromkeys(query.status)),
        metadata=tuple(_values(metadata, "metadata")),
        created_after_us=parse_time(query.created_after, "created_after") if query.created_after else None,
        created_before_us=parse_time(query.created_before, "created_before") if query.created_before else None,
    )
    sort, descending = Sort(query.sort), query.order == "desc"
    page = await sessions.read_page(
        await request.call(),
        wanted,
        sort=sort,
        descending=descending,
        limit=query.limit,
        offset=_offset(query.offset, query.cursor),
        cursor=query.cursor,
        with_total=_wants_total(query.include),
    )
    next_cursor, prev_cursor = _cursors(page, sort, descending=descending)
    return json_answer(
        shapes.SessionPage(
            data=[shapes.session_out(session) for session in page.sessions],
            next_cursor=next_cursor,
            prev_cursor=prev_cursor,
            total=page.total if page.total is not None else UNSET,
        )
    )


async def get_session(request: Request) -> Answer:
    return _session(await sessions.get(await request.call(), request.params[0]))


async def patch_session(request: Request) -> Answer:
    body = await request.body_as(shapes.PatchSession)
    return await sessions.patch(await request.call(), request.params[0], body.parse(), _session)


async def delete_session(request: Request) -> Answer:
    return await sessions.delete(await request.call(), request.params[0], _nothing)


async def complete_session(request: Request) -> Answer:
    body = await request.body_as(shapes.End, empty=shapes.End())
    return await sessions.complete(await request.call(), request.params[0], _session, reason=body.parse())


async def fail_session(request: Request) -> Answer:
    body = await request.body_as(shapes.End, empty=shapes.End())
    return await sessions.fail(await request.call(), request.params[0], _session, reason=body.parse())


async def append_messages(request: Request) -> Answer:
    body = await request.body_as(shapes.MessagesIn)

    def answer(appended: list[Event]) -> Answer:
        out = shapes.messages_out(appended)
        return json_answer({"data": out} if body.batch else out[0], 201)

    return await messages.append(await request.call(), request.params[0], body.parse(), answer)


async def list_messages(request: Request) -> Answer:
    query = request.query_as(shapes.ListMessages)
    page = await _log_page(request, query, types=MESSAGES)
    return json_answer(
        shapes.LogPageOut(
            data=shapes.messages_out(page.events),
            next_cursor=page.next_cursor,
            prev_cursor=page.prev_cursor,
            total=page.session.message_count if page.with_total else UNSET,
        )
    )


async def get_message(request: Request) -> Answer:
    event = await messages.get(await request.call(), request.params[0], request.params[1])
    return json_answer(shapes.messages_out([event])[0])


async def list_events(request: Request) -> Answer:
    query = request.query_as(shapes.ListEvents)
    if query.type and _wants_total(query.include):
        raise InvalidInput("include=total cannot be combined with type", field="include")
    page = await _log_page(request, query, types=_values(query.type, "type"))
    return json_answer(
        shapes.LogPageOut(
            data=[shapes.event_out(event) for event in page.events],
            next_cursor=page.next_cursor,
            prev_cursor=page.prev_cursor,
            total=page.session.last_seq if page.with_total else UNSET,
        )
    )


async def stream_events(request: Request) -> Stream:
    query = request.query_as(shapes.StreamFrom)
    after = query.after
    last_event_id = request.headers.get("last-event-id")
    if last_event_id:
        # A reconnecting client says where it was; the URL still says where it once began.
        after = _seq(last_event_id, "Last-Event-ID")
    followed = events.follow(
        await request.call(),
        request.params[0],
        after=after,
        silence_seconds=request.site.keep_alive_seconds,
        still_allowed=lambda: request.site.still_allowed(request),
    )
    return Stream(_as_sse(followed), EVENT_STREAM, HEADERS, lasting=True)


async def replay_session(request: Request) -> Stream:
    call = await request.call()
    session = await sessions.get(call, request.params[0])
    return Stream(_steps(call, session))


async def me(request: Request) -> Answer:
    return json_answer(shapes.me_out(request.caller))


async def list_keys(request: Request) -> Answer:
    query = request.query_as(shapes.ListKeys)
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
    return await keys.create(call, body.parse(dialects), lambda made: json_answer(shapes.made_key_out(made), 201))


async def revoke_key(request: Request) -> Answer:
    answer = await keys.revoke(await request.call(), request.params[0], _nothing)
    request.site.authenticator.forget()
    return answer


class _LogPage(msgspec.Struct, frozen=True):
    session: Session
    events: list[Event]
    next_cursor: str | None
    prev_cursor: str | None
    with_total: bool


async def _log_page(request: Request, query: shapes.ListMessages, *, types: Sequence[str]) -> _LogPage:
    descending, after, before = query.order == "desc", query.after, query.before
    cursor = unpack_cursor(query.cursor, LogPosition) if query.cursor is not None else None
    backwards = cursor is not None and cursor.backwards
    if cursor is not None:
        if cursor.descending != descending or not 0 <= cursor.seq <= SEQ_MAX:
            raise InvalidInput("cursor was made for another order", field="cursor")
        if descending != backwards:
            before = min(cursor.seq, before) if before is not None else cursor.seq
        else:
            after = max(cursor.seq, after) if after is not None else cursor.seq
    found = await events.read_page(
        await request.call(),
        request.params[0],
        after=after,
        before=before,
        types=types,
        descending=descending != backwards,
        limit=query.limit,
        offset=_offset(query.offset, query.cursor),
    )
    page = found.events[::-1] if backwards else found.events
    before_it, after_it = (found.more, True) if backwards else (cursor is not None or query.offset > 0, found.more)
    return _LogPage(
        found.session,
        page,
        pack_cursor(LogPosition(page[-1].seq, descending, backwards=False)) if page and after_it else None,
        pack_cursor(LogPosition(page[0].seq, descending, backwards=True)) if page and before_it else None,
        _wants_total(query.include),
    )


async def _as_sse(followed: AsyncIterator[list[Event]]) -> AsyncIterator[bytes]:
    async with aclosing(followed) as pages:  # type: ignore[type-var]  # `follow` is a generator
        async for page in pages:
            if not page:
                yield KEEP_ALIVE
            else:
                yield b"".join(
                    format_event(id=event.seq, event=event.type, data=encode(shapes.event_out(event))) for event in page
                )


async def _steps(call: Call, session: Session) -> AsyncIterator[bytes]:
    separator = b'{"steps":['
    async for page in timeline.read_steps(call, session):
        for step in page:
            yield separator + encode(shapes.step_out(step))
            separator = b","
    yield (separator if separator != b"," else b"") + b"]}"


def _session(session: Session, status: int = 200, *headers: tuple[str, str]) -> Answer:
    return json_answer(shapes.session_out(session), status, headers=(("etag", session.etag), *headers))


def _nothing(_result: None) -> Answer:
    return Answer(204)


def _cursors(page: SessionPage, sort: Sort, *, descending: bool) -> tuple[str | None, str | None]:
    if not page.sessions:
        return None, None
    first, last = page.sessions[0], page.sessions[-1]
    return (
        pack_cursor(position_of(last, sort, descending=descending)) if page.more_after else None,
        pack_cursor(position_of(first, sort, descending=descending, backwards=True)) if page.more_before else None,
    )


def _values(values: list[T], field: str) -> tuple[T, ...]:
    """Return a filter's values, each once.

    Raises:
        InvalidInput: there are too many.
    """
    unique = tuple(dict.fromkeys(values))
    if len(unique) > FILTER_MAX_VALUES:
        raise InvalidInput(f"{field} takes at most {FILTER_MAX_VALUES} values", field=field)
    return unique


def _offset(offset: int, cursor: str | None) -> int:
    if offset and cursor is not None:
        raise InvalidInput("send either cursor or offset", field="offset")
    return offset


def _wants_total(include: list[str]) -> bool:
    for wanted in include:
        if wanted != "total":
            raise InvalidInput("include can only be total", field="include")
    return bool(include)


def _seq(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > SEQ_MAX:
        raise InvalidInput(f"{field} must be the id of an event of this stream, a number", field=field)
    return int(text)


def _pack_without_secret(answer: Answer) -> bytes:
    key = msgspec.json.decode(answer.body, type=shapes.KeyOut)
    return pack_answer(json_answer(msgspec.structs.replace(key, key=None), answer.status))


def render(problem: Problem) -> Answer:
    """Return an error as problem details (RFC 9457)."""
    error = problem.error
    status = shapes.STATUS.get(type(error), 500)
    title = shapes.TITLES[status]
    body = shapes.ProblemOut(
        type=f"urn:sessiond:problem:{title.lower().replace(' ', '-')}",
        title=title,
        status=status,
        detail=error.message,
        request_id=problem.request_id,
        field=error.field,
    )
    return Answer(status, encode(body), "application/problem+json")


_ERRORS: Final = dict.fromkeys((400, 401, 403, 413, 503), shapes.ProblemOut)
_FINDS: Final = _ERRORS | {404: shapes.ProblemOut}
_CHANGES: Final = _FINDS | dict.fromkeys((409, 412, 422), shapes.ProblemOut)

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions",
        handler=create_session,
        summary="Create a session",
        body=shapes.CreateSession,
        answers={201: shapes.SessionOut, 200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/v1/sessions",
        handler=list_sessions,
        summary="List sessions",
        query=shapes.ListSessions,
        answers={200: shapes.SessionPage} | _ERRORS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}",
        handler=get_session,
        summary="Get a session",
        answers={200: shapes.SessionOut} | _FINDS,
    ),
    Route(
        method="PATCH",
        path="/v1/sessions/{session_id}",
        handler=patch_session,
        summary="Change a session (JSON merge patch)",
        body=shapes.PatchSession,
        answers={200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="DELETE",
        path="/v1/sessions/{session_id}",
        handler=delete_session,
        summary="Delete a session with its log",
        answers={204: None} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/complete",
        handler=complete_session,
        summary="End a session well",
        body=shapes.End,
        body_optional=True,
        answers={200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/fail",
        handler=fail_session,
        summary="End a session badly",
        body=shapes.End,
        body_optional=True,
        answers={200: shapes.SessionOut} | _CHANGES,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/messages",
        handler=append_messages,
        summary="Append one message, or a batch: all of it, in order",
        body=shapes.MessagesIn,
        answers={201: (shapes.MessageOut, shapes.MessageList)} | _CHANGES,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/messages",
        handler=list_messages,
        summary="Read messages",
        query=shapes.ListMessages,
        answers={200: shapes.MessagePage} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/messages/{message_id}",
        handler=get_message,
        summary="Get a message",
        answers={200: shapes.MessageOut} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/events",
        handler=list_events,
        summary="Read the log",
        query=shapes.ListEvents,
        answers={200: shapes.EventPage} | _FINDS,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/stream",
        handler=stream_events,
        summary="Follow the log as Server-Sent Events",
        query=shapes.StreamFrom,
        answers={200: bytes} | _FINDS,
        content_type="text/event-stream",
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/replay",
        handler=replay_session,
        summary="Show what was done, step by step",
        answers={200: shapes.Steps} | _FINDS,
    ),
    Route(method="GET", path="/v1/me", handler=me, summary="Who am I", answers={200: shapes.Me} | _ERRORS),
    Route(
        method="GET",
        path="/v1/keys",
        handler=list_keys,
        summary="List the workspace's keys",
        query=shapes.ListKeys,
        answers={200: shapes.KeyPage} | _ERRORS,
    ),
    Route(
        method="POST",
        path="/v1/keys",
        handler=create_key,
        summary="Create a key; its secret is shown once",
        body=shapes.CreateKey,
        answers={201: shapes.KeyOut} | _CHANGES,
    ),
    Route(
        method="DELETE",
        path="/v1/keys/{key_id}",
        handler=revoke_key,
        summary="Revoke a key, within seconds everywhere",
        answers={204: None} | _FINDS,
    ),
)

DIALECT: Final = Dialect(
    name="native",
    title="sessiond",
    prefix="",
    routes=(*ROUTES, *operations.ROUTES),
    render=render,
    error=shapes.ProblemOut,
    error_content_type="application/problem+json",
)
