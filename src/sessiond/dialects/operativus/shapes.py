"""What the operativus wire looks like: camelCase, Spring's pages and Spring's errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sessiond.core import errors
from sessiond.core.errors import InvalidInput
from sessiond.core.event import StoredMessage
from sessiond.core.ids import parse_id
from sessiond.core.limits import OFFSET_MAX, PAGE_DEFAULT
from sessiond.core.message import Message, Role, make_message, text_of, unpack_message
from sessiond.core.page import SessionPage
from sessiond.core.run import CANCELLED, COMPLETED, FAILED, QUEUED, RUNNING, WAITING, Failure, Run, RunStatus
from sessiond.core.session import NewSession, Session, Sort
from sessiond.web.answers import iso_millis
from sessiond.web.errors import MethodNotAllowed

SIZE_MAX: Final = 100  # every session carries all its messages

SORTS: Final = {"createdAt": Sort.CREATED, "updatedAt": Sort.UPDATED}

WireRunStatus = Literal["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]

RUN_STATUSES: Final[Mapping[RunStatus, WireRunStatus]] = {
    QUEUED: "QUEUED",
    RUNNING: "RUNNING",
    WAITING: "RUNNING",  # the document has no word for a run that asks something
    COMPLETED: "COMPLETED",
    FAILED: "FAILED",
    CANCELLED: "CANCELLED",
}

StreamEventType = Literal[
    "START",
    "REASONING_DELTA",
    "CONTENT_DELTA",
    "CONTENT_DONE",
    "TOOL_START",
    "TOOL_END",
    "TOOL_ERROR",
    "PAUSED",
    "CANCELLED",
    "ERROR",
    "STOP",
]


class MessageOut(msgspec.Struct, frozen=True):
    role: Role
    content: str


class SessionOut(msgspec.Struct, frozen=True, rename="camel"):
    """A session on the wire; `messages` stands last, so that they can be written one after the other."""

    session_id: str
    id: str
    """The same again: the published user interface reads it."""
    user_id: str | None
    agent_id: str | None
    created_at: str
    updated_at: str
    messages: list[MessageOut]


class PageOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A Spring `Page`; `content` stands last, so that it can be written session by session."""

    total_elements: int
    total_pages: int
    number: int
    size: int
    number_of_elements: int
    first: bool
    last: bool
    empty: bool
    content: list[SessionOut]


class RunOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    agent_id: str
    session_id: str | None
    """None once its session is deleted."""
    status: WireRunStatus
    created_at: str
    completed_at: str | None
    input: str | None
    output: str | None
    error: str | None
    """Why it failed or was cancelled."""


class RunResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A run as the answer to whoever started it: a `RunOut`, and two fields under names that clients read."""

    run_id: str
    content: str | None
    id: str
    agent_id: str
    session_id: str | None
    status: WireRunStatus
    created_at: str
    completed_at: str | None
    input: str | None
    output: str | None
    error: str | None


class StreamEvent(msgspec.Struct, frozen=True):
    """One event of a run's stream."""

    event: StreamEventType
    data: str
    """A piece of text; of tools and questions, JSON."""
    timestamp: int
    """Milliseconds since 1970."""
    run: RunOut | UnsetType = UNSET
    """The run as it began, with the first START, and as it ended, with STOP."""


class ErrorOut(msgspec.Struct, frozen=True, kw_only=True):
    timestamp: str
    status: int
    error: str
    """What HTTP calls the status."""
    message: str
    path: str


class ListSessions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    user_id: str | None = None
    agent_id: str | None = None
    page: Annotated[int, Meta(ge=0, le=OFFSET_MAX // SIZE_MAX)] = 0
    size: int = PAGE_DEFAULT
    """More than 100 is as good as 100, less than 1 as good as 1."""
    sort: Annotated[
        list[Annotated[str, Meta(extra_json_schema={"pattern": "^(createdAt|updatedAt)(,(asc|desc))?$"})]],
        Meta(max_length=1),
    ] = []

    @property
    def limit(self) -> int:
        return min(max(self.size, 1), SIZE_MAX)

    def order(self) -> tuple[Sort, bool]:
        """Return what to sort by, and whether the latest comes first.

        Raises:
            InvalidInput: sessions cannot be sorted so.
        """
        if not self.sort:
            return Sort.CREATED, True
        name, comma, direction = self.sort[0].partition(",")
        # A sort that names no direction ascends, as in Spring.
        if name not in SORTS or (comma and direction.lower() not in ("asc", "desc")):
            raise InvalidInput("sort must be createdAt or updatedAt, and may end in ,asc or ,desc", field="sort")
        return SORTS[name], direction.lower() == "desc"


class StartRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    message: Annotated[str, Meta(min_length=1)]
    session_id: str | None = None
    """Without one there is a new session."""
    user_id: str | None = None
    stream: bool | None = None
    """None: as the request's Accept says."""

    def parse(self, agent_id: str) -> NewSession:
        """Return the session meant, as it is if it must be made.

        Raises:
            InvalidInput, TooLarge: the user's id cannot be one.
        """
        return NewSession(agent_id=agent_id, user_id=parse_id(self.user_id, "userId") if self.user_id else None)

    def said(self) -> Message:
        return make_message(Role.USER, self.message)


STATUS: Final[Mapping[type[errors.SessiondError], int]] = {
    errors.InvalidInput: 400,
    errors.Locked: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    MethodNotAllowed: 405,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.KeyReused: 422,
    errors.Damaged: 500,
    errors.TooMany: 429,
    errors.Unavailable: 503,
}
REASONS: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Payload Too Large",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def page_out(page: SessionPage, *, number: int, size: int) -> PageOut:
    """Return a page without its content. `page` was read with its total."""
    assert page.total is not None
    pages = -(-page.total // size)
    return PageOut(
        total_elements=page.total,
        total_pages=pages,
        number=number,
        size=size,
        number_of_elements=len(page.sessions),
        first=number == 0,
        last=number + 1 >= pages,
        empty=not page.sessions,
        content=[],
    )


def session_out(session: Session) -> SessionOut:
    """Return a session without its messages."""
    return SessionOut(
        session.id,
        session.id,
        session.user_id,
        session.agent_id,
        iso_millis(session.created_at_us),
        iso_millis(session.updated_at_us),
        [],
    )


def message_out(event: StoredMessage) -> MessageOut:
    message = unpack_message(event.body)
    return MessageOut(message.role, text_of(message.content))


def run_out(run: Run) -> RunOut:
    return RunOut(
        id=run.id,
        agent_id=run.agent_id,
        session_id=run.session_id,
        status=RUN_STATUSES[run.status],
        created_at=iso_millis(run.created_at_us),
        completed_at=iso_millis(run.completed_at_us) if run.completed_at_us is not None else None,
        input=text_of(msgspec.Raw(run.input)) if run.input is not None else None,
        output=text_of(msgspec.Raw(run.output)) if run.output is not None else None,
        error=error_text(run),
    )


def result_out(run: Run) -> RunResult:
    out = run_out(run)
    return RunResult(run_id=out.id, content=out.output, **msgspec.structs.asdict(out))


def error_text(run: Run) -> str | None:
    """Return why a run failed or was cancelled; None while it may still end well."""
    if not run.ended or run.error is None:
        return None
    return msgspec.json.decode(run.error, type=Failure).message
