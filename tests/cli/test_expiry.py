from __future__ import annotations

import pytest
import typer

from sessiond.cli.expiry import parse_expiry, parse_retention

NOW_US = 1_795_287_284_000_000  # 2026-11-21T18:54:44Z
DAY_US = 86_400_000_000


@pytest.mark.parametrize(
    ("text", "after_us"),
    [("90s", 90_000_000), ("45m", 2_700_000_000), ("12h", DAY_US // 2), ("30d", 30 * DAY_US), ("4w", 28 * DAY_US)],
)
def test_a_time_from_now_counts_in_its_unit(text: str, after_us: int) -> None:
    assert parse_expiry(text, None, now_us=NOW_US) == NOW_US + after_us


def test_a_point_in_time_is_taken_in_utc() -> None:
    assert parse_expiry(None, "2026-11-22T18:54:44", now_us=NOW_US) == NOW_US + DAY_US
    assert parse_expiry(None, "2026-11-22T20:54:44+02:00", now_us=NOW_US) == NOW_US + DAY_US


def test_a_key_without_either_does_not_expire() -> None:
    assert parse_expiry(None, None, now_us=NOW_US) is None


@pytest.mark.parametrize(
    ("expires_in", "expires_at"),
    [
        ("0d", None),
        ("-1d", None),
        ("1.5h", None),
        ("30", None),
        ("1y", None),
        ("", None),
        ("999999999w", None),
        (None, "yesterday"),
        (None, "2026-11-21T18:54:44Z"),
        ("1d", "2026-11-22T18:54:44Z"),
    ],
)
def test_what_is_no_time_to_come_is_refused(expires_in: str | None, expires_at: str | None) -> None:
    with pytest.raises(typer.BadParameter):
        parse_expiry(expires_in, expires_at, now_us=NOW_US)


def test_how_long_something_is_kept() -> None:
    assert [parse_retention(text) for text in ("forever", "0s", "90m", "30d")] == [None, 0, 5_400, 2_592_000]
    for text in ("", "30", "1y", "-1d", "999999999w"):
        with pytest.raises(typer.BadParameter):
            parse_retention(text)
