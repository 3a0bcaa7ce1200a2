"""The documentation as data: its pages, the fenced blocks in them, and what they link to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = tuple(
    sorted(
        [
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/**/*.md"),
            *ROOT.glob("examples/*.md"),
            *ROOT.glob("src/sessiond/**/README.md"),
        ]
    )
)

_FENCE: Final = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_CODE: Final = re.compile(r"`([^`\n]+)`")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A fenced block. One of `bash` or `python` is run by the tests, one of `sh` or `console` is only shown."""

    language: str
    text: str
    line: int
    output: Block | None = None
    """The block behind one that is run, when it shows what that prints: `json` or `text`."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return a page's fenced blocks, in order."""
    text = page.read_text()
    found = [
        Block(language=match[1], text=match[2], line=text.count("\n", 0, match.start()) + 1)
        for match in _FENCE.finditer(text)
    ]
    return [
        msgspec.structs.replace(block, output=after)
        if block.language in RUN and after is not None and after.language in SHOWN
        else block
        for block, after in zip(found, [*found[1:], None], strict=False)
    ]


RUN: Final = frozenset({"bash", "python"})
SHOWN: Final = frozenset({"json", "text"})


def links(page: Path) -> Iterator[str]:
    """Yield where a page links to, code apart."""
    yield from _LINK.findall(_CODE.sub("", _FENCE.sub("", page.read_text())))


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as they stand behind the `#` of a link."""
    text = _FENCE.sub("", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def spans(page: Path) -> list[str]:
    """Return what stands between backticks in a page's text."""
    return _CODE.findall(_FENCE.sub("", page.read_text()))


def rows(page: Path, header: str) -> list[list[str]]:
    """Return the rows of the table whose header line begins with `header`, cell by cell."""
    _, found, below = page.read_text().partition(f"\n{header}")
    assert found, f"{name_of(page)} has no table {header!r}"
    lines = below.splitlines()[2:]
    ends = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:ends]]
