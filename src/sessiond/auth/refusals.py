"""Failed authentication on its way into the audit log: counted in memory, written now and then, always bounded.

It knows neither keys nor HTTP, and is never told a secret.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from sessiond.core.audit import FAILED_AUTHENTICATION, NOBODY, REFUSED, Locator
from sessiond.core.caller import DEFAULT_WORKSPACE
from sessiond.core.ids import KeyId, WorkspaceId
from sessiond.storage import audit, workspaces
from sessiond.storage.engine import Engine, Tx

GATHER_SECONDS: Final = 10.0  # between two writes: a flood adds a few entries a second to the log, not thousands
DISTINCT_MAX: Final = 50  # told apart between two writes; a flood comes from more addresses than anybody reads
REASONS_MAX: Final = 2 * DISTINCT_MAX  # beyond which only the number is kept

MISSING: Final = "missing"
MALFORMED: Final = "malformed"
UNKNOWN: Final = "unknown"
REVOKED: Final = "revoked"
EXPIRED: Final = "expired"
WRONG_DATABASE: Final = "wrong database"
WRONG_STORAGE_KEY: Final = "wrong storage key"
VARIOUS: Final = "various"


class Refusal(msgspec.Struct, frozen=True):
    """What is counted as the same."""

    reason: str
    address: str | None
    workspace_id: WorkspaceId | None = None
    """None where the credential says nothing of one: it is noted in the operator's."""
    key_id: KeyId | None = None
    several: bool = False
    """Whether these came from more addresses than were told apart."""

    def locator(self, count: int) -> Locator:
        said: dict[str, str | int | None] = {"reason": self.reason, "count": count}
        if self.key_id is not None:
            said["key_id"] = self.key_id
        if self.several:
            said["addresses"] = "several"
        return said


class Refusals:
    """What failed since it was last written down."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counts: dict[Refusal, int] = {}
        self._due = 0.0

    def note(
        self,
        reason: str,
        *,
        address: str | None,
        workspace_id: WorkspaceId | None = None,
        key_id: KeyId | None = None,
    ) -> None:
        """Count one, without waiting for anything."""
        self._add(Refusal(reason, address, workspace_id, key_id), 1)

    async def write_due(self) -> None:
        """Write what was gathered, unless that was done a moment ago."""
        if self._counts and time.monotonic() >= self._due:
            await self.write()
            self._due = time.monotonic() + GATHER_SECONDS

    async def write(self) -> None:
        """Write what was gathered; what cannot be written is kept for the next time.

        Raises:
            Unavailable: as `Engine.write`.
        """
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        now_us = time.time_ns() // 1000

        async def operation(tx: Tx) -> None:
            operators = await workspaces.find_operators(tx, DEFAULT_WORKSPACE)
            placed = [(failure.workspace_id or operators, failure, count) for failure, count in counts.items()]
            # In one order everywhere, so that two processes do not wait for each other's workspaces in a circle.
            for workspace_id, failure, count in sorted(placed, key=lambda each: each[0] or ""):
                if workspace_id is None:
                    continue  # a database without any workspace: nobody has a log to note it in
                await audit.append(
                    tx,
                    workspace_id,
                    FAILED_AUTHENTICATION,
                    failure.locator(count),
                    actor=failure.key_id or NOBODY,
                    at_us=now_us,
                    address=failure.address,
                    result=REFUSED,
                )

        try:
            await self._engine.write(operation)
        except Exception:
            for failure, count in counts.items():
                self._add(failure, count)
            raise

    def _add(self, failure: Refusal, count: int) -> None:
        if failure not in self._counts and len(self._counts) >= DISTINCT_MAX:
            failure = Refusal(failure.reason, None, failure.workspace_id, several=True)
            if failure not in self._counts and len(self._counts) >= REASONS_MAX:
                failure = Refusal(VARIOUS, None, several=True)
        self._counts[failure] = self._counts.get(failure, 0) + count
