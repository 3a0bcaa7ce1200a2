"""A simulation: an agent's tools are not called, and answer what they answered when the run was recorded."""

from __future__ import annotations

from collections.abc import Sequence

from sessiond.core.run import Piece, Recorded, ToolCall, ToolResult


class Recording:
    """What the tools of a recorded run answered; each answer is given once."""

    def __init__(self, recorded: Sequence[Recorded]) -> None:
        self._left = list(recorded)
        self._answered = set[str]()

    def answer(self, call: ToolCall) -> ToolResult:
        """Return what the tool answered to these arguments, or else to the next call of it."""
        self._answered.add(call.id)
        named = [one for one in self._left if one.name == call.name]
        same = [one for one in named if one.arguments == call.arguments]
        chosen = next(iter([*same, *named]), None)
        if chosen is None:
            return ToolResult(call.id, f"the recording has no answer of the tool {call.name!r}", is_error=True)
        self._left.remove(chosen)
        return ToolResult(call.id, chosen.output, chosen.is_error)

    def answered(self, piece: Piece) -> bool:
        """Whether a piece is a result that was given from the recording: an agent may say it again."""
        return isinstance(piece, ToolResult) and piece.id in self._answered
