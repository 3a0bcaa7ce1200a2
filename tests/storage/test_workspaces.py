"""Workspaces as rows."""

from __future__ import annotations

from sessiond.core.caller import Workspace
from sessiond.core.ids import WorkspaceId
from sessiond.storage import workspaces
from sessiond.storage.engine import Engine, Tx


async def test_workspaces_are_made_once_found_and_listed_in_order(engine: Engine) -> None:
    made = [Workspace(WorkspaceId(name), f"{number}" * 64, number) for number, name in enumerate(["B", "a", "ä", "b"])]

    async def insert(tx: Tx) -> list[bool]:
        again = Workspace(WorkspaceId("a"), "f" * 64, 9)
        return [await workspaces.insert(tx, workspace) for workspace in [*made, again]]

    async def look(tx: Tx) -> None:
        assert await workspaces.find(tx, "a") == made[1]
        assert await workspaces.find(tx, "A") is None
        assert [workspace.id for workspace in await workspaces.read_page(tx, limit=3)] == ["B", "a", "b"]
        assert [workspace.id for workspace in await workspaces.read_page(tx, after="b", limit=3)] == ["ä"]

    assert await engine.write(insert) == [True, True, True, True, False]
    await engine.read(look)
