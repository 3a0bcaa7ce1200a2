"""Imports: a bundle is checked to its end, then held against what is there, and only then put into a workspace.

A session is shown when all of it is there: its row comes in the transaction of its last records. So whatever stops an
import, the next one finds each session whole or not at all, and goes on; what was left of one that was not
whole, and that nobody has seen, is removed first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from sessiond.actions.call import Call
from sessiond.actions.imported import Existing, Gathered, Part
from sessiond.core.audit import IMPORT
from sessiond.core.bundle_order import COUNTED, Line, read_bundle, subject_of
from sessiond.core.bundle_records import (
    AgentRecord,
    End,
    EventRecord,
    Header,
    SessionRecord,
    agent_record,
)
from sessiond.core.bundle_stretches import Stretch, stretches
from sessiond.core.caller import Scope
from sessiond.core.errors import Conflict
from sessiond.core.ids import WorkspaceId
from sessiond.core.session import Session
from sessiond.storage import agents, audit, clock, events, restoring, runs, sessions
from sessiond.storage.engine import Operation, Tx

TOGETHER: Final = 64  # sessions that are written at once, so that they share a commit
TOGETHER_BYTES: Final = 8 * 1024 * 1024
LEFT_MAX: Final = 5_000  # rows of a broken-off attempt to a transaction

Source = Callable[[], Iterator[bytes]]
"""Opens a bundle at its beginning, line by line, each no longer than `bundle.LINE_MAX_BYTES` and one byte."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a bundle."""

    header: Header
    sha256: str
    added: dict[str, int]
    """How many of each kind were not there."""
    kept: dict[str, int]
    """How many were."""


async def import_bundle(call: Call, source: Source, *, keep_agents: bool = False, start_runs: bool = False) -> Imported:
    """Put what a bundle holds into the caller's workspace, and note it in the audit log. Once more is fine.

    What is there already stays as it is: a session whose log begins with the bundle's, also where it has gone on since,
    and whatever else was made at the same moment. With `keep_agents`, so do agents that are something else here. Runs
    that have not ended wait until somebody speaks in their session or resumes it; with `start_runs` they begin.

    Raises:
        Forbidden: the caller lacks the admin scope.
        InvalidInput: it is no bundle, or damaged; the message says which line is wrong. Nothing has been written.
        Conflict: something else has an id or an address that is in it; the message says what. Nothing has been written,
            unless it came to be there meanwhile.
    """
    call.caller.require(Scope.ADMIN)
    header, end = await _check(call, source, keep_agents=keep_agents)
    await _note(call, header, end)
    writing = _Writing(call, start_runs=start_runs)
    for stretch in stretches(read_bundle(source())):
        await writing.write(stretch)
    await writing.settle()
    return Imported(header=header, sha256=end.sha256, added=writing.added, kept=writing.kept)


async def _check(call: Call, source: Source, *, keep_agents: bool) -> tuple[Header, End]:
    """Read a bundle to its end, then hold it against what is there."""
    header, end = None, None
    for line in read_bundle(source()):
        if isinstance(line.record, Header):
            header = line.record
        elif isinstance(line.record, End):
            end = line.record
    assert header is not None, "a bundle that was read has a beginning"
    assert end is not None, "and an end"
    checking = _Checking(call, header, keep_agents=keep_agents)
    for stretch in stretches(read_bundle(source())):
        await checking.check(stretch)
    return header, end


async def _note(call: Call, header: Header, end: End) -> None:
    workspace_id, subject = call.caller.workspace_id, subject_of(header)
    locator = {"scope": str(subject.scope), "sha256": end.sha256} | ({"id": subject.id} if subject.id else {})

    async def operation(tx: Tx) -> None:
        await audit.append(tx, workspace_id, IMPORT, locator, actor=call.caller.key_id, at_us=call.now_us)

    await call.engine.write(operation)


class _Checking:
    """Holds a bundle against what is there, stretch by stretch."""

    def __init__(self, call: Call, header: Header, *, keep_agents: bool) -> None:
        self._engine = call.engine
        self._workspace_id = call.caller.workspace_id
        self._header = header
        self._keep_agents = keep_agents
        self._existing = Existing(self._workspace_id)
        self._session: Session | None = None
        """The session of the stretch, as it is there."""

    async def check(self, stretch: Stretch) -> None:
        async def operation(tx: Tx) -> Session | None:
            return await self._check(tx, stretch)

        self._session = await self._engine.scan(operation)

    async def _check(self, tx: Tx, stretch: Stretch) -> Session | None:
        session, record = self._session, stretch.session
        if stretch.first:
            session = await find_same(tx, self._workspace_id, record, stretch.number) if record is not None else None
        if session is None:
            for line in stretch.lines:
                if isinstance(line.record, AgentRecord):
                    await self._check_agent(tx, line.number, line.record)
                else:
                    await self._existing.find(tx, line, session_id=record.id if record is not None else None)
        else:
            await self._check_log(tx, session, stretch.lines)
        return session

    async def _check_agent(self, tx: Tx, number: int, record: AgentRecord) -> None:
        found = await agents.find(tx, self._workspace_id, record.id)
        if found is None or self._keep_agents or agent_record(found, secrets=self._header.secrets) == record:
            return
        raise Conflict(
            f"line {number} of the bundle: the agent {record.id} is registered otherwise here;"
            " remove it, or have it stay as it is with --keep-agents"
        )

    async def _check_log(self, tx: Tx, session: Session, lines: Sequence[Line]) -> None:
        """Check that events of a session are those that it has here."""
        wanted = {line.record.seq: line for line in lines if isinstance(line.record, EventRecord)}
        after, until = min(wanted, default=1) - 1, max(wanted, default=0)
        while after < until:
            page = await events.read_page(tx, session, after=after, before=until + 1, limit=until - after)
            for found in page.events:
                record = wanted[found.seq].record
                assert isinstance(record, EventRecord)
                if record.make(session.id) != found:
                    raise Conflict(
                        f"line {wanted[found.seq].number} of the bundle: event {found.seq} of the session {session.id}"
                        " is something else here"
                    )
            if not page.events:
                raise Conflict(f"the session {session.id} has gone meanwhile")
            after = page.events[-1].seq


async def find_same(tx: Tx, workspace_id: WorkspaceId, record: SessionRecord, number: int) -> Session | None:
    """Return the session of a record where it is there, perhaps further on.

    Raises:
        Conflict: another session has its id, or an earlier state of it is there.
    """
    found = await sessions.find(tx, workspace_id, record.id, user_id=None)
    if found is None:
        return None
    place = f"line {number} of the bundle: the session {record.id}"
    if found.created_at_us != record.created_at_us:
        raise Conflict(f"{place} is another one here; delete it, or import into another workspace")
    if found.last_seq < record.last_seq:
        raise Conflict(
            f"{place} has {found.last_seq} of the bundle's {record.last_seq} events here; delete it, and it comes whole"
        )
    return found


class _Writing:
    """Puts a bundle into a workspace, stretch by stretch."""

    def __init__(self, call: Call, *, start_runs: bool) -> None:
        self._engine = call.engine
        self._workspace_id = call.caller.workspace_id
        self._now_us = call.now_us
        self._start_runs = start_runs
        self._existing = Existing(self._workspace_id)
        self._gathered = Gathered(self._workspace_id, None)
        self._skipping = False
        self._operations: list[Operation[None]] = []
        self._size = 0
        self.added = dict.fromkeys(COUNTED.values(), 0)
        self.kept = dict.fromkeys(COUNTED.values(), 0)

    async def write(self, stretch: Stretch) -> None:
        if stretch.session is None:
            await self._write_loose(stretch)
        else:
            await self._write_session(stretch, stretch.session)

    async def settle(self) -> None:
        """Write what has been gathered, and wait until it is on disk."""
        operations, self._operations, self._size = self._operations, [], 0
        done = await asyncio.gather(*map(self._engine.write, operations), return_exceptions=True)
        for each in done:
            if isinstance(each, BaseException):
                raise each

    async def _write_loose(self, stretch: Stretch) -> None:
        async def look(tx: Tx) -> list[bool]:
            return [await self._is_there(tx, line) for line in stretch.lines]

        there = await self._engine.scan(look)
        self._count(self.kept, [line for line, found in zip(stretch.lines, there, strict=True) if found])
        new = [line for line, found in zip(stretch.lines, there, strict=True) if not found]
        made = [
            line.record.make(self._workspace_id, at_us=self._now_us)
            for line in new
            if isinstance(line.record, AgentRecord)
        ]
        part = self._gathered.add(new, last=stretch.last)

        async def operation(tx: Tx) -> None:
            for agent in made:
                await agents.insert(tx, agent)
            await part.write(tx)
            await part.write_last(tx)

        await self._submit(operation, stretch)
        await self.settle()
        self._count(self.added, new)

    async def _is_there(self, tx: Tx, line: Line) -> bool:
        if isinstance(line.record, AgentRecord):
            return await agents.find(tx, self._workspace_id, line.record.id) is not None
        return await self._existing.find(tx, line, session_id=None)

    async def _write_session(self, stretch: Stretch, record: SessionRecord) -> None:
        if stretch.first:
            self._skipping = await self._make_room(stretch, record)
            self._gathered = Gathered(self._workspace_id, record.make(self._workspace_id))
            self._count(self.kept if self._skipping else self.added, [Line(stretch.number, record, 0)])
        self._count(self.kept if self._skipping else self.added, stretch.lines)
        if self._skipping:
            return
        part = self._gathered.add(stretch.lines, last=stretch.last)
        session, last, number = record.make(self._workspace_id), stretch.last, stretch.number

        async def operation(tx: Tx) -> None:
            # Its row comes first here, where it comes: it is what tells that somebody else was faster.
            if last:
                free = await restoring.restore(tx, part.finish(session), open_runs=self._waiting(part))
            else:
                free = await sessions.find(tx, session.workspace_id, session.id, user_id=None) is None
            if not free:
                raise Conflict(f"line {number} of the bundle: the session {session.id} has come to be there meanwhile")
            await part.write(tx)
            if last and not stretch.first:
                written = await restoring.count_restored(tx, session.workspace_id, session.id)
                if written != (session.last_seq, part.run_count, part.ended_count):
                    raise Conflict(f"another import is at work on the session {session.id}; wait for its end")
            await part.write_last(tx)
            if last and self._start_runs and part.open_runs:
                now_us = await clock.read_us(tx)
                await runs.schedule(tx, session.workspace_id, session.id, opened=part.open_runs, now_us=now_us)

        await self._submit(operation, stretch)
        if not (stretch.first and stretch.last):
            await self.settle()

    async def _make_room(self, stretch: Stretch, record: SessionRecord) -> bool:
        """Remove what an import has left of a session that was broken off; whether the session is there."""

        async def look(tx: Tx) -> tuple[bool, bool]:
            found = await find_same(tx, self._workspace_id, record, stretch.number)
            return found is not None, found is None and await restoring.has_left(tx, self._workspace_id, record.id)

        there, left = await self._engine.scan(look)
        while left:

            async def remove(tx: Tx) -> bool:
                return not await restoring.begin_restoring(tx, self._workspace_id, record.id, limit=LEFT_MAX)

            left = await self._engine.write(remove)
        return there

    def _waiting(self, part: Part) -> int:
        """Return how many runs are open that nobody is to begin with."""
        return part.open_runs if not self._start_runs else 0

    async def _submit(self, operation: Operation[None], stretch: Stretch) -> None:
        self._operations.append(operation)
        self._size += stretch.size
        if len(self._operations) >= TOGETHER or self._size >= TOGETHER_BYTES:
            await self.settle()

    def _count(self, counts: dict[str, int], lines: Sequence[Line]) -> None:
        for line in lines:
            counts[COUNTED[type(line.record)]] += 1
