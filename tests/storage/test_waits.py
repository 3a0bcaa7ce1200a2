"""Waits as rows: kept whole, ended once, and found when they are due, through an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace

from sessiond.core.errors import NotFound
from sessiond.core.ids import RunId, SessionId
from sessiond.core.wait import CANCELLED, COMPLETED, PENDING, TIMED_OUT, Terms, Wait, WaitFilter, WaitType
from sessiond.storage import events, waits
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.events import WAITS_DUE
from sessiond.storage.statements import load_statements
from tests.storage.making import ELSEWHERE, NOW, WORKSPACE, add, append, make_append, make_session, query, said
from tests.storage.plans import read_through
from tests.storage.test_runs import statements_of

SQL: Final = Path(waits.__file__).parent / "sql" / "waits.sql"
# Read from one end, and no further than the first.
FIRST_OF_ALL: Final = {"waits_next_due"}


def make_wait(wait_id: str, session_id: str | None = None, **said: Any) -> Wait:
    fields: dict[str, Any] = dict.fromkeys(Wait.__struct_fields__)
    fields |= {"workspace_id": WORKSPACE, "id": wait_id, "session_id": session_id, "type": WaitType.APPROVAL}
    fields |= {"status": PENDING, "critical": False, "terms": b"{}", "actor": "key_1", "created_at_us": NOW}
    return Wait(**(fields | said))


async def insert(engine: Engine, *made: Wait) -> None:
    async def operation(tx: Tx) -> None:
        for wait in made:
            await waits.insert(tx, wait)

    await engine.write(operation)


async def find(engine: Engine, wait_id: str, user_id: str | None = None) -> Wait | None:
    return await engine.read(lambda tx: waits.find(tx, WORKSPACE, wait_id, user_id=user_id))


async def due(engine: Engine, *, at: int, limit: int = 9) -> list[str]:
    found = await engine.write(lambda tx: waits.read_due(tx, now_us=NOW + at, limit=limit))
    return [wait.id for wait in found]


async def event_waits(database: str) -> int:
    n: int = (await query(database, "select event_waits from sessions where id = 's'"))[0][0]
    return n


async def test_a_wait_comes_back_as_it_was_kept(engine: Engine) -> None:
    bare = make_wait("bare")
    full = make_wait(
        "full",
        "s",
        inbox_id="i",
        run_id=RunId("r"),
        user_id="u",
        type=WaitType.OTP,
        status=COMPLETED,
        critical=True,
        terms=msgspec.json.encode(Terms(sender="x")),
        result=b"{}",
        reason="why",
        times_out_at_us=NOW + 1,
        ended_at_us=NOW + 2,
    )
    await add(engine, make_session("s"))
    await insert(engine, bare)
    await engine.write(lambda tx: waits.insert(tx, full, hook_hash=b"hash"))

    assert await find(engine, "bare") == bare
    assert await find(engine, "full") == full == await find(engine, "full", "u")
    assert await find(engine, "full", "v") is None
    assert await engine.read(lambda tx: waits.find_by_hook(tx, b"hash")) == full
    assert await engine.read(lambda tx: waits.find_by_hook(tx, b"other")) is None
    with pytest.raises(NotFound):
        await engine.read(lambda tx: waits.get(tx, ELSEWHERE, "full", user_id=None))


async def test_a_wait_ends_once_and_tells(engine: Engine) -> None:
    wait = make_wait("w", times_out_at_us=NOW + 5)
    await insert(engine, wait)
    ended = replace(wait, status=CANCELLED, reason="no", ended_at_us=NOW + 1)

    with engine.watches.open(*waits.watched(WORKSPACE, "w")) as watch:
        assert await engine.write(lambda tx: waits.end(tx, ended))
        assert await watch.wait(5)
    late = replace(ended, status=COMPLETED)
    assert not await engine.write(lambda tx: waits.end(tx, late))
    assert await engine.write(lambda tx: waits.end_each(tx, [late])) == []

    assert await find(engine, "w") == ended
    assert await due(engine, at=9) == []
    assert await engine.read(waits.find_next_due) is None


async def test_many_end_together_and_those_are_told_of_that_did(engine: Engine, database: str) -> None:
    await add(engine, make_session("s"))
    made = [make_wait(f"w{n}", "s", type=WaitType.EVENT) for n in range(3)]
    await insert(engine, *made)
    ends = [
        replace(made[0], status=CANCELLED, reason="no", ended_at_us=NOW + 1),
        replace(made[1], status=COMPLETED, result=b"{}", ended_at_us=NOW + 2),
        replace(made[2], status=TIMED_OUT, ended_at_us=NOW + 3),
    ]
    await engine.write(lambda tx: waits.end(tx, ends[2]))

    with engine.watches.open(*waits.watched(WORKSPACE, "w1")) as watch:
        ended = await engine.write(lambda tx: waits.end_each(tx, ends))
        assert await watch.wait(5)

    assert ended == ends[:2]
    assert [await find(engine, wait.id) for wait in made] == ends
    assert await event_waits(database) == 0
    assert await engine.write(lambda tx: waits.end_each(tx, [])) == []


async def test_waits_are_due_the_longest_due_first(engine: Engine) -> None:
    with engine.watches.open(*WAITS_DUE) as watch:
        await insert(engine, *(make_wait(f"w{n}", times_out_at_us=NOW + n) for n in (3, 1, 2)), make_wait("never"))
        assert await watch.wait(5)

    assert await due(engine, at=0) == []
    assert await due(engine, at=2) == ["w1", "w2"]
    assert await due(engine, at=9, limit=2) == ["w1", "w2"]
    assert await engine.read(waits.find_next_due) == NOW + 1


async def test_a_wait_for_an_event_is_due_when_its_log_has_grown(engine: Engine, database: str) -> None:
    await add(engine, make_session("s"), make_session("t"))
    wait = make_wait("w", "s", type=WaitType.EVENT, times_out_at_us=NOW + 5)
    await insert(engine, wait, make_wait("other", "s", times_out_at_us=NOW + 6))
    assert await event_waits(database) == 1

    assert await append(engine, make_append("t", *said("x"))) == 1
    assert await append(engine, make_append("s", *said("x"))) is None, "it takes the longer way"

    with engine.watches.open(*WAITS_DUE) as watch:
        await engine.write(lambda tx: events.note(tx, make_append("s", *said("x"))))
        assert await watch.wait(5)

    assert await due(engine, at=0) == ["w"]
    seen = replace(wait, terms=b'{"after_seq":1}')
    await engine.write(lambda tx: waits.put_off(tx, seen))
    assert await due(engine, at=0) == []
    assert await find(engine, "w") == seen
    assert await due(engine, at=6) == ["w", "other"]
    await engine.write(lambda tx: events.note_each(tx, [make_append("s", *said("y")), make_append("t", *said("y"))]))
    assert await due(engine, at=0) == ["w"]
    await engine.write(lambda tx: events.note_each(tx, []))
    await engine.write(lambda tx: events.note(tx, make_append("gone", *said("y"))))
    ended = replace(wait, status=COMPLETED, ended_at_us=NOW)
    await engine.write(lambda tx: waits.end(tx, ended))
    await engine.write(lambda tx: waits.put_off(tx, seen))
    assert await due(engine, at=5) == []
    assert await event_waits(database) == 0
    assert await append(engine, make_append("s", *said("x"))) == 3


async def test_what_may_be_ended_by_a_mail_is_found(engine: Engine) -> None:
    await insert(
        engine,
        make_wait("of inbox", type=WaitType.OTP, inbox_id="i"),
        make_wait("of both", "s", type=WaitType.OTP, inbox_id="i"),
        make_wait("of session", "s", type=WaitType.EMAIL),
        make_wait("other type", "s"),
        make_wait("other inbox", "s", type=WaitType.OTP, inbox_id="j"),
        make_wait("other session", "t", type=WaitType.OTP),
        make_wait("over", "s", type=WaitType.OTP, status=CANCELLED, ended_at_us=1),
    )

    async def found(inbox_id: str, session_id: str | None) -> set[str]:
        place = SessionId(session_id) if session_id is not None else None
        rows = await engine.read(lambda tx: waits.read_for_mail(tx, WORKSPACE, inbox_id=inbox_id, session_id=place))
        assert len(rows) == len({wait.id for wait in rows})
        return {wait.id for wait in rows}

    assert await found("i", "s") == {"of inbox", "of both", "of session"}
    assert await found("i", None) == {"of inbox", "of both"}
    assert await found("k", "t") == {"other session"}

    async def counted(tx: Tx) -> tuple[int, int]:
        return await waits.count_pending(tx, WORKSPACE, SessionId("s")), await waits.count_pending_in(
            tx, WORKSPACE, "i"
        )

    assert await engine.read(counted) == (4, 2)
    pending = await engine.read(lambda tx: waits.read_pending(tx, WORKSPACE, SessionId("s"), limit=2))
    assert [wait.id for wait in pending] == ["of both", "of session"]
    inside = await engine.read(lambda tx: waits.read_pending_in(tx, WORKSPACE, "i", limit=9))
    assert [wait.id for wait in inside] == ["of both", "of inbox"]


async def test_a_run_s_and_a_session_s_waits_are_read_in_their_order(engine: Engine) -> None:
    made = [make_wait(f"w{9 - n}", "s", run_id=RunId("r"), created_at_us=NOW + n) for n in range(3)]
    await add(engine, make_session("s"))
    await insert(engine, *made, make_wait("x"))

    assert await engine.read(lambda tx: waits.read_of_run(tx, WORKSPACE, RunId("r"), limit=9)) == made
    assert await engine.read(lambda tx: waits.read_ids(tx, WORKSPACE, "s", limit=9)) == ["w9", "w8", "w7"]

    await engine.write(lambda tx: waits.rebind(tx, WORKSPACE, SessionId("s"), "u"))
    assert (await find(engine, "w9", "u")) is not None
    with engine.watches.open(*waits.watched(WORKSPACE, "w8")) as watch:
        await engine.write(lambda tx: waits.delete_of(tx, WORKSPACE, SessionId("s")))
        assert await watch.wait(5)
    assert await engine.read(lambda tx: waits.read_ids(tx, WORKSPACE, "s", limit=9)) == []
    assert await find(engine, "x") is not None


async def test_a_page_of_waits_has_only_so_many_bytes(engine: Engine) -> None:
    result = b'"' + b"x" * 250_000 + b'"'
    await insert(
        engine,
        *(make_wait(f"w{n:02}", status=COMPLETED, ended_at_us=NOW, result=result) for n in range(50)),
    )

    page = await engine.scan(
        lambda tx: waits.read_page(tx, WORKSPACE, WaitFilter(), user_id=None, descending=False, limit=50)
    )

    assert page.more
    assert 0 < len(page.waits) < 50


async def test_no_statement_of_a_wait_reads_a_table_through(database: str, engine: Engine) -> None:
    statements = load_statements(engine.name)
    for name in {*statements_of(SQL), *({"wait_end_each"} & statements.keys())}:
        steps = await read_through(database, statements[name])
        assert steps == [] or name in FIRST_OF_ALL, (name, steps)


async def test_no_list_of_waits_reads_a_table_through(database: str, engine: Engine) -> None:
    select = load_statements(engine.name)["wait_select"]
    for wanted in ("", "and session_id = :x", "and status = :x", "and session_id = :x and type = :y"):
        tail = f"where workspace_id = :w {wanted} and (created_at_us, id) < (:at, :id) order by created_at_us desc, id"
        assert await read_through(database, f"{select} {tail} desc limit :limit") == [], wanted
