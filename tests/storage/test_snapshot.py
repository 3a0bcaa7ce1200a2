"""A snapshot shows one moment, and is given back."""

from __future__ import annotations

import pytest

from sessiond.core.session import Session
from sessiond.storage import sessions
from sessiond.storage.engine import Engine, Snapshot, Tx
from tests.storage.making import WORKSPACE, add, find, make_session


async def find_in(snapshot: Snapshot, session_id: str) -> Session | None:
    async def operation(tx: Tx) -> Session | None:
        return await sessions.find(tx, WORKSPACE, session_id, user_id=None)

    return await snapshot.read(operation)


async def test_what_is_written_meanwhile_is_not_seen(engine: Engine) -> None:
    await add(engine, make_session("before"))
    async with engine.snapshot() as snapshot:
        assert await find_in(snapshot, "before") is not None
        await add(engine, make_session("meanwhile"))

        assert await find_in(snapshot, "meanwhile") is None
        assert await find(engine, "meanwhile") is not None
    async with engine.snapshot() as snapshot:
        assert await find_in(snapshot, "meanwhile") is not None


async def test_it_is_given_back_whatever_happens_in_it(engine: Engine) -> None:
    for _ in range(30):  # more than there are connections
        with pytest.raises(LookupError):
            await fail(engine)


async def fail(engine: Engine) -> None:
    async with engine.snapshot() as snapshot:
        await find_in(snapshot, "s")
        raise LookupError
