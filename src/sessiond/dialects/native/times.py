"""Times that may not have come yet, as the native wire writes them."""

from __future__ import annotations

from sessiond.web.answers import iso_micros


def iso(at_us: int | None) -> str | None:
    return iso_micros(at_us) if at_us is not None else None
