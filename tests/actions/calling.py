"""Callers and calls for the tests of actions, without a wire in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, TypeVar

from sessiond.actions import messages, sessions
from sessiond.actions.call import Call, Retry, itself
from sessiond.core.caller import ALL_SCOPES, Caller, Scope, Workspace
from sessiond.core.event import Event
from sessiond.core.ids import KeyId, WorkspaceId
from sessiond.core.message import Message, Role, make_message
from sessiond.core.session import NewSession, Session
from sessiond.storage import workspaces
from sessiond.storage.engine import Engine, Tx

T = TypeVar("T")

HERE: Final = WorkspaceId("here")
ELSEWHERE: Final = WorkspaceId("elsewhere")


def caller(
    *, workspace: WorkspaceId = HERE, user_id: str | None = None, scopes: frozenset[Scope] = ALL_SCOPES
) -> Caller:
    return Caller(
        workspace_id=workspace, database_id_hash="0" * 64, key_id=KeyId("key_1"), scopes=scopes, user_id=user_id
    )


ME: Final = caller()


async def make_workspaces(engine: Engine) -> None:
    """See that the workspaces of the callers are there."""

    async def operation(tx: Tx) -> None:
        for number, workspace in enumerate((HERE, ELSEWHERE)):
            await workspaces.insert(tx, Workspace(workspace, f"{number}" * 64, 1))

    await engine.write(operation)


def retried(key: str, request: str = "request") -> Retry:
    """Return the terms of a request whose answer is a text."""
    return Retry(key, request.encode(), str.encode, bytes.decode)


def text(content: str) -> Message:
    return make_message(Role.USER, content)


async def create(engine: Engine, session_id: str, *, by: Caller = ME, agent_id: str | None = None) -> Session:
    made = await sessions.create(Call(engine, by), NewSession(agent_id=agent_id), itself, session_id=session_id)
    assert made.new
    return made.session


async def append(engine: Engine, session_id: str, *contents: str, by: Caller = ME) -> list[Event]:
    return await messages.append(Call(engine, by), session_id, [text(content) for content in contents], itself)


async def gathered(pages: AsyncIterator[list[T]]) -> list[T]:
    return [item async for page in pages for item in page]
