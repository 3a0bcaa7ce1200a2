"""What a mail was sent for: the code to type in, or the link to follow."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from math import exp
from typing import Final

import msgspec

from sessiond.core.finding.about import make_about
from sessiond.core.finding.code import score_codes
from sessiond.core.finding.link import score_links
from sessiond.core.finding.part import Part, read_html, read_subject, read_text

CANDIDATES_MAX: Final = 20  # that are told of each type
CONFIDENCE_MIN: Final = 0.55  # what is hardly likelier than not is not reported


class ExtractionType(StrEnum):
    OTP = "otp"
    MAGIC_LINK = "magic_link"
    PASSWORD_RESET = "password_reset"  # noqa: S105 - a kind of link


class Source(StrEnum):
    """Where in the mail it was found."""

    SUBJECT = "subject"
    TEXT = "text"
    HTML = "html"


class Candidate(msgspec.Struct, frozen=True):
    """What might have been it, and how likely that is."""

    value: str
    """A code, or a URL."""
    confidence: float
    """0 to 1."""
    source: Source


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """One thing found in a mail. A code has a `value`, a link a `url`."""

    type: ExtractionType
    value: str | None = None
    url: str | None = None
    confidence: float
    """0 to 1."""
    source: Source
    candidates: list[Candidate] = []
    """All that were considered, the best first, the one chosen among them."""


def extract(*, subject: str, text: str | None, html: str | None) -> list[Extraction]:
    """Return what is found in a mail, at most one of each type, the surest first.

    Takes time in proportion to the length of what it is given, of which it reads a bounded part.
    """
    title = read_subject(subject)
    # The order of preference where several say the same.
    parts: dict[Source, Part] = {}
    if text:
        parts[Source.TEXT] = read_text(text)
    if html:
        parts[Source.HTML] = read_html(html)
    about = make_about(title, list(parts.values()))

    codes = {source: score_codes(part, about) for source, part in parts.items()}
    codes[Source.SUBJECT] = score_codes(title, about)
    links = {source: score_links(part, about) for source, part in parts.items()}
    resets = {source: {url: scores.password_reset for url, scores in found.items()} for source, found in links.items()}
    signs = {source: {url: scores.magic_link for url, scores in found.items()} for source, found in links.items()}

    found = [
        _choose(ExtractionType.OTP, codes),
        _choose(ExtractionType.MAGIC_LINK, signs),
        _choose(ExtractionType.PASSWORD_RESET, resets),
    ]
    return sorted(filter(None, found), key=lambda one: -one.confidence)


def _choose(type_: ExtractionType, scores: Mapping[Source, Mapping[str, float]]) -> Extraction | None:
    """Return the likeliest of what was scored, or None when it is less likely than not."""
    best: dict[str, tuple[float, Source]] = {}
    for source, scored in scores.items():
        for value, score in scored.items():
            if value not in best:
                best[value] = score, source
            else:
                # Found twice, it counts as found where it is preferred, and for a little more.
                known, first = best[value]
                best[value] = max(known, score) + (0.3 if min(known, score) > 0 else 0.0), first
    candidates = sorted(
        (Candidate(value, _confidence(score), source) for value, (score, source) in best.items()),
        key=lambda candidate: -candidate.confidence,
    )[:CANDIDATES_MAX]
    if not candidates or candidates[0].confidence < CONFIDENCE_MIN:
        return None
    chosen = candidates[0]
    is_code = type_ is ExtractionType.OTP
    return Extraction(
        type=type_,
        value=chosen.value if is_code else None,
        url=None if is_code else chosen.value,
        confidence=chosen.confidence,
        source=chosen.source,
        candidates=candidates,
    )


def _confidence(score: float) -> float:
    return round(1 / (1 + exp(-score)), 3)
