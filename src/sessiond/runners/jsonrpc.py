"""JSON-RPC with a program: each message is a line of its standard input or output.

Nothing is read ahead and nothing runs by itself: the next message is read when it is asked for, so a program that says
more than is wanted waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from sessiond.runners.lines import show
from sessiond.runners.process import Program
from sessiond.runners.runner import AGENT_FAILED, BAD_OUTPUT, LINE_MAX_BYTES, TOO_LARGE, AgentError

STRAY_MAX: Final = 100  # lines that are no messages: a banner or a library's warning is passed over, a flood is not
BREATH_LINES: Final = 100  # about a millisecond
END_SECONDS: Final = 3.0  # from the end of a program's output to its own
NO_SUCH_METHOD: Final = -32601


class Failure(msgspec.Struct):
    """What a request was answered when it could not be done."""

    code: int = 0
    message: str = ""
    data: Any = None


class Message(msgspec.Struct):
    """A request (method and id), a notification (method), or an answer (id, or none if it could not be read)."""

    id: int | str | None = None
    method: str | None = None
    params: Any = None
    result: Any = None
    error: Failure | None = None

    @property
    def answers(self) -> int | str | None:
        return self.id if self.method is None else None


class Refused(Exception):
    """A request of ours could not be done."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


_decoder: Final = msgspec.json.Decoder(Message)


class Line:
    """JSON-RPC with a program: a message is a line."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._lines = 0
        self._requests = 0
        self._strays = 0
        self._stray = b""

    def ask(self, method: str, params: Mapping[str, Any]) -> int:
        """Send a request and return its id.

        It is not waited until the agent has read it: it may first want to be read itself.
        """
        self._requests += 1
        self._send({"id": self._requests, "method": method, "params": params})
        return self._requests

    async def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send a request and return its result. What else the agent says until then is passed over.

        Raises:
            Refused: the agent could not do it.
            AgentError: as `receive`.
        """
        asked = self.ask(method, params)
        while (message := await self.receive()).answers != asked:
            if message.method is not None:
                await self.refuse(message)
        if message.error is not None:
            raise Refused(message.error)
        return message.result

    async def answer(self, message: Message, result: Mapping[str, Any]) -> None:
        self._send({"id": message.id, "result": result})
        await self._drain()

    async def refuse(self, message: Message) -> None:
        """Say no to a request that is none of what we offered; a notification wants no answer."""
        if message.id is not None:
            error = {"code": NO_SUCH_METHOD, "message": "Method not found", "data": {"method": message.method}}
            self._send({"id": message.id, "error": error})
            await self._drain()

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        self._send({"method": method, "params": params})
        await self._drain()

    async def receive(self) -> Message:
        """Return the agent's next message.

        Raises:
            Refused: the agent could not even read something of ours.
            AgentError: there is no next message, it is too long, or too much is said that is none.
        """
        while True:
            self._lines += 1
            if self._lines % BREATH_LINES == 0:
                await asyncio.sleep(0)  # what was read ahead comes without a pause, and others want to go on too
            try:
                said = await self._program.stdout.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                raise AgentError(TOO_LARGE, f"the agent wrote a line of more than {LINE_MAX_BYTES} bytes") from error
            except asyncio.IncompleteReadError as error:
                if not error.partial:
                    raise await self._ended() from None
                said = error.partial
            message = _decode(said)
            if message.method is not None or message.id is not None:
                return message
            if message.error is not None:
                raise Refused(message.error)
            if said.strip():
                self._stray, self._strays = said, self._strays + 1
            if self._strays > STRAY_MAX:
                raise AgentError(BAD_OUTPUT, f"the agent writes what is not its protocol{self.excerpt()}")

    def excerpt(self) -> str:
        """Return the last line that was no message, as the end of a sentence; nothing when all were."""
        return f": {show(self._stray)}" if self._strays else ""

    def _send(self, message: Mapping[str, Any]) -> None:
        with suppress(OSError, RuntimeError):  # it is gone (the event loops say it in two ways): `receive` finds out
            self._program.stdin.write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")

    async def _drain(self) -> None:
        with suppress(OSError, RuntimeError):
            await self._program.stdin.drain()

    async def _ended(self) -> AgentError:
        try:
            code = await asyncio.wait_for(self._program.wait(), END_SECONDS)
        except TimeoutError:
            return AgentError(AGENT_FAILED, f"the agent closed its output before it was done{self.excerpt()}")
        complaint = self._program.complaint()
        said = f": {complaint}" if complaint else self.excerpt()
        return AgentError(
            BAD_OUTPUT if code == 0 and self._strays else AGENT_FAILED,
            f"the agent ended with exit code {code} before it was done{said}",
        )


def _decode(line: bytes) -> Message:
    """Return the message that a line is; one without anything in it when it is none."""
    try:
        return _decoder.decode(line)
    except (ValueError, RecursionError):
        return Message()
