from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import pytest

from sessiond.core.message import Role
from sessiond.core.run import Piece, Recorded, Text, Thought, ToolCall, Usage
from sessiond.runners import chat, runner
from sessiond.runners.recording import Recording
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
from tests.runners.endpoints import (
    Endpoint,
    Reply,
    closed_port,
    delta,
    events,
    open_endpoint,
    raw,
    reply,
    stream,
    usage,
)

SAYS_HI: Final = stream(*events(delta(role="assistant", content=""), delta(content="hi"), delta("stop")))
KEY: Final = "sk-very-secret"


def _run(base_url: str, *, brief: dict[str, Any] | None = None, **options: Any) -> AsyncGenerator[Piece, runner.Reply]:
    return chat.run(make_brief({"base_url": base_url, "model": "small"} | options, runner="chat", **(brief or {})))


async def _ask(*replies: Reply, brief: dict[str, Any] | None = None, **options: Any) -> tuple[list[Piece], Endpoint]:
    async with open_endpoint(*replies) as endpoint:
        return await read_all(_run(f"{endpoint.url}/v1", brief=brief, **options)), endpoint


async def _fail(*replies: Reply, **options: Any) -> AgentError:
    with pytest.raises(AgentError) as failed:
        await _ask(*replies, **options)
    assert KEY not in failed.value.message
    return failed.value


def test_the_runner_is_found_by_its_name() -> None:
    assert find_runner("chat") is chat.run


async def test_what_comes_is_passed_on_piece_by_piece() -> None:
    pieces, endpoint = await _ask(
        stream(*events(delta(content="Good "), delta(content="morning"), delta("stop"), usage(7, 2)))
    )

    assert pieces == [Text("Good "), Text("morning"), Usage(7, 2)]
    assert [(request.method, request.path) for request in endpoint.requests] == [("POST", "/v1/chat/completions")]


async def test_a_piece_is_passed_on_while_the_rest_is_still_to_come() -> None:
    async with (
        open_endpoint(stream(*events(delta(content="first"), done=False), hang=True)) as endpoint,
        aclosing(_run(endpoint.url)) as pieces,
    ):
        assert await anext(pieces) == Text("first")
        assert not endpoint.left.is_set()


async def test_a_closed_runner_hangs_up() -> None:
    async with open_endpoint(stream(*events(delta(content="first"), done=False), hang=True)) as endpoint:
        pieces = _run(endpoint.url)
        await anext(pieces)

        await pieces.aclose()

        async with asyncio.timeout(2):
            await endpoint.left.wait()


async def test_a_cancelled_runner_hangs_up() -> None:
    async with open_endpoint(stream(hang=True)) as endpoint:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await read_all(_run(endpoint.url))

        async with asyncio.timeout(2):
            await endpoint.left.wait()


async def test_the_conversation_is_sent_behind_the_system_prompt() -> None:
    before = [(Role.USER, "one"), (Role.ASSISTANT, "two"), (Role.TOOL, "42 degrees")]

    _, endpoint = await _ask(
        SAYS_HI, brief={"before": before, "said": "three", "prompt": "never sent"}, system="Be brief.", temperature=0.5
    )

    assert endpoint.requests[0].json() == {
        "model": "small",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "42 degrees"},
            {"role": "user", "content": "three"},
        ],
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_pictures_go_as_parts_and_all_else_as_text() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    mixed = [{"text": "look"}, picture, {"type": "mood", "mood": 3}]

    _, endpoint = await _ask(
        SAYS_HI, brief={"before": [(Role.USER, [{"text": "a"}, {"type": "text", "text": "b"}])], "said": mixed}
    )

    first, second = endpoint.requests[0].json()["messages"]
    assert first["content"] == "a\nb"
    assert second["content"] == [
        {"type": "text", "text": "look"},
        picture,
        {"type": "text", "text": '{"type":"mood","mood":3}'},
    ]


async def test_tool_calls_are_put_together_from_their_stretches() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    chunks = [
        delta(tool_calls=[{"index": 0, "id": "call_a", "function": {"name": "weather", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"city": '}}]),
        delta(tool_calls=[{"index": 1, "id": "call_b", "function": {"name": "weather", "arguments": "{broken"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '"Oslo"}'}}]),
        delta("tool_calls", tool_calls=[{"id": "call_c", "function": {"name": "now", "arguments": {"zone": "UTC"}}}]),
    ]

    pieces, endpoint = await _ask(stream(*events(*chunks, usage(1, 2))), tools=tools)

    assert pieces == [
        ToolCall("call_a", "weather", {"city": "Oslo"}),
        ToolCall("call_b", "weather", "{broken"),
        ToolCall("call_c", "now", {"zone": "UTC"}),
        Usage(1, 2),
    ]
    assert endpoint.requests[0].json()["tools"] == tools


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_is_thought(field: str) -> None:
    pieces, _ = await _ask(stream(*events(delta(**{field: "hm"}), delta("stop", content="yes"))))

    assert pieces[:2] == [Thought("hm"), Text("yes")]


async def test_usage_that_is_repeated_counts_once() -> None:
    chunks = [delta(content="a") | {"usage": {"prompt_tokens": 5, "completion_tokens": count}} for count in (1, 2)]

    pieces, _ = await _ask(stream(*events(*chunks, delta("stop"))))

    assert pieces[-1] == Usage(5, 2)


async def test_an_answer_may_be_cut_anywhere_and_hold_comments() -> None:
    content = ": waiting\r\n\r\n" + "".join(events(delta(content="grüß"), delta("stop"))).replace("\n", "\r\n")

    pieces, _ = await _ask(stream(*(bytes([byte]) for byte in content.encode())))

    assert pieces[0] == Text("grüß")


async def test_an_endpoint_without_stream_options_is_asked_without() -> None:
    refusal = reply(json.dumps({"error": {"message": "unknown parameter: stream_options"}}), status=400)

    pieces, endpoint = await _ask(refusal, SAYS_HI)

    assert pieces[0] == Text("hi")
    assert ["stream_options" in request.json() for request in endpoint.requests] == [True, False]


async def test_the_key_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", f"{KEY}\n")

    _, given = await _ask(SAYS_HI, api_key=KEY, headers={"x-team": "blue"})
    _, found = await _ask(SAYS_HI, api_key_env="THE_KEY")

    assert given.requests[0].headers["authorization"] == found.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert given.requests[0].headers["x-team"] == "blue"


async def test_nothing_of_the_workers_environment_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "ambient")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer ambient\nX-Ambient: ambient")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{await closed_port()}")

    _, without = await _ask(SAYS_HI)
    _, own = await _ask(SAYS_HI, headers={"authorization": "Basic own"})
    _, both = await _ask(SAYS_HI, api_key=KEY, headers={"authorization": "Basic own", "ACCEPT": "x/y"})

    assert "ambient" not in str(without.requests[0].headers)
    assert "authorization" not in without.requests[0].headers
    assert "ambient" not in str(own.requests[0].headers)
    assert both.requests[0].headers["authorization"] == "Basic own"
    assert both.requests[0].headers["accept"] == "x/y"
    assert own.requests[0].headers["authorization"] == "Basic own"


async def test_a_query_of_the_address_stays_behind_the_path() -> None:
    async with open_endpoint(SAYS_HI) as endpoint:
        await read_all(_run(f"{endpoint.url}/deployments/a?api-version=2"))

    assert endpoint.requests[0].path == "/deployments/a/chat/completions?api-version=2"


async def test_a_key_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)

    error = await _fail(SAYS_HI, api_key_env="NO_SUCH_KEY")

    assert (error.code, error.permanent) == (NOT_CONFIGURED, True)
    assert "NO_SUCH_KEY" in error.message


@pytest.mark.parametrize(
    ("status", "code", "permanent", "words"),
    [
        (400, AGENT_FAILED, True, "status 400: too *** for it"),
        (401, NOT_CONFIGURED, True, "refused the key (status 401)"),
        (403, NOT_CONFIGURED, True, "refused the key (status 403)"),
        (404, NOT_CONFIGURED, True, "has no model 'small', or nothing at /v1/chat/completions"),
        (422, AGENT_FAILED, True, "status 422"),
        (429, UNREACHABLE, False, "status 429"),
        (500, UNREACHABLE, False, "status 500"),
        (503, UNREACHABLE, False, "status 503"),
    ],
)
async def test_a_status_says_who_has_to_act(status: int, code: str, permanent: bool, words: str) -> None:
    body = json.dumps({"error": {"message": f"too {KEY} for it"}})

    error = await _fail(reply(body, status=status), api_key=KEY)

    assert (error.code, error.permanent) == (code, permanent)
    assert words in error.message


async def test_a_redirect_is_not_followed() -> None:
    error = await _fail(reply(status=302, location="http://elsewhere.test/secret?path=1"), api_key=KEY)

    assert (error.code, error.permanent) == (AGENT_FAILED, True)
    assert error.message.endswith("redirects to elsewhere.test, which is not followed")


async def test_an_endpoint_that_is_not_there_is_named_without_its_query() -> None:
    port = await closed_port()

    with pytest.raises(AgentError) as failed:
        await read_all(_run(f"http://127.0.0.1:{port}/v1?token={KEY}", api_key=KEY))

    assert (failed.value.code, failed.value.permanent) == (UNREACHABLE, False)
    assert failed.value.message == f"cannot connect to 127.0.0.1:{port}: connection refused"


async def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(AgentError) as failed:
        await read_all(_run("http://nowhere.invalid/v1"))

    assert (failed.value.code, failed.value.permanent) == (UNREACHABLE, False)
    assert "cannot connect to nowhere.invalid:80: " in failed.value.message


async def test_an_endpoint_without_tls_is_not_reached_with_it() -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(AgentError) as failed:
            await read_all(_run(f"https://127.0.0.1:{port}"))

    assert (failed.value.code, failed.value.permanent) == (UNREACHABLE, False)
    assert f"cannot connect to 127.0.0.1:{port}: it does not speak TLS" in failed.value.message


@pytest.mark.parametrize(
    "answer",
    [
        raw(b""),
        stream(whole=False),
        stream(*events(delta(content="half an ans"), done=False), whole=False),
        stream(*events(delta(content="half an ans"), done=False)),
        stream('data: {"choices": [{"del'),
        stream(),
    ],
    ids=["before it", "at its start", "between chunks", "without its end", "in a chunk", "empty"],
)
async def test_a_stream_that_is_closed_too_early_may_be_tried_again(answer: Reply) -> None:
    error = await _fail(answer)

    assert (error.code, error.permanent) == (UNREACHABLE, False)
    assert "closed the connection" in error.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply("<html>Welcome to our proxy</html>", kind="text/html"), "<html>Welcome to our proxy</html>"),
        (stream("data: {nonsense}\n\n"), "{nonsense}"),
        (stream('data: {"choices": 7}\n\n'), '{"choices": 7}'),
        (stream(b"data: \xff\xfe\x00\n\n"), "\ufffd"),
        (stream("data: " + "[" * 100_000 + "\n\n"), "[[[["),
        (raw(b"\x16\x03\x01 who are you\r\n\r\n"), "does not answer in HTTP"),
    ],
    ids=["a page", "no JSON", "other JSON", "bytes", "depth", "no HTTP"],
)
async def test_garbage_is_shown(answer: Reply, words: str) -> None:
    error = await _fail(answer)

    assert error.code == BAD_OUTPUT
    assert words in error.message


async def test_a_line_without_end_is_not_kept() -> None:
    error = await _fail(stream("data: ", *["x" * 65_536] * (LINE_MAX_BYTES // 65_536 + 1)))

    assert (error.code, error.permanent) == (TOO_LARGE, True)


async def test_an_output_without_end_is_not_kept() -> None:
    error = await _fail(stream(*events(*[delta(content="x" * 100_000)] * 11)))

    assert (error.code, error.permanent) == (TOO_LARGE, True)


async def test_an_error_in_the_stream_may_pass() -> None:
    error = await _fail(stream(*events(delta(content="a"), {"error": {"message": "overloaded", "code": 502}})))

    assert (error.code, error.permanent) == (AGENT_FAILED, False)
    assert error.message == "the endpoint failed: overloaded"


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (delta("stop", refusal="I would rather not"), "the model refused: I would rather not"),
        (delta("content_filter"), "the endpoint's content filter stopped the answer"),
    ],
)
async def test_a_refusal_is_final(chunk: dict[str, Any], words: str) -> None:
    error = await _fail(stream(*events(chunk)))

    assert (error.code, error.permanent, error.message) == (AGENT_FAILED, True, words)


WEATHER: Final = Recorded(name="weather", arguments={"city": "Oslo"}, output={"sky": "grey"})
CALLS: Final = stream(
    *events(
        delta(content="Let me see. "),
        delta(
            "tool_calls",
            tool_calls=[
                {"index": 0, "id": "call_a", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
                {"index": 1, "id": "call_b", "function": {"name": "time", "arguments": "{broken"}},
            ],
        ),
        usage(3, 2),
    )
)


async def _simulate(*replies: Reply, recorded: list[Recorded]) -> tuple[list[Piece], Endpoint]:
    async with open_endpoint(*replies) as endpoint:
        pieces = _run(f"{endpoint.url}/v1")
        return await read_all(pieces, recording=Recording(recorded)), endpoint


async def test_in_a_simulation_the_tools_answers_go_back_and_the_conversation_goes_on() -> None:
    pieces, endpoint = await _simulate(
        CALLS, stream(*events(delta(content="Grey."), delta("stop"), usage(9, 1))), recorded=[WEATHER]
    )

    assert pieces == [
        Text("Let me see. "),
        ToolCall("call_a", "weather", {"city": "Oslo"}),
        ToolCall("call_b", "time", "{broken"),
        Usage(3, 2),
        Text("Grey."),
        Usage(9, 1),
    ]
    first, second = (request.json()["messages"] for request in endpoint.requests)
    assert second == [
        *first,
        {
            "role": "assistant",
            "content": "Let me see. ",
            "tool_calls": [
                {
                    "id": "call_a",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                },
                {"id": "call_b", "type": "function", "function": {"name": "time", "arguments": "{broken"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": '{"sky":"grey"}'},
        {"role": "tool", "tool_call_id": "call_b", "content": "the recording has no answer of the tool 'time'"},
    ]


async def test_a_simulation_that_goes_round_in_circles_is_ended() -> None:
    async with open_endpoint(CALLS) as endpoint:
        with pytest.raises(AgentError) as failed:
            await read_all(_run(endpoint.url), recording=Recording([WEATHER]))

        assert len(endpoint.requests) == chat.ROUNDS_MAX
    assert (failed.value.code, failed.value.permanent) == (AGENT_FAILED, True)


async def test_an_endpoint_that_knows_no_usage_is_not_asked_for_it_again_in_a_simulation() -> None:
    refusal = reply('{"error": {"message": "unknown field stream_options"}}', status=400)

    pieces, endpoint = await _simulate(refusal, CALLS, SAYS_HI, recorded=[WEATHER])

    assert pieces[-2:] == [Text("hi"), Usage(0, 0)]
    assert ["stream_options" in request.json() for request in endpoint.requests] == [True, False, False]


async def test_without_a_simulation_nobody_answers_tools() -> None:
    pieces, endpoint = await _ask(CALLS)

    assert len(endpoint.requests) == 1
    assert [type(piece) for piece in pieces] == [Text, ToolCall, ToolCall, Usage]
