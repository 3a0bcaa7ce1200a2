"""Agents that are a model behind OpenAI's chat completions, at whichever endpoint speaks them.

The package `openai` sends the request. The answer is read here, in bounds and as it comes: endpoints differ in what
they put into it, and some put anything.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx2
import msgspec
from openai import APIConnectionError, AsyncOpenAI, Omit

from sessiond.core.agent import ChatOptions
from sessiond.core.message import Content, Role, text_of
from sessiond.core.run import Brief, Piece, Said, Text, Thought, ToolCall, ToolResult, Usage
from sessiond.runners import http
from sessiond.runners.lines import MESSAGE_MAX, UNREADABLE, add_said, check_usage, read_lines, show
from sessiond.runners.runner import AGENT_FAILED, BAD_OUTPUT, NOT_CONFIGURED, UNREACHABLE, AgentError, Reply

SILENCE_SECONDS: Final = 120.0  # between two chunks; a large model on a small machine takes a while to begin
CALLS_MAX: Final = 1_000  # tool calls of one answer
ROUNDS_MAX: Final = 50  # answers with tool calls, in a simulation: a model that wants more goes round in circles

# What a part needs to be one of OpenAI's; any other is sent as its text.
MEDIA: Final = {"image_url": "image_url", "input_audio": "input_audio", "file": "file"}

logging.getLogger("openai").setLevel(logging.WARNING)  # it would log what is said


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    """A stretch of JSON; some endpoints send the whole as an object."""


class _CallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: Any = None
    """What a model thinks: no part of the standard, so some say it here and some in `reasoning`."""
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[_CallDelta] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Tokens | None = None
    error: Any = None


class _Call(msgspec.Struct):
    """A tool call while it comes in."""

    id: str
    name: str = ""
    arguments: str = ""


_chunks: Final = msgspec.json.Decoder(_Chunk)
_contents: Final = msgspec.json.Decoder(Content)


async def run(brief: Brief) -> AsyncGenerator[Piece, Reply]:
    options = brief.agent.read_options(ChatOptions)
    url = http.parse_url(options.base_url)
    key = http.read_secret(options.api_key, options.api_key_env, what="the key")
    headers = http.check_headers(options.headers)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise AgentError(NOT_CONFIGURED, "the key holds characters that no key has", permanent=True)

    with http.calling(url, hide=[*headers.values(), key or ""]):
        async with _open(url, key) as client:
            body = _request(options, brief.messages) | {"stream_options": {"include_usage": True}}
            rounds = 1
            while True:
                said, answered = list[str](), list[tuple[ToolCall, ToolResult]]()
                try:
                    async with aclosing(_ask(client, body, _headers(key, headers))) as pieces:
                        async for piece in pieces:
                            answer = yield piece
                            if isinstance(piece, Text):
                                said.append(piece.text)
                            elif isinstance(piece, ToolCall) and isinstance(answer, ToolResult):
                                answered.append((piece, answer))
                except http.Refused as refused:
                    # Some endpoints do not know the option: they say so before anything else, and go without.
                    if "stream_options" in body and "stream_options" in refused.message:
                        del body["stream_options"]
                        continue
                    raise _say(refused, options, url) from None
                except APIConnectionError as error:
                    raise http.say_failure(error.__cause__, url) from error
                if not answered:
                    return
                if rounds == ROUNDS_MAX:
                    raise AgentError(AGENT_FAILED, f"the model called tools {ROUNDS_MAX} times over", permanent=True)
                body["messages"] = [*body["messages"], *_answers("".join(said), answered)]
                rounds += 1


def _open(url: httpx2.URL, key: str | None) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=url.copy_with(query=None),
        default_query=dict(url.params),
        api_key=key or "none",  # it wants one; without, `_headers` takes it out again
        max_retries=0,  # the worker tries again
        http_client=http.open_client(url, read_seconds=SILENCE_SECONDS),
    )


def _headers(key: str | None, given: Mapping[str, str]) -> dict[str, str | Omit]:
    """Return what goes along. What the package finds in the worker's environment is no endpoint's to see."""
    ambient = [line.partition(":")[0].strip() for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()]
    names = {name.lower() for name in given}
    left_out = [*ambient, "OpenAI-Organization", "OpenAI-Project", *([] if key else ["Authorization"])]
    return {name: Omit() for name in left_out if name and name.lower() not in names} | dict(given)


def _request(options: ChatOptions, messages: list[Said]) -> dict[str, Any]:
    system = [] if options.system is None else [{"role": "system", "content": options.system}]
    body: dict[str, Any] = {"model": options.model, "messages": [*system, *map(_message, messages)], "stream": True}
    optional = {"temperature": options.temperature, "max_tokens": options.max_tokens, "tools": options.tools or None}
    return body | {name: value for name, value in optional.items() if value is not None}


def _message(said: Said) -> dict[str, Any]:
    # A tool's message needs the call it answers, and that stands in no message: endpoints refuse it.
    role = Role.USER if said.role is Role.TOOL else said.role
    content = _contents.decode(said.content)
    if isinstance(content, str) or role is not Role.USER or not any(_is_media(part) for part in content):
        return {"role": role, "content": text_of(said.content)}
    return {"role": role, "content": [part if _is_media(part) else _text_part(part) for part in content]}


def _answers(said: str, answered: list[tuple[ToolCall, ToolResult]]) -> list[dict[str, Any]]:
    """Return what was said with tool calls, and what the tools answered, as messages."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _json_text(call.arguments)}}
        for call, _ in answered
    ]
    results = [
        {"role": "tool", "tool_call_id": result.id, "content": _json_text(result.output)} for _, result in answered
    ]
    return [{"role": "assistant", "content": said or None, "tool_calls": calls}, *results]


def _json_text(value: Any) -> str:
    """Return a value's JSON; what is text already stays as it is."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _is_media(part: dict[str, Any]) -> bool:
    field = MEDIA.get(part.get("type", "")) if isinstance(part.get("type"), str) else None
    return field is not None and part.get(field) is not None


def _text_part(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": text_of(msgspec.Raw(msgspec.json.encode([part])))}


async def _ask(client: AsyncOpenAI, body: dict[str, Any], headers: dict[str, str | Omit]) -> AsyncGenerator[Piece]:
    """Send the request and yield the answer's pieces.

    Raises:
        AgentError: the answer is none, has no end, or is a refusal.
        Refused: the endpoint does not take the request.
    """
    calls, tokens = dict[int, _Call](), _Tokens()
    said_bytes, refusal, reason = 0, "", None
    streaming = client.chat.completions.with_streaming_response.create(**body, extra_headers=headers)
    async with streaming as response, aclosing(_read_chunks(response.http_response)) as chunks:
        async for chunk in chunks:
            tokens = chunk.usage or tokens  # some repeat it in each chunk, growing
            for choice in (chunk.choices or [])[:1]:
                delta, reason = choice.delta or _Delta(), choice.finish_reason or reason
                thought = delta.reasoning_content or delta.reasoning
                if thought and isinstance(thought, str):
                    yield Thought(thought)
                if text := _text(delta.content):
                    said_bytes = add_said(said_bytes, text)
                    yield Text(text)
                for part in delta.tool_calls or []:
                    said_bytes = add_said(said_bytes, _add_call(calls, part))
                refusal = (refusal + (delta.refusal or ""))[:MESSAGE_MAX]
    for call in calls.values():
        yield ToolCall(call.id, call.name, _arguments(call.arguments))
    yield check_usage(Usage(tokens.prompt_tokens or 0, tokens.completion_tokens or 0))
    if refusal:
        raise AgentError(AGENT_FAILED, f"the model refused: {refusal}", permanent=True)
    if reason == "content_filter":
        raise AgentError(AGENT_FAILED, "the endpoint's content filter stopped the answer", permanent=True)


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content or ""


def _add_call(calls: dict[int, _Call], part: _CallDelta) -> str:
    """Add a stretch of a tool call to those begun, and return what was added as text."""
    function = part.function or _Function()
    # Without an index each comes whole.
    index = part.index if part.index is not None else len(calls)
    if index not in calls and len(calls) == CALLS_MAX:
        raise AgentError(AGENT_FAILED, f"the model wants more than {CALLS_MAX} tool calls at once", permanent=True)
    call = calls.setdefault(index, _Call(part.id or f"call_{index}"))
    arguments = function.arguments
    text = msgspec.json.encode(arguments).decode() if isinstance(arguments, dict) else arguments or ""
    call.name += function.name or ""
    call.arguments += text
    return (function.name or "") + text


def _arguments(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except UNREADABLE:
        return text or None


async def _read_chunks(response: httpx2.Response) -> AsyncGenerator[_Chunk]:
    """Yield the chunks of a stream of events, up to its end.

    Raises:
        AgentError: it ends before its end, is no such stream, or its endpoint says that it failed.
    """
    ended = False
    async with aclosing(response.aiter_bytes()) as data, aclosing(read_lines(data)) as lines:
        async for line in lines:
            field, _, value = line.rstrip(b"\r\n").partition(b":")
            if field != b"data":
                if field not in (b"", b"event", b"id", b"retry"):
                    raise AgentError(BAD_OUTPUT, f"expected a stream of server-sent events, got: {show(line)}")
                continue
            if value.strip() == b"[DONE]":
                return
            try:
                chunk = _chunks.decode(value)
            except UNREADABLE as error:
                if not line.endswith(b"\n"):
                    break
                raise AgentError(BAD_OUTPUT, f"expected a chunk of a chat completion, got: {show(value)}") from error
            if chunk.error:
                why = show(http.message_of(chunk.error) or msgspec.json.encode(chunk.error), MESSAGE_MAX)
                raise AgentError(AGENT_FAILED, f"the endpoint failed: {why}")
            ended = ended or any(choice.finish_reason for choice in chunk.choices or [])
            yield chunk
    if not ended:
        raise AgentError(UNREACHABLE, "the endpoint closed the connection in mid-stream")


def _say(refused: http.Refused, options: ChatOptions, url: httpx2.URL) -> Exception:
    """Return a refusal in words for whoever registered the agent, where it is theirs to act on."""
    place = http.place_of(url)
    match refused.status:
        case 401 | 403:
            key = "the key" if options.api_key or options.api_key_env else "to answer without a key"
            return AgentError(NOT_CONFIGURED, f"{place} refused {key} (status {refused.status})", permanent=True)
        case 404:
            path = url.path.rstrip("/")
            return AgentError(
                NOT_CONFIGURED,
                f"{place} has no model {options.model!r}, or nothing at {path}/chat/completions (status 404)",
                permanent=True,
            )
        case _:
            return refused
