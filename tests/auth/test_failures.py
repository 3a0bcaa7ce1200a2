"""Wrong keys, counted for each address."""

from __future__ import annotations

import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.auth import failures
from sessiond.auth.failures import WINDOW_SECONDS, Failures
from sessiond.core.errors import TooMany

ONE, OTHER = "192.0.2.1", "192.0.2.2"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(counted: Failures, address: str, times: int) -> None:
    for _ in range(times):
        counted.check(address)
        counted.note_failure(address)


def refused(counted: Failures, address: str) -> int:
    """Return after how many seconds the address, which must be refused, is to come back."""
    with pytest.raises(TooMany) as error:
        counted.check(address)
    return error.value.retry_after_seconds


def test_an_address_is_refused_after_so_many_failures_and_no_other_is(clock: Clock) -> None:
    counted = Failures(20, clock=clock)

    fail(counted, ONE, 20)

    assert refused(counted, ONE) == 2
    counted.check(OTHER)


@given(st.integers(1, 100_000))
def test_exactly_so_many_failures_are_had_whatever_their_number(most: int) -> None:
    counted = Failures(most, clock=lambda: 123.456)
    for _ in range(most - 1):
        counted.note_failure(ONE)

    fail(counted, ONE, 1)

    assert refused(counted, ONE) >= 1


def test_who_comes_back_when_told_is_let_in_for_one_more(clock: Clock) -> None:
    counted = Failures(6, clock=clock)
    fail(counted, ONE, 6)

    clock.now += refused(counted, ONE)

    fail(counted, ONE, 1)
    assert refused(counted, ONE) > 0


def test_after_a_window_without_failures_all_are_forgiven(clock: Clock) -> None:
    counted = Failures(5, clock=clock)
    fail(counted, ONE, 5)

    clock.now += WINDOW_SECONDS

    fail(counted, ONE, 5)
    assert refused(counted, ONE) > 0


def test_failures_of_requests_that_were_under_way_at_once_are_not_held_against_it_for_longer(clock: Clock) -> None:
    counted = Failures(5, clock=clock)
    for _ in range(1000):
        counted.note_failure(ONE)

    assert refused(counted, ONE) <= math.ceil(WINDOW_SECONDS / 5)


def test_an_ipv6_network_is_one_address(clock: Clock) -> None:
    counted = Failures(2, clock=clock)

    fail(counted, "2001:db8::1", 1)
    fail(counted, "2001:db8::2", 1)

    refused(counted, "2001:db8::3")
    counted.check("2001:db8:0:1::3")


def test_without_a_limit_nobody_is_refused(clock: Clock) -> None:
    counted = Failures(0, clock=clock)

    fail(counted, ONE, 1000)

    counted.check(ONE)


def test_no_more_addresses_are_kept_than_there_is_room_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "NETWORKS_MAX", 3)
    counted = Failures(1, clock=clock)

    for number in range(10):
        fail(counted, f"192.0.2.{number}", 1)

    assert len(counted._forgiven_at) == 3
    refused(counted, "192.0.2.9")
    counted.check("192.0.2.0")  # the one that failed the longest ago is forgotten


def test_the_log_says_it_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    counted = Failures(2, clock=clock)
    with caplog.at_level(logging.WARNING):
        for address in (ONE, OTHER):
            for _ in range(10):
                counted.note_failure(address)
        assert len(caplog.records) == 1
        assert ONE in caplog.records[0].getMessage()

        clock.now += failures.TELL_SECONDS
        for _ in range(10):
            counted.note_failure(OTHER)

    assert [OTHER in record.getMessage() for record in caplog.records] == [False, True]
