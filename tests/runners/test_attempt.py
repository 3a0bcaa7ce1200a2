"""One attempt at a run, with a real worker on a real engine: what is kept of it, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any, Final

import msgspec
import pytest

from sessiond.actions import runs, sessions
from sessiond.actions.call import Call, itself
from sessiond.core.agent import Agent, NewAgent
from sessiond.core.errors import Conflict
from sessiond.core.event import (
    RUN_ANSWERED,
    RUN_ENDS,
    RUN_QUEUED,
    RUN_RETRYING,
    RUN_STARTED,
    RUN_TEXT,
    RUN_TOOL_CALL,
    RUN_TOOL_RESULT,
    RUN_WAITING,
)
from sessiond.core.ids import RunId
from sessiond.core.run import CANCELLED, COMPLETED, FAILED, WAITING, Answer, Failure, Run
from sessiond.runners.attempt import GATHER_SECONDS
from sessiond.runners.runner import AGENT_FAILED, BAD_OUTPUT, INTERNAL, NO_OUTPUT, TIME_LIMIT, TOO_LARGE
from sessiond.runners.worker import Worker
from sessiond.storage import agents
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import HERE, ME, make_workspaces
from tests.runners.loops import wait_until_gone
from tests.runners.working import (
    answers,
    assert_no_gaps,
    body_of,
    ended,
    events_of,
    failure_of,
    get,
    open_worker,
    output_of,
    read_log,
    register,
    register_lines,
    register_script,
    seen,
    send,
    text_in_log,
    types_of,
)

SOON_SECONDS: Final = 4.0  # what must be within two, on a machine that does other things too
ASK: Final = '{"type": "ask", "title": "Sure?", "options": [{"id": "y", "name": "Yes"}, {"id": "n", "name": "No"}]}'


@pytest.fixture
async def worker(engine: Engine) -> AsyncIterator[Worker]:
    async with open_worker(engine) as working:
        yield working


async def one(engine: Engine, words: str = "hello", *, session_id: str = "s") -> RunId:
    (run_id,) = await send(engine, words, session_id=session_id)
    return run_id


async def done(engine: Engine, words: str = "hello", *, session_id: str = "s") -> Run:
    return await ended(engine, await one(engine, words, session_id=session_id))


async def cancel(engine: Engine, run_id: RunId) -> None:
    await runs.cancel(Call(engine, ME), run_id, itself)


async def answer(engine: Engine, run_id: RunId, option_id: str) -> None:
    await runs.respond(Call(engine, ME), run_id, Answer(option_id), itself)


def asks(*script: str) -> dict[str, Any]:
    """Return a program that is told things on JSON lines, by its shell script."""
    return {"runner": "command", "options": {"command": ["sh", "-c", "; ".join(("read -r brief", *script))]}}


async def test_the_log_tells_a_run_from_beginning_to_end(engine: Engine, worker: Worker) -> None:
    await register(engine)

    run = await done(engine, "good morning")

    assert output_of(run) == "good morning"
    assert (run.attempts, run.failures, run.worker) == (1, 0, worker.name)
    assert await types_of(engine, run.id) == [
        "message.user",
        RUN_QUEUED,
        RUN_STARTED,
        RUN_TEXT,
        "message.assistant",
        RUN_ENDS[COMPLETED],
    ]
    assert await answers(engine) == ["good morning"]
    assert_no_gaps(await read_log(engine))


async def test_a_run_ends_in_the_transaction_of_its_last_event(engine: Engine, worker: Worker) -> None:
    await register(engine, options={"delay_ms": 1})
    run_ids = [await one(engine, session_id=f"s{number}") for number in range(10)]

    async def check(run_id: RunId) -> None:
        end = await seen(engine, run_id, RUN_ENDS[COMPLETED])
        run = await get(engine, run_id)
        assert (run.status, run.ended_seq, run.completed_at_us is None) == (COMPLETED, end.seq, False)
        assert run.ended_seq == (await read_log(engine, str(run.session_id)))[-1].seq, "its last event"

    await asyncio.gather(*map(check, run_ids))


async def test_words_are_gathered_and_arrive_while_the_agent_speaks(engine: Engine, worker: Worker) -> None:
    await register(engine, options={"delay_ms": 4})
    words = " ".join(map(str, range(200)))

    run = await done(engine, words)

    rows = await events_of(engine, run.id, RUN_TEXT)
    assert run.started_at_us is not None
    assert run.completed_at_us is not None
    assert 3 <= len(rows) <= (run.completed_at_us - run.started_at_us) / (GATHER_SECONDS * 1e6) + 2
    assert output_of(run) == await text_in_log(engine, run.id) == words
    gaps = [after.created_at_us - before.created_at_us for before, after in pairwise(rows)]
    assert sorted(gaps)[len(gaps) // 2] < 500_000


async def test_the_first_words_are_there_while_the_agent_thinks_on(engine: Engine, worker: Worker) -> None:
    await register_script(engine, "printf started; exec sleep 60")
    run_id = await one(engine)

    await seen(engine, run_id, RUN_STARTED)
    began = time.monotonic()
    await seen(engine, run_id, RUN_TEXT)

    assert time.monotonic() - began < SOON_SECONDS
    assert not (await get(engine, run_id)).ended


async def test_a_long_answer_is_written_as_it_comes(engine: Engine, worker: Worker) -> None:
    await register_script(engine, "head -c 900000 /dev/zero | tr '\\0' x")

    run = await done(engine)

    assert output_of(run) == await text_in_log(engine, run.id) == "x" * 900_000


async def test_tools_and_tokens_are_kept(engine: Engine, worker: Worker) -> None:
    await register_lines(
        engine,
        {"type": "tool_call", "id": "1", "name": "search", "arguments": {"q": "x"}},
        {"type": "tool_result", "id": "1", "output": ["found"]},
        {"type": "usage", "prompt_tokens": 3, "completion_tokens": 1},
        {"type": "text", "text": "found it"},
        {"type": "usage", "completion_tokens": 5},
    )

    run = await done(engine)

    assert (run.prompt_tokens, run.completion_tokens) == (3, 6)
    assert output_of(run) == "found it"
    types = [type for type in await types_of(engine, run.id) if type.startswith(("run.t", "run.c"))]
    assert types == [RUN_TOOL_CALL, RUN_TOOL_RESULT, RUN_TEXT, RUN_ENDS[COMPLETED]]


async def test_an_attempt_that_fails_is_made_again_after_a_longer_and_longer_pause(
    engine: Engine, worker: Worker
) -> None:
    await register_script(engine, "echo oh no >&2; exit 3", retries=2, backoff_seconds=0.1)

    run = await done(engine)

    assert failure_of(run) == Failure(AGENT_FAILED, "the program ended with exit code 3: oh no")
    assert (run.attempts, run.failures) == (3, 2)
    retries = [body_of(event) for event in await events_of(engine, run.id, RUN_RETRYING)]
    assert [(retry["attempt"], retry["backoff_seconds"]) for retry in retries] == [(1, 0.1), (2, 0.2)]
    starts = [event.created_at_us for event in await events_of(engine, run.id, RUN_STARTED)]
    first, second = (after - before for before, after in pairwise(starts))
    assert first >= 100_000
    assert second >= 200_000
    assert len(await events_of(engine, run.id, *RUN_ENDS.values())) == 1


async def test_a_later_attempt_may_go_well(engine: Engine, worker: Worker) -> None:
    await register_script(engine, 'echo "try $SESSIOND_ATTEMPT"; [ $SESSIOND_ATTEMPT = 2 ]')

    run = await done(engine)

    assert output_of(run) == "try 2"
    assert run.error is None
    assert (run.attempts, run.failures) == (2, 1)
    assert await answers(engine) == ["try 2"]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("true", NO_OUTPUT),
        ("head -c 2000000 /dev/zero | tr '\\0' x", TOO_LARGE),
        ("printf started; exec sleep 60", TIME_LIMIT),
    ],
)
async def test_what_would_go_the_same_way_again_is_not_tried_again(
    engine: Engine, worker: Worker, script: str, code: str
) -> None:
    await register_script(engine, script, time_limit_seconds=0.5 if code == TIME_LIMIT else 60)

    run = await done(engine)

    assert failure_of(run).code == code
    assert run.attempts == 1
    assert await answers(engine) == []


async def test_what_was_said_before_the_time_limit_is_kept(engine: Engine, worker: Worker) -> None:
    await register_script(engine, "printf started; exec sleep 60", time_limit_seconds=0.5)

    run = await done(engine)

    assert failure_of(run).message == "it took longer than its time limit of 0.5 s"
    assert await text_in_log(engine, run.id) == "started"


async def test_a_runner_that_raises_fails_its_run_and_the_worker_goes_on(engine: Engine, worker: Worker) -> None:
    await register(engine)
    await send(engine)
    await break_agent(engine)
    broken = await done(engine)
    await register(engine)

    whole = await done(engine)

    assert failure_of(broken).code == INTERNAL
    assert broken.attempts == 3
    assert "ValidationError" in failure_of(broken).message
    assert output_of(whole) == "hello"


async def break_agent(engine: Engine) -> None:
    """Give an agent options that its runner cannot read, as an older release might have left them."""

    async def operation(tx: Tx) -> None:
        made: Agent = NewAgent(runner="echo", backoff_seconds=0).make(HERE, "a", at_us=1)
        await agents.update(tx, msgspec.structs.replace(made, options=b'{"delay_ms":"soon"}'))

    await engine.write(operation)


@pytest.mark.parametrize(
    "arguments",
    ["[" * 5000 + "]" * 5000, "[" * 200 + "]" * 200, r'"\ud800"', "NaN", "1e999", "{", "9" * 5000],
    ids=["far too deep", "too deep", "half a surrogate", "NaN", "infinite", "cut off", "too many digits"],
)
async def test_garbage_fails_its_own_run_only(engine: Engine, worker: Worker, arguments: str) -> None:
    garbage = f'{{"type": "tool_call", "id": "1", "name": "t", "arguments": {arguments}}}'
    await register_lines(engine, {"type": "text", "text": "so "}, garbage, retries=0)
    await register(engine, "good")

    bad = await one(engine)
    (good,) = await send(engine, "fine", session_id="other", agent_id="good")

    assert failure_of(await ended(engine, bad)).code == BAD_OUTPUT
    assert output_of(await ended(engine, good)) == "fine"
    assert await text_in_log(engine, bad) == "so "
    assert_no_gaps(await read_log(engine))


async def test_a_run_asks_waits_and_goes_on_with_the_answer(engine: Engine, worker: Worker) -> None:
    heard = """read -r answer; printf '{"type":"tool_result","id":"1","output":%s}\\n' "$answer" """
    await register(engine, **asks('echo \'{"type":"text","text":"hm"}\'', f"echo '{ASK}'", heard))
    run_id = await one(engine)

    await seen(engine, run_id, RUN_WAITING)
    waiting = await get(engine, run_id)
    with pytest.raises(Conflict, match="must be one of y, n"):
        await answer(engine, run_id, "perhaps")
    await answer(engine, run_id, "n")
    run = await ended(engine, run_id)

    assert (waiting.status, waiting.completed_at_us) == (WAITING, None)
    assert output_of(run) == "hm"
    assert await types_of(engine, run_id) == [
        "message.user",
        RUN_QUEUED,
        RUN_STARTED,
        RUN_TEXT,
        RUN_WAITING,
        RUN_ANSWERED,
        RUN_TOOL_RESULT,
        "message.assistant",
        RUN_ENDS[COMPLETED],
    ]


async def test_each_question_gets_its_own_answer(engine: Engine, worker: Worker) -> None:
    heard = """read -r answer; printf '{"type":"tool_result","id":"1","output":%s}\\n' "$answer" """
    await register(engine, **asks(*[f"echo '{ASK}'", heard] * 4))
    run_id = await one(engine)

    for number, option in enumerate("ynyn"):
        await seen(engine, run_id, RUN_WAITING, where=_passed(number))
        await answer(engine, run_id, option)
    await ended(engine, run_id)

    results = [body_of(event)["output"] for event in await events_of(engine, run_id, RUN_TOOL_RESULT)]
    assert [result["option_id"] for result in results] == ["y", "n", "y", "n"]


def _passed(number: int) -> Any:
    left = iter(range(number))
    return lambda body: next(left, None) is None


async def test_its_time_does_not_run_while_it_waits(engine: Engine, worker: Worker) -> None:
    await register(
        engine, **asks(f"echo '{ASK}'", "read -r answer", 'echo \'{"type":"text","text":"ok"}\''), time_limit_seconds=1
    )
    run_id = await one(engine)

    await seen(engine, run_id, RUN_WAITING)
    await asyncio.sleep(1.2)  # the time limit, and more
    await answer(engine, run_id, "y")

    assert output_of(await ended(engine, run_id)) == "ok"


async def test_its_time_goes_on_after_the_answer(engine: Engine, worker: Worker) -> None:
    await register(engine, **asks(f"echo '{ASK}'", "read -r answer", "exec sleep 60"), time_limit_seconds=0.5)
    run_id = await one(engine)

    await seen(engine, run_id, RUN_WAITING)
    await answer(engine, run_id, "y")

    assert failure_of(await ended(engine, run_id)).code == TIME_LIMIT


async def test_a_waiting_run_can_be_cancelled(engine: Engine, worker: Worker) -> None:
    await register(engine, **asks(f"echo '{ASK}'", "read -r answer"))
    run_id = await one(engine)

    await seen(engine, run_id, RUN_WAITING)
    await cancel(engine, run_id)
    run = await ended(engine, run_id)

    assert (run.status, run.ask) == (CANCELLED, None)


async def test_a_cancelled_agent_is_gone_within_two_seconds_also_when_it_will_not(
    engine: Engine, worker: Worker
) -> None:
    await register_script(engine, "trap '' TERM; sleep 60 & echo $$ $!; while :; do sleep 1; done")
    run_id = await one(engine)
    pids = [int(pid) for pid in body_of(await seen(engine, run_id, RUN_TEXT))["text"].split()]

    began = time.monotonic()
    await cancel(engine, run_id)
    run = await ended(engine, run_id)

    assert run.status is CANCELLED
    assert time.monotonic() - began < SOON_SECONDS
    wait_until_gone(pids)
    assert await answers(engine) == []


async def test_a_deleted_session_stops_its_agent(engine: Engine, worker: Worker) -> None:
    await make_workspaces(engine)
    await register_script(engine, "echo $$; exec sleep 60")
    run_id = await one(engine)
    pid = int(body_of(await seen(engine, run_id, RUN_TEXT))["text"])

    await sessions.delete(Call(engine, ME), "s", itself)

    await asyncio.to_thread(wait_until_gone, [pid])
    run = await get(engine, run_id)
    assert (run.status, run.session_id) == (CANCELLED, None)


async def test_the_next_message_waits_for_its_turn_and_gets_the_history(engine: Engine, worker: Worker) -> None:
    await register_script(engine, "sleep 0.2; cat")

    run_ids = await send(engine, "one", "two", "three")
    outputs = [output_of(await ended(engine, run_id)) for run_id in run_ids]

    assert outputs == await answers(engine) == ["one", "two", "three"]
    spans = [[event.seq for event in await events_of(engine, run_id)][2:] for run_id in run_ids]
    assert all(before[-1] < after[0] for before, after in pairwise(spans)), "one after the other"
    assert FAILED not in {(await get(engine, run_id)).status for run_id in run_ids}


@pytest.mark.parametrize(
    "lines",
    [
        ['{"type":"ask","title":"t","detail":' + "[" * 200 + "]" * 200 + "}"],
        [f'{{"type":"usage","prompt_tokens":{2**40}}}'] * 2,
    ],
    ids=["a question nested too deeply", "tokens that add up to too many"],
)
async def test_what_cannot_be_kept_fails_the_run(engine: Engine, lines: list[str]) -> None:
    await register_lines(engine, *lines, retries=0)
    (run_id,) = await send(engine, "x")

    async with open_worker(engine):
        run = await ended(engine, run_id)

    assert failure_of(run).code == "bad_output"
