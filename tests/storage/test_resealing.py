"""Sealing anew, piece by piece: how much of it at once, and what is counted at its end."""

from __future__ import annotations

import pytest

from sessiond.core.errors import Damaged
from sessiond.storage import resealing, seals, sessions
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.resealing import PLAIN_KEY, Held
from tests.storage.making import (
    WORKSPACE,
    add,
    append,
    change,
    execute,
    make_append,
    make_session,
    must_find,
    query,
    read_whole_log,
    remove,
    said,
)
from tests.storage.test_seals import make_workspace

TEXTS = [f"text {number}" for number in range(10)]


async def rotate(engine: Engine) -> int:
    """Give the workspace another key for what is new; return its id."""
    assert engine.vault.master is not None
    made = seals.make_server_root(WORKSPACE, engine.vault.master)

    async def operation(tx: Tx) -> None:
        await seals.insert_root(tx, WORKSPACE, made.root)
        await seals.set_state(tx, WORKSPACE, key_id=made.root.id, changing=True)

    await engine.write(operation)
    return made.root.id


async def move(engine: Engine, session_id: str, root_id: int | None) -> tuple[int, bool]:
    return await engine.write(lambda tx: resealing.move_some(tx, WORKSPACE, session_id, root_id))


async def test_a_session_is_moved_from_its_end_in_pieces_while_it_is_appended_to(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "PIECE_EVENTS", 4)
    await make_workspace(engine)
    await add(engine, make_session("s", name="x", metadata={"a": 1}))
    await append(engine, make_append("s", *said(*TEXTS)))
    root_id, moves = await rotate(engine), list[tuple[int, bool]]()

    while not (moves and moves[-1][1]):
        moves.append(await move(engine, "s", root_id))
        await append(engine, make_append("s", *said(f"new {len(moves)}")))
        assert [text for _, text in await read_whole_log(engine, "s")][:10] == TEXTS

    assert moves == [(5, False), (4, False), (2, False), (0, True)]
    assert await query(database, "select resealing_seq from sessions") == [(None,)]
    assert len(await query(database, "select 1 from seal_keys where session_id = 's'")) == 1
    assert {each.key_id for each in await engine.scan(lambda tx: resealing.count_held(tx, WORKSPACE))} == {root_id}


async def test_large_texts_make_small_pieces(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "PIECE_BYTES", 1_000)
    await make_workspace(engine)
    await add(engine, make_session("s"))
    await append(engine, make_append("s", *said(*("x" * 300 for _ in range(7)))))

    moved, done = await move(engine, "s", await rotate(engine))

    assert (moved, done) == (1 + 3, False)


async def test_what_is_gone_or_moved_needs_nothing(engine: Engine) -> None:
    await make_workspace(engine)
    await add(engine, make_session("s"))
    root_id = (await engine.read(lambda tx: seals.read_state(tx, WORKSPACE))).key_id

    assert await move(engine, "gone", root_id) == (0, True)
    assert await move(engine, "s", root_id) == (0, True)
    assert await engine.scan(lambda tx: resealing.find_sessions(tx, WORKSPACE, root_id, after="", limit=9)) == []
    new = await rotate(engine)
    found = await engine.scan(lambda tx: resealing.find_sessions(tx, WORKSPACE, new, after="", limit=9))
    assert found == ["s"]
    assert await engine.scan(lambda tx: resealing.find_sessions(tx, WORKSPACE, new, after="s", limit=9)) == []
    await remove(engine, "s")
    assert await move(engine, "s", new) == (0, True)


async def test_what_a_count_says_of_each_key(engine: Engine, database: str) -> None:
    await make_workspace(engine)
    await add(engine, make_session("s", name="x"), make_session("bare"))
    await append(engine, make_append("s", *said("one", "two")))
    root_id = (await engine.read(lambda tx: seals.read_state(tx, WORKSPACE))).key_id

    async def held() -> list[Held]:
        return await engine.scan(lambda tx: resealing.count_held(tx, WORKSPACE))

    async def other() -> str | None:
        return await engine.scan(lambda tx: resealing.find_other(tx, WORKSPACE, root_id))

    assert await held() == [Held("events", root_id, 2), Held("sessions", root_id, 1)]
    assert await other() is None
    await change(engine, "s", name=None)  # a row in which nothing is left is under no key
    assert await held() == [Held("events", root_id, 2)]
    plain = "'{}'" if engine.name == "postgres" else "cast('{}' as blob)"
    await execute(database, f"update events set body = {plain} where seq = 2")
    assert Held("events", PLAIN_KEY, 1) in await held()
    assert await other() == "event s 2"
    await engine.write(lambda tx: seals.destroy(tx, WORKSPACE, "s"))
    assert Held("events", None, 1) in await held()
    await execute(database, "update events set body = " + ("'\\x0102'" if engine.name == "postgres" else "x'0102'"))
    assert await held() == [Held("events", None, 2)]


async def test_a_session_that_was_plain_is_sealed_as_it_was(engine: Engine) -> None:
    await add(engine, make_session("s", name="x", metadata={"a": 1}, prompt="p"))
    await append(engine, make_append("s", *said(*TEXTS)))
    before = await must_find(engine, "s")
    await make_workspace(engine)
    root_id = (await engine.read(lambda tx: seals.read_state(tx, WORKSPACE))).key_id

    while not (await move(engine, "s", root_id))[1]:
        pass

    after = await must_find(engine, "s")
    assert after.key_id is not None
    assert (after.name, after.metadata, after.prompt) == (before.name, before.metadata, before.prompt)
    assert [text for _, text in await read_whole_log(engine, "s")] == TEXTS
    while not (await move(engine, "s", None))[1]:
        pass
    assert await must_find(engine, "s") == before


async def test_plain_text_in_a_sealed_log_is_not_taken_for_what_was_said(engine: Engine, database: str) -> None:
    await make_workspace(engine)
    await add(engine, make_session("s"))
    await append(engine, make_append("s", *said("one", "two")))
    plain = "'{}'" if engine.name == "postgres" else "cast('{}' as blob)"
    await execute(database, f"update events set body = {plain} where seq = 1")
    root_id = await rotate(engine)

    with pytest.raises(Damaged, match="event s 1"):
        await move(engine, "s", root_id)

    taken = await engine.write(lambda tx: sessions.take(tx, WORKSPACE, "s", user_id=None, opens=False))
    assert taken.last_seq == 2
