"""What is found in mails: the corpus of `corpus/README.md`, the limits, and what holds of any mail."""

from __future__ import annotations

import tomllib
from pathlib import Path
from time import process_time
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.extraction import CANDIDATES_MAX, CONFIDENCE_MIN, Extraction, ExtractionType, Source, extract
from sessiond.core.finding.folding import normalise
from sessiond.core.finding.form import FORMS_MAX, find_forms
from sessiond.core.finding.markup import LINKS_MAX
from sessiond.core.finding.part import read_html, read_text

OTP, MAGIC_LINK, PASSWORD_RESET = ExtractionType

CORPUS: Final = Path(__file__).parent / "corpus"
RIGHT_MIN: Final = 0.97
FALSE_CODES_MAX: Final = 0.02

HOSTILE_CHARS: Final = 256 * 1024  # as much of a part as a mail keeps
HOSTILE_MAX_SECONDS: Final = 1.0  # of CPU; it takes about 0.05, and quadratic time would be minutes


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mail of the corpus, and what is right to find in it."""

    name: str
    language: str
    subject: str
    text: str | None = None
    html: str | None = None
    otp: str | None = None
    magic_link: str | None = None
    password_reset: str | None = None

    @property
    def right(self) -> dict[ExtractionType, str]:
        wanted = {OTP: self.otp, MAGIC_LINK: self.magic_link, PASSWORD_RESET: self.password_reset}
        return {type_: value for type_, value in wanted.items() if value is not None}

    def found(self) -> dict[ExtractionType, str]:
        return values(extract(subject=self.subject, text=self.text, html=self.html))


def values(found: list[Extraction]) -> dict[ExtractionType, str]:
    return {one.type: one.value or one.url or "" for one in found}


def find(*, subject: str = "", text: str | None = None, html: str | None = None) -> dict[ExtractionType, str]:
    return values(extract(subject=subject, text=text, html=html))


def read_corpus() -> list[Sample]:
    return [
        msgspec.convert(mail, Sample)
        for path in sorted(CORPUS.rglob("*.toml"))
        for mail in tomllib.loads(path.read_text(encoding="utf-8"))["mail"]
    ]


SAMPLES: Final = read_corpus()


def test_the_corpus_has_as_many_mails_as_its_measure_needs() -> None:
    without_code = [sample for sample in SAMPLES if sample.otp is None]
    without_anything = [sample for sample in without_code if not sample.right]
    codes = [sample for sample in SAMPLES if sample.otp is not None]

    assert len(SAMPLES) >= 150
    assert len(without_anything) >= 60
    assert len(codes) >= 60
    assert len({sample.language for sample in SAMPLES}) >= 15
    assert all(sample.text or sample.html for sample in SAMPLES)


def test_what_is_found_in_the_corpus_is_right() -> None:
    wrong = [
        f"{sample.name}: {sample.right} is right, found {found}"
        for sample in SAMPLES
        if (found := sample.found()) != sample.right
    ]

    assert 1 - len(wrong) / len(SAMPLES) >= RIGHT_MIN, "\n".join(wrong)


def test_no_code_is_found_in_mails_without_one() -> None:
    without_code = [sample for sample in SAMPLES if sample.otp is None]
    false = [f"{sample.name}: {found[OTP]}" for sample in without_code if OTP in (found := sample.found())]

    assert len(false) / len(without_code) <= FALSE_CODES_MAX, "\n".join(false)


# What is reported


def test_what_text_and_html_both_say_is_found_in_the_text() -> None:
    (found,) = extract(
        subject="Your code 482913",
        text="Your verification code is 482913.",
        html="<p>Your verification code is <b>482913</b>.</p>",
    )

    assert (found.type, found.value, found.url, found.source) == (OTP, "482913", None, Source.TEXT)


@pytest.mark.parametrize(
    ("text", "html", "source"),
    [
        (None, "<p>Your login code is <b>482913</b></p>", Source.HTML),
        ("Use the code that is in the subject.", None, Source.SUBJECT),
        (None, None, Source.SUBJECT),
        ("", "", Source.SUBJECT),
    ],
)
def test_a_code_is_found_where_the_text_does_not_say_it(text: str | None, html: str | None, source: Source) -> None:
    found = extract(subject="Your login code is 482913", text=text, html=html)

    assert [(one.value, one.source) for one in found] == [("482913", source)]


def test_the_surest_comes_first_and_each_type_once() -> None:
    found = extract(
        subject="Reset your password",
        text="Reset your password: https://a.example/reset?token=7c2e1f90ab34\nor enter the code 482913.\n"
        "The code 551027 is for something else. Or sign in: https://a.example/magic?token=0f1e2d3c4b5a",
        html=None,
    )

    assert len({one.type for one in found}) == len(found)
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)
    assert found[0].url == "https://a.example/reset?token=7c2e1f90ab34"


def test_the_candidates_are_what_was_considered_the_chosen_one_first() -> None:
    (found,) = extract(subject="Order 77120945", text="Your verification code is 482913, not 551027.", html=None)

    assert found.candidates[0].value == found.value
    assert {candidate.value for candidate in found.candidates} == {"482913", "551027", "77120945"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("482 913", "482913"),
        ("482-913", "482913"),
        ("48 29 13", "482913"),
        ("4 8 2 9 1 3", "482913"),
        ("482\u2011913", "482913"),
        ("482\u00a0913", "482913"),
        ("482\u200b913", "482913"),
        ("٤٨٢٩١٣", "482913"),
        ("４８２９１３", "482913"),
        ("G-482913", "482913"),
        ("WDJB-4813", "WDJB-4813"),
        ("QFK-XPD", "QFK-XPD"),
        ("K7P2QX", "K7P2QX"),
        ("**482913**", "482913"),
        ("(482913)", "482913"),
        ("482913\r\n", "482913"),
    ],
)
def test_a_code_is_told_as_it_is_typed_in(written: str, value: str) -> None:
    assert find(text=f"Your verification code is: {written}") == {OTP: value}


@pytest.mark.parametrize(
    "written",
    [
        *(
            "$4829",
            "€ 4829",
            "4829 €",
            "EUR 4829",
            "4829%",
            "48.29",
            "48,291",
            "4829.50",
            "12:4829",
            "+4829",
            "4829/10",
        ),
        *(
            "****4829",
            "x=4829",
            "user4829@example.com",
            "2025-03-14",
            "14h30",
            "1920x1080",
            "4829 minutes",
            "123",
            "$48 29",
        ),
        *("123456789", "0800 123456", "+49 30 123456", "4242 4242 4242 4242", "https://a.example/4829", "a81bd0c77f"),
        *("AB-CD-4829-XY", "VERIFY"),
    ],
)
def test_what_is_no_code_by_its_form_is_none_whatever_it_is_called(written: str) -> None:
    assert OTP not in find(text=f"Your verification code {written}")


def test_a_number_alone_below_the_wish_to_type_it_in_needs_no_name() -> None:
    assert find(subject="Confirm it's you", text="Type this into the app:\n\n482913\n\nIt expires at noon.") == {
        OTP: "482913"
    }


def test_a_number_alone_of_which_nothing_is_said_is_no_code() -> None:
    assert find(subject="Hello", text="Hi Anna,\n\n482913") == {}
    assert find(subject="Hello", text="482913\n\nSee you soon") == {}


def test_hidden_text_scripts_styles_and_comments_say_nothing() -> None:
    hidden = "Your verification code is 551027"
    page = (
        f"<title>{hidden}</title><style>.a{{color:#551027}} /* {hidden} */</style><script>'{hidden}'</script>"
        f"<!-- {hidden} --><div style='Display : None'>{hidden}<div>{hidden}</div></div><p hidden>{hidden}</p>"
        f"<select><option>{hidden}</select><img alt='{hidden}'><p title='{hidden}'>Your verification code is 482913</p>"
    )

    assert find(html=page) == {OTP: "482913"}


# Limits


def repeated(piece: str) -> str:
    return (piece * (HOSTILE_CHARS // len(piece) + 1))[:HOSTILE_CHARS]


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "<",
            "<<a",
            "<!--",
            "<!",
            "<?",
            "</",
            "<div>",
            "<b></b>",
            "<td>1",
            "<p hidden>",
            '<a b="',
            "<a b='",
            '<a ="',
            "<a /",
        ),
        *(
            "<script>",
            "<style>",
            "</p>",
            "<a href=x>y",
            '<a href="https://a.example/verify?token=7c2e1f">Verify</a> ',
            "&amp;",
        ),
        *(
            "&#1632;",
            "&#" + "1" * 5_000 + ";",
            "&a",
            "<a " + "b" * 1_000 + "=c ",
            "<p style='display:none",
            "<table><tr><td>code",
        ),
    ],
)
def test_html_that_was_made_to_be_slow_is_read_soon(piece: str) -> None:
    page = repeated(piece)
    started = process_time()

    extract(subject="", text=None, html=page)

    assert process_time() - started < HOSTILE_MAX_SECONDS


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "1",
            "1 ",
            "1-",
            "1.",
            "a-",
            "a1-",
            "A",
            "ABCDEF ",
            "482913 ",
            "482913\n",
            "4 8 2 9 1 3 ",
            "K7P2QX ",
            "*",
            "(",
            '"',
            ":",
        ),
        *(
            " ",
            "\t",
            "\n",
            "\r\n",
            "\x00",
            "\u200b",
            "é",
            "e\u0301\u0327",
            "验证码",
            "رمز",
            "😀",
            "\ud800",
            "İ",
            "abcd. ",
        ),
        *(
            "code ",
            "verification code ",
            "your code is 482913 ",
            "order 4829 code ",
            "https://",
            "https://a.example/verify?token=7c2e1f ",
        ),
        *("www.", "a@", "%2f", "https://a.example/" + "aA-" * 1_000 + " ", "https://a.example/?" + "a=1&" * 900 + " "),
    ],
)
def test_text_that_was_made_to_be_slow_is_read_soon(piece: str) -> None:
    text = repeated(piece)
    started = process_time()

    extract(subject=text, text=text, html=None)

    assert process_time() - started < HOSTILE_MAX_SECONDS


def test_twenty_thousand_nested_elements_hide_no_code() -> None:
    # Deeper than any parser by recursion would go, and within what is read.
    page = "<b>" * 20_000 + "Your verification code is 482913" + "</b>" * 20_000

    assert find(html=page) == {OTP: "482913"}


def test_of_a_long_part_the_beginning_and_the_end_are_read() -> None:
    filling = "All that happened this year. " * 10_000
    code = "Your verification code is 482913."

    assert find(text=f"{code}\n\n{filling}") == {OTP: "482913"}
    assert find(text=f"{filling}\n\n{code}") == {OTP: "482913"}
    assert find(text=f"{filling}\n\n{code}\n\n{filling}") == {}
    assert find(html=f"<p>{filling}</p><p>{code}</p>") == {OTP: "482913"}


def test_candidates_and_links_are_counted() -> None:
    numbers = "\n".join(f"Your code is {number}" for number in range(100_000, 110_000))
    links = "".join(f'<a href="https://a.example/verify?token={n}">Verify</a>' for n in range(100_000, 101_000))

    (found,) = extract(subject="Your code", text=numbers, html=None)

    assert len(found.candidates) == CANDIDATES_MAX
    assert len(list(find_forms(read_text(numbers).text))) == FORMS_MAX
    assert len(read_html(links).links) == LINKS_MAX


# What holds of any mail

WORDS: Final = """
482913 4829 K7P2QX QFK-XPD G-482913 4 8 2 9 1 3 482-913 2025 14:30 $4829 #482913 verification code Code: is your PIN
order number Bestätigungscode lautet 验证码是 認証コード 인증번호 رمز ٤٨٢٩ ４８２９ use enter to sign in minutes . : ( )
https://a.example/verify?token=7c2e1f https://a.example/reset/7c2e1f90ab34 www.a.example <p> </p> <td> <b> </a> Verify
reset password unsubscribe email </div> <!-- --> <script> </script> &nbsp; &amp; < > " ' =
"""
TAGS: Final = (
    '<a href="https://a.example/magic?t=7c2e1f90">',
    "<a href='https://a.example/reset?x=1&amp;y=2'>",
    '<div style="display:none">',
)
PIECES: Final = st.sampled_from([*WORDS.split(), *TAGS, "\n", "\t"])
MAIL_LIKE: Final = st.lists(PIECES, max_size=40).map(" ".join)
ANY: Final = st.one_of(st.text(max_size=300), MAIL_LIKE)


def squeeze(text: str) -> str:
    return "".join(character for character in normalise(text) if character.isalnum())


@given(subject=ANY, text=st.none() | ANY, html=st.none() | ANY)
def test_what_is_found_in_any_mail_is_in_it_with_a_confidence(subject: str, text: str | None, html: str | None) -> None:
    page = read_html(html or "")
    written = [squeeze(part) for part in (subject, text or "", page.text)]
    urls = {link.url for link in (*page.links, *read_text(text or "").links)}

    found = extract(subject=subject, text=text, html=html)

    assert found == extract(subject=subject, text=text, html=html)
    assert len({one.type for one in found}) == len(found)
    for one in found:
        assert CONFIDENCE_MIN <= one.confidence <= 1
        assert (one.value is None) == (one.type is not OTP)
        assert (one.value or one.url, one.confidence, one.source) == msgspec.structs.astuple(one.candidates[0])
        for candidate in one.candidates:
            assert 0 <= candidate.confidence <= one.confidence
            if one.type is OTP:
                assert any(squeeze(candidate.value) in part for part in written)
            else:
                assert candidate.value in urls
