"""Events: what is in a session's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sessiond.client.call import Call, Page, Response, body_of, headers_of, include_of, path_of, query_of, reads


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened in a session."""

    id: str
    seq: int
    """Its place in the session's log, from 1 on, without gaps."""
    type: str
    created_at: datetime
    actor: str
    """The id of the key that did it, or `agent:` and the agent's, `smtp`, `clock`, `hook`."""
    run_id: str | None = None
    data: dict[str, Any] = {}


class Timeline(Struct, frozen=True, kw_only=True):
    """All that has happened in a session, the oldest first."""

    events: list[Event]


class _Appended(Struct, frozen=True):
    data: list[Event]


def list_events(
    session_id: str,
    *,
    type: str | Sequence[str] | None = None,
    after: int | None = None,
    before: int | None = None,
    order: Literal["asc", "desc"] | None = None,
    limit: int | None = None,
    offset: int | None = None,
    cursor: str | None = None,
    include_total: bool = False,
) -> Call[Page[Event]]:
    """Return a page of a session's log, the oldest first.

    `type` names types or, ending in `*`, beginnings of types. `after` and `before` are a `seq`, exclusive.
    """
    query = query_of(
        type=type,
        after=after,
        before=before,
        order=order,
        limit=limit,
        offset=offset,
        cursor=cursor,
        include=include_of(total=include_total),
    )
    return Call(method="GET", path=path_of("sessions", session_id, "events"), query=query, read=reads(Page[Event]))


def append_event(
    session_id: str,
    type: str,
    data: Mapping[str, Any] | None = None,
    *,
    action: str | None = None,
    input: Mapping[str, Any] | None = None,
    output: Mapping[str, Any] | None = None,
    duration_ms: float | None = None,
    if_match: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Event]:
    """Note in a session's log what your own program did. `type` is a word of yours, as `shop.order_placed`.

    With an `action` it is a step, which replay shows with its `input`, `output` and `duration_ms`.

    Raises:
        Conflict: the session has ended.
    """
    body = body_of(type=type, data=data, action=action, input=input, output=output, duration_ms=duration_ms)
    headers = headers_of(idempotency_key=idempotency_key, if_match=if_match)
    path = path_of("sessions", session_id, "events")
    return Call(method="POST", path=path, body=body, headers=headers, read=reads(Event))


def append_events(
    session_id: str,
    events: Sequence[Mapping[str, Any]],
    *,
    if_match: str | None = None,
    idempotency_key: str | None = None,
) -> Call[list[Event]]:
    """Note several events, up to 1,000 of the fields that `append_event` takes: all of them in order, or none."""
    headers = headers_of(idempotency_key=idempotency_key, if_match=if_match)
    path = path_of("sessions", session_id, "events")
    body = body_of(events=list(events))
    return Call(method="POST", path=path, body=body, headers=headers, read=_read_appended)


def _read_appended(response: Response) -> list[Event]:
    return _appended.decode(response.body).data


_appended = msgspec.json.Decoder(_Appended)
