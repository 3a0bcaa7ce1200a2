"""Sessions: created, found, changed, ended, replayed, followed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sessiond.client.audit import Receipt, read_receipt
from sessiond.client.call import (
    Call,
    Page,
    Response,
    body_of,
    headers_of,
    include_of,
    patch_of,
    path_of,
    query_of,
    reads,
    reads_nothing,
)
from sessiond.client.events import Event, Timeline, append_event, append_events, list_events
from sessiond.client.following import Delta, Tail, follow, follow_async
from sessiond.client.resource import Async, Iterated, Method, Sync

Strategy = Literal["enqueue", "reject", "interrupt"]

RERUN_SECONDS: Final = 6 * 3600.0  # a server gives a rerun up after as long
TIMELINE_PAGE: Final = 1000  # as much as a server gives at once


class Session(Struct, frozen=True, kw_only=True):
    """A session as it was when it was read."""

    id: str
    status: str
    """`created`, `active`, `paused`, `completed` or `failed`."""
    agent_id: str | None = None
    agent_registered: bool | None = None
    """Whether a user's message makes the agent work; None without an agent."""
    user_id: str | None = None
    task_id: str | None = None
    name: str | None = None
    user_name: str | None = None
    user_email: str | None = None
    accept_terms: bool | None = None
    multitask_strategy: str | None = None
    metadata: dict[str, Any] = {}
    data: dict[str, Any] = {}
    prompt: str | None = None
    message_count: int
    last_seq: int
    """The number of its last event; every visible change is one."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    parent: str | None = None
    """The session that it was made from."""
    created_at: datetime
    updated_at: datetime
    last_active_at: datetime
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    inboxes: list[str] = []
    """Ids, the oldest first: of `get`. Lists and changes do not look for them."""
    waits: list[str] = []
    """As `inboxes`."""
    etag: str | None = None
    """Its version, for `if_match`; None in lists."""


class Step(Struct, frozen=True, kw_only=True):
    """One thing that was done."""

    index: int
    at: datetime
    action: str
    input: dict[str, Any]
    output: dict[str, Any]
    duration_ms: float


class Replay(Struct, frozen=True, kw_only=True):
    """What was done, step by step."""

    steps: list[Step]


class Comparison(Struct, frozen=True, kw_only=True):
    """A recorded step, and what came of it now."""

    index: int | None
    seq: int | None
    action: str
    input: dict[str, Any]
    recorded: dict[str, Any] | None
    output: dict[str, Any] | None
    verdict: str
    """`same`, `changed` or `failed`."""
    reason: str | None = None
    recorded_duration_ms: float | None
    duration_ms: float | None


class Summary(Struct, frozen=True, kw_only=True):
    """What a rerun made, and how many of its steps came out how."""

    session_id: str
    same: int
    changed: int
    failed: int


class Rerun(Struct, frozen=True, kw_only=True):
    """What was done, done again in a new session."""

    session_id: str
    mode: str
    steps: list[Comparison]
    summary: Summary


def create_session(
    *,
    id: str | None = None,
    agent_id: str | None = None,
    user_id: str | None = None,
    task_id: str | None = None,
    name: str | None = None,
    user_name: str | None = None,
    user_email: str | None = None,
    accept_terms: bool | None = None,
    metadata: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    prompt: str | None = None,
    expires_at: datetime | None = None,
    multitask_strategy: Strategy | None = None,
    messages: Sequence[Mapping[str, Any]] | None = None,
    if_exists: Literal["error", "return"] | None = None,
    idempotency_key: str | None = None,
) -> Call[Session]:
    """Create a session. One that names an agent starts `created`, one without starts `active`.

    `messages` are up to 1,000 of `{"role", "content", "metadata"}`, stored in the same transaction. With
    `if_exists="return"` an existing session of that `id` is returned, unchanged.

    Raises:
        Conflict: the id is taken.
    """
    body = body_of(
        id=id,
        agent_id=agent_id,
        user_id=user_id,
        task_id=task_id,
        name=name,
        user_name=user_name,
        user_email=user_email,
        accept_terms=accept_terms,
        metadata=metadata,
        data=data,
        prompt=prompt,
        expires_at=expires_at,
        multitask_strategy=multitask_strategy,
        messages=messages,
        if_exists=if_exists,
    )
    headers = headers_of(idempotency_key=idempotency_key)
    return Call(method="POST", path="/v1/sessions", body=body, headers=headers, read=_read_session)


def list_sessions(
    *,
    agent_id: str | Sequence[str] | None = None,
    user_id: str | Sequence[str] | None = None,
    task_id: str | Sequence[str] | None = None,
    status: str | Sequence[str] | None = None,
    metadata: Mapping[str, str | float | bool] | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    sort: Literal["created", "updated"] | None = None,
    order: Literal["asc", "desc"] | None = None,
    limit: int | None = None,
    offset: int | None = None,
    cursor: str | None = None,
    include_total: bool = False,
) -> Call[Page[Session]]:
    """Return a page of sessions, the newest first; of a filter with several values, any of them counts.

    `metadata` filters by values; times are exclusive. `limit` is 1 to 1,000, 20 unless given.
    """
    query = query_of(
        agent_id=agent_id,
        user_id=user_id,
        task_id=task_id,
        status=status,
        created_after=created_after,
        created_before=created_before,
        sort=sort,
        order=order,
        limit=limit,
        offset=offset,
        cursor=cursor,
        include=include_of(total=include_total),
        **{f"metadata.{name}": value for name, value in (metadata or {}).items()},
    )
    return Call(method="GET", path="/v1/sessions", query=query, read=reads(Page[Session]))


def get_session(session_id: str) -> Call[Session]:
    """Return a session, with the ids of its inboxes and waits.

    Raises:
        NotFound: there is none.
    """
    query = (("include", "inboxes,waits"),)
    return Call(method="GET", path=path_of("sessions", session_id), query=query, read=_read_session)


def update_session(
    session_id: str,
    *,
    agent_id: str | UnsetType | None = UNSET,
    user_id: str | UnsetType | None = UNSET,
    task_id: str | UnsetType | None = UNSET,
    name: str | UnsetType | None = UNSET,
    user_name: str | UnsetType | None = UNSET,
    user_email: str | UnsetType | None = UNSET,
    accept_terms: bool | UnsetType | None = UNSET,
    status: str | UnsetType = UNSET,
    metadata: Mapping[str, Any] | UnsetType | None = UNSET,
    data: Mapping[str, Any] | UnsetType | None = UNSET,
    prompt: str | UnsetType | None = UNSET,
    expires_at: datetime | UnsetType | None = UNSET,
    multitask_strategy: Strategy | UnsetType | None = UNSET,
    if_match: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Session]:
    """Change what is given, by a JSON merge patch: None removes, objects merge, what is left out stays.

    `if_match` is the `etag` of the version that is meant.

    Raises:
        Conflict: the status cannot become that.
        PreconditionFailed: the session is not in that version any more.
    """
    body = patch_of(
        agent_id=agent_id,
        user_id=user_id,
        task_id=task_id,
        name=name,
        user_name=user_name,
        user_email=user_email,
        accept_terms=accept_terms,
        status=status,
        metadata=metadata,
        data=data,
        prompt=prompt,
        expires_at=expires_at,
        multitask_strategy=multitask_strategy,
    )
    headers = headers_of(idempotency_key=idempotency_key, if_match=if_match)
    path = path_of("sessions", session_id)
    return Call(method="PATCH", path=path, body=body, headers=headers, read=_read_session)


def complete_session(session_id: str, *, reason: str | None = None) -> Call[Session]:
    """End a session well; its runs and waits are cancelled. Once more is fine.

    Raises:
        Conflict: it has failed.
    """
    path = path_of("sessions", session_id, "complete")
    return Call(method="POST", path=path, body=body_of(reason=reason), read=_read_session)


def fail_session(session_id: str, *, reason: str | None = None) -> Call[Session]:
    """End a session badly; its runs and waits are cancelled. Once more is fine.

    Raises:
        Conflict: it is completed.
    """
    path = path_of("sessions", session_id, "fail")
    return Call(method="POST", path=path, body=body_of(reason=reason), read=_read_session)


def delete_session(session_id: str, *, if_match: str | None = None) -> Call[None]:
    """Remove a session with its log.

    Raises:
        NotFound: there is none.
    """
    headers = headers_of(if_match=if_match)
    path = path_of("sessions", session_id)
    return Call(method="DELETE", path=path, headers=headers, read=reads_nothing)


def erase_session(session_id: str) -> Call[Receipt]:
    """Remove a session, and everything anywhere that was in it; return the signed receipt."""
    path = path_of("sessions", session_id)
    return Call(method="DELETE", path=path, query=(("erase", "true"),), read=read_receipt)


def replay_session(session_id: str) -> Call[Replay]:
    """Return what was done in a session, step by step: what went in, what came out, how long it took."""
    path = path_of("sessions", session_id, "replay")
    return Call(method="POST", path=path, body=b"{}", read=reads(Replay))


def rerun_session(session_id: str, *, mode: Literal["rerun", "simulate"] = "rerun") -> Call[Rerun]:
    """Do all of it again in a new session, and compare; `simulate` answers the agents' tools from the recording.

    It takes as long as the session's agents do.
    """
    path = path_of("sessions", session_id, "replay")
    return Call(method="POST", path=path, body=body_of(mode=mode), held_seconds=RERUN_SECONDS, read=reads(Rerun))


class SessionCalls:
    """What both clients can do with sessions, in one request each."""

    create = Method(create_session)
    list = Method(list_sessions)
    iterate = Iterated(list_sessions)
    get = Method(get_session)
    update = Method(update_session)
    complete = Method(complete_session)
    fail = Method(fail_session)
    delete = Method(delete_session)
    erase = Method(erase_session)
    replay = Method(replay_session)
    rerun = Method(rerun_session)
    events = Method(list_events)
    append_event = Method(append_event)
    append_events = Method(append_events)
    iterate_events = Iterated(list_events)


class Sessions(Sync, SessionCalls):
    """`client.sessions`."""

    def timeline(self, session_id: str) -> Timeline:
        """Return all that has happened in a session, the oldest first; `iterate_events` holds less in memory."""
        return Timeline(events=[*self.iterate_events(session_id, limit=TIMELINE_PAGE)])

    def stream(self, session_id: str, *, after: int = 0) -> Generator[Event]:
        """Yield a session's events after the seq `after`, each once and in order, and go on with new ones for ever.

        From the beginning unless `after` says otherwise: `after=session.last_seq` is from now on. What breaks the
        connection is got over; an event that was yielded does not come again.

        Raises:
            NotFound: there is no such session, or it was deleted.
            ConnectionFailed: the server could not be reached for minutes.
        """
        return cast("Generator[Event]", self.stream_live(session_id, after=after, deltas=False))

    def stream_live(self, session_id: str, *, after: int = 0, deltas: bool = True) -> Generator[Event | Delta]:
        """Yield as `stream` does, and the text of runs as it is said, sooner than the log has it.

        A `Delta` has no place in the log, and may be lost; the `run.text` that follows has all of it.
        """
        return follow(self._carrier, Tail(path_of("sessions", session_id, "stream"), after=after, deltas=deltas))


class AsyncSessions(Async, SessionCalls):
    """`client.sessions`."""

    async def timeline(self, session_id: str) -> Timeline:
        """Return as `Sessions.timeline`."""
        return Timeline(events=[event async for event in self.iterate_events(session_id, limit=TIMELINE_PAGE)])

    def stream(self, session_id: str, *, after: int = 0) -> AsyncGenerator[Event]:
        """Yield as `Sessions.stream`. Who stops early closes it: `async with aclosing(…) as events`."""
        return cast("AsyncGenerator[Event]", self.stream_live(session_id, after=after, deltas=False))

    def stream_live(self, session_id: str, *, after: int = 0, deltas: bool = True) -> AsyncGenerator[Event | Delta]:
        """Yield as `Sessions.stream_live`."""
        return follow_async(self._carrier, Tail(path_of("sessions", session_id, "stream"), after=after, deltas=deltas))


def _read_session(response: Response) -> Session:
    session: Session = _session(response)
    return msgspec.structs.replace(session, etag=response.headers.get("etag"))


_session = reads(Session)
