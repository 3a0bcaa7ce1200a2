"""Mails as bytes (RFC 5322, MIME): read whatever came, and write one from its fields. Knows nothing of inboxes.

A mail comes from strangers. It is read in one pass, in bounds of all that a mail can have too much of, and in steps of
a few milliseconds, between which the interpreter's lock is free: a thread that reads a mail does not hold up the event
loop. The library's own parser does none of this: it goes down into parts by recursion, compares every line with the
delimiters of every level, and reads a body at once. Of the library are dates, parameters and the codecs.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import Message
from email.utils import format_datetime
from typing import Final, NamedTuple, TypeVar

from sessiond.core import mail_head
from sessiond.core.errors import InvalidInput
from sessiond.core.limits import TIME_MAX_US, check_prose, check_text
from sessiond.core.mail import ATTACHMENTS_MAX, BODY_MAX_CHARS, SUBJECT_MAX_CHARS, Attachment, Read
from sessiond.core.mail_head import EPOCH, LATIN, Head, codec_of, from_base64, is_address, only_base64, read_head

RECIPIENTS_MAX: Final = 100
HEADER_LINES_MAX: Final = 10_000  # a mail to thousands has a To of as many lines, and Subject may follow it
PART_LINES_MAX: Final = 200  # of a part's head, which has five
PARTS_MAX: Final = ATTACHMENTS_MAX  # multiparts among them; a newsletter with a picture in every paragraph has fewer
DEPTH_MAX: Final = 20  # forwarded, signed and forwarded again is five or six
DASHES_MAX: Final = 100_000  # lines that begin as a delimiter does: those of signatures and of SQL do too
BOUNDARY_MAX_BYTES: Final = 200  # RFC 2046 allows 70
PARAMETERS_MAX: Final = 100  # of one header: the library takes time by the square of their number
PARAMETERS_MAX_CHARS: Final = 4_000  # a file name of 255 Chinese characters has 2,600
NAME_MAX_CHARS: Final = 255
MESSAGE_ID_MAX_CHARS: Final = 998  # RFC 5322: the longest line
STEP: Final = 8 * 1024  # bytes decoded at once: where each is replaced that holds the interpreter's lock for 3 ms

_T = TypeVar("_T")


def read_mail(raw: bytes) -> Read:
    """Read a mail, whatever its bytes are. Takes time in proportion to their number."""
    defects: list[str] = []

    def attempt(what: str, read: Callable[[], _T | None]) -> _T | None:
        try:
            return read()
        except Exception:  # damage that nobody has thought of; the rest is read all the same
            defects.append(f"{what} could not be read")
            return None

    head, start = attempt("the head", lambda: read_head(raw, 0, defects, lines_max=HEADER_LINES_MAX)) or ([], 0)
    body = _Body()
    attempt("the body", lambda: _read_body(raw, head, start, body, defects))
    senders = attempt("From", lambda: mail_head.addresses(head, "from")) or []
    recipients = attempt("To or Cc", lambda: mail_head.addresses(head, "to", "cc")) or []
    if not senders:
        defects.append("From has no address")
    if len(recipients) > RECIPIENTS_MAX:
        defects.append("some recipients were left out")
    sender_name, sender = senders[0] if senders else ("", "")
    return Read(
        sender=sender,
        sender_name=sender_name or None,
        recipients=[address for _, address in recipients[:RECIPIENTS_MAX]],
        subject=attempt("Subject", lambda: mail_head.line(head, "subject", SUBJECT_MAX_CHARS, defects)) or "",
        message_id=attempt("Message-ID", lambda: mail_head.line(head, "message-id", MESSAGE_ID_MAX_CHARS, defects)),
        sent_at_us=attempt("Date", lambda: mail_head.time_us(head)),
        text=_join(body.texts),
        html=_join(body.pages),
        headers=attempt("the headers", lambda: mail_head.lines(head, defects)) or [],
        attachments=body.attachments,
        defects=list(dict.fromkeys(defects)),
    )


@dataclass(slots=True)
class _Body:
    """What the parts come to."""

    texts: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)


def _join(texts: list[str]) -> str | None:
    return "\n".join(filter(None, texts)) if texts else None


class _Part(NamedTuple):
    head: Head
    content_type: str
    parameters: dict[str, str]
    """Of Content-Type."""
    start: int
    end: int


def _read_body(raw: bytes, head: Head, start: int, body: _Body, defects: list[str]) -> None:
    for part in _parts(raw, head, start, defects):
        disposition, parameters = _parameters(part.head, "content-disposition")
        file_name = parameters.get("filename")
        readable = {"text/plain": body.texts, "text/html": body.pages}.get(part.content_type)
        if readable is None or disposition == "attachment" or file_name:
            name = (file_name or part.parameters.get("name") or "")[:NAME_MAX_CHARS] or None
            body.attachments.append(Attachment(name, part.content_type, part.end - part.start))
            continue
        left = BODY_MAX_CHARS - sum(len(text) + 1 for text in readable)  # with the line breaks between them
        if left > 0:
            readable.append(_read_text(raw, part, left, defects))
        else:
            defects.append("a text was cut")


# Parts


class _Delimiter(NamedTuple):
    """A line that begins the next part of a multipart, or ends the multipart."""

    start: int
    """The line break before it, which is no part of the body."""
    end: int
    level: int
    """Of the multipart, 0 is the outermost."""
    closes: bool


_DASHES: Final = re.compile(rb"\n--")
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


def _parts(raw: bytes, head: Head, start: int, defects: list[str]) -> Iterator[_Part]:
    """Walk over the parts that have no parts themselves, in order."""
    boundaries: list[bytes] = []  # of the multiparts around, the outermost first
    dashes = iter(range(DASHES_MAX))
    for _ in range(PARTS_MAX):
        content_type, parameters = _parameters(head, "content-type")
        if not _TYPE.fullmatch(content_type):
            content_type = "application/octet-stream" if "/" in content_type else "text/plain"
        is_multipart = content_type.startswith("multipart/")
        level = len(boundaries)
        if is_multipart and level < DEPTH_MAX:
            boundary = parameters.get("boundary", "").encode()
            if 0 < len(boundary) <= BOUNDARY_MAX_BYTES:
                boundaries.append(boundary)
        found = _next_delimiter(raw, start, boundaries, dashes)
        if level == len(boundaries) or found is None or found.level < level:
            if is_multipart and level == DEPTH_MAX:
                defects.append(f"parts more than {DEPTH_MAX} levels deep were not read")
            elif is_multipart:
                defects.append("a multipart without parts was read as text")
                del boundaries[level:]
                content_type = "text/plain"
            # An empty body may have no line break of its own before the delimiter.
            yield _Part(head, content_type, parameters, start, max(start, found.start) if found else len(raw))
        while found and found.closes:
            del boundaries[found.level :]
            found = _next_delimiter(raw, found.end, boundaries, dashes)
        if found is None:
            break
        del boundaries[found.level + 1 :]
        head, start = read_head(raw, found.end, defects, lines_max=PART_LINES_MAX)
    else:
        defects.append("not all parts were read")
    if boundaries:
        defects.append("a multipart does not end")


def _next_delimiter(raw: bytes, position: int, boundaries: list[bytes], dashes: Iterator[int]) -> _Delimiter | None:
    """Return the first delimiter of any of the multiparts around: an inner one may lack its end."""
    known = {
        line: (level, closes)
        for level, boundary in enumerate(boundaries)
        for line, closes in ((boundary, False), (boundary + b"--", True))
    }
    position -= 1  # a body may begin with a delimiter: its line break is the one before the body
    for _ in dashes if known else ():
        start, position = mail_head.search(_DASHES, raw, position)
        if start == len(raw):
            break
        line_end = raw.find(b"\n", position, position + 2 * BOUNDARY_MAX_BYTES)
        if line_end < 0:
            line_end = min(len(raw), position + 2 * BOUNDARY_MAX_BYTES)
        if delimiter := known.get(raw[position:line_end].rstrip()):
            return _Delimiter(start - raw.startswith(b"\r", start - 1), line_end + 1, *delimiter)
    return None


def _parameters(head: Head, name: str) -> tuple[str, dict[str, str]]:
    """Return the value of a header such as Content-Type, in lower case, empty if there is none, and its parameters."""
    value, *rest = next(iter(mail_head.values(head, name)), "")[:PARAMETERS_MAX_CHARS].split(";", PARAMETERS_MAX)
    message = Message()
    message[name] = ";".join([value, *rest[: PARAMETERS_MAX - 1]])
    try:
        found = message.get_params([], name)
    except (TypeError, ValueError):  # the library falls over a parameter that is numbered (RFC 2231) and is not, too
        found = []
    # The first of a name counts, and the first of all is the value itself.
    parameters = {key.lower(): mail_head.decode_parameter(text) for key, text in reversed(found[1:])}
    return value.strip().lower(), parameters


# Texts


def _read_text(raw: bytes, part: _Part, max_chars: int, defects: list[str]) -> str:
    charset = part.parameters.get("charset") or "us-ascii"
    codec = codec_of(charset)
    if codec is None:
        defects.append("a text is in an unknown charset")
    if codec is None or codec == "ascii":
        ways = [("utf_8", "strict"), (LATIN, "replace")]
    else:
        ways = [(codec, "strict"), (codec, "replace"), (LATIN, "replace")]  # the last for UTF-16 that says no order
    for codec, errors in ways:
        try:
            text, whole = _decode(_pieces(raw, part, defects), codec, errors, max_chars)
        except UnicodeError:
            defects.append("a text is not in its charset")
            continue
        text = text.removeprefix("\ufeff").replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
        if not whole or len(text) > max_chars:
            defects.append("a text was cut")
        return text[:max_chars]
    return ""


def _decode(pieces: Iterator[bytes], codec: str, errors: str, max_chars: int) -> tuple[str, bool]:
    """Return the text up to somewhere past `max_chars`, and whether it is the whole."""
    decoder = codecs.getincrementaldecoder(codec)(errors)
    texts: list[str] = []
    chars = 0
    for piece in pieces:
        texts.append(decoder.decode(piece))
        chars += len(texts[-1])
        if chars > max_chars:
            return "".join(texts), False
    texts.append(decoder.decode(b"", final=True))
    return "".join(texts), True


def _pieces(raw: bytes, part: _Part, defects: list[str]) -> Iterator[bytes]:
    """Undo the transfer encoding, a piece at a time."""
    steps = (raw[at : min(at + STEP, part.end)] for at in range(part.start, part.end, STEP))
    encoding = next(iter(mail_head.values(part.head, "content-transfer-encoding")), "").strip(" ;").lower()
    match encoding:
        case "quoted-printable":
            return _from_quoted_printable(steps)
        case "base64":
            first_line = raw[part.start : min(part.start + STEP, part.end)].strip().partition(b"\n")[0].strip()
            if len(only_base64(first_line)) == len(first_line):
                return _from_base64(steps)
            defects.append("a text is not in its transfer encoding")
        case "" | "7bit" | "8bit" | "binary":
            pass
        case _:
            defects.append("a text is in an unknown transfer encoding")
    return steps


def _from_quoted_printable(steps: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for step in steps:
        step = rest + step
        cut = step.rfind(b"=", max(len(step) - 2, 0))  # "=", "=4", and "=\r" go on in the next step
        cut = len(step) if cut < 0 else cut
        yield binascii.a2b_qp(step[:cut])
        rest = step[cut:]
    yield binascii.a2b_qp(rest)


def _from_base64(steps: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for step in steps:
        digits = rest + only_base64(step)
        if b"=" in digits:
            rest = digits
            break
        cut = len(digits) // 4 * 4
        yield from_base64(digits[:cut])
        rest = digits[cut:]
    yield from_base64(rest)


# Writing


_NAMED_ADDRESS: Final = re.compile(r"(?:([^<>]*)<)?([^<>]*)(?(1)>)")  # ann@example.com, or: Ann <ann@example.com>
_PLAIN_LINE: Final = re.compile(r"(?!.*=\?)[!-~](?:[ -~]{0,64}[!-~])?|")  # RFC 5322: 78 characters with the name
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ]{0,62}[A-Za-z0-9])?")
_MESSAGE_ID: Final = re.compile(r"<?([!-;=?-~]{1,250})>?")


def write_mail(
    *,
    sender: str,
    recipients: Sequence[str],
    subject: str,
    text: str | None,
    html: str | None,
    sent_at_us: int,
    message_id: str,
) -> bytes:
    """Write a mail. `read_mail` reads the same from it, the time in whole seconds, line breaks as LF.

    Addresses may have a name: `Ann <ann@example.com>`.

    Raises:
        InvalidInput: a field cannot stand in a mail: a line break in a header, a NUL, something that is no address.
        TooLarge: the subject or an address is too long.
    """
    if len(recipients) > RECIPIENTS_MAX:
        raise InvalidInput(f"there are more than {RECIPIENTS_MAX} recipients", field="recipients")
    if not 0 <= sent_at_us <= TIME_MAX_US:
        raise InvalidInput("sent_at is out of range", field="sent_at")
    identifier = _MESSAGE_ID.fullmatch(message_id)
    if identifier is None:
        raise InvalidInput("message_id is not one that can stand in a mail", field="message_id")
    head = [f"From: {_write_address(sender, 'sender')}"]
    if recipients:
        head.append("To: " + ",\r\n ".join(_write_address(recipient, "recipients") for recipient in recipients))
    subject = check_text(subject, "subject", max_chars=SUBJECT_MAX_CHARS)
    head += [
        f"Subject: {_write_words(subject, _PLAIN_LINE)}",
        f"Date: {format_datetime(EPOCH + timedelta(microseconds=sent_at_us))}",
        f"Message-ID: <{identifier[1]}>",
        "MIME-Version: 1.0",
    ]
    parts = []
    if text is not None or html is None:
        parts.append(_write_part("plain", text or "", "text"))
    if html is not None:
        parts.append(_write_part("html", html, "html"))
    if len(parts) == 1:
        return "\r\n".join([*head, ""]).encode() + parts[0]
    head.append('Content-Type: multipart/alternative; boundary="=_"')  # which no quoted-printable contains
    return b"\r\n--=_\r\n".join(["\r\n".join([*head, ""]).encode(), *parts]) + b"\r\n--=_--\r\n"


def _write_address(value: str, field: str) -> str:
    named = _NAMED_ADDRESS.fullmatch(check_text(value, field))
    name, address = named.groups("") if named else ("", "")
    address = address.strip()
    if not is_address(address) or not address.isascii():
        raise InvalidInput(f"{field} must be an address such as ann@example.com", field=field)
    name = name.strip().strip('"')
    return f"{_write_words(name, _PLAIN_NAME)} <{address}>" if name else address


def _write_words(line: str, plain: re.Pattern[str]) -> str:
    """Return the line as it is, or as encoded words, each on a line of its own."""
    if plain.fullmatch(line):
        return line
    pieces = (line[at : at + 11].encode() for at in range(0, len(line), 11))  # 44 bytes: a word ends before 76
    words = [f"=?utf-8?b?{binascii.b2a_base64(piece, newline=False).decode()}?=" for piece in pieces]
    return "\r\n ".join(words)


def _write_part(kind: str, value: str, field: str) -> bytes:
    value = check_prose(value, field).replace("\r\n", "\n").replace("\r", "\n")
    pieces = (value[at : at + STEP] for at in range(0, len(value), STEP))
    try:
        # A soft line break joins the pieces, and gives a text without a line break at its end one that does not count.
        encoded = b"=\n".join(binascii.b2a_qp(piece.encode(), istext=True) for piece in pieces)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{field} is not valid Unicode", field=field) from error
    if not encoded.endswith(b"\n"):
        encoded += b"=\n"
    head = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    return head.encode() + encoded.replace(b"\n", b"\r\n")
