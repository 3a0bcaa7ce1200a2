"""What replay looks like on the native wire when it runs again: each step beside its recording."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import UNSET, UnsetType

from sessiond.core.comparison import Comparison, Summary, Verdict
from sessiond.core.metadata import JsonObject
from sessiond.dialects.native.log_shapes import translated


class Mode(StrEnum):
    SHOW = "show"
    RERUN = "rerun"
    SIMULATE = "simulate"


class Replay(msgspec.Struct, frozen=True):
    mode: Mode = Mode.SHOW


class ComparisonOut(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the recording, and what came of it now."""

    index: int | None
    """The step's index in the replay; null for what that does not show, and for what is new."""
    seq: int | None
    """The recorded event's; null for what is new."""
    action: str
    input: JsonObject
    recorded: JsonObject | None
    """The recorded output; null for what is new."""
    output: JsonObject | None
    """The output now; null where there is none."""
    verdict: Verdict
    reason: str | UnsetType = UNSET
    recorded_duration_ms: float | None
    duration_ms: float | None


class SummaryOut(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    same: int
    changed: int
    failed: int


class Rerun(msgspec.Struct, frozen=True, kw_only=True):
    """The answer as a whole."""

    session_id: str
    """The new session's."""
    mode: Mode
    steps: list[ComparisonOut]
    summary: SummaryOut


def comparison_out(told: Comparison) -> ComparisonOut:
    return ComparisonOut(
        index=told.index,
        seq=told.seq,
        action=told.action,
        input=translated(told.input) if not told.of_client else told.input,
        recorded=told.recorded,
        output=told.output,
        verdict=told.verdict,
        reason=told.reason if told.reason is not None else UNSET,
        recorded_duration_ms=_ms(told.recorded_us),
        duration_ms=_ms(told.duration_us),
    )


def summary_out(summary: Summary) -> SummaryOut:
    return SummaryOut(session_id=summary.session_id, same=summary.same, changed=summary.changed, failed=summary.failed)


def _ms(duration_us: int | None) -> float | None:
    return duration_us / 1000 if duration_us is not None else None
