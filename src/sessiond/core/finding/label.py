"""Labels: what in a piece of text says what a number near it is."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sessiond.core.finding import words as words

STRONG: Final = 2  # a code to be typed in: "verification code"
WEAK: Final = 1  # some code: "code"
NOT: Final = -1  # something else: "order number", "promo code"

# How far from "code" the words may stand that tell which: those that follow are closer, for they may begin anew.
PROOF_BEFORE_CHARS: Final = 34
PROOF_AFTER_CHARS: Final = 18
OTHER_BEFORE_CHARS: Final = 4
OTHER_AFTER_CHARS: Final = 6

_APART: Final = re.compile(r"[.!?:;,()\n\t。！？、，：；]")
_APART_OR_DIGIT: Final = re.compile(r"[.!?:;,()\n\t。！？、，：；0-9]")


class Label(msgspec.Struct, frozen=True):
    start: int
    end: int
    strength: int


def find_labels(text: str) -> list[Label]:
    """Return the labels in a piece of folded text, in order."""
    codes = [Label(found.start(), found.end(), STRONG) for found in words.CODE_ITSELF.finditer(text)]
    for found in words.CODE.finditer(text):
        if not _is_within(found, codes):
            codes.append(_read_code(text, found.start(), found.end()))
    # "Code number" and "confirmation code" are codes still.
    others = [
        Label(found.start(), found.end(), NOT)
        for found in words.NUMBERED.finditer(text)
        if not _is_within(found, codes, margin=1)
    ]
    return sorted(codes + others, key=lambda label: (label.end, label.start))


def last_code(labels: list[Label]) -> Label | None:
    return next((label for label in reversed(labels) if label.strength > 0), None)


def _is_within(found: re.Match[str], labels: list[Label], *, margin: int = 0) -> bool:
    return any(label.start - margin < found.end() and found.start() < label.end + margin + 1 for label in labels)


def _read_code(text: str, start: int, end: int) -> Label:
    """Tell which code is meant by the nearest words beside it, in its clause."""
    before = _APART.split(text[max(start - PROOF_BEFORE_CHARS, 0) : start])[-1]
    after = _APART_OR_DIGIT.split(text[end : end + PROOF_BEFORE_CHARS], maxsplit=1)[0]
    # A compound that is not known ("Retourencode") is a code for something else.
    label = Label(start, end, NOT if before[-1:].isalpha() and before.isascii() else WEAK)
    distance = PROOF_BEFORE_CHARS + 1
    for table, strength, before_chars, after_chars in (
        (words.OTHER, NOT, OTHER_BEFORE_CHARS, OTHER_AFTER_CHARS),
        (words.PROOF, STRONG, PROOF_BEFORE_CHARS, PROOF_AFTER_CHARS),
    ):
        for found in table.finditer(before):
            gap = len(before) - found.end()
            if gap < distance and gap <= before_chars:
                label, distance = Label(start - len(before) + found.start(), end, strength), gap
        following = table.search(after)
        if following and following.start() <= after_chars and following.start() + 2 < distance:
            label, distance = Label(start, end + following.end(), strength), following.start() + 2
    return label
