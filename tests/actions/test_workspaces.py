"""Workspaces: made by whoever runs the server; the first one with its key."""

from __future__ import annotations

import asyncio

import pytest

from sessiond.actions import keys, workspaces
from sessiond.actions.call import Call
from sessiond.auth.keys import Authenticator
from sessiond.core.caller import ALL_SCOPES
from sessiond.core.errors import Conflict, InvalidInput, NotFound
from sessiond.storage.engine import Engine


async def test_the_first_start_makes_one_workspace_and_one_key_however_many_processes_start(engine: Engine) -> None:
    made = [key for key in await asyncio.gather(*(workspaces.begin(engine) for _ in range(8))) if key is not None]

    assert len(made) == 1
    holder = await Authenticator(engine).authenticate(f"Bearer {made[0].secret}")
    assert (holder.workspace_id, holder.scopes, holder.user_id) == (workspaces.DEFAULT, ALL_SCOPES, None)
    default = await workspaces.get(engine, workspaces.DEFAULT)
    listed = await keys.read_page(Call(engine, workspaces.operator(default)), limit=10)
    assert [key.id for key in listed] == [made[0].key.id]
    assert await workspaces.begin(engine) is None


async def test_a_key_says_which_workspace_it_belongs_to(engine: Engine) -> None:
    first = await workspaces.begin(engine)
    assert first is not None

    assert (await workspaces.get_by_key(engine, first.key.id)).id == workspaces.DEFAULT
    with pytest.raises(NotFound):
        await workspaces.get_by_key(engine, "key_none")


async def test_workspaces_have_names_of_their_own(engine: Engine) -> None:
    made = [await workspaces.create(engine, name) for name in ("b", "a", "é")]

    assert len({workspace.database_id_hash for workspace in made}) == 3
    assert all(len(bytes.fromhex(workspace.database_id_hash)) == 32 for workspace in made)
    assert await workspaces.get(engine, "a") == made[1]
    assert await workspaces.read_page(engine, limit=2) == [made[1], made[0]]
    assert await workspaces.read_page(engine, after="b", limit=2) == [made[2]]
    with pytest.raises(Conflict):
        await workspaces.create(engine, "a")
    with pytest.raises(NotFound):
        await workspaces.get(engine, "A")
    for wrong in ("", "a/b", "a\0"):
        with pytest.raises(InvalidInput):
            await workspaces.create(engine, wrong)
