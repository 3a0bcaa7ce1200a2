"""Runs as callers have them: started, waited for, followed, cancelled, answered, tried again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final, cast

import pytest

from sessiond.actions import agents, events, runs, sessions, work
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.caller import Caller
from sessiond.core.errors import Conflict, NotFound, PreconditionFailed
from sessiond.core.event import RUN_TEXT, Delta, Event, make_entry
from sessiond.core.run import CANCELLED, COMPLETED, QUEUED, RUNNING, WAITING, Answer, Ask, Choice, Run, RunFilter
from sessiond.core.session import NewSession, Status
from sessiond.storage.engine import Engine
from tests.actions.calling import ME, append, caller, create, gathered, make_workspaces, retried, text
from tests.actions.working import (
    BROKEN,
    NOW,
    ask,
    begin,
    do_one,
    error_of,
    finish,
    get,
    get_session,
    listed,
    log_of,
    register,
    send,
    start,
    take,
    types_of,
)

IN_TIME: Final = 20.0  # a bound for what takes milliseconds
MINE: Final = caller(user_id="me")

Followed = AsyncGenerator[list[Event | Delta], None]


async def allowed() -> None:
    return


async def test_a_run_is_started_over_a_message_or_over_what_was_said_before(engine: Engine) -> None:
    await register(engine)
    await begin(engine)

    first = await start(engine, message=text("hi"))
    second = await start(engine)

    assert first == await get(engine, first.id)
    assert (first.status, first.input, second.input, second.input_seq) == (QUEUED, b'"hi"', None, 4)
    assert [event.type for event in await log_of(engine)] == [
        *("session.created", "session.activated", "message.user", "run.queued", "run.queued"),
    ]
    assert (await get_session(engine)).status is Status.ACTIVE


async def test_a_run_is_not_started_where_none_can_be_and_nothing_is_left(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    await begin(engine, "unknown", agent_id="none")
    await create(engine, "nobody's")
    await create(engine, "over", agent_id="a")
    await sessions.complete(Call(engine, ME), "over", itself)

    for session_id, said in {
        "unknown": "'none' is not registered",
        "nobody's": "no agent",
        "over": "completed",
    }.items():
        with pytest.raises(Conflict, match=said):
            await start(engine, session_id, text("hi"))
    with pytest.raises(NotFound):
        await start(engine, "missing")
    with pytest.raises(PreconditionFailed):
        await runs.start(Call(engine, ME, if_match='"other"'), "s", itself)

    assert await listed(engine) == []
    assert [len(await log_of(engine, session_id)) for session_id in ("s", "unknown", "nobody's", "over")] == [
        1,
        1,
        1,
        2,
    ]


async def test_a_request_that_comes_twice_starts_one_run(engine: Engine) -> None:
    await make_workspaces(engine)
    await register(engine)
    await begin(engine)

    async def once() -> str:
        return await runs.start(Call(engine, ME, retry=retried("k")), "s", lambda run: str(run.id), message=text("hi"))

    answers = await asyncio.gather(*(once() for _ in range(4)))

    (run,) = await listed(engine)
    assert answers == [run.id] * 4


async def test_a_run_may_be_started_in_a_session_that_is_made_for_it(engine: Engine) -> None:
    await register(engine)
    await register(engine, "b")

    async def start_in(session_id: str, agent_id: str = "a", by: Caller = ME, user_id: str | None = None) -> Run:
        new = NewSession(agent_id=agent_id, user_id=user_id)
        return await runs.start_in(Call(engine, by), session_id, itself, new=new, message=text("hi"))

    first, second = await start_in("s"), await start_in("s")
    theirs = await start_in("t", by=MINE)

    assert [run.id for run in await listed(engine, session_ids=("s",))] == [first.id, second.id]
    assert (theirs.user_id, (await get_session(engine, "t")).user_id) == ("me", "me")
    with pytest.raises(NotFound):
        await start_in("new", "none")
    with pytest.raises(NotFound):
        await get_session(engine, "new")
    for refused in (start_in("s", "b"), start_in("t", user_id="you"), start_in("t", by=caller(user_id="you"))):
        with pytest.raises(Conflict):
            await refused


async def test_a_run_that_failed_is_tried_again_with_what_it_was_given(engine: Engine) -> None:
    await register(engine)
    await register(engine, "b")
    await begin(engine)
    run_id = await send(engine, "hi")
    with pytest.raises(Conflict, match="queued"):
        await runs.retry(Call(engine, ME), run_id, itself)
    taken = await take(engine)
    with pytest.raises(Conflict, match="running"):
        await runs.retry(Call(engine, ME), run_id, itself)
    failed = await finish(engine, taken, BROKEN)
    await sessions.patch(Call(engine, ME), "s", SessionPatch(agent_id="b"), itself)

    again = await runs.retry(Call(engine, ME), run_id, itself)

    assert (again.retry_of, again.agent_id, again.input, again.input_seq) == (run_id, "a", b'"hi"', 3)
    assert (await do_one(engine)).id == again.id
    assert await get(engine, run_id) == failed
    with pytest.raises(Conflict, match="completed"):
        await runs.retry(Call(engine, ME), again.id, itself)
    await agents.remove(Call(engine, ME), "a", itself)
    with pytest.raises(Conflict, match="'a' is not registered"):
        await runs.retry(Call(engine, ME), run_id, itself)


async def test_a_queued_run_is_cancelled_at_once_and_only_once(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    first, second = [await send(engine, each) for each in "ab"]

    cancelled = await asyncio.gather(*(runs.cancel(Call(engine, ME), first, itself, reason="why") for _ in range(5)))

    assert cancelled == [await get(engine, first)] * 5
    assert (cancelled[0].status, error_of(cancelled[0]).message, cancelled[0].attempts) == (CANCELLED, "why", 0)
    assert await types_of(engine, first) == ["message.user", "run.queued", "run.cancelled"]
    assert (await do_one(engine)).id == second
    with pytest.raises(Conflict, match="completed"):
        await runs.cancel(Call(engine, ME), second, itself)


async def test_a_run_under_way_is_asked_to_stop_once(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run_id = await send(engine, "hi")
    taken = await take(engine)

    asked = [await runs.cancel(Call(engine, ME), run_id, itself, reason=reason) for reason in ("first", "second")]

    assert asked[0] == asked[1]
    assert (asked[0].status, error_of(asked[0]).message) == (RUNNING, "first")
    assert (await types_of(engine, run_id)).count("run.cancel_requested") == 1
    assert (await finish(engine, taken)) is not None
    assert (await runs.cancel(Call(engine, ME), run_id, itself)).status is CANCELLED


async def test_only_what_waits_is_answered_and_only_with_what_it_offered(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run_id = await send(engine, "hi")
    taken = await take(engine)

    async def respond(given: Answer) -> Run:
        return await runs.respond(Call(engine, ME), run_id, given, itself)

    with pytest.raises(Conflict, match="running"):
        await respond(Answer("y"))
    await ask(engine, taken, Ask("may I?", [Choice("y", "yes")]))
    for wrong in (Answer("n"), Answer(content="y"), Answer()):
        with pytest.raises(Conflict) as refused:
            await respond(wrong)
        assert refused.value.field == "option_id"
    assert (await respond(Answer("y"))).status is RUNNING
    with pytest.raises(Conflict, match="running"):
        await respond(Answer("y"))
    await ask(engine, taken, Ask("what is it?"))
    assert (await respond(Answer(content={"it": 1}))).answer == b'{"option_id":null,"content":{"it":1}}'
    await finish(engine, taken)
    with pytest.raises(Conflict, match="completed"):
        await respond(Answer("y"))


async def test_of_many_answers_at_once_one_counts(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run_id = await send(engine, "hi")
    await ask(engine, await take(engine))

    given = [Answer("yn"[number % 2]) for number in range(6)]
    results = await asyncio.gather(
        *(runs.respond(Call(engine, ME), run_id, each, itself) for each in given), return_exceptions=True
    )

    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 5 + ["Run"]
    assert (await types_of(engine, run_id)).count("run.answered") == 1


async def test_who_waits_gets_a_run_when_it_has_ended_or_asks(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run_id = await send(engine, "hi")

    async def wait(seconds: float = IN_TIME) -> Run:
        async with asyncio.timeout(IN_TIME):
            return await runs.wait(Call(engine, ME), run_id, timeout_seconds=seconds)

    assert (await wait(0)).status is QUEUED
    assert (await wait(0.02)).status is QUEUED
    taken = await take(engine)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait())
        group.create_task(ask(engine, taken))
    assert waiting.result().status is WAITING
    assert (await wait()).status is WAITING, "at once"
    await runs.respond(Call(engine, ME), run_id, Answer("y"), itself)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait())
        group.create_task(finish(engine, taken))
    assert waiting.result() == await wait() == await get(engine, run_id)
    assert len(engine.watches) == 0
    with pytest.raises(NotFound):
        await runs.wait(Call(engine, ME), "none", timeout_seconds=1)


async def test_who_waits_for_a_run_whose_session_is_deleted_gets_it_cancelled(engine: Engine) -> None:
    await make_workspaces(engine)
    await register(engine)
    await begin(engine)
    run_id = await send(engine, "hi")

    async with asyncio.timeout(IN_TIME), asyncio.TaskGroup() as group:
        waiting = group.create_task(runs.wait(Call(engine, ME), run_id, timeout_seconds=IN_TIME))
        await asyncio.sleep(0)
        group.create_task(sessions.delete(Call(engine, ME), "s", itself))

    assert (waiting.result().status, waiting.result().session_id) == (CANCELLED, None)
    assert await runs.wait(Call(engine, ME), run_id, timeout_seconds=IN_TIME) == waiting.result()
    assert await listed(engine) == [waiting.result()], "it outlives its session"
    with pytest.raises(NotFound):
        await runs.retry(Call(engine, ME), run_id, itself)
    with pytest.raises(NotFound):
        await runs.respond(Call(engine, ME), run_id, Answer(), itself)
    assert await runs.cancel(Call(engine, ME), run_id, itself) == waiting.result()


async def test_runs_are_seen_by_whoever_may_see_their_session(engine: Engine) -> None:
    await register(engine)
    await begin(engine, user_id="me")
    mine = await send(engine, "hi", by=MINE)
    await begin(engine, "theirs", "hi", user_id="you")

    assert [run.id for run in await listed(engine, by=MINE)] == [mine]
    await sessions.patch(Call(engine, ME), "s", SessionPatch(user_id="you"), itself)

    assert await listed(engine, by=MINE) == []
    assert len(await listed(engine, by=caller(user_id="you"))) == 2
    for act in (runs.cancel, runs.retry):
        with pytest.raises(NotFound):
            await act(Call(engine, MINE), mine, itself)
    await sessions.patch(Call(engine, ME), "s", SessionPatch(user_id="me"), itself)
    assert (await runs.cancel(Call(engine, MINE), mine, itself)).status is CANCELLED


async def test_all_runs_are_read_page_by_page(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PAGE_RUNS", 2)
    await register(engine)
    await begin(engine)
    sent = [await send(engine, f"{number}") for number in range(5)]

    for wanted in (RunFilter(), RunFilter(session_ids=("s",)), RunFilter(statuses=(QUEUED, RUNNING))):
        assert [run.id for run in await gathered(runs.read_all(Call(engine, ME), wanted))] == sent
    page = await runs.read_page(Call(engine, ME), RunFilter(), limit=2, with_total=True)
    assert ([run.id for run in page.runs], page.more, page.total) == (sent[:2:-1], True, 5)


def follow(engine: Engine, run: Run, *, after: int | None = None, silence_seconds: float = 60) -> Followed:
    followed = runs.follow_run(
        Call(engine, ME), run, after=after, silence_seconds=silence_seconds, still_allowed=allowed
    )
    return cast(Followed, followed)


async def collect(followed: Followed, *, most: int = 1_000) -> list[Event]:
    """Return what a follower gets until the stream ends, or until it has had enough."""
    found: list[Event] = []
    async with asyncio.timeout(IN_TIME), aclosing(followed) as pages:
        async for page in pages:
            found += cast(list[Event], page)
            if len(found) >= most:
                return found[:most]
    return found


async def write_piece(engine: Engine, taken: work.Work, number: int) -> None:
    piece = make_entry(RUN_TEXT, {"text": f"{number}", "offset": number}, run_id=taken.run.id)
    await engine.combine(work.append, (taken.lease, work.append_of(taken.lease, taken.run, (piece,), at_us=NOW)))


async def do_at_length(engine: Engine, taken: work.Work) -> None:
    """Write many pieces, while others write in the session too."""
    for number in range(40):
        await write_piece(engine, taken, number)
        if number % 4 == 0:
            await append(engine, "s", "another")
    await finish(engine, taken)


async def test_a_run_is_followed_from_its_beginning_to_its_end_and_no_further(engine: Engine) -> None:
    await register(engine)
    await begin(engine, "s", "before")
    await do_one(engine)
    run = await start(engine, message=text("hi"))
    async with asyncio.TaskGroup() as group:
        following = group.create_task(collect(follow(engine, run)))
        group.create_task(do_at_length(engine, await take(engine)))

    found = following.result()

    assert [event.type for event in found] == [
        *("run.queued", "run.started", *["run.text"] * 40, "message.assistant", "run.completed"),
    ]
    assert {event.run_id for event in found} == {run.id}
    assert await collect(follow(engine, await get(engine, run.id))) == found, "later, it is the same"
    assert len(engine.watches) == 0


async def test_a_follower_that_is_cut_off_again_and_again_gets_each_event_once(engine: Engine) -> None:
    chance = random.Random(7)
    await register(engine)
    await begin(engine)
    run = await start(engine, message=text("hi"))

    async def resume() -> list[Event]:
        found: list[Event] = []
        while not found or found[-1].type != "run.completed":
            after = found[-1].seq if found else None
            found += await collect(follow(engine, run, after=after), most=chance.randint(1, 5))
        return found

    async with asyncio.timeout(IN_TIME), asyncio.TaskGroup() as group:
        following = [group.create_task(resume()) for _ in range(3)]
        group.create_task(do_at_length(engine, await take(engine)))

    whole = await collect(follow(engine, run))
    assert len(whole) == 44
    assert [task.result() for task in following] == [whole] * 3


async def test_who_comes_back_after_the_end_is_told_so_at_once(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run = await start(engine, message=text("hi"))
    ended = await do_one(engine)
    assert ended.ended_seq is not None
    await append(engine, "s", "later")

    for after in (ended.ended_seq, ended.ended_seq + 1, 10**9):
        for seen in (run, ended):
            assert await collect(follow(engine, seen, after=after)) == []
    assert [event.type for event in await collect(follow(engine, run, after=ended.ended_seq - 1))] == ["run.completed"]


async def test_a_run_that_was_cancelled_in_the_queue_has_its_stream(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run = await start(engine, message=text("hi"))
    await runs.cancel(Call(engine, ME), run.id, itself)

    assert [event.type for event in await collect(follow(engine, run))] == ["run.queued", "run.cancelled"]


@pytest.mark.parametrize("replaced", [True, False])
async def test_the_stream_of_a_run_ends_with_its_session(engine: Engine, replaced: bool) -> None:
    await make_workspaces(engine)
    await register(engine)
    await begin(engine)
    run = await start(engine, message=text("hi"))
    async with asyncio.timeout(IN_TIME), aclosing(follow(engine, run, after=run.queued_seq)) as pages:
        assert await anext(pages) == []

        await sessions.delete(Call(engine, ME), "s", itself)
        if replaced:
            await begin(engine)
            await send(engine, "another's")

        assert [page async for page in pages if page] == []
    if replaced:
        assert await collect(follow(engine, run)) == []
    else:
        with pytest.raises(NotFound):
            await anext(follow(engine, run))
    with pytest.raises(NotFound, match="deleted"):
        await anext(follow(engine, await get(engine, run.id)))


async def test_silence_is_broken_also_while_others_speak(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "TICK_SECONDS", 0.02)
    await register(engine)
    await begin(engine)
    speaking = await start(engine, message=text("first"))
    taken = await take(engine)
    assert taken.run.id == speaking.id
    queued = await start(engine, message=text("second"))
    ends = asyncio.Event()

    async def speak() -> None:
        number = 0
        while not ends.is_set():
            await write_piece(engine, taken, number)
            number += 1

    async with asyncio.timeout(IN_TIME), asyncio.TaskGroup() as group:
        group.create_task(speak())
        async with aclosing(follow(engine, queued, after=queued.queued_seq, silence_seconds=0.05)) as pages:
            assert [await anext(pages) for _ in range(4)] == [[]] * 4
        ends.set()


async def test_errors_name_the_run_that_is_not_there(engine: Engine) -> None:
    acts: list[Callable[[], Any]] = [
        lambda: runs.get(Call(engine, ME), "none"),
        lambda: runs.cancel(Call(engine, ME), "none", itself),
        lambda: runs.retry(Call(engine, ME), "none", itself),
        lambda: runs.respond(Call(engine, ME), "none", Answer(), itself),
    ]
    for act in acts:
        with pytest.raises(NotFound, match="no such run"):
            await act()


async def test_what_becomes_of_a_run_is_the_same_for_whoever_looks(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    run_id = await send(engine, "hi")

    done = await do_one(engine, "ho")

    assert done == await get(engine, run_id) == (await listed(engine))[0]
    assert (done.status, done.output, done.error, done.worker) == (COMPLETED, b'"ho"', None, "w")
