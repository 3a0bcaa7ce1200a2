"""Every call of both clients, over HTTP on both engines and in this process: once, and its result typed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sessiond import AsyncClient, Client
from sessiond.client import (
    Agent,
    AuditEntry,
    Conflict,
    Delta,
    Event,
    Extraction,
    Found,
    Inbox,
    Key,
    Mail,
    MailFound,
    Me,
    Message,
    NotFound,
    Page,
    PreconditionFailed,
    Receipt,
    Replay,
    Rerun,
    Run,
    Session,
    TimedOut,
    Wait,
    WaitCancelled,
)
from tests.client.using import Using, methods
from tests.serving import Tenant

KINDS = [pytest.param(Client, id="sync"), pytest.param(AsyncClient, id="async")]
RAW = b"From: ada@example.com\r\nTo: box@localhost\r\nSubject: Hello\r\n\r\nYour code is 246802.\r\n"


async def _use_everything(using: Using) -> None:
    await _use_sessions(using)
    await _use_runs(using)
    await _use_mail(using)
    await _use_waits(using)
    await _use_what_is_the_workspaces(using)


async def _use_sessions(using: Using) -> None:
    call, take = using.call, using.take
    made = await call("sessions.create", id="s 1?#ä", user_id="ada", metadata={"plan": "pro"})
    assert type(made) is Session
    assert made.etag
    same = await call("sessions.create", id=made.id, if_exists="return")
    assert (same.id, same.metadata) == (made.id, {"plan": "pro"})

    first = await call("messages.append", made.id, "One", metadata={"n": 1})
    assert (type(first), first.role, first.content, first.metadata) == (Message, "user", "One", {"n": 1})
    parts = [{"type": "text", "text": "two"}]
    appended = await call("messages.append_batch", made.id, [{"role": "assistant", "content": parts}, {"content": "3"}])
    assert [(type(one), one.content) for one in appended] == [(Message, parts), (Message, "3")]
    assert [one.content for one in (await call("messages.list", made.id, limit=2)).data] == ["One", parts]
    assert [one.seq for one in await take(-1, "messages.iterate", made.id, limit=1)] == [2, 3, 4]
    assert await call("messages.get", made.id, first.id) == first
    found = await call("messages.search", "one")
    assert [(type(one), one.id, one.snippet[slice(*one.matches[0])]) for one in found.data] == [
        (Found, first.id, "One")
    ]
    assert [one.id for one in await take(-1, "messages.iterate_search", "one", limit=1)] == [first.id]

    draft = await call("sessions.create")
    await call("messages.append", draft.id, "Hmm", data={"step": 1}, if_match=draft.etag)
    assert (await call("sessions.get", draft.id)).data == {"step": 1}
    with pytest.raises(PreconditionFailed):
        await call("messages.append", draft.id, "Hm", if_match=draft.etag)
    assert (await call("messages.pop", draft.id)).content == "Hmm"
    assert await call("messages.pop", draft.id) is None

    event = await call("sessions.append_event", made.id, "shop.order_placed", {"order": 7})
    more = await call("sessions.append_events", made.id, [{"type": "shop.paid"}, {"type": "shop.sent", "data": {}}])
    assert [(type(one), one.seq, one.type) for one in (event, *more)] == [
        (Event, 5, "shop.order_placed"),
        (Event, 6, "shop.paid"),
        (Event, 7, "shop.sent"),
    ]
    assert [one.seq for one in (await call("sessions.events", made.id, type="shop.*", order="desc")).data] == [7, 6, 5]
    assert [one.seq for one in await take(3, "sessions.iterate_events", made.id, limit=2)] == [1, 2, 3]
    timeline = await call("sessions.timeline", made.id)
    assert [one.seq for one in timeline.events] == list(range(1, 8))
    assert await take(7, "sessions.stream", made.id) == timeline.events
    assert await take(2, "sessions.stream_live", made.id, after=3) == timeline.events[3:5]

    changed = await call("sessions.update", made.id, metadata={"plan": None, "seats": 3}, data={"cart": [1]})
    assert (changed.metadata, changed.data) == ({"seats": 3}, {"cart": [1]})
    with pytest.raises(PreconditionFailed):
        await call("sessions.update", made.id, name="x", if_match=made.etag)
    listed = await call("sessions.list", user_id=["ada", "bob"], metadata={"seats": 3}, include_total=True)
    assert (type(listed), listed.total, listed.data[0].id) == (Page, 1, made.id)
    await call("sessions.create", user_id="ada")
    assert len(await take(-1, "sessions.iterate", user_id="ada", limit=1)) == 2
    assert (await call("sessions.get", made.id)).last_seq == 8

    replay = await call("sessions.replay", made.id)
    assert (type(replay), replay.steps[0].action) == (Replay, "create_session")
    rerun = await call("sessions.rerun", made.id, mode="simulate")
    assert (type(rerun), rerun.summary.changed + rerun.summary.failed) == (Rerun, 0)
    assert (await call("sessions.complete", made.id, reason="done")).completed_at is not None
    with pytest.raises(Conflict):
        await call("messages.append", made.id, "late")
    assert (await call("sessions.fail", (await call("sessions.create")).id)).status == "failed"
    assert await call("sessions.delete", rerun.session_id) is None
    with pytest.raises(NotFound):
        await take(1, "sessions.stream", rerun.session_id)
    pieces = await take(-1, "export", session_id=made.id)
    assert b'"One"' in b"".join(pieces)
    assert type(await call("sessions.erase", made.id)) is Receipt


async def _use_runs(using: Using) -> None:
    call, take = using.call, using.take
    agent = await call("agents.create", "parrot", "echo")
    assert (type(agent), agent.runner) == (Agent, "echo")
    session = await call("sessions.create", agent_id="parrot")
    run = await call("runs.start_and_wait", session.id, "Polly")
    assert (type(run), run.status, run.output) == (Run, "completed", "Polly")
    second = await call("runs.start", session.id, "wants", wait_seconds=30)
    assert (second.output, (await call("runs.wait", second.id)).output) == ("wants", "wants")
    events = await take(-1, "runs.stream", run.id)
    assert [(type(one), one.run_id) for one in events] == [(Event, run.id)] * len(events)
    assert events[-1].type == "run.completed"
    live = [one for one in await take(-1, "runs.stream_live", run.id) if type(one) is not Delta]
    assert live == events
    assert [one.id for one in (await call("runs.list", session_id=session.id)).data] == [second.id, run.id]
    assert len(await take(-1, "runs.iterate", session_id=session.id, limit=1)) == 2
    assert await call("runs.get", run.id) == run
    for refused in (("runs.cancel", run.id), ("runs.retry", run.id)):
        with pytest.raises(Conflict):
            await call(*refused)
    with pytest.raises(Conflict):
        await call("runs.respond", run.id, content="yes")


async def _use_mail(using: Using) -> None:
    call, take = using.call, using.take
    inbox = await call("inboxes.create", purpose="sign up", ttl_seconds=600)
    assert type(inbox) is Inbox
    assert await call("inboxes.get", inbox.id) == inbox
    assert (await call("inboxes.list", active=True)).data == [inbox]
    assert await take(-1, "inboxes.iterate") == [inbox]
    mail = await call("inboxes.put_mail", inbox.id, sender="a@example.com", subject="Code", text="Your code is 135791.")
    raw = await call("inboxes.put_raw_mail", inbox.id, RAW)
    assert [(type(one), one.extractions[0].value) for one in (mail, raw)] == [(Mail, "135791"), (Mail, "246802")]
    assert [one.id for one in (await call("inboxes.mails", inbox.id)).data] == [raw.id, mail.id]
    assert len(await take(-1, "inboxes.iterate_mails", inbox.id, limit=1)) == 2
    extracted = (await call("inboxes.extractions", inbox.id, limit=1)).data[0]
    assert (type(extracted), extracted.value, extracted.mail_id) == (Extraction, "246802", raw.id)
    assert len(await take(-1, "inboxes.iterate_extractions", inbox.id, limit=1)) == 2
    assert (await call("mails.get", raw.id)).text.strip() == "Your code is 246802."
    assert await call("mails.raw", raw.id) == RAW
    assert [one.value for one in await call("mails.extract", raw.id)] == ["246802"]
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    code = await call("waits.wait_for_otp", inbox.id, since=long_ago)
    assert (type(code), str(code), code.sender) == (MailFound, "135791", "a@example.com")
    assert (await call("waits.wait_for_email", inbox.id, since=long_ago, subject_contains="Hello")).mail_id == raw.id
    for kind in ("magic_link", "password_reset"):
        with pytest.raises(TimedOut):
            await call(f"waits.wait_for_{kind}", inbox.id, timeout_seconds=0.1)
    assert await call("inboxes.delete", inbox.id) is None


async def _use_waits(using: Using) -> None:
    call, take = using.call, using.take
    wait = await call("waits.create", "approval", title="Buy it?", detail={"price": 7}, timeout_seconds=None)
    assert (type(wait), wait.times_out_at) == (Wait, None)
    assert not (await call("waits.get", wait.id, wait_seconds=0.05)).ended
    assert (await call("waits.complete", wait.id, {"yes": True})).status == "completed"
    assert (await call("waits.wait_for", wait.id)).result == {"yes": True}
    other = await call("waits.create", "timer", at=datetime.now(UTC) + timedelta(hours=1))
    assert (await call("waits.cancel", other.id, reason="no more")).reason == "no more"
    with pytest.raises(WaitCancelled, match="no more"):
        await call("waits.wait_for", other.id)
    assert (await call("waits.list", status="cancelled", include_total=True)).data[0].id == other.id
    assert wait.id in [one.id for one in await take(-1, "waits.iterate", limit=1)]


async def _use_what_is_the_workspaces(using: Using) -> None:
    call, take = using.call, using.take
    me = await call("keys.me")
    assert (type(me), "admin" in me.scopes) == (Me, True)
    key = await call("keys.create", name="app", scopes=["sessions:read"])
    assert (type(key), key.scopes) == (Key, ["sessions:read"])
    assert key.key.startswith("sd_")
    assert key.id in [one.id for one in (await call("keys.list", limit=1000)).data]
    assert key.id in [one.id for one in await take(-1, "keys.iterate", limit=1)]
    assert await call("keys.revoke", key.id) is None

    assert (await call("agents.put", "parrot", "echo", retries=3)).retries == 3
    assert (await call("agents.get", "parrot")).retries == 3
    assert "parrot" in [one.id for one in (await call("agents.list")).data]
    assert "parrot" in [one.id for one in await take(-1, "agents.iterate", limit=1)]
    assert await call("agents.delete", "parrot") is None

    receipt = await call("erasures.erase_user", "ada")
    assert (type(receipt), receipt.document["id"]) == (Receipt, receipt.id)
    assert (await call("erasures.list")).data[0].id == receipt.id
    assert len(await take(-1, "erasures.iterate", limit=1)) == 2
    assert (await call("erasures.get", receipt.id)).counts == receipt.counts
    entry = (await call("audit.list", limit=1)).data[0]
    assert (type(entry), entry.event) == (AuditEntry, "erase")
    assert len(await take(3, "audit.iterate", limit=2)) == 3


async def _try(made: Client | AsyncClient) -> None:
    using = Using(made)
    try:
        await _use_everything(using)
    finally:
        closing: Any = made.close()
        if closing is not None:
            await closing
    assert set(methods(type(made))) == using.used


@pytest.mark.parametrize("kind", KINDS)
async def test_every_call_works_over_http(kind: type[Client | AsyncClient], tenant: Tenant) -> None:
    await _try(kind(tenant.key, tenant.serving.url))


@pytest.mark.parametrize("kind", KINDS)
async def test_every_call_works_in_this_process(kind: type[Client | AsyncClient], database: str) -> None:
    await _try(kind.local(database))


def test_both_clients_have_the_same_calls() -> None:
    assert [*methods(Client)] == [*methods(AsyncClient)]


def test_an_id_that_would_lead_elsewhere_is_refused_before_it_is_sent(local: Client) -> None:
    for wrong in ("", ".", ".."):
        with pytest.raises(ValueError, match="is no id"):
            local.sessions.delete(wrong)
    with pytest.raises(NotFound):
        local.sessions.get("../sessions")
