"""How a session that is run again is compared with its recording, step by step.

What is new each time is no difference: ids, addresses, places in the log, times, tokens, and how long something took.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher, unified_diff
from enum import StrEnum
from typing import Any, Final

import msgspec

from sessiond.core.ids import SessionId
from sessiond.core.metadata import JsonObject


class Verdict(StrEnum):
    SAME = "same"
    CHANGED = "changed"
    FAILED = "failed"
    """It could not be done again."""


class Mode(StrEnum):
    RERUN = "rerun"
    SIMULATE = "simulate"
    """The tools of agents answer what they answered when the session was recorded."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a recording beside what came of it now. Inputs and outputs are as replay shows them."""

    index: int | None
    """The step's place in the recording's replay; None for what replay does not show, and for what is new."""
    seq: int | None
    """The place in the recorded log; None for what is new."""
    action: str
    input: JsonObject
    recorded: JsonObject | None
    """What came out then; None for what is new."""
    output: JsonObject | None
    """What came out now; None where nothing did."""
    verdict: Verdict
    reason: str | None = None
    """What has changed, or why it could not be done."""
    recorded_us: int | None = None
    """How long it took then."""
    duration_us: int | None = None
    """How long it took now."""
    of_client: bool = False
    """Whether a client logged what it did itself: what went in and came out is in its own words."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    session_id: SessionId
    """The session that was made by running the recording again."""
    same: int = 0
    changed: int = 0
    failed: int = 0

    def with_one(self, verdict: Verdict) -> Summary:
        return msgspec.structs.replace(self, **{verdict: getattr(self, verdict) + 1})

    @property
    def drifted(self) -> bool:
        return self.changed + self.failed > 0


class Called(msgspec.Struct, frozen=True):
    """What the log has of a tool that was called: the body of its `run.tool_result`."""

    name: str | None = None
    arguments: Any = None
    output: Any = None
    is_error: bool = False


class Ended(msgspec.Struct, frozen=True):
    """What the log has of how a run ended, as far as it is compared."""

    status: str
    output: Any = None
    error: Any = None


# Shorter names stand in text by chance.
NAME_MIN_CHARS: Final = 8
# Pairing is quadratic in the worst case (13 ms for as many); what has more calls is paired in order.
PAIRED_MAX: Final = 300

_encoder: Final = msgspec.json.Encoder(order="sorted")
# A message's id says where in the log it is, and that depends on how often its agent was written for.
_PLACE: Final = re.compile(r"\b(msg|evt)_[0-9]+\.")
_WORD: Final = re.compile(r"\w+")
# Escaped white space ends in a letter, which is none of the name behind it.
_ESCAPED: Final = re.compile(r"\\(.)")
_SPACES: Final = {"n": "\n", "r": "\r", "t": "\t"}
_NO_NAMES: Final[Mapping[str, str]] = {}


def same(recorded: Any, now: Any, renamed: Mapping[str, str]) -> bool:
    """Whether two JSON values are the same, but for `renamed`: what the recording's ids and addresses are now."""
    then_text, now_text = _text(recorded), _text(now)
    return then_text == now_text or _in_todays_names(then_text, renamed) == _in_todays_names(now_text)


def compare_calls(recorded: Called, now: Called, renamed: Mapping[str, str]) -> str | None:
    """Return what is different about a tool's call, or None when nothing is."""
    parts = [
        name
        for name in ("name", "arguments", "output", "is_error")
        if not same(getattr(recorded, name), getattr(now, name), renamed)
    ]
    return differ(parts)


def compare_ends(recorded: Ended, now: Ended, renamed: Mapping[str, str]) -> str | None:
    """Return what is different about how a run ended, or None when nothing is. Of an error, its code counts."""
    parts = [] if recorded.status == now.status else ["status"]
    if not same(recorded.output, now.output, renamed):
        parts.append("output")
    if _code(recorded.error) != _code(now.error):
        parts.append("error")
    return differ(parts)


def pair(
    recorded: Sequence[Called], now: Sequence[Called], renamed: Mapping[str, str]
) -> list[tuple[int | None, int | None]]:
    """Return which call of a run answers to which: places in both, None where there is no other.

    In the order of both. Calls that are the same find each other, then those of the same tool, then what is left.
    """
    if len(recorded) > PAIRED_MAX or len(now) > PAIRED_MAX:
        return _in_order(range(len(recorded)), range(len(now)))
    then_keys, now_keys = [_text(call) for call in recorded], [_text(call) for call in now]
    literal = {*then_keys} & {*now_keys}
    then_keys = [key if key in literal else _in_todays_names(key, renamed) for key in then_keys]
    now_keys = [key if key in literal else _in_todays_names(key) for key in now_keys]
    pairs = list[tuple[int | None, int | None]]()
    for same_calls, then_part, now_part in _blocks(then_keys, now_keys, range(len(recorded)), range(len(now))):
        if same_calls:
            pairs += zip(then_part, now_part, strict=True)
            continue
        named = [str(recorded[place].name) for place in then_part], [str(now[place].name) for place in now_part]
        for same_tool, then_rest, now_rest in _blocks(*named, then_part, now_part):
            pairs += zip(then_rest, now_rest, strict=True) if same_tool else _in_order(then_rest, now_rest)
    return pairs


def _blocks(
    then_keys: Sequence[str], now_keys: Sequence[str], then_places: Sequence[int], now_places: Sequence[int]
) -> list[tuple[bool, Sequence[int], Sequence[int]]]:
    """Return stretches of both, and whether they are equal."""
    found = SequenceMatcher(None, then_keys, now_keys, autojunk=False).get_opcodes()
    return [
        (tag == "equal", then_places[then_from:then_to], now_places[now_from:now_to])
        for tag, then_from, then_to, now_from, now_to in found
    ]


def _in_order(recorded: Sequence[int], now: Sequence[int]) -> list[tuple[int | None, int | None]]:
    count = max(len(recorded), len(now))
    return [
        (recorded[place] if place < len(recorded) else None, now[place] if place < len(now) else None)
        for place in range(count)
    ]


def _in_todays_names(text: str, renamed: Mapping[str, str] = _NO_NAMES) -> str:
    """Return the text of a recording's JSON with today's names in it, and without places in the log."""
    spaced = _ESCAPED.sub(lambda found: _SPACES.get(found[1], found[0]), text)
    return _PLACE.sub(r"\1_.", _translate(spaced, renamed))


def _translate(text: str, renamed: Mapping[str, str]) -> str:
    # Of thousands of names a text has a few: those of which it has the first word.
    words = {*_WORD.findall(text)}
    there = ((name, new) for name, new in renamed.items() if len(name) >= NAME_MIN_CHARS and _first_word(name) in words)
    names = {_text(name)[1:-1]: _text(new)[1:-1] for name, new in there}
    if not names:
        return text
    # The longest first: one name may begin with another.
    any_name = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(rf"(?<!\w)(?:{any_name})(?!\w)", lambda found: names[found[0]], text)


def _first_word(name: str) -> str | None:
    found = _WORD.search(name)
    return found[0] if found is not None else None


def differ(parts: Sequence[str]) -> str | None:
    """Return in words that these parts of something differ; None where there are none."""
    if not parts:
        return None
    verb = "differs" if len(parts) == 1 and parts != ["arguments"] else "differ"
    return f"its {' and '.join(parts)} {verb}"


def _code(error: Any) -> Any:
    return error.get("code") if isinstance(error, dict) else error


def _text(value: Any) -> str:
    return _encoder.encode(value).decode()


def diff_lines(told: Comparison) -> list[str]:
    """Return a step's two outputs as a unified diff, a line each, without its file names."""
    compared = unified_diff(_lines(told.recorded), _lines(told.output), n=2, lineterm="")
    return [line for line in compared if not line.startswith(("---", "+++", "@@"))]


def _lines(output: JsonObject | None) -> list[str]:
    """Return JSON as lines that people compare: text with line breaks keeps them."""
    found = list[str]()
    for name, value in (output or {}).items():
        if isinstance(value, str) and "\n" in value:
            found += [f"{name}:", *(f"  {line}" for line in value.splitlines())]
        elif value is not None:
            found.append(f"{name}: {value if isinstance(value, str) else _text(value)}")
    return found
