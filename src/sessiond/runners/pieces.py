"""What an agent says, gathered into rows of the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from sessiond.core.errors import InvalidInput
from sessiond.core.event import (
    CALL_TOOL,
    RUN_TEXT,
    RUN_THOUGHT,
    RUN_TOOL_CALL,
    RUN_TOOL_RESULT,
    RUN_WAITING,
    Entry,
    make_entry,
    shorten,
)
from sessiond.core.ids import RunId
from sessiond.core.limits import check_nesting
from sessiond.core.run import (
    OUTPUT_MAX_BYTES,
    PIECE_MAX_BYTES,
    PIECES_MAX,
    PIECES_MAX_BYTES,
    Ask,
    Piece,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)
from sessiond.runners.runner import BAD_OUTPUT, TOO_LARGE, AgentError

TEXT_MAX_CHARS: Final = 32 * 1024  # of one row: a page of them fits in memory
CALLS_MAX: Final = 100  # tools at work at once; what an older one was given is forgotten, and its result stands alone


class Pieces:
    """Pieces that are not written yet, and what must be known of all."""

    def __init__(self, run_id: RunId) -> None:
        self._run_id = run_id
        self._waiting: list[Entry] = []
        self._said: list[str] = []
        """Text or thought that may grow, and belongs to one row."""
        self._saying: type[Text] | type[Thought] = Text
        self._texts: list[str] = []
        self._offset = 0
        self.length = 0
        """How many characters the answer has so far."""
        self._bytes = 0
        self._rows = 0
        self._row_bytes = 0
        self._calls: dict[str, tuple[dict[str, Any], int]] = {}
        self.waiting_bytes = 0
        self.nothing = True
        """Whether there was not one."""

    @property
    def text(self) -> str:
        """The whole answer so far."""
        return "".join(self._texts)

    def add(self, piece: Piece) -> None:
        """Take one more.

        Raises:
            AgentError: it cannot be kept, or it is too much.
        """
        self.nothing = False
        if self._rows > PIECES_MAX:
            raise AgentError(TOO_LARGE, f"the agent said more than {PIECES_MAX} things", permanent=True)
        if self._row_bytes > PIECES_MAX_BYTES:
            raise AgentError(TOO_LARGE, f"the agent's tools said more than {PIECES_MAX_BYTES} bytes", permanent=True)
        if isinstance(piece, Text | Thought):
            self._add_words(piece)
        else:
            self._close_words()
            self._add_entry(self._tool_entry(piece))

    def take(self) -> tuple[Entry, ...]:
        """Return what is to be written, once."""
        self._close_words()
        entries, self._waiting, self.waiting_bytes = tuple(self._waiting), [], 0
        return entries

    def _add_words(self, piece: Text | Thought) -> None:
        words = valid(piece.text)
        size = len(words) if words.isascii() else len(words.encode())
        self._bytes += size
        if self._bytes > OUTPUT_MAX_BYTES:
            raise AgentError(TOO_LARGE, f"the agent said more than {OUTPUT_MAX_BYTES} bytes", permanent=True)
        if type(piece) is not self._saying:
            self._close_words()
            self._saying = type(piece)
        self._said.append(words)
        self.waiting_bytes += size
        if self._saying is Text:
            self._texts.append(words)
            self.length += len(words)

    def _close_words(self) -> None:
        words = "".join(self._said)
        self._said = []
        for part in _parts(words):
            if self._saying is Text:
                self._add_entry(make_entry(RUN_TEXT, {"text": part, "offset": self._offset}, run_id=self._run_id))
                self._offset += len(part)
            else:
                self._add_entry(make_entry(RUN_THOUGHT, {"text": part}, run_id=self._run_id))

    def _add_entry(self, entry: Entry) -> None:
        self._rows += 1
        self._row_bytes += len(entry.body)
        self._waiting.append(entry)
        self.waiting_bytes += len(entry.body)

    def _tool_entry(self, piece: Any) -> Entry:
        now_ns = time.perf_counter_ns()
        if isinstance(piece, ToolCall):
            said = {"id": piece.id, "name": piece.name, "arguments": piece.arguments}
            entry = self._fitting(RUN_TOOL_CALL, said, "arguments")
            self._calls[piece.id] = said, now_ns
            if len(self._calls) > CALLS_MAX:
                del self._calls[next(iter(self._calls))]
            return entry
        assert isinstance(piece, ToolResult)
        called, called_ns = self._calls.pop(piece.id, ({}, now_ns))
        body = {
            "id": piece.id,
            "name": called.get("name"),
            "arguments": called.get("arguments"),
            "output": piece.output,
            "is_error": piece.is_error,
        }
        return self._fitting(
            RUN_TOOL_RESULT, body, "output", action=CALL_TOOL, duration_us=(now_ns - called_ns) // 1000
        )

    def _fitting(self, type: str, body: dict[str, Any], long: str, **more: Any) -> Entry:
        """Return an event, what may be `long` in it shortened when that is more than a row should hold."""
        entry = _make(type, body, run_id=self._run_id, **more)
        for name in (long, "arguments"):
            if len(entry.body) > PIECE_MAX_BYTES and name in body:
                # A quarter: as text, each of its quotes and backslashes takes two bytes.
                body[name] = shorten(msgspec.json.encode(body[name]), PIECE_MAX_BYTES // 4)
                entry = _make(type, body, run_id=self._run_id, **more)
        if len(entry.body) > PIECE_MAX_BYTES:
            raise AgentError(TOO_LARGE, "a tool's id or name is too long to be kept", permanent=True)
        return entry


def _make(type: str, body: object, **more: Any) -> Entry:
    try:
        entry = make_entry(type, body, **more)
        check_nesting(entry.body)
    except (InvalidInput, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise AgentError(BAD_OUTPUT, f"what the agent says cannot be kept: {error}", permanent=True) from error
    return entry


def check_ask(wanted: Ask) -> None:
    """Check that a question can be kept, and be shown whole.

    Raises:
        AgentError: it is too long, or nested too deeply.
    """
    if len(_make(RUN_WAITING, wanted).body) > PIECE_MAX_BYTES:
        raise AgentError(TOO_LARGE, f"the agent asks with more than {PIECE_MAX_BYTES:,} bytes", permanent=True)


def _parts(words: str) -> Iterator[str]:
    return (words[start : start + TEXT_MAX_CHARS] for start in range(0, len(words), TEXT_MAX_CHARS))


def valid(words: str) -> str:
    """Return text that can be encoded: half a surrogate pair stands for nothing."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return words.encode("utf-8", "replace").decode()
    return words
