"""The records of a bundle, and how they are made of what they tell of, and the other way round.

A record holds what makes a thing what it is. Left out is what belongs to one server (its workspace's id, leases, who
works), what follows from other records (counts, sizes, whose a session's runs and inboxes are), and what must not leave
it (secrets).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from sessiond.core.agent import SECRET_MAPS, SECRETS, URLS, Agent, without_credentials
from sessiond.core.bundle import Scope
from sessiond.core.event import Event
from sessiond.core.extraction import Extraction
from sessiond.core.ids import SEQ_MAX, SessionId, WorkspaceId
from sessiond.core.inbox import Inbox
from sessiond.core.limits import TIME_MAX_US
from sessiond.core.mail import Content, Envelope, Mail
from sessiond.core.run import QUEUED, RUNNING, WAITING, Run, RunStatus, Strategy
from sessiond.core.session import Session, Status
from sessiond.core.wait import Wait, WaitStatus, WaitType

Time = Annotated[int, Meta(ge=0, le=TIME_MAX_US)]
Count = Annotated[int, Meta(ge=0, le=SEQ_MAX)]
Place = Annotated[int, Meta(ge=1, le=SEQ_MAX)]
"""A seq."""
Kind = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*$", max_length=100)]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line. Its fields stand in the order in which they are declared; those that say nothing are left out."""


class Header(Record, frozen=True, kw_only=True, tag_field="type", tag="bundle"):
    format: str
    version: int
    scope: Scope
    id: str | None = None
    secrets: bool = False
    """Whether the options of agents are whole."""


class AgentRecord(Record, frozen=True, kw_only=True, tag_field="type", tag="agent"):
    id: str
    runner: str
    options: Raw
    time_limit_seconds: Annotated[float, Meta(gt=0, le=7 * 86_400)]
    retries: Annotated[int, Meta(ge=0, le=100)]
    backoff_seconds: Annotated[float, Meta(ge=0, le=3_600)]
    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    history: Annotated[int, Meta(ge=1, le=1_000)]
    fails_session: bool

    def make(self, workspace_id: WorkspaceId, *, at_us: int) -> Agent:
        return Agent(
            workspace_id,
            self.id,
            self.runner,
            bytes(self.options),
            self.time_limit_seconds,
            self.retries,
            self.backoff_seconds,
            self.concurrency,
            self.history,
            self.fails_session,
            at_us,
            at_us,
        )


class JsonRecord(Record, frozen=True, kw_only=True):
    """A record with JSON of others in it, which keeps its bytes.

    As it is it stands in the line, unless it has line breaks: then it is a string, and `as_text` names its field.
    """

    as_text: list[str] = []

    def json(self, field: str) -> bytes | None:
        value: Raw | UnsetType = getattr(self, field)
        if value is UNSET:
            return None
        return msgspec.json.decode(value, type=str).encode() if field in self.as_text else bytes(value)

    def must_json(self, field: str) -> bytes:
        value = self.json(field)
        assert value is not None, "a record without it is no such record"
        return value


class SessionRecord(JsonRecord, frozen=True, kw_only=True, tag_field="type", tag="session"):
    id: str
    agent_id: str | None = None
    user_id: str | None = None
    task_id: str | None = None
    name: str | None = None
    user_name: str | None = None
    user_email: str | None = None
    accept_terms: str | None = None
    status: Status
    last_seq: Place
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    parent: str | None = None
    created_at_us: Time
    updated_at_us: Time
    last_active_at_us: Time
    completed_at_us: Time | None = None
    expires_at_us: Time | None = None
    multitask_strategy: Strategy | None = None
    metadata: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    prompt: str | None = None

    def make(self, workspace_id: WorkspaceId) -> Session:
        """Return the session without what its log tells: how many messages it has, and how large it is."""
        fields = {name: getattr(self, name) for name in _SESSION}
        fields |= {"metadata": self.json("metadata"), "data": self.json("data")}
        return Session(
            **fields,
            workspace_id=workspace_id,
            message_count=0,
            log_bytes=0,
            largest_bytes=0,
            agent_registered=None,
        )


class EventRecord(JsonRecord, frozen=True, kw_only=True, tag_field="type", tag="event"):
    seq: Place
    kind: Kind
    created_at_us: Time
    actor: str
    run_id: str | None = None
    action: str | None = None
    duration_us: Count | None = None
    body: Raw

    def make(self, session_id: SessionId) -> Event:
        return Event(
            session_id,
            self.seq,
            self.kind,
            self.created_at_us,
            self.actor,
            self.run_id,
            self.action,
            self.duration_us,
            self.must_json("body"),
        )


class RunRecord(JsonRecord, frozen=True, kw_only=True, tag_field="type", tag="run"):
    id: str
    agent_id: str
    user_id: str | None = None
    """Of a run whose session was deleted."""
    status: RunStatus
    queued_seq: Place
    input_seq: Count
    input: Raw | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    ask: Raw | UnsetType = UNSET
    answer: Raw | UnsetType = UNSET
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    attempts: Count = 0
    failures: Count = 0
    worker: str | None = None
    actor: str
    retry_of: str | None = None
    cancel_requested_at_us: Time | None = None
    created_at_us: Time
    started_at_us: Time | None = None
    completed_at_us: Time | None = None
    ended_seq: Place | None = None
    wait_id: str | None = None
    waits: Count = 0
    simulates: str | None = None

    def make(self, workspace_id: WorkspaceId, session: Session | None) -> Run:
        fields = {name: getattr(self, name) for name in _RUN}
        fields |= {name: self.json(name) for name in _RUN_JSON}
        owner = session.user_id if session is not None else self.user_id
        session_id = session.id if session is not None else None
        return Run(**fields, workspace_id=workspace_id, session_id=session_id, user_id=owner)


class InboxRecord(JsonRecord, frozen=True, kw_only=True, tag_field="type", tag="inbox"):
    id: str
    user_id: str | None = None
    """Of an inbox without a session."""
    address: str
    purpose: str | None = None
    metadata: Raw | UnsetType = UNSET
    actor: str
    created_at_us: Time
    expires_at_us: Time | None = None
    expired_at_us: Time | None = None

    def make(self, workspace_id: WorkspaceId, session: Session | None) -> Inbox:
        """Return the inbox without what its mails tell: how many they are, and how large."""
        fields = {name: getattr(self, name) for name in _INBOX}
        return Inbox(
            **fields,
            workspace_id=workspace_id,
            session_id=session.id if session is not None else None,
            user_id=session.user_id if session is not None else self.user_id,
            metadata=self.json("metadata"),
            mail_count=0,
            mail_bytes=0,
        )


class MailRecord(Record, frozen=True, kw_only=True, tag_field="type", tag="mail"):
    id: str
    received_at_us: Time
    envelope: Envelope
    extractions: list[Extraction]
    content: Content
    raw: bytes
    """In base64."""

    def make(self, inbox: Inbox) -> Mail:
        return Mail(
            inbox.workspace_id,
            self.id,
            inbox.id,
            inbox.session_id,
            inbox.user_id,
            self.received_at_us,
            len(self.raw),
            self.envelope,
            self.extractions,
        )


class WaitRecord(JsonRecord, frozen=True, kw_only=True, tag_field="type", tag="wait"):
    id: str
    inbox_id: str | None = None
    run_id: str | None = None
    user_id: str | None = None
    """Of a wait without a session."""
    kind: WaitType
    status: WaitStatus
    critical: bool = False
    terms: Raw
    result: Raw | UnsetType = UNSET
    reason: str | None = None
    actor: str
    created_at_us: Time
    times_out_at_us: Time | None = None
    ended_at_us: Time | None = None
    hook_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    """Of what stands in the URL that completes it, while it is pending."""

    def make(self, workspace_id: WorkspaceId, session: Session | None) -> Wait:
        fields = {name: getattr(self, name) for name in _WAIT}
        return Wait(
            **fields,
            workspace_id=workspace_id,
            session_id=session.id if session is not None else None,
            user_id=session.user_id if session is not None else self.user_id,
            type=self.kind,
            terms=self.must_json("terms"),
            result=self.json("result"),
        )

    @property
    def hook_hash(self) -> bytes | None:
        return bytes.fromhex(self.hook_sha256) if self.hook_sha256 is not None else None


class End(Record, frozen=True, kw_only=True, tag_field="type", tag="end"):
    agents: Count = 0
    sessions: Count = 0
    events: Count = 0
    runs: Count = 0
    inboxes: Count = 0
    mails: Count = 0
    waits: Count = 0
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """The chain's digest over all lines before this one: it names the bundle."""


AnyRecord = Header | AgentRecord | SessionRecord | EventRecord | RunRecord | InboxRecord | MailRecord | WaitRecord | End


def _shared(kind: type[msgspec.Struct], record: type[Record], *apart: str) -> tuple[str, ...]:
    """Return the fields that a thing and its record have alike."""
    return tuple(name for name in kind.__struct_fields__ if name in record.__struct_fields__ and name not in apart)


_RUN_JSON: Final = ("input", "output", "error", "ask", "answer")
_SESSION: Final = _shared(Session, SessionRecord, "metadata", "data")
_RUN: Final = _shared(Run, RunRecord, "user_id", *_RUN_JSON)
_INBOX: Final = _shared(Inbox, InboxRecord, "user_id", "metadata")
_WAIT: Final = _shared(Wait, WaitRecord, "user_id", "terms", "result")

_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(AnyRecord)


def encode(record: AnyRecord) -> bytes:
    return _encoder.encode(record)


def decode(record: bytes) -> AnyRecord:
    """Return what a line holds.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is no record.
    """
    decoded: AnyRecord = _decoder.decode(record)
    return decoded


def agent_record(agent: Agent, *, secrets: bool) -> AgentRecord:
    """Return an agent's record; without `secrets`, without the options that are secret."""
    options = agent.options
    if not secrets:
        given = msgspec.json.decode(options, type=dict[str, Any])
        shown = {name: value for name, value in given.items() if name not in SECRETS | SECRET_MAPS}
        shown |= {name: without_credentials(value) for name, value in shown.items() if name in URLS}
        options = _encoder.encode(shown)
    return AgentRecord(
        id=agent.id,
        runner=agent.runner,
        options=Raw(options),
        time_limit_seconds=agent.time_limit_seconds,
        retries=agent.retries,
        backoff_seconds=agent.backoff_seconds,
        concurrency=agent.concurrency,
        history=agent.history,
        fails_session=agent.fails_session,
    )


def session_record(session: Session) -> SessionRecord:
    fields = {name: getattr(session, name) for name in _SESSION}
    return SessionRecord(**fields, **_packed({"metadata": session.metadata, "data": session.data}))


def event_record(event: Event) -> EventRecord:
    return EventRecord(
        seq=event.seq,
        kind=event.type,
        created_at_us=event.created_at_us,
        actor=event.actor,
        run_id=event.run_id,
        action=event.action,
        duration_us=event.duration_us,
        **_packed({"body": event.body}),
    )


def run_record(run: Run) -> RunRecord:
    """Return a run's record. One that a worker had in hand is in the queue again, as if that worker had been lost."""
    if run.status is RUNNING or (run.status is WAITING and run.wait_id is None):
        run = msgspec.structs.replace(run, status=QUEUED, ask=None, answer=None)
    if not run.ended:
        run = msgspec.structs.replace(run, worker=None)
    fields = {name: getattr(run, name) for name in _RUN}
    user_id = run.user_id if run.session_id is None else None
    return RunRecord(**fields, user_id=user_id, **_packed({name: getattr(run, name) for name in _RUN_JSON}))


def inbox_record(inbox: Inbox) -> InboxRecord:
    fields = {name: getattr(inbox, name) for name in _INBOX}
    user_id = inbox.user_id if inbox.session_id is None else None
    return InboxRecord(**fields, user_id=user_id, **_packed({"metadata": inbox.metadata}))


def mail_record(mail: Mail, content: Content, raw: bytes) -> MailRecord:
    return MailRecord(
        id=mail.id,
        received_at_us=mail.received_at_us,
        envelope=mail.envelope,
        extractions=mail.extractions,
        content=content,
        raw=raw,
    )


def wait_record(wait: Wait, hook_hash: bytes | None) -> WaitRecord:
    fields = {name: getattr(wait, name) for name in _WAIT}
    pending_hook = hook_hash.hex() if hook_hash is not None and not wait.ended else None
    user_id = wait.user_id if wait.session_id is None else None
    packed = _packed({"terms": wait.terms, "result": wait.result})
    return WaitRecord(**fields, user_id=user_id, kind=wait.type, hook_sha256=pending_hook, **packed)


def _packed(values: Mapping[str, bytes | None]) -> dict[str, Any]:
    """Return JSON as it stands in a record; see `JsonRecord`."""
    fields: dict[str, Any] = {name: Raw(value) if value is not None else UNSET for name, value in values.items()}
    broken = [name for name, value in values.items() if value is not None and (b"\n" in value or b"\r" in value)]
    for name in broken:
        fields[name] = Raw(_encoder.encode(values[name].decode()))  # type: ignore[union-attr]  # it has a line break
    return fields | {"as_text": broken}
