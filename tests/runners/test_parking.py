"""Runs that wait without their agent: who holds what meanwhile, and how they go on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from sessiond.actions import agents, runs, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.errors import Conflict
from sessiond.core.event import RUN_WAITING, Event
from sessiond.core.ids import RunId
from sessiond.core.run import (
    CANCELLED,
    COMPLETED,
    LOST_MAX,
    QUEUED,
    WAITING,
    WAITS_MAX,
    Answer,
    Run,
    RunFilter,
    Strategy,
)
from sessiond.core.session import ACTIVE, PAUSED, NewSession
from sessiond.core.wait import CANCELLED as WAIT_CANCELLED
from sessiond.core.wait import PENDING, TIMED_OUT, Wait, WaitFilter
from sessiond.storage.engine import Engine
from tests.actions import queueing
from tests.actions.calling import HERE, ME, append, make_workspaces
from tests.actions.mailing import (
    CODE,
    body_of,
    deliver,
    get_wait,
    make_inbox,
    open_sweeper,
    result_of,
    types_of,
)
from tests.runners.loops import AGENTS
from tests.runners.working import (
    SECONDS,
    assert_no_gaps,
    ended,
    events_of,
    failure_of,
    get,
    open_worker,
    output_of,
    read_log,
    register,
    register_lines,
    seen,
    send,
)

APPROVAL: Final = {"for": "approval", "title": "pay?", "detail": {"eur": 9}}


async def register_waiter(engine: Engine, *wants: dict[str, Any], agent_id: str = "a", **new: Any) -> None:
    """Register an agent that waits for these, one after another."""
    command = [sys.executable, str(AGENTS / "waits.py"), json.dumps(wants)]
    await register(engine, agent_id, runner="command", options={"command": command}, **new)


async def parked(engine: Engine, run_id: RunId, *, times: int = 1) -> Wait:
    """Wait until a run has given up its worker; return what it waits for."""
    created = [event async for event in _created(engine, run_id, times)]
    return await waits.get(Call(engine, ME), body_of(created[-1])["wait_id"])


async def _created(engine: Engine, run_id: RunId, times: int) -> AsyncIterator[Event]:
    known = set[str]()
    for _ in range(times):
        event = await seen(engine, run_id, "wait.created", where=lambda body: body["wait_id"] not in known)
        known.add(body_of(event)["wait_id"])
        yield event


async def approve(engine: Engine, wait: Wait, result: dict[str, Any] | None = None) -> None:
    await waits.complete(Call(engine, ME), wait.id, result or {"approved": True}, itself)


async def told(engine: Engine, run_id: RunId) -> dict[str, Any]:
    """Return what an agent was told of its waits, once its run has completed."""
    said: dict[str, Any] = json.loads(output_of(await over(engine, run_id)))
    return said


async def over(engine: Engine, run_id: RunId) -> Run:
    """Wait for the end of a run, however often it waits for something itself."""
    async with asyncio.timeout(SECONDS):
        while not (run := await runs.wait(Call(engine, ME), run_id, timeout_seconds=SECONDS)).ended:
            if run.wait_id is not None:
                await waits.wait(Call(engine, ME), run.wait_id, timeout_seconds=SECONDS)
    return run


async def look(engine: Engine, database: str) -> queueing.Seen:
    async with queueing.open_eye(engine, database) as eye:
        return await eye.look(HERE)


async def test_a_run_waits_without_its_agent_and_goes_on_with_what_it_waited_for(engine: Engine, database: str) -> None:
    await register_waiter(engine, APPROVAL)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        wait = await parked(engine, run_id)

        run, now = await get(engine, run_id), await look(engine, database)
        assert (run.status, run.wait_id, run.waits, run.ask, run.prompt_tokens) == (WAITING, wait.id, 1, None, 1)
        (session,) = now.sessions
        assert (session.lease_owner, session.ready_at_us, session.open_runs) == (None, None, 1)
        assert (wait.session_id, wait.run_id, wait.status, wait.actor) == ("s", run_id, PENDING, "agent:a")
        assert (wait.read_terms().title, wait.read_terms().detail) == ("pay?", {"eur": 9})
        with pytest.raises(Conflict, match="waits for no answer"):
            await runs.respond(Call(engine, ME), run_id, Answer(), itself)
        await approve(engine, wait)

        assert await told(engine, run_id) == {
            "attempt": 2,
            "waits": [{"id": wait.id, "type": "approval", "status": "completed", "result": {"approved": True}}],
        }
    run = await get(engine, run_id)
    assert (run.attempts, run.failures, run.waits, run.wait_id) == (2, 0, 1, None)
    types = [event.type for event in await events_of(engine, run_id)]
    assert types == [
        "message.user",
        "run.queued",
        "run.started",
        "run.text",
        "run.waiting",
        "wait.created",
        "wait.completed",
        "run.started",
        "run.text",
        "message.assistant",
        "run.completed",
    ]
    (waiting,) = await events_of(engine, run_id, RUN_WAITING)
    assert body_of(waiting) == {"wait_id": wait.id}
    assert not body_of((await events_of(engine, run_id, "run.started"))[1])["after_loss"]
    assert_no_gaps(await read_log(engine))


async def test_who_comes_after_it_in_its_session_waits_for_its_turn(engine: Engine) -> None:
    await register_waiter(engine, APPROVAL)
    async with open_worker(engine):
        (first,) = await send(engine, "one")
        wait = await parked(engine, first)
        await register(engine)
        (second,) = await send(engine, "two")
        (third,) = await send(engine, "three")
        await ended(engine, (await send(engine, "meanwhile", session_id="other"))[0])
        assert [(await get(engine, run_id)).status for run_id in (first, second, third)] == [WAITING, QUEUED, QUEUED]
        await runs.cancel(Call(engine, ME), third, itself)
        assert (await get(engine, second)).status is QUEUED

        await register_waiter(engine, APPROVAL)
        await approve(engine, wait)
        await ended(engine, first)
        next_wait = await parked(engine, second)
        await approve(engine, next_wait)
        await ended(engine, second)

    ends = [event.run_id for event in await read_log(engine) if event.type == "run.completed"]
    assert ends == [first, second]


async def test_it_takes_no_place_of_its_agent(engine: Engine) -> None:
    await register_waiter(engine, APPROVAL, concurrency=1)
    async with open_worker(engine):
        made = [(await send(engine, "go", session_id=f"s{number}"))[0] for number in range(3)]
        found = [await parked(engine, run_id) for run_id in made]

        for wait in found:
            await approve(engine, wait)
        for run_id in made:
            assert (await told(engine, run_id))["attempt"] == 2


async def test_it_may_wait_again_and_is_told_of_all(engine: Engine) -> None:
    await register_waiter(engine, APPROVAL, {"for": "approval", "title": "sure?"})
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        first = await parked(engine, run_id)
        await approve(engine, first, {"n": 1})
        second = await parked(engine, run_id, times=2)
        await approve(engine, second, {"n": 2})

        said = await told(engine, run_id)

    assert said["attempt"] == 3
    assert [(wait["id"], wait["result"]) for wait in said["waits"]] == [(first.id, {"n": 1}), (second.id, {"n": 2})]
    assert (await get(engine, run_id)).prompt_tokens == 2


async def test_nobody_need_be_at_work_when_its_wait_ends(engine: Engine) -> None:
    await register_waiter(engine, APPROVAL)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        wait = await parked(engine, run_id)
    await approve(engine, wait)
    assert (await get(engine, run_id)).status is QUEUED

    async with open_worker(engine) as other:
        assert (await told(engine, run_id))["attempt"] == 2

    assert (await get(engine, run_id)).worker == other.name


@pytest.mark.parametrize("how", ["cancelled", "interrupted", "session completed", "session failed"])
async def test_it_ends_at_once_when_it_is_cancelled_and_so_does_its_wait(
    engine: Engine, database: str, how: str
) -> None:
    await register_waiter(engine, APPROVAL)
    call = Call(engine, ME)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        wait = await parked(engine, run_id)
        match how:
            case "cancelled":
                await runs.cancel(call, run_id, itself)
            case "interrupted":
                await register(engine)
                await runs.start(call, "s", itself, strategy=Strategy.INTERRUPT)
            case "session completed":
                await sessions.complete(call, "s", itself)
            case _:
                await sessions.fail(call, "s", itself)
        run = await get(engine, run_id)
        assert (run.status, run.wait_id) == (CANCELLED, None)
        assert (await get_wait(engine, wait)).status is WAIT_CANCELLED
        with pytest.raises(Conflict):
            await approve(engine, wait)
        for other in (await runs.read_page(call, RunFilter(), limit=9)).runs:
            await ended(engine, other.id)

    types = [event.type for event in await events_of(engine, run_id)]
    assert types[-2:] == ["wait.cancelled", "run.cancelled"]
    log = await read_log(engine)
    assert_no_gaps(log)
    assert log[run.ended_seq - 1].type == "run.cancelled"  # type: ignore[operator]  # it has ended
    queueing.check(await look(engine, database))


async def test_it_goes_with_its_session(engine: Engine) -> None:
    await make_workspaces(engine)
    await register_waiter(engine, APPROVAL)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        await parked(engine, run_id)

        await sessions.delete(Call(engine, ME), "s", itself)

    run = await get(engine, run_id)
    assert (run.status, run.wait_id, run.session_id) == (CANCELLED, None, None)


async def test_it_goes_on_when_its_wait_is_cancelled_and_is_told_so(engine: Engine) -> None:
    await register_waiter(engine, APPROVAL)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        await waits.cancel(Call(engine, ME), (await parked(engine, run_id)).id, itself)

        assert (await told(engine, run_id))["waits"][0]["status"] == "cancelled"


async def test_in_a_paused_session_it_goes_on_when_that_does(engine: Engine) -> None:
    await register_waiter(engine, APPROVAL)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        wait = await parked(engine, run_id)
        await sessions.patch(Call(engine, ME), "s", SessionPatch(status=PAUSED), itself)
        await approve(engine, wait)
        await ended(engine, (await send(engine, "x", session_id="other", agent_id=await register_echo(engine)))[0])
        assert (await get(engine, run_id)).status is QUEUED

        await sessions.patch(Call(engine, ME), "s", SessionPatch(status=ACTIVE), itself)

        assert (await told(engine, run_id))["attempt"] == 2


async def register_echo(engine: Engine) -> str:
    await register(engine, "echo")
    return "echo"


async def test_a_paused_session_that_goes_on_does_not_wake_what_waits(engine: Engine) -> None:
    await register_waiter(engine, APPROVAL)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        wait = await parked(engine, run_id)
        for status in (PAUSED, ACTIVE):
            await sessions.patch(Call(engine, ME), "s", SessionPatch(status=status), itself)
        await ended(engine, (await send(engine, "x", session_id="other", agent_id=await register_echo(engine)))[0])
        run = await get(engine, run_id)
        assert (run.status, run.attempts) == (WAITING, 1)

        await approve(engine, wait)
        assert (await told(engine, run_id))["attempt"] == 2


async def test_when_its_wait_times_out_it_goes_on_and_is_told_so(engine: Engine) -> None:
    await register_waiter(engine, {"for": "approval", "timeout_seconds": 0.2}, {"for": "timer", "timeout_seconds": 0.2})
    async with open_worker(engine), open_sweeper(engine):
        (run_id,) = await send(engine, "go")

        said = await told(engine, run_id)

    assert [(wait["type"], wait["status"]) for wait in said["waits"]] == [
        ("approval", TIMED_OUT),
        ("timer", "completed"),
    ]


async def test_when_a_critical_wait_times_out_its_session_fails_and_it_is_cancelled(engine: Engine) -> None:
    await register_waiter(engine, {"for": "approval", "timeout_seconds": 0.2, "critical": True})
    async with open_worker(engine), open_sweeper(engine):
        (run_id,) = await send(engine, "go")
        run = await over(engine, run_id)

    assert run.status is CANCELLED
    assert (await sessions.get(Call(engine, ME), "s")).status == "failed"
    assert (await types_of(engine, "s"))[-1] == "session.failed"


async def test_it_waits_for_a_mail_and_those_count_that_came_since_it_began(engine: Engine) -> None:
    await sessions.create(Call(engine, ME), NewSession(agent_id="w"), itself, session_id="s")
    inbox = await make_inbox(engine, "s")
    await deliver(engine, inbox, body="Your verification code is 111111")
    wants = {"for": "otp", "inbox_id": inbox.id, "from": "ann", "subject_contains": "hello"}
    await register_waiter(engine, wants, {"for": "otp"}, agent_id="w")
    async with open_worker(engine):
        run_id = RunId(str((await append(engine, "s", "go"))[0].run_id))
        wait = await parked(engine, run_id)
        await deliver(engine, inbox, body=CODE)
        second = await parked(engine, run_id, times=2)
        assert result_of(await get_wait(engine, wait))["value"] == "482913"
        assert not second.ended, "what came before the attempt began does not count"
        await deliver(engine, inbox, body="Your verification code is 222222")

        said = await told(engine, run_id)

    assert [one["result"]["value"] for one in said["waits"]] == ["482913", "222222"]


async def test_a_mail_that_comes_while_the_agent_is_at_work_is_there_when_it_waits(engine: Engine) -> None:
    await sessions.create(Call(engine, ME), NewSession(agent_id="w"), itself, session_id="s")
    inbox = await make_inbox(engine, "s")
    first = '{"type":"text","text":"ready"}'
    script = f"read b; [ $SESSIOND_ATTEMPT = 2 ] && exec echo '{first}'; echo '{first}'; sleep 0.6; echo '%s'"
    want = json.dumps({"type": "wait", "for": "otp"})
    await register(engine, "w", runner="command", options={"command": ["sh", "-c", script % want]})
    async with open_worker(engine):
        run_id = RunId(str((await append(engine, "s", "go"))[0].run_id))
        await seen(engine, run_id, "run.text")
        await deliver(engine, inbox, body=CODE)

        run = await over(engine, run_id)

    assert (run.status, run.attempts) == (COMPLETED, 2)
    (wait,) = (await waits.read_page(Call(engine, ME), WaitFilter(), limit=9)).waits
    assert result_of(wait)["value"] == "482913"


async def test_what_it_says_itself_is_no_event_that_it_waits_for(engine: Engine) -> None:
    await register_waiter(engine, {"for": "event", "events": ["run.*", "message.*", "wait.*"]})
    async with open_worker(engine), open_sweeper(engine):
        (run_id,) = await send(engine, "go")
        wait = await parked(engine, run_id)
        assert (await get(engine, run_id)).status is WAITING
        said = await append(engine, "s", "and another thing")

        assert (await told(engine, run_id))["waits"][0]["result"]["seq"] == said[0].seq

    assert (await get_wait(engine, wait)).status == "completed"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"for": "otp", "inbox_id": "none"}, "no such inbox"),
        ({"for": "timer"}, "timeout_seconds"),
        ({"for": "event"}, "events"),
        ({"for": "webhook"}, "URL"),
        ({"for": "approval", "inbox_id": "none"}, "no inbox"),
        ({"for": "approval", "title": "x" * 2_000}, "title"),
        ({"for": "approval", "detail": "x" * 100_000}, "detail"),
    ],
)
async def test_a_run_that_wants_to_wait_for_what_cannot_be_fails_and_says_why(
    engine: Engine, wanted: dict[str, Any], message: str
) -> None:
    await register_waiter(engine, wanted)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        run = await over(engine, run_id)

    failure = failure_of(run)
    assert failure.code == "bad_output"
    assert failure.message.startswith("it cannot wait for that: ")
    assert message in failure.message
    assert (run.attempts, run.waits, run.wait_id) == (1, 0, None)
    assert "run.text" in [event.type for event in await events_of(engine, run_id)], "what it said before is kept"
    assert (await waits.read_page(Call(engine, ME), WaitFilter(), limit=9)).waits == []


@pytest.mark.parametrize("wanted", [{}, {"for": "godot"}, {"for": "timer", "timeout_seconds": 0}])
async def test_what_is_no_wait_at_all_is_not_understood(engine: Engine, wanted: dict[str, Any]) -> None:
    await register_lines(engine, {"type": "wait"} | wanted, retries=0)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")

        assert failure_of(await ended(engine, run_id)).code == "bad_output"


async def test_an_agent_does_not_wait_at_the_inbox_of_another_user(engine: Engine) -> None:
    theirs = await make_inbox(engine, user_id="you")
    await register_waiter(engine, {"for": "otp", "inbox_id": theirs.id})
    new = NewSession(agent_id="a", user_id="me")
    await sessions.create(Call(engine, ME), new, itself, session_id="s")
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        run = await over(engine, run_id)

    assert "no such inbox" in failure_of(run).message


async def test_a_run_waits_only_so_often_and_waiting_uses_up_no_worker(engine: Engine) -> None:
    assert WAITS_MAX > LOST_MAX
    await register_lines(engine, {"type": "wait", "for": "timer", "timeout_seconds": 0.001})
    async with open_worker(engine), open_sweeper(engine):
        (run_id,) = await send(engine, "go")
        run = await over(engine, run_id)

    assert run.waits == WAITS_MAX
    assert run.attempts == WAITS_MAX + 1
    assert failure_of(run).message == f"it cannot wait for that: a run may wait {WAITS_MAX} times"


async def test_a_parked_run_whose_agent_is_gone_fails_when_it_is_to_go_on(engine: Engine) -> None:
    await register_waiter(engine, APPROVAL)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        wait = await parked(engine, run_id)
        await agents.remove(Call(engine, ME), "a", itself)
        await approve(engine, wait)

        assert failure_of(await ended(engine, run_id)).code == "not_configured"


async def test_its_brief_keeps_what_was_said_meanwhile_for_later(engine: Engine) -> None:
    await register_waiter(engine, APPROVAL)
    async with open_worker(engine):
        (run_id,) = await send(engine, "go")
        wait = await parked(engine, run_id)
        (later,) = await send(engine, "later")
        await approve(engine, wait)
        await told(engine, run_id)
        await approve(engine, await parked(engine, later))
        await ended(engine, later)

    answers = [event for event in await read_log(engine) if event.type == "message.assistant"]
    assert [event.run_id for event in answers] == [run_id, later]
