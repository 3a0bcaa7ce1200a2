"""A mail's HTML as the text a reader sees, and the links in it.

Not a parser of HTML: it knows what breaks a line, what is not shown, and where links are. It reads each character a
bounded number of times, whatever the input (the standard library's parser does not).
"""

from __future__ import annotations

import html
import re
from typing import Final

import msgspec

from sessiond.core.finding.folding import normalise

LINKS_MAX: Final = 100  # of one part of a mail: newsletters have about fifty
LABEL_MAX_CHARS: Final = 300

_TAG: Final = re.compile(r"<(?:(!--)|[!?]|(/?)([A-Za-z][A-Za-z0-9:]*+))")
# Possessive throughout (`++`, `*+`): nothing that was taken is given back, so there is one way to read each character.
# A quote that is never closed is looked for to the end, but only once: behind it there is no other.
_ATTRIBUTE: Final = re.compile(r"""[\s/]*+([^\s/>=][^\s/>=]*+|=)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+)))?""")
_TAG_END: Final = re.compile(r"[\s/]*+>")
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")
_BREAK: Final = re.compile(r"[\t\r\n]+")  # in a URL a browser passes over them
_HIDING: Final = re.compile(
    r"display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden|opacity\s{0,9}:\s{0,9}0(?![.\d])"
)

# What stands in these is not for reading. It is not marked up either, except in `head` and `svg`.
_RAW: Final = {
    name: re.compile(rf"</{name}(?![A-Za-z0-9])", re.IGNORECASE)
    for name in ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes")
}
_UNSEEN: Final = frozenset({"template", "select", "svg", "object", "audio", "video"})
_VOID: Final = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
)
_CELLS: Final = frozenset({"td", "th"})
_BLOCKS: Final = re.compile(
    r"address|article|aside|blockquote|body|br|caption|center|d[dlt]|details|div|fieldset|figcaption|figure|footer|form"
    r"|h[1-6r]|head|header|html|legend|li|main|nav|[ou]l|p|pre|section|summary|table|t(?:body|foot|head|r)|title"
)


class Link(msgspec.Struct, frozen=True):
    url: str
    label: str
    """What is written on it, images by their alternative text."""
    start: int
    """Where in the text its label begins."""
    end: int


class Page(msgspec.Struct, frozen=True):
    text: str
    """Normalised. A block is a line, the cells of a row stand apart by tabs."""
    links: list[Link]


def read_page(source: str) -> Page:
    """Return what `source` shows. Comments, scripts, styles and hidden elements do not count."""
    writer = _Writer()
    position = 0
    hidden = ""  # the element that hides what is read now, and how many of its name are open
    depth = 0
    while True:
        tag = _TAG.search(source, position)
        if not hidden:
            writer.write(source[position : tag.start() if tag else len(source)])
        if tag is None:
            return writer.page()
        comment, closing, name = tag.groups()
        if name is None:
            end = source.find("-->", tag.start() + 2) if comment else source.find(">", tag.end())
            if end < 0:
                return writer.page()
            position = end + (3 if comment else 1)
            continue
        name = name.lower()
        attributes, position = _read_attributes(source, tag.end())
        if hidden:
            if name == hidden:
                depth += -1 if closing else 1
                hidden = hidden if depth else ""
        elif closing:
            writer.close(name)
        elif name in _UNSEEN or (attributes and name not in _VOID and _is_hidden(attributes)):
            hidden, depth = name, 1
        else:
            writer.open(name, attributes)
        if name in _RAW and not closing:
            end_tag = _RAW[name].search(source, position)
            if end_tag is None:
                return writer.page()
            position = end_tag.start()


def _read_attributes(source: str, position: int) -> tuple[dict[str, str], int]:
    """Return the attributes from `position` on that matter here, and where the tag ends."""
    if source.startswith(">", position):
        return {}, position + 1
    found: dict[str, str] = {}
    while end := _ATTRIBUTE.match(source, position):
        name, double, single, bare = end.groups()
        name = name.lower() if len(name) < 10 else ""
        if name in {"href", "style", "hidden", "alt"}:
            found.setdefault(name, double or single or bare or "")
        position = end.end()
    closed = _TAG_END.match(source, position)
    return found, closed.end() if closed else len(source)


def _is_hidden(attributes: dict[str, str]) -> bool:
    if "hidden" in attributes:
        return True
    style = attributes.get("style")
    return style is not None and _HIDING.search(style[:1_000].lower()) is not None


def unescape(text: str) -> str:
    """Decode the entities of `text`, those that end in a semicolon."""
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text) if "&" in text else text


class _Writer:
    """The text so far. It ends in at most one space, or in line breaks."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.length = 0
        self.last = "\n"
        self.links: list[Link] = []
        self.href = ""
        self.href_start = 0
        self.label: list[str] = []

    def write(self, raw: str) -> None:
        if not raw:
            return
        text = _SPACE.sub(" ", unescape(raw))
        if not (text.isascii() and text.isprintable()):
            text = normalise(text)
        if text[:1] == " " and self.last in " \n\t":
            text = text[1:]
        self._add(text)
        if self.href:
            self.label.append(text)

    def open(self, name: str, attributes: dict[str, str]) -> None:
        if name in _CELLS:
            self._break("\t")
        elif _BLOCKS.fullmatch(name):
            self._break("\n")
        if name in ("a", "area"):
            self._end_link()
            self.href = _BREAK.sub("", unescape(attributes.get("href", ""))).strip()
            self.href_start = self.length
            if name == "area":
                self.label.append(attributes.get("alt", ""))
                self._end_link()
        elif name == "img" and self.href:
            self.label.append(" " + unescape(attributes.get("alt", "")[:LABEL_MAX_CHARS]) + " ")

    def close(self, name: str) -> None:
        if name == "a":
            self._end_link()
        elif name in _CELLS:
            self._break("\t")
        elif _BLOCKS.fullmatch(name):
            self._break("\n")

    def page(self) -> Page:
        self._end_link()
        return Page("".join(self.pieces), self.links)

    def _break(self, mark: str) -> None:
        if self.last != "\n" and self.last != mark:
            self._add(mark)
        if self.href:
            self.label.append(" ")

    def _add(self, text: str) -> None:
        if text:
            self.pieces.append(text)
            self.length += len(text)
            self.last = text[-1]

    def _end_link(self) -> None:
        if self.href and len(self.links) < LINKS_MAX:
            label = normalise(_SPACE.sub(" ", "".join(self.label)[: LABEL_MAX_CHARS * 2]).strip()[:LABEL_MAX_CHARS])
            self.links.append(Link(self.href, label, self.href_start, self.length))
        self.href = ""
        self.label = []
