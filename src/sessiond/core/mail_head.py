"""The head of a mail or of a part: its headers, unfolded, and what they say. Knows nothing of bodies.

Whatever is read here comes from strangers: every function takes time in proportion to its input, of which there are
bounds, and what it returns can be kept: no line breaks, no NUL, no half characters.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from encodings.aliases import aliases
from itertools import groupby, islice
from typing import Final

from sessiond.core.limits import TEXT_MAX_CHARS, TIME_MAX_US
from sessiond.core.mail import ADDRESS_MAX_CHARS, HEADER_MAX_CHARS, HEADERS_MAX

Head = list[tuple[str, bytes]]

VALUE_MAX_BYTES: Final = 16 * 1024  # of one header, as sent: 2,000 characters in encoded words, or 300 addresses
WORDS_MAX: Final = 300  # encoded words in one header; those after them stay as they are
WINDOW: Final = 256 * 1024  # bytes that one regular expression looks at: it holds the interpreter's lock for up to 4 ms
LATIN: Final = "cp1252"  # what text is taken for that is no UTF-8, and says nothing else
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_HEADER: Final = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # among them all that some reader ends a line at
_ADDRESS: Final = re.compile(
    r"""(?:[^\s@"<>()\[\],;:\\]+|"(?:[^"\\]|\\.)*")@(?:\[[^\s\[\]]{1,250}\]|[^\s@"<>()\[\],;:\\]+)"""
)
_MAILBOX_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|<[^<>]*>?|[^"<>(),;:]+|.', re.DOTALL)
_ENCODED_WORD: Final = re.compile(
    # RFC 2047, with a language (RFC 2231), and with the spaces and question marks that some forget to encode.
    r"=\?([^?*\s]{1,40})(?:\*[^?\s]{0,40})?\?([bBqQ])\?([^?]*(?:\?(?!=)[^?]*){0,3})\?="
)
_NOT_BASE64: Final = re.sub(rb"[A-Za-z0-9+/=]", b"", bytes(range(256)))
# Among Python's codecs are some that unpack (zlib), some that take time by the square (punycode), and one that browsers
# gave up for its tricks (UTF-7).
_CODECS: Final = re.compile(
    r"ascii|utf_8(_sig)?|utf_16(_[bl]e)?|iso8859_([2-8]|1[03-6])|cp(125[0-8]|437|85[025]|866|874|932|949)|koi8_[ru]"
    r"|kz1048|mac_(cyrillic|greek|latin2|roman|turkish)|big5(hkscs)?|gb18030|hz|euc_jp|johab"
    r"|iso2022_(jp(_1|_2|_3|_2004|_ext)?|kr)"
)
# Those who name these send what the wider ones have too; browsers read them so (WHATWG Encoding).
_WIDER: Final = {
    "latin_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "windows_874": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}


def read_head(raw: bytes, position: int, defects: list[str], *, lines_max: int) -> tuple[Head, int]:
    """Return the headers that begin at `position`, and where the body begins."""
    head: list[tuple[str, bytearray]] = []
    for _ in range(lines_max):
        line_end = raw.find(b"\n", position)
        line_end = len(raw) if line_end < 0 else line_end
        line = raw[position : min(line_end, position + VALUE_MAX_BYTES)].rstrip(b"\r")
        if not line:
            position = line_end + 1
            break
        if head and line[:1] in b" \t":
            value = head[-1][1]
            value += b" " + line.strip()
            if len(value) > VALUE_MAX_BYTES:
                defects.append("a header was cut")
                del value[VALUE_MAX_BYTES:]
        elif header := _HEADER.match(line):
            head.append((header[1].decode(), bytearray(line[header.end() :].strip())))
        elif head or not line.startswith(b"From "):  # with which mail stores begin a mail
            defects.append("the headers do not end in an empty line")
            break
        if line_end - position > VALUE_MAX_BYTES:
            defects.append("a header was cut")
        position = line_end + 1
    else:
        defects.append("not all headers were read")
        position = search(_BLANK_LINE, raw, position - 1)[1]
    return [(name, bytes(value)) for name, value in head], min(position, len(raw))


def search(pattern: re.Pattern[bytes], raw: bytes, position: int) -> tuple[int, int]:
    """Return where the first match (of at most three bytes) begins and ends, the end of `raw` if there is none."""
    position = max(position, 0)
    while position < len(raw):
        if found := pattern.search(raw, position, position + WINDOW):
            return found.span()
        position += WINDOW - 2  # a match may lie across the edge
    return len(raw), len(raw)


def values(head: Head, *names: str) -> list[str]:
    """Return the headers of these names (in lower case), with their encoded words as they are."""
    return [_CONTROLS.sub(" ", _decode(value, None)) for name, value in head if name.lower() in names]


def line(head: Head, name: str, max_chars: int, defects: list[str]) -> str | None:
    """Return the first header of this name (in lower case), None if it is empty or missing."""
    found = [decode_words(value) for value in values(head, name)[:1]]
    if found and len(found[0]) > max_chars:
        defects.append(f"the {name} was cut")
    return found[0][:max_chars] or None if found else None


def lines(head: Head, defects: list[str]) -> list[tuple[str, str]]:
    """Return all headers."""
    if len(head) > HEADERS_MAX:
        defects.append("some headers were left out")
    found = [(name, decode_words(_decode(value, None))) for name, value in head[:HEADERS_MAX]]
    if any(len(value) > HEADER_MAX_CHARS for _, value in found):
        defects.append("a header was cut")
    return [(name, value[:HEADER_MAX_CHARS]) for name, value in found]


def time_us(head: Head) -> int | None:
    """Return what Date says.

    Raises:
        Exception: it says no time; the library has more than one for that.
    """
    for value in values(head, "date")[:1]:
        time = parsedate_to_datetime(value[:100])
        aware = time.replace(tzinfo=time.tzinfo or UTC)  # "-0000" says that nobody knows the zone
        found = (aware - EPOCH) // timedelta(microseconds=1)
        if not 0 <= found <= TIME_MAX_US:
            raise ValueError(value)
        return found
    return None


def addresses(head: Head, *names: str) -> list[tuple[str, str]]:
    """Return names and addresses, each address once, without those that are none."""
    found: dict[str, str] = {}
    for name, address in _mailboxes(", ".join(values(head, *names)[:100])[:VALUE_MAX_BYTES]):
        local, _, domain = address.rpartition("@")
        address = f"{local}@{domain.lower()}"
        if is_address(address):
            found.setdefault(address, decode_words(name)[:TEXT_MAX_CHARS])
    return [(name, address) for address, name in found.items()]


def _mailboxes(value: str) -> Iterator[tuple[str, str]]:
    """Take a list of addresses apart: `ann@b.c, "Lee, Bob" <bob@b.c>, cy@b.c (Cy), friends: dee@b.c;`.

    The library's way to do this differs between releases of Python, and makes one address of two words.
    """
    words = name = comment = address = ""
    depth = 0
    for piece in [*_MAILBOX_PIECE.findall(value), ""]:
        if not piece or (piece in ",;" and not depth):
            yield (name, address) if address else (comment, words.strip())
            words = name = comment = address = ""
        elif piece == "(":
            depth += 1
        elif piece == ")" and depth:
            depth -= 1
        elif depth:
            comment += piece
        elif piece.startswith("<"):
            address = address or piece.strip("<> ")
        elif piece == ":" and "@" not in words:
            words = name = ""  # they were the name of a group
        else:
            words += piece
            name += re.sub(r"\\(.)", r"\1", piece[1:].removesuffix('"')) if piece.startswith('"') else piece


def is_address(text: str) -> bool:
    return len(text) <= ADDRESS_MAX_CHARS and _ADDRESS.fullmatch(text) is not None


def decode_words(value: str) -> str:
    """Decode the encoded words in a header's value."""
    runs: list[tuple[str | None, bytes]] = []
    end = 0
    for word in islice(_ENCODED_WORD.finditer(value), WORDS_MAX):
        between = value[end : word.start()]
        if not end or between.strip():  # white space between two words is none of the text
            runs.append(("utf_8", between.encode()))
        charset, way, text = word.groups()
        decoded = binascii.a2b_qp(text.encode(), header=True) if way in "qQ" else from_base64(text.encode())
        runs.append((codec_of(charset), decoded))
        end = word.end()
    runs.append(("utf_8", value[end:].encode()))
    # Some senders cut a character in two: one half ends a word, the other begins the next.
    joined = (_decode(b"".join(part for _, part in run), codec) for codec, run in groupby(runs, key=lambda run: run[0]))
    return _CONTROLS.sub(" ", "".join(joined)).strip()


def codec_of(charset: str) -> str | None:
    """Return Python's codec for the charset of a mail, None if there is none."""
    # `codecs.lookup` would remember every unknown name for ever.
    name = re.sub("[^a-z0-9]+", "_", charset.lower()).strip("_").removeprefix("x_")
    name = aliases.get(name, name)
    name = _WIDER.get(name, name)
    return name if _CODECS.fullmatch(name) else None


def from_base64(encoded: bytes) -> bytes:
    """Decode up to the first padding or the end, and leave out what is not base64."""
    digits = only_base64(encoded).partition(b"=")[0]
    if len(digits) % 4 == 1:
        digits = digits[:-1]  # six bits are no byte
    return binascii.a2b_base64(digits + b"==")


def only_base64(encoded: bytes) -> bytes:
    return encoded.translate(None, _NOT_BASE64)


def decode_parameter(value: str | tuple[str | None, str | None, str]) -> str:
    """Return a parameter's value as the library found it, which leaves those of RFC 2231 as bytes in Latin-1."""
    if isinstance(value, str):
        return decode_words(value)
    charset, _, octets = value
    try:
        encoded = octets.encode("latin_1")
    except UnicodeEncodeError:  # it was not encoded after all
        return decode_words(octets)
    return _CONTROLS.sub(" ", _decode(encoded, codec_of(charset or ""))).strip()


def _decode(value: bytes, codec: str | None) -> str:
    if codec is None or codec == "ascii":
        try:
            return value.decode()
        except UnicodeDecodeError:
            codec = LATIN
    return value.decode(codec, "replace")
