"""Damaged, hostile and huge mails, the same ones for the same seed."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Mapping
from email.message import EmailMessage
from typing import Final

HUGE_BYTES: Final = 10 * 1024 * 1024
HEAD: Final = b"From: Ann <ann@example.com>\r\nTo: box@example.com\r\nSubject: Your code\r\n"
MIXED: Final = HEAD + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'


def sound_mails() -> list[bytes]:
    """Return mails with nothing wrong, of the kinds that there are."""
    code = "Your code is 123456.\r\nIt is good for ten minutes.\r\n"
    plain = _message(code)
    unicode = _message(
        "Ihr Code: 123456 – gültig für zehn Minuten €\r\n你好\r\n", subject="Bestätigung für Jürgen 你好"
    )
    both = _message(code)
    both.add_alternative("<p>Your code is <b>123456</b>.</p>", subtype="html")
    both.set_boundary("=_both")
    files = _message(code)
    files.make_mixed("=_files")
    files.add_attachment(
        bytes(range(256)) * 20, maintype="application", subtype="pdf", filename="Rechnung für März.pdf"
    )
    files.add_attachment(both)
    as_base64 = _message(code)
    as_base64.set_content(code * 20, cte="base64")
    by_hand = (
        HEAD.replace(b"Your code", b"=?iso-2022-jp?B?GyRCRnxLXDhsGyhC?= =?utf-8?Q?caf=C3?= =?utf-8?Q?=A9?=")
        + b"Content-Type: text/html; charset=windows-1251\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + "Привет".encode("cp1251")
    )
    return [*(message.as_bytes() for message in (plain, unicode, both, files, as_base64)), by_hand]


def _message(text: str, *, subject: str = "Your code") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Jürgen <noreply@example.com>"
    message["To"] = "box@example.com, Ann <ann@example.com>"
    message["Subject"] = subject
    message["Date"] = "Tue, 14 Nov 2023 22:13:20 +0000"
    message["Message-ID"] = "<1@example.com>"
    message.set_content(text)
    return message


# What stands in the wrong place in real mails, and what those try who look for a way in.
FRAGMENTS: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\0",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\x1b$B",
        b"\x85",
        b"\xe2\x80\xa8",
    ),
    *(b"From: ", b"To: ", b"Cc: ", b"Subject: ", b"Date: ", b"Message-ID: ", b"Content-Type: ", b"X-" + b"y" * 300),
    *(b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n"),
    *(b"Content-Transfer-Encoding: x-uuencode\r\n", b"Content-Disposition: attachment; filename=", b"multipart/mixed"),
    *(
        b"; boundary=b",
        b'; boundary="',
        b"\r\n--b\r\n",
        b"\r\n--b--\r\n",
        b"\r\n--",
        b"--b",
        b"message/rfc822",
        b"text/html",
    ),
    *(
        b"; charset=utf-16",
        b"; charset=punycode",
        b"; charset=zlib",
        b"; charset=utf-7",
        b"; charset=gbk",
        b"; charset=",
    ),
    *(
        b"; name*0*=utf-8''%ED%A0%80",
        b"; name*1=a",
        b"; name*=",
        b"; name*99999999999999=x",
        b'; name="=?utf-8?q?=00?="',
    ),
    *(b"=?utf-8?q?=0D=0ABcc:_x?=", b"=?utf-8?b?AAAA?=", b"=?nope?b?!?=", b"=?utf-16?b?2AA=?=", b"=?q?q?", b"?=", b"=?"),
    *(
        b"=?idna?q?xn--a?=",
        b"=?unicode_escape?q?=5Cud800?=",
        b"a@b.c",
        b"<",
        b">",
        b"(",
        b")",
        b'"',
        b"\\",
        b",",
        b";",
        b":",
    ),
    *(
        b"=",
        b"=\r",
        b"=4",
        b"AAAA",
        b"====",
        b"Tue, 14 Nov 99999 99:99:99 +9999",
        b"Tue, 1 Jan 0001 00:00:00 +2300",
        b"-1",
    ),
)


def mutations(chance: random.Random) -> Iterator[bytes]:
    """Yield mails that were sound, without end: cut, mixed up, with what does not belong there."""
    sound = sound_mails()
    while True:
        raw = bytearray(chance.choice(sound))
        for _ in range(chance.randint(1, 8)):
            at, other = sorted(chance.choices(range(len(raw) + 1), k=2))
            match chance.randrange(6):
                case 0:
                    del raw[at:]
                case 1:
                    del raw[at : min(other, at + 40)]
                case 2:
                    raw[at:at] = chance.choice(FRAGMENTS) * chance.choice((1, 1, 1, 50))
                case 3:
                    raw[at : at + 4] = chance.randbytes(4)
                case 4:
                    lines = bytes(raw).splitlines(keepends=True) or [b""]
                    raw[at:at] = chance.choice(lines) * chance.choice((1, 1, 200))
                case _:
                    raw[at:at] = chance.choice(sound)[: chance.randrange(1000)]
        yield bytes(raw)


def nested(levels: int) -> bytes:
    """Return a mail with as many multiparts in one another."""
    begin = (
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level) for level in range(levels)
    )
    return HEAD + b"".join(begin) + b"\r\ninnermost"


def _fill(head: bytes, piece: bytes, tail: bytes = b"") -> Callable[[], bytes]:
    return lambda: head + piece * (HUGE_BYTES // len(piece)) + tail


def _texts(charset: bytes, octets: bytes) -> Callable[[], bytes]:
    return _fill(HEAD + b"Content-Type: text/plain; charset=" + charset + b"\r\n\r\n", octets)


_QP: Final = HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
_BASE64: Final = HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n"

HUGE: Final[Mapping[str, Callable[[], bytes]]] = {
    "one line": _fill(HEAD + b"\r\n", b"x"),
    "one header": _fill(b"Subject: ", b"x"),
    "a text in base64": _fill(_BASE64, base64.encodebytes(b"Your code is 123456. " * 1000)),
    "a text in base64 of spaces": _fill(_BASE64 + b"AAAA\r\n", b" "),
    "a text of soft line breaks": _fill(_QP, b"=\r\n"),
    "a text in quoted-printable": _fill(_QP, b"=E4=BD=A0"),
    "a text of NUL": _fill(HEAD + b"\r\n", b"\0"),
    "CR alone": _fill(b"", b"\r"),
    "headers": _fill(HEAD, b"X-Header: and what it says, in a line of some length\r\n", b"\r\nText"),
    "headers of one letter": _fill(HEAD, b"a:\n", b"\nText"),
    "headers of encoded words": _fill(HEAD, b"X: " + b"=?gbk?b?gYGB?= =?k?q?gYGB?=" * 600 + b"\r\n"),
    "headers of halves of encoded words": _fill(HEAD, b"X: " + b"=?a?q?" * 2700 + b"\r\n"),
    "recipients": _fill(HEAD + b"To: ", b"Ann <ann@example.com>,\r\n ", b"\r\n\r\nText"),
    "a header of empty lines": _fill(HEAD + b"Cc: x\n", b" \n", b"\nText"),
    "a From of brackets": _fill(b"From: ", b"("),
    "a From that may be many things": lambda: (
        b"From: " + b'x"x"' * 2000 + b"a@b" + b":" * 8000 + b"\r\n" + bytes(HUGE_BYTES)
    ),
    "multiparts in one another": lambda: nested(180_000),
    "parts": _fill(MIXED, b"--b\r\n\r\nhi\r\n"),
    "parts with long heads": _fill(MIXED, b"--b\n" + b"a:\n" * 11_000 + b"\nText\n"),
    "parts with hostile parameters": _fill(
        MIXED,
        b"--b\nContent-Type: text/plain; " + b'";' * 8000 + b"\nContent-Disposition: a" + b";" * 16_000 + b"\n\nhi\n",
    ),
    "texts": _fill(MIXED, b"--b\r\nContent-Type: text/plain; charset=big5\r\n\r\n" + b"\xff" * 100_000 + b"\r\n"),
    "lines that are almost delimiters": _fill(MIXED, b"\n--"),
    "lines that begin almost as delimiters do": _fill(MIXED, b"\n-"),
    "empty lines in a multipart": _fill(MIXED, b"\n"),
    "tags in one another": _fill(HEAD + b"Content-Type: text/html\r\n\r\n", b"<div>"),
    "bytes that are not in windows-1252": _texts(b"windows-1252", b"\x81"),
    "bytes that are no UTF-8": _texts(b"utf-8", b"\xff"),
    "bytes that are no GBK": _texts(b"gbk", b"\x81"),
    "escapes that say nothing": _texts(b"iso-2022-jp", b"\x1b$B"),
    "an attachment": _fill(
        MIXED + b"--b\r\n\r\nYour code is 123456.\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\n",
        b"JVBERi0xLjQKJeLjz9MKNCAwIG9iago8PC9MZW5ndGggMjk3Pj5zdHJlYW0KeJyNkMFqwzAMhu9+Cp1T\r\n",
        b"\r\n--b--\r\n",
    ),
}


def hostile_mails(count: int, seed: int = 4) -> Iterator[bytes]:
    """Yield `count` mails: each of the huge ones, now and then, and among them mutations and noise."""
    chance = random.Random(seed)
    huge = iter(HUGE.values())
    mutated = mutations(chance)
    for number in range(count):
        if number % (count // len(HUGE) + 1) == 0 and (make := next(huge, None)):
            yield make()
        elif number % 10 == 1:
            yield chance.randbytes(chance.randrange(2000))
        elif number % 10 == 2:
            yield b"".join(chance.choices(FRAGMENTS, k=chance.randrange(200)))
        elif number % 500 == 3:
            yield nested(20_000)
        else:
            yield next(mutated)
