"""Programs as agents: what they are told, what they may say, and how they end."""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from sessiond.core.message import Role
from sessiond.core.run import (
    Answer,
    Ask,
    Brief,
    Choice,
    Piece,
    Recorded,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    Usage,
    Waited,
)
from sessiond.core.wait import WaitStatus, WaitType
from sessiond.runners.command import run
from sessiond.runners.recording import Recording
from sessiond.runners.runner import AGENT_FAILED, BAD_OUTPUT, TOO_LARGE, AgentError
from tests.docs.pages import ROOT, blocks
from tests.runners.briefs import make_brief, read_all
from tests.runners.loops import AGENTS, LOOPS, Loop, alive, make_loop

PAGE: Final = ROOT / "docs" / "guides" / "command-agents.md"


@pytest.fixture(params=LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Loop:
    return make_loop(request.param)


def shell(script: str, **options: Any) -> Brief:
    return make_brief({"command": ["sh", "-c", script], **options})


def prints(*lines: str) -> Brief:
    return make_brief({"command": ["printf", r"%s\n", *lines]})


def fails(on_loop: Loop, brief: Brief) -> AgentError:
    with pytest.raises(AgentError) as caught:
        on_loop(read_all(run(brief)))
    return caught.value


@pytest.mark.parametrize(
    ("line", "piece"),
    [
        ('{"type": "text", "text": "hé\\n"}', Text("hé\n")),
        ('{"type": "thought", "text": "hm"}', Thought("hm")),
        (
            '{"type": "tool_call", "id": "1", "name": "search", "arguments": {"q": ["a"]}}',
            ToolCall("1", "search", {"q": ["a"]}),
        ),
        ('{"type": "tool_call", "id": "1", "name": "now"}', ToolCall("1", "now")),
        ('{"type": "tool_result", "id": "1", "output": [1, null]}', ToolResult("1", [1, None])),
        ('{"type": "tool_result", "id": "1", "output": "no", "is_error": true}', ToolResult("1", "no", is_error=True)),
        ('{"type": "usage", "prompt_tokens": 3, "completion_tokens": 4}', Usage(3, 4)),
        ('{"type": "text", "text": "more", "written": "by a newer agent"}', Text("more")),
        (' {"text": "spaced", "type": "text"}\r', Text("spaced")),
    ],
)
def test_a_line_is_a_piece(on_loop: Loop, line: str, piece: Piece) -> None:
    assert on_loop(read_all(run(prints("", line, "  ")))) == [piece]


def test_the_last_line_needs_no_end(on_loop: Loop) -> None:
    pieces = on_loop(read_all(run(shell("""printf '{"type": "text", "text": "hi"}'"""))))

    assert pieces == [Text("hi")]


def test_an_agent_gets_its_brief_on_one_line_and_the_answer_to_what_it_asks(on_loop: Loop) -> None:
    brief = make_brief(
        {"command": [sys.executable, str(AGENTS / "asks.py")]},
        said="go",
        before=[(Role.USER, "hello"), (Role.ASSISTANT, [{"type": "text", "text": "hi"}])],
        prompt="be brief",
        data={"lang": "en"},
    )
    brief = msgspec.structs.replace(brief, input=msgspec.Raw(b'[{"type":\r\n"text", "text": "a\\nb"}]'))

    told, ask, answered = on_loop(read_all(run(brief), Answer(option_id="yes", content={"why": "é"})))

    assert isinstance(told, Text)
    assert isinstance(answered, Text)
    assert told.text.endswith("]}\n")
    assert json.loads(told.text) == {
        "type": "brief",
        "run": {"id": brief.run_id, "attempt": 1},
        "agent": {"id": "tested"},
        "session": {
            "id": "chat",
            "user_id": None,
            "task_id": None,
            "name": None,
            "prompt": "be brief",
            "metadata": {},
            "data": {"lang": "en"},
        },
        "input": [{"type": "text", "text": "a\nb"}],
        "messages": [
            {"id": "msg_2.chat", "role": "user", "content": "hello", "metadata": {}},
            {"id": "msg_3.chat", "role": "assistant", "content": [{"type": "text", "text": "hi"}], "metadata": {}},
            {"id": "msg_4.chat", "role": "user", "content": "go", "metadata": {}},
        ],
    }
    assert ask == Ask("Sure?", [Choice("yes", "Yes")], {"path": "a.txt"})
    assert json.loads(answered.text) == {"type": "answer", "option_id": "yes", "content": {"why": "é"}}


def test_a_question_to_which_the_program_does_not_listen_is_no_failure(on_loop: Loop) -> None:
    script = """exec <&-; for n in 1 2 3 4 5 6 7 8; do echo '{"type": "ask", "title": "well?"}'; sleep 0.01; done"""

    pieces = on_loop(read_all(run(shell(script)), *[Answer(content="x" * 100_000)] * 8))

    assert pieces == [Ask("well?")] * 8


def test_a_program_need_not_read_its_brief(on_loop: Loop) -> None:
    brief = make_brief({"command": """echo '{"type": "text", "text": "hi"}'"""}, said="x" * 1_000_000)

    assert on_loop(read_all(run(brief))) == [Text("hi")]


def test_a_program_may_say_much_before_it_reads_much(on_loop: Loop) -> None:
    piece = {"type": "text", "text": "x" * 1_000}
    script = (
        f"import sys\nfor n in range(900): sys.stdout.write({json.dumps(piece)!r} + chr(10))\n"
        'sys.stdout.write(\'{"type": "text", "text": "%s"}\' % len(sys.stdin.readline()))'
    )
    brief = make_brief({"command": [sys.executable, "-c", script]}, said="x" * 1_000_000)

    pieces = on_loop(read_all(run(brief)))

    assert pieces[:-1] == [Text("x" * 1_000)] * 900
    last = pieces[-1]
    assert isinstance(last, Text)
    assert int(last.text) > 2_000_000  # the input, and the message that it is


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Loading model...", "Loading model..."),
        ('{"type": "song", "text": "la"}', '{"type": "song", "text": "la"}'),
        ('{"type": "text"}', '{"type": "text"}'),
        ('{"text": "of no type"}', "of no type"),
        ("[1, 2]", "[1, 2]"),
        ("null", "null"),
        ('{"type": "usage", "prompt_tokens": -1}', "-1"),
        ("[" * 100_000, "[[[["),
    ],
)
def test_a_line_that_is_no_piece_fails_the_attempt_for_good_and_is_named(on_loop: Loop, line: str, shown: str) -> None:
    error = fails(on_loop, prints(line))

    assert (error.code, error.permanent) == (BAD_OUTPUT, True)
    assert shown in error.message
    assert len(error.message) < 600


def test_bytes_that_are_no_text_fail_the_attempt_for_good(on_loop: Loop) -> None:
    error = fails(on_loop, shell(r"""printf '{"type": "text", "text": "\377\001"}\n'"""))

    assert (error.code, error.permanent) == (BAD_OUTPUT, True)
    assert error.message.isprintable()


def test_a_very_long_line_fails_the_attempt_and_is_not_kept(on_loop: Loop) -> None:
    tracemalloc.start()
    try:
        error = fails(on_loop, shell("head -c 10000000 /dev/zero | tr '\\0' x; echo"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (error.code, error.permanent) == (TOO_LARGE, True)
    assert error.message == "the program printed a line of more than 1048576 bytes"
    assert peak < 8_000_000


@pytest.mark.parametrize("protocol", ["json", "text"])
def test_a_program_that_says_nothing_ends_without_a_piece(on_loop: Loop, protocol: str) -> None:
    assert on_loop(read_all(run(make_brief({"command": "true", "protocol": protocol})))) == []


@pytest.mark.parametrize("retry", [True, False])
def test_an_agent_may_say_that_it_failed(on_loop: Loop, retry: bool) -> None:
    line = json.dumps({"type": "error", "message": "the model is overloaded", "retry": retry})

    error = fails(on_loop, prints(line))

    assert (error.code, error.message, error.permanent) == (AGENT_FAILED, "the model is overloaded", not retry)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'no such model' >&2; exit 1", "the program ended with exit code 1: no such model"),
        ("exit 3", "the program ended with exit code 3"),
        ("kill -9 $$", "the program was killed by SIGKILL"),
        ("kill -40 $$", "the program was killed by signal 40"),
        # Cut off in the middle of a line: that is not what is wrong with it.
        ("""printf '{"type": "te'; kill -9 $$""", "the program was killed by SIGKILL"),
        (
            """printf '{"type": "te'; echo 'out of memory' >&2; exit 1""",
            "the program ended with exit code 1: out of memory",
        ),
    ],
)
def test_a_program_that_does_not_end_well_may_be_tried_again(on_loop: Loop, script: str, message: str) -> None:
    error = fails(on_loop, shell(script))

    assert (error.code, error.message, error.permanent) == (AGENT_FAILED, message, False)


def test_what_was_said_before_the_end_was_said(on_loop: Loop) -> None:
    said = list[Piece]()

    async def main() -> None:
        async with aclosing(run(shell("""echo '{"type": "text", "text": "so far"}'; exit 1"""))) as pieces:
            async for piece in pieces:
                said.append(piece)

    with pytest.raises(AgentError):
        on_loop(main())

    assert said == [Text("so far")]


def test_a_program_that_only_closed_its_output_has_ended_well(on_loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessiond.runners.command.END_SECONDS", 0.1)

    pieces = on_loop(read_all(run(shell("""echo '{"type": "text", "text": "hi"}'; exec >&-; sleep 60"""))))

    assert pieces == [Text("hi")]


def test_a_run_that_is_closed_ends_its_agent_and_all_its_children_in_two_seconds(on_loop: Loop) -> None:
    async def main() -> list[int]:
        pieces = run(make_brief({"command": [sys.executable, str(AGENTS / "family.py")]}))
        async with aclosing(pieces):
            first = await anext(pieces)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert isinstance(first, Text)
        return [int(pid) for pid in first.text.split()]

    pids = on_loop(main())

    assert len(pids) == 4
    assert not alive(pids)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("héllo\nworld\n", "héllo\nworld"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ("", ""),
        (None, ""),
    ],
)
def test_in_text_the_input_goes_in_and_the_output_comes_out(on_loop: Loop, said: Any, heard: str) -> None:
    pieces = on_loop(read_all(run(make_brief({"command": "cat", "protocol": "text"}, said=said))))

    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) == heard


def test_text_comes_as_it_is_said_and_may_be_cut_anywhere(on_loop: Loop) -> None:
    script = r"printf 'h\303'; sleep 0.1; printf '\251!\n'; sleep 0.1; printf '\n\nbye\377\303'"

    pieces = on_loop(read_all(run(shell(script, protocol="text"))))

    assert len(pieces) > 2
    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) == "hé!\n\n\nbye��"


@pytest.mark.parametrize("script", ["yes", "yes ''"])
def test_text_without_end_fails_the_attempt(on_loop: Loop, script: str) -> None:
    assert fails(on_loop, shell(script, protocol="text")).code == TOO_LARGE


def test_pieces_without_end_fail_the_attempt(on_loop: Loop) -> None:
    line = json.dumps({"type": "text", "text": "x" * 1_000})

    assert fails(on_loop, make_brief({"command": ["yes", line]})).code == TOO_LARGE


def test_a_program_that_fails_in_text_fails_the_attempt(on_loop: Loop) -> None:
    error = fails(on_loop, shell("echo half; echo 'disk full' >&2; exit 28", protocol="text"))

    assert (error.code, error.message) == (AGENT_FAILED, "the program ended with exit code 28: disk full")


def test_the_page_shows_a_brief_as_it_is(on_loop: Loop) -> None:
    shown = [json.loads(block.text) for block in blocks(PAGE) if block.language == "jsonc"]
    brief = make_brief(
        {"command": [sys.executable, str(AGENTS / "asks.py")]},
        run_id="run_1",
        session_id="talk",
        said="And you?",
        before=[(Role.USER, "Hello!"), (Role.ASSISTANT, "You said: Hello!")],
        metadata={"city": "Oslo"},
    )

    told, _, answered = on_loop(read_all(run(brief), Answer(option_id="yes")))

    assert isinstance(told, Text)
    assert isinstance(answered, Text)
    assert shown == [json.loads(told.text), json.loads(answered.text)]


def test_the_page_shows_each_piece(on_loop: Loop) -> None:
    pieces, failure = [block.text.splitlines() for block in blocks(PAGE) if block.language == "jsonl"]

    found = on_loop(read_all(run(prints(*pieces)), Answer(option_id="yes")))
    error = fails(on_loop, prints(*failure))

    assert [type(piece) for piece in found] == [Text, Thought, ToolCall, ToolResult, Usage, Ask]
    assert (error.message, error.permanent) == ("the model is overloaded", False)


def test_the_example_in_python_says_how_often_it_was_spoken_to(on_loop: Loop) -> None:
    brief = make_brief(
        {"command": [sys.executable, str(ROOT / "examples" / "agents" / "counting.py")]},
        said="and you?",
        before=[(Role.USER, "hello"), (Role.ASSISTANT, "hi")],
    )

    pieces = on_loop(read_all(run(brief)))

    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) == (
        "That was message 2 of this conversation. You said: and you?"
    )


def test_the_example_in_python_asks_before_it_forgets(on_loop: Loop) -> None:
    brief = make_brief(
        {"command": [sys.executable, str(ROOT / "examples" / "agents" / "counting.py")]}, said="forget it"
    )

    pieces = on_loop(read_all(run(brief), Answer(option_id="no")))

    assert pieces == [
        Ask("Forget this conversation?", [Choice("yes", "Forget it"), Choice("no", "Keep it")]),
        Text("Then I keep it."),
    ]


def test_the_example_in_shell_answers_in_capitals(on_loop: Loop) -> None:
    example = Path("examples") / "agents" / "shout.sh"

    pieces = on_loop(
        read_all(run(make_brief({"command": ["sh", str(example)], "protocol": "text", "cwd": str(ROOT)}, said="hi")))
    )

    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) == "HI!"


def test_in_a_simulation_the_answers_of_tools_come_in(on_loop: Loop) -> None:
    script = r"""
read -r brief
echo '{"type":"tool_call","id":"a","name":"look_up","arguments":{"of":1}}'
read -r first
echo '{"type":"tool_call","id":"b","name":"other"}'
read -r second
printf '%s\n%s\n' "$first" "$second" | sed 's/"/\\"/g; s/.*/{"type":"text","text":"&"}/'
"""
    recording = Recording([Recorded(name="look_up", arguments={"of": 1}, output=["é"])])

    pieces = on_loop(read_all(run(shell(script)), recording=recording))

    told = [json.loads(piece.text) for piece in pieces if isinstance(piece, Text)]
    assert told == [
        {"type": "tool_result", "id": "a", "output": ["é"], "is_error": False},
        {
            "type": "tool_result",
            "id": "b",
            "output": "the recording has no answer of the tool 'other'",
            "is_error": True,
        },
    ]


def test_a_brief_says_what_is_simulated_and_what_was_waited_for(on_loop: Loop) -> None:
    waited = Waited(id="wait_1", type=WaitType.OTP, status=WaitStatus.COMPLETED, result=msgspec.Raw(b'{"value":"12"}'))
    brief = msgspec.structs.replace(
        shell(r"""read -r brief; printf '%s\n' "$brief" | sed 's/"/\\"/g; s/.*/{"type":"text","text":"&"}/'"""),
        recorded=[Recorded(name="look_up", arguments={"of": 1}, output=2)],
        waits=[waited],
    )

    (said,) = on_loop(read_all(run(msgspec.structs.replace(brief, input=None, messages=[]))))

    assert isinstance(said, Text)
    told = json.loads(said.text)
    assert told["recorded"] == [{"name": "look_up", "arguments": {"of": 1}, "output": 2, "is_error": False}]
    assert told["waits"] == [{"id": "wait_1", "type": "otp", "status": "completed", "result": {"value": "12"}}]
