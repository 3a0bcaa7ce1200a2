"""Failed authentication in the audit log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sessiond.actions import audit, keys, workspaces
from sessiond.actions.call import Call, itself
from sessiond.actions.keys import MadeKey, NewKey
from sessiond.auth import refusals
from sessiond.auth.keys import Authenticator
from sessiond.auth.refusals import Refusals
from sessiond.core.audit import AuditEntry, AuditFilter
from sessiond.core.errors import Unauthenticated, Unavailable
from sessiond.core.ids import KeyId, WorkspaceId
from sessiond.storage.engine import Engine
from tests.storage.making import another_engine

Entry = tuple[str, str | None, str, dict[str, Any]]


async def operator_call(engine: Engine, workspace_id: str) -> Call:
    return Call(engine, workspaces.operator(await workspaces.get(engine, workspace_id)))


async def read_failures(engine: Engine, workspace_id: str) -> list[AuditEntry]:
    """Return the entries, oldest first."""
    wanted = AuditFilter(events=("failedAuthentication",))
    found, _ = await audit.find(await operator_call(engine, workspace_id), wanted, limit=1_000)
    return found[::-1]


async def read_shown(engine: Engine, workspace_id: str) -> list[Entry]:
    return sorted(
        [
            (entry.actor, entry.address, entry.result, msgspec.json.decode(entry.record_locator))
            for entry in await read_failures(engine, workspace_id)
        ],
        key=str,
    )


async def make_key(engine: Engine, workspace_id: str = "w", **new: Any) -> MadeKey:
    return await keys.create(await operator_call(engine, workspace_id), NewKey(**new), itself)


async def refuse(authenticator: Authenticator, header: str | None, address: str = "192.0.2.1") -> None:
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(header, address=address)


async def test_a_known_key_that_is_no_longer_good_is_noted_in_its_workspace(engine: Engine) -> None:
    await workspaces.begin(engine)
    await workspaces.create(engine, "w")
    revoked, expired = await make_key(engine), await make_key(engine, expires_at_us=1)
    await keys.revoke(await operator_call(engine, "w"), revoked.key.id, itself)
    authenticator = Authenticator(engine)

    for _ in range(3):
        await refuse(authenticator, f"Bearer {revoked.secret}")
    await refuse(authenticator, f"Bearer {expired.secret}", "2001:db8::1")
    await authenticator.refusals.write()

    assert await read_shown(engine, "w") == sorted(
        [
            (
                revoked.key.id,
                "192.0.2.1",
                "refused",
                {"reason": "revoked", "count": 3, "key_id": revoked.key.id},
            ),
            (
                expired.key.id,
                "2001:db8::1",
                "refused",
                {"reason": "expired", "count": 1, "key_id": expired.key.id},
            ),
        ],
        key=str,
    )
    assert await read_shown(engine, "default") == []
    for entry in await read_failures(engine, "w"):
        assert revoked.secret[3:].encode() not in msgspec.json.encode(entry.record_locator)
    assert (await audit.verify(engine, WorkspaceId("w"))).fault is None


@pytest.mark.parametrize("with_default", [True, False])
async def test_what_belongs_to_no_workspace_is_noted_in_the_operators(engine: Engine, with_default: bool) -> None:
    await workspaces.create(engine, "oldest")
    await workspaces.create(engine, "newer")
    if with_default:
        await workspaces.begin(engine)
    authenticator = Authenticator(engine)

    for header in (None, "Basic eA==", "Bearer sd_unknown"):
        await refuse(authenticator, header)
    await authenticator.refusals.write()

    place, other = ("default", "oldest") if with_default else ("oldest", "newer")
    assert await read_shown(engine, place) == [
        ("unknown", "192.0.2.1", "refused", {"reason": reason, "count": 1})
        for reason in ("malformed", "missing", "unknown")
    ]
    assert await read_shown(engine, other) == []


async def test_a_good_key_is_not_noted(engine: Engine) -> None:
    await workspaces.create(engine, "w")
    authenticator, made = Authenticator(engine), await make_key(engine)

    await authenticator.authenticate(f"Bearer {made.secret}", address="192.0.2.1")
    await authenticator.refusals.write()

    assert await read_failures(engine, "w") == []


async def test_a_flood_is_a_bounded_number_of_entries_that_count_it(engine: Engine) -> None:
    await workspaces.create(engine, "w")
    await workspaces.create(engine, "x")
    gathered = Refusals(engine)

    for number in range(3_000):
        workspace = WorkspaceId("wx"[number % 2])
        gathered.note(
            f"reason {number % 300}", address=f"a{number}", workspace_id=workspace, key_id=KeyId(f"k{number}")
        )
    await gathered.write()

    entries = [*await read_failures(engine, "w"), *await read_failures(engine, "x")]
    assert len(entries) <= refusals.REASONS_MAX + 1
    assert sum(msgspec.json.decode(entry.record_locator)["count"] for entry in entries) == 3_000
    lumped = [entry for entry in entries if entry.address is None]
    assert len(lumped) >= refusals.REASONS_MAX - refusals.DISTINCT_MAX
    assert all(msgspec.json.decode(entry.record_locator)["addresses"] == "several" for entry in lumped)
    assert any(msgspec.json.decode(entry.record_locator)["reason"] == refusals.VARIOUS for entry in lumped)


async def test_the_first_is_written_at_once_and_more_of_them_together(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workspaces.create(engine, "w")
    gathered = Refusals(engine)
    await gathered.write_due()
    gathered.note(refusals.MISSING, address=None)
    await gathered.write_due()
    assert len(await read_failures(engine, "w")) == 1

    for _ in range(5):
        gathered.note(refusals.MISSING, address=None)
        await gathered.write_due()

    assert len(await read_failures(engine, "w")) == 1
    monkeypatch.setattr(refusals, "GATHER_SECONDS", 0.0)
    await gathered.write()
    await gathered.write()
    counts = [msgspec.json.decode(entry.record_locator)["count"] for entry in await read_failures(engine, "w")]
    assert counts == [1, 5]


async def test_what_cannot_be_written_is_kept_for_the_next_time(engine: Engine, database: str) -> None:
    await workspaces.create(engine, "w")
    async with another_engine(database) as closed:
        gathered = Refusals(closed)
        gathered.note(refusals.MISSING, address=None)
    with pytest.raises(Unavailable):
        await gathered.write()
    gathered.note(refusals.MISSING, address=None)
    gathered._engine = engine

    await gathered.write()

    assert await read_shown(engine, "w") == [("unknown", None, "refused", {"reason": "missing", "count": 2})]


async def test_a_database_without_a_workspace_has_no_log_to_note_it_in(engine: Engine) -> None:
    gathered = Refusals(engine)
    gathered.note(refusals.UNKNOWN, address=None)

    await gathered.write()

    await workspaces.create(engine, "w")
    await gathered.write()
    assert await read_failures(engine, "w") == []
