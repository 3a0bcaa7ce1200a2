"""Ids: what can be one, and what an event's id says."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.ids import EVENT, MESSAGE, SEQ_MAX, make_event_id, parse_event_id, parse_id
from sessiond.core.limits import ID_MAX_CHARS


def is_legal(value: str) -> bool:
    try:
        parse_id(value, "id")
    except (InvalidInput, TooLarge):
        return False
    return True


legal_ids = st.text(min_size=1, max_size=ID_MAX_CHARS).filter(is_legal)


@given(st.sampled_from([EVENT, MESSAGE]), legal_ids, st.integers(0, SEQ_MAX))
@example(EVENT, "evt_1.msg_2", 3)
@example(MESSAGE, "1.2", SEQ_MAX)
def test_an_events_id_says_where_it_is(prefix: str, session_id: str, seq: int) -> None:
    assert parse_event_id(make_event_id(prefix, session_id, seq)) == (session_id, seq)


@given(st.text() | st.from_regex(r"(evt|msg)_[\d+-]{0,25}\.?.{0,3}"))
@example(f"evt_{SEQ_MAX + 1}.s")
@example("evt_01.s")
@example("evt_-1.s")
@example("evt_².s")
@example("evt_٣.s")
@example("evt_1.")
@example("evt_" + "9" * 5_000 + ".s")
@example("run_1.s")
def test_what_is_no_events_id_is_none_and_what_is_reads_back(value: str) -> None:
    place = parse_event_id(value)

    assert place is None or make_event_id(value.partition("_")[0], place[0], place[1]) == value


@given(legal_ids)
def test_a_legal_id_is_kept_as_it_is_and_stands_between_two_slashes(value: str) -> None:
    assert parse_id(value, "id") == value
    assert "/" not in value
    assert value not in {".", ".."}
    assert value.encode().decode() == value


@pytest.mark.parametrize(
    "value", ["", " ", "a ", " a", "\u00a0a", "a/b", "/", ".", "..", "a\0", "a\nb", "\x7f", "\ud800"]
)
def test_what_cannot_stand_in_a_url_is_no_id(value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_id(value, "task_id")

    assert refused.value.field == "task_id"
    assert "task_id" in refused.value.message


def test_an_id_has_a_greatest_length() -> None:
    assert parse_id("é" * ID_MAX_CHARS, "id")
    with pytest.raises(TooLarge, match="id"):
        parse_id("a" * (ID_MAX_CHARS + 1), "id")
