"""Runs as rows: kept whole, listed in order, and found through an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from sessiond.core.ids import RunId, SessionId
from sessiond.core.run import COMPLETED, QUEUED, RUNNING, Run, RunFilter, RunPage, RunStatus
from sessiond.storage import runs
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.statements import _parse, load_statements
from tests.storage.making import ELSEWHERE, NOW, WORKSPACE, add, make_session
from tests.storage.plans import read_through

SQL: Final = Path(runs.__file__).parent / "sql" / "runs.sql"
# Read from one end, and no further than the first.
FIRST_OF_ALL: Final = {"session_next_lapse"}


def make_run(run_id: str, session_id: str = "s", *, queued_seq: int = 2, **said: Any) -> Run:
    fields: dict[str, Any] = dict.fromkeys(Run.__struct_fields__)
    fields |= {"workspace_id": WORKSPACE, "id": RunId(run_id), "session_id": SessionId(session_id), "agent_id": "a"}
    fields |= {"status": QUEUED, "queued_seq": queued_seq, "input_seq": queued_seq - 1, "actor": "key_1"}
    fields |= {"prompt_tokens": 0, "completion_tokens": 0, "attempts": 0, "failures": 0, "waits": 0}
    fields["created_at_us"] = NOW
    return Run(**(fields | said))


async def insert(engine: Engine, *made: Run) -> None:
    async def operation(tx: Tx) -> None:
        for run in made:
            await runs.insert(tx, run, now_us=NOW)

    await engine.write(operation)


async def find(engine: Engine, run_id: str, user_id: str | None = None) -> Run | None:
    return await engine.read(lambda tx: runs.find(tx, WORKSPACE, run_id, user_id=user_id))


async def test_a_run_comes_back_as_it_was_kept(engine: Engine) -> None:
    await add(engine, make_session("s"))
    bare = make_run("r1")
    full = make_run(
        "r2",
        queued_seq=5,
        user_id="u",
        input=b'"in"',
        output=b'"out"',
        error=b"{}",
        ask=b"{}",
        answer=b"{}",
        worker="w",
        retry_of=RunId("r1"),
        cancel_requested_at_us=1,
        started_at_us=2,
        status=COMPLETED,
        completed_at_us=3,
        ended_seq=9,
        wait_id="wait_1",
        waits=3,
        simulates=RunId("r0"),
    )
    await insert(engine, bare, full)

    assert [await find(engine, "r1"), await find(engine, "r2"), await find(engine, "r3")] == [bare, full, None]
    assert [await find(engine, "r2", user) for user in ("u", "v", "")] == [full, None, None]
    assert await engine.read(lambda tx: runs.find(tx, ELSEWHERE, "r1", user_id=None)) is None


async def test_every_field_that_can_change_is_saved(engine: Engine) -> None:
    await add(engine, make_session("s"))
    before = make_run("r")
    await insert(engine, before)
    after = msgspec.structs.replace(
        before.become(RUNNING, NOW + 1),
        output=b"1",
        error=b"2",
        ask=b"3",
        answer=b"4",
        prompt_tokens=5,
        completion_tokens=6,
        attempts=7,
        failures=8,
        worker="w",
        cancel_requested_at_us=9,
        ended_seq=10,
        wait_id="wait_1",
        waits=11,
    )

    await engine.write(lambda tx: runs.save(tx, after))

    assert await find(engine, "r") == after


async def page(engine: Engine, wanted: RunFilter, **how: Any) -> RunPage:
    how = {"user_id": None, "descending": True, "limit": 100} | how
    return await engine.scan(lambda tx: runs.read_page(tx, WORKSPACE, wanted, **how))


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("wanted", [RunFilter(), RunFilter(session_ids=("s",)), RunFilter(agent_ids=("a", "b"))])
async def test_a_list_is_read_by_position_each_run_once(engine: Engine, wanted: RunFilter, descending: bool) -> None:
    await add(engine, make_session("s"))
    # Two at a time were made in the same microsecond.
    made = [make_run(f"r{number}", queued_seq=number + 2, created_at_us=NOW + number // 2) for number in range(7)]
    await insert(engine, *made)

    found, position = list[Run](), None
    while True:
        one = await page(engine, wanted, descending=descending, limit=2, position=position, with_total=True)
        assert one.total == 7
        found += one.runs
        if not one.more:
            break
        position = runs.position_of(one.runs[-1], wanted)

    assert found == (made[::-1] if descending else made)


async def test_a_list_has_what_was_asked_for(engine: Engine) -> None:
    await add(engine, *(make_session(session) for session in "st"), make_session("s", workspace=ELSEWHERE))
    made = [
        make_run("r1", "s", agent_id="a", user_id="u"),
        make_run("r2", "s", agent_id="b", queued_seq=9, created_at_us=NOW + 1),
        make_run("r3", "t", status=COMPLETED, completed_at_us=NOW, user_id="u", created_at_us=NOW + 2),
    ]
    await insert(engine, *made, msgspec.structs.replace(made[0], workspace_id=ELSEWHERE))

    async def listed(user_id: str | None = None, **wanted: Any) -> list[str]:
        return [run.id for run in (await page(engine, RunFilter(**wanted), user_id=user_id)).runs]

    assert await listed() == ["r3", "r2", "r1"]
    assert await listed(session_ids=("s",)) == ["r2", "r1"]
    assert await listed(session_ids=("s", "t"), agent_ids=("a",)) == ["r3", "r1"]
    assert await listed(statuses=(RunStatus.COMPLETED, RunStatus.FAILED)) == ["r3"]
    assert await listed("u") == ["r3", "r1"]
    assert await listed("u", statuses=(QUEUED,)) == ["r1"]
    assert await listed(agent_ids=("none",)) == []


async def test_the_next_in_a_session_is_the_first_that_has_not_ended(engine: Engine) -> None:
    await add(engine, make_session("s"))
    made = [make_run(f"r{number}", queued_seq=9 - number) for number in range(3)]
    await insert(engine, *made)
    await engine.write(lambda tx: runs.save(tx, made[2].become(RunStatus.CANCELLED, NOW)))

    found = await engine.read(lambda tx: runs.read_open(tx, WORKSPACE, SessionId("s")))

    assert [run.id for run in found] == ["r1", "r0"]
    assert await engine.read(lambda tx: runs.count_open(tx, WORKSPACE, SessionId("none"))) == 0


def statements_of(path: Path) -> list[str]:
    return [name for name in _parse(path.read_text()) if not name.endswith("_select")]


async def test_no_statement_of_a_run_reads_a_table_through(database: str, engine: Engine) -> None:
    statements = load_statements(engine.name)
    for name in statements_of(SQL):
        steps = await read_through(database, statements[name])
        assert steps == [] or name in FIRST_OF_ALL, name


async def test_no_list_of_runs_reads_a_table_through(database: str, engine: Engine) -> None:
    select = load_statements(engine.name)["run_select"]
    for wanted in ("", "and session_id = :x", "and agent_id = :x", "and status = :x", "and agent_id in (:x, :y)"):
        by = "queued_seq" if "session_id" in wanted else "created_at_us"
        tail = f"where workspace_id = :w {wanted} and ({by}, id) < (:at, :id) order by {by} desc, id desc limit :limit"
        assert await read_through(database, f"{select} {tail}") == [], wanted
