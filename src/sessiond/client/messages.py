"""Messages: appended to a session, read, searched, taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sessiond.client.call import (
    Call,
    Page,
    Response,
    body_of,
    headers_of,
    include_of,
    path_of,
    query_of,
    reads,
)
from sessiond.client.resource import Async, Iterated, Method, Sync

Role = Literal["user", "assistant", "system", "developer", "tool"]
Content = str | Sequence[Mapping[str, Any]]
"""A text, or a list of parts, which are objects."""


class Message(Struct, frozen=True, kw_only=True):
    """Something that was said in a session."""

    id: str
    seq: int
    """Its place in the session's log."""
    role: str
    content: str | list[dict[str, Any]]
    run_id: str | None = None
    """The run that it started, or that said it."""
    metadata: dict[str, Any] = {}
    created_at: datetime
    etag: str | None = None
    """The session's version with it, for `if_match`: of an append with `if_match` or `data`, None elsewhere."""


class Found(Message, frozen=True, kw_only=True):
    """A message that a search has found."""

    session_id: str
    snippet: str
    """A piece of its text with the first match."""
    matches: list[tuple[int, int]]
    """Where in the snippet: from one character to before another."""


class FoundPage(Page[Found], frozen=True, kw_only=True):
    """A part of what a search finds. It may be short, or empty, without being the last: `next_cursor` tells."""

    complete: bool = True
    """False where something that was just said has not been looked through."""


class _Appended(Struct, frozen=True):
    data: list[Message]


def append_message(
    session_id: str,
    content: Content,
    *,
    role: Role = "user",
    metadata: Mapping[str, Any] | None = None,
    multitask_strategy: Literal["enqueue", "reject", "interrupt"] | None = None,
    start_run: bool | None = None,
    data: Mapping[str, Any] | None = None,
    if_match: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Message]:
    """Append a message. It is on disk when this returns.

    A user's message to a session whose agent is registered starts a run, unless `start_run` is False. `data` is a merge
    patch of the session's `data`, in the same transaction.

    Raises:
        NotFound: there is no such session.
        Conflict: the session has ended, or its agent is at work and the strategy is to reject.
        PreconditionFailed: the session is not in the version `if_match`.
    """
    body = body_of(
        role=role,
        content=content,
        metadata=metadata,
        multitask_strategy=multitask_strategy,
        start_run=start_run,
        data=data,
    )
    headers = headers_of(idempotency_key=idempotency_key, if_match=if_match)
    path = path_of("sessions", session_id, "messages")
    return Call(method="POST", path=path, body=body, headers=headers, read=_read_one)


def append_messages(
    session_id: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    multitask_strategy: Literal["enqueue", "reject", "interrupt"] | None = None,
    start_run: bool | None = None,
    data: Mapping[str, Any] | None = None,
    if_match: str | None = None,
    idempotency_key: str | None = None,
) -> Call[list[Message]]:
    """Append up to 1,000 messages of `{"role", "content", "metadata"}`: all of them in order, or none.

    The rest is as in `append`.
    """
    body = body_of(messages=list(messages), multitask_strategy=multitask_strategy, start_run=start_run, data=data)
    headers = headers_of(idempotency_key=idempotency_key, if_match=if_match)
    path = path_of("sessions", session_id, "messages")
    return Call(method="POST", path=path, body=body, headers=headers, read=_read_appended)


def list_messages(
    session_id: str,
    *,
    after: int | None = None,
    before: int | None = None,
    order: Literal["asc", "desc"] | None = None,
    limit: int | None = None,
    offset: int | None = None,
    cursor: str | None = None,
    include_total: bool = False,
) -> Call[Page[Message]]:
    """Return a page of a session's messages, the oldest first unless `order="desc"`.

    `after` and `before` are a `seq`, exclusive. `limit` is 1 to 1,000, 50 unless given.
    """
    query = query_of(
        after=after,
        before=before,
        order=order,
        limit=limit,
        offset=offset,
        cursor=cursor,
        include=include_of(total=include_total),
    )
    return Call(method="GET", path=path_of("sessions", session_id, "messages"), query=query, read=reads(Page[Message]))


def get_message(session_id: str, message_id: str) -> Call[Message]:
    """Return a message.

    Raises:
        NotFound: the session has no such message.
    """
    return Call(method="GET", path=path_of("sessions", session_id, "messages", message_id), read=reads(Message))


def pop_message(
    session_id: str, *, if_match: str | None = None, idempotency_key: str | None = None
) -> Call[Message | None]:
    """Take the last message back, and return it; None where there is none. What it said is gone from the log.

    Raises:
        Conflict: the session has ended.
    """
    headers = headers_of(idempotency_key=idempotency_key, if_match=if_match)
    path = path_of("sessions", session_id, "messages", "pop")
    return Call(method="POST", path=path, headers=headers, read=_read_popped)


def search_messages(
    q: str,
    *,
    session_id: str | None = None,
    agent_id: str | None = None,
    user_id: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[FoundPage]:
    """Return messages that have all words of `q`, and its phrases in quotation marks, the newest first.

    `limit` is 1 to 100, 20 unless given.
    """
    query = query_of(q=q, session_id=session_id, agent_id=agent_id, user_id=user_id, limit=limit, cursor=cursor)
    return Call(method="GET", path="/v1/messages", query=query, read=reads(FoundPage))


class MessageCalls:
    """What both clients can do with messages."""

    append = Method(append_message)
    append_batch = Method(append_messages)
    list = Method(list_messages)
    iterate = Iterated(list_messages)
    get = Method(get_message)
    pop = Method(pop_message)
    search = Method(search_messages)
    iterate_search = Iterated(search_messages)


class Messages(Sync, MessageCalls):
    """`client.messages`."""


class AsyncMessages(Async, MessageCalls):
    """`client.messages`."""


def _read_one(response: Response) -> Message:
    return msgspec.structs.replace(_message.decode(response.body), etag=response.headers.get("etag"))


def _read_appended(response: Response) -> list[Message]:
    etag = response.headers.get("etag")
    return [msgspec.structs.replace(each, etag=etag) for each in _appended.decode(response.body).data]


def _read_popped(response: Response) -> Message | None:
    return _message.decode(response.body) if response.status != 204 else None


_appended = msgspec.json.Decoder(_Appended)
_message = msgspec.json.Decoder(Message)
