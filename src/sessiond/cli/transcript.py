"""A session's log as a conversation: who said what and when, and between it what happened. Pure: events in, text out.

What an agent says is told three times: word by word on its way (`Delta`), in pieces (`run.text`), and whole, as its
message. Here it is written once, as soon as it is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from sessiond.cli.show import cut, escape, escape_line, json_of
from sessiond.client import Delta, Event

BRIEF_MAX_CHARS: Final = 160  # of what a tool is given, and the like: two lines of a terminal
INDENT: Final = "  "
_BREAK: Final = re.compile(r"\n(?!\n)")

Paint = Callable[[str, str], str]


def plain(text: str, _colour: str) -> str:
    return text


class Speech:
    """What one attempt of a run has said so far."""

    def __init__(self, run_id: str | None = None, attempt: int | None = None) -> None:
        self.run_id = run_id
        self._attempt = attempt
        self._said: list[str] = []
        self._length = 0
        self._whole = True

    @property
    def began(self) -> bool:
        return bool(self._said)

    def is_of(self, run_id: str | None, attempt: int | None = None) -> bool:
        return run_id == self.run_id and attempt in (None, self._attempt)

    def take(self, text: str, offset: int, *, certain: bool) -> str:
        """Return what of a piece is new. One that is not `certain` comes again, when what is before it has come."""
        if offset > self._length:
            if not certain:
                return ""
            self._whole, self._length = False, offset
        new = text[self._length - offset :]
        self._said.append(new)
        self._length += len(new)
        return new

    def said(self, text: str) -> bool:
        """Whether that is just what was said."""
        return self._whole and self._length == len(text) and "".join(self._said) == text


class Transcript:
    """Writes what it is told. Of what was before it keeps who speaks, and what they have said so far."""

    def __init__(self, *, names: Mapping[str, str | None] | None = None, paint: Paint = plain) -> None:
        """`names` says who speaks in a role."""
        self._names = names or {}
        self._paint = paint
        self._speech = Speech()
        self._speaker: str | None = None
        self._within_line = False
        self._held = ""
        self._thinks = False
        self._day: date | None = None
        self._at = datetime.now(UTC)

    def tell(self, told: Event | Delta) -> str:
        """Return what to write next; it may end within a line, and may be nothing."""
        if isinstance(told, Delta):
            if not self._speech.is_of(told.run_id, told.attempt):
                return ""  # its beginning is not known: the log has it in a moment
            return self._say(self._speech.take(told.text, told.offset, certain=False))
        self._at = told.created_at.astimezone(UTC)
        thought, self._thinks = self._thinks, told.type == "run.thought"
        if thought and self._thinks:
            return ""  # thoughts come in many pieces: the first says what they are about
        kind, _, what = told.type.partition(".")
        if kind == "message":
            return self._message(told)
        if told.type == "run.text":
            if not self._speech.is_of(told.run_id):
                self._speech = Speech(told.run_id)
            data = told.data
            return self._say(self._speech.take(str(data.get("text", "")), int(data.get("offset", 0)), certain=True))
        if told.type == "run.started":
            self._speech, self._speaker = Speech(told.run_id, told.data.get("attempt")), None
        if kind == "run":
            return self._run(what, told)
        return "".join(self._note(note) for note in _note_of(told))

    def finish(self) -> str:
        """Return what ends the line, if one is begun."""
        ended, self._within_line, self._held = ("\n" if self._within_line else ""), False, ""
        return ended

    def _message(self, event: Event) -> str:
        role = str(event.data.get("role", event.type.partition(".")[2]))
        text = text_of(event.data.get("content"))
        mine = event.run_id is not None and role == "assistant" and self._speech.is_of(event.run_id)
        if mine and text and self._speech.said(text):
            return self.finish()
        if mine and self._speech.began:
            self._speaker = None  # what was heard of it is not all, or not the answer: that stands for itself
        head = self._head(event.run_id if mine else event.id, role)
        return head + self._indented(text) + self.finish()

    def _run(self, what: str, event: Event) -> str:
        data, run_id = event.data, event.run_id
        if what == "tool_call":
            return self._beside(run_id, f"→ {_word(data, 'name')} {brief(data.get('arguments'))}", "cyan")
        if what == "tool_result":
            mark, colour = ("✗", "red") if data.get("is_error") else ("←", "dim")
            return self._beside(run_id, f"{mark} {_word(data, 'name')} {brief(data.get('output'))}", colour)
        if what == "thought":
            return self._beside(
                run_id, f"({cut(escape_line(str(data.get('text', ''))).strip(), BRIEF_MAX_CHARS)})", "dim"
            )
        if what == "waiting" and data.get("title"):
            return self._beside(run_id, question(data), "yellow")
        note, colour = _run_note(what, data)
        return self._note(note, colour) if note else ""

    def _say(self, text: str) -> str:
        if not text:
            return ""
        begun = self._head(self._speech.run_id, "assistant")
        return begun + self._indented(text)

    def _head(self, speaker: str | None, role: str) -> str:
        """Return the line that says who speaks, unless they are speaking already."""
        if speaker is not None and speaker == self._speaker:
            return ""
        self._speaker = speaker
        name = self._names.get(role)
        who = self._paint(escape_line(role), "bold") + (f" ({escape_line(name)})" if name else "")
        return self._line(who, apart=True)

    def _note(self, text: str, colour: str = "dim") -> str:
        """Return a line about what happened; who speaks after it is named again."""
        self._speaker = None
        return self._line(self._paint(f"· {text}", colour))

    def _beside(self, run_id: str | None, text: str, colour: str) -> str:
        """Return a line about what a run does while it speaks."""
        head = self._head(run_id, "assistant")
        return f"{head}{self.finish()}{INDENT}{self._paint(text.rstrip(), colour)}\n"

    def _indented(self, text: str) -> str:
        """Return text below who speaks. Line breaks wait for what is behind them: at the end there need be none."""
        text = self._held + text
        shown = text.rstrip("\n")
        self._held = text[len(shown) :]
        if not shown:
            return ""
        begun = "" if self._within_line else INDENT
        self._within_line = True
        return begun + _BREAK.sub(f"\n{INDENT}", escape(shown))

    def _line(self, text: str, *, apart: bool = False) -> str:
        """Return a line with its time, below its day."""
        opening = "\n" if apart and self._day is not None else ""
        if self._day != self._at.date():
            opening = "\n" if self._day is not None else ""
            self._day = self._at.date()
            opening += self._paint(f"── {self._day.isoformat()} (UTC) ──", "dim") + "\n"
        return f"{self.finish()}{opening}{self._paint(self._at.strftime('%H:%M:%S'), 'dim')}  {text}\n"


def text_of(content: Any) -> str:
    """Return a message's content as text; of a part that is none, what it is."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return json_of(content)
    return "\n".join(_part(part) for part in content)


def brief(value: Any) -> str:
    """Return JSON, or a text, on one line that is not long."""
    if value is None:
        return ""
    return cut(escape_line(value) if isinstance(value, str) else json_of(value), BRIEF_MAX_CHARS)


def question(ask: Mapping[str, Any]) -> str:
    """Return what a run asks, and what may be answered, on one line."""
    offered = [
        f"{escape_line(str(each.get('id')))} ({escape_line(str(each.get('name')))})"
        for each in ask.get("options") or ()
    ]
    answers = f" [{', '.join(offered)}]" if offered else ""
    return f"? {escape_line(str(ask.get('title')))}{answers}"


def _part(part: Any) -> str:
    if isinstance(part, Mapping):
        for name in ("text", "refusal"):
            if isinstance(part.get(name), str):
                return str(part[name])
    return f"[{brief(part)}]"


def _run_note(what: str, data: Mapping[str, Any]) -> tuple[str, str]:
    """Return what is to be said of a run, and in which colour; nothing of what goes without saying."""
    if what == "started":
        return ("begun again: its worker was lost", "yellow") if data.get("after_loss") else ("", "")
    if what == "answered":
        return f"answered: {brief(data.get('option_id') or data.get('content'))}", "dim"
    if what == "retrying":
        return f"attempt {data.get('attempt')} failed: {_failure(data)}; there will be another", "yellow"
    if what == "cancel_requested":
        return f"is to be cancelled{_because(data)}", "dim"
    if what in ("completed", "failed", "cancelled"):
        tokens = [data.get("prompt_tokens") or 0, data.get("completion_tokens") or 0]
        cost = f", {tokens[0]} + {tokens[1]} tokens" if any(tokens) else ""
        failure = _failure(data)
        return f"run {what}{cost}{f': {failure}' if failure else ''}", "red" if what == "failed" else "dim"
    return "", ""


def _note_of(event: Event) -> list[str]:
    """Return what is to be said of an event that is of no run, and no message: a line or none."""
    data, (kind, _, what) = event.data, event.type.partition(".")
    match kind, what:
        case "session", "created":
            return ["session created"]
        case "session", "updated":
            return [f"session changed: {escape_line(', '.join(data))}"]
        case "session", "message_removed":
            return [f"a message was taken back: {_word(data, 'role')}, number {data.get('seq')}"]
        case "removed", _:
            return []  # where it was
        case "session", _:
            status = {"activated": "active"}.get(what, what)
            return [f"session {escape_line(status)}{_because(data)}"]
        case "inbox", "created":
            return [f"inbox {_word(data, 'address')}"]
        case "inbox", _:
            return [f"inbox {_word(data, 'inbox_id')} {escape_line(what)}"]
        case "mail", "received":
            return [f"mail from {_word(data, 'from')}: {_word(data, 'subject')}"]
        case "wait", "created":
            return [f"waits for {_word(data, 'type')}"]
        case "wait", _:
            ended = escape_line(what.replace("_", " "))
            came = result_of(data.get("result"))
            return [f"wait for {_word(data, 'type')} {ended}{f': {came}' if came else _because(data)}"]
        case _:
            return [f"{escape_line(event.type)} {brief(data)}"]


def result_of(result: Any) -> str:
    """Return what a wait was completed with: the code or the link, if it is one."""
    if isinstance(result, Mapping):
        for name in ("value", "url"):
            if isinstance(result.get(name), str):
                return escape_line(result[name])
    return brief(result)


def _word(data: Mapping[str, Any], name: str) -> str:
    return cut(escape_line(str(data.get(name) or "-")), BRIEF_MAX_CHARS)


def _failure(data: Mapping[str, Any]) -> str:
    error = data.get("error")
    if not isinstance(error, Mapping):
        return ""
    return cut(escape_line(f"{error.get('code')}: {error.get('message')}"), BRIEF_MAX_CHARS)


def _because(data: Mapping[str, Any]) -> str:
    reason = data.get("reason")
    return f": {cut(escape_line(str(reason)), BRIEF_MAX_CHARS)}" if reason else ""
