"""Events of clients: appended like messages, waited for, followed, shown as steps, and logged again by a rerun."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Final

import msgspec
import pytest

from sessiond.actions import client_events, events, replays, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.encryption import Mode as Sealing
from sessiond.actions.sessions import SessionPatch
from sessiond.core.client_event import client_entry, step_entry
from sessiond.core.comparison import Comparison, Mode, Summary, Verdict
from sessiond.core.errors import Conflict, NotFound, PreconditionFailed
from sessiond.core.event import Entry, Event
from sessiond.core.session import Status
from sessiond.core.session_file import event_line, head_line, read_session_file
from sessiond.core.timeline import make_steps
from sessiond.core.wait import COMPLETED, PENDING, TIMED_OUT, Terms, WaitFilter
from sessiond.storage.engine import Engine
from tests.actions.calling import ME, append, create, make_workspaces, retried
from tests.actions.mailing import get_wait, log_of, make_wait, open_sweeper, result_of, sweep, types_of
from tests.actions.sealing import change, with_master
from tests.storage.making import query

DATA: Final = b'{ "at" : 1.50, "text": "Geheimnis" }'
STEP: Final = step_entry(
    "tool.called",
    msgspec.Raw(DATA),
    action="call_tool",
    input=msgspec.Raw(b'{"x": 1}'),
    output=msgspec.Raw(b'{"status": "odd"}'),
    duration_us=1_500,
)


async def log(engine: Engine, *entries: Entry, session_id: str = "s", **terms: Any) -> list[Event]:
    return await client_events.append(Call(engine, ME, **terms), session_id, entries, itself)


def note(type: str = "note.made", data: bytes = b"{}") -> Entry:
    return client_entry(type, msgspec.Raw(data))


@pytest.mark.parametrize("sealed", [False, True])
async def test_what_a_client_logs_stands_in_the_log_to_the_byte(engine: Engine, database: str, sealed: bool) -> None:
    await make_workspaces(engine)
    if sealed:
        await change(with_master(engine), Sealing.SERVER)
    before = await create(engine, "s", agent_id="a")

    first = await log(engine, note("note.made", DATA), STEP)  # the longer way: the session is not under way yet
    (again,) = await log(engine, STEP)

    kept = await log_of(engine, "s")
    assert kept[2:] == [*first, again]
    assert [event.type for event in kept[1:]] == ["session.activated", "note.made", "tool.called", "tool.called"]
    assert [event.body for event in kept[2:4]] == [DATA, STEP.body]
    assert [(event.action, event.duration_us) for event in kept[2:4]] == [(None, None), ("call_tool", 1_500)]
    after = await sessions.get(Call(engine, ME), "s")
    assert (after.status, after.message_count, after.last_seq) == (Status.ACTIVE, 0, 5)
    assert before.last_active_at_us < first[0].created_at_us < after.last_active_at_us == again.created_at_us
    rows = await query(database, "select body from events where type = 'tool.called'")
    assert [b"Geheimnis" in bytes(row[0]) for row in rows] == [not sealed] * 2


async def test_many_at_once_are_in_one_order_and_batches_stay_together(engine: Engine) -> None:
    await create(engine, "s")

    made = await asyncio.gather(
        *(log(engine, note(f"a.b{number}"), note(f"a.c{number}")) for number in range(20)),
        *(append(engine, "s", f"{number}") for number in range(20)),
    )

    kept = await log_of(engine, "s")
    assert [event.seq for event in kept] == list(range(1, 62))
    assert all(batch == kept[batch[0].seq - 1 : batch[-1].seq] for batch in made)
    assert (await sessions.get(Call(engine, ME), "s")).message_count == 20


async def test_an_ended_session_an_old_version_and_a_repeated_request_log_nothing(engine: Engine) -> None:
    begun = await create(engine, "s")
    call = Call(engine, ME, if_match=begun.etag, retry=retried("k"))
    first = await client_events.append(call, "s", [note()], lambda made: f"{made[0].seq}")

    again = Call(engine, ME, if_match=begun.etag, retry=retried("k"))
    assert await client_events.append(again, "s", [note()], lambda made: f"{made[0].seq}") == first == "2"
    with pytest.raises(PreconditionFailed):
        await log(engine, note(), if_match=begun.etag)
    with pytest.raises(NotFound):
        await log(engine, note(), session_id="none")
    ended = await sessions.complete(Call(engine, ME), "s", itself)
    with pytest.raises(Conflict, match="completed"):
        await log(engine, note(), note())
    assert await sessions.get(Call(engine, ME), "s") == ended
    assert await types_of(engine, "s") == ["session.created", "note.made", "session.completed"]


async def test_a_paused_session_takes_them_and_a_filter_finds_them(engine: Engine) -> None:
    await create(engine, "s")
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=Status.PAUSED), itself)
    for type in ("tool_a.called", "toolxa.called", "tool_a.ended2"):
        await log(engine, note(type))

    async def found(*types: str) -> list[str]:
        return [event.type for event in (await events.read_page(Call(engine, ME), "s", types=types, limit=9)).events]

    assert await found("tool_a.*") == ["tool_a.called", "tool_a.ended2"]  # and not what `_` means to a database
    assert await found("tool_a.ended2", "toolxa.c*") == ["toolxa.called", "tool_a.ended2"]


async def test_a_follower_is_woken(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(engine), "poll_seconds", 3_600.0)
    await create(engine, "s")

    async def allowed() -> None:
        return

    followed = events.follow(Call(engine, ME), "s", after=None, silence_seconds=60, still_allowed=allowed)
    async with asyncio.timeout(20), aclosing(followed) as pages:  # type: ignore[type-var]  # a generator
        assert await anext(pages) == []
        heard = asyncio.ensure_future(anext(pages))
        await asyncio.sleep(0)
        told = await log(engine, note(), STEP)
        assert await heard == told


async def test_a_wait_for_an_event_ends_with_a_clients(engine: Engine) -> None:
    await create(engine, "s")
    exact = await make_wait(engine, "event", "s", terms=Terms(events=["order_1.paid"]))
    prefix = await make_wait(engine, "event", "s", terms=Terms(events=["order_1.*"]))
    await log(engine, note("order21.paid"))
    await sweep(engine)
    assert {(await get_wait(engine, wait)).status for wait in (exact, prefix)} == {PENDING}

    (paid,) = await log(engine, note("order_1.paid", b'{"sum": 3}'))
    await sweep(engine)

    for wait in (exact, prefix):
        ended = await get_wait(engine, wait)
        assert ended.status is COMPLETED
        expected = {"event_id": f"evt_{paid.seq}.s", "seq": paid.seq, "type": "order_1.paid", "data": {"sum": 3}}
        assert result_of(ended) == expected


async def test_whoever_waits_for_a_clients_event_hears_at_once(engine: Engine) -> None:
    await create(engine, "s")
    wait = await make_wait(engine, "event", "s", terms=Terms(events=["order.*"]))

    async with open_sweeper(engine), asyncio.timeout(20):
        waiting = asyncio.create_task(waits.wait(Call(engine, ME), wait.id, timeout_seconds=20))
        await log(engine, note("order.paid"))
        assert (await waiting).status is COMPLETED


async def record(engine: Engine) -> list[Event]:
    """Record a session in which a client logged steps that are called as ours are, and waits ended, or did not."""
    await create(engine, "recorded")
    paid = await make_wait(engine, "event", "recorded", terms=Terms(events=["order.*"]), timeout_seconds=20.5)
    for action in ("send_message", "call_tool", "run_agent", "create_session", "work out"):
        await log(engine, step_entry("tool.called", action=action, duration_us=5), session_id="recorded")
    await log(engine, STEP, note("order.paid"), session_id="recorded")
    async with open_sweeper(engine):
        assert (await waits.wait(Call(engine, ME), paid.id, timeout_seconds=20)).status is COMPLETED
    return await log_of(engine, "recorded")


async def test_a_rerun_logs_again_what_a_client_logged_and_ends_what_waited_for_it(engine: Engine) -> None:
    recorded = await record(engine)
    steps = make_steps(recorded)

    async with open_sweeper(engine):
        told = replays.rerun(Call(engine, ME), "recorded", new_id="again", mode=Mode.SIMULATE, domain="mail.test")
        (*compared, summary) = [one async for one in told]

    assert isinstance(summary, Summary)
    assert (summary.same, summary.changed, summary.failed) == (len(steps) + 1, 0, 0)
    found = {one.seq: one for one in compared if isinstance(one, Comparison)}
    for step in steps:
        one = found.pop(step.seq)
        assert (one.index, one.action, one.verdict) == (step.index, step.action, Verdict.SAME)
        if step.of_client:
            assert (one.input, one.output, one.duration_us, one.of_client) == (step.input, step.output, None, True)
    assert [one.action for one in found.values()] == ["await_wait"]

    def logged(events: list[Event]) -> list[tuple[Any, ...]]:
        return [(one.type, one.body, one.action, one.duration_us) for one in events if one.of_client]

    assert logged(await log_of(engine, "again")) == logged(recorded)


async def test_a_saved_session_with_events_that_cannot_be_is_run_again_as_far_as_it_goes(engine: Engine) -> None:
    recorded = await record(engine)
    session = await sessions.get(Call(engine, ME), "recorded")
    lines = [head_line(session, []), *map(event_line, recorded)]
    odd = lines
    for name, wrong in ((b'"tool.called"', b'"Tool"'), (b'"order.paid"', b'"Order"'), (b":20.5", b":0.2")):
        odd = [line.replace(name, wrong) for line in odd]

    told = replays.rerun_recording(
        Call(engine, ME),
        replays.recording_of(read_session_file(odd)),
        new_id="again",
        mode=Mode.RERUN,
        domain="mail.test",
    )
    async with open_sweeper(engine):
        compared = [one async for one in told if isinstance(one, Comparison)]

    failed = [one for one in compared if one.verdict is Verdict.FAILED]
    assert [one.action for one in failed][-2:] == ["call_tool", "log_event"]
    assert (len(failed), failed[-1].index) == (7, None)
    assert all(one.reason is not None and one.reason.startswith("type must be") for one in failed)
    (wait,) = (await waits.read_page(Call(engine, ME), WaitFilter(session_id="again"), limit=9)).waits
    assert wait.status is TIMED_OUT
