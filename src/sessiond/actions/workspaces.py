"""Workspaces: created and listed by whoever runs the server, not by callers."""

from __future__ import annotations

import time
from typing import Final

from sessiond.actions import agents, keys
from sessiond.actions.agents import make_echo
from sessiond.actions.call import Call
from sessiond.actions.keys import MadeKey, NewKey, make_key
from sessiond.core.audit import UPDATE_WORKSPACE
from sessiond.core.caller import ALL_SCOPES, DEFAULT_WORKSPACE, Caller, Workspace
from sessiond.core.errors import Conflict, InvalidInput, NotFound
from sessiond.core.ids import KeyId, WorkspaceId, parse_id
from sessiond.core.inbox import TTL_MAX_SECONDS
from sessiond.crypto import make_database_id_hash
from sessiond.storage import keys as stored_keys
from sessiond.storage import workspaces
from sessiond.storage.engine import Engine, Tx

OPERATOR: Final = KeyId("operator")
"""The actor of what is done on the command line."""
DEFAULT: Final = DEFAULT_WORKSPACE


def operator(workspace: Workspace) -> Caller:
    """Return the caller that whoever runs the server is: everything, in one workspace."""
    return Caller(
        workspace_id=workspace.id,
        database_id_hash=workspace.database_id_hash,
        key_id=OPERATOR,
        scopes=ALL_SCOPES,
        audits_reads=workspace.audits_reads,
    )


async def create(engine: Engine, workspace_id: str) -> Workspace:
    """Make an empty workspace.

    Raises:
        InvalidInput: that cannot be an id.
        Conflict: the id is taken.
    """
    workspace = _make(parse_id(workspace_id, "workspace"))

    async def operation(tx: Tx) -> Workspace:
        if not await workspaces.insert(tx, workspace):
            raise Conflict("a workspace with this id exists")
        return workspace

    return await engine.write(operation)


async def begin(engine: Engine) -> MadeKey | None:
    """On the first start make the workspace `default`, a key that may do everything in it, and the agent `echo`.

    Later return None.

    A workspace `default` that never had a key gets one too: a command may have made it before the first start.
    """
    workspace = _make(DEFAULT)
    call = Call(engine, operator(workspace))
    made = make_key(call, NewKey(name="first key", scopes=ALL_SCOPES))

    async def operation(tx: Tx) -> MadeKey | None:
        if not await workspaces.insert(tx, workspace) and await stored_keys.read_page(tx, DEFAULT, limit=1):
            return None
        await agents.insert(tx, call, make_echo(DEFAULT, at_us=workspace.created_at_us))
        await keys.insert(tx, call, made)
        return made

    return await engine.write(operation)


async def begin_without_key(engine: Engine) -> None:
    """Make the workspace `default` with the agent `echo` if need be; the first start of a server adds a key."""
    workspace = _make(DEFAULT)
    call = Call(engine, operator(workspace))

    async def operation(tx: Tx) -> None:
        if await workspaces.insert(tx, workspace):
            await agents.insert(tx, call, make_echo(DEFAULT, at_us=workspace.created_at_us))

    await engine.write(operation)


async def get(engine: Engine, workspace_id: str) -> Workspace:
    """Return a workspace.

    Raises:
        NotFound: there is none of that id.
    """

    async def operation(tx: Tx) -> Workspace:
        workspace = await workspaces.find(tx, workspace_id)
        if workspace is None:
            raise NotFound("no such workspace")
        return workspace

    return await engine.read(operation)


async def get_by_key(engine: Engine, key_id: str) -> Workspace:
    """Return the workspace that a key belongs to.

    Raises:
        NotFound: there is no such key.
    """

    async def operation(tx: Tx) -> Workspace:
        workspace = await workspaces.find_by_key(tx, key_id)
        if workspace is None:
            raise NotFound("no such key")
        return workspace

    return await engine.read(operation)


async def set_retention(engine: Engine, workspace_id: str, seconds: int | None) -> Workspace:
    """Say for how long a workspace keeps sessions and inboxes after they have ended; None: until they are deleted.

    Raises:
        InvalidInput: not a whole number of seconds that a time can be reckoned with.
        NotFound: there is no such workspace.
    """
    if seconds is not None and not 0 <= seconds <= TTL_MAX_SECONDS:
        raise InvalidInput(f"a retention is 0 to {TTL_MAX_SECONDS} seconds", field="retention")

    async def operation(tx: Tx) -> Workspace:
        await workspaces.set_retention(tx, workspace_id, seconds)
        return await _note_change(tx, engine, workspace_id, {"retention_seconds": seconds})

    return await engine.write(operation)


async def set_audit_reads(engine: Engine, workspace_id: str, *, wanted: bool) -> Workspace:
    """Say whether reads of a workspace's sealed content are noted in its audit log; within seconds everywhere.

    Raises:
        NotFound: there is no such workspace.
    """

    async def operation(tx: Tx) -> Workspace:
        await workspaces.set_audit_reads(tx, workspace_id, wanted=wanted)
        return await _note_change(tx, engine, workspace_id, {"audit_reads": "on" if wanted else "off"})

    return await engine.write(operation)


async def read_page(engine: Engine, *, after: str = "", limit: int) -> list[Workspace]:
    """Return up to `limit` workspaces in the order of their ids."""

    async def operation(tx: Tx) -> list[Workspace]:
        return await workspaces.read_page(tx, after=after, limit=limit)

    return await engine.read(operation)


async def _note_change(tx: Tx, engine: Engine, workspace_id: str, change: dict[str, str | int | None]) -> Workspace:
    """Return a workspace that was just changed, and note in its audit log how."""
    workspace = await workspaces.find(tx, workspace_id)
    if workspace is None:
        raise NotFound("no such workspace")
    await Call(engine, operator(workspace)).audit(tx, UPDATE_WORKSPACE, {"id": workspace.id} | change)
    return workspace


def _make(workspace_id: str) -> Workspace:
    return Workspace(WorkspaceId(workspace_id), make_database_id_hash(), time.time_ns() // 1000, None)
