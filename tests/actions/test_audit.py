"""The audit log: what is noted in it, and that what was done to it by hand is found."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from sessiond.actions import agents, audit, keys, sessions, workspaces
from sessiond.actions.audit import Verdict
from sessiond.actions.call import Call, itself
from sessiond.actions.keys import NewKey
from sessiond.core.agent import NewAgent
from sessiond.core.audit import AuditEntry, AuditFilter, Noted, Why
from sessiond.core.caller import Scope
from sessiond.core.errors import Forbidden, NotFound
from sessiond.storage import audit as stored
from sessiond.storage.engine import Engine, Tx
from tests.actions.calling import ELSEWHERE, HERE, ME, caller, create, make_workspaces, retried
from tests.storage.making import execute, query

COLUMNS: Final = "at_us, actor, event, record_locator, address, result, hash"


async def make_log(engine: Engine, entries: int = 5) -> None:
    await make_workspaces(engine)

    async def operation(tx: Tx) -> None:
        for workspace_id in (HERE, ELSEWHERE):
            for number in range(entries):
                locator = {"id": f"s{number}"}
                await stored.append(
                    tx, workspace_id, "deleteSession", locator, actor="k", at_us=number, address="127.0.0.1"
                )

    await engine.write(operation)


async def verify(engine: Engine, *, noted: Noted | None = None) -> tuple[int, Why] | None:
    verdict = await audit.verify(engine, HERE, noted=noted)
    return (verdict.fault.seq, verdict.fault.why) if verdict.fault is not None else None


async def listed(engine: Engine) -> list[AuditEntry]:
    """Return the entries, oldest first."""
    found, more = await audit.find(Call(engine, ME), AuditFilter(), limit=100)
    assert not more
    return found[::-1]


def events(entries: list[AuditEntry]) -> list[tuple[str, str, object]]:
    return [(entry.event, entry.actor, msgspec.json.decode(entry.record_locator)) for entry in entries]


async def test_a_log_that_nobody_touched_is_good(engine: Engine) -> None:
    await make_log(engine)
    seen: list[tuple[int, int]] = []

    verdict = await audit.verify(engine, HERE, progress=lambda done, total: seen.append((done, total)))

    newest = (await listed(engine))[-1]
    assert verdict == Verdict(5, 0, newest.hash, None)
    assert seen == [(5, 5)]
    assert await audit.verify(engine, ELSEWHERE) != verdict


async def test_an_empty_log_is_good(engine: Engine) -> None:
    await make_workspaces(engine)

    assert await audit.verify(engine, HERE) == Verdict(0, 0, None, None)


BLOB: Final = {"sqlite": "x'7b7d'", "postgres": "'\\x7b7d'::bytea"}
UP: Final = (
    "update audit set seq = -seq where workspace_id = 'here' and seq >= 3;"
    "update audit set seq = 1 - seq where workspace_id = 'here' and seq < 0"
)
INSERT: Final = (
    f"insert into audit (workspace_id, seq, {COLUMNS})"
    f" select workspace_id, {{}}, {COLUMNS} from audit where workspace_id = 'here' and seq = 2"
)

DONE_BY_HAND: Final = {
    "its time": ("update audit set at_us = 9 where workspace_id = 'here' and seq = 3", (3, Why.CHANGED)),
    "its actor": ("update audit set actor = 'x' where workspace_id = 'here' and seq = 3", (3, Why.CHANGED)),
    "its event": ("update audit set event = 'x' where workspace_id = 'here' and seq = 1", (1, Why.CHANGED)),
    "its record": (
        "update audit set record_locator = BLOB where workspace_id = 'here' and seq = 5",
        (5, Why.CHANGED),
    ),
    "its address": ("update audit set address = '::1' where workspace_id = 'here' and seq = 3", (3, Why.CHANGED)),
    "no address": ("update audit set address = null where workspace_id = 'here' and seq = 3", (3, Why.CHANGED)),
    "its result": ("update audit set result = '' where workspace_id = 'here' and seq = 3", (3, Why.CHANGED)),
    "its hash": ("update audit set hash = BLOB where workspace_id = 'here' and seq = 3", (3, Why.CHANGED)),
    "no hash": ("update audit set hash = null where workspace_id = 'here' and seq = 3", (3, Why.CHANGED)),
    "its number": ("update audit set seq = 9 where workspace_id = 'here' and seq = 3", (3, Why.MISSING)),
    "its workspace": (
        "update audit set workspace_id = 'nowhere' where workspace_id = 'here' and seq = 3",
        (3, Why.MISSING),
    ),
    "the first removed": ("delete from audit where workspace_id = 'here' and seq = 1", (1, Why.MISSING)),
    "one removed": ("delete from audit where workspace_id = 'here' and seq = 3", (3, Why.MISSING)),
    "the last removed": ("delete from audit where workspace_id = 'here' and seq = 5", (5, Why.MISSING)),
    "all removed": ("delete from audit where workspace_id = 'here'", (1, Why.MISSING)),
    "one added behind": (INSERT.format(6), (6, Why.INSERTED)),
    "one added far behind": (INSERT.format(60), (60, Why.INSERTED)),
    "one added in front": (INSERT.format(-7), (-7, Why.INSERTED)),
    "one added behind, and counted": (
        f"{INSERT.format(6)};update audit set hash = null where workspace_id = 'here' and seq = 6;"
        "update workspaces set audit_seq = 6 where id = 'here'",
        (6, Why.UNCHAINED),
    ),
    "one added between": (
        f"{UP};{INSERT.format(3)};update workspaces set audit_seq = 6, audit_chained = 6 where id = 'here'",
        (3, Why.CHANGED),
    ),
    "two swapped": (
        "update audit set seq = 20 where workspace_id = 'here' and seq = 2;"
        "update audit set seq = 2 where workspace_id = 'here' and seq = 4;"
        "update audit set seq = 4 where workspace_id = 'here' and seq = 20",
        (2, Why.CHANGED),
    ),
    "another workspace's": (
        "delete from audit where workspace_id = 'here' and seq = 3;"
        "update audit set workspace_id = 'here' where workspace_id = 'elsewhere' and seq = 3",
        (3, Why.CHANGED),
    ),
    "the head's number raised": ("update workspaces set audit_seq = 6 where id = 'here'", (6, Why.MISSING)),
    "the head's number lowered": ("update workspaces set audit_seq = 4 where id = 'here'", (4, Why.HEAD)),
    "the head lowered": (
        "update workspaces set audit_seq = 4, audit_chained = 4, audit_hash ="
        " (select hash from audit where workspace_id = 'here' and seq = 4) where id = 'here'",
        (5, Why.INSERTED),
    ),
    "the head's hash": ("update workspaces set audit_hash = BLOB where id = 'here'", (5, Why.HEAD)),
    "no hash in the head": ("update workspaces set audit_hash = null where id = 'here'", (5, Why.HEAD)),
    "the head's chain": ("update workspaces set audit_chained = 3 where id = 'here'", (3, Why.HEAD)),
    "no chain in the head": ("update workspaces set audit_chained = 0 where id = 'here'", (1, Why.INSERTED)),
}


@pytest.mark.parametrize("what", DONE_BY_HAND)
async def test_what_is_done_by_hand_is_found_where_it_was_done(engine: Engine, database: str, what: str) -> None:
    await make_log(engine)
    sql, expected = DONE_BY_HAND[what]

    for statement in sql.replace("BLOB", BLOB[engine.name]).split(";"):
        await execute(database, statement)

    assert await verify(engine) == expected


async def test_a_log_that_was_written_anew_is_found_by_a_hash_that_was_noted(engine: Engine, database: str) -> None:
    await make_log(engine)
    hash_of_three = (await listed(engine))[2].hash
    assert hash_of_three is not None
    noted = Noted(3, hash_of_three)
    assert await verify(engine, noted=noted) is None
    await execute(database, "delete from audit where workspace_id = 'here'")
    await execute(
        database, "update workspaces set audit_seq = 0, audit_chained = 0, audit_hash = null where id = 'here'"
    )

    assert await verify(engine) is None
    assert await verify(engine, noted=noted) == (1, Why.MISSING)
    await make_log(engine, entries=4)
    assert await verify(engine, noted=noted) is None, "it says just the same again"
    await sessions_gone(engine)
    assert await verify(engine, noted=Noted(5, hash_of_three)) == (5, Why.CHANGED)


async def sessions_gone(engine: Engine) -> None:
    await create(engine, "s")
    await sessions.delete(Call(engine, ME), "s", itself)


async def test_an_older_releases_log_is_said_to_be_unchained_until_something_is_added(
    engine: Engine, database: str
) -> None:
    await make_log(engine)
    await execute(database, "update audit set hash = null where workspace_id = 'here'")
    await execute(database, "update workspaces set audit_chained = 0, audit_hash = null where id = 'here'")
    assert await audit.verify(engine, HERE) == Verdict(5, 5, None, None)

    await sessions_gone(engine)

    verdict = await audit.verify(engine, HERE)
    assert (verdict.entries, verdict.unchained, verdict.fault) == (7, 0, None)
    await execute(database, "update audit set actor = 'x' where workspace_id = 'here' and seq = 2")
    assert await verify(engine) == (2, Why.CHANGED)


async def test_entries_that_are_taken_into_the_chain_meanwhile_are_no_fault(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_log(engine)
    await execute(database, "update audit set hash = null where workspace_id = 'here'")
    await execute(database, "update workspaces set audit_chained = 0, audit_hash = null where id = 'here'")
    monkeypatch.setattr(audit, "BATCH_MAX", 2)
    began = await audit.get_head(engine, HERE)
    await sessions_gone(engine)
    heads = iter([began])

    async def get_head(engine: Engine, workspace_id: object) -> object:
        return next(heads, None) or await real(engine, HERE)

    real = audit.get_head
    monkeypatch.setattr(audit, "get_head", get_head)

    verdict = await audit.verify(engine, HERE)

    assert (verdict.entries, verdict.fault) == (7, None)


async def test_who_made_and_changed_what_is_noted_with_where_from(engine: Engine) -> None:
    await make_workspaces(engine)

    def call() -> Call:
        return Call(engine, ME, address="192.0.2.7")

    made = await keys.create(call(), NewKey(user_id="ada"), itself)
    await keys.revoke(call(), made.key.id, itself)
    for history in (3, 4):
        await agents.register(call(), "a", NewAgent(runner="echo", history=history), itself)
    await agents.remove(call(), "a", itself)
    await create(engine, "s")
    await sessions.delete(call(), "s", itself)

    entries = await listed(engine)
    key = {"id": made.key.id, "scopes": "sessions:read sessions:write", "user_id": "ada"}
    agent = {"id": "a", "runner": "echo"}
    assert events(entries) == [
        ("createKey", "key_1", key),
        ("revokeKey", "key_1", {"id": made.key.id}),
        ("createAgent", "key_1", agent),
        ("updateAgent", "key_1", agent),
        ("deleteAgent", "key_1", {"id": "a"}),
        ("deleteSession", "key_1", {"id": "s"}),
    ]
    assert {(entry.address, entry.result) for entry in entries} == {("192.0.2.7", "ok")}
    assert made.secret.encode() not in b"".join(entry.record_locator for entry in entries)


async def test_what_the_operator_changes_is_noted(engine: Engine) -> None:
    await workspaces.begin(engine)
    await make_workspaces(engine)
    await workspaces.set_retention(engine, "here", 60)
    found = await workspaces.set_audit_reads(engine, "here", wanted=True)

    assert (found.audit_reads, found.sealed, found.audits_reads) == (True, False, False)
    assert events(await listed(engine)) == [
        ("updateWorkspace", "operator", {"id": "here", "retention_seconds": 60}),
        ("updateWorkspace", "operator", {"id": "here", "audit_reads": "on"}),
    ]
    first = Call(engine, caller(workspace=workspaces.DEFAULT))
    found_first, _ = await audit.find(first, AuditFilter(), limit=9)
    assert [entry.event for entry in found_first] == ["createKey", "createAgent"]
    with pytest.raises(NotFound):
        await workspaces.set_audit_reads(engine, "nowhere", wanted=True)


async def test_what_is_refused_or_answered_again_is_not_noted(engine: Engine, database: str) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    weak = caller(scopes=frozenset({Scope.SESSIONS_READ}))

    with pytest.raises(Forbidden):
        await sessions.delete(Call(engine, weak), "s", itself)
    with pytest.raises(NotFound):
        await keys.revoke(Call(engine, ME), "none", itself)
    for _ in range(2):
        await keys.create(Call(engine, ME, retry=retried("k")), NewKey(), lambda made: made.key.id)

    assert [entry.event for entry in await listed(engine)] == ["createKey"]
    assert await query(database, "select count(*) from keys") == [(1,)]


async def test_a_log_is_its_workspaces_own_and_the_administrators(engine: Engine) -> None:
    await make_log(engine)
    weak = caller(scopes=frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE}))
    stranger = Call(engine, caller(workspace=ELSEWHERE))
    await sessions_gone(engine)

    with pytest.raises(Forbidden):
        await audit.find(Call(engine, weak), AuditFilter(), limit=9)
    entries, _ = await audit.find(stranger, AuditFilter(), limit=9)
    assert len(entries) == 5
    page, more = await audit.find(Call(engine, ME), AuditFilter(), before=4, limit=2)
    assert ([entry.seq for entry in page], more) == ([3, 2], True)


async def test_a_read_is_noted_with_its_route_and_the_ids_in_it(engine: Engine) -> None:
    await make_workspaces(engine)

    await audit.note_read(Call(engine, ME), route="GET /v1/sessions/{session_id}", records={"session_id": "s" * 999})

    locator = {"route": "GET /v1/sessions/{session_id}", "session_id": "s" * 200}
    assert events(await listed(engine)) == [("readSealed", "key_1", locator)]
