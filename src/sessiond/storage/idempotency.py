"""What was answered to requests that may come again, kept in the transaction of what they did."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec

from sessiond.core.errors import KeyReused
from sessiond.core.ids import WorkspaceId
from sessiond.storage.engine import Tx

KEPT: Final = timedelta(hours=24)
SWEEP_MAX: Final = 500  # rows a transaction: writers get their turn in between


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A request by what makes it the same request. Keys of callers bound to different users do not meet."""

    workspace_id: WorkspaceId
    user_id: str
    """Empty for a caller who is not bound to a user."""
    key: str
    fingerprint: bytes
    """A hash of the route and the body."""


async def claim(tx: Tx, wanted: Claim, *, at_us: int) -> bytes | None:
    """Return the answer this request was given before, or None when it is new and now has the key.

    Raises:
        KeyReused: the key was used for another request.
    """
    row = await tx.one(
        "idempotency_claim",
        **_key(wanted),
        fingerprint=wanted.fingerprint,
        at_us=at_us,
        expired_us=expired_before(at_us),
    )
    if row is not None:
        return None
    found = await tx.one("idempotency_get", **_key(wanted))
    if found is None or bytes(found[0]) != wanted.fingerprint:
        raise KeyReused("this Idempotency-Key was used for another request", field="Idempotency-Key")
    answer: bytes = found[1]
    return answer


async def keep_answer(tx: Tx, claimed: Claim, answer: bytes) -> None:
    await tx.run("idempotency_answer", **_key(claimed), answer=answer)


async def sweep(tx: Tx, *, at_us: int) -> int:
    """Forget up to `SWEEP_MAX` answers that nobody can ask for any more; return how many."""
    return len(await tx.all("idempotency_sweep", expired_us=expired_before(at_us), limit=SWEEP_MAX))


def expired_before(at_us: int) -> int:
    return at_us - KEPT // timedelta(microseconds=1)


def _key(claim: Claim) -> dict[str, str]:
    return {"workspace": claim.workspace_id, "user": claim.user_id, "key": claim.key}
