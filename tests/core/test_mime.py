"""Mails are read whatever their bytes are, in bounds, and written so that they read as they were meant."""

from __future__ import annotations

import base64
import binascii
import encodings
import pkgutil
import threading
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from encodings.aliases import aliases
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.core.errors import InvalidInput, SessiondError, TooLarge
from sessiond.core.mail import (
    ADDRESS_MAX_CHARS,
    ATTACHMENTS_MAX,
    BODY_MAX_CHARS,
    HEADER_MAX_CHARS,
    HEADERS_MAX,
    SUBJECT_MAX_CHARS,
    Attachment,
    Read,
)
from sessiond.core.mail_head import codec_of
from sessiond.core.mime import RECIPIENTS_MAX, read_mail, write_mail
from tests.core.mails.hostile import FRAGMENTS, HUGE, hostile_mails, nested, sound_mails

SENT_AT_US = 1_700_000_000_000_000

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=300)
lines = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=200).map(str.strip)
addresses = st.from_regex(r"[a-z0-9.+_-]{1,20}@[a-z0-9-]{1,20}\.(com|test)", fullmatch=True)


def check(read: Read) -> None:
    """Check what is true of every mail: it can be kept, and is within its limits."""
    encoded = msgspec.json.encode(read)

    assert msgspec.json.decode(encoded, type=Read) == read
    assert b"\\u0000" not in encoded.replace(b"\\\\", b"")
    assert len(read.sender) <= ADDRESS_MAX_CHARS
    assert len(read.recipients) <= RECIPIENTS_MAX
    assert all(len(address) <= ADDRESS_MAX_CHARS and "@" in address for address in read.recipients)
    assert len(read.subject) <= SUBJECT_MAX_CHARS
    assert len(read.text or "") <= BODY_MAX_CHARS
    assert len(read.html or "") <= BODY_MAX_CHARS
    assert len(read.headers) <= HEADERS_MAX
    assert all(len(value) <= HEADER_MAX_CHARS for _, value in read.headers)
    assert len(read.attachments) <= ATTACHMENTS_MAX
    assert all(attachment.size >= 0 and attachment.content_type.isascii() for attachment in read.attachments)
    assert len(read.defects) < 20
    names = [attachment.name or "" for attachment in read.attachments]
    line = [read.sender, read.sender_name or "", read.subject, read.message_id or "", *read.recipients, *names]
    for text in [*line, *(part for header in read.headers for part in header)]:
        assert len(text.splitlines()) <= 1


def mail(*head: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([*head, b"", body])


def write(**fields: Any) -> bytes:
    known: dict[str, Any] = {"sender": "a@b.c", "recipients": [], "subject": "", "text": "", "html": None}
    return write_mail(**{**known, "sent_at_us": SENT_AT_US, "message_id": "1@b.c", **fields})


# What mails say


def test_a_mail_says_who_wrote_to_whom_about_what_and_when() -> None:
    plain, in_unicode, both, files, in_base64, by_hand = map(read_mail, sound_mails())

    assert plain == Read(
        sender="noreply@example.com",
        sender_name="Jürgen",
        recipients=["box@example.com", "ann@example.com"],
        subject="Your code",
        message_id="<1@example.com>",
        sent_at_us=SENT_AT_US,
        text="Your code is 123456.\nIt is good for ten minutes.\n",
        headers=plain.headers,
    )
    assert plain.headers[:2] == [
        ("From", "Jürgen <noreply@example.com>"),
        ("To", "box@example.com, Ann <ann@example.com>"),
    ]
    assert in_unicode.subject == "Bestätigung für Jürgen 你好"
    assert in_unicode.text == "Ihr Code: 123456 – gültig für zehn Minuten €\n你好\n"
    assert (both.text, both.html) == (plain.text, "<p>Your code is <b>123456</b>.</p>\n")
    assert files.text == plain.text
    assert [(file.name, file.content_type) for file in files.attachments] == [
        ("Rechnung für März.pdf", "application/pdf"),
        (None, "message/rfc822"),
    ]
    assert files.attachments[0].size == len(base64.encodebytes(bytes(5120)))
    assert in_base64.text == (plain.text or "") * 20
    assert (by_hand.subject, by_hand.text, by_hand.html) == ("日本語café", None, "Привет")
    assert not any(read.defects for read in (plain, in_unicode, both, files, in_base64, by_hand))


@pytest.mark.parametrize(
    ("charset", "python", "text"),
    [
        *(
            ("utf-8", "utf-8", "Grüße 你好 😀"),
            ("UTF8", "utf-8", "ü"),
            ("utf-16", "utf-16", "ü你"),
            ("us-ascii", "utf-8", "ü"),
        ),
        *(("iso-8859-1", "latin-1", "Grüße"), ("iso-8859-1", "cp1252", "“€”"), ("ISO-8859-15", "iso8859-15", "€")),
        *(("windows-1251", "cp1251", "Привет"), ("koi8-r", "koi8-r", "Привет"), ("windows-874", "cp874", "รหัส")),
        *(
            ("gb2312", "gb18030", "验证码😀"),
            ("big5", "big5", "驗證碼"),
            ("x-sjis", "cp932", "認証①"),
            ("euc-jp", "euc-jp", "認証"),
        ),
        *(
            ("iso-2022-jp", "iso-2022-jp", "認証コード"),
            ("ks_c_5601-1987", "cp949", "인증똠"),
            ("iso-2022-kr", "iso2022_kr", "인증"),
        ),
        *(("no-such", "utf-8", "ü"), ("no-such", "cp1252", "ü"), ("", "cp1252", "ü"), ("utf-8", "utf-8-sig", "ü")),
        *(("zlib", "utf-8", "ü"), ("punycode", "utf-8", "ü"), ("utf-7", "utf-8", "+2AA-")),
    ],
)
def test_a_text_is_read_in_its_charset(charset: str, python: str, text: str) -> None:
    head = [f"Content-Type: text/plain; charset={charset}".encode()]
    octets = text.encode(python)

    plain = read_mail(mail(*head, body=octets))
    in_base64 = read_mail(mail(*head, b"Content-Transfer-Encoding: BASE64", body=base64.b64encode(octets)))
    quoted = binascii.b2a_qp(octets, istext=False)
    in_quoted_printable = read_mail(mail(*head, b"Content-Transfer-Encoding: quoted-printable", body=quoted))

    assert [plain.text, in_base64.text, in_quoted_printable.text] == [text] * 3


def test_every_charset_that_is_known_has_a_codec_for_text() -> None:
    names = {*aliases, *(module.name for module in pkgutil.iter_modules(encodings.__path__))}

    found = {codec for codec in map(codec_of, names) if codec}

    assert len(found) > 40
    assert not found & {"utf_7", "punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined"}
    assert all(b"a".decode(codec, "replace") for codec in found)  # which refuses codecs that are not for text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *(
            (b"=?utf-8?B?R3LDvMOfZQ==?=", "Grüße"),
            (b"=?UTF-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
            (b"=?utf-8*de?q?=C3=BC?=", "ü"),
        ),
        *((b"a =?utf-8?q?b?= c", "a b c"), (b"=?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"), (b"a=?utf-8?q?b?=c", "abc")),
        *((b"=?utf-8?b?w?= =?utf-8?q?=C3?= =?utf-8?b?vA==?=", "ü"), (b"=?no-such?q?=C3=BC?= \xfc", "ü ü")),
        *(
            (b"=?utf-8?b?R3LDvMOfZQ?=", "Grüße"),
            (b"=?utf-8?b?!?=", ""),
            (b"=?utf-8?q?=ZZ=?=", "=ZZ"),
            (b"=?x?q?", "=?x?q?"),
        ),
        *((b"=?utf-8?q?Really? Yes_?=", "Really? Yes"), (b"=?utf-8?x?a?=", "=?utf-8?x?a?="), (b"Gr\xfc\xdfe", "Grüße")),
        *(
            ("Grüße 你好".encode(), "Grüße 你好"),
            (b"=?utf-8?q?a=0D=0ABcc:_x?=", "a Bcc: x"),
            (b"a\rBcc: x", "a Bcc: x"),
        ),
        *((b"a\0b", "a b"), (b"a\xe2\x80\xa8b", "a b"), (b"a\xc2\x85b", "a b"), (b"=?utf-8?q?=00?=", ""), (b"", "")),
        *((b"=?utf-7?q?+2AA-?=", "+2AA-"), (b"=?utf-16?b?ANg=?=", "\ufffd"), (b"=?utf-8?q?=ED=A0=80?=", "\ufffd" * 3)),
        *((b" folded\r\n\t once\n  twice ", "folded once twice"), (b"a  b", "a  b")),
    ],
)
def test_a_subject_is_read_as_it_was_meant(written: bytes, read: str) -> None:
    found = read_mail(mail(b"Subject: " + written))

    assert found.subject == read
    check(found)


@pytest.mark.parametrize(
    ("written", "sender", "name"),
    [
        *(
            (b"ann@Example.COM", "ann@example.com", None),
            (b"<Ann@b.c>", "Ann@b.c", None),
            (b"Ann <a@b.c>", "a@b.c", "Ann"),
        ),
        *((b'"Lee, \\"Ann\\"" <a@b.c>', "a@b.c", 'Lee, "Ann"'), (b"a@b.c (Ann)", "a@b.c", "Ann"), (b"", "", None)),
        *((b"=?utf-8?q?J=C3=BCrgen=2C_GmbH?= <a@b.c>", "a@b.c", "Jürgen, GmbH"), (b"Lee, Ann <a@b.c>", "a@b.c", "Ann")),
        *((b'"=?utf-8?q?J=C3=BCrgen?=" <a@b.c>', "a@b.c", "Jürgen"), (b'"x@y.z" <a@b.c>', "a@b.c", "x@y.z")),
        *((b"a@b.c\r\n ,\r\n d@e.f", "a@b.c", None), (b"a@b.c\rBcc: x@y.z", "", None), (b"Ann", "", None)),
        *((b"<>", "", None), (b"a@b@c", "", None), (b"@", "", None), (b"a@", "", None), (b"(" * 9000, "", None)),
        *((b"a@" + b"b" * 400, "", None), ("jü@exämple.com".encode(), "jü@exämple.com", None), (b"a\0@b.c", "", None)),
    ],
)
def test_the_sender_is_the_address_in_from(written: bytes, sender: str, name: str | None) -> None:
    read = read_mail(mail(b"From: " + written, b"Subject: read all the same"))

    assert (read.sender, read.sender_name if sender else None) == (sender, name)
    assert bool(read.defects) == (not sender)
    assert read.subject == "read all the same"


def test_recipients_are_the_addresses_of_to_and_cc_in_bounds() -> None:
    to = b",\r\n ".join(b"Ann <%d@example.com>" % number for number in range(80))
    cc = b",".join(b"%d@example.com" % number for number in range(40, 120))

    few = read_mail(mail(b"To: a@b.c, undisclosed:;", b"To: d@e.f", b"CC: a@B.C, not one"))
    many = read_mail(mail(b"From: a@b.c", b"To: " + to, b"Cc: " + cc))

    assert few.recipients == ["a@b.c", "d@e.f"]
    assert many.recipients == [f"{number}@example.com" for number in range(RECIPIENTS_MAX)]
    assert many.defects == ["some recipients were left out"]


@pytest.mark.parametrize(
    ("written", "sent_at_us"),
    [
        *((b"Tue, 14 Nov 2023 22:13:20 +0000", SENT_AT_US), (b"14 Nov 2023 23:13:20 +0100 (CET)", SENT_AT_US)),
        *((b"Tue, 14 Nov 2023 22:13:20 -0000", SENT_AT_US), (b"Tue, 14 Nov 2023 22:13:20 GMT", SENT_AT_US)),
        *(
            (b"", None),
            (b"now", None),
            (b"Tue, 99 Nov 2023 22:13:20 +0000", None),
            (b"31 Dec 1969 23:59:59 +0000", None),
        ),
        *((b"Tue, 14 Nov 2023 22:13:20 +9999", None), (b"9" * 1500, None), (b"14 Nov 99999999999999999 0:0:0", None)),
    ],
)
def test_a_mail_was_sent_when_its_date_says(written: bytes, sent_at_us: int | None) -> None:
    read = read_mail(mail(b"From: a@b.c", b"Date: " + written))

    assert read.sent_at_us == sent_at_us
    assert read.defects == ([] if sent_at_us else ["Date could not be read"])


@pytest.mark.parametrize(
    ("head", "name"),
    [
        *(
            (b"; filename=a.txt", "a.txt"),
            (b'; filename="a b;\\".txt"', 'a b;".txt'),
            (b"; FileName=a", "a"),
            (b"", None),
        ),
        *((b"; filename*=utf-8''%C3%BC.txt", "ü.txt"), (b"; filename*0*=utf-8''%C3; filename*1*=%BC", "ü")),
        *(
            (b"; filename*0=a; filename*1=b", "ab"),
            (b'; filename="=?utf-8?q?=C3=BC?="', "ü"),
            (b"; filename*=\xc3\xbc", "ü"),
        ),
        *((b"; filename*=no-such''%FC", "ü"), (b"; filename*0*=x; filename*=y", None), (b"; filename*=zlib''a", "a")),
        *(
            (b"; filename=a\0\r\n b", "a  b"),
            (b"; filename=" + b"x" * 3000, "x" * 255),
            (b"; x" * 500 + b"; filename=a", None),
        ),
    ],
)
def test_an_attachment_has_its_file_name(head: bytes, name: str | None) -> None:
    read = read_mail(mail(b"From: a@b.c", b"Content-Disposition: attachment" + head, body=b"12345"))

    assert read.attachments == [Attachment(name, "text/plain", 5)]
    assert read.text is None


@pytest.mark.parametrize(
    ("head", "read_as"),
    [
        *((b"", "text"), (b"Content-Type: text/plain", "text"), (b"Content-Type: TEXT/HTML; x", "html")),
        *((b"Content-Type: nonsense", "text"), (b"Content-Type: text/plain; name=a.txt", "text")),
        *((b"Content-Disposition: inline", "text"), (b"Content-Disposition: inline; filename=a", "text/plain")),
        *((b"Content-Disposition: attachment", "text/plain"), (b"Content-Type: text/calendar", "text/calendar")),
        *((b"Content-Type: Message/RFC822", "message/rfc822"), (b"Content-Type: image/png", "image/png")),
        *((b"Content-Type: a b/<c>", "application/octet-stream"), (b"Content-Type: a/b/c", "application/octet-stream")),
    ],
)
def test_what_is_no_text_is_an_attachment(head: bytes, read_as: str) -> None:
    read = read_mail(mail(b"From: a@b.c", head) if head else b"From: a@b.c\n\n")

    attached = [attachment.content_type for attachment in read.attachments]
    assert (read.text, read.html, attached) == (
        "" if read_as == "text" else None,
        "" if read_as == "html" else None,
        [read_as] if "/" in read_as else [],
    )


def test_an_attachment_may_be_empty() -> None:
    body = b"--b\r\nContent-Type: image/png\r\n\r\n--b\r\nContent-Type: image/gif\r\n\r\n\r\n--b--"

    read = read_mail(mail(b"From: a@b.c", b"Content-Type: multipart/mixed; boundary=b", body=body))

    assert read.attachments == [Attachment(None, "image/png", 0), Attachment(None, "image/gif", 0)]


def test_several_texts_are_joined_in_order() -> None:
    body = b"".join(
        b"--b\r\nContent-Type: text/%s\r\n\r\n%s\r\n" % part
        for part in ((b"plain", b"one"), (b"html", b"<1>"), (b"plain", b""), (b"plain", b"two"), (b"html", b"<2>"))
    )

    read = read_mail(
        mail(b"From: a@b.c", b"Content-Type: multipart/mixed; boundary=b", body=body + b"--b--\r\nnot this")
    )

    assert (read.text, read.html, read.defects) == ("one\ntwo", "<1>\n<2>", [])


ENCODINGS = st.sampled_from(["base64", "quoted-printable", "8bit"])


@given(
    texts, texts | st.none(), st.lists(st.tuples(lines, st.binary(max_size=300)), max_size=3), ENCODINGS, st.booleans()
)
def test_mails_are_read_as_the_library_reads_them(
    text: str, html: str | None, files: list[tuple[str, bytes]], encoding: str, with_crlf: bool
) -> None:
    message = EmailMessage(policy=policy.SMTP if with_crlf else policy.default)
    message["From"] = "a@b.c"
    message.set_content(text, cte=encoding)
    if html is not None:
        message.add_alternative(html, subtype="html", cte=encoding)
    for name, content in files:
        message.add_attachment(content, maintype="image", subtype="png", filename=name)
    raw = message.as_bytes()

    read = read_mail(raw)

    seen = message_from_bytes(raw, policy=policy.default)
    for kind, found in (("plain", read.text), ("html", read.html)):
        part = seen.get_body((kind,))
        assert found == (part and part.get_content().replace("\r\n", "\n").removeprefix("\ufeff"))
    assert [file.content_type for file in read.attachments] == ["image/png"] * len(files)
    assert [file.name for file in read.attachments] == [name or None for name, _ in files]
    assert not read.defects


@given(st.text("aü你😀= \n", min_size=1, max_size=9), st.integers(1, 9_000), st.booleans())
def test_long_texts_are_read_in_steps_that_do_not_show(piece: str, times: int, in_base64: bool) -> None:
    octets = (piece * times).encode()
    head = b"Content-Transfer-Encoding: " + (b"base64" if in_base64 else b"quoted-printable")

    read = read_mail(mail(head, body=base64.encodebytes(octets) if in_base64 else binascii.b2a_qp(octets)))

    assert read.text == (piece * times)[:BODY_MAX_CHARS]


# Damage


@pytest.mark.parametrize(
    ("raw", "text", "defect"),
    [
        (b"", "", None),
        (b"\r\n", "", None),
        (b"\r\nJust text", "Just text", None),
        (b"Just text", "Just text", "the headers do not end in an empty line"),
        (b"Subject: x\nText", "Text", "the headers do not end in an empty line"),
        (b"From ann Tue Nov 14\nSubject: x\n\nText", "Text", None),
        (b"Subject: x", "", None),
        (mail(b"Content-Type: multipart/mixed", body=b"Text"), "Text", "a multipart without parts was read as text"),
        (
            mail(b"Content-Type: multipart/mixed; boundary=b", body=b"Text"),
            "Text",
            "a multipart without parts was read as text",
        ),
        (mail(b"Content-Type: multipart/mixed; boundary=b", body=b"--b\n\nText"), "Text", "a multipart does not end"),
        (mail(b"Content-Type: multipart/mixed; boundary=b", body=b"--b--"), None, None),
        (mail(b"Content-Type: multipart/mixed; boundary=b", body=b"--b\n\n\n--b\n\nText\n--b--"), "Text", None),
        (
            mail(b"Content-Type: multipart/mixed; boundary=b", body=b"--b \t\r\n\r\nText\r\n--bc\r\n--b-- "),
            "Text\n--bc",
            None,
        ),
        (mail(b"Content-Type: text/plain; charset=utf-8", body=b"a\xffb"), "a\ufffdb", "a text is not in its charset"),
        (mail(b"Content-Type: text/plain; charset=x", body=b"Text"), "Text", "a text is in an unknown charset"),
        (mail(b"Content-Type: text/plain", body=b"Gr\xfc\xdfe"), "Grüße", "a text is not in its charset"),
        (b"\na\0b\rc\r\nd", "ab\nc\nd", None),
        (
            mail(b"Content-Transfer-Encoding: x-uuencode", body=b"Text"),
            "Text",
            "a text is in an unknown transfer encoding",
        ),
        (
            mail(b"Content-Transfer-Encoding: base64", body=b"A text."),
            "A text.",
            "a text is not in its transfer encoding",
        ),
        (mail(b"Content-Transfer-Encoding: base64", body=b"VGV4dA==\nA footer"), "Text", None),
        (mail(b"Content-Transfer-Encoding: base64", body=b"VGV4dA"), "Text", None),
        (mail(b"Content-Transfer-Encoding: base64", body=b"VGV4d\n A=-=="), "Text", None),
        (mail(b"Content-Transfer-Encoding: base64", body=b"VGV4dGE"), "Texta", None),
        (
            mail(b"Content-Transfer-Encoding: quoted-printable", body=b"=ZZ=C3=B="),
            "=ZZÃ=B",
            "a text is not in its charset",
        ),
    ],
)
def test_damage_is_read_around_and_named(raw: bytes, text: str | None, defect: str | None) -> None:
    read = read_mail(raw)

    assert read.text == text
    assert [said for said in read.defects if said != "From has no address"] == ([defect] if defect else [])


def test_an_inner_multipart_ends_where_an_outer_one_goes_on() -> None:
    head = b"Content-Type: multipart/mixed; boundary=%s\r\n\r\n"
    body = b"".join(
        [
            head % b"out",
            b"--out\r\n",
            head % b"in",
            b"--in\r\n\r\none\r\n--out\r\n\r\ntwo\r\n--in\r\n--out--\r\n--out\r\n\r\nno",
        ]
    )

    assert read_mail(body).text == "one\ntwo\n--in"


def test_a_header_is_found_behind_thousands_of_others() -> None:
    read = read_mail(
        b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(9_000)) + b"Subject: found\r\n\r\nText"
    )

    assert (read.subject, read.text) == ("found", "Text")
    assert read.headers == [(f"X-{number}", str(number)) for number in range(HEADERS_MAX)]
    assert "some headers were left out" in read.defects


def test_parts_have_a_greatest_depth() -> None:
    read = read_mail(nested(20_000))

    assert "parts more than 20 levels deep were not read" in read.defects
    assert [attachment.content_type for attachment in read.attachments] == ["multipart/mixed"]


def test_a_great_attachment_does_not_hide_the_text_before_and_the_file_behind_it() -> None:
    raw = HUGE["an attachment"]()

    read = read_mail(raw.removesuffix(b"--\r\n") + b"\r\nContent-Type: image/png\r\n\r\n123\r\n--b--")

    assert read.text == "Your code is 123456."
    (great, small) = read.attachments
    assert (great.name, great.content_type) == ("a.pdf", "application/pdf")
    assert len(raw) - 400 < great.size < len(raw)
    assert small == Attachment(None, "image/png", 3)
    assert read.defects == []


@given(st.binary(max_size=500))
def test_any_bytes_are_a_mail(raw: bytes) -> None:
    check(read_mail(raw))


@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=5), max_size=40).map(b"".join))
@settings(max_examples=500)
def test_anything_put_together_is_a_mail(raw: bytes) -> None:
    check(read_mail(raw))


@given(st.sampled_from(sound_mails()), st.data())
@settings(max_examples=300)
def test_a_damaged_mail_is_a_mail(sound: bytes, data: st.DataObject) -> None:
    raw = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 5))):
        at, other = (data.draw(st.integers(0, len(raw))) for _ in range(2))
        match data.draw(st.sampled_from(["cut", "swap", "repeat", "put in"])):
            case "cut":
                del raw[min(at, other) : max(at, other)]
            case "swap":
                raw[at : at + 1], raw[other : other + 1] = raw[other : other + 1], raw[at : at + 1]
            case "repeat":
                line_end = raw.find(b"\n", at) + 1
                raw[line_end:line_end] = raw[at:line_end] * data.draw(st.integers(1, 300))
            case _:
                raw[at:at] = data.draw(st.sampled_from(FRAGMENTS))

    check(read_mail(bytes(raw)))


def test_thousands_of_hostile_mails_are_read() -> None:
    for raw in hostile_mails(5_000):
        check(read_mail(raw))


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_mail_is_read_beside_the_event_loop(name: str) -> None:
    raw, done = HUGE[name](), threading.Event()
    found: list[Read] = []

    def read() -> None:
        found.append(read_mail(raw))
        done.set()

    reader, begun, longest = threading.Thread(target=read), time.perf_counter(), 0.0
    reader.start()
    while not done.wait(0.001):
        longest = max(longest, time.perf_counter() - begun)
        begun = time.perf_counter()
    reader.join()

    check(found[0])
    assert longest < 1  # it is 5 to 15 ms where nothing else runs


# Writing


@given(addresses, st.lists(addresses, max_size=5, unique=True), lines, texts | st.none(), texts | st.none())
def test_what_is_written_is_read(
    sender: str, recipients: list[str], subject: str, text: str | None, html: str | None
) -> None:
    raw = write(sender=sender, recipients=recipients, subject=subject, text=text, html=html)

    read = read_mail(raw)
    check(read)
    assert (read.sender, read.recipients, read.subject) == (sender, recipients, subject)
    assert (read.text, read.html) == ("" if text is None and html is None else text, html)
    assert (read.message_id, read.sent_at_us, read.defects) == ("<1@b.c>", SENT_AT_US, [])
    seen = message_from_bytes(raw, policy=policy.default)
    assert not any(part.defects for part in seen.walk())
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert raw.isascii()
    assert raw.count(b"\n") == raw.count(b"\r") == raw.count(b"\r\n")
    assert raw.endswith(b"\r\n")


def test_a_written_mail_is_plain_to_see() -> None:
    raw = write(
        sender='"Lee, Ann" <Ann@Example.com>',
        recipients=["Bob <b@c.d>", "e@f.g"],
        subject="Your code: 1=2?",
        text="Hi\n.",
    )

    assert raw.decode().split("\r\n") == [
        "From: =?utf-8?b?TGVlLCBBbm4=?= <Ann@Example.com>",
        "To: Bob <b@c.d>,",
        " e@f.g",
        "Subject: Your code: 1=2?",
        "Date: Tue, 14 Nov 2023 22:13:20 +0000",
        "Message-ID: <1@b.c>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable",
        "",
        "Hi",
        "=2E=",
        "",
    ]
    assert read_mail(raw).sender_name == "Lee, Ann"


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_line_breaks_are_written_as_mails_have_them(line_break: str) -> None:
    raw = write(text=f"a{line_break}b{line_break}", html=f"<p>{line_break}")

    assert b"\r\n\r\na\r\nb\r\n\r\n--=_\r\n" in raw
    assert (read_mail(raw).text, read_mail(raw).html) == ("a\nb\n", "<p>\n")


def test_a_text_of_any_length_is_written() -> None:
    text = "Grüße 你好 =_ \n\n" + "x" * 100_000 + " \n--=_\n--=_--\n" * 1_000

    assert read_mail(write(text=text, html=text)).text == text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("sender", "a@b.c\r\nBcc: x@y.z"),
            ("sender", ""),
            ("sender", "Ann"),
            ("sender", "a@b.c, d@e.f"),
            ("sender", "<a@b.c"),
        ),
        *(
            ("sender", "jü@b.c"),
            ("sender", "a@b.c\0"),
            ("sender", "Ann\n <a@b.c>"),
            ("sender", "a b@c.d"),
            ("sender", "@"),
        ),
        *(
            ("recipients", ["a@b.c", "x\ny@z"]),
            ("recipients", ["a@b.c"] * 101),
            ("recipients", ["a@b.c,"]),
            ("recipients", [""]),
        ),
        *(("subject", "a\nBcc: x@y.z"), ("subject", "a\rb"), ("subject", "a\0"), ("subject", "\ud800")),
        *(("text", "a\0b"), ("html", "\0"), ("text", "\ud800"), ("html", "\udfff")),
        *(
            ("message_id", "a\r\nb"),
            ("message_id", ""),
            ("message_id", "a b"),
            ("message_id", "ü"),
            ("message_id", "<a> <b>"),
        ),
    ],
)
def test_what_cannot_stand_in_a_mail_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        write(**{field: value})

    assert refused.value.field == field


@pytest.mark.parametrize("sent_at_us", [-1, 10**18])
def test_a_mail_is_not_sent_before_1970_or_after_9999(sent_at_us: int) -> None:
    with pytest.raises(InvalidInput, match=r"^sent_at "):
        write(sent_at_us=sent_at_us)


@given(
    st.dictionaries(st.sampled_from(["sender", "subject", "message_id"]), st.text(), min_size=1),
    st.lists(st.text(), max_size=2),
)
def test_no_field_writes_a_header_of_another(fields: dict[str, str], recipients: list[str]) -> None:
    try:
        raw = write(**fields, recipients=recipients)
    except SessiondError:
        return

    names = [name for name, _ in read_mail(raw).headers]
    assert names == [
        *("From", *(["To"] if recipients else []), "Subject", "Date", "Message-ID", "MIME-Version"),
        *("Content-Type", "Content-Transfer-Encoding"),
    ]


def test_a_subject_has_a_greatest_length() -> None:
    assert read_mail(write(subject="ü" * SUBJECT_MAX_CHARS)).subject == "ü" * SUBJECT_MAX_CHARS
    with pytest.raises(TooLarge):
        write(subject="x" * (SUBJECT_MAX_CHARS + 1))
