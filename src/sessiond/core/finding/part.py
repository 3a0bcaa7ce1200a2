"""A part of a mail (its subject, text or HTML) as extraction reads it: bounded, normalised, in lines, links apart."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sessiond.core.finding.folding import fold, normalise
from sessiond.core.finding.markup import LINKS_MAX, Link, read_page

# What is read of each part. Codes stand near the beginning; some mails repeat the link at the very end.
HEAD_MAX_CHARS: Final = 64 * 1024
TAIL_MAX_CHARS: Final = 16 * 1024
SUBJECT_MAX_CHARS: Final = 1_000
LINES_MAX: Final = 5_000

URL: Final = "\ufffc"  # stands where a URL stood, once for each of its characters

_URL: Final = re.compile(r"(?:[hH][tT][tT][pP][sS]?://|[wW][wW][wW]\.)[!#-;=?-~]++")
_LINE: Final = re.compile(r"[^\n]++")
_WRAPPED_MIN_CHARS: Final = 50  # a line of at least so many that ends in no period goes on in the next


class Part(msgspec.Struct, frozen=True):
    text: str
    """Each URL in it overwritten with `URL`."""
    folded: str
    lines: list[tuple[int, int]]
    """Where those that are not empty begin and end in the text."""
    links: list[Link]


def read_subject(source: str) -> Part:
    return _make_part(normalise(source[:SUBJECT_MAX_CHARS]).replace("\n", " "), [])


def read_text(source: str) -> Part:
    text = _unwrap(normalise(_clip(source)))
    return _make_part(text, [])


def read_html(source: str) -> Part:
    if len(source) > HEAD_MAX_CHARS + TAIL_MAX_CHARS:
        # Cut between tags, or the half of one would swallow what follows.
        head, tail = source[:HEAD_MAX_CHARS], source[-TAIL_MAX_CHARS:]
        source = f"{head[: head.rfind('>') + 1]}\n{tail[max(tail.find('<'), 0) :]}"
    page = read_page(source)
    return _make_part(page.text, page.links)


def _clip(source: str) -> str:
    if len(source) <= HEAD_MAX_CHARS + TAIL_MAX_CHARS:
        return source
    return f"{source[:HEAD_MAX_CHARS]}\n{source[-TAIL_MAX_CHARS:]}"


def _make_part(text: str, anchors: list[Link]) -> Part:
    """Set URLs apart. One that is an anchor's text is no link of its own: the anchor says where it leads."""
    inside = [(anchor.start, anchor.end) for anchor in anchors]
    links = list(anchors)
    pieces: list[str] = []
    position = 0
    for found in _URL.finditer(text):
        while inside and inside[0][1] <= found.start():
            inside.pop(0)
        url = found[0].rstrip(".,;:!?'\"*_~|>]")
        if url.endswith(")") and url.count("(") < url.count(")"):
            url = url[:-1].rstrip(".,;:!?'\"")
        anchored = bool(inside) and inside[0][0] <= found.start()
        if not anchored and len(links) < LINKS_MAX and url[:4].lower() == "http":
            links.append(Link(url, "", found.start(), found.start() + len(url)))
        pieces += text[position : found.start()], URL * len(url)
        position = found.start() + len(url)
    pieces.append(text[position:])
    text = "".join(pieces)
    return Part(text, fold(text), _lines(text), links)


def _lines(text: str) -> list[tuple[int, int]]:
    lines: list[tuple[int, int]] = []
    for found in _LINE.finditer(text):
        line = found[0]
        start = found.start() + len(line) - len(line.lstrip())
        end = found.start() + len(line.rstrip())
        if start < end:
            lines.append((start, end))
            if len(lines) == LINES_MAX:
                break
    return lines


def _unwrap(text: str) -> str:
    """Join the lines of paragraphs that were broken to fit a width, keeping each character's place."""
    lines = text.split("\n")
    pieces: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        goes_on = (
            len(line) >= _WRAPPED_MIN_CHARS
            and line[-1] not in ".!?:。！？："
            and following[:1].isalnum()
            and any(character.islower() for character in following[:40])
        )
        pieces += line, " " if goes_on else "\n"
    return "".join(pieces[:-1])
