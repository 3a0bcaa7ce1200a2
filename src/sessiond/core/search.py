"""Full text: what the words of a message are, what a query asks for, and whether and where a text has it.

It knows no index: that is in `core/postings.py` and `storage/search.py`. A *unit* is a word, or one character of a
script that is written without spaces. Text is cut into units as it stands, and each is folded by itself, so that a
match has its place in the text as it was sent.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import islice, pairwise
from typing import Any, Final

import msgspec

from sessiond.core.errors import InvalidInput

UNITS_MAX: Final = 2_000
"""Distinct units of a message that are indexed: about ten pages of prose. What stands behind them is not found."""
UNIT_MAX_CHARS: Final = 100  # what is longer is no word but encoded data, of which nobody searches a part
QUERY_MAX_CHARS: Final = 500  # a paragraph; it has to fit into a URL
QUERY_MAX_UNITS: Final = 32  # each is a look into every piece of the index
SNIPPET_CHARS: Final = 160  # two lines of a terminal
LEAD_CHARS: Final = 40  # of what stands before the first match

# Han, kana, Thai, Lao, Myanmar, Khmer: who writes them puts no space between words.
_UNSPACED: Final = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_SOUND_MARKS: Final = "\uff9e\uff9f"  # half-width kana write a voiced sound as two characters
_ASCII: Final = re.compile(r"[0-9A-Za-z]+")
_SPACED: Final = bytes(code if chr(code).isalnum() and code < 128 else 32 for code in range(256)).lower()
# Names of a part that no reader reads.
_NOT_TEXT: Final = frozenset({"type", "id", "data", "signature"})


class Unit(msgspec.Struct, frozen=True):
    """A folded unit of a text, and where it stands there."""

    text: str
    start: int
    end: int
    unspaced: bool


class Term(msgspec.Struct, frozen=True):
    """Units that must stand next to one another; `joined[i]`: unit i directly behind the one before it."""

    units: tuple[str, ...]
    joined: tuple[bool, ...]
    unspaced: tuple[bool, ...]

    @property
    def keys(self) -> frozenset[str]:
        """What an index has of every text that has this."""
        return frozenset(_keys(self.units, self.joined, self.unspaced))


class Match(msgspec.Struct, frozen=True):
    """A piece of a text with what was found in it: `matches` are [start, end) in characters of `snippet`."""

    snippet: str
    matches: list[tuple[int, int]]


_contents: Final = msgspec.json.Decoder(str | list[dict[str, Any]])


class _Said(msgspec.Struct):
    content: str | list[dict[str, Any]]


_bodies: Final = msgspec.json.Decoder(_Said)


def text_of_body(body: bytes) -> str:
    """Return all text of a message whose packed body this is: in half the time, without the rest of it."""
    content = _bodies.decode(body).content
    return content if isinstance(content, str) else "\n".join(_texts(content))


def text_in(content: msgspec.Raw) -> str:
    """Return all text of a message: a string, or what is text in its parts, wherever it stands, a line each."""
    decoded = _contents.decode(content)
    return decoded if isinstance(decoded, str) else "\n".join(_texts(decoded))


def index_keys(text: str) -> dict[str, None]:
    """Return what an index has of a text, each once, in the order of the text: at most `UNITS_MAX`.

    Not all are folded: whoever has folded one need not do so again. See `fold_key`.
    """
    if text.isascii():
        # Twice as fast as the pattern: most text is ASCII, and all of it comes through here.
        found = dict.fromkeys(text.encode().translate(_SPACED).decode().split())
    else:
        found = {}
        before: re.Match[str] | None = None
        for match in _units().finditer(text):
            found[match[0]] = None
            if before is not None and before.lastgroup == match.lastgroup == "one" and before.end() == match.start():
                found[f"{before[0]}\0{match[0]}"] = None
            before = match
    # A pair stands behind its second character: none is cut off whose characters are there, but for the last.
    return found if len(found) <= UNITS_MAX else dict.fromkeys(islice(found, UNITS_MAX))


def fold_key(key: str) -> str:
    """Return the folded form of one of `index_keys`, as `Term.keys` has it."""
    if key.isascii() and "\0" not in key:
        return key.lower()
    return "\0".join(map(fold, key.split("\0")))


def fold(text: str) -> str:
    """Return text without what is only a way to write it: case, width, ligatures, the order of accents."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def parse_query(query: str) -> tuple[Term, ...]:
    """Return what a query asks for: words, all of which must be there, and phrases in quotation marks.

    Raises:
        InvalidInput: it is empty, without a word, too long, or a quotation mark is not closed.
    """
    if len(query) > QUERY_MAX_CHARS:
        raise InvalidInput(f"q is longer than {QUERY_MAX_CHARS} characters", field="q")
    pieces = query.split('"')
    if len(pieces) % 2 == 0:
        raise InvalidInput("q has a quotation mark that is not closed", field="q")
    terms = []
    for number, piece in enumerate(pieces):
        for chunk in [piece] if number % 2 else piece.split():
            units = list(read_units(chunk))
            if any(unit.end - unit.start > UNIT_MAX_CHARS for unit in units):
                raise InvalidInput(f"q has a word of more than {UNIT_MAX_CHARS} characters", field="q")
            if units:
                terms.append(_make_term(units))
    if not terms:
        raise InvalidInput("q must have a word: letters or digits", field="q")
    if sum(len(term.units) for term in terms) > QUERY_MAX_UNITS:
        raise InvalidInput(f"q has more than {QUERY_MAX_UNITS} words", field="q")
    return tuple(dict.fromkeys(terms))


def find(text: str, terms: Sequence[Term]) -> Match | None:
    """Return where a text has all of what is asked for, as a snippet around the first match; None when it has not."""
    plain = text.isascii()
    units = [] if plain else list(read_units(text))
    places: list[tuple[int, int]] = []
    for term in terms:
        found = _places_in_ascii(text, term) if plain else _places(units, term)
        if not found:
            return None
        places += found
    return _snippet(text, sorted(set(places)))


def read_units(text: str) -> Iterator[Unit]:
    """Yield the units of a text in their order."""
    pattern = _ASCII if text.isascii() else _units()
    for match in pattern.finditer(text):
        yield Unit(fold(match[0]), match.start(), match.end(), match.lastgroup == "one")


def grams(text: str) -> frozenset[str]:
    """Return the pairs and triples of characters of a text without its case: what an index of names has of it."""
    folded = text.casefold()
    return frozenset(folded[start : start + size] for size in (2, 3) for start in range(len(folded) - size + 1))


def grams_asked(part: str) -> tuple[str, ...] | None:
    """Return what an index of names has of every text that has `part` in it; None when that is too short to tell."""
    folded = part.casefold()
    if len(folded) < 2:
        return None
    size = min(3, len(folded))
    return tuple(dict.fromkeys(folded[start : start + size] for start in range(len(folded) - size + 1)))


def _make_term(units: Sequence[Unit]) -> Term:
    joined = [False] + [before.end == unit.start for before, unit in pairwise(units)]
    return Term(tuple(unit.text for unit in units), tuple(joined), tuple(unit.unspaced for unit in units))


def _keys(units: Sequence[str], joined: Sequence[bool], unspaced: Sequence[bool]) -> Iterator[str]:
    yield from units
    for number in range(1, len(units)):
        if joined[number] and unspaced[number] and unspaced[number - 1]:
            yield f"{units[number - 1]}\0{units[number]}"


def _places(units: Sequence[Unit], term: Term) -> list[tuple[int, int]]:
    """Return where a text has a term."""
    found, length = [], len(term.units)
    for start, unit in enumerate(units):
        if unit.text != term.units[0] or start + length > len(units):
            continue
        stretch = units[start : start + length]
        if all(
            there.text == wanted and (not joined or before.end == there.start)
            for before, there, wanted, joined in zip(
                stretch, stretch[1:], term.units[1:], term.joined[1:], strict=False
            )
        ):
            found.append((unit.start, stretch[-1].end))
    return found


def _places_in_ascii(text: str, term: Term) -> list[tuple[int, int]]:
    """Do as `_places`, twenty times as fast: most text is ASCII, and no unit of it is joined to another."""
    if any(term.joined) or not all(unit.isascii() and unit.isalnum() for unit in term.units):
        return []
    return [match.span(1) for match in _ascii_term(term.units).finditer(text)]


@lru_cache(maxsize=256)
def _ascii_term(units: tuple[str, ...]) -> re.Pattern[str]:
    # The whole stands in a look-ahead, so that places may overlap.
    between = "[^0-9A-Za-z]+".join(units)
    return re.compile(f"(?<![0-9A-Za-z])(?=({between})(?![0-9A-Za-z]))", re.ASCII | re.IGNORECASE)


def _snippet(text: str, places: Sequence[tuple[int, int]]) -> Match:
    start = max(0, places[0][0] - LEAD_CHARS)
    end = min(len(text), max(start + SNIPPET_CHARS, places[0][1]))
    start = max(0, min(start, end - SNIPPET_CHARS))
    before, after = "…" if start else "", "…" if end < len(text) else ""
    shift = len(before) - start
    matches: list[tuple[int, int]] = []
    for first, last in places:
        if last > end:
            continue
        if matches and first + shift < matches[-1][1]:  # phrases may overlap
            matches[-1] = (matches[-1][0], max(matches[-1][1], last + shift))
        else:
            matches.append((first + shift, last + shift))
    return Match(f"{before}{text[start:end]}{after}", matches)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if not value.startswith("data:"):
            yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in _NOT_TEXT:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


@cache
def _units() -> re.Pattern[str]:
    """Return the pattern of a unit in any script. Made at its first use: it looks at all of Unicode for the marks.

    Python's `\\w` has letters and digits, but not the vowel signs and accents that are characters of their own.
    """
    marks = "".join(
        re.escape(chr(code))
        for code in range(0x300, min(0x1F000, sys.maxunicode))
        if unicodedata.category(chr(code)).startswith("M")
    )
    one = f"(?P<one>[{_UNSPACED}][{marks}{_SOUND_MARKS}]*)"
    return re.compile(f"{one}|(?:[^\\W_{_UNSPACED}{_SOUND_MARKS}]+[{marks}]*)+")
