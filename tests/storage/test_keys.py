"""Keys as rows."""

from __future__ import annotations

import pytest

from sessiond.core.caller import Key, Scope, Workspace
from sessiond.core.ids import KeyId, WorkspaceId
from sessiond.storage import keys, workspaces
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.keys import Known
from tests.storage.making import ELSEWHERE, NOW, WORKSPACE


def make_key(key_id: str, *, workspace: WorkspaceId = WORKSPACE, at_us: int = NOW) -> Key:
    return Key(
        id=KeyId(key_id),
        workspace_id=workspace,
        name="näme",
        scopes=frozenset({Scope.ADMIN, Scope.SESSIONS_READ}),
        dialect="viben",
        user_id="me",
        created_at_us=at_us,
        expires_at_us=NOW * 2,
        revoked_at_us=None,
        last_used_at_us=None,
    )


@pytest.fixture
async def workspaced(engine: Engine) -> Engine:
    async def operation(tx: Tx) -> None:
        for number, workspace in enumerate((WORKSPACE, ELSEWHERE)):
            assert await workspaces.insert(tx, Workspace(workspace, f"{number}" * 64, NOW))

    await engine.write(operation)
    return engine


async def insert(engine: Engine, *made: Key) -> None:
    async def operation(tx: Tx) -> None:
        for key in made:
            await keys.insert(tx, key, secret_hash=key.id.encode())

    await engine.write(operation)


async def find(engine: Engine, key_id: str) -> Known | None:
    async def operation(tx: Tx) -> Known | None:
        return await keys.find_by_hash(tx, key_id.encode())

    return await engine.read(operation)


async def test_a_key_is_found_by_its_hash_with_its_workspace(workspaced: Engine) -> None:
    key = make_key("a", workspace=ELSEWHERE)
    await insert(workspaced, key)

    assert await find(workspaced, "a") == Known(key, "1" * 64, storage_key_id=None, audits_reads=False)
    assert await find(workspaced, "b") is None


async def test_keys_are_read_by_page_in_the_order_of_their_making(workspaced: Engine) -> None:
    made = [make_key(f"k{number}", at_us=NOW + number // 2) for number in range(5)]
    await insert(workspaced, *made[::-1], make_key("k9", workspace=ELSEWHERE))

    after, found = (-1, ""), []
    while True:

        async def operation(tx: Tx, after: tuple[int, str] = after) -> list[Key]:
            return await keys.read_page(tx, WORKSPACE, after=after, limit=2)

        page = await workspaced.read(operation)
        if not page:
            break
        found += page
        after = (page[-1].created_at_us, page[-1].id)
    assert found == made


async def test_a_key_is_revoked_once_and_by_its_own_workspace_only(workspaced: Engine) -> None:
    await insert(workspaced, make_key("a"))

    async def revoke(workspace: WorkspaceId, key_id: str, at_us: int) -> bool:
        async def operation(tx: Tx) -> bool:
            return await keys.revoke(tx, workspace, key_id, at_us=at_us)

        return await workspaced.write(operation)

    assert not await revoke(ELSEWHERE, "a", NOW)
    assert not await revoke(WORKSPACE, "b", NOW)
    assert await revoke(WORKSPACE, "a", NOW + 1)
    assert await revoke(WORKSPACE, "a", NOW + 2)
    found = await find(workspaced, "a")
    assert found is not None
    assert found.key.revoked_at_us == NOW + 1, "the first time stays"


async def test_the_last_use_only_moves_on(workspaced: Engine) -> None:
    await insert(workspaced, make_key("a"), make_key("b"))

    for used in ({"a": NOW + 5, "none": NOW}, {"a": NOW + 3, "b": NOW}):

        async def operation(tx: Tx, used: dict[str, int] = used) -> None:
            await keys.touch(tx, used)

        await workspaced.write(operation)

    found = {key_id: await find(workspaced, key_id) for key_id in "ab"}
    assert {key_id: row.key.last_used_at_us for key_id, row in found.items() if row} == {"a": NOW + 5, "b": NOW}
