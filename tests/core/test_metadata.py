"""Metadata and data: merged as RFC 7396 says, kept, and found by their scalars."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.limits import METADATA_FILTER_MAX_BYTES, METADATA_MAX_BYTES, METADATA_MAX_KEYS
from sessiond.core.metadata import check_filter, filterable, merge, pack_data, pack_metadata, unpack

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3))
objects = st.dictionaries(texts, values, max_size=5)


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        # RFC 7396, appendix A: the cases whose target and patch are objects. Others never come this far.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        # Section 3's example.
        (
            {"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}, "tags": ["x"], "content": "c"},
            {"title": "Hello!", "phoneNumber": "+01", "author": {"familyName": None}, "tags": ["y"]},
            {"title": "Hello!", "author": {"givenName": "John"}, "tags": ["y"], "content": "c", "phoneNumber": "+01"},
        ),
    ],
)
def test_a_merge_patch_does_what_the_rfc_shows(
    original: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]
) -> None:
    before = json.dumps([original, patch])

    assert merge(original, patch) == result
    assert json.dumps([original, patch]) == before, "neither is changed"


@given(objects, objects)
def test_a_merge_patch_applied_twice_is_applied_once(original: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge(original, patch)

    assert merge(once, patch) == once


@given(objects)
def test_what_is_packed_unpacks_alike(value: dict[str, Any]) -> None:
    for pack in (pack_metadata, pack_data):
        assert unpack(pack(value)) == value
        assert pack(None) is pack({}) is None


def test_metadata_has_a_greatest_size_and_number_of_keys() -> None:
    pack_metadata({str(key): 0 for key in range(METADATA_MAX_KEYS)})
    pack_metadata({"": "x" * (METADATA_MAX_BYTES - 7)})
    with pytest.raises(TooLarge, match="keys"):
        pack_metadata({str(key): 0 for key in range(METADATA_MAX_KEYS + 1)})
    with pytest.raises(TooLarge, match="bytes"):
        pack_metadata({"": "x" * (METADATA_MAX_BYTES - 6)})
    pack_data({"": "x" * METADATA_MAX_BYTES})  # data is bounded by the body's size alone


def test_scalars_can_be_found_as_a_query_string_writes_them() -> None:
    packed = pack_metadata(
        {
            "text": "Ü b",
            "yes": True,
            "no": False,
            "whole": -7,
            "large": 10**30,
            "part": 1.5,
            "nothing": None,
            "list": ["a"],
            "object": {"a": "b"},
            "empty": "",
        }
    )

    assert filterable(packed) == {
        "text": "Ü b",
        "yes": "true",
        "no": "false",
        "whole": "-7",
        "large": "1" + "0" * 30,
        "part": "1.5",
        "empty": "",
    }
    assert filterable(None) == {}


def test_what_is_too_long_for_an_index_or_has_a_nul_is_kept_but_not_found() -> None:
    fits, over = "é" * (METADATA_FILTER_MAX_BYTES // 2), "é" * (METADATA_FILTER_MAX_BYTES // 2) + "x"

    assert filterable(pack_metadata({fits: fits, over: "a", "a": over, "n": "\0", "\0": "n"})) == {fits: fits}


@given(objects)
def test_whatever_can_be_found_can_be_asked_for(value: dict[str, Any]) -> None:
    for key, text in filterable(pack_metadata(value)).items():
        if key:
            assert check_filter(key, text) == (key, text)


@pytest.mark.parametrize(("key", "value"), [("", "a"), ("a\0", "a"), ("a", "\0"), ("a" * 513, "a"), ("a", "é" * 257)])
def test_what_can_never_be_found_is_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_filter(key, value)

    assert refused.value.field == "metadata"


def test_data_that_patches_have_grown_over_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge, match="data is larger"):
        pack_data({"text": "x" * 1024 * 1024})
