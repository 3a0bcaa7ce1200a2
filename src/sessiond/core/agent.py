"""An agent: which runner does its work, with which options, and within which limits."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from sessiond.core.errors import InvalidInput
from sessiond.core.ids import WorkspaceId

ECHO: Final = "echo"
HIDDEN: Final = "***"
"""What is shown in place of a secret."""

Command = Annotated[str | list[str], Meta(description="The program: one line as in a shell, or a list.")]
Environment = Annotated[dict[str, str], Meta(description="Variables added to the program's environment.")]
Url = Annotated[str, Meta(pattern="^https?://[^ ]+$", max_length=2_000)]
Headers = Annotated[dict[str, str], Meta(description="Headers sent with each request.")]


class EchoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Says back what it was told, word by word."""

    delay_ms: Annotated[int, Meta(ge=0, le=60_000, description="Pause before each word.")] = 0


class CommandProtocol(StrEnum):
    JSON = "json"
    TEXT = "text"


class CommandOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Starts a program for each run."""

    command: Command
    protocol: Annotated[
        CommandProtocol, Meta(description="`json`: JSON lines in and out; `text`: the input in, the output out.")
    ] = CommandProtocol.JSON
    cwd: Annotated[str | None, Meta(description="The folder it is started in.")] = None
    env: Environment = {}


class Permissions(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


class AcpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Starts a coding agent that speaks the Agent Client Protocol on stdio."""

    command: Command
    permissions: Annotated[Permissions, Meta(description="What it is told when it wants to do something.")] = (
        Permissions.ASK
    )
    """`ask`: the run waits for whoever watches it."""
    cwd: Annotated[str | None, Meta(description="The folder it works in.")] = None
    env: Environment = {}


class ChatOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks an endpoint that speaks OpenAI's chat completions."""

    base_url: Annotated[Url, Meta(description="Such as `http://127.0.0.1:11434/v1`.")]
    model: Annotated[str, Meta(min_length=1, max_length=200, description="As the endpoint calls it.")]
    system: Annotated[str | None, Meta(description="The system prompt, put before the history.")] = None
    api_key: Annotated[str | None, Meta(description="Kept in the database; `api_key_env` keeps it out.")] = None
    api_key_env: Annotated[str | None, Meta(description="The worker's environment variable that holds the key.")] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None, Meta(description="0 to 2; unless given, the endpoint's own.")
    ] = None
    max_tokens: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="How long an answer may be.")] = None
    tools: Annotated[list[dict[str, Any]], Meta(description="Tools as the endpoint takes them.")] = []
    headers: Headers = {}


class WebhookOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sends the brief to a URL, signed; the answer is the output."""

    url: Annotated[Url, Meta(description="Where it is sent by POST.")]
    secret: Annotated[
        str | None, Meta(description="Signs the request (Standard Webhooks): `whsec_` and base64; or `secret_env`.")
    ] = None
    secret_env: Annotated[str | None, Meta(description="The worker's environment variable that holds it.")] = None
    headers: Headers = {}


Options = EchoOptions | CommandOptions | AcpOptions | ChatOptions | WebhookOptions

RUNNERS: Final[Mapping[str, type[Options]]] = {
    ECHO: EchoOptions,
    "command": CommandOptions,
    "acp": AcpOptions,
    "chat": ChatOptions,
    "webhook": WebhookOptions,
}

# They start programs on the worker's machine.
PROGRAMS: Final = frozenset({"command", "acp"})
SECRETS: Final = frozenset({"api_key", "secret"})
URLS: Final = frozenset({"url", "base_url"})
# Where keys stand in a URL.
_USER: Final = re.compile("//[^/?#]*@")
_QUERY: Final = re.compile(r"\?.*$", re.DOTALL)
SECRET_MAPS: Final = frozenset({"env", "headers"})

O = TypeVar("O", bound=Options)  # noqa: E741 - options


class Agent(msgspec.Struct, frozen=True):
    """A registered agent. The order of the fields is the order of the columns in `storage/sql/agents.sql`."""

    workspace_id: WorkspaceId
    id: str
    runner: str
    options: bytes
    """A JSON object, as the runner's options were checked."""
    time_limit_seconds: float
    """How long one attempt may take."""
    retries: int
    """How often a run is tried again after it failed in a way that may pass."""
    backoff_seconds: float
    """Before the first retry; twice as long before each one after it."""
    concurrency: int | None
    """How many of its runs may be under way at once, in all workers together; None: any number."""
    history: int
    """How many messages a run gets to see, its input among them."""
    fails_session: bool
    """Whether a run that fails for good takes its session along."""
    created_at_us: int
    updated_at_us: int

    def read_options(self, kind: type[O]) -> O:
        return msgspec.json.decode(self.options, type=kind)

    @property
    def needs_host(self) -> bool:
        """Whether it uses the worker's machine: starts programs there, or reads its environment."""
        given = msgspec.json.decode(self.options, type=dict[str, Any])
        return self.runner in PROGRAMS or any(name.endswith("_env") and given[name] for name in given)

    def shown_options(self) -> dict[str, Any]:
        """Return the options that were given, without what is secret in them."""
        given = msgspec.json.decode(self.options, type=dict[str, Any])
        return {name: _hidden(name, value) for name, value in given.items()}


def _hidden(name: str, value: Any) -> Any:
    if name in SECRETS and value:
        return HIDDEN
    if name in SECRET_MAPS:
        return dict.fromkeys(value, HIDDEN)
    if name in URLS:
        return _QUERY.sub(f"?{HIDDEN}", _USER.sub(f"//{HIDDEN}@", value))
    return value


def without_credentials(url: str) -> str:
    """Return a URL without what keys stand in: its user, its password and its query."""
    return _QUERY.sub("", _USER.sub("//", url))


def _find_hidden(options: Mapping[str, Any]) -> str | None:
    """Return where an agent that was read is sent back with what was hidden in it."""
    for name, value in options.items():
        if name in SECRETS and value == HIDDEN:
            return name
        if name in URLS and isinstance(value, str) and HIDDEN in value:
            return name
        if name in SECRET_MAPS and isinstance(value, dict) and HIDDEN in value.values():
            return name
    return None


class NewAgent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of an agent to be registered; the fields mean what they mean in `Agent`."""

    runner: str
    options: dict[str, Any] = {}
    time_limit_seconds: Annotated[float, Meta(gt=0, le=7 * 86_400)] = 600.0
    retries: Annotated[int, Meta(ge=0, le=100)] = 2
    backoff_seconds: Annotated[float, Meta(ge=0, le=3_600)] = 1.0
    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    history: Annotated[int, Meta(ge=1, le=1_000)] = 50
    fails_session: bool = False

    def make(self, workspace_id: WorkspaceId, agent_id: str, *, at_us: int) -> Agent:
        """Return the agent, its options checked.

        Raises:
            InvalidInput: there is no such runner, or it does not take these options.
        """
        kind = RUNNERS.get(self.runner)
        if kind is None:
            raise InvalidInput(f"runner must be one of {', '.join(RUNNERS)}", field="runner")
        options = self.options
        if "\\u0000" in msgspec.json.encode(options).decode():
            raise InvalidInput("options contain a NUL character", field="options")
        if (hidden := _find_hidden(options)) is not None:
            raise InvalidInput(f"options.{hidden} is {HIDDEN}, which only stands for a secret", field="options")
        try:
            # Not strict: on a command line and in the environment everything is text.
            checked = msgspec.convert(options, kind, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"options of the runner {self.runner}: {_say(error)}", field="options") from error
        if isinstance(checked, CommandOptions | AcpOptions):
            program_of(checked.command)
        if isinstance(checked, WebhookOptions) and not (checked.secret or checked.secret_env):
            raise InvalidInput("the runner webhook needs the option secret or secret_env to sign with", field="options")
        return Agent(
            workspace_id=workspace_id,
            id=agent_id,
            runner=self.runner,
            options=msgspec.json.encode({name: getattr(checked, name) for name in options}),
            time_limit_seconds=self.time_limit_seconds,
            retries=self.retries,
            backoff_seconds=self.backoff_seconds,
            concurrency=self.concurrency,
            history=self.history,
            fails_session=self.fails_session,
            created_at_us=at_us,
            updated_at_us=at_us,
        )


def program_of(command: str | list[str]) -> list[str]:
    """Return a command as a program and its arguments.

    Raises:
        InvalidInput: its quotes do not match, or there is nothing in it.
    """
    try:
        parts = shlex.split(command) if isinstance(command, str) else command
    except ValueError as error:
        raise InvalidInput(f"options.command: {error}", field="options") from error
    if not parts or not parts[0]:
        raise InvalidInput("options.command is empty", field="options")
    return parts


def _say(error: msgspec.ValidationError) -> str:
    text = str(error).replace("Object contains unknown field", "there is no option")
    text = text.replace("Object missing required field", "it needs the option")
    return text[:1].lower() + text[1:]
