"""Leases: who works on a session, until when, and what they may write."""

from __future__ import annotations

from sessiond.core.event import RUN_TEXT, make_entry
from sessiond.core.ids import RunId, SessionId
from sessiond.core.run import COMPLETED, RUNNING
from sessiond.core.session import Status
from sessiond.storage import leases, runs
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.leases import Due, Lease
from tests.storage.making import ELSEWHERE, NOW, WORKSPACE, add, append, make_append, make_session, must_find, said
from tests.storage.test_runs import make_run

UNTIL = NOW + 10_000_000
PIECE = make_entry(RUN_TEXT, {"text": "x"}, run_id="r")


async def queue(engine: Engine, *session_ids: str, at_us: int = NOW) -> None:
    """Make sessions with one run each."""
    await add(engine, *(make_session(session_id) for session_id in session_ids))
    for number, session_id in enumerate(session_ids):
        run = make_run(f"r_{session_id}", session_id)
        await engine.write(lambda tx, run=run, at=at_us + number: runs.insert(tx, run, now_us=at))  # type: ignore[misc]


async def read_due(engine: Engine, *, at_us: int = NOW + 100, full: list[leases.Lane] | None = None) -> list[Due]:
    found, _, _ = await engine.write(lambda tx: leases.read_due(tx, full=full or [], now_us=at_us, limit=10))
    return found


async def take(engine: Engine, session_id: str = "s", worker: str = "w") -> Lease:
    due = Due(WORKSPACE, SessionId(session_id), Status.ACTIVE, "a")
    return await engine.write(lambda tx: leases.take(tx, due, worker, until_us=UNTIL))


async def write(engine: Engine, lease: Lease) -> int | None:
    wanted = make_append(lease.session_id, PIECE, PIECE)
    return (await engine.write(lambda tx: leases.append_each(tx, [(lease, wanted)])))[0]


async def test_what_is_due_comes_the_longest_due_first_and_full_agents_are_passed_by(engine: Engine) -> None:
    await queue(engine, "b", "a", "c")

    assert [due.session_id for due in await read_due(engine)] == ["b", "a", "c"]
    assert [due.session_id for due in await read_due(engine, at_us=NOW + 1)] == ["b", "a"]
    assert await read_due(engine, full=[(WORKSPACE, "a")]) == []
    assert len(await read_due(engine, full=[(ELSEWHERE, "a"), (WORKSPACE, "b")])) == 3
    assert await engine.read(leases.find_next) == NOW


async def test_a_leased_session_is_due_when_its_lease_ends_also_if_its_agent_is_full(engine: Engine) -> None:
    await queue(engine, "s")
    assert await engine.read(leases.find_next) == NOW
    await take(engine)

    assert await read_due(engine, at_us=UNTIL - 1) == []
    (due,) = await read_due(engine, at_us=UNTIL, full=[(WORKSPACE, "a")])

    assert due == Due(WORKSPACE, SessionId("s"), Status.ACTIVE, None)
    assert await engine.read(leases.find_next) == UNTIL


async def test_only_the_last_who_took_a_session_writes_renews_and_gives_it_back(engine: Engine) -> None:
    await queue(engine, "s")
    first, second = await take(engine), await take(engine)
    run = make_run("r_s")
    assert second.fence == first.fence + 1

    other = Lease(WORKSPACE, SessionId("s"), "other", second.fence)
    for lost in (first, other, Lease(ELSEWHERE, second.session_id, "w", second.fence)):
        assert await write(engine, lost) is None
        assert await engine.write(lambda tx, lease=lost: leases.hold(tx, lease)) is False  # type: ignore[misc]
        assert await engine.write(lambda tx, lease=lost: leases.renew(tx, [lease], until_us=UNTIL + 1)) == []  # type: ignore[misc]
        await engine.write(lambda tx, lease=lost: leases.release(tx, lease, run, run, ready_us=NOW))  # type: ignore[misc]
    assert await engine.read(leases.find_next) == UNTIL

    assert await engine.write(lambda tx: leases.hold(tx, second)) is True
    assert await write(engine, second) == 1
    assert await engine.write(lambda tx: leases.renew(tx, [second, first], until_us=UNTIL + 1)) == [second]
    assert await engine.read(leases.find_next) == UNTIL + 1


async def test_what_a_run_writes_is_counted_and_moves_the_session(engine: Engine) -> None:
    await queue(engine, "s")
    lease = await take(engine)
    later = NOW + 60_000_000
    wanted = make_append("s", PIECE, *said("hello"), at_us=later)

    assert await engine.write(lambda tx: leases.append(tx, lease, wanted)) == 1

    session = await must_find(engine, "s")
    assert (session.last_seq, session.message_count, session.log_bytes) == (2, 1, wanted.size)
    assert (session.largest_bytes, session.updated_at_us, session.last_active_at_us) == (wanted.largest, later, later)
    nothing = make_append("s", at_us=later)
    assert await engine.write(lambda tx: leases.append(tx, lease, nothing)) == 3
    assert (await must_find(engine, "s")).last_seq == 2


async def test_a_lease_given_back_leaves_the_session_to_the_next(engine: Engine) -> None:
    await queue(engine, "s")
    await engine.write(lambda tx: runs.insert(tx, make_run("r2", queued_seq=5, agent_id="b"), now_us=NOW))
    lease, before = await take(engine), make_run("r_s")
    ended = make_run(
        "r_s", status=COMPLETED, completed_at_us=NOW, started_at_us=NOW, prompt_tokens=7, completion_tokens=8
    )

    async def release(tx: Tx) -> None:
        await runs.save(tx, ended)
        await leases.release(tx, lease, before, ended, ready_us=NOW + 3)

    await engine.write(release)

    session = await must_find(engine, "s")
    assert (session.prompt_tokens, session.completion_tokens) == (7, 8)
    assert await read_due(engine) == [Due(WORKSPACE, SessionId("s"), Status.ACTIVE, "b")]
    assert await engine.read(leases.find_next) == NOW + 3
    assert await write(engine, lease) is None
    assert await engine.read(lambda tx: runs.count_open(tx, WORKSPACE, SessionId("s"))) == 1


async def test_whether_a_commit_whose_answer_was_lost_was_one_can_be_found_out(engine: Engine) -> None:
    await queue(engine, "s")
    lease = await take(engine)
    first_seq = await write(engine, lease)
    assert first_seq == 1
    await append(engine, make_append("s", *said("a user's"), make_entry("run.cancel_requested", {}, run_id="r")))

    async def find(run_id: str = "r", actor: str = "key_1", after: int = 0) -> int | None:
        return await engine.read(lambda tx: leases.find_written(tx, lease, RunId(run_id), actor=actor, after=after))

    assert await find() == 4, "the last of what this actor wrote of the run"
    assert await find(after=1) == 4
    assert await find(after=4) is None
    assert await find(run_id="another") is None
    assert await find(actor="agent:a") is None


async def test_a_look_says_what_became_of_a_run(engine: Engine) -> None:
    await queue(engine, "s")
    lease = await take(engine)
    run = make_run("r_s", cancel_requested_at_us=1, started_at_us=NOW, status=RUNNING, answer=b"{}")
    await engine.write(lambda tx: runs.save(tx, run))

    async def look(lease: Lease) -> leases.Look | None:
        return await engine.read(lambda tx: leases.look(tx, lease, run.id))

    assert await look(lease) == leases.Look(held=True, status=RUNNING, cancel_requested=True, answer=b"{}")
    await take(engine, worker="another")
    lost = await look(lease)
    assert lost is not None
    assert not lost.held
    assert await look(Lease(ELSEWHERE, lease.session_id, lease.worker, lease.fence)) is None


async def test_leases_of_many_sessions_are_written_to_each_with_its_own(engine: Engine) -> None:
    names = [f"s{number}" for number in range(9)]
    await queue(engine, *names)
    held = [await take(engine, name) for name in reversed(names)]
    await take(engine, "s4", "another")

    wanted = [(lease, make_append(lease.session_id, PIECE)) for lease in (*held, held[0])]
    first = await engine.write(lambda tx: leases.append_each(tx, wanted))

    assert first == [None if lease.session_id == "s4" else 1 for lease in held] + [2]
    kept = await engine.write(lambda tx: leases.renew(tx, held, until_us=UNTIL))
    assert {lease.session_id for lease in kept} == {*names} - {"s4"}
