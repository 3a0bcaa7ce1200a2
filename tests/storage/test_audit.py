"""The audit log as rows."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from sessiond.core.audit import AuditEntry
from sessiond.core.caller import Workspace
from sessiond.storage import audit, workspaces
from sessiond.storage.engine import Engine, Tx
from tests.storage.making import ELSEWHERE, NOW, WORKSPACE


async def test_entries_are_numbered_without_gaps_and_read_newest_first(engine: Engine) -> None:
    async def prepare(tx: Tx) -> None:
        for number, workspace in enumerate((WORKSPACE, ELSEWHERE)):
            await workspaces.insert(tx, Workspace(workspace, f"{number}" * 64, NOW))
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
