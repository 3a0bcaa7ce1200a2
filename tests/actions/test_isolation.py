"""Who may do what: every action there is, asked by strangers and by those who lack a scope."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, Final

import pytest

from sessiond.actions import (
    agents,
    audit,
    client_events,
    erasures,
    events,
    inboxes,
    keys,
    mails,
    messages,
    runs,
    search,
    sessions,
    timeline,
    waits,
)
from sessiond.actions.call import Call, itself
from sessiond.actions.keys import NewKey
from sessiond.actions.sessions import IfExists, SessionPatch
from sessiond.core.agent import NewAgent
from sessiond.core.audit import AuditFilter
from sessiond.core.caller import ALL_SCOPES, Caller, Scope
from sessiond.core.client_event import client_entry
from sessiond.core.errors import Conflict, Forbidden, NotFound
from sessiond.core.event import Event
from sessiond.core.inbox import Inbox, InboxFilter, NewInbox
from sessiond.core.page import LogPage
from sessiond.core.run import Answer, Run, RunFilter
from sessiond.core.session import NewSession, Session, SessionFilter
from sessiond.core.wait import NewWait, WaitFilter, WaitType
from sessiond.storage import events as storage_events
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import ELSEWHERE, HERE, ME, append, caller, create, gathered, make_workspaces, text
from tests.actions.indexing import index_all
from tests.actions.mailing import raw_mail

READ, WRITE, ADMIN, HOST = Scope
NOTE: Final = client_entry("note.made")

Act = Callable[[Call, Session], Awaitable[object]]


async def _allowed() -> None:
    return


async def _first(call: Call, session: Session) -> object:
    followed = events.follow(call, session.id, after=0, silence_seconds=1, still_allowed=_allowed)
    try:
        return await anext(followed)
    finally:
        await followed.aclose()  # type: ignore[attr-defined]  # `follow` is a generator


async def _run_of(call: Call, session: Session) -> Run:
    """Return the session's run, as its owner sees it."""
    (run,) = (await runs.read_page(Call(call.engine, ME), RunFilter(session_ids=(session.id,)), limit=1)).runs
    return run


def _on_the_run(act: Callable[[Call, Run], Awaitable[object]]) -> Act:
    async def on_the_session(call: Call, session: Session) -> object:
        return await act(call, await _run_of(call, session))

    return on_the_session


async def _inbox_of(call: Call) -> Inbox:
    page = await inboxes.read_page(Call(call.engine, ME), InboxFilter(session_id="s"), limit=1)
    return page.inboxes[0]


def _on_the_inbox(act: Callable[[Call, Inbox], Awaitable[object]]) -> Act:
    async def on_the_session(call: Call, _: Session) -> object:
        return await act(call, await _inbox_of(call))

    return on_the_session


def _on_the_mail(act: Callable[[Call, str], Awaitable[object]]) -> Act:
    async def on_the_session(call: Call, session: Session) -> object:
        _, found, _ = await mails.read_page(Call(call.engine, ME), (await _inbox_of(call)).id, limit=1)
        return await act(call, found[-1].id)

    return on_the_session


def _on_the_wait(act: Callable[[Call, str], Awaitable[object]]) -> Act:
    async def on_the_session(call: Call, _: Session) -> object:
        page = await waits.read_page(Call(call.engine, ME), WaitFilter(session_id="s"), descending=False, limit=1)
        return await act(call, page.waits[0].id)

    return on_the_session


async def _first_of_run(call: Call, run: Run) -> object:
    followed = runs.follow_run(call, run, after=0, silence_seconds=1, still_allowed=_allowed)
    try:
        return await anext(followed)
    finally:
        await followed.aclose()  # type: ignore[attr-defined]  # `follow_run` is a generator


async def _start_in(call: Call, session_id: str, *, user_id: str | None = None) -> Run:
    new = NewSession(agent_id="a", user_id=user_id)
    return await runs.start_in(call, session_id, itself, new=new, message=text("x"))


async def _log(call: Call, session: Session) -> object:
    async def page(tx: Tx, found: Session) -> LogPage[Event]:
        return await storage_events.read_page(tx, found, limit=10)

    return await events.read_log(call, session.id, page, passing=lambda found: found.last_seq)


async def _each(call: Call, session: Session) -> object:
    return [await gathered(pages) async for _, pages in messages.read_each(call, [session])]


async def _append_in_hand(call: Call, session_id: str) -> object:
    return await messages.append_in_hand(call, session_id, [text("x")], itself, data={"n": 1})


async def _find(call: Call, **where: Any) -> search.FoundPage:
    return await search.read_page(call, search.Wanted(query="secret", **where), behind=None, limit=10)


# What an action needs, and how it is done to a session (or to a workspace, where it is about no session).
ON_A_SESSION: Final[dict[Any, tuple[Scope, Act]]] = {
    sessions.get: (READ, lambda call, session: sessions.get(call, session.id)),
    sessions.patch: (WRITE, lambda call, session: sessions.patch(call, session.id, SessionPatch(name="x"), itself)),
    sessions.complete: (WRITE, lambda call, session: sessions.complete(call, session.id, itself)),
    sessions.fail: (WRITE, lambda call, session: sessions.fail(call, session.id, itself)),
    sessions.delete: (WRITE, lambda call, session: sessions.delete(call, session.id, itself)),
    erasures.erase_session: (WRITE, lambda call, session: erasures.erase_session(call, session.id)),
    messages.append: (WRITE, lambda call, session: messages.append(call, session.id, [text("x")], itself)),
    messages.append_in_hand: (WRITE, lambda call, session: _append_in_hand(call, session.id)),
    messages.pop: (WRITE, lambda call, session: messages.pop(call, session.id, itself)),
    messages.append_entries: (WRITE, lambda call, session: messages.append_entries(call, session.id, [NOTE], itself)),
    client_events.append: (WRITE, lambda call, session: client_events.append(call, session.id, [NOTE], itself)),
    messages.get: (READ, lambda call, session: messages.get(call, session.id, f"msg_2.{session.id}")),
    events.read_page: (READ, lambda call, session: events.read_page(call, session.id, limit=10)),
    events.read_all: (READ, lambda call, session: gathered(events.read_all(call, session))),
    events.read_log: (READ, _log),
    events.follow: (READ, _first),
    messages.read_page: (READ, lambda call, session: messages.read_page(call, session.id, limit=10)),
    messages.read_all: (READ, lambda call, session: gathered(messages.read_all(call, session))),
    timeline.read_steps: (READ, lambda call, session: gathered(timeline.read_steps(call, session))),
    runs.start: (WRITE, lambda call, session: runs.start(call, session.id, itself, message=text("x"))),
    search.read_page: (READ, lambda call, session: _find(call, session_id=session.id)),
    inboxes.create: (WRITE, lambda call, session: make_inbox(call, session.id)),
    waits.create: (WRITE, lambda call, session: waits.create(call, _approval(session.id), itself)),
}
ON_A_RUN: Final[dict[Any, tuple[Scope, Act]]] = {
    runs.get: (READ, _on_the_run(lambda call, run: runs.get(call, run.id))),
    runs.wait: (READ, _on_the_run(lambda call, run: runs.wait(call, run.id, timeout_seconds=0))),
    runs.follow_run: (READ, _on_the_run(_first_of_run)),
    runs.cancel: (WRITE, _on_the_run(lambda call, run: runs.cancel(call, run.id, itself))),
    runs.retry: (WRITE, _on_the_run(lambda call, run: runs.retry(call, run.id, itself))),
    runs.respond: (WRITE, _on_the_run(lambda call, run: runs.respond(call, run.id, Answer(), itself))),
}
ON_AN_INBOX: Final[dict[Any, tuple[Scope, Act]]] = {
    inboxes.get: (READ, _on_the_inbox(lambda call, inbox: inboxes.get(call, inbox.id))),
    mails.read_page: (READ, _on_the_inbox(lambda call, inbox: mails.read_page(call, inbox.id, limit=9))),
    mails.receive: (WRITE, _on_the_inbox(lambda call, inbox: mails.receive(call, inbox.id, raw_mail(), itself))),
}
ON_A_MAIL: Final[dict[Any, tuple[Scope, Act]]] = {
    mails.get: (READ, _on_the_mail(mails.get)),
    mails.get_raw: (READ, _on_the_mail(mails.get_raw)),
    mails.extract_again: (WRITE, _on_the_mail(lambda call, mail_id: mails.extract_again(call, mail_id, itself))),
}
ON_A_WAIT: Final[dict[Any, tuple[Scope, Act]]] = {
    waits.get: (READ, _on_the_wait(waits.get)),
    waits.wait: (READ, _on_the_wait(lambda call, wait_id: waits.wait(call, wait_id, timeout_seconds=0))),
    waits.complete: (WRITE, _on_the_wait(lambda call, wait_id: waits.complete(call, wait_id, {}, itself))),
    waits.cancel: (WRITE, _on_the_wait(lambda call, wait_id: waits.cancel(call, wait_id, itself))),
}
REMOVES: Final[dict[Any, tuple[Scope, Act]]] = {
    inboxes.delete: (WRITE, _on_the_inbox(lambda call, inbox: inboxes.delete(call, inbox.id, itself))),
}
ON_A_WORKSPACE: Final[dict[Any, tuple[Scope, Act]]] = {
    sessions.create: (WRITE, lambda call, _: sessions.create(call, NewSession(), itself, session_id="new")),
    sessions.read_page: (READ, lambda call, _: sessions.read_page(call, SessionFilter(), limit=10)),
    # It is given sessions that its caller was let read.
    messages.read_each: (READ, _each),
    inboxes.read_ids: (READ, lambda call, session: inboxes.read_ids(call, session.id)),
    mails.read_of_session: (READ, lambda call, session: mails.read_of_session(call, session.id, after=None, limit=9)),
    inboxes.read_page: (READ, lambda call, _: inboxes.read_page(call, InboxFilter(), limit=10)),
    waits.read_page: (READ, lambda call, _: waits.read_page(call, WaitFilter(), limit=10)),
    keys.create: (ADMIN, lambda call, _: keys.create(call, NewKey(), itself)),
    keys.read_page: (ADMIN, lambda call, _: keys.read_page(call, limit=10)),
    keys.revoke: (ADMIN, lambda call, _: keys.revoke(call, "key_1", itself)),
    audit.read_page: (ADMIN, lambda call, _: audit.read_page(call, limit=10)),
    audit.find: (ADMIN, lambda call, _: audit.find(call, AuditFilter(), limit=10)),
    erasures.erase_user: (ADMIN, lambda call, _: erasures.erase_user(call, "nobody")),
    erasures.get: (ADMIN, lambda call, _: erasures.get(call, "era_none")),
    erasures.read_page: (ADMIN, lambda call, _: erasures.read_page(call, limit=10)),
    runs.read_page: (READ, lambda call, _: runs.read_page(call, RunFilter(), limit=10)),
    runs.start_in: (WRITE, lambda call, _: _start_in(call, "newer")),
    runs.read_all: (READ, lambda call, _: gathered(runs.read_all(call, RunFilter()))),
    agents.register: (ADMIN, lambda call, _: agents.register(call, "a", NewAgent(runner="echo"), itself)),
    agents.get: (READ, lambda call, _: agents.get(call, "a")),
    agents.read_page: (READ, lambda call, _: agents.read_page(call, limit=10)),
    agents.remove: (ADMIN, lambda call, _: agents.remove(call, "none", itself)),
}
ALSO_READ: Final = {messages.pop}
"""What changes something and shows what was there."""
NAMES: Final = {action: f"{action.__module__.rpartition('.')[2]}.{action.__name__}" for action in ON_A_SESSION}


def public_actions(module: ModuleType) -> list[Any]:
    """Return a module's functions that take a call first and may be asked for from above."""
    return [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and next(iter(inspect.signature(function).parameters), "") == "call"
        and (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function))
    ]


def test_every_action_is_in_these_tables() -> None:
    known = ON_A_SESSION | ON_A_RUN | ON_AN_INBOX | ON_A_MAIL | ON_A_WAIT | REMOVES | ON_A_WORKSPACE
    of_sessions = (sessions, messages, client_events, events, timeline, search)
    modules = (*of_sessions, keys, audit, runs, agents, inboxes, mails, waits, erasures)
    for module in modules:
        for action in public_actions(module):
            if action is audit.note_read:
                continue  # of a read that was allowed
            assert action in known, f"{module.__name__}.{action.__name__}"


async def make_inbox(call: Call, session_id: str) -> Inbox:
    return await inboxes.create(call, NewInbox(session_id=session_id), itself, domain="inbox.example")


def _approval(session_id: str) -> NewWait:
    return NewWait(type=WaitType.APPROVAL, session_id=session_id)


async def make_mine(engine: Engine) -> Session:
    await make_workspaces(engine)
    owner = caller(user_id="me")
    await create(engine, "s", by=owner)
    await append(engine, "s", "secret", by=owner)
    await agents.register(Call(engine, ME), "a", NewAgent(runner="echo"), itself)
    await sessions.patch(Call(engine, ME), "s", SessionPatch(agent_id="a"), itself)
    await runs.start(Call(engine, ME), "s", itself)
    inbox = await make_inbox(Call(engine, ME), "s")
    await mails.receive(Call(engine, ME), inbox.id, raw_mail("secret"), itself)
    await waits.create(Call(engine, ME), _approval("s"), itself)
    return await sessions.get(Call(engine, ME), "s")


STRANGERS: Final = {
    "another workspace": caller(workspace=ELSEWHERE),
    "the same user's name elsewhere": caller(workspace=ELSEWHERE, user_id="me"),
    "another user": caller(user_id="you"),
    "a user without a name": caller(user_id=""),
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
async def test_to_a_stranger_a_session_is_not_there(engine: Engine, stranger: Caller) -> None:
    mine = await make_mine(engine)
    log = await gathered(events.read_all(Call(engine, ME), mine))
    assert log

    for action, (_, act) in ON_A_SESSION.items():
        for if_match in (None, "*", mine.etag):
            with pytest.raises(NotFound) as refused:
                await act(Call(engine, stranger, if_match=if_match), mine)
            with pytest.raises(NotFound) as missing:
                await sessions.get(Call(engine, stranger), "never was")
            if action is not messages.get:
                assert refused.value.message == missing.value.message, NAMES[action]
    run = await _run_of(Call(engine, ME), mine)
    for action, (_, act) in ON_A_RUN.items():
        with pytest.raises(NotFound) as refused:
            await act(Call(engine, stranger), mine)
        with pytest.raises(NotFound) as missing:
            await runs.get(Call(engine, stranger), "never was")
        if action is not runs.follow_run:  # it is given a run that its caller was let read, and looks for its session
            assert refused.value.message == missing.value.message, action.__name__
    stranger_s = Call(engine, stranger)
    for table, get in (
        (ON_AN_INBOX | REMOVES, inboxes.get),
        (ON_A_MAIL, mails.get),
        (ON_A_WAIT, waits.get),
    ):
        for action, (_, act) in table.items():
            with pytest.raises(NotFound) as refused:
                await act(stranger_s, mine)
            with pytest.raises(NotFound) as missing:
                await get(stranger_s, "never was")
            assert refused.value.message == missing.value.message, action.__name__
    assert (await inboxes.read_page(stranger_s, InboxFilter(), limit=9)).inboxes == []
    assert (await inboxes.read_page(stranger_s, InboxFilter(session_id="s"), limit=9, with_total=True)).total == 0
    assert (await waits.read_page(stranger_s, WaitFilter(), limit=9)).waits == []
    assert (await waits.read_page(stranger_s, WaitFilter(session_id="s"), limit=9, with_total=True)).total == 0
    for wanted in (RunFilter(), RunFilter(session_ids=("s",)), RunFilter(agent_ids=("a",))):
        found = await runs.read_page(Call(engine, stranger), wanted, limit=10, with_total=True)
        assert (found.runs, found.total) == ([], 0)
    assert await runs.get(Call(engine, ME), run.id) == run
    page = await sessions.read_page(Call(engine, stranger), SessionFilter(), limit=10, with_total=True)
    narrowed = await sessions.read_page(
        Call(engine, stranger), SessionFilter(user_ids=("me",), ids=("s",)), limit=10, with_total=True
    )
    assert (page.sessions, page.total) == (narrowed.sessions, narrowed.total) == ([], 0)
    assert await sessions.get(Call(engine, ME), "s") == mine
    assert await gathered(events.read_all(Call(engine, ME), mine)) == log
    for _ in range(2):
        assert (await _find(stranger_s)).found == []
        assert len((await _find(Call(engine, ME))).found) == 1
        await index_all(engine)


async def test_an_id_taken_by_another_user_is_a_conflict_and_by_another_workspace_nobodys_business(
    engine: Engine,
) -> None:
    mine = await make_mine(engine)

    for if_exists in IfExists:
        with pytest.raises(Conflict):
            await sessions.create(
                Call(engine, caller(user_id="you")), NewSession(), itself, session_id="s", if_exists=if_exists
            )
    for bound_to in ("you", ""):
        for named in (None, "me"):
            with pytest.raises(Conflict):
                await _start_in(Call(engine, caller(user_id=bound_to)), "s", user_id=named)
    with pytest.raises(NotFound):
        await _start_in(Call(engine, caller(workspace=ELSEWHERE)), "s")
    await create(engine, "s", by=caller(workspace=ELSEWHERE))
    assert await sessions.get(Call(engine, ME), "s") == mine


@pytest.mark.parametrize("scope", Scope)
async def test_an_action_asks_for_its_scope_and_for_no_other(engine: Engine, scope: Scope) -> None:
    mine = await make_mine(engine)

    tables = (ON_AN_INBOX, ON_A_MAIL, ON_A_WAIT, REMOVES, ON_A_RUN, ON_A_SESSION, ON_A_WORKSPACE)
    for action, (needed, act) in [entry for table in tables for entry in table.items()]:
        without = caller(scopes=frozenset(Scope) - {scope})
        if scope is needed or (scope is READ and action in ALSO_READ):
            with pytest.raises(Forbidden, match=scope):
                await act(Call(engine, without), mine)
        else:
            with suppress(NotFound, Conflict):  # an earlier action in the table ended or removed what this one is for
                await act(Call(engine, without), mine)


@pytest.mark.parametrize("runner", ["command", "acp"])
async def test_only_the_host_scope_has_agents_start_programs(engine: Engine, runner: str) -> None:
    await make_workspaces(engine)
    without, program = caller(scopes=ALL_SCOPES - {HOST}), NewAgent(runner=runner, options={"command": "true"})
    await agents.register(Call(engine, ME), "theirs", program, itself)

    for new in (program, NewAgent(runner="echo")):
        with pytest.raises(Forbidden, match="host"):
            await agents.register(Call(engine, without), "theirs", new, itself)
    with pytest.raises(Forbidden, match="host"):
        await agents.register(Call(engine, without), "mine", program, itself)
    assert (await agents.get(Call(engine, ME), "theirs")).runner == runner


async def test_an_agent_is_its_workspaces_own(engine: Engine) -> None:
    await make_mine(engine)
    stranger = Call(engine, caller(workspace=ELSEWHERE))

    assert await agents.read_page(stranger, limit=10) == []
    with pytest.raises(NotFound):
        await agents.get(stranger, "a")
    with pytest.raises(NotFound):
        await agents.remove(stranger, "a", itself)
    assert (await agents.register(stranger, "a", NewAgent(runner="echo", retries=9), itself)).new
    assert (await agents.get(Call(engine, ME), "a")).retries == 2


async def test_a_caller_bound_to_a_user_sees_and_makes_that_users_sessions_only(engine: Engine) -> None:
    bound = caller(user_id="me")
    await create(engine, "mine", by=bound)
    await create(engine, "theirs", by=caller(user_id="you"))
    await create(engine, "nobodys")

    async def listed(wanted: SessionFilter) -> tuple[list[str], int | None]:
        page = await sessions.read_page(Call(engine, bound), wanted, limit=10, with_total=True)
        return [session.id for session in page.sessions], page.total

    assert await listed(SessionFilter()) == (["mine"], 1)
    assert await listed(SessionFilter(user_ids=("me", "you"))) == (["mine"], 1)
    assert await listed(SessionFilter(user_ids=("you",))) == ([], 0)
    assert (await sessions.get(Call(engine, bound), "mine")).user_id == "me"
    with pytest.raises(Forbidden):
        await sessions.create(Call(engine, bound), NewSession(user_id="you"), itself, session_id="x")
    for given_away in ("you", None):
        with pytest.raises(Forbidden):
            await sessions.patch(Call(engine, bound), "mine", SessionPatch(user_id=given_away), itself)
    assert (await sessions.get(Call(engine, ME), "mine")).user_id == "me"


async def test_keys_and_the_audit_log_are_the_workspaces_own(engine: Engine) -> None:
    await make_mine(engine)
    key = (await keys.create(Call(engine, ME), NewKey(name="k"), itself)).key
    await sessions.delete(Call(engine, ME), "s", itself)
    stranger = Call(engine, caller(workspace=ELSEWHERE))

    assert await keys.read_page(stranger, limit=10) == []
    assert await audit.read_page(stranger, limit=10) == ([], 0)
    with pytest.raises(NotFound):
        await keys.revoke(stranger, key.id, itself)
    assert (await keys.read_page(Call(engine, ME), limit=10)) == [key]
    entries, total = await audit.read_page(Call(engine, ME), limit=10)
    assert [entry.event for entry in entries] == ["deleteSession", "createKey", "createAgent"]
    assert (total, entries[0].record_locator) == (3, b'{"id":"s"}')
    assert key.workspace_id == HERE
