"""The states of a session, its version, and how it begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sessiond.core.errors import Conflict, PreconditionFailed
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.session import ENDED, NEXT, NewSession, Session, Status

NOW = 1_000_000


def begun(agent_id: str | None = None) -> Session:
    return NewSession(agent_id=agent_id).begin(WorkspaceId("w"), SessionId("s"), at_us=NOW)


def in_status(status: Status) -> Session:
    return replace(begun(), status=status, completed_at_us=NOW if status in ENDED else None)


@given(st.lists(st.sampled_from(Status)), st.sampled_from([None, "a"]))
def test_a_session_has_an_end_exactly_while_it_is_ended(steps: list[Status], agent_id: str | None) -> None:
    session = begun(agent_id)
    for at_us, step in enumerate(steps, NOW):
        try:
            after = session.become(step, at_us)
        except Conflict:
            continue
        assert after.status is step
        assert (after.completed_at_us is not None) == after.ended == (step in ENDED)
        if after.ended and not session.ended:
            assert after.completed_at_us == at_us
        assert not session.ended or step in {session.status, Status.ACTIVE}, "an ended session only reopens"
        session = after


@pytest.mark.parametrize("status", Status)
def test_becoming_what_it_is_changes_nothing(status: Status) -> None:
    session = in_status(status)

    assert session.become(status, NOW + 1) is session


@pytest.mark.parametrize(
    ("before", "after"),
    [(before, after) for before in Status for after in Status if after != before and after not in NEXT[before]],
)
def test_a_step_that_is_not_in_the_table_is_a_conflict_naming_both_states(before: Status, after: Status) -> None:
    with pytest.raises(Conflict) as refused:
        in_status(before).become(after, NOW)

    assert before in refused.value.message
    assert after in refused.value.message


@pytest.mark.parametrize("status", Status)
def test_only_an_ended_session_is_not_open(status: Status) -> None:
    if status in ENDED:
        with pytest.raises(Conflict, match=status):
            in_status(status).require_open()
    else:
        in_status(status).require_open()


def test_with_an_agent_a_session_waits_and_without_one_it_is_under_way() -> None:
    assert begun(agent_id="a").status is Status.CREATED
    assert begun().status is Status.ACTIVE


@pytest.mark.parametrize("if_match", [None, "*", " * ", "{etag}", '"other", {etag}', "{etag} ,"])
def test_the_version_at_hand_satisfies_if_match(if_match: str | None) -> None:
    session = begun()

    session.require_version(if_match.format(etag=session.etag) if if_match is not None else None)


@pytest.mark.parametrize("if_match", ["", '"other"', "W/{etag}", '"{etag}"', "0-f4240"])
def test_another_version_fails_if_match(if_match: str) -> None:
    session = begun()

    with pytest.raises(PreconditionFailed):
        session.require_version(if_match.format(etag=session.etag))


def test_every_event_and_every_rebirth_is_a_new_version() -> None:
    session = begun()
    grown = replace(session, last_seq=session.last_seq + 1)
    reborn = replace(session, created_at_us=session.created_at_us + 1)

    assert len({session.etag, grown.etag, reborn.etag}) == 3
