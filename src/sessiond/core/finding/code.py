"""One-time codes: which number or word of a mail is one, and how likely.

What may be a code by its form is judged by what it is called: the label nearest to it says that it is a code, or that
it is something else. What the mail is about adds to that. Evidence is summed up as log-odds.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

import msgspec

from sessiond.core.finding import words as words
from sessiond.core.finding.about import About
from sessiond.core.finding.form import Form, find_forms
from sessiond.core.finding.label import STRONG, WEAK, Label, find_labels, last_code
from sessiond.core.finding.part import Part

BEFORE_MAX_CHARS: Final = 160
AFTER_MAX_CHARS: Final = 100
ABOVE_MAX_LINES: Final = 4

PRIOR: Final = -3.0
OUT: Final = -9.0  # it cannot be
QUOTED: Final = -2.5  # what was answered to is of another day
NEAR_CHARS: Final = 12  # enough for "is", "lautet", "for Acme is"
CLOSE_CHARS: Final = 30  # enough for "is your Acme Cloud"
FAR_CHARS: Final = 40

_WORDS: Final = re.compile(r"\w(?:.*\w)?", re.DOTALL)
_SENTENCE_END: Final = re.compile(r"(?<=\w{3})\.(?=[\s\"')])|[!?;](?=[\s\"')])|[。！？]")
# What leads up to a word that is a code: a colon, a form of "to be", or a script without spaces.
_IS: Final = re.compile(r"(?::|=|\b(?:is|ist|lautet|est|es|e|to|jest|ar|er|on)|[^\x00-\x7f])[\s\"'(\[*<]{0,5}\Z")

# What may stand between "code" and the code, and makes it the same.
_TO_BE: Final = re.compile(
    r"[\s:=\-\"'(\[*_>]*+(?:(?:is|ist|lautet|lauten|est|es|e|to|jest|ar|er|on|nu|here|below|this|le|el|o|il|la|"
    r"tau|anda|adalah|cua ban|σασ|σου|ειναι|是|为|為|は|은|는|이|هو|هي|الخاص بك|الاتي)[\s:=\-\"'(\[*_>]*+){0,3}"
)


class Place(msgspec.Struct, frozen=True):
    """What a place adds to the log-odds that what stands there is a code."""

    score: float
    strength: int = 0
    """Of the label that says so; 0 without."""


NOWHERE: Final = Place(0.0)


def score_codes(part: Part, about: About) -> dict[str, float]:
    """Return what may be a code in `part`, each with the log-odds that it is one."""
    scores: dict[str, float] = {}
    starts = [start for start, _ in part.lines]
    subject = last_code(find_labels(about.subject))
    for form in find_forms(part.text):
        line = bisect_right(starts, form.start) - 1
        place = _judge_place(part, form, line)
        score = PRIOR + form.score + place.score + _score_about(about, place, subject)
        if part.text[starts[line]] == ">":
            score += QUOTED
        scores[form.value] = max(score, scores.get(form.value, score))
    return scores


def _score_about(about: About, place: Place, subject: Label | None) -> float:
    """Return what the rest of the mail adds: it asks for a code to be typed in, or its codes are for something else."""
    strength = subject.strength if subject else 0
    score = {STRONG: 1.5, WEAK: 0.8}.get(strength, 0.0)
    if not strength and words.PROOF.search(about.subject):
        score = 0.5
    score += (-0.3, 0.2, 0.7, 1.2, 1.5)[about.expires + about.secret + about.unasked + about.proving]
    if about.selling and STRONG not in (strength, place.strength):
        score -= 1.0 if about.secret or about.unasked else 1.8
    if about.meeting and strength != STRONG:
        score -= 3.5
    return score - 3.0 * (about.programming + about.travelling)


def _judge_place(part: Part, form: Form, line: int) -> Place:
    text = part.folded
    start, end = part.lines[line]
    before = text[max(start, form.start - BEFORE_MAX_CHARS) : form.start]
    after = text[form.end : max(form.end, min(end, form.end + AFTER_MAX_CHARS))]
    if words.UNIT.match(text, form.end + (text[form.end : form.end + 1] in {" ", "-"})):
        return Place(-6.0)
    if form.letters:
        return _judge_word(part, form, before=before, after=after, line=line)
    if _is_blank(before) and _is_blank(after):
        above = _judge_above(part, line)
        return Place(above.score + 1.5, above.strength)
    place = _judge_before(before)
    if place.score <= -4.0:
        return place
    place = max(place, _judge_after(after), _judge_use(before, after), key=lambda place: place.score)
    if _is_blank(before.rpartition("\t")[2]) and _is_blank(after.partition("\t")[0]):  # alone in a table's cell
        place = place if place.score else _judge_above(part, line)
        return Place(place.score + 0.7, place.strength)
    if place.score == 0:
        return _judge_sentence_before(part, before, line)
    at_edge = _is_blank(before) or _is_blank(after)
    return Place(place.score + 0.4, place.strength) if place.score > 0 and at_edge else place


def _words_of(text: str) -> str:
    """Return `text` without what stands around its words: spaces, punctuation, drawings."""
    found = _WORDS.search(text)
    return found[0] if found else ""


def _is_blank(text: str) -> bool:
    return not _words_of(text)


def _judge_word(part: Part, form: Form, *, before: str, after: str, line: int) -> Place:
    """Judge capitals: a word like any other, unless it is called a code right before."""
    start, end = part.lines[line]
    around = part.text[max(start, form.start - AFTER_MAX_CHARS) : min(end, form.end + AFTER_MAX_CHARS)]
    rest = around.replace(form.value, "")
    if rest.upper() == rest and re.search(r"[A-Z]{3,}", rest):  # the whole line is in capitals
        return Place(OUT)
    if _is_blank(before) and _is_blank(after):
        above = _judge_above(part, line)
        return Place(above.score + 1.5, above.strength) if above.score >= 2.5 else Place(OUT)
    place = _judge_before(before)
    return place if place.score >= 3.5 and _IS.search(before) else Place(OUT)


def _judge_before(before: str) -> Place:
    """Judge a number by the sentence that leads up to it."""
    cut = 0
    for mark in _SENTENCE_END.finditer(before):
        cut = mark.end()
    opened = before.rfind("(")
    if opened > before.rfind(")") and not _is_blank(before[opened:]):
        cut = max(cut, opened)
    labels = [label for label in find_labels(before) if label.start >= cut]
    code = last_code(labels)
    if before.endswith("#") and (code is None or not _is_blank(before[code.end :])):
        return Place(-5.0)
    if not labels:
        return NOWHERE
    gap = before[labels[-1].end :]
    if labels[-1].strength < 0 and len(_words_of(gap)) <= 3 and (code is None or ":" not in gap):
        return Place(-5.0)  # "order 4829", "order #4829"; but in "the code for your order: 4829" it is the code
    if code is None:
        return Place(-2.5)
    gap = before[code.end :]
    gap_chars = len(_words_of(gap))
    if code.strength == STRONG:
        return Place(4.5 if gap_chars <= NEAR_CHARS else 3.5 if gap_chars <= FAR_CHARS else 2.8, STRONG)
    if _TO_BE.fullmatch(gap):
        # "Your code is 4829" says more than "the code is 4829", and that says more than "code 4829".
        lead = before[max(code.start - FAR_CHARS, 0) :]
        meant = words.YOUR.search(lead) or words.ENTER.search(lead)
        return Place(2.5 + (0.4 if gap.strip() else 0.0) + (0.7 if meant else 0.0), WEAK)
    return Place(1.8 if gap_chars <= FAR_CHARS else 1.0, WEAK)


def _judge_after(after: str) -> Place:
    """Judge a number by the rest of its sentence: "4829 is your code"."""
    labels = find_labels(_SENTENCE_END.split(after, maxsplit=1)[0])
    code = next((label for label in labels if label.strength > 0), None)
    if code is None or (code is not labels[0] and code.start > FAR_CHARS):
        return NOWHERE
    if code.strength == STRONG:
        return Place(3.5 if code.start <= CLOSE_CHARS else 1.5 if code.start <= 2 * CLOSE_CHARS else 0.5, STRONG)
    if code.start <= CLOSE_CHARS:
        return Place(3.2 if words.ENTER.search(after) else 2.4, WEAK)
    return Place(0.8 if code.start <= 2 * CLOSE_CHARS else 0.3, WEAK)


def _judge_use(before: str, after: str) -> Place:
    """Judge a number that is not called a code, but is to be typed in: "enter 4829 to sign in"."""
    entered = 0
    for found in words.ENTER.finditer(before):
        entered = found.end()
    if not entered or len(before) - entered > CLOSE_CHARS:
        return NOWHERE
    purpose = after[: 2 * CLOSE_CHARS]
    if words.PROOF.search(purpose) or words.PURPOSE.search(purpose):
        return Place(3.0, WEAK)
    return Place(2.5 if words.PROOF.search(before) else 1.0, WEAK)


def _judge_sentence_before(part: Part, before: str, line: int) -> Place:
    """Judge a number whose own sentence does not say what it is."""
    labels = find_labels(before)
    if not labels and line > 0:
        labels = find_labels(_end_of_line(part, line - 1))
    if labels and labels[-1].strength > 0:
        return Place(1.0 if labels[-1].strength == STRONG else 0.0, labels[-1].strength)
    return Place(-3.0)


def _judge_above(part: Part, line: int) -> Place:
    """Judge a number that stands alone by the lines above it, else by the one below."""
    for distance in range(1, min(ABOVE_MAX_LINES, line) + 1):
        above = _end_of_line(part, line - distance)
        if _words_of(above).isdigit():  # what is said above is said of that number
            break
        labels = find_labels(above)
        code = last_code(labels)
        if code is not None:
            return Place((3.5 if code.strength == STRONG else 2.2) - 0.5 * (distance - 1), code.strength)
        if distance == 1 and not labels and words.ENTER.search(above):
            return Place(1.2)
        if distance == 1 and labels and len(_words_of(above[labels[-1].end :])) <= NEAR_CHARS:
            return Place(-6.5)
    if line + 1 < len(part.lines):
        start, end = part.lines[line + 1]
        labels = find_labels(part.folded[start : min(end, start + AFTER_MAX_CHARS)])
        if labels and labels[0].strength > 0:
            return Place(2.5 if labels[0].strength == STRONG else 1.5, labels[0].strength)
    return NOWHERE


def _end_of_line(part: Part, line: int) -> str:
    start, end = part.lines[line]
    return part.folded[max(start, end - BEFORE_MAX_CHARS) : end]
