from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.run import Ask, Choice, Piece, Text, Thought, ToolCall, ToolResult, Usage
from sessiond.runners.lines import SHOWN_MAX, TOKENS_MAX, decode_piece, read_lines, show
from sessiond.runners.runner import AGENT_FAILED, BAD_OUTPUT, LINE_MAX_BYTES, TOO_LARGE, AgentError


async def _send(chunks: Sequence[bytes]) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk


@given(st.lists(st.text("ab\n\r").map(str.encode)))
async def test_lines_are_the_same_wherever_they_are_cut(chunks: list[bytes]) -> None:
    found = [line async for line in read_lines(_send(chunks))]

    assert found == [line + b"\n" for line in b"".join(chunks).split(b"\n")[:-1]] + [
        line for line in b"".join(chunks).split(b"\n")[-1:] if line
    ]


async def test_a_line_may_be_as_long_as_the_limit() -> None:
    found = [len(line) async for line in read_lines(_send([b"x" * LINE_MAX_BYTES, b"\n"]))]

    assert found == [LINE_MAX_BYTES + 1]


@pytest.mark.parametrize("chunks", [[b"x" * LINE_MAX_BYTES, b"x"], [b"a\n" + b"x" * (LINE_MAX_BYTES + 1) + b"\nb\n"]])
async def test_a_longer_line_is_refused(chunks: list[bytes]) -> None:
    with pytest.raises(AgentError) as refused:
        [line async for line in read_lines(_send(chunks))]

    assert refused.value.code == TOO_LARGE


@pytest.mark.parametrize(
    "piece",
    [
        Text("a"),
        Thought("b"),
        ToolCall("1", "now", {"zone": "UTC"}),
        ToolResult("1", [12], is_error=True),
        Usage(1, TOKENS_MAX),
        Ask("May I?", [Choice("yes", "Yes")], {"why": "so"}),
    ],
)
def test_a_piece_is_what_was_written(piece: Piece) -> None:
    assert decode_piece(msgspec.json.encode(piece) + b"\r\n") == piece


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"{}",
        b'{"type":"speech"}',
        b'{"type":"text"}',
        b'{"type":"text","text":1}',
        b'{"type":"text","text":"\xff"}',
        b'{"type":"tool_call","id":"1","name":"n","arguments":1e999}',
        b'{"type":"usage","prompt_tokens":-1}',
        b'{"type":"usage","completion_tokens":1e18}',
        b'{"type":"error"}',
        b'[{"type":"text","text":"a"}]',
        b'{"type":"tool_result","id":"1","output":' + b"[" * 100_000,
    ],
)
def test_what_is_no_piece_is_refused(line: bytes) -> None:
    with pytest.raises(AgentError) as refused:
        decode_piece(line)

    assert (refused.value.code, refused.value.permanent) == (BAD_OUTPUT, True)


@pytest.mark.parametrize(
    ("line", "message", "permanent"),
    [
        (b'{"type":"error","message":" out of ink "}', "out of ink", True),
        (b'{"type":"error","message":"busy","retry":true}', "busy", False),
        (b'{"type":"error","message":""}', "the agent failed and did not say why", True),
    ],
)
def test_an_error_is_the_agents_own_word(line: bytes, message: str, permanent: bool) -> None:
    with pytest.raises(AgentError) as failed:
        decode_piece(line)

    assert (failed.value.code, failed.value.message, failed.value.permanent) == (AGENT_FAILED, message, permanent)


@given(st.binary(max_size=2 * SHOWN_MAX) | st.text(max_size=2 * SHOWN_MAX))
def test_what_is_shown_is_short_and_can_be_printed(said: bytes | str) -> None:
    shown = show(said)

    assert len(shown) <= SHOWN_MAX + 1
    assert shown.isprintable()


def test_what_is_shown_says_that_there_is_more() -> None:
    assert show("a" * SHOWN_MAX) == "a" * SHOWN_MAX
    assert show(b"a" * (SHOWN_MAX + 1)) == "a" * SHOWN_MAX + "…"
