"""Keys in a file of their own: what was saved with it is readable again, and what was erased since is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessiond.actions import erasures, key_files, messages
from sessiond.actions.call import Call
from sessiond.actions.encryption import Mode
from sessiond.core.errors import Conflict, Damaged, InvalidInput, Unavailable
from sessiond.storage.backup import back_up
from sessiond.storage.engine import Engine
from sessiond.storage.open import migrate, open_engine, sqlite_path
from tests.actions.calling import ME, append, create, make_workspaces
from tests.actions.sealing import MASTER, change, with_master
from tests.storage.making import execute, query


async def make_sealed(engine: Engine) -> None:
    """Have two sessions in a sealed workspace, of one message each."""
    await make_workspaces(engine)
    await change(with_master(engine), Mode.SERVER)
    for session_id in ("kept", "erased"):
        await create(engine, session_id)
        await append(engine, session_id, "a word")


async def read(engine: Engine, session_id: str) -> list[bytes]:
    page = await messages.read_page(Call(engine, ME), session_id, limit=10)
    return [message.body for message in page.events]


async def test_keys_are_put_back_where_they_are_missing(engine: Engine, database: str, tmp_path: Path) -> None:
    await make_sealed(engine)
    file, before = tmp_path / "keys", await query(database, "select * from seal_keys order by id")

    assert await key_files.save(engine, file) == len(before) == 3
    assert file.stat().st_mode & 0o777 == 0o600
    assert await key_files.restore(engine, file) == 0
    await execute(database, "delete from seal_keys")
    assert await key_files.restore(engine, file) == 3

    assert await query(database, "select * from seal_keys order by id") == before


async def test_what_was_erased_is_in_no_backup_that_is_read_with_newer_keys(
    tmp_path: Path,
) -> None:
    database = f"sqlite:///{tmp_path}/sessiond.db"
    await migrate(database)
    engine = await open_engine(database, queue_max=100, pool_max=2, command_timeout_seconds=20)
    await make_sealed(engine)
    path = sqlite_path(database)
    assert path is not None
    back_up(path, tmp_path / "backup.db", told=lambda _done, _of: None, with_keys=False)
    receipt = await erasures.erase_session(Call(engine, ME), "erased")
    await key_files.save(engine, tmp_path / "keys")
    await engine.close()

    assert receipt.counts.keys_destroyed == 1
    assert MASTER not in (tmp_path / "backup.db").read_bytes()
    restored = await open_engine(
        f"sqlite:///{tmp_path}/backup.db", queue_max=100, pool_max=2, command_timeout_seconds=20
    )
    with_master(restored)
    with pytest.raises(Damaged):
        await read(restored, "kept")
    assert await key_files.restore(restored, tmp_path / "keys") == 2

    assert len(await read(restored, "kept")) == 1
    with pytest.raises(Damaged, match="erased"):
        await read(restored, "erased")
    await restored.close()


async def test_a_file_that_is_not_whole_changes_nothing(engine: Engine, database: str, tmp_path: Path) -> None:
    await make_sealed(engine)
    file = tmp_path / "keys"
    await key_files.save(engine, file)
    whole = file.read_bytes().splitlines(keepends=True)
    await execute(database, "delete from seal_keys")

    for broken, line in (
        (whole[:-1], "5"),
        (whole[:2] + whole[3:], "not whole"),
        ([whole[0].replace(b"keys 1", b"keys 9"), *whole[1:]], "no file of keys"),
        ([*whole[:2], b"{}\n", *whole[3:]], "line 3"),
        ([], "line 1"),
    ):
        file.write_bytes(b"".join(broken))
        with pytest.raises(InvalidInput, match=line if line != "5" else "damaged"):
            await key_files.restore(engine, file)

    with pytest.raises(InvalidInput, match="cannot be read"):
        await key_files.restore(engine, tmp_path / "none")
    assert await query(database, "select 1 from seal_keys") == []


async def test_keys_of_a_workspace_that_is_not_there_are_refused(engine: Engine, database: str, tmp_path: Path) -> None:
    await make_sealed(engine)
    file = tmp_path / "keys"
    await key_files.save(engine, file)
    file.write_bytes(file.read_bytes().replace(b'"workspace_id":"here"', b'"workspace_id":"gone"'))

    with pytest.raises(Conflict, match="gone"):
        await key_files.restore(engine, file)


async def test_a_file_that_cannot_be_written_is_said_so(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be written"):
        await key_files.save(engine, tmp_path / "no such folder" / "keys")
