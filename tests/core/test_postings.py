"""Postings: what is packed is what comes out, alone, merged, and without what is gone."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.postings import (
    BITS_MAX,
    NAME,
    WORD,
    Gatherer,
    bits_for,
    bits_for_bytes,
    bucket_of,
    first_doc,
    latest_us,
    look_up,
    make_token,
    merge,
    numbers,
    pack,
    unpack,
)

SECRET = b"a secret" * 4
TOKENS = st.integers(0, 2**64 - 1)
POSTINGS = st.dictionaries(
    TOKENS, st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5, unique=True), max_size=30
)
BITS = st.integers(0, 8)


def packed(postings: dict[int, list[int]]) -> dict[int, bytes]:
    return {token: array("Q", docs).tobytes() for token, docs in postings.items()}


@given(POSTINGS, BITS)
def test_every_token_is_found_in_its_bucket_with_its_docs(postings: dict[int, list[int]], bits: int) -> None:
    buckets = dict(pack(packed(postings), bits))

    for token, docs in postings.items():
        assert list(look_up(buckets[bucket_of(token, bits)], token)) == docs
    assert {
        token: [*numbers(docs)] for bucket in buckets.values() for token, docs in unpack(bucket).items()
    } == postings
    assert all(0 <= bucket < 1 << bits for bucket in buckets)


@given(POSTINGS, BITS, TOKENS)
def test_a_token_that_nobody_has_is_not_found(postings: dict[int, list[int]], bits: int, token: int) -> None:
    postings.pop(token, None)
    buckets = dict(pack(packed(postings), bits))

    assert not look_up(buckets.get(bucket_of(token, bits), bytes(8)), token)


@given(st.lists(POSTINGS, max_size=4), BITS)
def test_merged_buckets_have_what_each_had(each: list[dict[int, list[int]]], bits: int) -> None:
    merged = merge(bucket for postings in each for _, bucket in pack(packed(postings), bits))

    whole: dict[int, list[int]] = {}
    for postings in each:
        for token, docs in postings.items():
            whole.setdefault(token, []).extend(docs)
    assert {token: [*numbers(docs)] for token, docs in merged.items()} == whole


@given(POSTINGS, st.data())
def test_what_is_gone_is_not_written_again(postings: dict[int, list[int]], data: st.DataObject) -> None:
    docs = sorted({doc for each in postings.values() for doc in each})
    alive = set(data.draw(st.lists(st.sampled_from(docs), unique=True))) if docs else set()

    merged = merge((bucket for _, bucket in pack(packed(postings), 2)), alive)

    kept = {token: [doc for doc in each if doc in alive] for token, each in postings.items()}
    assert {token: [*numbers(each)] for token, each in merged.items()} == {t: d for t, d in kept.items() if d}


def test_two_ways_to_write_a_word_are_one_token_and_what_is_no_word_none() -> None:
    gatherer = Gatherer(SECRET)
    gatherer.add(1, "Fox fox FOX")
    gatherer.add(2, f"fox {'x' * 101}")
    gatherer.add(3, "Straße 東京")

    found = {token: [*numbers(docs)] for token, docs in gatherer.gathered().items()}

    words = {"fox": [1, 2], "strasse": [3], "東": [3], "京": [3], "東\0京": [3]}
    assert found == {make_token(SECRET, WORD, word): docs for word, docs in words.items()}


def test_words_that_are_remembered_have_the_same_tokens() -> None:
    known: dict[str, int] = {}
    for _ in range(2):
        gatherer = Gatherer(SECRET, known)
        gatherer.add(1, "one two")
        assert gatherer.gathered().keys() == {make_token(SECRET, WORD, word) for word in ("one", "two")}
    assert known.keys() == {"one", "two"}


def test_tokens_depend_on_the_key_and_on_what_they_are_of() -> None:
    assert len({make_token(secret, kind, "x") for secret in (SECRET, b"other") for kind in (WORD, NAME)}) == 4


def test_buckets_are_small_however_much_there_is() -> None:
    assert bits_for({}) == 0
    assert bits_for({token: bytes(8) for token in range(1_000)}) == 3
    assert bits_for_bytes(10**12) == BITS_MAX


@given(st.integers(0, 2**54))
def test_a_doc_tells_when_it_was_said(at_us: int) -> None:
    assert latest_us(first_doc(at_us)) == at_us
    assert first_doc(at_us) < 2**63
