"""Replay: the steps of a whole log."""

from __future__ import annotations

from sessiond.actions import sessions, timeline
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.storage.engine import Engine
from tests.actions.calling import ME, append, create, gathered


async def test_the_steps_of_a_session_are_counted_through_all_pages(engine: Engine) -> None:
    await create(engine, "s", agent_id="a")
    await append(engine, "s", *("x" for _ in range(998)))
    await append(engine, "s", "y")
    await sessions.patch(Call(engine, ME), "s", SessionPatch(name="n"), itself)
    ended = await sessions.complete(Call(engine, ME), "s", itself, reason="r")

    steps = await gathered(timeline.read_steps(Call(engine, ME), ended))

    assert [step.index for step in steps] == list(range(1_002))
    assert [step.seq for step in steps] == [1, *range(3, 1_004)]
    assert [step.action for step in steps[::1_001]] == ["create_session", "complete_session"]
    assert steps[-1].input == {"reason": "r"}
