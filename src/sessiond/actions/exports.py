"""Exports: what a workspace holds, or a part of it, as a bundle.

Each session is as it was at one moment, with its log up to there; two sessions may be of two moments.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeVar

import msgspec

from sessiond.actions.call import Call
from sessiond.core.agent import Agent
from sessiond.core.audit import EXPORT
from sessiond.core.bundle import FORMAT, VERSION, Chain, Scope, Subject
from sessiond.core.bundle_order import COUNTED
from sessiond.core.bundle_records import (
    AnyRecord,
    End,
    Header,
    agent_record,
    encode,
    event_record,
    inbox_record,
    mail_record,
    run_record,
    session_record,
    wait_record,
)
from sessiond.core.caller import Scope as KeyScope
from sessiond.core.errors import Forbidden, Unavailable
from sessiond.core.event import Event
from sessiond.core.inbox import Inbox, InboxFilter
from sessiond.core.limits import PAGE_MAX
from sessiond.core.mail import Content, Mail
from sessiond.core.run import Run, RunFilter
from sessiond.core.session import Session, SessionFilter
from sessiond.core.wait import Wait, WaitFilter, WaitType
from sessiond.storage import agents, audit, events, inboxes, mails, runs, session_ids, sessions, waits
from sessiond.storage.engine import Engine, Snapshot, Tx

TURN_BYTES: Final = 256 * 1024  # that are written, some milliseconds' work, before others get their turn
LINE_COSTS_BYTES: Final = 2 * 1024  # a line takes as long as so many bytes, however short it is
PAGE: Final = 200  # rows that are in memory at once; of large ones fewer are read

T = TypeVar("T")
Place = tuple[int, str] | None
Page = Callable[[Tx, Place], Awaitable[tuple[list[T], Place]]]


class Progress(msgspec.Struct):
    """How far an export is, for whoever shows it."""

    sessions: int = 0
    total: int = 0
    """Sessions that there were at its beginning."""


async def export(
    call: Call,
    subject: Subject,
    *,
    secrets: bool = False,
    progress: Progress | None = None,
    moment_max_seconds: float | None = None,
) -> AsyncGenerator[bytes]:
    """Yield the lines of a bundle of `subject`, and note it in the audit log. Consume it under `aclosing`.

    A caller who is bound to a user gets only what is that user's. `secrets`: whether the options of agents are to be
    whole. No session may take longer than `moment_max_seconds`: for that long the database cannot tidy up.

    Raises:
        Forbidden: the caller lacks the admin scope, or, bound to a user, the read scope, or asks for another's.
        NotFound: there is no such session.
        Unavailable: a session takes too long.
    """
    subject = _allowed(call, subject)
    await _note(call, subject)
    chain, counts = Chain(), dict.fromkeys(COUNTED.values(), 0)

    def line(record: AnyRecord) -> bytes:
        if type(record) in COUNTED:
            counts[COUNTED[type(record)]] += 1
        return chain.seal(encode(record))

    yield line(Header(format=FORMAT, version=VERSION, scope=subject.scope, id=subject.id, secrets=secrets))
    source = _Source(call, subject, progress or Progress(), moment_max_seconds)
    async for agent in source.agents():
        yield line(agent_record(agent, secrets=secrets))
    spent = 0
    async with aclosing(source.records()) as records:  # so that its snapshot is given back here, whatever happens
        async for record in records:
            sealed = line(record)
            yield sealed
            spent += len(sealed) + LINE_COSTS_BYTES
            if spent >= TURN_BYTES:
                spent = 0
                await asyncio.sleep(0)  # a server has others to serve
    yield line(End(**counts, sha256=chain.digest))


def _allowed(call: Call, subject: Subject) -> Subject:
    """Return what is to be exported, which is less than was asked for where the caller is bound to a user."""
    bound_to = call.caller.user_id
    if bound_to is None:
        call.caller.require(KeyScope.ADMIN)
        return subject
    call.caller.require(KeyScope.SESSIONS_READ)
    if subject.scope is Scope.WORKSPACE:
        return Subject(Scope.USER, bound_to)
    if subject.scope is Scope.AGENT or (subject.scope is Scope.USER and subject.id != bound_to):
        raise Forbidden("this key is bound to a user, and exports only what is theirs")
    return subject


async def _note(call: Call, subject: Subject) -> None:
    workspace_id = call.caller.workspace_id
    locator = {"scope": str(subject.scope)} | ({"id": subject.id} if subject.id is not None else {})

    async def operation(tx: Tx) -> None:
        if subject.scope is Scope.SESSION and subject.id is not None:
            await sessions.get(tx, workspace_id, subject.id, user_id=call.caller.user_id)
        await audit.append(tx, workspace_id, EXPORT, locator, actor=call.caller.key_id, at_us=call.now_us)

    await call.engine.write(operation)


class _Source:
    """Reads what a bundle is made of, in its order."""

    def __init__(self, call: Call, subject: Subject, progress: Progress, moment_max_seconds: float | None) -> None:
        self._engine: Engine = call.engine
        self._workspace_id = call.caller.workspace_id
        self._subject = subject
        self._progress = progress
        self._moment_max_seconds = moment_max_seconds
        self._agent_id = subject.id if subject.scope is Scope.AGENT else None
        self._user_id = subject.id if subject.scope is Scope.USER else call.caller.user_id

    async def agents(self) -> AsyncIterator[Agent]:
        """Yield the agents of a workspace, or the one that is asked for. Elsewhere they are not of what is exported."""
        after, more = "", self._subject.scope in (Scope.WORKSPACE, Scope.AGENT)
        while more:

            async def operation(tx: Tx, after: str = after) -> list[Agent]:
                if self._agent_id is not None:
                    found = await agents.find(tx, self._workspace_id, self._agent_id)
                    return [found] if found is not None else []
                return await agents.read_page(tx, self._workspace_id, after=after, limit=PAGE)

            page = await self._engine.scan(operation)
            for agent in page:
                yield agent
            more = len(page) == PAGE
            after = page[-1].id if page else ""

    async def records(self) -> AsyncGenerator[AnyRecord]:
        """Yield what belongs to no session, then session after session."""
        if self._subject.scope is not Scope.SESSION:
            async with self._engine.snapshot() as snapshot:
                async for record in self._loose(self._timed(snapshot)):
                    yield record
        async for session_id in self._session_ids():
            async with self._engine.snapshot() as snapshot:
                async for record in self._session(self._timed(snapshot), session_id):
                    yield record
            self._progress.sessions += 1

    async def _session_ids(self) -> AsyncIterator[str]:
        """Yield the ids of the sessions that there are by now: those that are made meanwhile may be among them."""
        if self._subject.scope is Scope.SESSION:
            assert self._subject.id is not None
            self._progress.total = 1
            yield self._subject.id
            return

        async def begin(tx: Tx) -> str | None:
            wanted = SessionFilter(
                agent_ids=(self._agent_id,) if self._agent_id is not None else (),
                user_ids=(self._user_id,) if self._user_id is not None else (),
            )
            self._progress.total = await sessions.count(tx, self._workspace_id, wanted)
            return await session_ids.find_last_id(
                tx, self._workspace_id, agent_id=self._agent_id, user_id=self._user_id
            )

        after, until = "", await self._engine.scan(begin)
        while until is not None and after < until:

            async def page(tx: Tx, after: str = after, until: str = until) -> list[str]:
                return await session_ids.read_ids(
                    tx,
                    self._workspace_id,
                    agent_id=self._agent_id,
                    user_id=self._user_id,
                    after=after,
                    until=until,
                    limit=PAGE_MAX,
                )

            found = await self._engine.scan(page)
            for session_id in found:
                yield session_id
            after = found[-1] if found else until

    async def _session(self, snapshot: Snapshot, session_id: str) -> AsyncIterator[AnyRecord]:
        """Yield a session with all that is its own; nothing where it is gone by now, or not of these any more."""

        async def find(tx: Tx) -> Session | None:
            return await sessions.find(tx, self._workspace_id, session_id, user_id=self._user_id)

        session = await snapshot.read(find)
        if session is None or (self._agent_id is not None and session.agent_id != self._agent_id):
            return
        log = _pages(snapshot, lambda tx, place: self._events(tx, session, place))
        first = await anext(log, None)
        if first is None or first.seq != 1:
            return  # it is not kept any more, and its log has begun to go
        yield session_record(session)
        yield event_record(first)
        async for event in log:
            yield event_record(event)
        async for run in _pages(snapshot, lambda tx, place: self._runs(tx, session, place)):
            yield run_record(run)
        async for inbox in _pages(snapshot, lambda tx, place: self._inboxes(tx, session, place)):
            async for record in self._inbox(snapshot, inbox):
                yield record
        async for wait, hook_hash in _pages(snapshot, lambda tx, place: self._waits(tx, session, place)):
            yield wait_record(wait, hook_hash)

    async def _loose(self, snapshot: Snapshot) -> AsyncIterator[AnyRecord]:
        async for run in _pages(snapshot, lambda tx, place: self._runs(tx, None, place)):
            yield run_record(run)
        if self._subject.scope is Scope.AGENT:
            return
        async for inbox in _pages(snapshot, lambda tx, place: self._inboxes(tx, None, place)):
            async for record in self._inbox(snapshot, inbox):
                yield record
        async for wait, hook_hash in _pages(snapshot, lambda tx, place: self._waits(tx, None, place)):
            yield wait_record(wait, hook_hash)

    async def _inbox(self, snapshot: Snapshot, inbox: Inbox) -> AsyncIterator[AnyRecord]:
        yield inbox_record(inbox)
        async for mail in _pages(snapshot, lambda tx, place: self._mails(tx, inbox, place)):

            async def read(tx: Tx, mail: Mail = mail) -> tuple[Content, bytes]:
                return await mails.read_content(tx, mail), await mails.read_raw(tx, mail)

            yield mail_record(mail, *await snapshot.read(read))

    async def _events(self, tx: Tx, session: Session, place: Place) -> tuple[list[Event], Place]:
        page = await events.read_page(tx, session, after=place[0] if place else None, limit=PAGE_MAX)
        return page.events, (page.events[-1].seq, "") if page.more else None

    async def _runs(self, tx: Tx, session: Session | None, place: Place) -> tuple[list[Run], Place]:
        if session is None:
            found, more = await runs.read_orphans(
                tx, self._workspace_id, agent_id=self._agent_id, user_id=self._user_id, limit=PAGE, position=place
            )
            return found, (found[-1].created_at_us, found[-1].id) if more else None
        page = await runs.read_page(
            tx,
            self._workspace_id,
            RunFilter(session_ids=(session.id,)),
            user_id=None,
            descending=False,
            limit=PAGE,
            position=place,
        )
        return page.runs, page.next_position

    async def _inboxes(self, tx: Tx, session: Session | None, place: Place) -> tuple[list[Inbox], Place]:
        if session is None:
            found, more = await inboxes.read_free(
                tx, self._workspace_id, user_id=self._user_id, limit=PAGE, position=place
            )
        else:
            wanted = InboxFilter(session_id=session.id)
            page = await inboxes.read_page(
                tx, self._workspace_id, wanted, user_id=None, descending=False, limit=PAGE, position=place
            )
            found, more = page.inboxes, page.more
        return found, (found[-1].created_at_us, found[-1].id) if more else None

    async def _mails(self, tx: Tx, inbox: Inbox, place: Place) -> tuple[list[Mail], Place]:
        found, more = await mails.read_page(
            tx, self._workspace_id, inbox.id, descending=False, limit=PAGE, position=place
        )
        return found, (found[-1].received_at_us, found[-1].id) if more else None

    async def _waits(
        self, tx: Tx, session: Session | None, place: Place
    ) -> tuple[list[tuple[Wait, bytes | None]], Place]:
        if session is None:
            found, more = await waits.read_free(
                tx, self._workspace_id, user_id=self._user_id, limit=PAGE, position=place
            )
        else:
            wanted = WaitFilter(session_id=session.id)
            page = await waits.read_page(
                tx, self._workspace_id, wanted, user_id=None, descending=False, limit=PAGE, position=place
            )
            found, more = page.waits, page.more
        hooks = [await waits.find_hook(tx, wait) if wait.type is WaitType.WEBHOOK else None for wait in found]
        behind = (found[-1].created_at_us, found[-1].id) if more else None
        return list(zip(found, hooks, strict=True)), behind

    def _timed(self, snapshot: Snapshot) -> Snapshot:
        return snapshot if self._moment_max_seconds is None else _Timed(snapshot, self._moment_max_seconds)


class _Timed:
    """A snapshot that is not read for longer than it may be kept."""

    def __init__(self, snapshot: Snapshot, seconds: float) -> None:
        self._snapshot = snapshot
        self._deadline = time.monotonic() + seconds

    async def read(self, operation: Callable[[Tx], Awaitable[T]]) -> T:
        if time.monotonic() > self._deadline:
            raise Unavailable("the export is taken too slowly")
        return await self._snapshot.read(operation)  # type: ignore[arg-type]  # an operation is a coroutine function


async def _pages(snapshot: Snapshot, read: Page[T]) -> AsyncIterator[T]:
    """Yield one after the other what `read` finds page by page."""
    place: Place = None
    while True:

        async def operation(tx: Tx, place: Place = place) -> tuple[list[T], Place]:
            return await read(tx, place)

        page, place = await snapshot.read(operation)
        for one in page:
            yield one
        if place is None:
            return
