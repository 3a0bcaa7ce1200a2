"""A run: one piece of work of an agent in a session, its states, and what it is made of while it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from sessiond.core.agent import Agent
from sessiond.core.errors import Conflict, InvalidInput
from sessiond.core.ids import RunId, SessionId, WorkspaceId
from sessiond.core.message import Role
from sessiond.core.metadata import JsonObject
from sessiond.core.wait import FOR_MAIL, TIMEOUT_MAX_SECONDS, NewWait, Terms, WaitStatus, WaitType


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


QUEUED, RUNNING, WAITING, COMPLETED, FAILED, CANCELLED = RunStatus

NEXT: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    QUEUED: frozenset({RUNNING, FAILED, CANCELLED}),
    # Back to QUEUED to be tried again, or because its worker stopped.
    RUNNING: frozenset({QUEUED, RUNNING, WAITING, COMPLETED, FAILED, CANCELLED}),
    # To RUNNING with its answer, or because its worker was lost and another starts it over; to QUEUED when what it has
    # given up its worker for is there.
    WAITING: frozenset({QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED}),
    COMPLETED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}

ENDED: Final = frozenset({COMPLETED, FAILED, CANCELLED})

QUEUED_MAX: Final = 1_000  # open runs of one session: nobody waits for more, and a loop of messages ends somewhere
WAITS_MAX: Final = 100  # for which one run may give up its worker
LOST_MAX: Final = 20  # workers that a run may bring down, or see stopped, before it is given up
BACKOFF_MAX_SECONDS: Final = 3_600.0
OUTPUT_MAX_BYTES: Final = 1024 * 1024  # as much as a client may send as a message
PIECE_MAX_BYTES: Final = 256 * 1024  # a tool's result is a row of the log, and read with a page of it
PIECES_MAX_BYTES: Final = 64 * 1024 * 1024  # and what those rows may hold: it is all read again by who follows the log
PIECES_MAX: Final = 20_000  # rows of the log that one attempt may write


class Strategy(StrEnum):
    """What becomes of a message that comes while the session has an open run."""

    ENQUEUE = "enqueue"
    REJECT = "reject"
    INTERRUPT = "interrupt"


class Failure(msgspec.Struct, frozen=True):
    """Why a run failed: a word for programs and a sentence for people."""

    code: str
    message: str


class Run(msgspec.Struct, frozen=True):
    """One run as it is now. The order of the fields is the order of the columns in `storage/sql/runs.sql`."""

    workspace_id: WorkspaceId
    id: RunId
    session_id: SessionId | None
    """None when the session was deleted: runs outlive it."""
    agent_id: str
    user_id: str | None
    status: RunStatus
    queued_seq: int
    """Where in the log its `run.queued` stands: a session's runs go in this order."""
    input_seq: int
    """The last message before the run that it answers."""
    input: bytes | None
    """What the user said, as JSON; None when the run was started without a word."""
    output: bytes | None
    """What the agent said, as JSON."""
    error: bytes | None
    """A `Failure` as JSON; of a run that is queued again, that of its last attempt."""
    ask: bytes | None
    """What a waiting run asks (an `Ask` as JSON)."""
    answer: bytes | None
    """What it was answered, as JSON; taken by its worker."""
    prompt_tokens: int
    completion_tokens: int
    attempts: int
    """How often it was started."""
    failures: int
    """How many attempts failed by themselves."""
    worker: str | None
    """Who does it, or did it last."""
    actor: str
    """The id of the key that asked for it."""
    retry_of: RunId | None
    cancel_requested_at_us: int | None
    created_at_us: int
    started_at_us: int | None
    completed_at_us: int | None
    """When it ended, in whichever way."""
    ended_seq: int | None
    """Where in the log its last event stands."""
    wait_id: str | None = None
    """The wait for which it has given up its worker; it goes on, with a new attempt, when that ends."""
    waits: int = 0
    """How often it did so."""
    simulates: RunId | None = None
    """The run whose recorded tools answer those that this one calls."""
    key_id: int | None = None
    """The key that its content is sealed with; None: it is kept in plain text. No wire shows it."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def become(self, status: RunStatus, at_us: int) -> Run:
        """Return the run in `status`.

        Raises:
            Conflict: no step leads there; the message names both states.
        """
        if status not in NEXT[self.status]:
            raise Conflict(f"a run that is {self.status} cannot become {status}")
        # It was asked for by one clock and is done by another.
        at_us = max(at_us, self.created_at_us, self.started_at_us or 0)
        return replace(
            self,
            status=status,
            started_at_us=at_us if status is RUNNING and self.started_at_us is None else self.started_at_us,
            completed_at_us=at_us if status in ENDED else None,
            ask=self.ask if status is WAITING else None,
            answer=None,
        )


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list. Several values of one field: any of them. Several fields: all of them."""

    session_ids: tuple[str, ...] = ()
    agent_ids: tuple[str, ...] = ()
    statuses: tuple[RunStatus, ...] = ()


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a list of runs."""

    runs: list[Run]
    next_position: tuple[int, str] | None
    """Where the next page goes on; None when there is no more."""
    total: int | None = None
    """How many the list has; None unless it was asked for."""

    @property
    def more(self) -> bool:
        return self.next_position is not None


# What a runner yields. Each is also what a `command` agent may print, a JSON object with its `type` on a line.


class Text(msgspec.Struct, frozen=True, tag="text"):
    """More of the answer."""

    text: str


class Thought(msgspec.Struct, frozen=True, tag="thought"):
    """What the agent thinks aloud; no part of its answer."""

    text: str


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    id: str
    name: str
    arguments: Any = None


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    id: str
    """The call's."""
    output: Any = None
    is_error: bool = False


class Usage(msgspec.Struct, frozen=True, tag="usage"):
    """Tokens used, to be added to what was reported before in this attempt."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Choice(msgspec.Struct, frozen=True):
    id: str
    name: str


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """A question to whoever watches: the run waits, and the runner is sent an `Answer`."""

    title: str
    options: list[Choice] = []
    detail: Any = None


class Answer(msgspec.Struct, frozen=True):
    """What a waiting run was answered: one of the options it gave, or something else."""

    option_id: str | None = None
    content: Any = None


class WaitFor(msgspec.Struct, frozen=True, tag="wait"):
    """The last piece of an attempt: the run waits without its agent, which is started again when the wait has ended.

    The agent finds in its brief how each of its waits has ended. Mails count that have come since the attempt began.
    """

    kind: WaitType = msgspec.field(name="for")
    inbox_id: str | None = None
    timeout_seconds: Annotated[float, Meta(gt=0, le=TIMEOUT_MAX_SECONDS)] | None = None
    critical: bool = False
    sender: str | None = msgspec.field(name="from", default=None)
    subject_contains: str | None = None
    events: list[str] = []
    title: str | None = None
    detail: Any = None

    def make(self, *, since_us: int) -> NewWait:
        """Return the wait that is wanted.

        Raises:
            InvalidInput, TooLarge: there can be no such wait.
        """
        if self.kind is WaitType.WEBHOOK:
            raise InvalidInput("nobody would know the URL that is to be called", field="for")
        terms = Terms(
            sender=self.sender,
            subject_contains=self.subject_contains,
            since_us=since_us if self.kind in FOR_MAIL else None,
            events=self.events,
            title=self.title,
            detail=self.detail,
        )
        return NewWait(
            type=self.kind,
            inbox_id=self.inbox_id,
            timeout_seconds=self.timeout_seconds,
            critical=self.critical,
            terms=terms,
            session_id="",  # its own
        ).checked()


class Waited(msgspec.Struct, frozen=True, kw_only=True):
    """A wait of a run that has ended, as its agent gets it."""

    id: str
    type: WaitType
    status: WaitStatus
    result: msgspec.Raw | None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool answered when the run was recorded that this one simulates."""

    name: str
    arguments: Any = None
    output: Any = None
    is_error: bool = False


Piece = Text | Thought | ToolCall | ToolResult | Usage | Ask | WaitFor


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A message as an agent gets it."""

    id: str
    role: Role
    content: msgspec.Raw
    """A JSON string, or a list of parts."""
    metadata: msgspec.Raw


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The session as an agent gets it."""

    id: SessionId
    user_id: str | None
    task_id: str | None
    name: str | None
    prompt: str | None
    metadata: JsonObject
    data: JsonObject


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """All that an agent is told when a run starts."""

    run_id: RunId
    attempt: int
    agent: Agent
    session: About
    input: msgspec.Raw | None
    """What the user said last, the content of the last message; None when the last word was not the user's."""
    messages: list[Said]
    """The conversation up to the input, oldest first; the answers to earlier messages stand behind them."""
    waits: list[Waited] = []
    """What the run has waited for, in order; the last is why it goes on."""
    recorded: list[Recorded] | None = None
    """In a simulation, what the tools answered in the recorded run, in order: they are not to be called again."""
