"""What an agent is told when a run of it starts: what to answer, the conversation, and what it has waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from sessiond.actions.work import Work
from sessiond.core.event import RUN_TOOL_RESULT, StoredMessage
from sessiond.core.ids import MESSAGE, RunId, make_event_id
from sessiond.core.message import Role, unpack_message
from sessiond.core.metadata import unpack
from sessiond.core.run import PIECES_MAX, WAITS_MAX, About, Brief, Recorded, Run, Said, Waited
from sessiond.core.session import Session
from sessiond.core.wait import Wait
from sessiond.storage import events, runs, sessions, waits
from sessiond.storage.engine import Tx

RECORDED_PAGE: Final = 200


async def read_brief(tx: Tx, work: Work, session: Session) -> Brief:
    """Return what the agent is told, by the session as it is now."""
    run = work.run
    said = [_said(message) for message in await _read_history(tx, session, run, limit=work.agent.history)]
    waited = await waits.read_of_run(tx, session.workspace_id, run.id, limit=WAITS_MAX) if run.waits else []
    return Brief(
        run_id=run.id,
        attempt=run.attempts,
        agent=work.agent,
        session=_about(session),
        input=_input(run, said),
        messages=said,
        waits=[_waited(wait) for wait in waited],
        recorded=await _read_recorded(tx, session, run.simulates) if run.simulates is not None else None,
    )


def _in_order(history: Sequence[StoredMessage], inputs: Mapping[str, int], *, input_seq: int) -> list[StoredMessage]:
    """Return messages up to the place of `input_seq` as a conversation: an answer stands behind what it answers.

    `inputs` says of runs where that stands.
    """

    def place(message: StoredMessage) -> tuple[int, int]:
        return inputs.get(message.run_id or "", message.seq), message.seq

    return [message for message in sorted(history, key=place) if place(message)[0] <= input_seq]


async def _read_history(tx: Tx, session: Session, run: Run, *, limit: int) -> list[StoredMessage]:
    """Return up to `limit` messages up to a run's input, with the answers that earlier runs gave."""
    earlier = await runs.read_before(tx, session.workspace_id, session.id, seq=run.input_seq, limit=limit)
    until = following = run.input_seq
    late = 0
    for one in reversed(earlier):
        # What it said stands behind what was said before it spoke.
        late += one.input_seq < one.queued_seq - 1 or (one.ended_seq or 0) > following
        until, following = max(until, one.ended_seq or 0), one.queued_seq
    history = await events.read_history(tx, session, input_seq=run.input_seq, until=until, limit=limit + late)
    return _in_order(history, {one.id: one.input_seq for one in earlier}, input_seq=run.input_seq)[-limit:]


def _said(message: StoredMessage) -> Said:
    unpacked = unpack_message(message.body)
    return Said(
        id=make_event_id(MESSAGE, message.session_id, message.seq),
        role=unpacked.role,
        content=unpacked.content,
        metadata=unpacked.metadata,
    )


def _waited(wait: Wait) -> Waited:
    result = msgspec.Raw(wait.result) if wait.result is not None else None
    return Waited(id=wait.id, type=wait.type, status=wait.status, result=result)


async def _read_recorded(tx: Tx, session: Session, run_id: RunId) -> list[Recorded]:
    """Return what the tools of a recorded run answered; nothing where it, or its session, is gone."""
    recorded = await runs.find(tx, session.workspace_id, run_id, user_id=session.user_id)
    # Of a session that was read from a file there is the log and no run.
    theirs_id = (recorded.session_id if recorded is not None else None) or session.parent
    theirs = await sessions.find(tx, session.workspace_id, theirs_id or "", user_id=None)
    if theirs is None:
        return []
    answered, after = list[Recorded](), recorded.queued_seq if recorded is not None else 0
    while True:
        page = await events.read_page(tx, theirs, after=after, types=(RUN_TOOL_RESULT,), limit=RECORDED_PAGE)
        answered += [msgspec.json.decode(event.body, type=Recorded) for event in page.events if event.run_id == run_id]
        if not page.more or len(answered) >= PIECES_MAX:
            return answered
        after = page.events[-1].seq


def _about(session: Session) -> About:
    return About(
        id=session.id,
        user_id=session.user_id,
        task_id=session.task_id,
        name=session.name,
        prompt=session.prompt,
        metadata=unpack(session.metadata),
        data=unpack(session.data),
    )


def _input(run: Run, said: Sequence[Said]) -> msgspec.Raw | None:
    if run.input is not None:
        return msgspec.Raw(run.input)
    return said[-1].content if said and said[-1].role is Role.USER else None
