"""Runs an agent that speaks the Agent Client Protocol on standard input and output.

The protocol's shapes are the package's. Its connection is not used: that makes a task of every message, as many as the
agent sends. Here the next message is read when the pieces of the last one were taken.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from acp import PROTOCOL_VERSION, schema
from pydantic import BaseModel, ValidationError

from sessiond import __version__
from sessiond.core.agent import AcpOptions, Permissions, program_of
from sessiond.core.run import Answer, Ask, Brief, Choice, Piece, Text, Thought, ToolCall, ToolResult, Usage
from sessiond.runners.jsonrpc import Failure, Line, Message, Refused
from sessiond.runners.lines import MESSAGE_MAX, add_said, check_usage
from sessiond.runners.process import open_program
from sessiond.runners.runner import AGENT_FAILED, BAD_OUTPUT, NOT_CONFIGURED, AgentError, Reply

START_SECONDS: Final = 120.0  # until a session is there: the first `npx …` downloads the agent
CANCEL_SECONDS: Final = 0.3  # for the agent to stop by itself; it is killed within what is left of two seconds

AUTH_REQUIRED: Final = -32000

# What is answered when nobody is asked, in order of preference.
DECISIONS: Final[Mapping[Permissions, tuple[str, ...]]] = {
    Permissions.ALLOW: ("allow_once", "allow_always"),
    Permissions.DENY: ("reject_once", "reject_always"),
}

M = TypeVar("M", bound=BaseModel)


async def run(brief: Brief) -> AsyncGenerator[Piece, Reply]:
    options = brief.agent.read_options(AcpOptions)
    async with (
        _open_folder(options.cwd) as folder,
        open_program(brief, program_of(options.command), cwd=folder, env=options.env) as program,
    ):
        line = Line(program)
        session_id = await _open_session(line, folder)
        turn = _Turn()
        asked = line.ask("session/prompt", {"sessionId": session_id, "prompt": _make_prompt(brief)})
        permission: Message | None = None
        try:
            while (message := await line.receive()).answers != asked:
                if message.method == "session/update":
                    for piece in turn.read_update(_object(message.params).get("update")):
                        yield piece
                elif message.method == "session/request_permission":
                    permission = message
                    request = _read(schema.RequestPermissionRequest, message.params, "session/request_permission")
                    for piece in turn.read_permission(request):
                        yield piece
                    if options.permissions is Permissions.ASK:
                        choice = _choose(request, (yield turn.make_ask(request)))
                    else:
                        choice = _decide(request, DECISIONS[options.permissions])
                    permission = None
                    turn.declined |= choice is None
                    await line.answer(message, _outcome(choice))
                elif message.method is not None:
                    await line.refuse(message)
        except (asyncio.CancelledError, GeneratorExit):
            await _cancel(line, session_id, asked=asked, permission=permission)
            raise
        except Refused as error:
            raise _explain(error.failure) from error
        if message.error is not None:
            raise _explain(message.error)
        for piece in turn.end(_read(schema.PromptResponse, message.result, "answer to session/prompt")):
            yield piece


@asynccontextmanager
async def _open_folder(path: str | None) -> AsyncIterator[str]:
    """Yield the folder the agent works in: the one it was given, or one that is there for this run only."""
    if path is not None:
        if not Path(path).is_absolute():
            raise AgentError(NOT_CONFIGURED, f"options.cwd must be an absolute path, not {path!r}", permanent=True)
        yield path
        return
    made = tempfile.mkdtemp(prefix="sessiond-")
    try:
        yield made
    finally:
        await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)


async def _open_session(line: Line, folder: str) -> str:
    try:
        async with asyncio.timeout(START_SECONDS):
            hello = {
                "protocolVersion": PROTOCOL_VERSION,
                # Files and terminals are the agent's own affair: it is on the same machine.
                "clientCapabilities": {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False},
                "clientInfo": {"name": "sessiond", "version": __version__},
            }
            answer = _read(schema.InitializeResponse, await line.call("initialize", hello), "answer to initialize")
            if answer.protocol_version != PROTOCOL_VERSION:
                spoken = f"the agent speaks version {answer.protocol_version} of its protocol, not {PROTOCOL_VERSION}"
                raise AgentError(NOT_CONFIGURED, spoken, permanent=True)
            opened = await line.call("session/new", {"cwd": folder, "mcpServers": []})
            return _read(schema.NewSessionResponse, opened, "answer to session/new").session_id
    except Refused as error:
        raise _explain(error.failure) from error
    except TimeoutError as error:
        raise AgentError(
            BAD_OUTPUT if line.excerpt() else AGENT_FAILED,
            f"the agent did not open a session within {START_SECONDS:g} s: does its command start it for the Agent"
            f" Client Protocol{line.excerpt()}",
        ) from error


async def _cancel(line: Line, session_id: str, *, asked: int, permission: Message | None) -> None:
    """Ask the agent to stop, and wait a moment until it has."""
    with suppress(AgentError, Refused, TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS):
            await line.notify("session/cancel", {"sessionId": session_id})
            message = permission
            while message is None or message.answers != asked:
                # It waits for an answer to each of its requests before it ends its turn.
                if message is not None and message.method == "session/request_permission":
                    await line.answer(message, _outcome(None))
                elif message is not None and message.method is not None:
                    await line.refuse(message)
                message = await line.receive()


def _make_prompt(brief: Brief) -> list[dict[str, str]]:
    """Return the input, and before it the conversation so far: the agent's session is a new one for each run."""
    earlier = brief.messages if brief.input is None else brief.messages[:-1]
    blocks = ["Go on." if brief.input is None else _text(brief.input)]
    if earlier:
        said = [f'<message role="{said.role}">\n{_text(said.content)}\n</message>' for said in earlier]
        blocks.insert(0, "\n\n".join(["The conversation so far:", *said, "What is said now:"]))
    return [{"type": "text", "text": block} for block in blocks]


def _text(content: msgspec.Raw) -> str:
    """Return content as text: of a part that is none, its JSON."""
    said: str | list[dict[str, Any]] = msgspec.json.decode(content)
    if isinstance(said, str):
        return said
    texts = (part.get("text") if part.get("type", "text") == "text" else None for part in said)
    return "\n".join(
        text if isinstance(text, str) else msgspec.json.encode(part).decode()
        for text, part in zip(texts, said, strict=True)
    )


class _Call(msgspec.Struct):
    """A tool call as far as it is known. It may become known bit by bit."""

    title: str = ""
    input: Any = None
    content: list[Any] = []
    output: Any = None
    ended: bool = False


class _Turn:
    """What an agent does about a prompt, made into pieces."""

    def __init__(self) -> None:
        self.declined = False
        """Whether a permission was neither given nor refused: the agent may end its turn on that."""
        self._calls: dict[str, _Call] = {}
        self._held: dict[str, None] = {}
        """The calls that were not told yet, in order."""
        self._said_bytes = 0
        self._message: str | None = None
        self._broken = False
        self._steps: list[str] = []

    def read_update(self, update: Any) -> list[Piece]:
        kind = _object(update).get("sessionUpdate")
        if kind in ("tool_call", "tool_call_update"):
            return self._read_call(_read(schema.ToolCallUpdate, update, kind))
        if kind == "agent_message_chunk":
            return [*self._tell_calls(), *self._read_text(_read(schema.ContentChunk, update, kind))]
        if kind == "agent_thought_chunk":
            thought = _block_text(_read(schema.ContentChunk, update, kind).content)
            return [*self._tell_calls(), Thought(thought)] if thought else []
        if kind == "plan":
            return self._read_plan(_read(schema.Plan, update, kind))
        return []  # commands, modes, the size of its context; and what later versions of the protocol may say

    def read_permission(self, request: schema.RequestPermissionRequest) -> list[Piece]:
        """Return the pieces that come before the question: whoever is asked sees the call."""
        return [*self._read_call(request.tool_call), *self._tell_calls()]

    def make_ask(self, request: schema.RequestPermissionRequest) -> Ask:
        call = self._calls[request.tool_call.tool_call_id]
        known = {"title": call.title, "rawInput": call.input}
        return Ask(
            title=request.tool_call.title or call.title or "the agent asks for permission",
            options=[Choice(id=option.option_id, name=option.name) for option in request.options],
            detail={name: value for name, value in known.items() if value} | _plain(request.tool_call),
        )

    def end(self, answer: schema.PromptResponse) -> Iterator[Piece]:
        """Yield what is left to say.

        Raises:
            AgentError: the agent ended its turn without being done.
        """
        yield from self._tell_calls()
        if answer.usage is not None:
            yield check_usage(_usage(answer.usage))
        match answer.stop_reason:
            case "refusal":
                raise AgentError(AGENT_FAILED, "the agent refuses to do this", permanent=True)
            case "max_turn_requests":
                raise AgentError(AGENT_FAILED, "the agent asked its model as often as it may in one turn")
            case "cancelled" if not self.declined:
                raise AgentError(AGENT_FAILED, "the agent stopped as if it had been cancelled")

    def _read_text(self, chunk: schema.ContentChunk) -> list[Piece]:
        text = _block_text(chunk.content)
        if not text:
            return []
        another = self._broken if chunk.message_id is None else chunk.message_id != self._message
        if self._said_bytes and another:
            text = f"\n\n{text}"  # the words of two messages shall not run together
        self._broken, self._message = False, chunk.message_id
        self._said_bytes = add_said(self._said_bytes, text)
        return [Text(text)]

    def _read_plan(self, plan: schema.Plan) -> list[Piece]:
        steps = [entry.content for entry in plan.entries]
        if steps == self._steps:
            return []  # it comes again with each step that is done
        self._steps = steps
        return [*self._tell_calls(), Thought("".join(f"\n- {step}" for step in steps) + "\n")]

    def _read_call(self, update: schema.ToolCallUpdate) -> list[Piece]:
        call_id, pieces = update.tool_call_id, list[Piece]()
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = _Call()
            self._held[call_id] = None
        if call.ended:
            return []
        call.title = update.title or call.title
        call.input = call.input if update.raw_input is None else update.raw_input
        call.output = call.output if update.raw_output is None else update.raw_output
        call.content = call.content if update.content is None else [_plain(block) for block in update.content]
        # An agent may begin a call while its model still writes the arguments: then it waits for those.
        if call_id in self._held and (call.input or update.status not in (None, "pending")):
            pieces.append(self._tell(call_id))
        if update.status in ("completed", "failed"):
            pieces.append(ToolResult(call_id, output=_output(call), is_error=update.status == "failed"))
            self._calls[call_id] = _Call(ended=True)
        return pieces

    def _tell_calls(self) -> list[Piece]:
        """Return the calls that were held back, before something else is said."""
        return [self._tell(call_id) for call_id in list(self._held)]

    def _tell(self, call_id: str) -> ToolCall:
        del self._held[call_id]
        self._broken = True
        call = self._calls[call_id]
        return ToolCall(call_id, name=call.title or call_id, arguments=call.input)


def _output(call: _Call) -> Any:
    """Return what a tool said: as the agent's program has it, else as people are shown it."""
    if call.output is not None or not call.content:
        return call.output
    texts = [block.get("content", {}).get("text") for block in call.content]
    return "\n".join(texts) if all(isinstance(text, str) for text in texts) else call.content


def _usage(usage: schema.Usage) -> Usage:
    """Return the tokens of a session that has had one turn.

    The protocol leaves open whether cached and thought tokens stand beside the others or are among them; the total
    tells.
    """
    thought = usage.thought_tokens or 0
    beside = thought + (usage.cached_read_tokens or 0) + (usage.cached_write_tokens or 0)
    apart = usage.input_tokens + usage.output_tokens + beside == usage.total_tokens
    completion_tokens = usage.output_tokens + (thought if apart else 0)
    return Usage(
        prompt_tokens=max(usage.input_tokens, usage.total_tokens - completion_tokens),
        completion_tokens=completion_tokens,
    )


def _decide(request: schema.RequestPermissionRequest, kinds: tuple[str, ...]) -> str | None:
    """Return the option that is of the first of `kinds` there is; None when there is none."""
    found = {option.kind: option.option_id for option in reversed(request.options)}
    return next((found[kind] for kind in kinds if kind in found), None)


def _choose(request: schema.RequestPermissionRequest, answer: Reply) -> str | None:
    """Return the option that was answered; None when it is none of those there are."""
    chosen = answer.option_id if isinstance(answer, Answer) else None
    return chosen if any(option.option_id == chosen for option in request.options) else None


def _outcome(option_id: str | None) -> dict[str, Any]:
    return {
        "outcome": {"outcome": "cancelled"} if option_id is None else {"outcome": "selected", "optionId": option_id}
    }


def _explain(failure: Failure) -> AgentError:
    details = _object(failure.data).get("details")
    said = f"{failure.message}: {details}" if isinstance(details, str) and details else failure.message
    if failure.code == AUTH_REQUIRED:
        advice = "log the agent in on the worker's machine, as the user that the worker runs as"
        return AgentError(NOT_CONFIGURED, f"{advice} ({said[:MESSAGE_MAX]})", permanent=True)
    return AgentError(AGENT_FAILED, f"the agent says: {said[:MESSAGE_MAX]} ({failure.code})")


def _read(shape: type[M], said: Any, name: str) -> M:
    try:
        return shape.model_validate(said)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in wrong["loc"])
        raise AgentError(
            BAD_OUTPUT, f"the agent's {name} is not as its protocol says: {where}: {wrong['msg']}"
        ) from error


def _block_text(block: BaseModel) -> str:
    """Return a block of content as text; what is not text is named."""
    match block:
        case schema.TextContentBlock():
            return block.text
        case schema.ResourceContentBlock():
            return block.uri
        case schema.EmbeddedResourceContentBlock(resource=schema.TextResourceContents() as resource):
            return resource.text
        case _:
            return f"[{getattr(block, 'type', 'content')}]"


def _object(said: Any) -> dict[str, Any]:
    return said if isinstance(said, dict) else {}


def _plain(model: BaseModel) -> dict[str, Any]:
    try:
        return model.model_dump(mode="json", by_alias=True, exclude_none=True)
    except ValueError as error:
        raise AgentError(BAD_OUTPUT, f"what the agent says cannot be kept: {error}") from error
