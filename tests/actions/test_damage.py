"""What cannot be opened keeps the clock and the workers from nothing else."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from sessiond.actions import expiry, sessions
from sessiond.actions.call import Call, itself
from sessiond.actions.encryption import Mode
from sessiond.core.errors import Damaged, NotFound
from sessiond.core.session import NewSession
from sessiond.core.wait import Terms
from sessiond.storage import clock, seals
from sessiond.storage.engine import Engine, Tx
from tests.actions import mailing, working
from tests.actions.calling import HERE, ME, append, caller, create, make_workspaces
from tests.actions.sealing import change, with_master
from tests.storage.making import execute

LATER_US: Final = 3_600 * 1_000_000


@pytest.fixture
async def sealed(engine: Engine) -> Engine:
    with_master(engine)
    await make_workspaces(engine)
    await change(engine, Mode.SERVER)
    return engine


async def spoil(engine: Engine, database: str, table: str, column: str, where: str) -> None:
    """Put a text there that has the form of a sealed one, and is none."""
    tail = "'\\x0000'::bytea" if engine.name == "postgres" else "x'0000'"
    kept = f"{column} || {tail}" if engine.name == "postgres" else f"cast({column} || {tail} as blob)"
    await execute(database, f"update {table} set {column} = {kept} where {where}")


async def sweep(engine: Engine) -> tuple[int, int, int]:
    async def operation(tx: Tx) -> tuple[int, int]:
        now_us = await clock.read_us(tx) + LATER_US
        return await expiry.expire_sessions(tx, now_us=now_us), await expiry.expire_inboxes(tx, now_us=now_us)

    ended = (await mailing.sweep(engine, later_seconds=3_600)).ended
    return ended, *await engine.write(operation)


async def test_what_is_due_and_damaged_is_put_away(sealed: Engine, database: str) -> None:
    soon = NewSession(expires_at_us=2**52)
    for session_id in ("good", "bad"):
        await sessions.create(Call(sealed, ME), soon, itself, session_id=session_id)
        await mailing.make_wait(sealed, "timer", session_id, timeout_seconds=60.0)
        await mailing.make_inbox(sealed, session_id, ttl_seconds=60)
        await sessions.patch(Call(sealed, ME), session_id, sessions.SessionPatch(name="x"), itself)
    await execute(database, "update sessions set expires_at_us = 1")
    for table, column in (("session_details", "sealed"), ("waits", "terms"), ("inboxes", "metadata")):
        await spoil(sealed, database, table, column, "session_id = 'bad'")

    assert await sweep(sealed) == (1, 1, 1)

    assert (await sessions.get(Call(sealed, ME), "good")).ended
    assert await sealed.read(expiry.find_next) is None
    assert await sweep(sealed) == (0, 0, 0)
    await sessions.delete(Call(sealed, ME), "bad", lambda _: None)


async def test_a_wait_for_an_event_of_a_damaged_log_times_out(sealed: Engine, database: str) -> None:
    await create(sealed, "s")
    wait = await mailing.make_wait(sealed, "event", "s", terms=Terms(events=["message.*"]), timeout_seconds=60.0)
    await append(sealed, "s", "said")
    await spoil(sealed, database, "events", "body", "type like 'message.%'")

    assert (await mailing.sweep(sealed)).ended == 0
    assert (await mailing.sweep(sealed, later_seconds=120)).ended == 1

    assert (await mailing.get_wait(sealed, wait)).status == "timed_out"


async def test_a_run_that_cannot_be_opened_keeps_no_other_waiting(sealed: Engine, database: str) -> None:
    await working.register(sealed)
    for session_id in ("bad", "good"):
        await working.begin(sealed, session_id, "hello")
    await spoil(sealed, database, "runs", "input", "session_id = 'bad'")

    claimed = await working.claim(sealed, limit=1)
    claimed = claimed if claimed.works else await working.claim(sealed, limit=1)

    assert [taken.lease.session_id for taken in claimed.works] == ["good"]
    assert (await working.claim(sealed)).works == []


async def test_who_may_not_see_it_may_not_delete_it(sealed: Engine) -> None:
    await sessions.create(Call(sealed, ME), NewSession(user_id="ann"), itself, session_id="s")

    with pytest.raises(NotFound):
        await sessions.delete(Call(sealed, caller(user_id="bob")), "s", lambda _: None)


async def test_details_that_are_sealed_and_make_no_sense_are_damaged(sealed: Engine) -> None:
    await sessions.create(Call(sealed, ME), NewSession(name="ann"), itself, session_id="s")
    session = await sessions.get(Call(sealed, ME), "s")

    async def operation(tx: Tx) -> None:
        kept = await seals.seal_with(tx, HERE, session.key_id, msgspec.msgpack.encode(7), "session", "s")
        values = {"workspace": HERE, "id": "s", "metadata": None, "data": None, "prompt": None}
        await tx.run("session_details_put", **values, sealed=kept)

    await sealed.write(operation)

    with pytest.raises(Damaged, match="session s"):
        await sessions.get(Call(sealed, ME), "s")
