"""Words of a text in any script, what a query asks for, and where a text has it."""

from __future__ import annotations

import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.errors import InvalidInput
from sessiond.core.search import (
    QUERY_MAX_CHARS,
    QUERY_MAX_UNITS,
    SNIPPET_CHARS,
    UNIT_MAX_CHARS,
    UNITS_MAX,
    find,
    fold_key,
    grams,
    grams_asked,
    index_keys,
    parse_query,
    read_units,
    text_in,
)

WRITING = st.text(
    alphabet=st.one_of(
        st.sampled_from(" abcABC.,'ßéE\u0301ﬁİıΣςσ東京都にカｶﾞภาษा हिन्दी한국"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    max_size=60,
)


def units(text: str) -> list[str]:
    return [unit.text for unit in read_units(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, don't WORLD_wide 42", ["hello", "don", "t", "world", "wide", "42"]),
        ("Straße ﬁn ＷＩＤＥ", ["strasse", "fin", "wide"]),
        ("e\u0301té été", ["été", "été"]),
        ("東京都 iPhone手机", ["東", "京", "都", "iphone", "手", "机"]),
        ("ｶﾞ ガ", ["ガ", "ガ"]),
        ("हिन्दी", ["हिन्दी"]),
        ("…!? —", []),
    ],
)
def test_words_are_letters_and_digits_of_any_script(text: str, found: list[str]) -> None:
    assert units(text) == found


@given(WRITING)
def test_an_index_has_of_a_text_what_each_of_its_words_asks_for(text: str) -> None:
    kept = {fold_key(key) for key in index_keys(text)}

    assert kept >= set(units(text))
    for unit in read_units(text):
        (term,) = parse_query(text[unit.start : unit.end]) or [None]
        assert term is not None
        assert kept >= term.keys
        assert find(text, [term]) is not None


@given(WRITING, WRITING, st.booleans())
def test_what_is_asked_for_is_found_if_and_only_if_its_words_stand_together(
    text: str, query: str, quoted: bool
) -> None:
    query = query.replace('"', " ")
    asked = f'"{query}"' if quoted else query
    if not units(query):
        with pytest.raises(InvalidInput, match="must have a word"):
            parse_query(asked)
        return

    terms = parse_query(asked)

    assert (find(text, terms) is not None) == all(stands_in(text, chunk) for chunk in chunks(query, quoted=quoted))
    if find(text, terms) is not None:
        assert {fold_key(key) for key in index_keys(text)} >= frozenset().union(*(term.keys for term in terms))


def chunks(query: str, *, quoted: bool) -> list[str]:
    return [chunk for chunk in ([query] if quoted else query.split()) if units(chunk)]


def stands_in(text: str, chunk: str) -> bool:
    """Whether a text has a chunk's words, told the slow way."""
    wanted, there = list(read_units(chunk)), list(read_units(text))
    for start in range(len(there) - len(wanted) + 1):
        stretch = there[start : start + len(wanted)]
        if [unit.text for unit in stretch] != [unit.text for unit in wanted]:
            continue
        touches = [stretch[n].end == stretch[n + 1].start for n in range(len(stretch) - 1)]
        asked = [wanted[n].end == wanted[n + 1].start for n in range(len(wanted) - 1)]
        if all(touch or not ask for touch, ask in zip(touches, asked, strict=True)):
            return True
    return False


@given(WRITING, st.lists(WRITING, min_size=1, max_size=3))
def test_matches_are_places_in_the_snippet(text: str, words: list[str]) -> None:
    query = " ".join(units(" ".join(words)))
    if not query:
        return
    match = find(f"{'x ' * 100}{text} {query}", parse_query(query))

    assert match is not None
    assert len(match.snippet) <= max(SNIPPET_CHARS, len(query)) + 2
    ends = [0]
    for start, end in match.matches:
        assert ends[-1] <= start < end <= len(match.snippet)
        assert units(match.snippet[start:end])
        ends.append(end)


def test_a_snippet_is_around_the_first_match_and_shows_where_it_was_cut() -> None:
    text = "before " * 50 + "Orbetello is far. " + "behind " * 50 + "orbetello"

    match = find(text, parse_query("orbetello"))

    assert match is not None
    assert match.snippet.startswith("…")
    assert match.snippet.endswith("…")
    assert [match.snippet[start:end] for start, end in match.matches] == ["Orbetello"]
    assert find("Orbetello", parse_query("orbetello")) is not None


def test_matches_that_overlap_are_one() -> None:
    for text, query in (("a a a b", '"a a"'), ("é é é b", '"é é"')):
        match = find(text, parse_query(query))
        assert match is not None
        assert match.matches == [(0, 5)]


def test_what_is_joined_in_a_query_must_be_joined_in_the_text() -> None:
    assert find("東京都", parse_query("京都")) is not None
    assert find("東京。都", parse_query("京都")) is None
    assert find("don’t", parse_query("don't")) is not None
    assert find("iphone 5", parse_query("iphone5")) is None
    assert find("京", parse_query("東京")) is None


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "must have a word"),
        (" ..! ", "must have a word"),
        ('""', "must have a word"),
        ('say "hello', "not closed"),
        ("x" * (QUERY_MAX_CHARS + 1), "longer than"),
        ("x" * (UNIT_MAX_CHARS + 1), "a word of more than"),
        ("a " * (QUERY_MAX_UNITS + 1), "more than 32 words"),
    ],
)
def test_a_query_that_cannot_be_answered_says_why(query: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        parse_query(query)

    assert caught.value.field == "q"


def test_words_are_asked_for_once() -> None:
    assert len(parse_query('fox FOX "fox" "lazy dog"')) == 2


def test_only_so_many_words_of_a_message_are_indexed() -> None:
    keys = index_keys(" ".join(f"w{number}" for number in range(UNITS_MAX + 10)))

    assert list(keys)[-1] == f"w{UNITS_MAX - 1}"
    assert len(keys) == UNITS_MAX


def test_the_text_of_a_message_is_all_that_a_reader_reads_of_its_parts() -> None:
    parts = [
        {"type": "text", "text": "one"},
        {"type": "image", "id": "five", "data": "QUJD", "url": "data:image/png;base64,QUJD", "alt": "two"},
        {"type": "tool", "input": {"city": "three", "days": 4}, "list": ["four"]},
    ]

    assert text_in(msgspec.Raw(msgspec.json.encode(parts))) == "one\ntwo\nthree\nfour"
    assert text_in(msgspec.Raw(b'"plain"')) == "plain"


@given(WRITING, st.integers(0, 20), st.integers(2, 20))
def test_a_name_has_the_parts_of_every_part_of_it(name: str, start: int, length: int) -> None:
    folded = name.casefold()
    part = folded[start : start + length]
    asked = grams_asked(part)

    if asked is None:
        assert len(part.casefold()) < 2
    elif part.casefold() in folded:
        assert grams(name) >= set(asked)


def test_the_order_of_accents_and_the_width_of_letters_make_no_other_word() -> None:
    assert unicodedata.normalize("NFD", "é") != "é"
    assert units(unicodedata.normalize("NFD", "Été Ｗ")) == units("été w")
