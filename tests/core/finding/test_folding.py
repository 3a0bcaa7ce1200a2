"""Text made comparable, and words found in it."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.finding.folding import Words, fold, normalise


def test_every_character_keeps_its_place_when_it_is_folded() -> None:
    surrogates = range(0xD800, 0xE000)
    characters = [normalise(chr(code)) for code in range(sys.maxunicode + 1) if code not in surrogates]

    assert all(len(fold(character)) == len(character) for character in characters)


@given(st.text())
def test_what_is_normalised_stays_as_it_is(text: str) -> None:
    normalised = normalise(text)

    assert normalise(normalised) == normalised
    assert len(fold(normalised)) == len(normalised)


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("Bestätigungscode", "bestatigungscode"),
        ("CÓDIGO DE VERIFICAÇÃO", "codigo de verificacao"),
        ("İstanbul ısı", "istanbul isi"),
        ("Κωδικός", "κωδικοσ"),
        ("код подтверждЁн", "код подтвержден"),
        ("ＯＴＰ：٤٨２९", "otp: 4829"),
        ("don’t\u00a0log\u2011in", "don't log-in"),
        ("4\u200b8\u00ad2", "482"),
    ],
)
def test_ways_to_write_the_same_are_folded_to_one(written: str, folded: str) -> None:
    assert fold(normalise(written)) == folded


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the log-in page", ["log-in"]),
        ("login, log in", ["login", "log in"]),
        ("blog inbox", []),
        ("verified twice: verify", ["verified", "verify"]),
        ("unverified", []),
        ("barcode, code's, codes, code", ["code", "code"]),
        ("您的验证码是", ["验证码"]),
        ("код-подтверждения", ["код"]),
        ("штрихкод", []),
    ],
)
def test_words_are_found_whole_phrases_with_or_without_a_space(text: str, found: list[str]) -> None:
    words = Words("""
        en: log in, verif*, *code
        ru: код
        zh: 验证码
    """)

    assert [word[0] for word in words.finditer(text)] == found
