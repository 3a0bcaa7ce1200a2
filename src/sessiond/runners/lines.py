"""What agents outside say, line by line: lines in bounds, and the piece that a line of JSON is.

It does not know where the lines come from: a program's standard output, or an answer over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Final

import msgspec

from sessiond.core.run import OUTPUT_MAX_BYTES, Ask, Piece, Text, Thought, ToolCall, ToolResult, Usage, WaitFor
from sessiond.runners.runner import AGENT_FAILED, BAD_OUTPUT, LINE_MAX_BYTES, TOO_LARGE, AgentError

SHOWN_MAX: Final = 200  # characters of what cannot be understood: enough to recognise it
MESSAGE_MAX: Final = 1_000  # characters of what an agent says went wrong
TOKENS_MAX: Final = 2**40  # of one report; many of them still add up to what a database's integer holds


class Failed(msgspec.Struct, frozen=True, tag="error"):
    """The agent's own word that it failed. No piece: it ends the attempt."""

    message: str
    retry: bool = False
    """Whether another attempt may go better."""


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises: the last where lists stand in lists without end."""

_EXPECTED: Final = "a JSON object with a type: text, thought, tool_call, tool_result, usage, ask, wait or error"
_pieces: Final = msgspec.json.Decoder(Text | Thought | ToolCall | ToolResult | Usage | Ask | WaitFor | Failed)


async def read_lines(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """Yield each line with its end as soon as it is whole; the last one may have none.

    Raises:
        AgentError: a line is longer than `LINE_MAX_BYTES`.
    """
    begun = bytearray()
    async for chunk in chunks:
        await asyncio.sleep(0)  # what was read ahead, or unpacked, comes without a pause; others want to go on too
        first, *others = chunk.split(b"\n")
        begun += first
        for other in others:
            _check_length(begun)
            yield bytes(begun) + b"\n"
            begun = bytearray(other)
        _check_length(begun)
    if begun:
        yield bytes(begun)


def _check_length(line: bytearray) -> None:
    if len(line) > LINE_MAX_BYTES:
        raise AgentError(TOO_LARGE, f"the agent said a line of more than {LINE_MAX_BYTES:,} bytes", permanent=True)


def decode_piece(line: bytes) -> Piece:
    """Return the piece that a line is.

    Raises:
        AgentError: it is none, or it is the agent's word that it failed.
    """
    try:
        said = _pieces.decode(line)
    except UNREADABLE as error:
        raise AgentError(
            BAD_OUTPUT,
            f"the agent said a line that is no piece: {show(line)!r} ({error}); each line must be {_EXPECTED}",
            permanent=True,
        ) from error
    if isinstance(said, Failed):
        message = said.message.strip()[:MESSAGE_MAX] or "the agent failed and did not say why"
        raise AgentError(AGENT_FAILED, message, permanent=not said.retry)
    return check_usage(said) if isinstance(said, Usage) else said


def check_usage(usage: Usage) -> Usage:
    """Return `usage` if its numbers can be.

    Raises:
        AgentError: one is negative, or larger than any agent's.
    """
    if not all(0 <= tokens <= TOKENS_MAX for tokens in (usage.prompt_tokens, usage.completion_tokens)):
        raise AgentError(
            BAD_OUTPUT,
            f"the agent reports a use of {show(str(usage.prompt_tokens), 20)} and"
            f" {show(str(usage.completion_tokens), 20)} tokens, which cannot be",
            permanent=True,
        )
    return usage


def add_said(said_bytes: int, text: str) -> int:
    """Return the size of an output with `text` behind it.

    Raises:
        AgentError: that is more than `OUTPUT_MAX_BYTES`.
    """
    said_bytes += len(text.encode(errors="surrogatepass"))
    if said_bytes > OUTPUT_MAX_BYTES:
        raise AgentError(TOO_LARGE, f"the agent said more than {OUTPUT_MAX_BYTES:,} bytes", permanent=True)
    return said_bytes


def show(said: bytes | str, limit: int = SHOWN_MAX) -> str:
    """Return the beginning of what somebody said, on one line, what cannot be printed replaced."""
    start = said[: 4 * limit]  # a character is four bytes at most
    text = " ".join((start.decode(errors="replace") if isinstance(start, bytes) else start).split())
    shown = "".join(character if character.isprintable() else "�" for character in text[:limit])
    return shown + "…" if len(text) > limit or len(said) > len(start) else shown
