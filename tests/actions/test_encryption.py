"""A workspace is sealed, opened for good, and given other keys, whatever happens meanwhile, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import asyncpg
import pytest

from sessiond.actions import encryption, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.encryption import Mode, Progress
from sessiond.actions.sessions import SessionPatch
from sessiond.core.errors import Conflict, Damaged, Forbidden, InvalidInput, Locked, SessiondError
from sessiond.core.session import NewSession
from sessiond.storage import resealing
from sessiond.storage.engine import Engine, Operation, T
from sessiond.storage.vault import Vault
from tests.actions import mailing
from tests.actions.calling import ELSEWHERE, HERE, ME, append, caller, create, make_workspaces
from tests.actions.sealing import (
    ANOTHER_KEY,
    STORAGE_KEY,
    change,
    check_whole,
    count_keys,
    fill,
    picture,
    with_master,
)
from tests.storage.making import another_engine, execute, query

OFF, SERVER, CLIENT = Mode
THERE: Final = caller(workspace=ELSEWHERE)
WALK: Final = (
    (SERVER, None),
    (SERVER, None),
    (CLIENT, STORAGE_KEY),
    (CLIENT, ANOTHER_KEY),
    (SERVER, None),
    (OFF, None),
    (CLIENT, STORAGE_KEY),
    (OFF, None),
)
"""From each way to each other, and to another key of the same."""
ROUNDS_MAX: Final = 40  # of a writer, so that a change has an end on a slow machine too


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a few texts be more than a piece, so that there is much in between."""
    monkeypatch.setattr(resealing, "PIECE_EVENTS", 7)
    monkeypatch.setattr(resealing, "PIECE_RECORDS", 2)


@pytest.fixture
def master(engine: Engine) -> Engine:
    return with_master(engine)


@pytest.fixture
async def other(master: Engine, database: str) -> AsyncIterator[Engine]:
    """Another process on the database."""
    async with another_engine(database) as opened:
        yield with_master(opened)


class StoppedError(Exception):
    pass


class Stopping:
    """An engine that is stopped after so many writes, as its process may be."""

    def __init__(self, engine: Engine, *, after: int) -> None:
        self._engine = engine
        self._left = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def write(self, operation: Operation[T]) -> T:
        result = await self._engine.write(operation)
        self._left -= 1
        if self._left == 0:
            raise StoppedError
        return result


async def test_content_of_every_kind_goes_through_every_change(master: Engine) -> None:
    await fill(master)
    before = await picture(master)
    check_whole(before)

    for wanted, storage_key in WALK:
        held = await change(master, wanted, storage_key=storage_key, anew=True)

        status = await encryption.read_status(master, HERE)
        assert status.held == held
        assert {one.kind for one in held} == {"events", "sessions", "runs", "waits", "inboxes", "mails", "answers"}
        assert {one.key_id for one in held} == {status.key_id or resealing.PLAIN_KEY}
        assert (status.mode, status.changing, len(status.roots)) == (wanted, False, int(wanted is not OFF))
        assert await picture(master) == before


async def test_a_change_that_was_stopped_after_any_write_is_gone_on_with(master: Engine) -> None:
    await fill(master)
    before = await picture(master)
    stops = 0

    for wanted in (SERVER, SERVER, OFF):
        for after in count(1):
            stopping: Any = Stopping(master, after=after)
            try:
                await change(stopping, wanted, anew=True)
                break
            except StoppedError:
                stops += 1
                assert await picture(master) == before

        status = await encryption.read_status(master, HERE)
        assert {one.key_id for one in status.held} == {status.key_id or resealing.PLAIN_KEY}
        assert not status.changing
        assert await picture(master) == before

    assert stops > 9


async def test_what_is_so_already_is_left_alone(master: Engine) -> None:
    await fill(master)

    assert await encryption.begin(master, HERE, OFF) is False
    await change(master, SERVER)
    key_id = (await encryption.read_status(master, HERE)).key_id
    assert await encryption.begin(master, HERE, SERVER) is False
    await encryption.move(master, HERE)

    assert (await encryption.read_status(master, HERE)).key_id == key_id


async def test_two_processes_move_the_same_workspace(master: Engine, other: Engine) -> None:
    await fill(master)
    before = await picture(master)
    told: list[Progress] = []

    for wanted in (SERVER, SERVER, OFF):
        await encryption.begin(master, HERE, wanted, anew=True)
        await asyncio.gather(
            encryption.move(master, HERE, told=told.append), encryption.move(other, HERE), encryption.move(other, HERE)
        )

        assert await picture(other) == before
        assert await count_keys(other) == int(wanted is not OFF)
    assert told


async def test_one_change_comes_to_its_end_before_another_begins(master: Engine, other: Engine) -> None:
    await fill(master)
    await encryption.begin(master, HERE, SERVER)

    with pytest.raises(Conflict, match="a change to server was begun"):
        await encryption.begin(other, HERE, OFF)

    await encryption.move(master, HERE)
    begun = await asyncio.gather(
        *(encryption.begin(one, HERE, SERVER, anew=True) for one in (master, other)), return_exceptions=True
    )
    assert sorted(map(repr, begun))[-1] == "True"
    await encryption.move(other, HERE)
    assert await count_keys(master) == 1


async def test_who_still_moves_to_a_key_that_is_replaced_stops(master: Engine, other: Engine) -> None:
    await fill(master)
    before = await picture(master)
    await encryption.begin(master, HERE, SERVER)
    stopped = asyncio.Event()
    go_on = asyncio.Event()

    class Pausing(Stopping):
        async def write(self, operation: Operation[T]) -> T:
            stopped.set()
            await go_on.wait()
            return await master.write(operation)

    pausing: Any = Pausing(master, after=0)
    late = asyncio.create_task(encryption.move(pausing, HERE))
    await stopped.wait()
    await encryption.move(other, HERE)
    await change(other, SERVER, anew=True)
    go_on.set()

    with pytest.raises(Conflict, match="another change"):
        await late

    assert await picture(other) == before
    assert await count_keys(other) == 1


async def test_readers_and_writers_go_on_during_every_change(master: Engine, other: Engine) -> None:
    await fill(master)
    before = await picture(master)
    for number in range(6):
        await create(master, f"w{number}")
    said: dict[str, list[str]] = {f"w{number}": [] for number in range(6)}
    over = asyncio.Event()

    async def write(session_id: str) -> None:
        for number in range(ROUNDS_MAX):
            engine = (master, other)[number % 2]
            await append(engine, session_id, f"{session_id} says {number}")
            said[session_id].append(f"{session_id} says {number}")
            patch = SessionPatch(metadata={"turn": number % 3, "who": session_id}, prompt=f"prompt {number}")
            await sessions.patch(Call(engine, ME), session_id, patch, itself)
            if number % 5 == 0:
                made = NewSession(name=f"made by {session_id}", metadata=b'{"made":true}')
                await sessions.create(Call(engine, ME), made, itself, session_id=f"{session_id}-{number}")
                inbox = await mailing.make_inbox(engine, None, purpose=session_id)
                await mailing.receive(engine, inbox, f"mail {number}")
                approval = await mailing.make_wait(engine, "approval", None)
                await waits.complete(Call(engine, ME), approval.id, {"turn": number}, itself)
            if over.is_set():
                return

    async def read(session_id: str) -> None:
        while not over.is_set():
            await asyncio.sleep(0)  # a short read of SQLite lets nobody else have a turn
            known = [*said[session_id]]
            assert (await texts_of(other, session_id))[: len(known)] == known
            assert (await texts_of(master, "s"))[:1] == ["first"]

    writing = [asyncio.create_task(write(session_id)) for session_id in said]
    reading = [asyncio.create_task(read(session_id)) for session_id in ("w0", "w1", "w2")]
    try:
        for wanted in (SERVER, SERVER, OFF):
            held = await change(master, wanted, anew=True)
            assert len({one.key_id for one in held}) == 1
    finally:
        over.set()
        await asyncio.gather(*writing, *reading)

    after = await picture(master)
    for kind in ("runs", "answers", "found"):
        assert after[kind] == before[kind]
    for session_id, texts in said.items():
        assert await texts_of(master, session_id) == texts
    made = sum(len(texts) // 5 + 1 for texts in said.values())
    assert len([one for one in after["sessions"] if (one["name"] or "").startswith("made by")]) >= made - len(said)
    assert all(
        wait["result"] for wait in after["waits"] if wait["type"] == "approval" and wait["status"] == "completed"
    )
    await change(master, SERVER)
    assert await picture(master) == after


async def texts_of(engine: Engine, session_id: str) -> list[str]:
    found = await mailing.log_of(engine, session_id)
    return [mailing.body_of(event)["content"] for event in found if event.type == "message.user"]


DAMAGES: Final = {
    "events": ("event bare 4", "session_id = 'bare' and seq = 4", "body"),
    "session_details": ("session s", "session_id = 's'", "sealed"),
    "runs": ("run", "session_id = 's' and error is not null", "error"),
    "waits": ("wait", "session_id = 's' and status = 'cancelled'", "result"),
    "inboxes": ("inbox", "session_id = 's'", "metadata"),
    "mails": ("mail", "session_id = 's'", "extractions"),
}


@pytest.mark.parametrize(("table", "wanted"), [*zip(DAMAGES, (SERVER, OFF) * 3, strict=True)])
async def test_damage_is_named_and_the_change_goes_on_without_it(
    master: Engine, database: str, table: str, wanted: Mode
) -> None:
    named, where, column = DAMAGES[table]
    await fill(master)
    await change(master, SERVER)
    await execute(database, f"update {table} set {column} = {flipped(master, column)} where {where}")

    for _ in range(2):
        with pytest.raises(Damaged, match=f"^{named}"):
            await change(master, wanted, anew=True)
    status = await encryption.read_status(master, HERE)
    assert status.changing

    damaged = "bare" if table == "events" else "s"
    await sessions.delete(Call(master, ME), damaged, lambda _: None)
    await execute(database, "delete from runs where error is not null")  # it outlives its session
    held = await change(master, wanted, anew=True)

    assert len({one.key_id for one in held}) == 1
    await picture(master)


def flipped(engine: Engine, column: str) -> str:
    """Return SQL for a sealed column whose last bit is another."""
    if engine.name == "postgres":
        return f"set_byte({column}, length({column}) - 1, get_byte({column}, length({column}) - 1) # 1)"
    last = f"substr({column}, -1)"
    return (
        f"cast(substr({column}, 1, length({column}) - 1) || case {last} when x'00' then x'01' else x'00' end as blob)"
    )


async def test_what_was_put_there_in_plain_text_is_not_sealed_for_it(master: Engine, database: str) -> None:
    await fill(master)
    await change(master, SERVER)
    plain = "'{}'" if master.name == "postgres" else "cast('{}' as blob)"
    await execute(database, f"update events set body = {plain} where session_id = 'bare' and seq = 4")

    with pytest.raises(Damaged, match=r"^event bare 4"):
        await encryption.move(master, HERE)
    for wanted in (SERVER, OFF):
        with pytest.raises((Damaged, Conflict)):
            await change(master, wanted, anew=True)
    with pytest.raises(Damaged, match=r"^event bare 4"):
        await change(master, SERVER)


async def test_a_change_waits_for_what_was_under_way_when_it_began(master: Engine, database: str) -> None:
    await make_workspaces(master)
    if master.name == "sqlite":  # there writers come one after the other
        assert await encryption.begin(master, HERE, SERVER)
        return
    async with open_transaction(database) as end:
        begun = asyncio.create_task(encryption.begin(master, HERE, SERVER))
        assert await asyncio.wait({begun}, timeout=0.2) == (set(), {begun})
        again = asyncio.create_task(encryption.begin(master, HERE, SERVER))  # and so does who goes on with it
        assert await asyncio.wait({again}, timeout=0.2) == (set(), {again})
        await end()
        assert await begun is True
        assert await again is False


@asynccontextmanager
async def open_transaction(database: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Have a transaction under way that has written something."""
    connection: Any = await asyncpg.connect(database)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("select pg_current_xact_id()")
        yield transaction.commit
    finally:
        await connection.close()


async def test_a_workspace_that_holds_nothing_is_changed_at_once(master: Engine) -> None:
    await make_workspaces(master)

    assert await change(master, SERVER) == []
    assert await change(master, OFF) == []

    assert (await encryption.read_status(master, HERE)).mode is OFF


async def test_other_workspaces_are_left_as_they_are(master: Engine) -> None:
    await fill(master)

    await change(master, SERVER)

    assert (await encryption.read_status(master, ELSEWHERE)).mode is OFF


REFUSED: Final[list[tuple[type[SessiondError], str, Callable[[Engine], Awaitable[object]]]]] = [
    (InvalidInput, "there is no master key", lambda engine: encryption.begin(engine, HERE, SERVER)),
    (InvalidInput, "a storage key is needed", lambda engine: encryption.begin(engine, HERE, CLIENT)),
    (InvalidInput, "16 to 1024", lambda engine: encryption.begin(engine, HERE, CLIENT, storage_key="short")),
]


@pytest.mark.parametrize(("error", "words", "ask"), REFUSED)
async def test_what_cannot_be_is_refused(
    engine: Engine, error: type[SessiondError], words: str, ask: Callable[[Engine], Awaitable[object]]
) -> None:
    await make_workspaces(engine)

    with pytest.raises(error, match=words):
        await ask(engine)


async def test_a_workspace_that_clients_seal_is_changed_by_who_has_their_key(master: Engine, database: str) -> None:
    await fill(master)
    before = await picture(master)
    await change(master, CLIENT, storage_key=STORAGE_KEY)

    async with another_engine(database) as locked:
        with_master(locked)
        with pytest.raises(Locked):
            await encryption.begin(locked, HERE, CLIENT, storage_key=ANOTHER_KEY, anew=True)
        with pytest.raises(Forbidden, match="not the storage key"):
            await encryption.unlock(locked, HERE, ANOTHER_KEY)
        assert await count_keys(locked) == 1

        await encryption.unlock(locked, HERE, STORAGE_KEY)
        await encryption.begin(locked, HERE, CLIENT, storage_key=ANOTHER_KEY, anew=True)
    async with another_engine(database) as resumed:  # it was stopped: who knows the new key opens the old content
        await encryption.unlock(resumed, HERE, ANOTHER_KEY)
        assert await picture(resumed) == before
        await encryption.move(resumed, HERE)

        with pytest.raises(Forbidden):
            await encryption.unlock(resumed, HERE, STORAGE_KEY)
        assert await picture(resumed) == before


async def test_nothing_of_it_can_be_read_without_its_key(master: Engine, database: str) -> None:
    await fill(master)
    await change(master, SERVER)
    await create(master, "plain", by=THERE)

    master.vault = Vault(None)
    async with another_engine(database) as keyless:
        with pytest.raises(SessiondError, match="started without SESSIOND_MASTER_KEY"):
            await picture(keyless)
        assert (await sessions.get(Call(keyless, THERE), "plain")).id == "plain"
        await sessions.delete(Call(keyless, ME), "s", lambda _: None)
    assert [row[0] for row in await query(database, "select key from session_metadata where session_id = 's'")] == []
