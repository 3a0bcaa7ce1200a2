"""Messages: their content is kept as it came, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond.core.errors import InvalidInput
from sessiond.core.message import (
    Message,
    Part,
    Role,
    check_content,
    make_message,
    pack_message,
    text_of,
    unpack_message,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
)
contents = texts | st.lists(st.dictionaries(texts, values, max_size=3), max_size=3)


@given(st.sampled_from(Role), contents, st.booleans(), st.sampled_from([None, 2]))
@example(Role.USER, '\0\u2028 \U0001f600 \\ / "', True, None)
@example(Role.TOOL, [{"n": 10**40, "m": -(10**40), "z": -0.0}], False, 2)
def test_content_is_kept_as_it_was_written(role: Role, content: Any, escaped: bool, indent: int | None) -> None:
    written = json.dumps(content, ensure_ascii=escaped, indent=indent).encode()

    message = Message(role=role, content=check_content(msgspec.Raw(written), "content"))

    kept = unpack_message(pack_message(message))
    assert bytes(kept.content) == written
    assert kept.role is role
    assert kept.metadata == msgspec.Raw(b"{}")


@pytest.mark.parametrize(
    "written",
    [
        *(b"null", b"1", b"true", b"{}", b'["a"]', b"[[]]", b'[{}, "a"]', b"[null]"),
        *(b'"\\ud800"', b'[{"a": "\\udc00"}]', b'"\xff"', b'[{"\xff": 1}]', b'"\xed\xa0\x80"'),  # no Unicode
        b'[{"a": 1e999}]',
    ],
)
def test_other_content_is_refused_by_name(written: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^messages\[3\]\.content ") as refused:
        check_content(msgspec.Raw(written), "messages[3].content")

    assert refused.value.field == "messages[3].content"


@given(texts)
def test_the_text_of_a_string_is_itself(text: str) -> None:
    assert text_of(make_message(Role.USER, text).content) == text


def test_the_text_of_parts_is_a_line_for_each_that_has_text() -> None:
    parts: list[Part] = [{"type": "text", "text": "one"}, {"type": "image"}, {"text": 2}, {"text": ""}, {"text": "two"}]

    assert text_of(make_message(Role.ASSISTANT, parts).content) == "one\n\ntwo"
    assert text_of(make_message(Role.ASSISTANT, []).content) == ""


def test_where_no_part_has_text_their_json_stands_for_them() -> None:
    parts: list[Part] = [{"type": "image", "url": "é"}, {"text": 2}]

    assert text_of(make_message(Role.ASSISTANT, parts).content) == '{"type":"image","url":"é"}\n{"text":2}'
    assert text_of(make_message(Role.ASSISTANT, [{"text": ""}, {"a": 1}]).content) == '{"text":""}\n{"a":1}'


def test_a_number_out_of_range_is_called_so() -> None:
    with pytest.raises(InvalidInput, match="content contains a number that is out of range"):
        check_content(msgspec.Raw(b'[{"a": 1e999}]'), "content")
