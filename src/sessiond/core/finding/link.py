"""Links to be followed once: which of a mail's links signs in or confirms an address, which resets a password.

A link is judged by what is written on it, what is said around it, the words in its URL, and whether it carries a token.
Evidence is summed up as log-odds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Final

import msgspec

from sessiond.core.finding import link_words as words
from sessiond.core.finding.about import About
from sessiond.core.finding.folding import fold
from sessiond.core.finding.markup import Link
from sessiond.core.finding.part import URL, Part
from sessiond.core.finding.url import (
    ELSEWHERE_STEMS,
    PASSWORD_STEMS,
    RENEW_STEMS,
    SIGN_IN_STEMS,
    VERIFY_STEMS,
    Address,
    read_address,
)
from sessiond.core.finding.words import CODE, CODE_ITSELF

BEFORE_MAX_CHARS: Final = 240
AFTER_MAX_CHARS: Final = 60
BUTTON_MAX_CHARS: Final = 40

_SENTENCE_END: Final = re.compile(r"(?<=\w{3})[.!?](?=\s)|[。！？\n]")


class Kind(Enum):
    """What one place says that a link is for."""

    RENEW = "renew"
    """A password."""
    VERIFY = "verify"
    """An address."""
    SIGN_IN = "sign in"


MAGIC: Final = frozenset({Kind.VERIFY, Kind.SIGN_IN})
RESET: Final = frozenset({Kind.RENEW})
# The first that is found decides: a link that verifies a token to set a new password says both.
STEMS: Final = (
    (Kind.RENEW, RENEW_STEMS),
    (Kind.VERIFY, VERIFY_STEMS),
    (Kind.RENEW, PASSWORD_STEMS),
    (Kind.SIGN_IN, SIGN_IN_STEMS),
)

PRIOR: Final = -3.0
ON_IT: Final[Mapping[Kind | None, float]] = {Kind.RENEW: 3.0, Kind.VERIFY: 3.0, Kind.SIGN_IN: 2.0}
IN_URL: Final[Mapping[Kind | None, float]] = {Kind.RENEW: 2.2, Kind.VERIFY: 2.2, Kind.SIGN_IN: 1.2}
AROUND: Final = 2.4  # where the link itself says nothing
AROUND_TOO: Final = 0.5
IN_SUBJECT: Final = 1.2
NO_TOKEN: Final = -2.8


class Scores(msgspec.Struct, frozen=True):
    magic_link: float
    password_reset: float


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a link, and where."""

    on_it: Kind | None
    around: Kind | None
    in_url: Kind | None
    in_subject: Kind | None
    vague: bool
    """What is written on it could be written on any link."""
    plain: bool
    """What is written on it needs nothing else to be said."""
    token: bool
    unasked: bool
    expires: bool


def score_links(part: Part, about: About) -> dict[str, Scores]:
    """Return the links of `part` that can be followed, each with the log-odds of what it may be."""
    kind_of = cache(_kind_of)  # for this mail only: many links say the same
    scores: dict[str, Scores] = {}
    for link in part.links:
        address = read_address(link.url)
        if address is None:
            continue
        found = _score(part, link, address=address, about=about, kind_of=kind_of)
        known = scores.get(link.url, found)
        scores[link.url] = Scores(
            max(found.magic_link, known.magic_link), max(found.password_reset, known.password_reset)
        )
    return scores


def _score(part: Part, link: Link, *, address: Address, about: About, kind_of: Callable[[str], Kind | None]) -> Scores:
    label, around = _surroundings(part, link)
    on_it = kind_of(label)
    said = Said(
        on_it=on_it,
        around=kind_of(around),
        in_url=_kind_of_url(address.words),
        in_subject=kind_of(about.subject),
        vague=_is_vague(label) or (link.label != "" and words.OWN.search(label) is not None),
        plain=_is_plain(label, on_it, context=f"{about.subject}\n{around}"),
        token=address.token > 0,
        unasked=about.unasked,
        expires=about.expires,
    )
    score = PRIOR + (address.token or NO_TOKEN) + 0.5 * (about.expires + about.unasked)
    if address.front:
        score -= 4.0
    if words.ELSEWHERE.search(label if link.label else label[-AFTER_MAX_CHARS:]):
        score -= 5.0
    if any(word in address.words for word in ELSEWHERE_STEMS):
        score -= 3.5
    if about.meeting or about.programming:
        score -= 2.0
    if not link.label and any(other.label for other in part.links):
        score -= 0.6  # in HTML a link to follow is an anchor, and what is written out beside it is a second way
    if not said.token and not link.label and (CODE_ITSELF.search(label) or CODE.search(label)):
        score -= 4.0  # the page to type a code into
    if said.on_it is None and words.INVITATION.search(f"{about.subject}\n{around}\n{label}"):
        score -= 2.5
    return Scores(score + _weigh(said, MAGIC), score + _weigh(said, RESET))


def _weigh(said: Said, wanted: frozenset[Kind]) -> float:
    """Return what all that is said of a link adds to the log-odds that it is of a wanted kind."""
    around = said.around if said.on_it in (None, said.around) else None
    # That the mail is about it is enough for a link that says nothing else.
    meant = said.vague and (around in wanted or (said.in_subject in wanted and (said.unasked or said.expires)))
    score = 0.0
    if said.on_it in wanted:
        score += ON_IT[said.on_it]
    elif said.on_it is not None:
        score -= 4.0
    elif not said.vague:
        score -= 1.5
    if said.in_url in wanted:
        score += IN_URL[said.in_url]
    elif said.in_url is Kind.RENEW:
        score -= 3.0
    if around in wanted:
        score += AROUND if said.vague and said.on_it is None else AROUND_TOO
    if said.in_subject in wanted:
        score += IN_SUBJECT
    elif said.in_subject is Kind.RENEW and said.on_it not in wanted:
        score -= 2.0
    places = [kind for kind in (said.on_it, said.in_url, around, said.in_subject) if kind in wanted]
    if said.on_it not in wanted and said.in_url not in wanted and not meant:
        score -= 3.0
    elif len(places) == 1 and not (around in wanted or said.unasked or said.plain or (said.in_url and said.vague)):
        score -= 2.5
    if wanted is MAGIC and Kind.VERIFY not in places:
        # Many mails have a link to the page where anyone signs in.
        score -= 0.0 if said.unasked or said.in_subject is Kind.SIGN_IN else 1.5
        score -= 0.0 if said.token else 2.0
    if wanted is RESET and not said.token and said.in_subject is not Kind.RENEW:
        score -= 2.0
    return score


def _surroundings(part: Part, link: Link) -> tuple[str, str]:
    """Return what is written on a link, and what stands before and behind it, folded.

    What is written on a bare URL is what leads up to it in its line, or follows in its sentence.
    """
    before = part.folded[max(0, link.start - BEFORE_MAX_CHARS) : link.start]
    after = ""
    if part.text[link.end : link.end + 1] == " " and part.text[link.end + 1 : link.end + 2].islower():
        after = _SENTENCE_END.split(part.folded[link.end : link.end + AFTER_MAX_CHARS], maxsplit=1)[0]
    lines = [line for line in before.split("\n") if line.strip(URL + " \t")]
    around = "\n".join(lines[-2:]) + after
    if link.label:
        return fold(link.label), around
    sentences = [one for one in _SENTENCE_END.split(before.rpartition("\n")[2]) if one.strip(" <([")]
    return (sentences[-1] if sentences else "") + after, around


def _kind_of(text: str) -> Kind | None:
    if words.PASSWORD.search(text) and words.RENEW.search(text):
        return Kind.RENEW
    if words.VERIFY.search(text) and not words.APPOINTMENT.search(text):
        return Kind.VERIFY
    return Kind.SIGN_IN if words.SIGN_IN.search(text) else None


def _is_vague(label: str) -> bool:
    """Whether what is written on a link could be written on any."""
    return not label.strip(URL + " .:-<>()[]\t*") or words.CLICK.search(label) is not None


def _is_plain(label: str, on_it: Kind | None, *, context: str) -> bool:
    """Whether a link is called by a button's words: "Reset password", "Verify email", "Confirm"."""
    if on_it is Kind.RENEW:
        return len(label) <= BUTTON_MAX_CHARS
    if on_it is not Kind.VERIFY:
        return False
    if words.OWN.search(label):
        return True
    return len(label) <= BUTTON_MAX_CHARS / 2 and words.APPOINTMENT.search(context) is None


def _kind_of_url(said: str) -> Kind | None:
    for kind, stems in STEMS:
        if any(stem in said for stem in stems):
            return kind
    return None
