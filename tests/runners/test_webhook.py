from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from sessiond.core.run import OUTPUT_MAX_BYTES, Piece, Text, Thought, ToolCall, ToolResult, Usage
from sessiond.runners import runner, webhook
from sessiond.runners.runner import (
    AGENT_FAILED,
    BAD_OUTPUT,
    LINE_MAX_BYTES,
    NOT_CONFIGURED,
    TOO_LARGE,
    UNREACHABLE,
    AgentError,
    find_runner,
)
from tests.runners.briefs import make_brief, read_all
from tests.runners.endpoints import Endpoint, Reply, closed_port, open_endpoint, raw, reply, stream

ROOT: Final = Path(__file__).parents[2]
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LINES: Final = "application/x-ndjson"


def _run(url: str, *, brief: dict[str, Any] | None = None, **options: Any) -> AsyncGenerator[Piece, runner.Reply]:
    return webhook.run(make_brief({"url": url, "secret": SECRET} | options, runner="webhook", **(brief or {})))


async def _ask(*replies: Reply, brief: dict[str, Any] | None = None, **options: Any) -> tuple[list[Piece], Endpoint]:
    async with open_endpoint(*replies) as endpoint:
        return await read_all(_run(f"{endpoint.url}/agent?token=hidden", brief=brief, **options)), endpoint


async def _fail(*replies: Reply, **options: Any) -> AgentError:
    with pytest.raises(AgentError) as failed:
        await _ask(*replies, **options)
    assert SECRET not in failed.value.message
    assert "hidden" not in failed.value.message
    return failed.value


def test_the_runner_is_found_by_its_name() -> None:
    assert find_runner("webhook") is webhook.run


async def test_the_brief_is_posted() -> None:
    _, endpoint = await _ask(reply('"ok"'), brief={"run_id": "run_1", "attempt": 2, "said": "hello"})

    (request,) = endpoint.requests
    assert (request.method, request.path) == ("POST", "/agent?token=hidden")
    assert request.headers["content-type"] == "application/json"
    brief = request.json()
    assert (brief["type"], brief["run"], brief["input"]) == ("brief", {"id": "run_1", "attempt": 2}, "hello")
    assert SECRET not in request.body.decode()


async def test_the_receiver_can_tell_who_sent_it_and_what_was_sent_before() -> None:
    _, endpoint = await _ask(reply('"ok"'), brief={"run_id": "run_1", "attempt": 2, "said": "grüß dich"})

    (request,) = endpoint.requests
    assert Webhook(SECRET).verify(request.body, request.headers) == request.json()
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body + b" ", request.headers)
    assert request.headers["webhook-id"] == "run_1-2"


async def test_the_secret_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", SECRET)

    async with open_endpoint(reply('"ok"')) as endpoint:
        options = {"url": endpoint.url, "secret_env": "THE_SECRET", "headers": {"X-Team": "blue", "Webhook-Id": "own"}}
        await read_all(webhook.run(make_brief(options, runner="webhook")))

    (request,) = endpoint.requests
    Webhook(SECRET).verify(request.body, request.headers)
    assert request.headers["x-team"] == "blue"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"secret": "whsec_"}, "no base64"),
        ({"secret": "whsec_a"}, "no base64"),
        ({"secret_env": "NO_SUCH_SECRET"}, "NO_SUCH_SECRET"),
        ({"secret": SECRET, "headers": {"x-a": "two\nlines"}}, "the header 'x-a' cannot be sent"),
        ({"secret": SECRET, "headers": {"Content-Length": "1"}}, "the header 'Content-Length' cannot be sent"),
        ({"secret": SECRET, "headers": {"x-ä": "b"}}, "the header 'x-ä' cannot be sent"),
        ({"secret": SECRET, "url": "http://127.0.0.1:99999/"}, "a port that cannot be"),
        ({"secret": SECRET, "url": "http://[::1/"}, "cannot be read as one"),
        ({"secret": SECRET, "url": "http:///path"}, "names no host"),
    ],
)
async def test_nothing_is_sent_unless_it_can_be_signed_and_sent(options: dict[str, Any], words: str) -> None:
    async with open_endpoint(reply('"ok"')) as endpoint:
        with pytest.raises(AgentError, match=words) as failed:
            await read_all(webhook.run(make_brief({"url": endpoint.url} | options, runner="webhook")))

    assert (failed.value.code, failed.value.permanent) == (NOT_CONFIGURED, True)
    assert endpoint.requests == []


@pytest.mark.parametrize(
    ("answer", "pieces"),
    [
        (reply('"hi"'), [Text("hi")]),
        (reply('{"output": "hi"}', kind="Application/JSON; charset=utf-8"), [Text("hi")]),
        (
            reply('{"output": "hi", "more": 1, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}'),
            [Text("hi"), Usage(3, 4)],
        ),
        (reply('{"output": ""}'), []),
        (reply("grüß dich", kind="text/plain"), [Text("grüß dich")]),
        (reply("", kind="text/plain"), []),
        (reply(""), []),
        (reply("", kind=None), []),
        (reply(status=204, kind=None), []),
    ],
)
async def test_an_answer_is_the_output(answer: Reply, pieces: list[Piece]) -> None:
    found, _ = await _ask(answer)

    assert found == pieces


async def test_text_is_passed_on_as_it_comes() -> None:
    found, _ = await _ask(stream(b"gr\xc3", b"\xbc\xc3\x9f", kind="text/plain"))

    assert "".join(piece.text for piece in found if isinstance(piece, Text)) == "grüß"


async def test_lines_are_pieces() -> None:
    lines = [
        {"type": "thought", "text": "hm"},
        {"type": "tool_call", "id": "1", "name": "now"},
        {"type": "tool_result", "id": "1", "output": 12},
        {"type": "text", "text": "noon"},
        {"type": "usage", "prompt_tokens": 3},
    ]

    found, _ = await _ask(stream("\n\r\n".join(map(json.dumps, lines)), kind=LINES))

    assert found == [Thought("hm"), ToolCall("1", "now"), ToolResult("1", 12), Text("noon"), Usage(3)]


async def test_a_line_is_passed_on_while_the_rest_is_still_to_come() -> None:
    async with (
        open_endpoint(stream('{"type": "text", "text": "first"}\n', kind=LINES, hang=True)) as endpoint,
        aclosing(_run(endpoint.url)) as pieces,
    ):
        assert await anext(pieces) == Text("first")
        assert not endpoint.left.is_set()


async def test_a_closed_runner_hangs_up() -> None:
    async with open_endpoint(stream('{"type": "text", "text": "first"}\n', kind=LINES, hang=True)) as endpoint:
        pieces = _run(endpoint.url)
        await anext(pieces)

        await pieces.aclose()

        async with asyncio.timeout(2):
            await endpoint.left.wait()


async def test_a_cancelled_runner_hangs_up() -> None:
    async with open_endpoint(stream(kind="text/plain", hang=True)) as endpoint:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await read_all(_run(endpoint.url))

        async with asyncio.timeout(2):
            await endpoint.left.wait()


@pytest.mark.parametrize(("retry", "permanent"), [(True, False), (False, True)])
async def test_an_agent_may_say_that_it_failed(retry: bool, permanent: bool) -> None:
    error = await _fail(stream(json.dumps({"type": "error", "message": "out of ink", "retry": retry}), kind=LINES))

    assert (error.code, error.message, error.permanent) == (AGENT_FAILED, "out of ink", permanent)


async def test_a_question_cannot_be_answered() -> None:
    error = await _fail(stream('{"type": "ask", "title": "May I?"}\n', kind=LINES))

    assert (error.code, error.permanent) == (BAD_OUTPUT, True)
    assert "a webhook cannot ask" in error.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply("<h1>hi</h1>", kind="text/html"), "got text/html"),
        (reply("hi", kind=None), "got no content type"),
        (reply('{"text": "hi"}'), 'got: {"text": "hi"}'),
        (reply('{"output": "hi"'), 'got: {"output": "hi"'),
        (reply("[" * 100_000), "[[[["),
        (reply(b"\xff", kind="text/plain"), "not UTF-8"),
        (reply(b"gr\xc3", kind="text/plain"), "not UTF-8"),
        (reply('{"output": "a", "usage": {"prompt_tokens": -1}}'), "-1 and 0 tokens"),
        (stream("Traceback (most\x07 recent call last)\n", kind=LINES), "'Traceback (most� recent call last)'"),
        (stream('{"type": "speech"}\n', kind=LINES), "each line must be a JSON object with a type: text"),
        (stream('{"type": "text"}\n', kind=LINES), "`text`"),
        (stream('{"type": "usage", "prompt_tokens": -1}\n', kind=LINES), "-1 and 0 tokens"),
    ],
)
async def test_garbage_is_shown(answer: Reply, words: str) -> None:
    error = await _fail(answer)

    assert (error.code, error.permanent) == (BAD_OUTPUT, True)
    assert words in error.message


@pytest.mark.parametrize(
    "answer",
    [
        reply(json.dumps({"output": "x" * OUTPUT_MAX_BYTES})),
        reply("x" * (OUTPUT_MAX_BYTES + 1), kind="text/plain"),
        stream(*['{"type": "text", "text": "' + "x" * 100_000 + '"}\n'] * 11, kind=LINES),
        stream(*["x" * 65_536] * (LINE_MAX_BYTES // 65_536 + 1), kind=LINES),
    ],
    ids=["JSON", "text", "lines", "line"],
)
async def test_an_answer_without_end_is_not_kept(answer: Reply) -> None:
    error = await _fail(answer)

    assert (error.code, error.permanent) == (TOO_LARGE, True)


@pytest.mark.parametrize(
    ("status", "code", "permanent"),
    [
        (400, AGENT_FAILED, True),
        (401, AGENT_FAILED, True),
        (404, AGENT_FAILED, True),
        (408, UNREACHABLE, False),
        (429, UNREACHABLE, False),
        (500, UNREACHABLE, False),
        (503, UNREACHABLE, False),
    ],
)
async def test_a_status_says_whether_to_try_again(status: int, code: str, permanent: bool) -> None:
    error = await _fail(reply(json.dumps({"detail": f"no {SECRET}"}), status=status))

    assert (error.code, error.permanent) == (code, permanent)
    assert f"status {status}" in error.message
    assert ("no ***" in error.message) == (status != 401)


async def test_a_redirect_is_not_followed() -> None:
    error = await _fail(reply(status=307, location="https://elsewhere.test/hidden"))

    assert (error.code, error.permanent) == (AGENT_FAILED, True)
    assert error.message.endswith("redirects to elsewhere.test, which is not followed")


async def test_an_endpoint_that_is_not_there_is_named() -> None:
    port = await closed_port()

    with pytest.raises(AgentError) as failed:
        await read_all(_run(f"http://127.0.0.1:{port}/hidden"))

    assert (failed.value.code, failed.value.permanent) == (UNREACHABLE, False)
    assert failed.value.message == f"cannot connect to 127.0.0.1:{port}: connection refused"


@pytest.mark.parametrize(
    "answer",
    [
        raw(b""),
        raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"),
        stream('{"type": "text", "text": "a"}\n', kind=LINES, whole=False),
    ],
    ids=["before it", "in its body", "between lines"],
)
async def test_an_answer_that_is_cut_off_may_be_tried_again(answer: Reply) -> None:
    error = await _fail(answer)

    assert (error.code, error.permanent) == (UNREACHABLE, False)
    assert "closed the connection" in error.message


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{await closed_port()}")
    monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{await closed_port()}")

    found, _ = await _ask(reply('"here"'))

    assert found == [Text("here")]


async def test_a_proxy_of_the_environment_is_asked_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_endpoint(reply('"from there"')) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "other.invalid")

        found = await read_all(_run("http://agent.invalid/run"))

    assert found == [Text("from there")]
    assert proxy.requests[0].path == "http://agent.invalid/run"


@contextmanager
def _example() -> Iterator[str]:
    """Run the receiver of the documentation, and yield its URL."""
    with subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "agents" / "webhook.py"), "0"],
        env={"WEBHOOK_SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # its access log
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def test_the_example_answers_who_has_its_secret_and_nobody_else() -> None:
    with _example() as url:
        found = await read_all(_run(url, brief={"said": [{"text": "abc"}]}))
        with pytest.raises(AgentError) as refused:
            await read_all(_run(url, secret="whsec_AAAA"))

    assert found == [Text("cba")]
    assert (refused.value.code, refused.value.permanent) == (AGENT_FAILED, True)
    assert refused.value.message.endswith("answered with status 401")
