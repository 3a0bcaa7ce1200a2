"""How commands answer: JSON for programs, tables for people; colour only where a terminal shows it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn
from urllib.parse import urlsplit, urlunsplit

COLOURS: Final = {"ok": "green", "warn": "yellow", "bad": "red", "revoked": "dim", "expired": "dim"}
NOTHING: Final = "-"


def print_json(value: object) -> None:
    import msgspec

    print(msgspec.json.encode(value).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns' names. What is piped is never cut or wrapped."""
    if sys.stdout.isatty():
        _print_in_colour(columns, rows)
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_record(fields: Mapping[str, str]) -> None:
    """Print one thing, a line a field."""
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {value}")


def fail(error: object, *, status: int = 1) -> NoReturn:
    """Say in one line on standard error what went wrong, and end."""
    print(f"sessiond: {' '.join(str(error).split())}", file=sys.stderr)
    raise SystemExit(status)


def time_text(at_us: int | None) -> str:
    """Return a time for people, to the second."""
    if at_us is None:
        return NOTHING
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


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


def _print_in_colour(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    Console().print(table)
