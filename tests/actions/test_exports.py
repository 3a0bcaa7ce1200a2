"""What an export holds: of whom, of which moment, and for whom."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from sessiond.actions import exports, sessions
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.bundle import Scope, Subject
from sessiond.core.caller import Scope as KeyScope
from sessiond.core.errors import Forbidden, NotFound, Unavailable
from sessiond.core.session import NewSession
from sessiond.storage import events
from sessiond.storage.engine import Engine, Tx
from tests.actions.bundling import THERE, WHOLE, bring, bundle, fill
from tests.actions.calling import HERE, ME, append, caller, create, make_workspaces, text
from tests.actions.mailing import make_inbox, make_wait
from tests.actions.working import get_session


def records(lines: list[bytes], kind: str | None = None) -> list[dict[str, Any]]:
    found = [msgspec.json.decode(line) for line in lines]
    return [record for record in found if kind is None or record["type"] == kind]


def ids(lines: list[bytes], kind: str = "session") -> list[str]:
    return [record["id"] for record in records(lines, kind)]


async def make_two_users(engine: Engine) -> None:
    await make_workspaces(engine)
    for user in ("ada", "ben"):
        for number in range(2):
            new = NewSession(user_id=user, agent_id="a" if number else None)
            await sessions.create(
                Call(engine, ME), new, itself, session_id=f"{user}{number}", messages=[text(f"{user}'s")]
            )
        await make_inbox(engine, user_id=user)
        await make_wait(engine, "approval", user_id=user)
    await create(engine, "nobodys")


async def test_a_workspace_has_all_and_a_part_its_own(engine: Engine) -> None:
    await make_two_users(engine)

    assert ids(await bundle(engine)) == ["ada0", "ada1", "ben0", "ben1", "nobodys"]
    assert ids(await bundle(engine, Subject(Scope.AGENT, "a"))) == ["ada1", "ben1"]
    of_ada = await bundle(engine, Subject(Scope.USER, "ada"))
    assert ids(of_ada) == ["ada0", "ada1"]
    assert {record["user_id"] for record in (*records(of_ada, "inbox"), *records(of_ada, "wait"))} == {"ada"}
    assert ids(await bundle(engine, Subject(Scope.SESSION, "nobodys"))) == ["nobodys"]
    assert ids(await bundle(engine, Subject(Scope.USER, "nobody"))) == []
    assert ids(await bundle(engine, by=THERE)) == []


async def test_who_is_bound_to_a_user_exports_what_is_theirs(engine: Engine) -> None:
    await make_two_users(engine)
    ada = caller(user_id="ada", scopes=frozenset({KeyScope.SESSIONS_READ}))
    whole = await bundle(engine, Subject(Scope.USER, "ada"))

    assert await bundle(engine, by=ada) == whole
    assert await bundle(engine, Subject(Scope.USER, "ada"), by=ada) == whole
    assert ids(await bundle(engine, Subject(Scope.SESSION, "ada0"), by=ada)) == ["ada0"]
    for subject in (Subject(Scope.USER, "ben"), Subject(Scope.AGENT, "a")):
        with pytest.raises(Forbidden):
            await bundle(engine, subject, by=ada)
    for session_id in ("ben0", "nobodys", "never was"):
        with pytest.raises(NotFound):
            await bundle(engine, Subject(Scope.SESSION, session_id), by=ada)


async def test_others_need_to_administer(engine: Engine) -> None:
    await make_two_users(engine)
    reader = caller(scopes=frozenset({KeyScope.SESSIONS_READ, KeyScope.SESSIONS_WRITE}))

    for subject in (WHOLE, Subject(Scope.USER, "ada"), Subject(Scope.SESSION, "ada0")):
        with pytest.raises(Forbidden):
            await bundle(engine, subject, by=reader)
    with pytest.raises(Forbidden):
        await bundle(engine, by=caller(user_id="ada", scopes=frozenset({KeyScope.SESSIONS_WRITE})))


async def test_a_session_is_of_one_moment_whatever_is_written_meanwhile(engine: Engine) -> None:
    await fill(engine)
    before = records(await bundle(engine, Subject(Scope.SESSION, "s")))
    lines = list[bytes]()
    async with aclosing(exports.export(Call(engine, ME), Subject(Scope.SESSION, "s"))) as export:
        async for line in export:
            lines.append(line)
            if len(lines) == 3:
                await append(engine, "s", "meanwhile")
                await sessions.complete(Call(engine, ME), "s", itself)

    assert [record for record in records(lines) if record["type"] != "bundle"] == before[1:]
    assert (await get_session(engine)).status == "completed"


async def test_of_a_session_that_is_deleted_meanwhile_there_is_all_or_nothing(engine: Engine) -> None:
    await make_workspaces(engine)
    for name in ("a", "b", "c"):
        await create(engine, name)
        await append(engine, name, "x")
    lines = list[bytes]()
    async with aclosing(exports.export(Call(engine, ME), WHOLE)) as export:
        async for line in export:
            lines.append(line)
            if line.startswith(b'{"type":"session","id":"a"'):
                await sessions.delete(Call(engine, ME), "a", itself)
                await sessions.delete(Call(engine, ME), "b", itself)
                await create(engine, "d")

    assert ids(lines) == ["a", "c"]
    assert (await bring(engine, lines, by=THERE)).added["events"] == 4


async def test_a_session_whose_agent_changes_meanwhile_is_not_that_agents(engine: Engine) -> None:
    await make_two_users(engine)
    lines = list[bytes]()
    async with aclosing(exports.export(Call(engine, ME), Subject(Scope.AGENT, "a"))) as export:
        async for line in export:
            lines.append(line)
            if len(lines) == 2:
                await sessions.patch(Call(engine, ME), "ben1", SessionPatch(agent_id="b"), itself)

    assert ids(lines) == ["ada1"]


async def test_a_session_whose_log_has_begun_to_go_is_gone(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await create(engine, "t")
    await append(engine, "s", "x")

    async def remove(tx: Tx) -> int:
        return await events.remove_some(tx, HERE, "s", limit=1)

    await engine.write(remove)

    assert ids(await bundle(engine)) == ["t"]


async def test_more_than_a_page_of_each_kind_is_exported(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(engine)
    whole = await bundle(engine)
    monkeypatch.setattr(exports, "PAGE", 1)
    monkeypatch.setattr(exports, "PAGE_MAX", 2)

    assert await bundle(engine) == whole


async def test_progress_is_told(engine: Engine) -> None:
    await make_two_users(engine)
    whole, one = exports.Progress(), exports.Progress()

    await bundle(engine, progress=whole)
    await bundle(engine, Subject(Scope.SESSION, "ada0"), progress=one)

    assert (whole.sessions, whole.total, one.sessions, one.total) == (5, 5, 1, 1)


async def test_an_export_that_is_taken_too_slowly_ends(engine: Engine) -> None:
    await make_two_users(engine)

    with pytest.raises(Unavailable):
        await bundle(engine, moment_max_seconds=-1)
    assert ids(await bundle(engine, moment_max_seconds=60))


async def test_an_export_that_is_given_up_holds_nothing(engine: Engine) -> None:
    await make_two_users(engine)
    for _ in range(20):  # more than there are connections
        async with aclosing(exports.export(Call(engine, ME), WHOLE)) as export:
            async for line in export:
                if line.startswith(b'{"type":"event"'):
                    break

    assert len(ids(await bundle(engine))) == 5


async def test_exports_go_on_beside_one_another(engine: Engine) -> None:
    await make_two_users(engine)
    whole = await bundle(engine)

    assert await asyncio.gather(*(bundle(engine) for _ in range(4))) == [whole] * 4


async def test_an_export_of_an_agent_that_is_not_registered_has_its_sessions(engine: Engine) -> None:
    await make_two_users(engine)

    lines = await bundle(engine, Subject(Scope.AGENT, "a"))

    assert records(lines, "agent") == []
    assert ids(lines) == ["ada1", "ben1"]
