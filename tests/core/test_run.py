"""The states of a run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.errors import Conflict
from sessiond.core.run import ENDED, NEXT, QUEUED, RUNNING, WAITING, Run, RunStatus

NOW = 1_000_000


def queued_run(**said: Any) -> Run:
    fields: dict[str, Any] = dict.fromkeys(Run.__struct_fields__)
    fields |= {"status": QUEUED, "created_at_us": 1}
    return Run(**(fields | said))


@given(st.lists(st.sampled_from(RunStatus)))
def test_an_ended_run_never_moves_again_and_has_an_end(steps: list[RunStatus]) -> None:
    run = queued_run()
    for at_us, step in enumerate(steps, NOW):
        if step not in NEXT[run.status]:
            with pytest.raises(Conflict, match=f"{run.status}.*{step}"):
                run.become(step, at_us)
            continue
        after = run.become(step, at_us)
        assert not run.ended
        assert after.status is step
        assert after.completed_at_us == (at_us if after.ended else None)
        assert after.ended == (step in ENDED) == (not NEXT[step])
        run = after


@given(st.lists(st.sampled_from([QUEUED, RUNNING, WAITING])))
def test_a_run_keeps_when_it_first_began(steps: list[RunStatus]) -> None:
    run, first = queued_run(), None
    for at_us, step in enumerate(steps, NOW):
        if step not in NEXT[run.status]:
            continue
        run = run.become(step, at_us)
        if step is RUNNING and first is None:
            first = at_us
        assert run.started_at_us == first


@pytest.mark.parametrize("status", RunStatus)
def test_a_question_is_there_only_while_it_waits_and_an_answer_until_the_next_step(status: RunStatus) -> None:
    waiting = queued_run(status=WAITING, ask=b"{}")
    assert waiting.become(RUNNING, NOW).ask is None

    running = queued_run(status=RUNNING, ask=b"{}", answer=b"{}")

    if status in NEXT[RUNNING]:
        assert (running.become(status, NOW).ask, running.become(status, NOW).answer) == (
            b"{}" if status is WAITING else None,
            None,
        )


def test_every_state_can_be_reached_and_left_for_an_end() -> None:
    assert set(NEXT) == set(RunStatus)
    reached, more = {QUEUED}, [QUEUED]
    while more:
        new = NEXT[more.pop()] - reached
        reached |= new
        more += new
    assert reached == set(RunStatus)
    for status, following in NEXT.items():
        assert status in ENDED or following & ENDED
