"""A mail's HTML as the text a reader sees, and its links."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.finding.markup import Link, read_page


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Hi&nbsp;Anna,\n  <b>you</b>  are in", "Hi Anna, you are in"),
        ("<p>one</p><p>two<br/>three</p>", "one\ntwo\nthree\n"),
        ("<table><tr><td>Code</td><td>48<b>29</b></td></tr><tr><td>x", "Code\t4829\t\nx"),
        ("<TITLE>t</TITLE><Style>s</style><script>1<2</script>text", "text"),
        ("a<!-- b --> c<!--[if mso]> d <![endif]--><!doctype html><?xml?>e", "a ce"),
        ("a<!-- never closed", "a"),
        ("a<b", "a"),
        ('a<i title="x > y">b</i', "ab"),
        ("1 < 2 & 3 &lt; 4 &bogus; &#52;&#x38;&#99999999;", "1 < 2 & 3 < 4 &bogus; 48&#99999999;"),
        ("<div style='color:red;DISPLAY : none'>a<div>b</div>c</div>d", "d"),
        ("<span hidden>a</span><span style='visibility:hidden'>b</span><span style='opacity:0.9'>c</span>", "c"),
        ("<img hidden src=x>after an element that holds nothing", "after an element that holds nothing"),
        ("<select><option>a</select><svg><text>b</text></svg>c", "c"),
        ("<script>never closed", ""),
        ("<p hidden>never closed", ""),
    ],
)
def test_a_page_is_read_as_it_is_seen(source: str, text: str) -> None:
    assert read_page(source).text == text


def test_links_are_told_with_what_is_written_on_them_and_where() -> None:
    page = read_page(
        'See <a href=" https://a.example/?x=1&amp;y=2 "><img alt="Verify"> <b>now</b></a>, <a name=here>not</a>'
        "<a href='https://b.example'>open <a href='#top'>next"
    )

    assert page.text == "See now, notopen next"
    assert page.links == [
        Link("https://a.example/?x=1&y=2", "Verify now", 4, 7),
        Link("https://b.example", "open", 12, 17),
        Link("#top", "next", 17, 21),
    ]


@given(st.text(alphabet="<>/!-='\" \nabdhiprstyle&;#0") | st.text())
def test_anything_is_read_as_a_page(source: str) -> None:
    page = read_page(source)

    assert all(0 <= link.start <= link.end <= len(page.text) for link in page.links)
