"""Times on the wire, and answers that are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.errors import InvalidInput
from sessiond.core.limits import TIME_MAX_US
from sessiond.web.answers import Answer, iso_micros, iso_millis, pack_answer, parse_time, unpack_answer

times = st.integers(0, TIME_MAX_US)


@given(times)
def test_a_time_reads_back_to_the_microsecond(at_us: int) -> None:
    assert parse_time(iso_micros(at_us), "at") == at_us
    assert parse_time(iso_millis(at_us), "at") == at_us - at_us % 1_000


@given(times, times)
def test_times_sort_as_their_texts_do(one: int, other: int) -> None:
    assert (one < other) == (iso_micros(one) < iso_micros(other))


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - the zone is drawn beside it
    st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_any_offset_is_understood(at: datetime, zone: timezone) -> None:
    expected = (at.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    assert parse_time(at.replace(tzinfo=zone).isoformat(), "at") == expected
    assert parse_time(at.isoformat(), "at") == parse_time(at.isoformat() + "Z", "at")


@given(st.text())
def test_other_texts_are_times_or_refused_by_name(text: str) -> None:
    try:
        at_us = parse_time(text, "expires_at")
    except InvalidInput as error:
        refused = error
    else:
        assert 0 <= at_us <= TIME_MAX_US
        return
    assert refused.field == "expires_at"
    assert "expires_at" in refused.message


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "1700000000", "2026-02-30", "2026-13-01", "2026-01-01T00:00:00+25:00"),
        *("1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01", "0001-01-01T00:00:00+23:59"),
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_what_is_no_time_between_1970_and_9999_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="at must be"):
        parse_time(text, "at")


def test_an_answer_is_kept_whole() -> None:
    answer = Answer(201, b"\x00\xff", "text/plain", (("etag", '"1"'), ("location", "/é")))

    assert unpack_answer(pack_answer(answer)) == answer
