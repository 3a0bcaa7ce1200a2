"""A bundle read: which record may follow which, and whether all that was written is there.

The order is the only one that there is for what a bundle holds, so that the same content makes the same bytes. What is
of no session comes first: agents, then runs whose session was deleted, then inboxes and waits that never had one. Each
session is followed by its events, its runs, its inboxes, each with its mails, and its waits.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec

from sessiond.core.bundle import FORMAT, LINE_MAX_BYTES, VERSION, Chain, Scope, Subject, refusal
from sessiond.core.bundle_checks import check_record
from sessiond.core.bundle_records import (
    AgentRecord,
    AnyRecord,
    End,
    EventRecord,
    Header,
    InboxRecord,
    MailRecord,
    RunRecord,
    SessionRecord,
    WaitRecord,
    agent_record,
    decode,
    encode,
    event_record,
    inbox_record,
    run_record,
    session_record,
    wait_record,
)
from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.ids import WorkspaceId
from sessiond.core.inbox import PER_SESSION_MAX
from sessiond.core.session import Session
from sessiond.core.wait import PENDING, PENDING_PER_SESSION_MAX, WaitType

NOWHERE: Final = WorkspaceId("")

# What stands before what: of no session, of a session, and the end of it all.
_LOOSE: Final = {AgentRecord: 1, RunRecord: 2, InboxRecord: 3, MailRecord: 3, WaitRecord: 4}
_OF_SESSION: Final = {SessionRecord: 0, EventRecord: 1, RunRecord: 2, InboxRecord: 3, MailRecord: 3, WaitRecord: 4}
COUNTED: Final = {
    AgentRecord: "agents",
    SessionRecord: "sessions",
    EventRecord: "events",
    RunRecord: "runs",
    InboxRecord: "inboxes",
    MailRecord: "mails",
    WaitRecord: "waits",
}


class Line(NamedTuple):
    """A line that was read."""

    number: int
    record: AnyRecord
    size: int


def read_bundle(lines: Iterable[bytes]) -> Iterator[Line]:
    """Yield what the lines of a bundle hold, each once it was checked with all before it.

    What is yielded before the `End` is of a bundle that may yet turn out to be damaged.

    Raises:
        InvalidInput: they are no bundle, or not as they were written; the message says which line is wrong.
    """
    reader = _Reader()
    for line in lines:
        yield reader.read(line)
    reader.require_end()


def subject_of(header: Header) -> Subject:
    return Subject(header.scope, header.id)


class _Reader:
    def __init__(self) -> None:
        self._chain = Chain()
        self._header: Header | None = None
        self._ended = False
        self._session: SessionRecord | None = None
        self._made: Session | None = None
        self._seq = 0
        self._rank = 0
        self._behind: dict[Any, Any] = {}
        """By kind of record, the last one's place in the order."""
        self._inboxes = self._pending = 0
        self._counts = dict.fromkeys(COUNTED.values(), 0)
        self._ids = _Ids()

    def read(self, line: bytes) -> Line:
        number = self._chain.lines + 1
        if len(line) > LINE_MAX_BYTES:
            raise refusal(number, f"is longer than {LINE_MAX_BYTES} bytes, which no record is")
        if self._ended:
            raise refusal(number, "stands behind the bundle's end")
        digest = self._chain.digest
        packed = self._chain.open(line)
        try:
            record = decode(packed)
            check_record(record)
            self._place(record, number, digest)
            if encode(self._again(record)) != packed:
                raise InvalidInput("it is not written as sessiond writes it")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput, TooLarge) as error:
            raise refusal(number, f"is no record that can stand there: {error}") from error
        return Line(number, record, len(line))

    def require_end(self) -> None:
        if not self._ended:
            raise refusal(self._chain.lines + 1, "is missing: the bundle ends early")

    def _again(self, record: AnyRecord) -> AnyRecord:
        """Return the record of what a record says: the only one that there is for it."""
        match record:
            case AgentRecord():
                assert self._header is not None
                return agent_record(record.make(NOWHERE, at_us=0), secrets=self._header.secrets)
            case SessionRecord():
                return session_record(record.make(NOWHERE))
            case EventRecord():
                assert self._made is not None
                return event_record(record.make(self._made.id))
            case RunRecord():
                return run_record(record.make(NOWHERE, self._made))
            case InboxRecord():
                return inbox_record(record.make(NOWHERE, self._made))
            case WaitRecord():
                return wait_record(record.make(NOWHERE, self._made), record.hook_hash)
        return record

    def _place(self, record: AnyRecord, number: int, digest: str) -> None:
        """Check that a record may stand behind those before it."""
        if isinstance(record, Header):
            self._begin(record)
            return
        if self._header is None:
            raise InvalidInput("the first line says what the bundle is, and this one does not")
        if isinstance(record, End):
            self._end(record, digest)
            return
        self._counts[COUNTED[type(record)]] += 1
        if isinstance(record, SessionRecord):
            self._begin_session(record)
            return
        rank = (_LOOSE if self._session is None else _OF_SESSION).get(type(record))
        if rank is None or rank < self._rank:
            raise InvalidInput("it comes too late, or too soon: see the order of records")
        if isinstance(record, EventRecord):
            self._seq += 1
            if record.seq != self._seq:
                raise InvalidInput(f"it is event {record.seq}, where {self._seq} was to come")
        elif rank > 1:
            self._require_whole_log()
        self._rank = rank
        self._place_in_order(record)
        if not isinstance(record, AgentRecord | EventRecord):
            self._ids.add(f"{COUNTED[type(record)]} {record.id}", number)

    def _begin(self, header: Header) -> None:
        if self._header is not None:
            raise InvalidInput("a bundle begins once")
        if header.format != FORMAT:
            raise InvalidInput(f"its format is {header.format}, and not {FORMAT}")
        if header.version != VERSION:
            raise InvalidInput(f"it has version {header.version}, and this release reads {VERSION}")
        if (header.scope is Scope.WORKSPACE) != (header.id is None):
            raise InvalidInput("it does not say whose it is")
        self._header = header

    def _begin_session(self, record: SessionRecord) -> None:
        assert self._header is not None
        self._require_whole_log()
        if self._session is not None and record.id <= self._session.id:
            raise InvalidInput("sessions stand in the order of their ids, each once")
        whose = {
            Scope.AGENT: record.agent_id,
            Scope.USER: record.user_id,
            Scope.SESSION: record.id,
            Scope.WORKSPACE: None,
        }
        if whose[self._header.scope] != self._header.id:
            raise InvalidInput(f"it is not of the {subject_of(self._header)}")
        self._session, self._made = record, record.make(NOWHERE)
        self._seq = self._rank = self._inboxes = self._pending = 0
        self._behind.clear()

    def _require_whole_log(self) -> None:
        if self._session is not None and self._seq != self._session.last_seq:
            raise InvalidInput(
                f"the session {self._session.id} has {self._seq} of its {self._session.last_seq} events before it"
            )

    def _place_in_order(self, record: AnyRecord) -> None:
        match record:
            case AgentRecord():
                self._require_behind(AgentRecord, record.id)
            case RunRecord() if self._session is not None:
                if record.queued_seq > self._seq:
                    raise InvalidInput("it was queued behind the end of its session's log")
                self._require_behind(RunRecord, record.queued_seq)
            case RunRecord():
                self._require_behind(RunRecord, (record.created_at_us, record.id))
            case InboxRecord():
                self._inboxes += 1
                if self._session is not None and self._inboxes > PER_SESSION_MAX:
                    raise InvalidInput(f"a session has at most {PER_SESSION_MAX} inboxes")
                self._require_behind(InboxRecord, (record.created_at_us, record.id))
                self._behind.pop(MailRecord, None)
            case MailRecord():
                if InboxRecord not in self._behind:
                    raise InvalidInput("there is no inbox before it that it is in")
                self._require_behind(MailRecord, (record.received_at_us, record.id))
            case WaitRecord():
                if record.kind is WaitType.EVENT and self._session is None:
                    raise InvalidInput("a wait for an event is of a session")
                self._pending += record.status is PENDING
                if self._session is not None and self._pending > PENDING_PER_SESSION_MAX:
                    raise InvalidInput(f"a session has at most {PENDING_PER_SESSION_MAX} pending waits")
                self._require_behind(WaitRecord, (record.created_at_us, record.id))

    def _require_behind(self, kind: Any, place: Any) -> None:
        before = self._behind.get(kind)
        if before is not None and place <= before:
            raise InvalidInput("it is not in its place in the order, or stands there twice")
        self._behind[kind] = place

    def _end(self, end: End, digest: str) -> None:
        self._require_whole_log()
        if end.sha256 != digest:
            raise InvalidInput("its checksum is not that of the lines before it")
        for name, count in self._counts.items():
            if getattr(end, name) != count:
                raise InvalidInput(f"it counts {getattr(end, name)} {name}, and there are {count}")
        if (number := self._ids.find_repeated()) is not None:
            raise InvalidInput(f"the id in line {number} stands in the bundle twice")
        self._ended = True


class _Ids:
    """The ids of a bundle, of which none may be there twice: a few bytes for each, however many they are."""

    def __init__(self) -> None:
        self._hashes, self._lines = array("q"), array("q")

    def add(self, id: str, line: int) -> None:
        self._hashes.append(hash(id))
        self._lines.append(line)

    def find_repeated(self) -> int | None:
        """Return a line whose id stands in a line before it too."""
        order = sorted(range(len(self._hashes)), key=self._hashes.__getitem__)
        for first, second in pairwise(order):
            if self._hashes[first] == self._hashes[second]:
                return self._lines[max(first, second)]
        return None
