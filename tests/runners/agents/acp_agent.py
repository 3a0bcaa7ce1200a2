"""An agent that speaks the Agent Client Protocol, made with its public package. It does what the prompt says."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any, Literal

from acp import (
    PROTOCOL_VERSION,
    InitializeResponse,
    NewSessionResponse,
    PromptResponse,
    RequestError,
    plan_entry,
    run_agent,
    start_tool_call,
    text_block,
    tool_content,
    update_agent_message_text,
    update_agent_thought_text,
    update_plan,
    update_tool_call,
)
from acp.schema import AllowedOutcome, PermissionOption, ToolCallUpdate, Usage

StopReason = Literal["end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled"]

OPTIONS = [
    PermissionOption(option_id="always", name="Always allow", kind="allow_always"),
    PermissionOption(option_id="yes", name="Allow", kind="allow_once"),
    PermissionOption(option_id="no", name="Reject", kind="reject_once"),
]


class TestedAgent:
    __test__ = False

    def __init__(self) -> None:
        self._client: Any = None
        self._cancelled = asyncio.Event()
        self._calls = count(1)

    def on_connect(self, client: Any) -> None:
        self._client = client

    async def initialize(self, protocol_version: int, **_: Any) -> InitializeResponse:
        assert protocol_version == PROTOCOL_VERSION
        return InitializeResponse(protocol_version=int(os.environ.get("ACP_VERSION", PROTOCOL_VERSION)))

    async def new_session(self, cwd: str, **_: Any) -> NewSessionResponse:
        if "ACP_LOGGED_OUT" in os.environ:
            raise RequestError.auth_required()
        assert os.path.samefile(cwd, ".")  # noqa: ASYNC240 - nobody else waits
        return NewSessionResponse(session_id="one")

    async def cancel(self, session_id: str, **_: Any) -> None:
        self._cancelled.set()

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> PromptResponse:
        texts = [block.text for block in prompt]
        word, _, rest = texts[-1].partition(" ")
        work = getattr(self, f"_{word}", None)
        if work is None:
            await self._say("\n".join(texts))
            return PromptResponse(stop_reason="end_turn")
        answer: PromptResponse | None = await work(rest)
        return answer or PromptResponse(stop_reason="end_turn")

    async def _stream(self, _: str) -> PromptResponse:
        """Do a bit of everything."""
        await self._tell(update_agent_thought_text("Let me look. "))
        await self._tell(update_plan([plan_entry("look", status="in_progress"), plan_entry("tell")]))
        await self._say("One ")
        await self._say("moment.")
        await self._tell(start_tool_call("call-1", "Read file", kind="read", status="pending", raw_input={}))
        await self._tell(update_tool_call("call-1", title="Read a.txt", raw_input={"path": "a.txt"}))
        await self._tell(start_tool_call("call-2", "Fetch", kind="fetch", status="in_progress"))
        await self._tell(update_tool_call("call-2", status="failed", content=[tool_content(text_block("no network"))]))
        await self._tell(update_tool_call("call-1", status="completed", raw_output={"lines": ["a"]}))
        await self._tell(update_tool_call("call-1", status="completed"))
        await self._tell(update_plan([plan_entry("look", status="completed"), plan_entry("tell")]))
        await self._say("It says a.")
        usage = Usage(total_tokens=150, input_tokens=20, cached_read_tokens=80, output_tokens=40, thought_tokens=10)
        return PromptResponse(stop_reason="end_turn", usage=usage)

    async def _permission(self, _: str) -> None:
        await self._say(f"outcome {await self._ask()}")

    async def _permissions(self, number: str) -> None:
        """Ask for several at once."""
        outcomes = await asyncio.gather(*(self._ask() for _ in range(int(number))))
        await self._say(f"outcomes {' '.join(outcomes)}")

    async def _unrefusable(self, _: str) -> PromptResponse:
        """Ask for what can only be allowed, and stop when it is not."""
        outcome = await self._ask(OPTIONS[:2])
        return PromptResponse(stop_reason="cancelled" if outcome == "cancelled" else "end_turn")

    async def _wait(self, _: str) -> PromptResponse:
        await self._say("working")
        await self._cancelled.wait()
        _note("cancelled", "")
        return PromptResponse(stop_reason="cancelled")

    async def _hang(self, _: str) -> None:
        """Hear nothing, with a child that does not either."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
        await self._say(f"working {os.getpid()} {child.pid}")
        await asyncio.Event().wait()

    async def _held(self, _: str) -> PromptResponse:
        """Ask, and remember what came."""
        outcome = await self._ask()
        await self._cancelled.wait()
        _note("outcome", outcome)
        return PromptResponse(stop_reason="cancelled")

    async def _flood(self, _: str) -> None:
        for number in count():
            await self._say("word " * 200)
            _note("said", str(number))

    async def _chatter(self, number: str) -> None:
        """Write lines that are no messages."""
        for _ in range(int(number)):
            sys.stdout.write("a warning of some library\n")
        sys.stdout.flush()
        await self._say("still here")

    async def _big(self, size: str) -> None:
        await self._say("x" * int(size))

    async def _die(self, _: str) -> None:
        sys.stderr.write("it was all too much\n")
        sys.stderr.flush()
        os._exit(3)

    async def _fail(self, details: str) -> None:
        raise RequestError.internal_error({"details": details})

    async def _logout(self, _: str) -> None:
        raise RequestError.auth_required()

    async def _stop(self, reason: StopReason) -> PromptResponse:
        usage = Usage(total_tokens=5, input_tokens=3, cached_read_tokens=1, output_tokens=2)
        return PromptResponse(stop_reason=reason, usage=usage)

    async def _files(self, path: str) -> None:
        """Ask the client for what it does not offer."""
        try:
            await self._client.read_text_file(session_id="one", path=path)
        except RequestError as error:
            await self._say(str(error))

    async def _ask(self, options: list[PermissionOption] = OPTIONS) -> str:
        call = ToolCallUpdate(
            tool_call_id=f"call-{next(self._calls)}",
            title="Delete a.txt",
            status="pending",
            raw_input={"path": "a.txt"},
        )
        answer = await self._client.request_permission(session_id="one", tool_call=call, options=options)
        return answer.outcome.option_id if isinstance(answer.outcome, AllowedOutcome) else "cancelled"

    async def _say(self, text: str) -> None:
        await self._tell(update_agent_message_text(text))

    async def _tell(self, update: Any) -> None:
        await self._client.session_update(session_id="one", update=update)


def _note(name: str, text: str) -> None:
    """Leave word for a test that no longer listens."""
    Path(name).write_text(text)


if __name__ == "__main__":
    agent: Any = TestedAgent()
    asyncio.run(run_agent(agent))
