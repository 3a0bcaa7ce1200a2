"""The `acp` runner with a real agent, made with the protocol's public package, and with programs that are none."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest

from sessiond.core.message import Content, Role
from sessiond.core.run import Answer, Ask, Choice, Piece, Text, Thought, ToolCall, ToolResult, Usage
from sessiond.runners import acp, jsonrpc
from sessiond.runners.runner import (
    AGENT_FAILED,
    BAD_OUTPUT,
    LINE_MAX_BYTES,
    NOT_CONFIGURED,
    TOO_LARGE,
    AgentError,
    Reply,
    find_runner,
)
from tests.runners.briefs import make_brief, read_all

AGENT: Final = [sys.executable, str(Path(__file__).parent / "agents" / "acp_agent.py")]
CLOSED_SECONDS: Final = 2.0  # what a cancelled run may take

Pieces = AsyncGenerator[Piece, Reply]


@pytest.fixture(autouse=True)
async def nothing_left(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """No test leaves a task or a word in the log behind."""
    caplog.set_level(logging.WARNING)
    yield
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert caplog.messages == []


def _run(said: Content | None, before: list[tuple[Role, Content]] | None = None, **options: Any) -> Pieces:
    return acp.run(make_brief({"command": AGENT} | options, runner="acp", said=said, before=before))


def _shell(script: str) -> Pieces:
    return _run("hello", command=["sh", "-c", script])


def _lines(*lines: str) -> Pieces:
    """Run a program that says this, whatever it is told, and then nothing."""
    return _shell(f"printf '%s\\n' {shlex.join(lines)}; exec sleep 600")


def _update(kind: str, **update: Any) -> str:
    params = {"sessionId": "one", "update": {"sessionUpdate": kind} | update}
    return json.dumps({"method": "session/update", "params": params})


async def _fail(pieces: Pieces) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await read_all(pieces)
    return caught.value


def _spoken(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, Text))


def _count(file: Path) -> int:
    return int(file.read_text() or 0) if file.exists() else 0


def _alive(pid: str) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_runner_is_found() -> None:
    assert find_runner("acp") is acp.run


async def test_what_an_agent_does_comes_as_pieces_in_order() -> None:
    assert await read_all(_run("stream")) == [
        Thought("Let me look. "),
        Thought("\n- look\n- tell\n"),
        Text("One "),
        Text("moment."),
        ToolCall("call-1", name="Read a.txt", arguments={"path": "a.txt"}),
        ToolCall("call-2", name="Fetch"),
        ToolResult("call-2", output="no network", is_error=True),
        ToolResult("call-1", output={"lines": ["a"]}),
        Text("\n\nIt says a."),
        Usage(prompt_tokens=100, completion_tokens=50),
    ]


async def test_an_agent_is_told_the_conversation_so_far() -> None:
    before: list[tuple[Role, Content]] = [(Role.USER, "I am Ada."), (Role.ASSISTANT, [{"type": "text", "text": "Hi."}])]

    pieces = await read_all(_run("Who am I?", before))

    assert _spoken(pieces) == (
        'The conversation so far:\n\n<message role="user">\nI am Ada.\n</message>\n\n'
        '<message role="assistant">\nHi.\n</message>\n\nWhat is said now:\nWho am I?'
    )


async def test_parts_that_are_no_text_are_told_as_json() -> None:
    parts: Content = [{"type": "text", "text": "See"}, {"type": "image", "url": "a.png"}, {"text": "this"}]

    assert _spoken(await read_all(_run(parts))) == 'See\n{"type":"image","url":"a.png"}\nthis'


async def test_an_agent_is_told_to_go_on_when_nothing_was_said() -> None:
    assert _spoken(await read_all(_run(None))) == "Go on."


async def test_an_agent_works_in_a_folder_that_is_gone_afterwards(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with aclosing(_run("wait")) as pieces:
        assert await anext(pieces) == Text("working")
        assert len(os.listdir(tmp_path)) == 1

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("permissions", "outcome"), [("allow", "yes"), ("deny", "no")], ids=["the mildest allowing", "the mildest refusing"]
)
async def test_a_policy_answers_for_everybody(permissions: str, outcome: str) -> None:
    assert await read_all(_run("permission", permissions=permissions)) == [
        ToolCall("call-1", name="Delete a.txt", arguments={"path": "a.txt"}),
        Text(f"outcome {outcome}"),
    ]


async def test_what_cannot_be_refused_is_cancelled_and_the_agent_may_stop_on_it() -> None:
    pieces = await read_all(_run("unrefusable", permissions="deny"))

    assert [type(piece) for piece in pieces] == [ToolCall]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(option_id="no"), "no"),
        (Answer(option_id="always"), "always"),
        (Answer(option_id="perhaps"), "cancelled"),
        (Answer(content="why?"), "cancelled"),
    ],
)
async def test_who_watches_is_asked_and_answers(answer: Answer, outcome: str) -> None:
    call, ask, text = await read_all(_run("permission"), answer)

    assert isinstance(call, ToolCall)
    assert ask == Ask(
        title="Delete a.txt",
        options=[Choice("always", "Always allow"), Choice("yes", "Allow"), Choice("no", "Reject")],
        detail={"toolCallId": "call-1", "title": "Delete a.txt", "status": "pending", "rawInput": {"path": "a.txt"}},
    )
    assert text == Text(f"outcome {outcome}")


async def test_several_questions_at_once_are_asked_one_after_the_other() -> None:
    answers = [Answer(option_id=chosen) for chosen in ("yes", "no", "always")]

    pieces = await read_all(_run("permissions 3"), *answers)

    assert [piece.detail["toolCallId"] for piece in pieces if isinstance(piece, Ask)] == ["call-1", "call-2", "call-3"]
    assert _spoken(pieces) == "outcomes yes no always"


async def test_a_cancelled_agent_is_told_and_ends_its_turn(tmp_path: Path) -> None:
    async with aclosing(_run("wait", cwd=str(tmp_path))) as pieces:
        assert await anext(pieces) == Text("working")

    assert (tmp_path / "cancelled").exists()


async def test_a_question_that_is_open_when_the_run_is_cancelled_is_answered_so(tmp_path: Path) -> None:
    async with aclosing(_run("held", cwd=str(tmp_path))) as pieces:
        assert isinstance(await anext(pieces), ToolCall)
        assert isinstance(await anext(pieces), Ask)

    assert (tmp_path / "outcome").read_text() == "cancelled"


async def test_cancelling_the_task_that_waits_for_a_piece_tells_the_agent_too(tmp_path: Path) -> None:
    working = asyncio.Event()

    async def read() -> None:
        async with aclosing(_run("wait", cwd=str(tmp_path))) as pieces:
            async for _ in pieces:
                working.set()

    task = asyncio.create_task(read())
    await working.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (tmp_path / "cancelled").exists()


async def test_an_agent_that_hears_nothing_is_gone_in_time_with_its_children() -> None:
    async with aclosing(_run("hang")) as pieces:
        piece = await anext(pieces)
        assert isinstance(piece, Text)
        began = monotonic()

    assert monotonic() - began < CLOSED_SECONDS
    assert not any(_alive(pid) for pid in piece.text.split()[1:])


async def test_an_agent_that_does_not_start_is_gone_when_cancelled() -> None:
    async with asyncio.timeout(CLOSED_SECONDS + 1):
        task = asyncio.create_task(read_all(_shell("exec sleep 600")))
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_agent_that_says_more_than_is_read_waits(tmp_path: Path) -> None:
    async with aclosing(_run("flood", cwd=str(tmp_path))) as pieces:
        await anext(pieces)
        said, before = 0, -1
        while not said or said != before:  # until it no longer gets on
            await asyncio.sleep(0.3)
            said, before = _count(tmp_path / "said"), said

    assert said * 1_000 < 4 * LINE_MAX_BYTES


async def test_an_agent_that_dies_says_how() -> None:
    failed = await _fail(_run("die"))

    assert (failed.code, failed.permanent) == (AGENT_FAILED, False)
    assert failed.message == "the agent ended with exit code 3 before it was done: it was all too much"


async def test_the_agents_own_error_is_told() -> None:
    failed = await _fail(_run("fail out of credit"))

    assert (failed.code, failed.permanent) == (AGENT_FAILED, False)
    assert failed.message == "the agent says: Internal error: out of credit (-32603)"


@pytest.mark.parametrize("options", [{"env": {"ACP_LOGGED_OUT": "1"}}, {}], ids=["at the start", "later"])
async def test_an_agent_that_is_not_logged_in_says_what_to_do(options: dict[str, Any]) -> None:
    failed = await _fail(_run("logout", **options))

    assert (failed.code, failed.permanent) == (NOT_CONFIGURED, True)
    assert failed.message.startswith("log the agent in on the worker's machine")


async def test_another_version_of_the_protocol_is_not_spoken() -> None:
    failed = await _fail(_run("hello", env={"ACP_VERSION": "7"}))

    assert (failed.code, failed.permanent) == (NOT_CONFIGURED, True)
    assert failed.message == "the agent speaks version 7 of its protocol, not 1"


@pytest.mark.parametrize(
    ("reason", "permanent"), [("refusal", True), ("max_turn_requests", False), ("cancelled", False)]
)
async def test_a_turn_that_is_not_done_fails_and_its_tokens_count(reason: str, permanent: bool) -> None:
    pieces = _run(f"stop {reason}")

    assert await anext(pieces) == Usage(prompt_tokens=3, completion_tokens=2)
    assert (await _fail(pieces)).permanent == permanent


async def test_an_answer_cut_short_by_its_limit_is_an_answer() -> None:
    assert await read_all(_run("stop max_tokens")) == [Usage(prompt_tokens=3, completion_tokens=2)]


async def test_what_is_not_offered_is_refused_and_the_agent_goes_on() -> None:
    assert _spoken(await read_all(_run("files /etc/hostname"))) == "Method not found"


async def test_a_few_lines_that_are_no_messages_are_passed_over() -> None:
    assert _spoken(await read_all(_run(f"chatter {jsonrpc.STRAY_MAX}"))) == "still here"


async def test_a_flood_of_lines_that_are_no_messages_is_an_error() -> None:
    failed = await _fail(_run(f"chatter {jsonrpc.STRAY_MAX + 1}"))

    assert (failed.code, failed.message) == (
        BAD_OUTPUT,
        "the agent writes what is not its protocol: a warning of some library",
    )


async def test_a_line_that_is_too_long_is_an_error() -> None:
    assert (await _fail(_run(f"big {LINE_MAX_BYTES}"))).code == TOO_LARGE


@pytest.mark.parametrize("said", ["[" * 100_000, "nonsense", r"\377\376", "{}", '{"id": {}}', r'{"id": "\\ud800"}'])
async def test_a_program_that_is_no_such_agent_is_an_error(said: str) -> None:
    failed = await _fail(_shell(f"printf '{said}\\n'"))

    assert failed.code == BAD_OUTPUT
    assert failed.message.startswith("the agent ended with exit code 0 before it was done: ")


async def test_a_program_that_says_nothing_does_not_hold_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acp, "START_SECONDS", 0.1)

    silent, talking = await _fail(_shell("exec sleep 600")), await _fail(_shell("echo Welcome.; exec sleep 600"))

    assert silent.code == AGENT_FAILED
    assert silent.message.startswith("the agent did not open a session within 0.1 s")
    assert (talking.code, talking.message[-9:]) == (BAD_OUTPUT, " Welcome.")


async def test_a_program_that_closes_its_output_and_stays_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc, "END_SECONDS", 0.1)

    failed = await _fail(_shell("exec >&-; exec sleep 600"))

    assert (failed.code, failed.message) == (AGENT_FAILED, "the agent closed its output before it was done")


HELLO: Final = '{"id":1,"result":{"protocolVersion":1}}'
DONE: Final = '{"id":3,"result":{"stopReason":"end_turn"}}'
DIFF: Final = {"type": "diff", "path": "/a.txt", "oldText": "a", "newText": "b"}
OPENED: Final = '{"id":2,"result":{"sessionId":"one"}}'


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (['{"id":1,"result":7}'], "the agent's answer to initialize is not as its protocol says: "),
        ([HELLO, '{"id":2,"result":{}}'], "the agent's answer to session/new is not as its protocol says: sessionId: "),
        ([HELLO, OPENED, '{"id":3,"result":{"stopReason":"bored"}}'], "the agent's answer to session/prompt is not as"),
        (
            [HELLO, OPENED, '{"method":"session/update","params":{"update":{"sessionUpdate":"agent_message_chunk"}}}'],
            "the agent's agent_message_chunk is not as its protocol says: content: ",
        ),
        (
            [HELLO, OPENED, '{"id":9,"method":"session/request_permission","params":[]}'],
            "the agent's session/request_permission is not as its protocol says: ",
        ),
    ],
)
async def test_what_is_not_as_the_protocol_says_is_named(said: list[str], message: str) -> None:
    failed = await _fail(_lines(*said))

    assert failed.code == BAD_OUTPUT
    assert failed.message.startswith(message)


async def test_what_is_not_known_is_passed_over() -> None:
    said = [
        '{"method":"hello"}',
        HELLO,
        '{"id":7,"method":"fs/read_text_file"}',
        OPENED,
        '{"method":"session/update","params":{"update":{"sessionUpdate":"mood","mood":"fine"}}}',
        '{"method":"session/update","params":{"update":null}}',
        '{"method":"session/update"}',
        '{"id":"other","result":null}',
        "",
        DONE,
    ]

    assert await read_all(_lines(*said)) == []


async def test_an_answer_that_is_no_text_is_named() -> None:
    blocks = [
        {"type": "image", "data": "AA==", "mimeType": "image/png"},
        {"type": "resource_link", "name": "a", "uri": "file:///a.txt"},
        {"type": "resource", "resource": {"uri": "file:///b.txt", "text": "b"}},
        {"type": "text", "text": ""},
    ]

    pieces = await read_all(
        _lines(HELLO, OPENED, *(_update("agent_message_chunk", content=one) for one in blocks), DONE)
    )

    assert pieces == [Text("[image]"), Text("file:///a.txt"), Text("b")]


async def test_messages_do_not_run_together() -> None:
    chunks = [("a", "One"), ("a", " and"), ("b", "two"), (None, ".")]

    said = [_update("agent_message_chunk", messageId=of, content={"type": "text", "text": text}) for of, text in chunks]

    assert _spoken(await read_all(_lines(HELLO, OPENED, *said, DONE))) == "One and\n\ntwo."


async def test_a_call_whose_arguments_never_come_is_told_before_the_next_word() -> None:
    said = [
        _update("tool_call", toolCallId="a", title="Look", status="pending"),
        _update("agent_thought_chunk", content={"type": "text", "text": "Well."}),
        _update("tool_call", toolCallId="b", title="Think", rawInput={}),
        _update("tool_call", toolCallId="c", title="Edit", status="completed", content=[DIFF]),
    ]

    assert await read_all(_lines(HELLO, OPENED, *said, DONE)) == [
        ToolCall("a", name="Look"),
        Thought("Well."),
        ToolCall("c", name="Edit"),
        ToolResult("c", output=[DIFF]),
        ToolCall("b", name="Think", arguments={}),
    ]


async def test_a_question_that_cannot_be_kept_is_an_error() -> None:
    deep = "[" * 500 + "]" * 500
    call = f'{{"toolCallId":"a","title":"Look","rawInput":{deep}}}'

    failed = await _fail(
        _lines(
            HELLO,
            OPENED,
            f'{{"id":9,"method":"session/request_permission","params":{{"sessionId":"one","options":[],"toolCall":{call}}}}}',
        )
    )

    assert failed.code == BAD_OUTPUT
    assert failed.message.startswith("what the agent says cannot be kept: ")


async def test_the_last_line_may_have_no_end() -> None:
    assert await read_all(_shell(f"printf '%s\n' {shlex.join([HELLO, OPENED])}; printf %s {shlex.quote(DONE)}")) == []


@pytest.mark.parametrize("before", [[], [HELLO, OPENED]], ids=["at the start", "later"])
async def test_an_error_about_nothing_in_particular_ends_the_attempt(before: list[str]) -> None:
    said = [*before, '{"id":null,"error":{"code":-32700,"message":"Parse error"}}']

    failed = await _fail(_lines(*said))

    assert (failed.code, failed.message) == (AGENT_FAILED, "the agent says: Parse error (-32700)")


async def test_a_folder_must_be_given_as_a_whole_path() -> None:
    failed = await _fail(_run("hello", cwd="project"))

    assert (failed.code, failed.permanent) == (NOT_CONFIGURED, True)
    assert failed.message == "options.cwd must be an absolute path, not 'project'"


async def test_a_program_that_is_not_there_is_named() -> None:
    failed = await _fail(_run("hello", command=["no-such-agent"]))

    assert (failed.code, failed.permanent) == (NOT_CONFIGURED, True)
    assert "no-such-agent" in failed.message
