"""What workers do with runs, over the real SQL, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sessiond.actions import agents, messages, runs, sessions, work
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.errors import Conflict
from sessiond.core.event import RUN_TEXT, make_entry
from sessiond.core.message import Role, make_message
from sessiond.core.run import (
    CANCELLED,
    COMPLETED,
    FAILED,
    LOST_MAX,
    QUEUED,
    RUNNING,
    WAITING,
    Answer,
    Ask,
    Failure,
    Strategy,
)
from sessiond.core.session import Status
from sessiond.storage import leases
from sessiond.storage.engine import Engine
from sessiond.storage.open import migrate, open_engine
from tests.actions.calling import ME, append, make_workspaces, text
from tests.actions.machine import AnyQueue, Bench
from tests.actions.queueing import Eye, check, open_eye
from tests.actions.working import (
    BROKEN,
    LEASE,
    NOW,
    QUESTION,
    SECOND,
    ask,
    begin,
    brief_of,
    claim,
    do_one,
    error_of,
    finish,
    get,
    get_session,
    give_back,
    history,
    listed,
    log_of,
    register,
    retry_later,
    send,
    start,
    take,
    types_of,
)

EXAMPLES: Final = 50


@pytest.mark.timeout(600)  # to find the shortest example, should it fail
def test_whatever_happens_each_session_does_one_run_at_a_time_and_each_run_ends_once(database: str) -> None:
    async def open_bench() -> tuple[Engine, Any, Eye]:
        await migrate(database)
        engine = await open_engine(database, queue_max=1_000, pool_max=2, command_timeout_seconds=20)
        opening = open_eye(engine, database)
        return engine, opening, await opening.__aenter__()

    with asyncio.Runner() as runner:
        engine, opening, eye = runner.run(open_bench())

        class Queue(AnyQueue):
            bench = Bench(runner, engine, eye)

        try:
            run_state_machine_as_test(
                Queue,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=40,
                    suppress_health_check=list(HealthCheck),
                    print_blob=False,
                ),
            )
        finally:
            runner.run(opening.__aexit__(None, None, None))
            runner.run(engine.close())


async def test_a_run_gets_the_conversation_with_each_answer_behind_what_it_answers(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    for number in range(5):
        await send(engine, f"q{number}")

    seen = []
    for number in range(5):
        taken = await take(engine)
        seen.append(await history(engine, taken))
        await finish(engine, taken, output=f"a{number}")

    assert seen == [
        [each for n in range(number) for each in (f"q{n}", f"a{n}")] + [f"q{number}"] for number in range(5)
    ]
    assert [(run.status, run.attempts) for run in await listed(engine)] == [(COMPLETED, 1)] * 5


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7])
async def test_a_run_gets_the_last_of_a_conversation_also_when_answers_came_late(engine: Engine, limit: int) -> None:
    await register(engine, history=limit)
    await begin(engine)
    for number in range(6):
        await send(engine, f"q{number}")
    for number in range(5):
        await do_one(engine, f"a{number}")

    told = await history(engine, await take(engine))

    assert told == [*(each for n in range(5) for each in (f"q{n}", f"a{n}")), "q5"][-limit:]


async def test_the_answers_of_a_run_that_was_tried_again_stand_behind_what_it_answers(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    first = await send(engine, "q0")
    await finish(engine, await take(engine), BROKEN)
    await send(engine, "q1")
    await do_one(engine, "a1")
    for number in range(2, 60):
        await send(engine, f"q{number}")
        await do_one(engine, f"a{number}")

    again = await runs.retry(Call(engine, ME), first, itself)
    taken = await take(engine)
    brief = await brief_of(engine, taken)

    assert (taken.run.id, again.retry_of, brief.input) == (again.id, first, msgspec.Raw(b'"q0"'))
    assert await history(engine, taken) == ["q0"], "it sees what the first saw, and not what came later"
    await finish(engine, taken, output="a0")
    await send(engine, "last")
    await register(engine, history=1_000)
    told = await history(engine, await take(engine))
    assert told[:4] == ["q0", "a0", "q1", "a1"]
    assert told[-3:] == ["q59", "a59", "last"]


async def test_a_retry_sees_the_answers_that_came_before_its_turn_however_many_came_after(engine: Engine) -> None:
    await register(engine, history=5)
    await begin(engine)
    await send(engine, "q0")
    second = await send(engine, "q1")
    await do_one(engine, "a0")
    await finish(engine, await take(engine), BROKEN)
    for number in range(20):
        await send(engine, f"later {number}")
        await do_one(engine)

    await runs.retry(Call(engine, ME), second, itself)

    assert await history(engine, await take(engine)) == ["q0", "a0", "q1"]


async def test_a_conversation_is_found_among_the_many_pieces_of_its_runs(engine: Engine) -> None:
    await register(engine, history=4)
    await begin(engine)
    for number in range(4):
        run_id = await send(engine, f"q{number}")
        pieces = [make_entry(RUN_TEXT, {"text": "x"}, run_id=run_id) for _ in range(100)]
        await finish(engine, await take(engine), output=f"a{number}", entries=tuple(pieces))

    await send(engine, "q4")

    assert await history(engine, await take(engine)) == ["a2", "q3", "a3", "q4"]


async def test_messages_of_one_batch_are_one_run_and_stay_together(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    first = await send(engine, "one", "two")
    await send(engine, "three")
    await do_one(engine, "a")

    assert await history(engine, await take(engine)) == ["one", "two", "a", "three"]
    assert (await get(engine, first)).input == b'"two"'


async def test_a_run_without_a_word_answers_what_was_said_last(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    await messages.append(Call(engine, ME), "s", [text("hello")], itself, start_run=False)
    assert await listed(engine) == []

    started = await start(engine)

    brief = await brief_of(engine, await take(engine))
    assert (started.input, brief.input) == (None, msgspec.Raw(b'"hello"'))
    assert [said.role for said in brief.messages] == [Role.USER]
    await begin(engine, "empty")
    await start(engine, "empty")
    brief = await brief_of(engine, await take(engine))
    assert (brief.input, brief.messages) == (None, [])


async def test_what_came_since_is_not_told_to_a_run_but_what_others_wrote_before_is(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    await messages.append(Call(engine, ME), "s", [make_message(Role.SYSTEM, "be kind"), text("q")], itself)
    await messages.append(Call(engine, ME), "s", [make_message(Role.ASSISTANT, "by hand")], itself)

    assert await history(engine, await take(engine)) == ["be kind", "q"]


async def test_a_brief_says_what_an_agent_must_know_of_its_session(engine: Engine) -> None:
    await register(engine)
    await begin(engine, "s", "hi", user_id="u", prompt="p", metadata=b'{"k":1}')

    brief = await brief_of(engine, await take(engine))

    assert (brief.session.id, brief.session.user_id, brief.session.prompt) == ("s", "u", "p")
    assert (brief.session.metadata, brief.session.data) == ({"k": 1}, {})
    assert (brief.attempt, brief.agent.id) == (1, "a")


async def test_what_a_worker_lost_is_taken_over_and_the_first_can_do_nothing_more(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run_id = await send(engine, "hi")
    frozen = await take(engine, "first")
    assert (await claim(engine, "second", at_us=NOW + LEASE - 1)).works == []

    taken = await take(engine, "second", at_us=NOW + LEASE)

    assert (taken.run.id, taken.run.attempts, taken.run.worker) == (run_id, 2, "second")
    before = await log_of(engine)
    piece = make_entry(RUN_TEXT, {"text": "x"}, run_id=run_id)
    wanted = work.append_of(frozen.lease, frozen.run, (piece,), at_us=NOW)
    assert await engine.combine(work.append, (frozen.lease, wanted)) is None
    assert await engine.write(lambda tx: work.ask(tx, frozen.lease, run_id, QUESTION, (piece,), now_us=NOW)) is False
    for end in (finish, retry_later, give_back):
        assert await end(engine, frozen) is None
    assert await engine.write(lambda tx: leases.renew(tx, [frozen.lease, taken.lease], until_us=NOW)) == [taken.lease]
    assert await log_of(engine) == before
    assert (await finish(engine, taken)) == await get(engine, run_id)
    assert await finish(engine, taken) is None, "it ended once"


async def test_a_lost_run_is_taken_over_also_when_its_agent_may_do_one_at_a_time(engine: Engine) -> None:
    await register(engine, concurrency=1)
    for session_id in ("s", "t"):
        await begin(engine, session_id, "hi")
    lost = await take(engine)

    again = await take(engine, "another", at_us=NOW + LEASE)

    assert again.run.id == lost.run.id
    await finish(engine, again)
    assert (await take(engine)).run.session_id != again.run.session_id


async def test_an_agent_does_no_more_at_once_than_it_may_and_the_longest_due_first(engine: Engine) -> None:
    await register(engine, concurrency=2)
    for number in range(6):
        await begin(engine, f"s{number}", "hi")

    order = []
    for _ in range(3):
        claimed = await claim(engine)
        assert len(claimed.works) == 2
        assert (await claim(engine)).works == []
        for taken in claimed.works:
            order.append(taken.run.session_id)
            await finish(engine, taken)

    assert order == [f"s{number}" for number in range(6)]


async def test_a_run_that_brings_its_workers_down_is_given_up(engine: Engine) -> None:
    await register(engine, fails_session=True)
    await begin(engine)
    run_id = await send(engine, "hi")
    for number in range(LOST_MAX):
        await take(engine, at_us=NOW + number * LEASE)

    assert (await claim(engine, at_us=NOW + LOST_MAX * LEASE)).works == []

    run = await get(engine, run_id)
    assert (run.status, run.attempts, error_of(run).code) == (FAILED, LOST_MAX, "worker_lost")
    assert (await get_session(engine)).status is Status.FAILED


async def test_a_failed_attempt_is_put_off_for_twice_as_long_each_time(engine: Engine) -> None:
    await register(engine, backoff_seconds=1_000.0, retries=100)
    await begin(engine)
    run_id = await send(engine, "hi")

    at_us, waits = NOW, []
    for _ in range(4):
        after = await retry_later(engine, await take(engine, at_us=at_us), at_us=at_us)
        assert after == await get(engine, run_id)
        due_us = await engine.read(leases.find_next)
        assert due_us is not None
        assert (await claim(engine, at_us=due_us - 1)).works == []
        waits.append((due_us - at_us) / SECOND)
        at_us = due_us

    assert waits == [1_000, 2_000, 3_600, 3_600]
    run = await get(engine, run_id)
    assert (run.status, run.failures, run.attempts, error_of(run)) == (QUEUED, 4, 4, BROKEN.failure)
    assert (await types_of(engine, run_id)).count("run.retrying") == 4
    assert (await do_one(engine, at_us=at_us)).error is None, "what went wrong before is no error of a good run"


async def test_when_what_was_put_off_is_cancelled_the_next_begins_at_once(engine: Engine) -> None:
    await register(engine, backoff_seconds=1_000.0)
    await begin(engine)
    first, second, third = [await send(engine, each) for each in "abc"]
    await retry_later(engine, await take(engine))
    await runs.cancel(Call(engine, ME), third, itself)
    assert (await claim(engine)).works == [], "the first is still put off"

    await runs.cancel(Call(engine, ME), first, itself)

    assert (await take(engine)).run.id == second


async def test_usage_adds_up_on_the_session_whatever_becomes_of_the_run(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    first, second = [await send(engine, each) for each in "ab"]
    await retry_later(engine, await take(engine), prompt_tokens=1, completion_tokens=10)
    later = NOW + 3_600 * SECOND
    await give_back(engine, await take(engine, at_us=later), prompt_tokens=2, completion_tokens=20)
    await runs.cancel(Call(engine, ME), first, itself)
    await finish(engine, await take(engine, at_us=later), BROKEN, prompt_tokens=4, completion_tokens=40)

    used = [
        ((await get(engine, run)).prompt_tokens, (await get(engine, run)).completion_tokens) for run in (first, second)
    ]
    session = await get_session(engine)

    assert used == [(3, 30), (4, 40)]
    assert (session.prompt_tokens, session.completion_tokens) == (7, 70)


async def test_a_run_waits_for_an_answer_and_goes_on(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run_id = await send(engine, "hi")
    taken = await take(engine)

    for _ in range(2):  # the second time, the word of the first was lost
        assert await ask(engine, taken)

    waiting = await get(engine, run_id)
    assert (waiting.status, msgspec.json.decode(waiting.ask or b"", type=Ask)) == (WAITING, QUESTION)
    answered = await runs.respond(Call(engine, ME), run_id, Answer("y"), itself)
    assert (answered.status, answered.ask, answered.answer) == (RUNNING, None, b'{"option_id":"y","content":null}')
    seen = await engine.read(lambda tx: leases.look(tx, taken.lease, run_id))
    assert seen == leases.Look(held=True, status=RUNNING, cancel_requested=False, answer=answered.answer)
    assert (await finish(engine, taken)) is not None
    assert await types_of(engine, run_id) == [
        *("message.user", "run.queued", "run.started", "run.waiting", "run.answered"),
        *("message.assistant", "run.completed"),
    ]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_run_that_is_to_be_cancelled_ends_so_however_its_attempt_ends(engine: Engine, waits: bool) -> None:
    await register(engine)
    for number, end in enumerate((finish, retry_later, give_back)):
        await begin(engine, f"s{number}")
        run_id = await send(engine, "hi", session_id=f"s{number}")
        taken = await take(engine)
        if waits:
            assert await ask(engine, taken)

        asked = await runs.cancel(Call(engine, ME), run_id, itself, reason="enough")
        assert asked.status is (WAITING if waits else RUNNING)
        ended = await end(engine, taken)

        assert ended == await get(engine, run_id)
        assert (ended.status, ended.output, error_of(ended)) == (CANCELLED, None, Failure("cancelled", "enough"))
        assert (await types_of(engine, run_id, f"s{number}"))[-2:] == ["run.cancel_requested", "run.cancelled"]


async def test_a_run_that_was_to_be_cancelled_and_lost_its_worker_is_cancelled_by_the_next(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run_id = await send(engine, "hi")
    await take(engine)
    await runs.cancel(Call(engine, ME), run_id, itself)

    assert (await claim(engine, at_us=NOW + LEASE)).works == []

    assert (await get(engine, run_id)).status is CANCELLED


async def test_a_run_that_fails_for_good_may_take_its_session_along(engine: Engine) -> None:
    await register(engine, fails_session=True)
    await begin(engine)
    first, second = [await send(engine, each) for each in "ab"]
    await finish(engine, await take(engine), BROKEN)

    session = await get_session(engine)
    assert session.status is Status.FAILED
    assert [(await get(engine, run)).status for run in (first, second)] == [FAILED, CANCELLED]
    assert first in error_of(await get(engine, second)).message
    last = (await log_of(engine))[-1]
    assert (last.type, last.actor) == ("session.failed", "agent:a")
    assert (await claim(engine)).works == []
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=Status.ACTIVE), itself)
    await send(engine, "c")
    assert (await do_one(engine)).status is COMPLETED


async def test_what_is_queued_for_an_agent_that_was_removed_fails_and_says_why(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    first, second = [await send(engine, each) for each in "ab"]
    taken = await take(engine)
    await agents.remove(Call(engine, ME), "a", itself)
    await finish(engine, taken)

    claimed = await claim(engine)

    assert (claimed.works, claimed.more) == ([], True)
    assert (await get(engine, first)).status is COMPLETED, "what was under way goes on"
    assert error_of(await get(engine, second)).code == "not_configured"
    assert (await append(engine, "s", "kept"))[0].run_id is None


async def test_a_paused_session_holds_its_queue_and_what_was_lost_meanwhile(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    first, second = [await send(engine, each) for each in "ab"]
    await take(engine)
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=Status.PAUSED), itself)

    assert (await claim(engine, at_us=NOW + LEASE)).works == []
    assert (await claim(engine, at_us=NOW + 2 * LEASE)).works == []
    assert [(await get(engine, run)).status for run in (first, second)] == [QUEUED, QUEUED]
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=Status.ACTIVE), itself)

    assert (await take(engine, at_us=NOW + 2 * LEASE)).run.id == first


async def test_a_run_whose_session_is_deleted_is_cancelled_and_its_worker_can_do_nothing_more(engine: Engine) -> None:
    await make_workspaces(engine)
    await register(engine)
    await begin(engine)
    first, second = [await send(engine, each) for each in "ab"]
    taken = await take(engine)
    assert await ask(engine, taken)

    await sessions.delete(Call(engine, ME), "s", itself)

    assert await engine.read(lambda tx: leases.look(tx, taken.lease, first)) is None
    await begin(engine)
    for end in (finish, retry_later, give_back):
        assert await end(engine, taken) is None
    for run in [await get(engine, first), await get(engine, second)]:
        assert (run.status, run.session_id, run.ask) == (CANCELLED, None, None)
        assert error_of(run).message == "the session was deleted"
    assert [event.type for event in await log_of(engine)] == ["session.created"]


async def test_claims_at_once_never_take_one_session_twice(engine: Engine, database: str) -> None:
    await register(engine)
    await register(engine, "few", concurrency=3)
    for number in range(40):
        await begin(engine, f"s{number}", "hi", agent_id="few" if number % 2 else "a")

    claimed = await asyncio.gather(*(claim(engine, f"w{number}", limit=4) for number in range(30)))

    taken = [each for one in claimed for each in one.works]
    assert len({each.lease.session_id for each in taken}) == len(taken)
    assert 1 <= sum(each.agent.id == "few" for each in taken) <= 3
    async with open_eye(engine, database) as eye:
        check(await eye.look(ME.workspace_id))


async def test_all_at_once_nothing_stands_in_anothers_way(engine: Engine, database: str) -> None:
    await register(engine, concurrency=5)
    await register(engine, "b")
    names = [f"s{number}" for number in range(8)]
    for number, name in enumerate(names):
        await begin(engine, name, agent_id="ab"[number % 2])

    async def talk(name: str) -> None:
        for number in range(6):
            strategy = Strategy.INTERRUPT if number == 4 else None
            await messages.append(Call(engine, ME), name, [text(f"{number}")], itself, strategy=strategy)

    async def cancel(name: str) -> None:
        for _ in range(4):
            for run in (await listed(engine, session_ids=(name,)))[-2:]:
                with suppress(Conflict):  # it has ended since it was looked for
                    await runs.cancel(Call(engine, ME), run.id, itself)

    async def serve(worker: str) -> None:
        held = []
        for _ in range(25):
            held += (await claim(engine, worker, limit=3)).works
            pieces = [(each.lease, piece_of(each)) for each in reversed(held)]
            await asyncio.gather(beat(held), *(engine.combine(work.append, piece) for piece in pieces))
            if len(held) > 2:
                await asyncio.gather(*(finish(engine, each) for each in held))
                held = []
        for each in held:
            await give_back(engine, each)

    async def beat(held: list[work.Work]) -> None:
        mine = [each.lease for each in held]
        await engine.write(lambda tx: leases.renew(tx, mine, until_us=NOW + LEASE))

    def piece_of(each: work.Work) -> Any:
        entry = make_entry(RUN_TEXT, {"text": "x"}, run_id=each.run.id)
        return work.append_of(each.lease, each.run, (entry,), at_us=NOW)

    async with asyncio.timeout(60):
        await asyncio.gather(*map(talk, names), *map(cancel, names), *(serve(f"w{number}") for number in range(4)))
    while works := (await claim(engine)).works:
        for each in works:
            await finish(engine, each)

    assert all(run.ended for run in await listed(engine))
    async with open_eye(engine, database) as eye:
        check(await eye.look(ME.workspace_id))
        if engine.name == "postgres":
            deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
            assert await eye.rows(deadlocks) == [(0,)]
