"""What runs look like on the native wire."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sessiond.core.limits import check_text
from sessiond.core.message import CONTENT_SCHEMA, Message, RawContent, Role, check_content
from sessiond.core.run import Answer, Ask, Failure, Run, RunStatus, Strategy
from sessiond.dialects.native.times import iso
from sessiond.web.answers import iso_micros

NULL: Final = msgspec.Raw(b"null")
NO_TYPE: Final = {"type": "null"}


class RunOut(msgspec.Struct, frozen=True):
    """A run on the wire."""

    id: str
    session_id: str | None
    """Null when the session was deleted."""
    agent_id: str
    user_id: str | None
    status: RunStatus
    input: Annotated[msgspec.Raw, Meta(extra_json_schema={"anyOf": [*CONTENT_SCHEMA["anyOf"], NO_TYPE]})]
    output: Annotated[msgspec.Raw, Meta(extra_json_schema={"anyOf": [{"type": "string"}, NO_TYPE]})]
    error: Failure | None
    ask: Ask | None
    prompt_tokens: int
    completion_tokens: int
    attempts: int
    worker: str | None
    retry_of: str | None
    cancel_requested_at: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None


class RunPageOut(msgspec.Struct, frozen=True, kw_only=True):
    data: list[RunOut]
    next_cursor: str | None
    prev_cursor: str | None
    total: int | UnsetType = UNSET


class RunPosition(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of runs ends."""

    of_one_session: bool
    """Whether they stand in the order of a session's queue, else by the time of their creation."""
    descending: bool
    at: int
    id: str


class StartRun(msgspec.Struct, frozen=True, kw_only=True):
    input: RawContent | UnsetType = UNSET
    multitask_strategy: Strategy | None = None

    def parse(self) -> Message | None:
        if self.input is UNSET:
            return None
        return Message(role=Role.USER, content=check_content(self.input, "input"))


class Respond(msgspec.Struct, frozen=True, kw_only=True):
    option_id: str | None = None
    content: Any = None

    def parse(self) -> Answer:
        option_id = check_text(self.option_id, "option_id") if self.option_id is not None else None
        return Answer(option_id=option_id, content=self.content)


def run_out(run: Run) -> RunOut:
    return RunOut(
        run.id,
        run.session_id,
        run.agent_id,
        run.user_id,
        run.status,
        msgspec.Raw(run.input) if run.input is not None else NULL,
        msgspec.Raw(run.output) if run.output is not None else NULL,
        msgspec.json.decode(run.error, type=Failure) if run.error is not None else None,
        msgspec.json.decode(run.ask, type=Ask) if run.ask is not None else None,
        run.prompt_tokens,
        run.completion_tokens,
        run.attempts,
        run.worker,
        run.retry_of,
        iso(run.cancel_requested_at_us),
        iso_micros(run.created_at_us),
        iso(run.started_at_us),
        iso(run.completed_at_us),
    )
