"""Keys as rows: which opens which, and what is done where one is missing."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from sessiond.actions import expiry, work
from sessiond.core.caller import Workspace
from sessiond.core.errors import Damaged, Locked, Unavailable
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.crypto import LocalMaster, make_key
from sessiond.storage import events, leases, seals, session_ids, sessions, waits, workspaces
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.vault import Vault
from tests.storage.making import NOW, add, another_engine, append, execute, make_append, make_session, must_find, said

MASTER = make_key()
STORAGE_KEY = "a storage key of some length"


async def make_workspace(engine: Engine, name: str = "here", *, storage_key: str | None = None) -> WorkspaceId:
    """Make a workspace that is sealed, and open."""
    engine.vault.master = LocalMaster([MASTER])
    workspace_id = WorkspaceId(name)
    made = (
        seals.make_client_root(workspace_id, storage_key)
        if storage_key is not None
        else seals.make_server_root(workspace_id, engine.vault.master)
    )

    async def operation(tx: Tx) -> None:
        await workspaces.insert(tx, Workspace(workspace_id, sha256(name.encode()).hexdigest(), 1))
        await seals.insert_root(tx, workspace_id, made.root)
        await seals.set_state(tx, workspace_id, key_id=made.root.id, changing=False)

    await engine.write(operation)
    if storage_key is not None:
        engine.vault.keep_shown(workspace_id, made.root.id, made.secret, storage_key)
    return workspace_id


def forget(engine: Engine) -> None:
    """Forget every key, as another process has never had one."""
    engine.vault._ciphers.clear()
    engine.vault._roots.clear()


async def test_a_session_has_a_key_of_its_own_that_its_workspaces_key_wraps(engine: Engine) -> None:
    here = await make_workspace(engine)
    await add(engine, make_session("a", name="a"), make_session("b", name="b"))
    keys = {(await must_find(engine, each)).key_id for each in "ab"}
    forget(engine)

    assert [(await must_find(engine, each)).name for each in "ab"] == ["a", "b"]
    assert len(keys) == 2
    for key_id in keys:
        assert key_id is not None
        cipher = engine.vault.find(here, key_id)
        assert cipher is not None
        assert cipher.parent is cipher.root
        assert cipher.parent.key_id == (await engine.read(lambda tx: seals.read_state(tx, here))).key_id


async def test_a_workspace_is_locked_until_its_client_shows_the_key(engine: Engine) -> None:
    here = await make_workspace(engine, storage_key=STORAGE_KEY)
    await add(engine, make_session("a", name="a"))
    assert await engine.read(seals.read_locked) == []
    forget(engine)

    with pytest.raises(Locked, match="storage-key"):
        await must_find(engine, "a")
    with pytest.raises(Locked):
        await append(engine, make_append("a", *said("x")))
    assert await engine.read(seals.read_locked) == [here]


async def test_a_key_that_is_not_there_is_named_by_what_it_sealed(engine: Engine, database: str) -> None:
    here = await make_workspace(engine)
    await add(engine, make_session("a", name="a"), make_session("b", name="b"))
    assert await engine.write(lambda tx: seals.destroy(tx, here, "a"))
    assert not await engine.write(lambda tx: seals.destroy(tx, here, "a"))
    forget(engine)

    with pytest.raises(Damaged, match="session a cannot be opened"):
        await must_find(engine, "a")
    with pytest.raises(Damaged, match="key 7"):
        await engine.read(lambda tx: seals.cipher_of(tx, here, 7))
    assert (await must_find(engine, "b")).name == "b"


async def test_many_keys_are_read_together(engine: Engine) -> None:
    here = await make_workspace(engine)
    await add(engine, *(make_session(f"s{number}", name="x") for number in range(20)))
    keys = [(await must_find(engine, f"s{number}")).key_id for number in range(20)]
    asked = Counter[str]()
    # The workspace's own key is there: only the sessions' are not.
    engine.vault._ciphers.clear()

    class Counting:
        def __init__(self, tx: Tx) -> None:
            self._tx = tx

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tx, name)

        async def one(self, statement: str, /, **values: Any) -> Any:
            asked[statement] += 1
            return await self._tx.one(statement, **values)

    async def operation(tx: Tx) -> None:
        counting: Any = Counting(tx)
        await seals.prepare(counting, here, keys)
        assert tx.takes_arrays == all(tx.vault.find(here, key_id) is not None for key_id in keys if key_id)
        await seals.prepare(counting, here, [None, keys[0]])

    await engine.read(operation)
    assert asked["seal_key_get"] == 0


async def test_an_index_has_a_key_of_each_workspace_and_of_each_of_its_keys(engine: Engine) -> None:
    here, there = await make_workspace(engine), await make_workspace(engine, "elsewhere")
    keys = {each: await engine.read(lambda tx, each=each: seals.read_index_keys(tx, each)) for each in (here, there)}  # type: ignore[misc]
    state = await engine.read(lambda tx: seals.read_state(tx, here))
    assert [key.id for key in keys[here]] == [state.key_id]
    assert keys[here][0].secret != keys[there][0].secret

    async def ids(key_id: int | None, *, changing: bool) -> list[int]:
        await engine.write(lambda tx: seals.set_state(tx, here, key_id=key_id, changing=changing))
        return [key.id for key in await engine.read(lambda tx: seals.read_index_keys(tx, here))]

    assert await ids(state.key_id, changing=True) == [state.key_id, seals.PLAIN]
    assert await ids(None, changing=True) == [seals.PLAIN, state.key_id]
    assert await ids(None, changing=False) == [seals.PLAIN]


async def test_what_waits_for_a_key_keeps_nobody_else_waiting(engine: Engine, database: str) -> None:
    """Neither a client's, nor one that the master key does not open, nor one where there is no master key."""
    locked = await make_workspace(engine, storage_key=STORAGE_KEY)
    foreign, plain = await make_workspace(engine, "foreign"), WorkspaceId("elsewhere")
    await engine.write(lambda tx: workspaces.insert(tx, Workspace(plain, "e" * 64, 1)))
    for each in (locked, foreign, plain):
        session = replace(make_session("s", workspace=each), expires_at_us=NOW + 1)
        await add(engine, session)
    async with another_engine(database) as other:
        for master, passed_by in ((LocalMaster([make_key()]), {foreign, locked}), (None, {foreign, locked})):
            other.vault = _vault(other, master)
            done = await _sweep(other)
            assert done >= (master is not None)
            assert set(await other.read(seals.read_locked)) == passed_by
            assert await other.read(expiry.find_next) is None
            assert await other.read(leases.find_next) is None
            claimed = await other.write(lambda tx: work.claim(tx, "w", now_us=NOW, lease_us=1, limit=9))
            assert claimed.works == []
            assert await other.write(lambda tx: waits.read_due(tx, now_us=NOW, limit=9)) == []
    rows = await engine.read(lambda tx: session_ids.read_expired(tx, now_us=NOW + 2, limit=9))
    assert sorted(rows) == sorted([(foreign, "s"), (locked, "s")])


async def _sweep(engine: Engine) -> int:
    """Expire what is due, as the sweeper does: tried again when it was refused."""
    for _ in range(3):
        try:
            return await engine.write(lambda tx: expiry.expire_sessions(tx, now_us=NOW + 2))
        except Unavailable:
            continue
    raise AssertionError("it is refused for ever")


def _vault(engine: Engine, master: LocalMaster | None) -> Vault:
    vault = engine.vault
    vault.master = master
    vault._refused.clear()
    return vault


async def test_what_is_kept_long_enough_goes_though_nobody_can_open_it(engine: Engine) -> None:
    locked = await make_workspace(engine, storage_key=STORAGE_KEY)
    ended = make_session("s", name="x", metadata={"a": 1})
    await add(engine, replace(ended, completed_at_us=NOW, expires_at_us=None, status=type(ended.status)("completed")))
    forget(engine)

    assert await engine.write(lambda tx: expiry.delete_ended(tx, NOW + 9, workspace_id=locked, kept_us=1)) > 0

    assert await engine.write(lambda tx: expiry.delete_ended(tx, NOW + 9, workspace_id=locked, kept_us=1)) == 0
    assert await engine.read(lambda tx: sessions.count_all(tx, locked)) == 0


async def test_details_that_are_gone_are_missed(engine: Engine, database: str) -> None:
    await make_workspace(engine)
    await add(engine, make_session("a", name="a"), make_session("b"))
    await execute(database, "update session_details set sealed = null")

    with pytest.raises(Damaged, match="session a"):
        await must_find(engine, "a")
    assert (await must_find(engine, "b")).name is None


async def test_an_event_in_plain_text_is_no_event_of_a_sealed_session(engine: Engine, database: str) -> None:
    here = await make_workspace(engine)
    await add(engine, make_session("a"))
    await append(engine, make_append("a", *said("one", "two")))
    plain = "'{}'" if engine.name == "postgres" else "cast('{}' as blob)"
    await execute(database, f"update events set body = {plain} where seq = 2")
    session = await must_find(engine, "a")

    with pytest.raises(Damaged, match="event a 2"):
        await engine.read(lambda tx: events.find(tx, session, 2))
    assert await engine.read(lambda tx: events.find(tx, session, 1)) is not None
    assert (here, session.id) == ("here", SessionId("a"))
