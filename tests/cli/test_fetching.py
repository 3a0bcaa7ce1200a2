"""Bundles that a server writes are counted, and seen to be whole."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sessiond.cli.fetching import Lines

BUNDLE = (
    b'{"type":"bundle","format":"sessiond"}\n'
    b'{"type":"session","id":"a"}\n{"type":"event","body":"{\\"type\\":\\"session\\","}\n'
    b'{"type":"session","id":"b"}\n{"type":"end","sessions":2}\n'
)


@given(st.lists(st.integers(0, len(BUNDLE)), max_size=8), st.integers(0, len(BUNDLE)))
def test_however_a_bundle_is_cut_into_pieces_its_sessions_are_counted(cuts: list[int], end: int) -> None:
    lines, places = Lines(), sorted({0, *(cut for cut in cuts if cut < end), end})
    for begin, stop in pairwise(places):
        lines.feed(BUNDLE[begin:stop])

    assert lines.sessions == sum(line.startswith(b'{"type":"session"') for line in BUNDLE[:end].split(b"\n")[:-1])
    assert lines.ended == (end == len(BUNDLE))
