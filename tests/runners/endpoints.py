"""Endpoints outside: a small HTTP server whose answers are scripted, byte by byte where they must be wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
SECONDS: Final = 10


class Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Endpoint:
    """What is listening, what it was asked, and how many of its clients have hung up."""

    def __init__(self) -> None:
        self.requests = list[Request]()
        self.left = asyncio.Event()
        """A client hung up while it was being answered."""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


Reply = Callable[[Endpoint, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(body: str | bytes = b"", *, status: int = 200, kind: str | None = JSON, **headers: str) -> Reply:
    """Answer with a body of known length."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(content)}", "connection: close"]
    lines += [f"content-type: {kind}"] if kind is not None else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + content)


def raw(content: bytes) -> Reply:
    """Send these bytes, whatever they are, and close the connection."""

    async def send(_endpoint: Endpoint, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(content)

    return send


def stream(*chunks: str | bytes, kind: str = EVENTS, whole: bool = True, hang: bool = False) -> Reply:
    """Send a chunked body. Not `whole`: close in the middle of it. `hang`: say no more until the client hangs up."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"

    async def send(endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode())
        for chunk in chunks:
            content = chunk.encode() if isinstance(chunk, str) else chunk
            writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
            await writer.drain()
        if hang:
            await reader.read()
            endpoint.left.set()
        elif whole:
            writer.write(b"0\r\n\r\n")

    return send


def events(*chunks: dict[str, Any] | str, done: bool = True) -> list[str]:
    """Return chunks of a chat completion as server-sent events."""
    lines = [f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n" for chunk in chunks]
    return [*lines, "data: [DONE]\n\n"] if done else lines


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a chunk of a chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "delta": fields, "finish_reason": finish}],
    }


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """Return the chunk at the end that counts tokens."""
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


@asynccontextmanager
async def open_endpoint(*replies: Reply) -> AsyncGenerator[Endpoint]:
    """Listen on a free port of 127.0.0.1 and answer each request with the next reply, the last one again and again."""
    endpoint = Endpoint()

    answering = set[asyncio.Task[None]]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        task.add_done_callback(answering.discard)
        # A client that hangs up early, or a test that is over.
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(SECONDS):
                endpoint.requests.append(await _read_request(reader))
                await replies[min(len(endpoint.requests), len(replies)) - 1](endpoint, reader, writer)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    endpoint.port = server.sockets[0].getsockname()[1]
    async with server:
        yield endpoint
    for task in [*answering]:  # clients hang up when they are done, or their time is over
        await task


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict[str, str]()
    for name, _, value in (line.partition(":") for line in lines):
        headers[name.lower()] = ", ".join(filter(None, [headers.get(name.lower()), value.strip()]))
    return Request(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


async def closed_port() -> int:
    """Return a port on which nobody listens."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
