"""A session's queue: what starts a run, and what becomes of the next one while a run is open."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from sessiond.actions import messages, queue, sessions
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.errors import Conflict
from sessiond.core.event import Event, message_entry
from sessiond.core.message import Message, Role, make_message
from sessiond.core.run import CANCELLED, COMPLETED, QUEUED, RUNNING, Failure, RunStatus, Strategy
from sessiond.core.session import NewSession, Status
from sessiond.storage.engine import Engine
from tests.actions.calling import ME, append, text
from tests.actions.working import (
    begin,
    claim,
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


async def statuses(engine: Engine) -> list[RunStatus]:
    return [run.status for run in await listed(engine)]


async def say(engine: Engine, content: str, strategy: Strategy | None) -> list[Event]:
    return await messages.append(Call(engine, ME), "s", [text(content)], itself, strategy=strategy)


def test_only_a_users_last_word_starts_a_run() -> None:
    user, agent = message_entry(text("u")), message_entry(make_message(Role.ASSISTANT, "a"))

    assert queue.starts([user])
    assert queue.starts([agent, user])
    assert not queue.starts([user, agent])
    assert not queue.starts([])


async def test_a_message_and_its_run_are_queued_together(engine: Engine) -> None:
    await register(engine)
    await begin(engine)

    run_id = await send(engine, "hi")

    log = await log_of(engine)
    assert [(event.type, event.run_id) for event in log[1:]] == [
        *(("session.activated", None), ("message.user", run_id), ("run.queued", run_id)),
    ]
    run = await get(engine, run_id)
    assert (run.status, run.input, run.input_seq, run.queued_seq) == (QUEUED, b'"hi"', 3, 4)
    assert (run.agent_id, run.actor, run.session_id) == ("a", "key_1", "s")


async def test_a_sessions_first_messages_start_a_run(engine: Engine) -> None:
    await register(engine)
    await begin(engine, "s", "one", "two")

    (run,) = await listed(engine)

    assert (run.input, await types_of(engine, run.id)) == (b'"two"', ["message.user", "message.user", "run.queued"])
    assert (await do_one(engine)).status is COMPLETED


@pytest.mark.parametrize(
    ("agent_id", "said"), [(None, text("x")), ("none", text("x")), ("a", make_message(Role.ASSISTANT, "x"))]
)
async def test_where_there_is_nobody_to_answer_messages_are_kept(
    engine: Engine, agent_id: str | None, said: Message
) -> None:
    await register(engine)
    new = NewSession(agent_id=agent_id)
    await sessions.create(Call(engine, ME), new, itself, session_id="s", messages=[said])

    await messages.append(Call(engine, ME), "s", [said], itself)

    assert await listed(engine) == []
    assert (await get_session(engine)).message_count == 2
    assert (await claim(engine)).works == []


async def test_without_a_strategy_a_message_waits_for_its_turn(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    await send(engine, "a")
    taken = await take(engine)
    await send(engine, "b")

    assert await statuses(engine) == [RUNNING, QUEUED]
    assert (await claim(engine)).works == []
    await finish(engine, taken)
    assert (await do_one(engine)).input == b'"b"'


@pytest.mark.parametrize("of_the_session", [True, False])
async def test_a_message_may_be_rejected_while_a_run_is_open(engine: Engine, of_the_session: bool) -> None:
    await register(engine)
    await begin(engine, multitask_strategy=Strategy.REJECT if of_the_session else None)
    strategy = None if of_the_session else Strategy.REJECT
    await say(engine, "a", strategy)
    before = await log_of(engine)

    with pytest.raises(Conflict, match="has not ended"):
        await say(engine, "b", strategy)
    with pytest.raises(Conflict, match="has not ended"):
        await start(engine, strategy=strategy)

    assert await log_of(engine) == before
    await say(engine, "c", Strategy.ENQUEUE)
    await do_one(engine)
    await do_one(engine)
    assert await say(engine, "d", strategy)


@pytest.mark.parametrize("of_the_session", [True, False])
async def test_a_message_may_interrupt_what_is_open(engine: Engine, of_the_session: bool) -> None:
    await register(engine)
    await begin(engine, multitask_strategy=Strategy.INTERRUPT if of_the_session else None)
    strategy = None if of_the_session else Strategy.INTERRUPT
    first = await send(engine, "a")
    taken = await take(engine)
    await say(engine, "b", Strategy.ENQUEUE)

    (said,) = await say(engine, "c", strategy)

    assert await statuses(engine) == [RUNNING, CANCELLED, QUEUED]
    assert (await get(engine, first)).cancel_requested_at_us is not None
    assert (await claim(engine)).works == [], "it waits until the first has stopped"
    ended = await finish(engine, taken, output="too late")
    assert ended is not None
    assert (ended.status, error_of(ended)) == (CANCELLED, Failure("cancelled", "interrupted by a message"))
    assert (await do_one(engine)).id == said.run_id
    assert [event.type for event in await log_of(engine)].count("message.assistant") == 1


async def test_a_message_that_interrupts_what_is_only_queued_goes_at_once(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    for each in "abc":
        await say(engine, each, Strategy.INTERRUPT)

    assert await statuses(engine) == [CANCELLED, CANCELLED, QUEUED]
    assert (await do_one(engine)).input == b'"c"'


async def test_a_session_has_so_many_open_runs_and_no_more(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "QUEUED_MAX", 3)
    await register(engine)
    await begin(engine)
    for each in "abc":
        await send(engine, each)

    with pytest.raises(Conflict, match="3 runs"):
        await send(engine, "d")

    await do_one(engine)
    await send(engine, "d")
    assert await say(engine, "e", Strategy.INTERRUPT), "what it takes the place of is not counted"


@pytest.mark.parametrize("well", [True, False])
async def test_a_session_that_ends_cancels_what_is_open_and_goes_on_empty(engine: Engine, well: bool) -> None:
    await register(engine)
    await begin(engine)
    for each in "abc":
        await send(engine, each)
    taken = await take(engine)

    ended = await (sessions.complete if well else sessions.fail)(Call(engine, ME), "s", itself)

    assert await statuses(engine) == [RUNNING, CANCELLED, CANCELLED]
    last = (await log_of(engine))[-1]
    assert last.type == f"session.{ended.status}", "the end of a session is the last that is said while it is open"
    assert (await finish(engine, taken, output="too late")) == (await listed(engine))[0]
    assert await statuses(engine) == [CANCELLED] * 3
    with pytest.raises(Conflict):
        await append(engine, "s", "d")
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=Status.ACTIVE), itself)
    assert (await claim(engine)).works == []
    await send(engine, "e")
    assert (await do_one(engine)).input == b'"e"'


async def test_a_paused_session_keeps_its_queue_for_when_it_goes_on(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    await send(engine, "a")
    taken = await take(engine)
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=Status.PAUSED), itself)
    await send(engine, "b")
    assert (await finish(engine, taken)) is not None, "what is under way goes on to its end"

    assert (await claim(engine)).works == []
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=Status.ACTIVE), itself)

    assert (await do_one(engine)).input == b'"b"'


async def test_a_run_keeps_its_agent_when_its_session_gets_another(engine: Engine) -> None:
    await register(engine)
    await register(engine, "b")
    await begin(engine)
    await send(engine, "one")
    await sessions.patch(Call(engine, ME), "s", SessionPatch(agent_id="b"), itself)
    await send(engine, "two")

    assert [(await do_one(engine)).agent_id for _ in range(2)] == ["a", "b"]


async def test_the_end_of_a_run_is_its_step(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    await send(engine, "hi")
    run = await finish(engine, await take(engine), output="ho", prompt_tokens=3, duration_us=77)
    assert run is not None

    end = (await log_of(engine))[-1]

    assert (end.type, end.action, end.duration_us, end.seq) == ("run.completed", "run_agent", 77, run.ended_seq)
    assert msgspec.json.decode(end.body) == {
        "agent_id": "a",
        "status": "completed",
        "attempts": 1,
        "input": "hi",
        "output": "ho",
        "error": None,
        "prompt_tokens": 3,
        "completion_tokens": 0,
    }


async def test_messages_at_once_are_each_a_run_in_the_order_of_the_log(engine: Engine) -> None:
    await register(engine)
    await begin(engine)

    await asyncio.gather(*(append(engine, "s", f"{number}") for number in range(20)))

    asked = [run.input for run in await listed(engine, session_ids=("s",))]
    log = [msgspec.json.decode(event.body)["content"] for event in await log_of(engine) if event.is_message]
    done = [(await do_one(engine)).input for _ in range(20)]
    assert done == asked == [f'"{content}"'.encode() for content in log]


async def test_a_batch_that_is_rejected_is_rejected_whole(engine: Engine) -> None:
    await register(engine)
    await begin(engine)
    await send(engine, "a")
    batch = [make_message(Role.ASSISTANT, "x"), text("y")]

    with pytest.raises(Conflict):
        await messages.append(Call(engine, ME), "s", batch, itself, strategy=Strategy.REJECT)

    assert (await get_session(engine)).message_count == 1
    assert await statuses(engine) == [QUEUED]
