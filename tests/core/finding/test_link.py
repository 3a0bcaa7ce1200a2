"""Links to be followed once: which count, and how they are told."""

from __future__ import annotations

import pytest

from sessiond.core.extraction import ExtractionType, extract
from sessiond.core.finding.url import URL_MAX_CHARS


def find(*, subject: str = "", text: str | None = None, html: str | None = None) -> dict[ExtractionType, str | None]:
    return {one.type: one.url for one in extract(subject=subject, text=text, html=html)}


@pytest.mark.parametrize(
    "href",
    [
        *(
            "javascript:verify('token=7c2e1f90ab34')",
            "mailto:verify@a.example?token=7c2e1f90ab34",
            "data:text/html,verify",
        ),
        *("/verify?token=7c2e1f90ab34", "ftp://a.example/verify?token=7c2e1f90ab34", "https://", "#verify", ""),
        "https://a.example/verify.png?token=7c2e1f90ab34",
        "https://www.facebook.com/verify?token=7c2e1f90ab34",
        "https://a.example/verify?token=" + "a" * URL_MAX_CHARS,
    ],
)
def test_a_link_that_leads_nowhere_of_the_senders_is_none(href: str) -> None:
    assert find(subject="Verify your email", html=f'<a href="{href}">Verify your email</a>') == {}


@pytest.mark.parametrize(
    ("html", "url"),
    [
        ('<a href="https://a.example/v?token=7c2e1f&amp;n=1">Verify email</a>', "https://a.example/v?token=7c2e1f&n=1"),
        ("<A HREF='https://a.example/v?token=7c2e1f'>Verify<br>email</A>", "https://a.example/v?token=7c2e1f"),
        ("<a href=https://a.example/v?token=7c2e1f>Verify email", "https://a.example/v?token=7c2e1f"),
        ('<a href="https://a.example/v?\r\ntoken=7c2e1f">Verify email</a>', "https://a.example/v?token=7c2e1f"),
        ('<a href="https://a.example/#/v?token=7c2e1f">Verify email</a>', "https://a.example/#/v?token=7c2e1f"),
        (
            '<map><area href="https://a.example/v?token=7c2e1f" alt="Verify email"></map>',
            "https://a.example/v?token=7c2e1f",
        ),
        ("<p>Verify your email: https://a.example/v?token=7c2e1f.</p>", "https://a.example/v?token=7c2e1f"),
        ("<p>Verify your email (https://a.example/v?token=7c2e1f)</p>", "https://a.example/v?token=7c2e1f"),
    ],
)
def test_a_link_is_told_as_it_is_followed(html: str, url: str) -> None:
    assert find(subject="Verify your email", html=html) == {ExtractionType.MAGIC_LINK: url}


def test_a_link_to_the_page_where_anyone_signs_in_is_no_magic_link() -> None:
    assert find(text="Thanks for your order.\n\nLog in to your account: https://a.example/login") == {}
