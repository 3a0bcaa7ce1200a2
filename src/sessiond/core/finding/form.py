"""What may be a one-time code by its form: digits, digits in groups, letters and digits, some words of capitals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Final

import msgspec

from sessiond.core.finding.part import URL

FORMS_MAX: Final = 50  # of each sort, in a part: what has more numbers is a table of them
NUMBERS_MAX: Final = 1_000  # that are looked at to find them
AROUND_CHARS: Final = 64

# Possessive (`++`), and what may be given back is bounded: each takes linear time. Of a possessive group Python 3.11.2
# leaves the last joint in, so none is.
_NUMBER: Final = re.compile(
    r"(?<![0-9A-Za-z])(?=[A-Za-z\-]{0,9}[0-9])[0-9A-Za-z]++(?:(?:-|[.,:/](?=[0-9]))[0-9A-Za-z]++)*"
)
_SPACED: Final = re.compile(
    r"(?<![0-9][ \t\n.,:/\-])(?<![0-9A-Za-z])[0-9](?:[ \t\n]{1,3}[0-9]){3,7}(?![ \t\n]?[0-9]|[A-Za-z])"
)
_CAPITALS: Final = re.compile(r"(?<![0-9A-Za-z\-])(?:[A-Z]{4,8}|[A-Z]{3,4}-[A-Z]{3,4})(?![0-9A-Za-z\-])")
# "G-482913": the letter says who sent it, and is not typed in.
_MARKED: Final = re.compile(r"[A-Za-z]{1,2}-([0-9]{4,8})")
_GROUPED: Final = re.compile(r"[0-9]{3}-[0-9]{3}|[0-9]{4}-[0-9]{4}|[0-9]{2}-[0-9]{2}-[0-9]{2}|[0-9](?:-[0-9]){3,7}")
_SERIAL: Final = re.compile(r"[0-9A-Z]{3}-[0-9A-Z]{3}|[0-9A-Z]{4}-[0-9A-Z]{4}|[0-9A-Z]{5}-[0-9A-Z]{5}")
_UNEVEN: Final = re.compile(r"[0-9A-Z]{2,5}-[0-9A-Z]{2,5}")
_NAMED: Final = re.compile(r"[A-Z]{2,}-[0-9]+")  # "LH-4829" is a flight, "HD-2025" a ticket
_SIZE: Final = re.compile(r"[0-9]{1,2}[hH][0-5][0-9]|[0-9]{1,4}[xX][0-9]{1,4}|[0-9]+(?:am|pm|AM|PM)")  # and times
_WORD_AND_NUMBER: Final = re.compile(r"[A-Za-z]{4,}[0-9]{1,4}|[0-9]{1,4}[A-Za-z]{1,3}|[0-9]{1,3}[A-Za-z]{3,}")
_HASH: Final = re.compile(r"[0-9a-f]{7,}")
_YEAR: Final = re.compile(r"(?:19|20)[0-9]{2}")
_DATE: Final = re.compile(r"20[0-4][0-9](?:0[1-9]|1[0-2])(?:[0-2][0-9]|3[01])")

# What may stand between the groups of a number.
_JOINTS: Final = frozenset({" ", "-", " - ", ") ", " (", "·", " · "})
_MONEY: Final = "[$€£¥₹₽₩₺₫₴₪฿]"
_CURRENCY: Final = r"\b(?:usd|eur|gbp|chf|pln|cad|aud|inr|jpy|cny|rmb|sek|nok|dkk|rub|brl|mxn|rs|kr|tl)\.?"
_CUT_BEFORE: Final = re.compile(
    rf"(?:[+@=&\\^%/{URL}]|[0-9][.,:]|[0-9A-Za-z][\-_~]|{_MONEY} ?|{_CURRENCY} ?)\Z", re.IGNORECASE
)
_CUT_AFTER: Final = re.compile(rf"[@=&\\^°/{URL}]|[.,:][0-9]| ?%| ?{_MONEY}")
_MASK: Final = re.compile(r"\*\*|xx|XX|••|●●")  # before the end of a card's number; on both sides it is Markdown
_SPACE: Final = re.compile(r"\s")

# How well lengths of digits are as codes.
_LENGTH_SCORE: Final = {6: 1.0, 5: 0.3, 8: 0.2}


class Form(msgspec.Struct, frozen=True):
    """A code as it would be typed in, where it stands, and what its form adds to the log-odds that it is one."""

    value: str
    start: int
    end: int
    score: float
    letters: bool = False
    """It is letters alone, and so may be any word."""


def find_forms(text: str) -> Iterator[Form]:
    yield from islice(_find_numbers(text), FORMS_MAX)
    for found in islice(_SPACED.finditer(text), FORMS_MAX):
        yield Form("".join(found[0].split()), found.start(), found.end(), 1.0)
    for found in islice(_CAPITALS.finditer(text), FORMS_MAX):
        yield Form(found[0], found.start(), found.end(), -0.5, letters=True)


def _find_numbers(text: str) -> Iterator[Form]:
    run: list[re.Match[str]] = []
    for number in islice(_NUMBER.finditer(text), NUMBERS_MAX):
        if run and text[run[-1].end() : number.start()] not in _JOINTS:
            yield from _read_run(text, run)
            run = []
        run.append(number)
    if run:
        yield from _read_run(text, run)


def _read_run(text: str, run: list[re.Match[str]]) -> Iterator[Form]:
    """Read numbers that only a joint sets apart: the groups of one code, of a telephone number, or neighbours."""
    start, end = run[0].start(), run[-1].end()
    if len(run) > 1:
        digits = "".join(number[0] for number in run)
        lengths = {len(number[0]) for number in run}
        if digits.isdigit() and 4 <= len(digits) <= 8 and len(lengths) == 1 and lengths != {1}:
            if _stands_free(text, start, end):
                yield Form(digits, start, end, 0.8 if len(digits) == 6 else 0.3)
            return
        digits_count = sum(character.isdigit() for character in digits)
        dialled = text[max(start - 2, 0) : start].rstrip(" (").endswith("+")
        # "482913 10 minutes" is a code and something that comes next.
        two = len(run) == 2 and len(run[0][0]) >= 4 and len(run[1][0]) <= 2
        if dialled or (digits_count > 8 and not two):
            return
    for number in run:
        if _stands_free(text, number.start(), number.end()):
            form = _read_number(number[0])
            if form is not None:
                value, score = form
                yield Form(value, number.start(), number.end(), score)


def _read_number(text: str) -> tuple[str, float] | None:
    """Return the code that a number would be, and how well it looks like one."""
    if text.isdigit():
        if not 4 <= len(text) <= 8:
            return None
        if _YEAR.fullmatch(text):
            return text, -3.5
        return text, -1.5 if _DATE.fullmatch(text) else _LENGTH_SCORE.get(len(text), 0.0)
    if marked := _MARKED.fullmatch(text):
        return marked[1], 0.8
    if _GROUPED.fullmatch(text):
        return text.replace("-", ""), 0.8 if len(text) == 7 else 0.0
    if _SERIAL.fullmatch(text):
        return text, 0.0
    if _UNEVEN.fullmatch(text) and not text.replace("-", "").isdigit():
        return text, -1.5 if _NAMED.fullmatch(text) else -0.5
    if _SIZE.fullmatch(text):
        return None
    if not text.isalnum() or not 4 <= len(text) <= 10 or _HASH.fullmatch(text):
        return None
    changes = sum(one.isdigit() != other.isdigit() for one, other in pairwise(text))
    score = 0.3 if text.upper() == text else -0.2 if changes >= 3 else -0.8
    return text, score - (1.0 if _WORD_AND_NUMBER.fullmatch(text) else 0.0)


def _stands_free(text: str, start: int, end: int) -> bool:
    """Whether what is around it leaves it whole: it is no amount, no part of an address or of a longer number."""
    before, after = text[max(start - AROUND_CHARS, 0) : start], text[end : end + AROUND_CHARS]
    if _CUT_BEFORE.search(before[-8:]) or _CUT_AFTER.match(after):
        return False
    masked = _MASK.search(before[-2:])
    if masked and not after.startswith(masked[0]):
        return False
    return "@" not in _SPACE.split(before)[-1] and "@" not in _SPACE.split(after, maxsplit=1)[0]
