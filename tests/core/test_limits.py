"""The checks that need no more than a limit."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.limits import NESTING_MAX, TEXT_MAX_CHARS, check_nesting, check_prose, check_text


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_printable_text_is_kept_as_it_is(text: str) -> None:
    assert check_text(text, "name") == text


@pytest.mark.parametrize("text", ["a\0b", "\t", "a\nb", "\x1f", "\x7f", "\ud83d", "\udc00x"])
def test_a_line_holds_no_control_characters_and_no_half_characters(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^name ") as refused:
        check_text(text, "name")

    assert refused.value.field == "name"


def test_a_line_has_a_greatest_length() -> None:
    check_text("x" * TEXT_MAX_CHARS, "name")
    with pytest.raises(TooLarge, match=r"^name "):
        check_text("x" * (TEXT_MAX_CHARS + 1), "name")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_prose_keeps_its_lines(text: str) -> None:
    assert check_prose(text, "prompt") == text


def test_prose_holds_no_nul() -> None:
    with pytest.raises(InvalidInput, match=r"^prompt "):
        check_prose("a\nb\0", "prompt")


_TEXT = st.text('a[]{}"\\,\n é')
_JSON = st.recursive(_TEXT | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner))


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@given(_JSON, st.integers(NESTING_MAX - 6, NESTING_MAX), st.sampled_from(["[…]", '{"…]": …}', '["]}\\"", …, []]']))
def test_json_has_a_greatest_depth(inner: Any, levels: int, level: str) -> None:
    before, _, after = level.rpartition("…")
    body = before * levels + json.dumps(inner) + after * levels

    if _depth(json.loads(body)) <= NESTING_MAX:
        check_nesting(body.encode())
    else:
        with pytest.raises(InvalidInput, match="deep"):
            check_nesting(body.encode())


@pytest.mark.parametrize("body", [b"[" + b"[]," * 349_000 + b"[]]", (b"[" * 90 + b"]" * 90 + b",") * 5_800])
def test_many_brackets_are_counted_in_one_pass(body: bytes) -> None:
    begun = time.process_time()

    check_nesting(body)

    assert time.process_time() - begun < 0.15
