"""Runs: work of a session's agent, started, waited for, followed, answered, cancelled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, Literal, cast

from msgspec import Struct

from sessiond.client.call import (
    Call,
    Page,
    body_of,
    headers_of,
    include_of,
    path_of,
    query_of,
    reads,
)
from sessiond.client.events import Event
from sessiond.client.following import Delta, Tail, follow, follow_async
from sessiond.client.messages import Content
from sessiond.client.resource import Async, Iterated, Method, Sync

ENDS: Final = frozenset({"run.completed", "run.failed", "run.cancelled"})
STOPS: Final = ENDS | {"run.waiting"}
"""Where somebody must look at a run: it has ended, or asks something."""
HELD_SECONDS: Final = 300.0  # the longest for which a server holds an answer back


class Failure(Struct, frozen=True, kw_only=True):
    """Why a run failed or was cancelled, or what its last attempt met."""

    code: str
    message: str


class Run(Struct, frozen=True, kw_only=True):
    """A run as it was when it was read."""

    id: str
    session_id: str | None
    """None when the session was deleted: runs outlive it."""
    agent_id: str
    user_id: str | None = None
    status: str
    """`queued`, `running`, `waiting` (for an answer), `completed`, `failed`, `cancelled`."""
    input: str | list[dict[str, Any]] | None = None
    output: str | None = None
    error: Failure | None = None
    ask: dict[str, Any] | None = None
    """What a waiting run asks: `{title, options: [{id, name}], detail}`."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    attempts: int = 0
    worker: str | None = None
    retry_of: str | None = None
    cancel_requested_at: datetime | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.completed_at is not None

    @property
    def stopped(self) -> bool:
        """Whether it has ended, or asks something."""
        return self.ended or (self.status == "waiting" and self.ask is not None)


def start_run(
    session_id: str,
    input: Content | None = None,
    *,
    multitask_strategy: Literal["enqueue", "reject", "interrupt"] | None = None,
    wait_seconds: float | None = None,
    idempotency_key: str | None = None,
) -> Call[Run]:
    """Queue a run over `input`, which is appended as the user's message; without one over what was said before.

    `wait_seconds`, up to 300, holds the answer back until the run has ended or asks something.

    Raises:
        Conflict: the session has ended, or names no agent that is registered.
    """
    return Call(
        method="POST",
        path=path_of("sessions", session_id, "runs"),
        query=query_of(wait=wait_seconds),
        body=body_of(input=input, multitask_strategy=multitask_strategy),
        headers=headers_of(idempotency_key=idempotency_key),
        held_seconds=wait_seconds or 0.0,
        read=reads(Run),
    )


def list_runs(
    *,
    session_id: str | Sequence[str] | None = None,
    agent_id: str | Sequence[str] | None = None,
    status: str | Sequence[str] | None = None,
    order: Literal["asc", "desc"] | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    include_total: bool = False,
) -> Call[Page[Run]]:
    """Return a page of runs, the newest first; of a filter with several values, any of them counts."""
    query = query_of(
        session_id=session_id,
        agent_id=agent_id,
        status=status,
        order=order,
        limit=limit,
        cursor=cursor,
        include=include_of(total=include_total),
    )
    return Call(method="GET", path="/v1/runs", query=query, read=reads(Page[Run]))


def get_run(run_id: str) -> Call[Run]:
    """Return a run.

    Raises:
        NotFound: there is none.
    """
    return Call(method="GET", path=path_of("runs", run_id), read=reads(Run))


def cancel_run(run_id: str, *, reason: str | None = None, wait_seconds: float | None = None) -> Call[Run]:
    """Cancel a run; return it as it is when its worker has stopped the agent, or after `wait_seconds` (2).

    Raises:
        Conflict: it has completed or failed.
    """
    return Call(
        method="POST",
        path=path_of("runs", run_id, "cancel"),
        query=query_of(wait=wait_seconds),
        body=body_of(reason=reason),
        held_seconds=wait_seconds or 2.0,
        read=reads(Run),
    )


def retry_run(run_id: str) -> Call[Run]:
    """Queue a new run with what a failed or cancelled one was given.

    Raises:
        Conflict: it is neither.
    """
    return Call(method="POST", path=path_of("runs", run_id, "retry"), read=reads(Run))


def respond_to_run(run_id: str, *, option_id: str | None = None, content: Any = None) -> Call[Run]:
    """Answer a run that waits, by one of its options, or by any JSON where it offers none.

    Raises:
        Conflict: it does not wait, or does not offer that.
    """
    body = body_of(option_id=option_id, content=content)
    return Call(method="POST", path=path_of("runs", run_id, "respond"), body=body, read=reads(Run))


class RunCalls:
    """What both clients can do with runs, in one request each."""

    start = Method(start_run)
    list = Method(list_runs)
    iterate = Iterated(list_runs)
    get = Method(get_run)
    cancel = Method(cancel_run)
    retry = Method(retry_run)
    respond = Method(respond_to_run)


class Runs(Sync, RunCalls):
    """`client.runs`."""

    def stream(self, run_id: str, *, after: int = 0) -> Generator[Event]:
        """Yield a run's events from its beginning to its last one, each once, whatever breaks the connection."""
        return cast("Generator[Event]", self.stream_live(run_id, after=after, deltas=False))

    def stream_live(self, run_id: str, *, after: int = 0, deltas: bool = True) -> Generator[Event | Delta]:
        """Yield as `stream` does, and its text as it is said."""
        tail = Tail(path_of("runs", run_id, "stream"), after=after, deltas=deltas, ends=ENDS)
        return follow(self._carrier, tail)

    def wait(self, run_id: str) -> Run:
        """Return the run when it has ended or asks something, however long that takes."""
        for event in self.stream(run_id):
            if event.type in STOPS and (run := self.get(run_id)).stopped:
                return run
        return self.get(run_id)

    def start_and_wait(self, session_id: str, input: Content | None = None) -> Run:
        """Start a run, and return it when it has ended or asks something, however long that takes."""
        run = self.start(session_id, input, wait_seconds=HELD_SECONDS)
        return run if run.stopped else self.wait(run.id)


class AsyncRuns(Async, RunCalls):
    """`client.runs`."""

    def stream(self, run_id: str, *, after: int = 0) -> AsyncGenerator[Event]:
        """Yield as `Runs.stream`. Who stops early closes it: `async with aclosing(…) as events`."""
        return cast("AsyncGenerator[Event]", self.stream_live(run_id, after=after, deltas=False))

    def stream_live(self, run_id: str, *, after: int = 0, deltas: bool = True) -> AsyncGenerator[Event | Delta]:
        """Yield as `Runs.stream_live`."""
        tail = Tail(path_of("runs", run_id, "stream"), after=after, deltas=deltas, ends=ENDS)
        return follow_async(self._carrier, tail)

    async def wait(self, run_id: str) -> Run:
        """Return as `Runs.wait`."""
        async with aclosing(self.stream(run_id)) as events:
            async for event in events:
                if event.type in STOPS and (run := await self.get(run_id)).stopped:
                    return run
        return await self.get(run_id)

    async def start_and_wait(self, session_id: str, input: Content | None = None) -> Run:
        """Return as `Runs.start_and_wait`."""
        run = await self.start(session_id, input, wait_seconds=HELD_SECONDS)
        return run if run.stopped else await self.wait(run.id)
