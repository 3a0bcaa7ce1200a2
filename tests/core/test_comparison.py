"""What counts as a difference between a recording and what came out now."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.comparison import (
    PAIRED_MAX,
    Called,
    Comparison,
    Ended,
    Summary,
    Verdict,
    compare_calls,
    compare_ends,
    diff_lines,
    pair,
    same,
)
from sessiond.core.ids import SessionId

RENAMED: Final = {"sess_recorded": "sess_again", "a@x": "b@x", "inb_0123456789": "inb_9876543210"}


@pytest.mark.parametrize(
    ("recorded", "now"),
    [
        ("x", "x"),
        ({"a": 1, "b": [None]}, {"b": [None], "a": 1}),
        ("in sess_recorded!", "in sess_again!"),
        ({"inbox": "inb_0123456789", "of": ["sess_recorded"]}, {"inbox": "inb_9876543210", "of": ["sess_again"]}),
        ("see msg_12.sess_recorded", "see msg_15.sess_again"),
        ("Made:\nsess_recorded\tmsg_1.x", "Made:\nsess_again\tmsg_2.x"),
        ("sess_recorded", "sess_recorded"),
    ],
)
def test_ids_and_the_order_of_fields_are_no_difference(recorded: Any, now: Any) -> None:
    assert same(recorded, now, RENAMED)


@pytest.mark.parametrize(
    ("recorded", "now"),
    [
        ("x", "y"),
        (1, True),
        (None, ""),
        ("sess_recorded", "sess_other"),
        ("sess_recordeds", "sess_agains"),
        ("a@x", "b@x"),  # too short to be known for sure
        ({"a": 1}, {"a": 1, "b": 2}),
        ("a\nsess_recorded", "a\\nsess_again"),
    ],
)
def test_what_else_differs_is_a_difference(recorded: Any, now: Any) -> None:
    assert not same(recorded, now, RENAMED)


def test_each_part_of_a_call_counts() -> None:
    call = Called("look_up", {"word": "a"}, "b")

    assert compare_calls(call, call, {}) is None
    assert compare_calls(call, Called("look_up", {"word": "c"}, "b"), {}) == "its arguments differ"
    assert compare_calls(call, Called("look_up", {"word": "a"}, "b", is_error=True), {}) == "its is_error differs"
    assert compare_calls(call, Called("find", {"word": "a"}, "c"), {}) == "its name and output differ"


def test_of_an_error_only_its_code_counts() -> None:
    failed = Ended("failed", None, {"code": "agent_failed", "message": "the program ended with exit code 3"})

    assert compare_ends(failed, Ended("failed", None, {"code": "agent_failed", "message": "another"}), {}) is None
    assert compare_ends(failed, Ended("failed", None, {"code": "time_limit", "message": ""}), {}) == (
        "its error differs"
    )
    assert compare_ends(Ended("completed", "a"), Ended("completed", "b"), {}) == "its output differs"
    assert compare_ends(Ended("completed", "a"), Ended("cancelled"), {}) == "its status and output differ"


def calls(*names: str) -> list[Called]:
    """Return calls: `a1` is a call of `a` with the argument 1."""
    return [Called(name[0], name[1:]) for name in names]


@pytest.mark.parametrize(
    ("recorded", "now", "pairs"),
    [
        ("a1 b1", "a1 b1", [(0, 0), (1, 1)]),
        ("a1 b1 c1", "b1 c1 d1", [(0, None), (1, 0), (2, 1), (None, 2)]),
        ("a1 c1", "a1 b1 c1", [(0, 0), (None, 1), (1, 2)]),
        ("a1 b1", "a1 b2", [(0, 0), (1, 1)]),
        ("a1 b1", "b2", [(0, None), (1, 0)]),
        ("a1", "b1", [(0, 0)]),
        ("", "a1 b1", [(None, 0), (None, 1)]),
        ("a1 b1", "", [(0, None), (1, None)]),
    ],
)
def test_calls_find_each_other(recorded: str, now: str, pairs: list[tuple[int | None, int | None]]) -> None:
    assert pair(calls(*recorded.split()), calls(*now.split()), {}) == pairs


def test_calls_find_each_other_by_todays_names() -> None:
    then = [Called("open", {"inbox": "inb_0123456789"}), Called("shut", "x")]
    now = [Called("first"), Called("open", {"inbox": "inb_9876543210"}), Called("shut", "x")]

    assert pair(then, now, RENAMED) == [(None, 0), (0, 1), (1, 2)]


def test_very_many_calls_are_paired_in_order() -> None:
    many = calls(*["a1"] * (PAIRED_MAX + 1))

    assert pair(many, many[1:], {})[-1] == (PAIRED_MAX, None)


@given(st.lists(st.sampled_from(["a1", "a2", "b1", "c1"])), st.lists(st.sampled_from(["a1", "a2", "b1", "c1"])))
def test_each_call_is_paired_once_and_in_order(recorded: list[str], now: list[str]) -> None:
    pairs = pair(calls(*recorded), calls(*now), {})

    assert [then for then, _ in pairs if then is not None] == list(range(len(recorded)))
    assert [place for _, place in pairs if place is not None] == list(range(len(now)))
    if recorded == now:
        assert all(then == place for then, place in pairs)


def test_a_summary_counts() -> None:
    summary = Summary(session_id=SessionId("s")).with_one(Verdict.SAME)
    assert not summary.drifted

    summary = summary.with_one(Verdict.CHANGED).with_one(Verdict.FAILED).with_one(Verdict.SAME)

    assert (summary.same, summary.changed, summary.failed, summary.drifted) == (2, 1, 1, True)


def test_a_diff_shows_text_line_by_line_and_what_is_new_as_new() -> None:
    told = Comparison(
        index=1,
        seq=2,
        action="run_agent",
        input={},
        recorded={"status": "completed", "output": "one\ntwo", "error": None},
        output={"status": "completed", "output": "one\nthree", "error": None},
        verdict=Verdict.CHANGED,
    )

    assert diff_lines(told) == [" output:", "   one", "-  two", "+  three"]
    new = Comparison(
        index=None, seq=None, action="call_tool", input={}, recorded=None, output={"output": [1]}, verdict=told.verdict
    )
    assert diff_lines(new) == ["+output: [1]"]
