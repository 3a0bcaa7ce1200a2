"""The file of agents: what is in it is registered when a server or a worker starts."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from sessiond.actions import agents
from sessiond.actions.call import Call, itself
from sessiond.actions.workspaces import DEFAULT, operator
from sessiond.cli.database import get_workspace
from sessiond.core.agent import Agent, NewAgent
from sessiond.core.errors import InvalidInput, NotFound, TooLarge
from sessiond.core.ids import WorkspaceId, parse_id
from sessiond.settings import SettingsError
from sessiond.storage.engine import Engine

log: Final = logging.getLogger("sessiond.cli")


class Listed(msgspec.Struct, frozen=True):
    """An agent that the file names; it can be registered."""

    file: str
    workspace_id: str
    agent_id: str
    new: NewAgent


class _Place(msgspec.Struct, frozen=True):
    workspace: str = DEFAULT


def read_agents(file: str | None) -> list[Listed]:
    """Return the agents of a file, none without a file.

    Raises:
        SettingsError: it cannot be read, or one cannot be registered; the message names file, agent and field.
    """
    if file is None:
        return []
    try:
        read = tomllib.loads(Path(file).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the agents file {file} cannot be read: {error}") from error
    unknown = ", ".join(sorted(read.keys() - {"agents"}))
    if unknown:
        raise SettingsError(f"{file}: {unknown} means nothing there: each agent is a table [agents.ID]")
    tables = read.get("agents", {})
    if not isinstance(tables, dict):
        raise SettingsError(f"{file}: agents must be tables, [agents.ID] each")
    return [_read_agent(file, agent_id, table) for agent_id, table in tables.items()]


async def check_workspaces(engine: Engine, listed: Sequence[Listed]) -> None:
    """See that all agents have a workspace; `default` is there or will be.

    Raises:
        NotFound: one has not; the message names file and agent.
    """
    for each in listed:
        if each.workspace_id != DEFAULT:
            try:
                await get_workspace(engine, each.workspace_id)
            except NotFound as error:
                raise NotFound(f"{each.file}: agent {each.agent_id!r}: {error}") from error


async def register_listed(engine: Engine, listed: Sequence[Listed]) -> None:
    """Register the agents, or change them; those that are registered just so are left alone."""
    for each in listed:
        call = Call(engine, operator(await get_workspace(engine, each.workspace_id)))
        if await _is_registered(call, each):
            continue
        done = await agents.register(call, each.agent_id, each.new, itself)
        word = "registered" if done.new else "changed"
        log.info("agent=%s workspace=%s was %s by %s", each.agent_id, each.workspace_id, word, each.file)


async def _is_registered(call: Call, listed: Listed) -> bool:
    try:
        there = await agents.get(call, listed.agent_id)
    except NotFound:
        return False
    return _said(there) == _said(listed.new.make(there.workspace_id, there.id, at_us=0))


def _said(agent: Agent) -> dict[str, Any]:
    said = msgspec.structs.asdict(agent) | {"options": msgspec.json.decode(agent.options)}
    return {name: value for name, value in said.items() if name not in ("created_at_us", "updated_at_us")}


def _read_agent(file: str, agent_id: str, table: Any) -> Listed:
    try:
        parse_id(agent_id, "the id")
        fields = msgspec.convert(table, dict[str, Any])
        place = msgspec.convert({name: fields.pop(name) for name in ("workspace",) if name in fields}, _Place)
        new = msgspec.convert(fields, NewAgent)
        new.make(WorkspaceId(place.workspace), agent_id, at_us=0)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{file}: agent {agent_id!r}: {_say(error)}") from error
    except (InvalidInput, TooLarge) as error:
        raise SettingsError(f"{file}: agent {agent_id!r}: {error}") from error
    return Listed(file, place.workspace, agent_id, new)


def _say(error: msgspec.ValidationError) -> str:
    text = str(error).replace("Object contains unknown field", "there is no field")
    text = text.replace("Object missing required field", "it needs the field")
    return text[:1].lower() + text[1:]
