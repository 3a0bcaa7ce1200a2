"""How commands answer: JSON for programs, tables for people; colour only where a terminal shows it.

What others wrote is shown and never obeyed: what would drive a terminal stands there as an escape.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn
from urllib.parse import urlsplit, urlunsplit

COLOURS: Final = {
    "ok": "green",
    "warn": "yellow",
    "bad": "red",
    "failed": "red",
    "running": "green",
    "waiting": "yellow",
    "pending": "yellow",
    "revoked": "dim",
    "expired": "dim",
    "cancelled": "dim",
    "timed_out": "dim",
}
NOTHING: Final = "-"
AGO: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
JUST_NOW_SECONDS: Final = 5
CLOCKS_APART_SECONDS: Final = 60  # by which a server's may be ahead of this machine's
_ANSI: Final = {"green": "32", "yellow": "33", "red": "31", "cyan": "36", "dim": "2", "bold": "1"}

# All that may drive a terminal, but tabs and line breaks: C0, DEL and C1; and what turns a line around.
_UNSHOWN: Final = "\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL: Final = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSHOWN}]")
_IN_JSON: Final = re.compile(f"[{_UNSHOWN}]")  # JSON itself escapes the others


def escape(text: str) -> str:
    """Return text that a terminal shows and does not obey; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def escape_line(text: str) -> str:
    """Return text as `escape` does, on one line."""
    return escape(text).replace("\n", " ").replace("\t", " ")


def cut(text: str, width: int) -> str:
    """Return what fits into `width` characters, ending in … where that is not all."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def coloured(text: str, colour: str) -> str:
    """Return text in a colour, where standard output is a terminal that may show one."""
    wanted = colour and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\x1b[{_ANSI[colour]}m{text}\x1b[0m" if wanted else text


def print_json(value: object) -> None:
    print(json_of(value))


def json_of(value: object) -> str:
    """Return JSON on one line, as it may be shown in a terminal."""
    import msgspec

    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", msgspec.json.encode(value).decode())


def print_json_array(values: Iterable[object]) -> None:
    """Print an array, each value as soon as it is there."""
    between = "["
    for value in values:
        print(between, json_of(value), sep="", end="")
        between = ","
    print("[]" if between == "[" else "]")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, cut: Sequence[str] = ()) -> None:
    """Print rows under their columns' names. What is piped is never cut or wrapped.

    With `cut` each row is one line of a terminal: columns of these names are cut first where there is no room.
    """
    rows = [[escape_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_in_colour(columns, rows, cut)
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_record(fields: Mapping[str, str]) -> None:
    """Print one thing, a line a field."""
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {escape_line(value)}")


def fail(error: object, *, status: int = 1) -> NoReturn:
    """Say in one line on standard error what went wrong, and end."""
    warn(error)
    raise SystemExit(status)


def warn(what: object) -> None:
    """Say something in one line on standard error."""
    print(f"sessiond: {escape(' '.join(str(what).split()))}", file=sys.stderr)


def time_text(at_us: int | None) -> str:
    """Return a time for people, to the second."""
    if at_us is None:
        return NOTHING
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def when(at: datetime | None, now: datetime | None = None) -> str:
    """Return a time for people: in a terminal how long ago it was, else, or of what is ahead, to the second."""
    if at is None:
        return NOTHING
    exactly = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if not sys.stdout.isatty():
        return exactly
    seconds = int(((now or datetime.now(UTC)) - at).total_seconds())
    if seconds < -CLOCKS_APART_SECONDS:
        return exactly
    if seconds < JUST_NOW_SECONDS:
        return "just now"
    size, name = next(each for each in AGO if seconds >= each[0])
    return f"{seconds // size} {name} ago"


def hide_password(url: str) -> str:
    """Return a database's URL as it may be shown."""
    parts = urlsplit(url)
    account, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = account.partition(":")
    netloc = f"{user}:***@{hosts}" if at and colon else parts.netloc
    query = re.sub(r"(?<![^&])password=[^&]*", "password=***", parts.query)
    if (netloc, query) == (parts.netloc, parts.query):
        return url  # taking a URL apart and putting it together may lose slashes
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def _print_in_colour(columns: Sequence[str], rows: Sequence[Sequence[str]], cut: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # What is wrapped is made narrower before what is not; its cells are cut and not wrapped all the same.
        table.add_column(column, overflow="ellipsis" if cut else "fold", no_wrap=bool(cut) and column not in cut)
    for row in rows:
        table.add_row(
            *(
                Text(
                    cell,
                    style=COLOURS.get(cell, ""),
                    no_wrap=True if cut else None,
                    overflow="ellipsis" if cut else None,
                )
                for cell in row
            )
        )
    Console().print(table)
