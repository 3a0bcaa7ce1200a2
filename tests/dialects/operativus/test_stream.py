"""What a client is told of a run's text, which comes live and in the log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.event import RUN_STARTED, RUN_TEXT, Delta, Event, make_entry
from sessiond.core.ids import SessionId
from sessiond.dialects.operativus.stream import Telling


def started(attempt: int) -> Event:
    return of_log(RUN_STARTED, {"attempt": attempt})


def row(offset: int, text: str) -> Event:
    return of_log(RUN_TEXT, {"offset": offset, "text": text})


def of_log(type: str, body: object) -> Event:
    entry = make_entry(type, body)
    return Event(SessionId("s"), 1, entry.type, 0, "agent:a", "r", None, None, entry.body)


def live(offset: int, text: str, *, attempt: int = 1) -> Delta:
    return Delta("r", attempt, offset, text)


def told(*all_of_it: Event | Delta) -> list[tuple[str, str]]:
    """Return the events, and their data, that a client gets."""
    frames = Telling().tell(all_of_it).decode().split("\n\n")
    events = [json.loads(frame.removeprefix("data: ")) for frame in frames if frame]
    return [(event["event"], event["data"]) for event in events]


def test_what_came_live_is_not_told_again_by_the_log() -> None:
    assert told(started(1), live(0, "one "), live(4, "two"), row(0, "one two th"), row(10, "ree")) == [
        ("CONTENT_DELTA", "one "),
        ("CONTENT_DELTA", "two"),
        ("CONTENT_DELTA", " th"),
        ("CONTENT_DELTA", "ree"),
    ]


def test_what_was_lost_on_the_way_is_told_by_the_log_in_its_place() -> None:
    assert told(started(1), live(4, "two"), row(0, "one two")) == [("CONTENT_DELTA", "one two")]


def test_what_another_attempt_said_is_not_told() -> None:
    assert told(live(0, "early"), started(1), row(0, "old"), started(2), live(3, "er", attempt=1), row(0, "new")) == [
        ("CONTENT_DELTA", "old"),
        ("START", ""),
        ("CONTENT_DELTA", "new"),
    ]


@given(st.text(min_size=1), st.data())
def test_every_word_is_told_once_whatever_comes_live(text: str, data: st.DataObject) -> None:
    def cuts() -> Sequence[int]:
        return [0, *sorted(data.draw(st.sets(st.integers(1, len(text))))), len(text)]

    rows, pieces = cuts(), cuts()
    parts: list[Event | Delta] = [started(1)]
    for start, end in pairwise(rows):
        parts += [live(a, text[a:b]) for a, b in pairwise(pieces) if data.draw(st.booleans())]
        parts.append(row(start, text[start:end]))

    assert "".join(word for event, word in told(*parts)) == text
