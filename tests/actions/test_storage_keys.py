"""Storage keys as they come with requests: checked once, and only so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from sessiond.actions import encryption, storage_keys
from sessiond.actions.encryption import Mode
from sessiond.actions.storage_keys import StorageKeys
from sessiond.core.caller import Caller, Scope
from sessiond.core.errors import Conflict, Damaged, Forbidden, InvalidInput, Locked, Unavailable
from sessiond.storage import runs
from sessiond.storage.engine import Engine, T
from tests.actions.calling import HERE, create, make_workspaces
from tests.actions.calling import caller as make_caller
from tests.actions.sealing import ANOTHER_KEY, STORAGE_KEY
from tests.storage.making import another_engine, execute, query

WRITER = make_caller()


async def show(
    keys: StorageKeys, storage_key: str | None = STORAGE_KEY, *, by: Caller = WRITER, writes: bool = True
) -> bool:
    return await keys.show(by, storage_key, writes=writes)


async def test_the_first_write_seals_and_the_next_finds_the_key_known(engine: Engine) -> None:
    await make_workspaces(engine)
    keys = StorageKeys(engine)

    assert await show(keys)  # the caller is to be looked up anew
    assert await show(keys)
    status = await encryption.read_status(engine, HERE)

    assert status.mode is Mode.CLIENT
    assert status.key_id is not None
    assert engine.vault.knows(HERE, status.key_id, STORAGE_KEY)
    assert not await show(keys, by=msgspec.structs.replace(WRITER, storage_key_id=status.key_id))
    with pytest.raises(Forbidden):
        await show(keys, ANOTHER_KEY)


async def test_who_may_not_write_seals_nothing(engine: Engine) -> None:
    await make_workspaces(engine)
    keys = StorageKeys(engine)

    assert not await show(keys, writes=False)
    assert not await show(keys, by=make_caller(user_id="ann"))
    assert not await show(keys, by=make_caller(scopes=frozenset({Scope.SESSIONS_READ})))

    assert (await encryption.read_status(engine, HERE)).mode is Mode.OFF


async def test_what_cannot_be_is_refused(engine: Engine) -> None:
    await make_workspaces(engine)
    keys = StorageKeys(engine)

    with pytest.raises(Locked):
        await show(keys, None)
    for bad in ("short", "x" * 1_025):
        with pytest.raises(InvalidInput, match="16 to 1024"):
            await show(keys, bad)
    await create(engine, "plain")
    with pytest.raises(Conflict, match="not sealed with a storage key"):
        await show(keys)


async def test_a_key_that_is_shown_again_wakes_what_waited_for_it(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await show(StorageKeys(engine))
    await create(engine, "s")

    async with another_engine(database) as other:
        keys = StorageKeys(other)
        with other.watches.open(*runs.DUE) as watch:
            assert await show(keys, writes=False)
            assert await watch.wait(1)
            watch.take_grown()
            assert await show(keys, writes=False)
            assert not watch.take_grown()


async def test_only_so_many_may_wait_to_be_checked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_keys, "STRETCHING_MAX", 2)
    await make_workspaces(engine)
    keys = StorageKeys(engine)
    await show(keys)

    found = await asyncio.gather(
        *(show(keys, f"{ANOTHER_KEY} {number}") for number in range(5)), return_exceptions=True
    )

    assert [type(one) for one in found].count(Unavailable) == 3
    assert [type(one) for one in found].count(Forbidden) == 2


async def test_two_first_writers_with_two_keys_make_one(engine: Engine) -> None:
    await make_workspaces(engine)
    keys = StorageKeys(engine)

    found = await asyncio.gather(show(keys), show(keys, ANOTHER_KEY), show(keys), return_exceptions=True)

    assert {type(one) for one in found} == {bool, Forbidden}
    assert len((await encryption.read_status(engine, HERE)).roots) == 1


async def test_a_writer_of_plain_text_may_be_first(engine: Engine) -> None:
    class Slow(StorageKeys):
        """In whose time of stretching a key somebody else writes."""

        async def _stretched(self, work: Callable[[], T]) -> T:
            await create(engine, "plain")
            return await super()._stretched(work)

    await make_workspaces(engine)

    with pytest.raises(Conflict, match="just begun to write"):
        await show(Slow(engine))


async def test_a_wrapped_key_that_was_changed_is_damaged_and_no_wrong_key(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await show(StorageKeys(engine))
    ((wrapped,),) = await query(database, "select wrapped from seal_keys")
    forged = bytes(wrapped[:-1]) + bytes([wrapped[-1] ^ 1])
    blob = f"'\\x{forged.hex()}'::bytea" if engine.name == "postgres" else f"x'{forged.hex()}'"
    await execute(database, f"update seal_keys set wrapped = {blob}")

    async with another_engine(database) as other:
        with pytest.raises(Damaged, match="key"):
            await show(StorageKeys(other))
