"""Waits: what ends each kind, that it ends once, and that whoever waits for it hears at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest
from msgspec.structs import replace

from sessiond.actions import inboxes, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.core.errors import Conflict, Forbidden, InvalidInput, NotFound, PreconditionFailed, TooLarge
from sessiond.core.wait import (
    CANCELLED,
    COMPLETED,
    PENDING,
    PENDING_PER_SESSION_MAX,
    RESULT_MAX_BYTES,
    TIMED_OUT,
    NewWait,
    Terms,
    Wait,
    WaitFilter,
    WaitStatus,
    WaitType,
)
from sessiond.storage import waits as rows
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import ELSEWHERE, ME, append, caller, create, retried
from tests.actions.mailing import (
    CODE,
    SECOND,
    body_of,
    deliver,
    ends,
    get_wait,
    log_of,
    make_inbox,
    make_wait,
    receive,
    result_of,
    sweep,
    types_of,
)
from tests.runners.working import assert_no_gaps
from tests.storage.making import another_engine, query

BOUND: Final = caller(user_id="me")


async def complete(engine: Engine, wait: Wait, result: Any = None, **how: Any) -> Wait:
    return await waits.complete(Call(engine, ME, **how), wait.id, {"ok": True} if result is None else result, itself)


async def cancel(engine: Engine, wait: Wait, **how: Any) -> Wait:
    return await waits.cancel(Call(engine, ME), wait.id, itself, **how)


async def wait_for(engine: Engine, wait: Wait, *, seconds: float = 20) -> Wait:
    return await waits.wait(Call(engine, ME), wait.id, timeout_seconds=seconds)


async def test_a_wait_is_as_it_was_asked_for_and_the_log_says_so(engine: Engine) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine, "s")

    wait = await make_wait(
        engine,
        "otp",
        inbox_id=inbox.id,
        timeout_seconds=2.5,
        critical=True,
        terms=Terms(sender="shop", subject_contains="code"),
    )

    assert await get_wait(engine, wait) == wait
    assert (wait.session_id, wait.inbox_id, wait.status, wait.critical) == ("s", inbox.id, PENDING, True)
    assert wait.times_out_at_us == wait.created_at_us + 2_500_000
    event = (await log_of(engine, "s"))[-1]
    assert (event.type, event.action, event.actor) == ("wait.created", "create_wait", ME.key_id)
    assert body_of(event) == {
        "wait_id": wait.id,
        "type": "otp",
        "inbox_id": inbox.id,
        "critical": True,
        "input": {
            "type": "otp",
            "timeout_seconds": 2.5,
            "critical": True,
            "sender": "shop",
            "subject_contains": "code",
        },
        "output": {"id": wait.id},
    }


@pytest.mark.parametrize(
    ("type", "body", "found"),
    [
        ("email", "hello", {}),
        ("otp", CODE, {"value": "482913", "source": "text"}),
        ("magic_link", "Click to sign in: https://example.org/login?token=abcdef123456", {"source": "text"}),
        ("password_reset", "Reset your password: https://example.org/reset?token=abcdef123456", {"source": "text"}),
    ],
)
async def test_a_mail_completes_what_waits_for_what_it_holds(
    engine: Engine, type: str, body: str, found: dict[str, Any]
) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine, "s")
    wait = await make_wait(engine, type, "s")

    mail = await receive(engine, inbox, body, subject="Hi", sender="Ann <ann@example.org>")

    now = await get_wait(engine, wait)
    result = result_of(now)
    assert now.status is COMPLETED
    assert now.ended_at_us == mail.received_at_us
    assert result | found == result
    assert (result["mail_id"], result["inbox_id"]) == (mail.id, inbox.id)
    assert (result["sender"], result["subject"]) == ("ann@example.org", "Hi")
    assert ("url" in result) == type.endswith(("link", "reset"))
    assert body_of((await log_of(engine, "s"))[-1])["result"] == result


async def test_a_mail_that_came_before_counts_where_since_says_so(engine: Engine) -> None:
    await create(engine, "s")
    inbox, alone = await make_inbox(engine, "s"), await make_inbox(engine)
    mails = [await receive(engine, each, CODE) for each in (inbox, inbox, alone)]
    since = Terms(since_us=mails[0].received_at_us)

    waited = await make_wait(engine, "otp", "s", terms=since)

    assert waited.status is COMPLETED
    assert result_of(waited)["mail_id"] == mails[0].id
    assert ends(await types_of(engine, "s")) == ["wait.completed"]
    assert (await make_wait(engine, "otp", inbox_id=inbox.id, terms=since)).status is COMPLETED
    assert (await make_wait(engine, "otp", inbox_id=alone.id, terms=since)).status is COMPLETED
    late = Terms(since_us=mails[2].received_at_us + 1)
    assert (await make_wait(engine, "otp", inbox_id=alone.id, terms=late)).status is PENDING
    assert (await make_wait(engine, "otp", "s")).status is PENDING
    assert (await make_wait(engine, "magic_link", "s", terms=since)).status is PENDING


async def test_somebody_s_word_completes_an_approval_once(engine: Engine) -> None:
    await create(engine, "s")
    wait = await make_wait(engine, "approval", "s", terms=Terms(title="pay?", detail={"eur": 9}))

    done = await complete(engine, wait, {"approved": True})

    assert (done.status, result_of(done)) == (COMPLETED, {"approved": True})
    event = (await log_of(engine, "s"))[-1]
    assert (event.type, event.action) == ("wait.completed", "complete_wait")
    assert body_of(event)["input"] == {"wait_id": wait.id, "result": {"approved": True}}
    with pytest.raises(Conflict, match="completed"):
        await complete(engine, wait, {"approved": False})
    assert await cancel(engine, wait) == done == await get_wait(engine, wait)


async def test_only_an_approval_is_completed_by_a_caller_and_only_with_so_much(engine: Engine) -> None:
    approval, timer = await make_wait(engine, "approval"), await make_wait(engine, "timer", timeout_seconds=60)

    with pytest.raises(Conflict, match="timer"):
        await complete(engine, timer)
    with pytest.raises(TooLarge):
        await complete(engine, approval, {"x": "x" * RESULT_MAX_BYTES})
    large = await complete(engine, approval, {"x": "x" * (RESULT_MAX_BYTES - 20)})
    assert large.status is COMPLETED


async def test_the_log_shows_the_beginning_of_a_long_result(engine: Engine) -> None:
    await create(engine, "s")
    wait = await make_wait(engine, "approval", "s")

    await complete(engine, wait, {"x": "x" * 100_000})

    event = (await log_of(engine, "s"))[-1]
    assert len(event.body) < 40_000
    assert body_of(event)["result"]["bytes"] > 100_000


async def test_a_cancelled_wait_stays_so(engine: Engine) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine, "s")
    wait = await make_wait(engine, "otp", "s", timeout_seconds=1)

    gone = await cancel(engine, wait, reason="no more need")
    await deliver(engine, inbox, body=CODE)
    await sweep(engine, later_seconds=9)

    assert (gone.status, gone.reason, gone.result) == (CANCELLED, "no more need", None)
    assert await get_wait(engine, wait) == gone == await cancel(engine, wait)
    assert ends(await types_of(engine, "s")) == ["wait.cancelled"]


async def test_a_request_that_is_sent_twice_makes_one_wait(engine: Engine) -> None:
    await create(engine, "s")
    new = NewWait(type=WaitType.APPROVAL, session_id="s")

    ids = [await waits.create(Call(engine, ME, retry=retried("k")), new, lambda made: made.wait.id) for _ in range(2)]

    assert ids[0] == ids[1]
    assert (await types_of(engine, "s")).count("wait.created") == 1


async def test_a_version_that_is_asked_for_is_asked_of_the_session(engine: Engine) -> None:
    session = await create(engine, "s")
    await append(engine, "s", "hello")

    with pytest.raises(PreconditionFailed):
        await waits.create(
            Call(engine, ME, if_match=session.etag), NewWait(type=WaitType.APPROVAL, session_id="s"), itself
        )


async def test_a_url_completes_a_webhook_wait_and_once_more_is_fine(engine: Engine) -> None:
    await create(engine, "s")
    new = NewWait(type=WaitType.WEBHOOK, session_id="s")
    made, other = [await waits.create(Call(engine, ME), new, itself) for _ in range(2)]
    assert made.hook is not None
    assert made.hook != other.hook

    first = await waits.call_hook(engine, made.hook, {"n": 1})
    again = await waits.call_hook(engine, made.hook, {"n": 2})

    assert (first.status, result_of(first)) == (COMPLETED, {"n": 1})
    assert again == first == await get_wait(engine, made.wait)
    event = (await log_of(engine, "s"))[-1]
    assert (event.type, event.actor) == ("wait.completed", "hook")
    with pytest.raises(NotFound):
        await waits.call_hook(engine, "guessed", {})
    assert other.hook is not None
    await cancel(engine, other.wait)
    with pytest.raises(NotFound):
        await waits.call_hook(engine, other.hook, {})
    alone = await waits.create(Call(engine, ME), NewWait(type=WaitType.WEBHOOK), itself)
    assert alone.hook is not None
    assert (await waits.call_hook(engine, alone.hook, {})).status is COMPLETED


async def test_a_url_is_not_kept_as_it_is(engine: Engine, database: str) -> None:
    made = await waits.create(Call(engine, ME), NewWait(type=WaitType.WEBHOOK), itself)
    assert made.hook is not None

    (row,) = await query(database, "select * from waits")

    assert made.hook not in str(row)


async def test_a_timer_completes_when_its_time_has_come_and_not_before(engine: Engine) -> None:
    await create(engine, "s")
    wait = await make_wait(engine, "timer", "s", timeout_seconds=5)
    assert wait.times_out_at_us is not None

    async def at(now_us: int) -> Wait:
        await engine.write(lambda tx: waits.sweep(tx, now_us=now_us))
        return await get_wait(engine, wait)

    assert (await at(wait.times_out_at_us - 1)).status is PENDING
    done = await at(wait.times_out_at_us)
    assert (done.status, done.ended_at_us) == (COMPLETED, wait.times_out_at_us)
    assert result_of(done) == {"at_us": done.ended_at_us}
    assert await at(wait.times_out_at_us + SECOND) == done
    assert (await log_of(engine, "s"))[-1].actor == "clock"


async def test_a_wait_times_out_and_its_session_goes_on(engine: Engine) -> None:
    await create(engine, "s")
    made = [
        await make_wait(engine, "approval", "s", timeout_seconds=1),
        await make_wait(engine, "approval", timeout_seconds=1),
        await make_wait(engine, "event", "s", timeout_seconds=1, terms=Terms(events=["none"])),
        await make_wait(engine, "webhook", "s", timeout_seconds=1),
    ]
    stays = await make_wait(engine, "approval", "s", timeout_seconds=100)

    swept = await sweep(engine, later_seconds=2)

    assert swept.ended == len(made)
    assert {(await get_wait(engine, wait)).status for wait in made} == {TIMED_OUT}
    assert (await get_wait(engine, stays)).status is PENDING
    assert ends(await types_of(engine, "s")) == ["wait.timed_out"] * 3
    assert (await sessions.get(Call(engine, ME), "s")).status == "active"
    with pytest.raises(Conflict, match="timed_out"):
        await complete(engine, made[0])


async def test_a_critical_wait_that_times_out_fails_its_session_and_the_log_says_which(engine: Engine) -> None:
    await create(engine, "s")
    critical = [await make_wait(engine, "approval", "s", timeout_seconds=1, critical=True) for _ in range(2)]
    others = [
        await make_wait(engine, "approval", "s"),
        await make_wait(engine, "event", "s", terms=Terms(events=["x"])),
    ]
    timer = await make_wait(engine, "timer", "s", timeout_seconds=60, critical=True)

    await sweep(engine, later_seconds=2)

    session = await sessions.get(Call(engine, ME), "s")
    assert session.status == "failed"
    log = await log_of(engine, "s")
    assert_no_gaps(log)
    (failed,) = [event for event in log if event.type == "session.failed"]
    assert body_of(failed) == {
        "from": "active",
        "status": "failed",
        "reason": "a critical wait timed out",
        "wait_id": critical[0].id,
    }
    assert failed == log[-1]
    assert {(await get_wait(engine, wait)).status for wait in critical} == {TIMED_OUT}
    for wait in (*others, timer):
        now = await get_wait(engine, wait)
        assert (now.status, now.reason) == (CANCELLED, f"the session failed with the wait {critical[0].id}")


async def test_what_waits_in_a_session_is_cancelled_when_it_ends(engine: Engine, database: str) -> None:
    await create(engine, "s")
    made = [
        await make_wait(engine, "approval", "s"),
        await make_wait(engine, "event", "s", terms=Terms(events=["*"])),
        await make_wait(engine, "timer", "s", timeout_seconds=60),
    ]
    done = await complete(engine, await make_wait(engine, "approval", "s"))

    await sessions.complete(Call(engine, ME), "s", itself)

    for wait in made:
        now = await get_wait(engine, wait)
        assert (now.status, now.reason) == (CANCELLED, "the session was completed")
    assert await get_wait(engine, done) == done
    assert await types_of(engine, "s") == [
        "session.created",
        *["wait.created"] * 4,
        "wait.completed",
        *["wait.cancelled"] * 3,
        "session.completed",
    ]
    assert_no_gaps(await log_of(engine, "s"))
    assert await query(database, "select event_waits from sessions") == [(0,)]
    with pytest.raises(Conflict, match="completed"):
        await make_wait(engine, "approval", "s")


async def test_nothing_waits_for_what_is_not_there_or_somebody_else_s(engine: Engine) -> None:
    await create(engine, "mine", by=BOUND)
    await create(engine, "s")
    mine, theirs, inside = (
        await make_inbox(engine, by=BOUND),
        await make_inbox(engine, user_id="you"),
        await make_inbox(engine, "s"),
    )
    over = await make_inbox(engine, ttl_seconds=1)
    await engine.write(lambda tx: _expire(tx, over.id))

    assert (await make_wait(engine, "otp", by=BOUND, inbox_id=mine.id)).user_id == "me"
    assert (await make_wait(engine, "otp", inbox_id=theirs.id)).user_id == "you"
    assert (await make_wait(engine, "approval", user_id="you")).user_id == "you"
    assert (await make_wait(engine, "approval", by=BOUND)).user_id == "me"
    for error, new in (
        (NotFound, {"type": "otp", "inbox_id": theirs.id, "by": BOUND}),
        (NotFound, {"type": "otp", "inbox_id": inside.id, "by": BOUND}),
        (NotFound, {"type": "otp", "session_id": "mine", "inbox_id": theirs.id, "by": BOUND}),
        (NotFound, {"type": "otp", "session_id": "s", "by": BOUND}),
        (NotFound, {"type": "otp", "inbox_id": mine.id, "by": caller(workspace=ELSEWHERE)}),
        (NotFound, {"type": "otp", "inbox_id": "none"}),
        (NotFound, {"type": "otp", "session_id": "none"}),
        (Forbidden, {"type": "approval", "by": BOUND, "user_id": "you"}),
        (Conflict, {"type": "otp", "session_id": "mine", "inbox_id": inside.id}),
        (Conflict, {"type": "otp", "inbox_id": over.id}),
        (InvalidInput, {"type": "event", "terms": Terms(events=["x"])}),
        (InvalidInput, {"type": "timer"}),
    ):
        with pytest.raises(error):
            await make_wait(engine, **new)


async def _expire(tx: Tx, inbox_id: str) -> None:
    await tx.run("inbox_expire", workspace=ME.workspace_id, id=inbox_id, at_us=1)


async def test_a_session_and_an_inbox_have_no_more_pending_waits_than_they_may(engine: Engine) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine)
    inside, alone = await make_wait(engine, "approval", "s"), await make_wait(engine, "otp", inbox_id=inbox.id)

    async def fill(tx: Tx) -> None:
        for number in range(PENDING_PER_SESSION_MAX - 1):
            await rows.insert(tx, replace(inside, id=f"wait_s{number}"))
            await rows.insert(tx, replace(alone, id=f"wait_i{number}"))

    await engine.write(fill)

    refused: list[dict[str, Any]] = [{"type": "approval", "session_id": "s"}, {"type": "otp", "inbox_id": inbox.id}]
    for new in refused:
        with pytest.raises(Conflict, match="10000 pending"):
            await make_wait(engine, **new)
    began = time.monotonic()
    await sessions.complete(Call(engine, ME), "s", itself)
    await inboxes.delete(Call(engine, ME), inbox.id, itself)
    assert time.monotonic() - began < 15
    assert len(ends(await types_of(engine, "s"))) == PENDING_PER_SESSION_MAX


async def test_a_wait_is_seen_by_its_user_only(engine: Engine) -> None:
    await create(engine, "mine", by=BOUND)
    await create(engine, "theirs", by=caller(user_id="you"))
    mine, theirs = await make_wait(engine, "approval", "mine"), await make_wait(engine, "approval", "theirs")
    bound = Call(engine, BOUND)

    page = await waits.read_page(bound, WaitFilter(), limit=10, with_total=True)

    assert (page.waits, page.total) == ([mine], 1)
    for refused in (
        waits.get(bound, theirs.id),
        waits.wait(bound, theirs.id, timeout_seconds=0),
        waits.cancel(bound, theirs.id, itself),
        waits.complete(bound, theirs.id, {}, itself),
    ):
        with pytest.raises(NotFound):
            await refused


@pytest.mark.parametrize("descending", [True, False])
async def test_pages_of_waits_go_through_what_was_asked_for_in_order(engine: Engine, *, descending: bool) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine, "s")
    made = [
        await make_wait(engine, "otp", "s"),
        await make_wait(engine, "otp", inbox_id=inbox.id),
        await make_wait(engine, "approval", "s"),
        await make_wait(engine, "approval"),
        await complete(engine, await make_wait(engine, "approval", "s")),
    ]

    async def listed(**wanted: Any) -> list[Wait]:
        found, position = list[Wait](), None
        while True:
            page = await waits.read_page(
                Call(engine, ME),
                WaitFilter(**wanted),
                descending=descending,
                limit=2,
                position=position,
                with_total=True,
            )
            found += page.waits
            if not page.more:
                assert page.total == len(found)
                return found[::-1] if descending else found
            position = (page.waits[-1].created_at_us, page.waits[-1].id)

    assert await listed() == made
    assert await listed(session_id="s") == [*made[:3], made[4]]
    assert await listed(inbox_id=inbox.id) == [made[1]]
    assert await listed(type=WaitType.OTP) == made[:2]
    assert await listed(status=WaitStatus.COMPLETED) == [made[4]]
    assert await listed(session_id="s", status=WaitStatus.PENDING, type=WaitType.APPROVAL) == [made[2]]


Doing = Callable[[Engine, Wait], Coroutine[Any, Any, object]]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another process"])
async def test_whoever_waits_hears_of_the_end_at_once(engine: Engine, database: str, *, elsewhere: bool) -> None:
    wait = await make_wait(engine, "approval")
    async with another_engine(database) as other:
        asked = engine if elsewhere else other
        waiting = asyncio.create_task(wait_for(asked, wait))
        if elsewhere and engine.name == "postgres":
            await asyncio.sleep(0.2)  # until it listens: a look of its own would find it too, but later
        while not len(asked.watches):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)

        began = time.monotonic()
        await complete(other, wait)
        done = await waiting

    assert done.status is COMPLETED
    # On SQLite another process looks for itself, once a second.
    assert time.monotonic() - began < (2.5 if elsewhere and engine.name == "sqlite" else 0.8)


async def test_who_has_waited_long_enough_gets_the_wait_as_it_is(engine: Engine) -> None:
    wait = await make_wait(engine, "approval")

    assert await wait_for(engine, wait, seconds=0.05) == wait


async def test_who_waits_for_a_wait_that_is_deleted_with_its_session_is_told(engine: Engine) -> None:
    await create(engine, "s")
    wait = await make_wait(engine, "approval", "s")
    waiting = asyncio.create_task(wait_for(engine, wait))
    while not len(engine.watches):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)

    async def gone(tx: Tx) -> None:
        await rows.delete_of(tx, wait.workspace_id, wait.session_id)  # type: ignore[arg-type]  # it is in one

    await engine.write(gone)

    with pytest.raises(NotFound):
        await asyncio.wait_for(waiting, 0.8)


async def test_who_is_not_allowed_any_more_stops_waiting(engine: Engine) -> None:
    wait = await make_wait(engine, "approval")

    async def refuse() -> None:
        raise Forbidden("revoked")

    with pytest.raises(Forbidden):
        await waits.wait(Call(engine, ME), wait.id, timeout_seconds=20, still_allowed=refuse)
