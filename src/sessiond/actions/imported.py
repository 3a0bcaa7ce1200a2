"""What an import finds there already, and what it gathers of a session until that can be shown."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from sessiond.core.bundle_order import Line
from sessiond.core.bundle_records import EventRecord, InboxRecord, MailRecord, RunRecord, WaitRecord
from sessiond.core.errors import Conflict, NotFound
from sessiond.core.event import Event
from sessiond.core.ids import WorkspaceId
from sessiond.core.inbox import Inbox
from sessiond.core.mail import Content, Mail
from sessiond.core.run import Run
from sessiond.core.session import Session
from sessiond.core.wait import Wait, WaitType
from sessiond.storage import appends, events, inboxes, mails, runs, waits
from sessiond.storage.engine import Tx


class Existing:
    """Looks whether what a record tells of is there. Asked for all records of a bundle, in their order."""

    def __init__(self, workspace_id: WorkspaceId) -> None:
        self._workspace_id = workspace_id
        self._has_inbox = False

    async def find(self, tx: Tx, line: Line, *, session_id: str | None) -> bool:
        """Whether it is there; of a session that is not there nothing can be, but what an import has left of it.

        Raises:
            Conflict: something else has its id, its address or its URL.
        """
        match line.record:
            case RunRecord():
                return await self._find_run(tx, line.number, line.record, session_id)
            case InboxRecord():
                self._has_inbox = await self._find_inbox(tx, line.number, line.record, session_id)
                return self._has_inbox
            case MailRecord():
                return self._has_inbox or await self._find_mail(tx, line.number, line.record)
            case WaitRecord():
                return await self._find_wait(tx, line.number, line.record, session_id)
        return False

    async def _find_run(self, tx: Tx, number: int, record: RunRecord, session_id: str | None) -> bool:
        found = await runs.find(tx, self._workspace_id, record.id, user_id=None)
        return found is not None and _is_same(number, f"run {record.id}", record, found, session_id)

    async def _find_inbox(self, tx: Tx, number: int, record: InboxRecord, session_id: str | None) -> bool:
        found = await inboxes.find(tx, self._workspace_id, record.id, user_id=None)
        if found is not None and session_id is None and found.address == record.address:
            return _is_same(number, f"inbox {record.id}", record, found, session_id)
        if found is not None:
            raise _conflict(number, f"the inbox {record.id} is another one here")
        if await inboxes.find_by_address(tx, record.address) is not None:
            raise _conflict(
                number,
                f"another inbox of this server has the address {record.address}; delete that, also where it is in"
                " another workspace, or import into another server",
            )
        return False

    async def _find_mail(self, tx: Tx, number: int, record: MailRecord) -> bool:
        try:
            await mails.get(tx, self._workspace_id, record.id, user_id=None)
        except NotFound:
            return False
        raise _conflict(number, f"the mail {record.id} is in another inbox here")

    async def _find_wait(self, tx: Tx, number: int, record: WaitRecord, session_id: str | None) -> bool:
        found = await waits.find(tx, self._workspace_id, record.id, user_id=None)
        if found is not None:
            return _is_same(number, f"wait {record.id}", record, found, session_id)
        if record.hook_hash is not None and await waits.find_by_hook(tx, record.hook_hash) is not None:
            raise _conflict(
                number,
                f"the URL that completes the wait {record.id} completes another one of this server; cancel that,"
                " or import into another server",
            )
        return False


def _is_same(
    number: int,
    name: str,
    record: RunRecord | InboxRecord | WaitRecord,
    found: Run | Inbox | Wait,
    session_id: str | None,
) -> bool:
    if found.session_id != session_id or found.created_at_us != record.created_at_us:
        raise _conflict(number, f"the {name} is another one here")
    # Of a session that is not there it is what an import has left, and goes before it comes again.
    return session_id is None


def _conflict(number: int, why: str) -> Conflict:
    return Conflict(f"line {number} of the bundle: {why}")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction writes, and how far its session is then."""

    workspace_id: WorkspaceId
    events: list[Event]
    runs: list[Run]
    mails: list[tuple[Mail, Content, bytes]]
    ended: list[Wait]
    inboxes: list[Inbox]
    """Those of which all mails are there."""
    pending: list[tuple[Wait, bytes | None]]
    message_count: int
    log_bytes: int
    largest_bytes: int
    open_runs: int
    run_count: int
    ended_count: int
    """Of its waits."""

    async def write(self, tx: Tx) -> None:
        """Write what nobody sees before its session, or inbox, is there."""
        await appends.restore(tx, self.workspace_id, self.events)
        await runs.restore(tx, self.runs)
        for mail, content, raw in self.mails:
            await mails.restore(tx, mail, content, raw)
        for wait in self.ended:
            await waits.insert(tx, wait)

    async def write_last(self, tx: Tx) -> None:
        """Write what others act on: what takes mail, and what ends by the clock."""
        for inbox in self.inboxes:
            await inboxes.insert(tx, inbox)
        for wait, hook_hash in self.pending:
            await waits.insert(tx, wait, hook_hash=hook_hash)
        for session_id in {wait.session_id for wait, _ in self.pending if wait.type is WaitType.EVENT}:
            assert session_id is not None, "such a wait is of a session"
            # What it waits for may be in the log already: nobody had looked there when it was exported.
            await events.tell_waits(tx, self.workspace_id, session_id)

    def finish(self, session: Session) -> Session:
        """Return the session with what its log, which is whole now, has told."""
        return replace(
            session,
            message_count=self.message_count,
            log_bytes=self.log_bytes,
            largest_bytes=self.largest_bytes,
        )


class Gathered:
    """What is known so far of a session, or of what is of none, whose records come one after the other."""

    def __init__(self, workspace_id: WorkspaceId, session: Session | None) -> None:
        self._workspace_id = workspace_id
        self.session = session
        self._inboxes: list[Inbox] = []
        self._pending: list[tuple[Wait, bytes | None]] = []
        self._messages = self._bytes = self._largest = self._open_runs = self._runs = self._ended = 0

    def add(self, lines: Sequence[Line], *, last: bool) -> Part:
        """Return what is to be written of some records; `last`: there are no more."""
        found, made = list[Event](), list[Run]()
        came, ended = list[tuple[Mail, Content, bytes]](), list[Wait]()
        for line in lines:
            match line.record:
                case EventRecord():
                    found.append(self._add_event(line.record))
                case RunRecord():
                    made.append(line.record.make(self._workspace_id, self.session))
                    self._open_runs += not made[-1].ended
                case InboxRecord():
                    self._inboxes.append(line.record.make(self._workspace_id, self.session))
                case MailRecord():
                    came.append(self._add_mail(line.record))
                case WaitRecord():
                    wait = line.record.make(self._workspace_id, self.session)
                    if wait.ended:
                        ended.append(wait)
                    else:
                        self._pending.append((wait, line.record.hook_hash))
        self._runs += len(made)
        self._ended += len(ended)
        whole, pending = self._take_whole(last=last)
        return Part(
            workspace_id=self._workspace_id,
            events=found,
            runs=made,
            mails=came,
            ended=ended,
            inboxes=whole,
            pending=pending,
            message_count=self._messages,
            log_bytes=self._bytes,
            largest_bytes=self._largest,
            open_runs=self._open_runs,
            run_count=self._runs,
            ended_count=self._ended,
        )

    def _add_event(self, record: EventRecord) -> Event:
        assert self.session is not None, "an event is of a session"
        event = record.make(self.session.id)
        self._messages += event.is_message
        self._bytes += len(event.body)
        self._largest = max(self._largest, len(event.body))
        return event

    def _add_mail(self, record: MailRecord) -> tuple[Mail, Content, bytes]:
        inbox = self._inboxes[-1]
        mail = record.make(inbox)
        self._inboxes[-1] = replace(inbox, mail_count=inbox.mail_count + 1, mail_bytes=inbox.mail_bytes + mail.size)
        return mail, record.content, record.raw

    def _take_whole(self, *, last: bool) -> tuple[list[Inbox], list[tuple[Wait, bytes | None]]]:
        """Return what can be shown: all at the end; before it, of no session, all but an inbox whose mails may come."""
        if self.session is not None and not last:
            return [], []
        whole = len(self._inboxes) if last else len(self._inboxes) - 1
        inboxes_, self._inboxes = self._inboxes[:whole], self._inboxes[whole:]
        pending, self._pending = self._pending, []
        return inboxes_, pending
