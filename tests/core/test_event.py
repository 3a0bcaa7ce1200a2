"""Events: what stands in them, and what is too long to."""

from __future__ import annotations

import msgspec
import pytest

from sessiond.core.event import shorten

MAX_BYTES = 100


@pytest.mark.parametrize("value", ["short", ["a", {"b": 1}], "x" * (MAX_BYTES - 2)])
def test_what_is_short_enough_stands_whole(value: object) -> None:
    assert msgspec.json.decode(msgspec.json.encode(shorten(msgspec.json.encode(value), MAX_BYTES))) == value


def test_of_what_is_too_long_the_beginning_stands_and_its_length() -> None:
    said = msgspec.json.encode("é" * MAX_BYTES)

    shown = shorten(said, MAX_BYTES)

    # The character at the cut is left out, not halved.
    assert shown == {"shortened": '"' + "é" * (MAX_BYTES // 2 - 1), "bytes": 2 * MAX_BYTES + 2}
