"""Every link inside the documentation leads somewhere, and every page can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, name_of


def _local(page: Path) -> list[tuple[Path, str]]:
    found = []
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        found.append(((page.parent / path).resolve() if path else page, anchor))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target, anchor in _local(page):
        assert target.exists(), target
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(target), f"{name_of(target)} has no heading #{anchor}"


def test_every_page_can_be_reached_from_the_first() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        waiting += [target for target, _ in _local(page)]

    assert set(PAGES) - reached == set()
