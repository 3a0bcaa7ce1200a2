"""Times as people say them: when a key shall end, how long something is kept."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

import typer

from sessiond.core.errors import InvalidInput
from sessiond.core.limits import TIME_MAX_US
from sessiond.web.answers import parse_time

UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def parse_expiry(expires_in: str | None, expires_at: str | None, *, now_us: int) -> int | None:
    """Return when a key shall end, in microseconds since 1970; None for never.

    Raises:
        typer.BadParameter: it is no such time, or past, or both ways of giving one were used.
    """
    if expires_in is not None and expires_at is not None:
        raise typer.BadParameter("give either --expires-in or --expires-at, not both")
    if expires_in is not None:
        span = _parse_span(expires_in)
        at_us = now_us + span // timedelta(microseconds=1) if span is not None else 0
        if not now_us < at_us <= TIME_MAX_US:
            raise typer.BadParameter("must be a time such as 90s, 45m, 12h, 30d or 4w", param_hint="--expires-in")
        return at_us
    if expires_at is None:
        return None
    try:
        at_us = parse_time(expires_at, "it")
    except InvalidInput as error:
        raise typer.BadParameter(str(error), param_hint="--expires-at") from error
    if at_us <= now_us:
        raise typer.BadParameter("is in the past", param_hint="--expires-at")
    return at_us


def parse_retention(text: str) -> int | None:
    """Return for how many seconds something is kept; None, which is `forever`, without end.

    Raises:
        typer.BadParameter: it is no such time.
    """
    if text == "forever":
        return None
    span = _parse_span(text)
    if span is None:
        raise typer.BadParameter("must be a time such as 12h, 30d or 4w, or forever", param_hint="--retention")
    return span // timedelta(seconds=1)


def parse_span(text: str, flag: str) -> timedelta:
    """Return a stretch of time.

    Raises:
        typer.BadParameter: it is none.
    """
    span = _parse_span(text)
    if span is None:
        raise typer.BadParameter("must be a time such as 90s, 45m, 12h or 30d", param_hint=flag)
    return span


def _parse_span(text: str) -> timedelta | None:
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    try:
        return int(match[1]) * UNITS[match[2]] if match else None
    except OverflowError:
        return None
