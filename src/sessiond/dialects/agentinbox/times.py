"""Times as the agentinbox wire writes them: as JavaScript does."""

from __future__ import annotations

from sessiond.web.answers import iso_millis


def iso(at_us: int | None) -> str | None:
    return iso_millis(at_us) if at_us is not None else None
