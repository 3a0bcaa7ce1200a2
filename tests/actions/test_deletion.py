"""What is deleted is gone at once for who reads, and from the database a piece at a time."""

from __future__ import annotations

import asyncio
import time

import pytest

from sessiond.actions import agents, events, expiry, messages, runs, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.core.agent import NewAgent
from sessiond.core.errors import NotFound, Unavailable
from sessiond.core.run import CANCELLED, RunFilter
from sessiond.core.session import NewSession, Session
from sessiond.core.wait import WaitFilter
from sessiond.storage import removal, trash
from sessiond.storage import sessions as stored_sessions
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import HERE, ME, append, create, gathered, make_workspaces, retried, text
from tests.actions.mailing import make_inbox, make_wait, receive
from tests.actions.test_expiry import pieces_of_trash
from tests.actions.working import begin, register
from tests.storage.making import another_engine, query

MANY = 12_000


async def make_long(engine: Engine, session_id: str, count: int = 600) -> Session:
    await create(engine, session_id)
    for start in range(0, count, 1_000):
        await append(engine, session_id, *["secret"] * min(1_000, count - start))
    return await sessions.get(Call(engine, ME), session_id)


async def delete(engine: Engine, session_id: str) -> None:
    await sessions.delete(Call(engine, ME), session_id, itself)


async def test_a_long_log_is_gone_at_once_for_who_reads(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    session = await make_long(engine, "s")

    await delete(engine, "s")

    for read in (
        lambda call: sessions.get(call, "s"),
        lambda call: messages.get(call, "s", "msg_2.s"),
        lambda call: messages.read_page(call, "s", limit=9),
        lambda call: events.read_page(call, "s", limit=1_000),
        lambda call: gathered(messages.read_all(call, session)),
        lambda call: gathered(events.read_all(call, session)),
    ):
        with pytest.raises(NotFound):
            await read(Call(engine, ME))
    assert await query(database, "select count(*) from events") == [(session.last_seq,)]
    assert await pieces_of_trash(engine) == [500, session.last_seq - 500, 1]
    assert await query(database, "select count(*) from events") == [(0,)]


async def test_a_read_that_was_begun_before_sees_no_part_of_what_goes(engine: Engine) -> None:
    await make_workspaces(engine)
    session = await make_long(engine, "s")
    await delete(engine, "s")
    await engine.write(expiry.empty_trash)

    async def operation(tx: Tx) -> None:
        await events.require_still(tx, Call(engine, ME), session, short=False)

    with pytest.raises(NotFound):
        await engine.scan(operation)


async def test_a_short_log_goes_with_its_session(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await make_long(engine, "s", 400)

    await delete(engine, "s")

    assert await engine.read(trash.find) is None
    assert await query(database, "select count(*) from events") == [(0,)]
    await create(engine, "s")


async def test_who_deletes_twice_is_told_that_it_is_gone(engine: Engine) -> None:
    await make_workspaces(engine)
    await make_long(engine, "s")
    await delete(engine, "s")

    with pytest.raises(NotFound):
        await delete(engine, "s")

    assert await pieces_of_trash(engine)
    with pytest.raises(NotFound):
        await delete(engine, "s")


async def test_an_id_is_free_again_when_the_old_log_is_gone(engine: Engine) -> None:
    await make_workspaces(engine)
    await make_long(engine, "s")
    await delete(engine, "s")
    await agents.register(Call(engine, ME), "a", NewAgent(runner="echo"), itself)

    for step in (None, expiry.empty_trash, expiry.empty_trash):
        if step is not None:
            await engine.write(step)
        for if_exists in sessions.IfExists:
            with pytest.raises(Unavailable, match="being removed") as refused:
                await sessions.create(Call(engine, ME), NewSession(), itself, session_id="s", if_exists=if_exists)
            assert refused.value.retry_after_seconds > 0
        with pytest.raises(Unavailable, match="being removed"):
            await runs.start_in(Call(engine, ME), "s", itself, new=NewSession(agent_id="a"), message=text("x"))
    await create(engine, "another")
    assert await pieces_of_trash(engine) == [1]

    made = await create(engine, "s")

    assert made.last_seq == 1
    assert [event.seq for event in (await events.read_page(Call(engine, ME), "s", limit=9)).events] == [1]


async def test_who_makes_a_session_while_its_id_is_deleted_is_not_shown_the_old_log(
    engine: Engine, database: str
) -> None:
    """On PostgreSQL the row of the old one is waited for, and what is in the trash then was not there before."""
    await make_workspaces(engine)
    await make_long(engine, "s")
    holding, go = asyncio.Event(), asyncio.Event()

    async def hold(tx: Tx) -> None:
        session = await stored_sessions.take(tx, HERE, "s", user_id=None)
        await sessions.remove(tx, session, at_us=1)
        holding.set()
        if engine.name == "postgres":  # on SQLite one is behind the other
            await go.wait()

    async with another_engine(database) as other:
        deleting = asyncio.ensure_future(other.write(hold))
        await holding.wait()
        creating = asyncio.ensure_future(create(engine, "s"))
        if engine.name == "postgres":
            while not await query(database, "select 1 from pg_stat_activity where wait_event_type = 'Lock'"):
                assert not creating.done()
        go.set()
        await deleting

        with pytest.raises(Unavailable, match="being removed"):
            await creating
    with pytest.raises(NotFound):
        await sessions.get(Call(engine, ME), "s")


async def test_appends_elsewhere_go_on_while_a_long_log_goes(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await make_long(engine, "s", MANY)
    await create(engine, "other")
    took = list[float]()

    async def append_on() -> None:
        while not done.is_set():
            began = time.monotonic()
            await append(engine, "other", "x")
            took.append(time.monotonic() - began)

    done = asyncio.Event()
    appending = asyncio.ensure_future(append_on())
    await delete(engine, "s")
    pieces = await pieces_of_trash(engine)
    done.set()
    await appending

    assert max(pieces) <= removal.ROWS_MAX
    assert len(took) >= len(pieces) > MANY // removal.ROWS_MAX
    # Whoever writes waits for a piece, not for all of it: the slowest is far from half of what it took together.
    assert max(took) < max(0.5, sum(took) / 2)
    assert await query(database, "select count(*) from events where session_id = 's'") == [(0,)]


async def test_waits_and_runs_of_a_session_go_with_it_however_many(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await register(engine)
    await begin(engine, "s", "hello")
    (run,) = (await runs.read_page(Call(engine, ME), RunFilter(), limit=9)).runs
    wait = await make_wait(engine, "approval", "s")
    await waits.cancel(Call(engine, ME), wait.id, itself)
    pending = await make_wait(engine, "approval", "s")
    copy_waits = (
        "insert into waits (workspace_id, id, session_id, type, status, critical, terms, actor, created_at_us,"
        " ended_at_us) select workspace_id, {id}, session_id, type, status, critical, terms, actor, created_at_us,"
        f" ended_at_us from waits join numbers on true where id = '{wait.id}'"
    )
    numbers = "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 700) "
    await query(database, numbers + copy_waits.format(id="'copy' || cast(n as text)"))

    await delete(engine, "s")

    assert (await waits.read_page(Call(engine, ME), WaitFilter(), limit=9, with_total=True)).total == 0
    for wait_id in (wait.id, pending.id, "copy700"):
        with pytest.raises(NotFound):
            await waits.get(Call(engine, ME), wait_id)
    left = await runs.get(Call(engine, ME), run.id)
    assert (left.status, left.session_id) == (CANCELLED, None)
    assert await query(database, "select count(*) from waits") == [(201,)]
    assert await pieces_of_trash(engine) == [201, 1]


async def test_an_answer_that_is_kept_goes_with_the_session_that_it_tells_of(engine: Engine, database: str) -> None:
    await make_workspaces(engine)

    async def ask(key: str, request: str = "request") -> str:
        call = Call(engine, ME, retry=retried(key, request))
        return await messages.append(call, "s", [text("x")], lambda made: f"secret {made[0].seq}")

    async def make(key: str = "made") -> str:
        call = Call(engine, ME, retry=retried(key))
        return await sessions.create(call, NewSession(), lambda _: "secret", session_id="s")

    await make()
    assert [await ask("k"), await ask("k"), await ask("l")] == ["secret 2", "secret 2", "secret 3"]
    await delete(engine, "s")

    for again in (make(), ask("k"), ask("l"), ask("k", "another")):
        with pytest.raises(NotFound, match="was deleted"):
            await again
    kept = await query(database, "select key, fingerprint, answer, session_id from idempotency order by key")
    assert kept == [(key, b"", None, None) for key in ("k", "l", "made")]
    await make("new")
    with pytest.raises(NotFound, match="was deleted"):
        await ask("k")
    assert await ask("m") == "secret 2"


async def test_an_answer_is_gone_before_it_is_overwritten(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    for number in range(removal.ROWS_MAX + 1):
        call = Call(engine, ME, retry=retried(f"k{number:03}"))
        await messages.append(call, "s", [text("x")], lambda _: "secret")

    await delete(engine, "s")

    assert await query(database, "select count(*) from idempotency where answer is not null") == [(1,)]
    with pytest.raises(NotFound, match="was deleted"):
        await messages.append(Call(engine, ME, retry=retried("k500")), "s", [text("x")], lambda _: "another")
    await pieces_of_trash(engine)
    assert await query(database, "select count(*) from idempotency where answer is not null") == [(0,)]


async def test_what_an_inbox_holds_goes_with_its_session(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await receive(engine, await make_inbox(engine, "s"))

    await delete(engine, "s")

    await pieces_of_trash(engine)
    for table in ("inboxes", "mails", "mail_contents", "trash"):
        assert await query(database, f"select count(*) from {table}") == [(0,)]
