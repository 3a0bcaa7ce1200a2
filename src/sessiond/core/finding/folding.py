"""Text made comparable: one kind of digit, dash and space, no accents, no capitals; and words found in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from typing import Final

# The zero of each script's digits; the nine others follow it.
_ZEROS: Final = "٠۰߀०০੦૦୦௦౦೦൦෦๐໐༠၀០᠐０𝟎𝟘𝟢𝟬𝟶"
_DASHES: Final = "‐‑‒–—―−﹘﹣－"
_SPACES: Final = (
    "\x0b\x0c\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
# What takes no room on the screen: joiners, marks of direction, soft hyphens, selectors of a glyph's variant.
_INVISIBLE: Final = (
    "\x00\xad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069"
    "\ufe0e\ufe0f\ufeff"
)
# Letters that are a plain one with something through it, which Unicode does not take apart.
_STROKED: Final = {
    "ł": "l",
    "ø": "o",
    "đ": "d",
    "ħ": "h",
    "ı": "i",
    "ð": "d",
    "ё": "е",
    "ς": "σ",
    "أ": "ا",
    "إ": "ا",
    "آ": "ا",
}


def _same() -> Iterator[tuple[str, str | None]]:
    for zero in _ZEROS:
        yield from ((chr(ord(zero) + digit), str(digit)) for digit in range(10))
    for code in range(0xFF01, 0xFF5F):  # the full-width forms of ASCII
        narrow = chr(code - 0xFEE0)
        yield chr(code), f" {narrow}" if narrow in "([" else f"{narrow} " if narrow in ",:;!?)]" else narrow
    yield from ((dash, "-") for dash in _DASHES)
    yield from ((space, " ") for space in _SPACES)
    yield from ((mark, None) for mark in _INVISIBLE)
    yield from (("’", "'"), ("‘", "'"), ("ʼ", "'"), ("´", "'"), ("`", "'"), ("“", '"'), ("”", '"'), ("„", '"'))
    yield from (("\r", "\n"), ("\u2028", "\n"), ("\u2029", "\n"), ("\x85", "\n"))
    yield "İ", "I"  # the one letter whose small form is two characters


def _plain() -> Iterator[tuple[str, str]]:
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00), *range(0x370, 0x400)):
        small = chr(code).lower()
        if len(small) == 1:
            yield small, unicodedata.normalize("NFD", small)[0]
    yield from _STROKED.items()


# Scripts that set their words apart, so that a word can be told from a part of one. Chinese, Japanese and Thai do not;
# Korean, Arabic and Hebrew write particles onto the word.
_LETTER: Final = "a-z0-9\u00df-\u024f\u0370-\u03ff\u0400-\u04ff"
_LETTERS: Final = re.compile(f"[{_LETTER}]")
_END: Final = f"(?![{_LETTER}]|'s)"

_SAME: Final = str.maketrans(dict(_same()))
_PLAIN: Final = str.maketrans(dict(_plain()))


def normalise(text: str) -> str:
    """Return `text` with ASCII digits, dashes, quotes and spaces, and without what cannot be seen."""
    return text.replace("\r\n", "\n").translate(_SAME)


def fold(text: str) -> str:
    """Return normalised `text` in small letters without accents, each character in its place."""
    return text.lower().translate(_PLAIN)


class Words:
    """Words and phrases of several languages, to be found in folded text.

    A line of the table is a language and its words, set apart by commas: `en: log in, verif*, *code`. `*` stands for
    letters that go before or follow; a space also matches a hyphen, or nothing. Accents and capitals do not matter.
    """

    def __init__(self, table: str) -> None:
        self._table = table

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # Made when words are first looked for: all tables take a tenth of a second, and most commands need none.
        return _compile(self._table)

    def search(self, text: str) -> re.Match[str] | None:
        return self._pattern.search(text)

    def match(self, text: str, position: int) -> re.Match[str] | None:
        return self._pattern.match(text, position)

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        return self._pattern.finditer(text)


def _compile(table: str) -> re.Pattern[str]:
    whole: set[str] = set()
    beginnings: set[str] = set()
    anywhere: set[str] = set()
    for line in table.strip().splitlines():
        for word in map(str.strip, fold(normalise(line.partition(":")[2])).split(",")):
            stem = word.strip("*")
            ends = _LETTERS.match(stem[-1]) is not None and not word.endswith("*")
            pattern = re.escape(stem).replace(r"\ ", "[ -]?")
            if word.startswith("*") or not _LETTERS.match(stem[0]):
                anywhere.add(pattern + (_END if ends else ""))
            else:
                (whole if ends else beginnings).add(pattern)
    return re.compile(
        f"(?<![{_LETTER}])(?:(?:{_one_of(whole)}){_END}|(?:{_one_of(beginnings)})[{_LETTER}]*+)|{_one_of(anywhere)}"
    )


def _one_of(patterns: set[str]) -> str:
    """Join `patterns`, the longest first, by their first character: to pass by costs a look at each of these only."""
    by_first: dict[str, list[str]] = {}
    for one in sorted(patterns, key=lambda one: (-len(one), one)):
        first = one[:2] if one[0] == "\\" else one[0]
        by_first.setdefault(first, []).append(one[len(first) :])
    return "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in by_first.items()) or "(?!)"
