"""Any program as an agent: JSON lines in and out, or plain text. `docs/guides/command-agents.md` is its contract."""

from __future__ import annotations

import asyncio
import codecs
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec

from sessiond.core.agent import CommandOptions, CommandProtocol, program_of
from sessiond.core.message import text_of
from sessiond.core.run import Answer, Ask, Brief, Piece, Text, ToolResult
from sessiond.runners.lines import add_said, decode_piece
from sessiond.runners.process import Program, open_program
from sessiond.runners.runner import AGENT_FAILED, BAD_OUTPUT, LINE_MAX_BYTES, TOO_LARGE, AgentError, Reply, brief_json

END_SECONDS: Final = 5.0  # a program that has closed its output is only tidying up
READ_BYTES: Final = 64 * 1024

_encoder: Final = msgspec.json.Encoder()


async def run(brief: Brief) -> AsyncGenerator[Piece, Reply]:
    options = brief.agent.read_options(CommandOptions)
    converse = _converse_in_text if options.protocol is CommandProtocol.TEXT else _converse_in_json
    async with (
        open_program(brief, program_of(options.command), cwd=options.cwd, env=options.env) as program,
        aclosing(converse(program, brief)) as pieces,
    ):
        said_bytes = 0
        answer: Reply = None
        while (piece := await _next(pieces, answer)) is not None:
            if isinstance(piece, Text):
                said_bytes = add_said(said_bytes, piece.text)
            answer = yield piece
        await _end(program)


async def _next(pieces: AsyncGenerator[Piece, Reply], answer: Reply) -> Piece | None:
    try:
        return await pieces.asend(answer)
    except StopAsyncIteration:
        return None


async def _converse_in_json(program: Program, brief: Brief) -> AsyncGenerator[Piece, Reply]:
    _send_line(program, brief_json(brief))
    while (line := await _read_line(program.stdout)) is not None:
        if not line.strip():
            await asyncio.sleep(0)  # there may be many, read ahead: others want to go on too
            continue
        try:
            piece = _parse(line)
        except AgentError:
            if not line.endswith(b"\n"):
                await _end(program)  # it was cut off in the middle of a line: how it ended says more than the line
            raise
        answer = yield piece
        if isinstance(piece, Ask):
            assert isinstance(answer, Answer), "a question is answered before the next piece is asked for"
            _send_line(program, {"type": "answer", "option_id": answer.option_id, "content": answer.content})
        elif isinstance(answer, ToolResult):
            _send_line(program, answer)
    program.stdin.close()


async def _converse_in_text(program: Program, brief: Brief) -> AsyncGenerator[Piece, Reply]:
    _send(program, b"" if brief.input is None else text_of(brief.input).encode())
    program.stdin.close()
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    held = ""  # line breaks: those at the end are no part of the answer
    while chunk := await program.stdout.read(READ_BYTES):
        text = held + decoder.decode(chunk)
        said = text.rstrip("\r\n")
        held = text[len(said) :]
        add_said(0, held)
        if said:
            yield Text(said)
    if rest := decoder.decode(b"", final=True):
        yield Text(held + rest)


def _send_line(program: Program, value: object) -> None:
    # What clients wrote is passed on as it came, line breaks between its parts included; in a string there are none.
    _send(program, _encoder.encode(value).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n")


def _send(program: Program, content: bytes) -> None:
    """Write without waiting for the program to read: it may want to be heard first, and need not read at all."""
    if not program.stdin.is_closing():
        program.stdin.write(content)


async def _read_line(stdout: asyncio.StreamReader) -> bytes | None:
    """Return the next line, the last one with or without its line break; None at the end."""
    try:
        return await stdout.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial or None
    except asyncio.LimitOverrunError as error:
        message = f"the program printed a line of more than {LINE_MAX_BYTES} bytes"
        raise AgentError(TOO_LARGE, message, permanent=True) from error


def _parse(line: bytes) -> Piece:
    try:
        return decode_piece(line)
    except AgentError as error:
        # A program that prints what is no piece does so again; a line that was cut by its end is no reason to hope.
        error.permanent = error.permanent or error.code == BAD_OUTPUT
        raise


async def _end(program: Program) -> None:
    """Wait for the end of a program that has said all it has to say.

    Raises:
        AgentError: it did not end well.
    """
    try:
        async with asyncio.timeout(END_SECONDS):
            code = await program.wait()
    except TimeoutError:
        return  # it is stopped when its block is left
    if code == 0:
        return
    how = f"ended with exit code {code}" if code > 0 else f"was killed by {_name_signal(-code)}"
    complaint = program.complaint()
    raise AgentError(AGENT_FAILED, f"the program {how}: {complaint}" if complaint else f"the program {how}")


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
