"""What a runner is: one async generator, a brief in, pieces out.

It knows nothing of leases, retries, time limits and logs: those are `worker.py`'s. When it is closed, it stops the
agent and leaves nothing behind, within two seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from importlib import import_module
from typing import Any, Final, Protocol

import msgspec

from sessiond.core.agent import ECHO
from sessiond.core.run import Answer, Brief, Piece, ToolResult

LINE_MAX_BYTES: Final = 1024 * 1024  # what an agent may say at once: as much as a client may


Reply = Answer | ToolResult | None
"""What a runner is sent for a piece: the answer to an `Ask`; in a simulation what the tool of a `ToolCall` answers."""


class Runner(Protocol):
    """Does one attempt at a run.

    The answer to an `Ask` is what its `yield` returns; every other `yield` returns None.

    Raises:
        AgentError: the attempt failed.
    """

    def __call__(self, brief: Brief, /) -> AsyncGenerator[Piece, Reply]: ...


class AgentError(Exception):
    """An attempt failed; the message is for whoever can do something about it: lower case, no full stop, no secrets."""

    def __init__(self, code: str, message: str, *, permanent: bool = False) -> None:
        """`permanent`: another attempt would fail the same way."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.permanent = permanent


# The codes there are; `docs/guides/runs.md` says what to do about each.
AGENT_FAILED: Final = "agent_failed"  # the agent says so itself: an error piece, an exit code, a status
BAD_OUTPUT: Final = "bad_output"  # what it said cannot be understood
TOO_LARGE: Final = "too_large"  # it said too much
NO_OUTPUT: Final = "no_output"  # it ended well without having said anything
UNREACHABLE: Final = "unreachable"  # nobody is there, or the line was cut
NOT_CONFIGURED: Final = "not_configured"  # a program, an extra, a key or the agent itself is missing
TIME_LIMIT: Final = "time_limit"
WORKER_LOST: Final = "worker_lost"
INTERNAL: Final = "internal"  # a bug of ours

# Imported when first used: some bring libraries that others do without. The extra that brings them stands beside.
_MODULES: Final = {
    ECHO: ("sessiond.runners.echo", None),
    "command": ("sessiond.runners.command", None),
    "acp": ("sessiond.runners.acp", "acp"),
    "chat": ("sessiond.runners.chat", "llm"),
    "webhook": ("sessiond.runners.webhook", "webhook"),
}


def find_runner(kind: str) -> Runner:
    """Return the runner of that name.

    Raises:
        AgentError: there is none, or what it needs is not installed.
    """
    module, extra = _MODULES.get(kind, (None, None))
    if module is None:
        raise AgentError(NOT_CONFIGURED, f"there is no runner {kind!r} here", permanent=True)
    try:
        runner: Runner = import_module(module).run
    except ModuleNotFoundError as error:
        if extra is None:
            raise
        raise AgentError(
            NOT_CONFIGURED,
            f"the runner {kind} needs more than is installed here: pip install 'sessiond[{extra}]'",
            permanent=True,
        ) from error
    return runner


def brief_json(brief: Brief) -> dict[str, Any]:
    """Return a brief as agents outside are told it, ready to be encoded. The agent's options are not in it."""
    told: dict[str, Any] = {
        "type": "brief",
        "run": {"id": brief.run_id, "attempt": brief.attempt},
        "agent": {"id": brief.agent.id},
        "session": msgspec.structs.asdict(brief.session),
        "input": brief.input,
        "messages": brief.messages,
    }
    if brief.waits:
        told["waits"] = brief.waits
    if brief.recorded is not None:
        told["recorded"] = brief.recorded
    return told
