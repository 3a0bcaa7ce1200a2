"""Briefs for runners, made without a server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from sessiond.core.agent import NewAgent, Options
from sessiond.core.ids import RunId, SessionId, WorkspaceId
from sessiond.core.message import Content, Role
from sessiond.core.run import About, Answer, Ask, Brief, Piece, Said, ToolCall
from sessiond.runners.recording import Recording
from sessiond.runners.runner import Reply


def make_brief(
    options: Options | Mapping[str, Any] | None = None,
    *,
    runner: str = "command",
    said: Content | None = "hello",
    before: list[tuple[Role, Content]] | None = None,
    run_id: str | None = None,
    session_id: str = "chat",
    attempt: int = 1,
    prompt: str | None = None,
    metadata: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    time_limit_seconds: float = 600,
) -> Brief:
    """Return what a runner is told about a run of its own. `before` is the conversation up to what was `said`."""
    conversation = list(before or [])
    if said is not None:
        conversation.append((Role.USER, said))
    # Through JSON, as a registered agent's come: what has its default is left out.
    given = msgspec.json.decode(msgspec.json.encode({} if options is None else options))
    if isinstance(options, msgspec.Struct):
        given = {name: value for name, value in given.items() if value is not None}
    return Brief(
        run_id=RunId(run_id or f"run_{uuid.uuid4().hex}"),
        attempt=attempt,
        agent=NewAgent(runner=runner, options=given, time_limit_seconds=time_limit_seconds).make(
            WorkspaceId("default"), "tested", at_us=0
        ),
        session=About(
            id=SessionId(session_id),
            user_id=None,
            task_id=None,
            name=None,
            prompt=prompt,
            metadata=metadata or {},
            data=data or {},
        ),
        input=None if said is None else _raw(said),
        messages=[
            Said(id=f"msg_{seq}.{session_id}", role=role, content=_raw(content), metadata=msgspec.Raw(b"{}"))
            for seq, (role, content) in enumerate(conversation, start=2)
        ],
    )


async def read_all(
    pieces: AsyncGenerator[Piece, Reply], *answers: Answer, recording: Recording | None = None
) -> list[Piece]:
    """Run to the end and return every piece; the questions get these answers, in turn, and tools those recorded."""
    found, left = list[Piece](), list(answers)
    async with aclosing(pieces):
        try:
            piece = await anext(pieces)
            while True:
                found.append(piece)
                reply: Reply = left.pop(0) if isinstance(piece, Ask) else None
                if recording is not None and isinstance(piece, ToolCall):
                    reply = recording.answer(piece)
                piece = await pieces.asend(reply)
        except StopAsyncIteration:
            return found


def _raw(content: Content) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(content))
