"""Mails: taken in by whichever way, all or nothing, and once for all that wait for them, whoever comes meanwhile."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import pytest

from sessiond.actions import inboxes, mails, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.mails import DELIVERIES_MAX, Mailboxes
from sessiond.core import inbox as limits
from sessiond.core.errors import NotFound, SessiondError, TooLarge
from sessiond.core.inbox import Inbox
from sessiond.core.wait import CANCELLED, COMPLETED, Terms, Wait
from sessiond.storage import inboxes as rows
from sessiond.storage import mails as mail_rows
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import ELSEWHERE, ME, caller, create, retried
from tests.actions.mailing import (
    CODE,
    SECOND,
    body_of,
    count_deadlocks,
    deliver,
    ends,
    get_wait,
    held,
    log_of,
    make_inbox,
    make_wait,
    raw_mail,
    receive,
    result_of,
    types_of,
)
from tests.runners.working import assert_no_gaps
from tests.storage.making import another_engine, query

BOUND: Final = caller(user_id="me")


async def expire(engine: Engine, inbox: Inbox) -> None:
    assert await engine.write(lambda tx: rows.expire(tx, inbox, at_us=inbox.created_at_us + 1))


async def test_a_mail_is_kept_as_it_was_sent_and_as_it_was_read(engine: Engine) -> None:
    inbox = await make_inbox(engine)
    raw = raw_mail(CODE, subject="Your code", sender="Shop <noreply@shop.example>")

    mail = await mails.receive(Call(engine, ME), inbox.id, raw, itself)

    full = await mails.get(Call(engine, ME), mail.id)
    assert full.mail == mail
    assert (mail.inbox_id, mail.size, mail.session_id) == (inbox.id, len(raw), None)
    assert (mail.envelope.sender, mail.envelope.sender_name) == ("noreply@shop.example", "Shop")
    assert mail.envelope.subject == "Your code"
    assert [(one.type, one.value) for one in mail.extractions] == [("otp", "482913")]
    assert full.content.text is not None
    assert full.content.text.strip() == CODE
    assert await mails.get_raw(Call(engine, ME), mail.id) == raw
    now = await inboxes.get(Call(engine, ME), inbox.id)
    assert (now.mail_count, now.mail_bytes) == (1, len(raw))


async def test_what_comes_by_http_is_a_step_and_what_comes_by_smtp_is_not(engine: Engine) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine, "s")

    mail = await receive(engine, inbox, "secret", subject="Hi")
    await deliver(engine, inbox, body="secret", subject="Ho")

    posted, sent = (await log_of(engine, "s"))[-2:]
    assert (posted.type, posted.action, posted.actor) == ("mail.received", "receive_mail", ME.key_id)
    assert (sent.type, sent.action, sent.actor) == ("mail.received", None, "smtp")
    assert body_of(posted) == {
        "mail_id": mail.id,
        "inbox_id": inbox.id,
        "sender": "ann@example.org",
        "subject": "Hi",
        "size": mail.size,
        "input": {"inbox_id": inbox.id, "size": mail.size},
        "output": {"id": mail.id},
    }
    assert b"secret" not in posted.body + sent.body


async def test_a_mail_that_does_not_say_who_sent_it_has_the_sender_of_its_envelope(engine: Engine) -> None:
    inbox = await make_inbox(engine)

    await Mailboxes(engine).deliver([inbox.address], b"Subject: hi\r\n\r\nhello\r\n", sender="bounce@example.org")

    _, (mail,), _ = await mails.read_page(Call(engine, ME), inbox.id, limit=10)
    assert mail.envelope.sender == "bounce@example.org"


async def test_a_mail_comes_to_all_its_inboxes_in_whichever_workspaces_they_are(engine: Engine) -> None:
    await create(engine, "s")
    inside, alone = await make_inbox(engine, "s"), await make_inbox(engine)
    elsewhere = await make_inbox(engine, by=caller(workspace=ELSEWHERE))

    await deliver(engine, inside, alone, elsewhere, alone)

    for inbox, call in ((inside, Call(engine, ME)), (alone, Call(engine, ME))):
        _, found, more = await mails.read_page(call, inbox.id, limit=10)
        assert (len(found), more) == (1, False)
    theirs = await inboxes.get(Call(engine, caller(workspace=ELSEWHERE)), elsewhere.id)
    assert theirs.mail_count == 1
    assert (await types_of(engine, "s")).count("mail.received") == 1


@pytest.mark.parametrize("trouble", ["expired", "gone", "full of mails", "full of bytes", "unknown"])
async def test_a_mail_comes_to_all_or_to_none(engine: Engine, database: str, trouble: str) -> None:
    await create(engine, "s")
    good, bad = await make_inbox(engine, "s"), await make_inbox(engine, "s")
    error: type[SessiondError] = NotFound
    match trouble:
        case "expired":
            await expire(engine, bad)
        case "gone":
            await inboxes.delete(Call(engine, ME), bad.id, itself)
        case "full of mails" | "full of bytes":
            error, most = TooLarge, (limits.MAILS_MAX, 1) if trouble == "full of mails" else (1, limits.BYTES_MAX)
            await engine.write(lambda tx: fill(tx, bad, most))
    before = await types_of(engine, "s")

    to = bad.address if trouble != "unknown" else "nobody@inbox.example"
    with pytest.raises(error):
        await Mailboxes(engine).deliver([good.address, to], raw_mail(), sender="a@b.example")

    assert await types_of(engine, "s") == before
    assert await query(database, "select count(*) from mails") == [(0,)]
    assert await query(database, "select count(*) from mail_contents") == [(0,)]


async def fill(tx: Tx, inbox: Inbox, most: tuple[int, int]) -> None:
    for _ in range(most[0]):
        await rows.count_up(tx, inbox, size=most[1])


async def test_an_address_is_known_while_its_inbox_takes_mail(engine: Engine) -> None:
    inbox, over = await make_inbox(engine), await make_inbox(engine)
    await expire(engine, over)
    known = Mailboxes(engine).knows

    assert await known(inbox.address)
    assert not await known(over.address)
    assert not await known("nobody@inbox.example")
    with pytest.raises(NotFound):
        await receive(engine, over)


async def test_a_mail_that_is_sent_twice_under_one_key_comes_once(engine: Engine) -> None:
    inbox = await make_inbox(engine)
    ids = [
        await mails.receive(Call(engine, ME, retry=retried("k")), inbox.id, raw_mail(), lambda mail: mail.id)
        for _ in range(2)
    ]

    assert ids[0] == ids[1]
    assert len((await mails.read_page(Call(engine, ME), inbox.id, limit=10))[1]) == 1


@pytest.mark.parametrize("descending", [True, False])
async def test_pages_of_mails_go_through_all_of_them_in_order(engine: Engine, *, descending: bool) -> None:
    inbox = await make_inbox(engine)
    made = [(await receive(engine, inbox, subject=f"{number}")).id for number in range(5)]

    found, position = list[str](), None
    while True:
        _, page, more = await mails.read_page(
            Call(engine, ME), inbox.id, descending=descending, limit=2, position=position
        )
        found += [mail.id for mail in page]
        if not more:
            break
        position = (page[-1].received_at_us, page[-1].id)
    _, skipped, _ = await mails.read_page(Call(engine, ME), inbox.id, descending=descending, limit=2, offset=3)

    assert found == (made[::-1] if descending else made)
    assert [mail.id for mail in skipped] == found[3:]


async def test_the_mails_of_a_session_are_read_through_in_the_order_in_which_they_came(engine: Engine) -> None:
    await create(engine, "s")
    first, second = await make_inbox(engine, "s"), await make_inbox(engine, "s")
    made = [await receive(engine, inbox) for inbox in (first, second, first)]
    await receive(engine, await make_inbox(engine))

    page = await mails.read_of_session(Call(engine, ME), "s", after=None, limit=2)
    rest = await mails.read_of_session(Call(engine, ME), "s", after=(page[-1].received_at_us, page[-1].id), limit=2)

    assert [*page, *rest] == made


async def test_a_mail_is_seen_by_its_inbox_s_user_only(engine: Engine) -> None:
    mine, theirs = await make_inbox(engine, by=BOUND), await make_inbox(engine)
    mail, other = await receive(engine, mine, by=BOUND), await receive(engine, theirs)

    assert (await mails.get(Call(engine, BOUND), mail.id)).mail == mail
    for refused in (
        mails.get(Call(engine, BOUND), other.id),
        mails.get_raw(Call(engine, BOUND), other.id),
        mails.extract_again(Call(engine, BOUND), other.id, itself),
        receive(engine, theirs, by=BOUND),
        mails.read_page(Call(engine, BOUND), theirs.id, limit=1),
    ):
        with pytest.raises(NotFound):
            await refused


async def test_a_mail_can_be_looked_through_again(engine: Engine) -> None:
    mail = await receive(engine, await make_inbox(engine), CODE)
    await engine.write(lambda tx: mail_rows.set_extractions(tx, mail, []))

    again = await mails.extract_again(Call(engine, ME), mail.id, itself)

    assert again == mail == (await mails.get(Call(engine, ME), mail.id)).mail


async def test_one_mail_ends_all_that_waited_for_it_once(engine: Engine) -> None:
    for session_id in ("s", "t", "u"):
        await create(engine, session_id)
    inbox, alone = await make_inbox(engine, "s"), await make_inbox(engine)
    ended = [
        await make_wait(engine, "otp", inbox_id=inbox.id),
        await make_wait(engine, "otp", "s"),
        await make_wait(engine, "email", "s", terms=Terms(sender="shop.example")),
        await make_wait(engine, "otp", "t", inbox_id=alone.id),
        await make_wait(engine, "email", inbox_id=alone.id),
    ]
    left = [
        await make_wait(engine, "magic_link", "s"),
        await make_wait(engine, "otp", "s", terms=Terms(sender="other.example")),
        await make_wait(engine, "approval", "s"),
        await make_wait(engine, "otp", "u"),
    ]

    for _ in range(2):
        await deliver(engine, inbox, alone, body=CODE, sender="Shop <noreply@shop.example>")

    for wait in ended:
        now = await get_wait(engine, wait)
        assert now.status is COMPLETED
        assert result_of(now)["inbox_id"] in (inbox.id, alone.id)
        assert result_of(now).get("value") == ("482913" if wait.type == "otp" else None)
    assert not any([(await get_wait(engine, wait)).ended for wait in left])
    assert ends(await types_of(engine, "s")) == ["wait.completed"] * 3
    assert (await types_of(engine, "s"))[-5:] == ["mail.received", *["wait.completed"] * 3, "mail.received"]
    assert ends(await types_of(engine, "t")) == ["wait.completed"]
    for session_id in ("s", "t", "u"):
        assert_no_gaps(await log_of(engine, session_id))


async def test_an_inbox_of_a_session_that_has_ended_still_takes_mail(engine: Engine) -> None:
    await create(engine, "s")
    inbox = await make_inbox(engine, "s")
    await sessions.complete(Call(engine, ME), "s", itself)

    await deliver(engine, inbox)

    assert (await types_of(engine, "s"))[-1] == "mail.received"


ROUNDS: Final = 12
EACH: Final = 4


@pytest.mark.timeout(120)
async def test_mails_and_waits_that_come_at_once_miss_no_one_and_stop_no_one(engine: Engine, database: str) -> None:
    """Each round: mails to two inboxes in either order, waits from either process, cancelled, deleted, all together."""
    dice = random.Random(7)
    for session_id in ("s", "t", "u"):
        await create(engine, session_id)
    async with another_engine(database) as other:
        for number in range(ROUNDS):
            inside, alone = await make_inbox(engine, "s"), await make_inbox(engine)
            since_us = alone.created_at_us - SECOND
            made = list[Wait]()

            async def wait_for(
                session_id: str | None, inbox: Inbox | None, made: list[Wait] = made, since_us: int = since_us
            ) -> None:
                where = inbox.id if inbox is not None else None
                on = dice.choice([engine, other])
                made.append(await make_wait(on, "otp", session_id, inbox_id=where, terms=Terms(since_us=since_us)))

            async def send(*to: Inbox) -> None:
                await deliver(dice.choice([engine, other]), *to, body=CODE)

            doing = [
                *[send(inside, alone) for _ in range(EACH)],
                *[send(alone, inside) for _ in range(EACH)],
                *[wait_for(None, inside) for _ in range(EACH)],
                *[wait_for("s", None) for _ in range(EACH)],
                *[wait_for(dice.choice(["t", "u"]), alone) for _ in range(EACH)],
                *[wait_for(None, alone) for _ in range(EACH)],
            ]
            dice.shuffle(doing)
            async with asyncio.timeout(30):
                await asyncio.gather(*doing)

            assert len(made) == 4 * EACH
            for wait in made:
                assert (await get_wait(engine, wait)).status is COMPLETED, f"missed in round {number}"
    for session_id in ("s", "t", "u"):
        assert_no_gaps(await log_of(engine, session_id))
    completed = sum([(await types_of(engine, session_id)).count("wait.completed") for session_id in ("s", "t", "u")])
    assert completed == ROUNDS * 3 * EACH
    assert await count_deadlocks(engine, database) == 0


@pytest.mark.timeout(120)
async def test_a_mail_a_cancellation_and_the_end_of_an_inbox_at_once_end_a_wait_once(
    engine: Engine, database: str
) -> None:
    for session_id in ("s", "t"):
        await create(engine, session_id)
    async with another_engine(database) as other:
        made = list[Wait]()
        for _ in range(ROUNDS):
            inbox = await make_inbox(engine)
            some = [await make_wait(engine, "email", place, inbox_id=inbox.id) for place in ("s", "t", None)]
            made += some
            doing = [
                deliver(other, inbox),
                deliver(engine, inbox),
                inboxes.delete(Call(other, ME), inbox.id, itself),
                *[waits.cancel(Call(engine, ME), wait.id, itself) for wait in some],
            ]
            async with asyncio.timeout(30):
                done = await asyncio.gather(*doing, return_exceptions=True)
            assert all(not isinstance(one, BaseException) or isinstance(one, NotFound) for one in done), done

    statuses = [(await get_wait(engine, wait)).status for wait in made]
    assert set(statuses) <= {COMPLETED, CANCELLED}
    for session_id in ("s", "t"):
        log = await log_of(engine, session_id)
        assert_no_gaps(log)
        told = [body_of(event)["wait_id"] for event in log if event.type in ("wait.completed", "wait.cancelled")]
        assert sorted(told) == sorted(wait.id for wait in made if wait.session_id == session_id)
    assert await count_deadlocks(engine, database) == 0


async def test_mails_that_wait_for_one_session_leave_the_database_to_others(engine: Engine, database: str) -> None:
    if engine.name == "sqlite":
        return  # it has one writer, and nobody who reads waits for it
    await create(engine, "s")
    inbox = await make_inbox(engine, "s")
    async with another_engine(database) as other:  # with five connections
        mailboxes = Mailboxes(other)
        async with held(engine, "s"):
            coming = [asyncio.create_task(mailboxes.deliver([inbox.address], raw_mail(), sender="")) for _ in range(20)]
            waiting = (
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            )
            async with asyncio.timeout(20):
                while (await query(database, waiting))[0][0] < DELIVERIES_MAX:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.01)
            async with asyncio.timeout(5):
                assert await inboxes.get(Call(other, ME), inbox.id) == inbox
        await asyncio.gather(*coming)

    assert (await inboxes.get(Call(engine, ME), inbox.id)).mail_count == 20
