"""What an agent says, as it is kept: nothing lost, nothing twice, and nothing that a log cannot hold."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.event import CALL_TOOL, RUN_TEXT, RUN_THOUGHT, RUN_TOOL_CALL, RUN_TOOL_RESULT, Entry
from sessiond.core.ids import RunId
from sessiond.core.limits import NESTING_MAX
from sessiond.core.run import OUTPUT_MAX_BYTES, PIECE_MAX_BYTES, PIECES_MAX, Piece, Text, Thought, ToolCall, ToolResult
from sessiond.runners.pieces import CALLS_MAX, TEXT_MAX_CHARS, Pieces
from sessiond.runners.runner import BAD_OUTPUT, TOO_LARGE, AgentError

RUN = RunId("run_1")


def taken(*said: Piece) -> tuple[Entry, ...]:
    pieces = Pieces(RUN)
    for piece in said:
        pieces.add(piece)
    return pieces.take()


def bodies(entries: tuple[Entry, ...]) -> list[tuple[str, Any]]:
    return [(entry.type, msgspec.json.decode(entry.body)) for entry in entries]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_words_in_a_row_are_one_row_of_the_log() -> None:
    entries = taken(Text("Hel"), Text("lo"), Thought("h"), Thought("m"), Text(" there"))

    assert bodies(entries) == [
        (RUN_TEXT, {"text": "Hello", "offset": 0}),
        (RUN_THOUGHT, {"text": "hm"}),
        (RUN_TEXT, {"text": " there", "offset": 5}),
    ]
    assert {entry.run_id for entry in entries} == {RUN}


def test_what_was_taken_is_not_there_again() -> None:
    pieces = Pieces(RUN)

    pieces.add(Text("one"))
    first = pieces.take()
    nothing = pieces.take()
    pieces.add(Text("two"))

    assert bodies(first) == [(RUN_TEXT, {"text": "one", "offset": 0})]
    assert nothing == ()
    assert bodies(pieces.take()) == [(RUN_TEXT, {"text": "two", "offset": 3})]
    assert pieces.text == "onetwo"
    assert pieces.waiting_bytes == 0


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.booleans(), st.booleans())))
def test_the_texts_of_the_log_are_the_answer(said: list[tuple[str, bool, bool]]) -> None:
    pieces, entries = Pieces(RUN), list[Entry]()
    for words, is_thought, take in said:
        pieces.add(Thought(words) if is_thought else Text(words))
        if take:
            entries += pieces.take()
    entries += pieces.take()

    found = ""
    for type, body in bodies(tuple(entries)):
        if type == RUN_TEXT:
            assert body["offset"] == len(found)
            found += body["text"]
    assert found == pieces.text == "".join(words for words, is_thought, _ in said if not is_thought)


def test_a_long_text_is_several_rows() -> None:
    words = "é" * (2 * TEXT_MAX_CHARS + 1)

    entries = bodies(taken(Text(words)))

    assert [body["offset"] for _, body in entries] == [0, TEXT_MAX_CHARS, 2 * TEXT_MAX_CHARS]
    assert "".join(body["text"] for _, body in entries) == words


def test_a_tool_s_result_says_what_was_called_with_what_and_for_how_long() -> None:
    call, result = taken(ToolCall("1", "search", {"q": "x"}), ToolResult("1", ["found"]))

    assert bodies((call, result)) == [
        (RUN_TOOL_CALL, {"id": "1", "name": "search", "arguments": {"q": "x"}}),
        (
            RUN_TOOL_RESULT,
            {"id": "1", "name": "search", "arguments": {"q": "x"}, "output": ["found"], "is_error": False},
        ),
    ]
    assert call.action is None
    assert result.action == CALL_TOOL
    assert result.duration_us is not None
    assert result.duration_us >= 0


def test_a_result_without_its_call_is_kept() -> None:
    ((type, body),) = bodies(taken(ToolResult("9", "late", is_error=True)))

    assert (type, body["name"], body["output"], body["is_error"]) == (RUN_TOOL_RESULT, None, "late", True)


def test_calls_that_never_end_are_forgotten_in_the_end() -> None:
    calls = [ToolCall(str(number), "t") for number in range(CALLS_MAX + 1)]

    results = bodies(taken(*calls, ToolResult("0"), ToolResult("1")))[-2:]

    assert [body["name"] for _, body in results] == [None, "t"]


def test_pieces_of_different_kinds_keep_their_order() -> None:
    entries = taken(Text("a"), ToolCall("1", "t"), Text("b"), ToolResult("1"), Thought("c"))

    assert [entry.type for entry in entries] == [RUN_TEXT, RUN_TOOL_CALL, RUN_TEXT, RUN_TOOL_RESULT, RUN_THOUGHT]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (2**200, 2**200),
        (nested(NESTING_MAX - 1), nested(NESTING_MAX - 1)),
        ("nul \0", "nul \0"),
    ],
    ids=["NaN", "infinity", "huge", "deep", "nul"],
)
def test_what_json_can_say_somehow_is_kept(value: Any, kept: Any) -> None:
    ((_, body),) = bodies(taken(ToolCall("1", "t", value)))

    assert body["arguments"] == kept


@pytest.mark.parametrize(
    "value",
    ["\ud800", {"\udc00": 1}, nested(NESTING_MAX + 1), nested(100_000), {"x": object()}, 10**5000],
    ids=["half a surrogate", "as a name", "too deep", "far too deep", "no JSON", "too many digits"],
)
@pytest.mark.parametrize("make", [lambda value: ToolCall("1", "t", value), lambda value: ToolResult("1", value)])
def test_what_no_log_can_hold_is_the_agent_s_failure(make: Any, value: Any) -> None:
    pieces = Pieces(RUN)
    pieces.add(Text("before"))

    with pytest.raises(AgentError) as caught:
        pieces.add(make(value))

    assert caught.value.code == BAD_OUTPUT
    assert bodies(pieces.take()) == [(RUN_TEXT, {"text": "before", "offset": 0})], "what was said before is kept"


def test_half_a_surrogate_in_text_stands_for_nothing() -> None:
    assert bodies(taken(Text("a\ud800b"))) == [(RUN_TEXT, {"text": "a?b", "offset": 0})]


def test_a_large_result_is_shortened() -> None:
    (_, call), (_, result) = bodies(
        taken(ToolCall("1", "t", ["y" * PIECE_MAX_BYTES]), ToolResult("1", "x" * PIECE_MAX_BYTES))
    )

    assert call["arguments"]["bytes"] == PIECE_MAX_BYTES + 4
    assert call["arguments"]["shortened"].startswith('["yyy')
    assert result["output"]["bytes"] == PIECE_MAX_BYTES + 2
    assert len(msgspec.json.encode(result)) <= PIECE_MAX_BYTES


def test_a_tool_with_an_endless_name_is_refused() -> None:
    with pytest.raises(AgentError) as caught:
        taken(ToolCall("1", "n" * PIECE_MAX_BYTES))

    assert (caught.value.code, caught.value.permanent) == (TOO_LARGE, True)


@pytest.mark.parametrize("words", ["x" * 1000, "é" * 500, "\U0001f600" * 250])
@pytest.mark.parametrize("kind", [Text, Thought])
def test_an_answer_has_a_limit_in_bytes(kind: type[Text] | type[Thought], words: str) -> None:
    pieces = Pieces(RUN)
    for _ in range(OUTPUT_MAX_BYTES // 1000):
        pieces.add(kind(words))

    with pytest.raises(AgentError) as caught:
        pieces.add(kind(words))

    assert (caught.value.code, caught.value.permanent) == (TOO_LARGE, True)


def test_an_agent_s_pieces_have_a_limit() -> None:
    pieces = Pieces(RUN)
    for number in range(PIECES_MAX + 1):
        pieces.add(ToolCall(str(number), "t"))
        pieces.take()

    with pytest.raises(AgentError) as caught:
        pieces.add(ToolCall("more", "t"))

    assert (caught.value.code, caught.value.permanent) == (TOO_LARGE, True)


def test_words_that_are_nothing_are_something() -> None:
    silent, empty = Pieces(RUN), Pieces(RUN)

    empty.add(Text(""))

    assert (silent.nothing, empty.nothing) == (True, False)
    assert empty.take() == ()
