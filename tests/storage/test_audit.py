"""The audit log as rows."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from sessiond.core.audit import AuditEntry, AuditFilter, Check, Head
from sessiond.core.caller import Workspace
from sessiond.core.ids import WorkspaceId
from sessiond.storage import audit, workspaces
from sessiond.storage.engine import Engine, Tx
from tests.storage.making import ELSEWHERE, NOW, WORKSPACE, another_engine, execute


async def test_entries_are_numbered_without_gaps_and_read_newest_first(engine: Engine) -> None:
    async def prepare(tx: Tx) -> None:
        await audit.append(tx, ELSEWHERE, "x", {}, actor="k", at_us=NOW)

    async def note(number: int) -> None:
        async def operation(tx: Tx) -> None:
            await audit.append(tx, WORKSPACE, "deleteSession", {"id": f"s{number}"}, actor="k", at_us=NOW + number)
            if number % 5 == 0:
                raise LookupError

        if number % 5 == 0:
            with pytest.raises(LookupError):
                await engine.write(operation)
        else:
            await engine.write(operation)

    async def page(limit: int, offset: int) -> tuple[list[AuditEntry], int]:
        async def operation(tx: Tx) -> tuple[list[AuditEntry], int]:
            return await audit.read_page(tx, WORKSPACE, limit=limit, offset=offset)

        return await engine.read(operation)

    await make_workspaces(engine)
    await engine.write(prepare)
    await asyncio.gather(*(note(number) for number in range(25)))

    entries, total = await page(100, 0)
    assert total == 20
    assert [entry.seq for entry in entries] == list(range(20, 0, -1))
    assert {msgspec.json.decode(entry.record_locator)["id"] for entry in entries} == {
        f"s{number}" for number in range(25) if number % 5
    }
    assert ([entry.seq for entry in (await page(3, 4))[0]]) == [16, 15, 14]
    assert await page(3, 20) == await page(3, 2**53) == ([], 20)


async def make_workspaces(engine: Engine) -> None:
    async def operation(tx: Tx) -> None:
        for number, workspace in enumerate((WORKSPACE, ELSEWHERE)):
            await workspaces.insert(tx, Workspace(workspace, f"{number}" * 64, NOW))

    await engine.write(operation)


async def append(engine: Engine, *events: str, actor: str = "k", **said: Any) -> None:
    async def operation(tx: Tx) -> None:
        for event in events:
            await audit.append(tx, WORKSPACE, event, {"id": "s"}, actor=actor, at_us=NOW, **said)

    await engine.write(operation)


async def read_log(engine: Engine, workspace_id: WorkspaceId = WORKSPACE) -> tuple[list[AuditEntry], Head]:
    async def operation(tx: Tx) -> tuple[list[AuditEntry], Head]:
        head = await audit.get_head(tx, workspace_id)
        return await audit.read_range(tx, workspace_id, first=1, last=head.seq, limit=10_000), head

    return await engine.scan(operation)


def is_good(log: list[AuditEntry], head: Head, workspace_id: WorkspaceId = WORKSPACE) -> bool:
    check = Check(workspace_id, head)
    return not any(check.take(entry) for entry in log) and check.finish() is None


async def test_what_is_added_at_once_from_two_processes_is_one_chain_in_each_log(engine: Engine, database: str) -> None:
    await make_workspaces(engine)

    async def add(through: Engine, number: int) -> None:
        async def operation(tx: Tx) -> None:
            workspace = ELSEWHERE if number % 3 == 0 else WORKSPACE
            await audit.append(tx, workspace, f"e{number}", {}, actor="k", at_us=NOW)
            if number % 7 == 0:
                raise LookupError

        with suppress(LookupError):
            await through.write(operation)

    async with another_engine(database) as other:
        await asyncio.gather(*(add((engine, other)[number % 2], number) for number in range(60)))

    for workspace_id in (WORKSPACE, ELSEWHERE):
        log, head = await read_log(engine, workspace_id)
        assert [entry.seq for entry in log] == list(range(1, head.seq + 1))
        assert is_good(log, head, workspace_id)
        assert not is_good(log, head, WorkspaceId("another"))
    assert (await read_log(engine))[1].seq == sum(bool(number % 3 and number % 7) for number in range(60))


async def test_an_entry_is_kept_as_it_was_said(engine: Engine) -> None:
    await make_workspaces(engine)

    await append(engine, "a", actor="key_1", address="2001:db8::1", result="refused")

    ((entry,), head) = await read_log(engine)
    expected = AuditEntry(1, NOW, "key_1", "a", b'{"id":"s"}', "2001:db8::1", "refused", entry.hash)
    assert (entry, head) == (expected, Head(1, 1, entry.hash))


OLD = "insert into audit (workspace_id, seq, at_us, actor, event, record_locator) values ('here', {}, 5, 'k', 'e', {})"


async def add_old(engine: Engine, database: str, *seqs: int) -> None:
    """Add entries as the release before this one does."""
    body = "x'7b7d'" if engine.name == "sqlite" else "'\\x7b7d'::bytea"
    for seq in seqs:
        await execute(database, OLD.format(seq, body))
    await execute(database, f"update workspaces set audit_seq = {seqs[-1]} where id = 'here'")


async def test_entries_of_an_older_release_are_taken_into_the_chain_which_the_log_says(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "BATCH_MAX", 2)
    await make_workspaces(engine)
    await add_old(engine, database, 1, 2, 3, 4, 5)
    assert [entry.hash for entry in (await read_log(engine))[0]] == [None] * 5

    await append(engine, "first", "second")

    log, head = await read_log(engine)
    assert is_good(log, head)
    assert [entry.event for entry in log] == ["e"] * 5 + ["chainEntries", "first", "second"]
    assert (log[5].actor, log[5].record_locator) == ("sessiond", b'{"from":1,"to":5}')
    await add_old(engine, database, 9)
    await append(engine, "third")
    log, head = await read_log(engine)
    assert is_good(log, head)
    assert [(entry.event, entry.record_locator) for entry in log[8:]] == [
        ("e", b"{}"),
        ("chainEntries", b'{"from":9,"to":9}'),
        ("third", b'{"id":"s"}'),
    ]


async def test_entries_are_found_by_event_actor_and_time(engine: Engine) -> None:
    await make_workspaces(engine)
    for at_us in range(6):
        await append_at(engine, at_us)

    async def found(before: int | None = None, limit: int = 9, **wanted: Any) -> list[int]:
        async def operation(tx: Tx) -> list[AuditEntry]:
            return await audit.read_some(tx, WORKSPACE, AuditFilter(**wanted), before=before, limit=limit)

        return [entry.seq for entry in await engine.scan(operation)]

    assert await found() == [6, 5, 4, 3, 2, 1]
    assert await found(before=4, limit=2) == [3, 2]
    assert await found(events=("e0",)) == [5, 3, 1]
    assert await found(events=("e0", "e1"), actors=("a2",)) == [6, 3]
    assert await found(from_us=2, before_us=4) == [4, 3]
    assert await found(events=("none",)) == []


async def append_at(engine: Engine, at_us: int) -> None:
    async def operation(tx: Tx) -> None:
        await audit.append(tx, WORKSPACE, f"e{at_us % 2}", {}, actor=f"a{at_us % 3}", at_us=at_us)

    await engine.write(operation)
