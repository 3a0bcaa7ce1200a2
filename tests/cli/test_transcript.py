"""A session's log as a conversation. Pure: no server, no terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.cli.transcript import Transcript, brief, text_of
from sessiond.client import Delta, Event

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def event(type: str, data: dict[str, Any] | None = None, *, run: str | None = None, seconds: int = 0) -> Event:
    at = NOON + timedelta(seconds=seconds)
    return Event(
        id=f"evt_{seconds}", seq=seconds + 1, type=type, created_at=at, actor="key_1", run_id=run, data=data or {}
    )


def message(role: str, content: Any, *, run: str | None = None, seconds: int = 0) -> Event:
    return event(f"message.{role}", {"role": role, "content": content}, run=run, seconds=seconds)


def written(told: Iterable[Event | Delta], **names: str) -> str:
    transcript = Transcript(names=names)
    return "".join(map(transcript.tell, told)) + transcript.finish()


RUN: list[Event | Delta] = [
    message("user", "Rain?", run="run_1", seconds=1),
    event("run.queued", {"agent_id": "sky"}, run="run_1", seconds=1),
    event("run.started", {"agent_id": "sky", "attempt": 1}, run="run_1", seconds=2),
    event("run.text", {"text": "Let me ", "offset": 0}, run="run_1", seconds=2),
    event("run.text", {"text": "look.\n\n", "offset": 7}, run="run_1", seconds=2),
    event("run.tool_call", {"id": "c1", "name": "weather", "arguments": {"city": "Oslo"}}, run="run_1", seconds=3),
    event("run.tool_result", {"id": "c1", "name": "weather", "output": ["Rain"]}, run="run_1", seconds=3),
    event("run.text", {"text": "It rains.", "offset": 14}, run="run_1", seconds=4),
    message("assistant", "Let me look.\n\nIt rains.", run="run_1", seconds=4),
    event("run.completed", {"status": "completed", "prompt_tokens": 3, "completion_tokens": 5}, run="run_1", seconds=4),
]
CONVERSATION = """\
── 2026-11-30 (UTC) ──
12:00:01  user (ada)
  Rain?

12:00:02  assistant (sky)
  Let me look.
  → weather {"city":"Oslo"}
  ← weather ["Rain"]
  It rains.
12:00:04  · run completed, 3 + 5 tokens
"""


def test_a_log_reads_as_a_conversation() -> None:
    assert written(RUN, user="ada", assistant="sky") == CONVERSATION


def test_words_on_their_way_are_written_once() -> None:
    live = [*RUN]
    live[3:3] = [
        Delta(run_id="run_1", attempt=1, offset=0, text="Let"),
        Delta(run_id="run_1", attempt=1, offset=3, text=" me look"),
    ]
    live.insert(6, Delta(run_id="run_1", attempt=1, offset=0, text="Let me look.\n\n"))

    assert written(live, user="ada", assistant="sky") == CONVERSATION


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6), st.sets(st.integers(0, 5)))
def test_whichever_words_are_lost_on_their_way_the_answer_is_whole(pieces: list[str], lost: set[int]) -> None:
    offset, told = 0, [RUN[2]]
    for number, piece in enumerate(pieces):
        if number not in lost:
            told.append(Delta(run_id="run_1", attempt=1, offset=offset, text=piece))
        offset += len(piece)
    whole = "".join(pieces)
    told.append(event("run.text", {"text": whole, "offset": 0}, run="run_1", seconds=2))
    told.append(message("assistant", whole, run="run_1", seconds=2))

    assert written(told) == written([told[0], *told[-2:]])


def test_an_answer_whose_beginning_was_not_heard_is_told_whole() -> None:
    said = written(RUN[7:], assistant="sky").splitlines()

    assert said[1:3] == ["12:00:04  assistant (sky)", "  It rains."]
    assert said[4:8] == ["12:00:04  assistant (sky)", "  Let me look.", "", "  It rains."]


def test_an_attempt_that_failed_stays_and_the_next_begins_anew() -> None:
    told = [
        event("run.started", {"attempt": 1}, run="run_1"),
        event("run.text", {"text": "Well", "offset": 0}, run="run_1"),
        event("run.retrying", {"attempt": 1, "error": {"code": "exit", "message": "it\nfell"}}, run="run_1"),
        event("run.started", {"attempt": 2}, run="run_1"),
        event("run.text", {"text": "Yes.", "offset": 0}, run="run_1"),
        message("assistant", "Yes.", run="run_1"),
        event("run.failed", {"error": {"code": "late", "message": "too late"}}, run="run_1"),
    ]

    assert written(told).splitlines()[1:] == [
        "12:00:00  assistant",
        "  Well",
        "12:00:00  · attempt 1 failed: exit: it fell; there will be another",
        "",
        "12:00:00  assistant",
        "  Yes.",
        "12:00:00  · run failed: late: too late",
    ]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (event("session.completed", {"reason": "done"}), "· session completed: done"),
        (event("session.updated", {"name": "x", "metadata": {}}), "· session changed: name, metadata"),
        (event("session.message_removed", {"role": "user", "seq": 3}), "· a message was taken back: user, number 3"),
        (event("inbox.created", {"address": "a@b"}), "· inbox a@b"),
        (event("mail.received", {"from": "acme@x", "subject": "Your\r\ncode"}), "· mail from acme@x: Your code"),
        (event("wait.created", {"type": "otp"}), "· waits for otp"),
        (event("wait.completed", {"type": "otp", "result": {"value": "482913"}}), "· wait for otp completed: 482913"),
        (event("wait.timed_out", {"type": "otp"}), "· wait for otp timed out"),
        (event("shop.ordered", {"n": 1}), '· shop.ordered {"n":1}'),
        (
            event("run.waiting", {"title": "May I?", "options": [{"id": "y", "name": "Yes"}]}, run="run_1"),
            "? May I? [y (Yes)]",
        ),
    ],
)
def test_what_happens_beside_is_a_line(told: Event, shown: str) -> None:
    lines = written([told]).splitlines()

    assert lines[-1].endswith(shown)


def test_of_thoughts_the_first_is_told() -> None:
    thoughts = [event("run.thought", {"text": f"thought {n}"}, run="run_1") for n in range(3)]
    call = event("run.tool_call", {"name": "look"}, run="run_1")

    assert written([*thoughts, call, thoughts[2]]).splitlines()[2:] == ["  (thought 0)", "  → look", "  (thought 2)"]


def test_where_a_message_was_taken_back_nothing_is_told() -> None:
    assert written([event("removed")]) == ""


def test_a_new_day_is_told() -> None:
    told = [message("user", "Late", seconds=0), message("user", "Early", seconds=86_400)]

    assert "\n\n── 2026-12-01 (UTC) ──\n12:00:00  user\n  Early\n" in written(told)


def test_parts_are_read_as_text_and_named_where_they_are_none() -> None:
    parts = [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {"url": "x" * 500}}]

    text = text_of(parts)

    assert text.startswith('See:\n[{"type":"image_url"')
    assert len(text) < 200
    assert text_of("plain") == "plain"
    assert text_of(None) == "null"


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x1b\x07\x9b\u202e\r\n")))
def test_nothing_that_was_said_or_done_drives_the_terminal(bad: str) -> None:
    told = [
        message("user", bad),
        message(bad, [{"type": bad, "text": bad}, {"type": bad}]),
        event("run.started", {"attempt": 1}, run="r"),
        event("run.text", {"text": bad, "offset": 0}, run="r"),
        event("run.tool_call", {"name": bad, "arguments": {bad: bad}}, run="r"),
        event("run.tool_result", {"name": bad, "output": bad, "is_error": True}, run="r"),
        event("run.thought", {"text": bad}, run="r"),
        event("run.waiting", {"title": bad or "x", "options": [{"id": bad, "name": bad}]}, run="r"),
        event("run.answered", {"content": bad}, run="r"),
        event("run.failed", {"error": {"code": bad, "message": bad}}, run="r"),
        event("session.completed", {"reason": bad}),
        event("mail.received", {"from": bad, "subject": bad}),
        event("wait.completed", {"type": bad, "result": {"value": bad}}),
        event(f"x.{bad}", {bad: bad}),
    ]

    shown = written(told, user=bad, assistant=bad)

    assert all(
        c == "\n" or c == "\t" or not ("\x00" <= c < " " or "\x7f" <= c <= "\x9f" or c == "\u202e") for c in shown
    )


def test_what_a_tool_is_given_is_cut() -> None:
    assert len(brief({"text": "x" * 10_000})) == 160
    assert brief(None) == ""
