"""Every limit on what callers may send or ask for, with its reason, and the checks that need no more than the limit."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

from sessiond.core.errors import InvalidInput, TooLarge

# Whatever reads JSON goes down as deep as it is, and gives up at some depth of its own (Python's near 1,000). What one
# wire takes all must be able to read, a few levels further down in an answer.
NESTING_MAX: Final = 100
ID_MAX_CHARS: Final = 200  # an id is part of a URL, and of the key of every event
TEXT_MAX_CHARS: Final = 1_000  # names, e-mail addresses (RFC 5321 allows 254), reasons
DATA_MAX_BYTES: Final = 1024 * 1024
METADATA_MAX_BYTES: Final = 64 * 1024  # it is read with every listing
METADATA_MAX_KEYS: Final = 64  # every key is an index entry
# PostgreSQL's index entries end at 2,704 bytes, and two ids of 800 bytes stand in them too; longer values are kept.
METADATA_FILTER_MAX_BYTES: Final = 512
MESSAGES_PER_APPEND: Final = 1_000  # one transaction's worth: the writer serves others in between
PAGE_MAX: Final = 1_000
PAGE_DEFAULT: Final = 20
LOG_PAGE_DEFAULT: Final = 50
PAGE_MAX_BYTES: Final = 8 * 1024 * 1024  # 1,000 messages of 1 MiB would be a gigabyte of memory for one request
OFFSET_MAX: Final = 2**53  # what a JSON number can say exactly; an offset past the end reads nothing
FILTER_MAX_VALUES: Final = 50  # SQLite's default allows 32,766 parameters, a URL of 8 KiB far fewer
TIME_MAX_US: Final = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z, the last that ISO 8601 and Python can write
IDEMPOTENCY_KEY_MAX_CHARS: Final = 255

# What PostgreSQL cannot store as text (NUL), what cannot be encoded as UTF-8 (lone surrogates), and what has no
# place in a name or an id (other control characters).
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_JSON_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_A_BRACKET: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = bytes.maketrans(b"[]{}", bytes([1, 255, 1, 255]))  # 255 is -1 in a signed byte


def check_nesting(body: bytes, *, most: int = NESTING_MAX) -> None:
    """Check that arrays and objects of `body`, which is JSON, are in one another at most `most` deep.

    Raises:
        InvalidInput: they are deeper.
    """
    if body.count(b"[") + body.count(b"{") <= most:
        return
    steps = _JSON_STRING.sub(b"", body).translate(_STEPS, _NOT_A_BRACKET)
    if max(accumulate(memoryview(steps).cast("b")), default=0) > most:
        raise InvalidInput(f"the body is nested more than {most} levels deep", field="body")


def check_text(value: str, field: str, *, max_chars: int = TEXT_MAX_CHARS) -> str:
    """Return `value` if it is a line of at most `max_chars` printable characters.

    Raises:
        InvalidInput: it has a control character or half a surrogate pair.
        TooLarge: it is longer.
    """
    if len(value) > max_chars:
        raise TooLarge(f"{field} is longer than {max_chars} characters", field=field)
    if _UNPRINTABLE.search(value):
        raise InvalidInput(f"{field} contains a control character", field=field)
    return value


def check_prose(value: str, field: str) -> str:
    """Return `value` if it can be kept as text: any number of lines, within a body's limit, but no NUL.

    Raises:
        InvalidInput: it has a NUL, which PostgreSQL cannot store.
    """
    if "\0" in value:
        raise InvalidInput(f"{field} contains a NUL character", field=field)
    return value
