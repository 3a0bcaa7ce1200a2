"""What a run is saying goes to other processes sealed, where its session is."""

from __future__ import annotations

import asyncio

from sessiond.core.event import Delta
from sessiond.core.ids import SessionId
from sessiond.crypto import LocalMaster
from sessiond.storage.engine import Engine, Watch
from tests.storage.making import WORKSPACE, add, another_engine, make_session, must_find
from tests.storage.test_seals import MASTER, make_workspace

S = SessionId("s")
PATIENCE_SECONDS = 10
NOISE = Delta("run_0", 1, 0, "noise")


def delta(number: int) -> Delta:
    return Delta("run_1", 1, number, f"word {number}")


async def heard(watch: Watch, n: int) -> list[Delta]:
    found: list[Delta] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found) < n:
            await watch.wait(0.1)
            found += [one for one in watch.take_deltas() if one != NOISE]
    return found


async def test_who_has_read_the_session_hears_it_and_nobody_else(engine: Engine, database: str) -> None:
    await make_workspace(engine)
    await add(engine, make_session("s", name="x"))
    key_id = (await must_find(engine, "s")).key_id
    assert key_id is not None
    async with another_engine(database) as other, another_engine(database) as stranger:
        other.vault.master = LocalMaster([MASTER])
        await must_find(other, "s")
        with (
            engine.watches.open(WORKSPACE, S, live=True) as here,
            other.watches.open(WORKSPACE, S, live=True) as there,
            stranger.watches.open(WORKSPACE, S, live=True) as nowhere,
        ):
            if engine.name == "postgres":  # the only one that tells other processes
                for watch in (there, nowhere):
                    await until_it_listens(engine, watch)
            here.take_deltas()
            engine.tell(WORKSPACE, S, delta(1), key_id=key_id)
            engine.tell(WORKSPACE, S, delta(2), key_id=key_id + 1)  # a key that is gone
            assert await heard(here, 2) == [delta(1), delta(2)]
            if engine.name == "postgres":
                engine.tell(WORKSPACE, S, delta(3))
                assert await heard(there, 2) == [delta(1), delta(3)]
                assert await heard(nowhere, 1) == [delta(3)]


async def until_it_listens(engine: Engine, watch: Watch) -> None:
    """Wait until another process hears of this one, and has heard all."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while NOISE not in watch.take_deltas():
            engine.tell(WORKSPACE, S, NOISE)
            await watch.wait(0.1)
