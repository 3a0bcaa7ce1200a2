"""Agents that are a URL: the brief is posted to it, signed, and the answer is the output or lines of pieces."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

import httpx2
import msgspec
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from sessiond.core.agent import WebhookOptions
from sessiond.core.run import OUTPUT_MAX_BYTES, Ask, Brief, Piece, Text, Usage
from sessiond.runners import http
from sessiond.runners.lines import UNREADABLE, add_said, check_usage, decode_piece, read_lines, show
from sessiond.runners.runner import BAD_OUTPUT, NOT_CONFIGURED, AgentError, Reply, brief_json

JSON: Final = "application/json"
TEXT: Final = "text/plain"
LINES: Final = ("application/x-ndjson", "application/jsonl")


class _Tokens(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Output(msgspec.Struct):
    output: str
    usage: _Tokens | None = None


_outputs: Final = msgspec.json.Decoder(_Output | str)


async def run(brief: Brief) -> AsyncGenerator[Piece, Reply]:
    options = brief.agent.read_options(WebhookOptions)
    url = http.parse_url(options.url)
    secret = http.read_secret(options.secret, options.secret_env, what="the secret")
    given = http.check_headers(options.headers)
    body = msgspec.json.encode(brief_json(brief)).decode()
    headers = httpx2.Headers(given)
    headers.update({"Content-Type": JSON, "Accept": f"{LINES[0]}, {JSON}, {TEXT}"} | _sign(brief, body, secret))

    with http.calling(url, hide=[*given.values(), secret or ""]):
        async with (
            # How long an agent may think is its time limit.
            http.open_client(url, read_seconds=None) as client,
            client.stream("POST", url, content=body, headers=headers) as response,
            aclosing(_read_pieces(response)) as pieces,
        ):
            async for piece in pieces:
                yield piece


def _sign(brief: Brief, body: str, secret: str | None) -> dict[str, str]:
    """Return the headers by which the receiver knows who sent this, and a repeat (standardwebhooks.com)."""
    assert secret is not None, "no agent is registered without one"
    try:
        webhook = Webhook(secret)
    except (ValueError, EmptyWebhookSecretError) as error:
        raise AgentError(NOT_CONFIGURED, "the secret is no base64 behind whsec_", permanent=True) from error
    sent_id, sent_at = f"{brief.run_id}-{brief.attempt}", datetime.now(UTC)
    return {
        "webhook-id": sent_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": webhook.sign(sent_id, sent_at, body),
    }


async def _read_pieces(response: httpx2.Response) -> AsyncGenerator[Piece]:
    """Yield what was answered, by its type.

    Raises:
        AgentError: it is of another type, too large, or not what its type says.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    read = _read_lines if kind in LINES else _read_text if kind == TEXT else _read_json
    async with aclosing(response.aiter_bytes()) as chunks, aclosing(read(chunks, kind)) as pieces:
        async for piece in pieces:
            yield piece


async def _read_lines(chunks: AsyncIterator[bytes], _kind: str) -> AsyncGenerator[Piece]:
    said_bytes = 0
    async with aclosing(read_lines(chunks)) as lines:
        async for line in lines:
            if not line.strip():
                continue
            piece = decode_piece(line)
            if isinstance(piece, Ask):
                raise AgentError(
                    BAD_OUTPUT, "a webhook cannot ask: its request is under way and takes no answer", permanent=True
                )
            if isinstance(piece, Text):
                said_bytes = add_said(said_bytes, piece.text)
            yield piece


async def _read_text(chunks: AsyncIterator[bytes], _kind: str) -> AsyncGenerator[Piece]:
    said_bytes, decoder = 0, codecs.getincrementaldecoder("utf-8")()
    try:
        async for chunk in chunks:
            if text := decoder.decode(chunk):
                said_bytes = add_said(said_bytes, text)
                yield Text(text)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise AgentError(BAD_OUTPUT, "the text that the agent answered with is not UTF-8", permanent=True) from error


async def _read_json(chunks: AsyncIterator[bytes], kind: str) -> AsyncGenerator[Piece]:
    body = await http.read_whole(chunks, OUTPUT_MAX_BYTES)
    if not body.strip():
        return
    if kind != JSON:
        raise AgentError(
            BAD_OUTPUT, f"expected {JSON}, {TEXT} or {LINES[0]}, got {show(kind) or 'no content type'}", permanent=True
        )
    try:
        answer = _outputs.decode(body)
    except UNREADABLE as error:
        raise AgentError(
            BAD_OUTPUT, f"expected a JSON string or an object with the text `output`, got: {show(body)}", permanent=True
        ) from error
    text = answer if isinstance(answer, str) else answer.output
    if text:
        yield Text(text)
    if isinstance(answer, _Output) and answer.usage is not None:
        yield check_usage(Usage(answer.usage.prompt_tokens, answer.usage.completion_tokens))
