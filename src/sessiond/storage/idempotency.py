"""What was answered to requests that may come again, kept in the transaction of what they did."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec

from sessiond.core.errors import KeyReused, NotFound
from sessiond.core.ids import WorkspaceId
from sessiond.storage.engine import Tx, Value

KEPT: Final = timedelta(hours=24)
SWEEP_MAX: Final = 500  # rows a transaction: writers get their turn in between
NOTHING: Final = b""  # in place of the fingerprint of an answer that is gone: no request has it


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
        NotFound: the session that it was used for was deleted, and the answer with it.
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
    # Overwritten, or about to be.
    if found is not None and (found[0] == NOTHING or (found[1] is None and found[2] is not None)):
        raise NotFound("what this Idempotency-Key was used for was deleted", field="Idempotency-Key")
    if found is None or bytes(found[0]) != wanted.fingerprint:
        raise KeyReused("this Idempotency-Key was used for another request", field="Idempotency-Key")
    answer: bytes = found[1]
    return answer


async def keep_answer(
    tx: Tx, claimed: Claim, answer: bytes, *, session_id: str | None = None, user_id: str | None = None
) -> None:
    """Keep the answer of a request whose key was claimed in this transaction.

    It goes with the session that it tells of; where it tells of none, with the data of the user that it tells of.
    """
    about_user = user_id if session_id is None else None
    await tx.run("idempotency_answer", **_key(claimed), answer=answer, session=session_id, about_user=about_user)


async def forget_some(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> int:
    """Overwrite up to `limit` answers that tell of a session; their keys stay taken. Return how many."""
    return len(
        await tx.all(
            "idempotency_forget_session", workspace=workspace_id, session=session_id, nothing=NOTHING, limit=limit
        )
    )


async def forget_some_of_user(tx: Tx, workspace_id: WorkspaceId, user_id: str, *, until_us: int, limit: int) -> int:
    """Overwrite some answers that tell of a user, or were given to one up to a time; return how many."""
    place: dict[str, Value] = {"workspace": workspace_id, "nothing": NOTHING, "limit": limit}
    told = await tx.all("idempotency_forget_about_user", **place, about_user=user_id)
    given = await tx.all("idempotency_forget_of_user", **place, user=user_id, until_us=until_us)
    return len(told) + len(given)


async def sweep(tx: Tx, *, at_us: int) -> int:
    """Forget up to `SWEEP_MAX` answers that nobody can ask for any more; return how many."""
    return len(await tx.all("idempotency_sweep", expired_us=expired_before(at_us), limit=SWEEP_MAX))


def expired_before(at_us: int) -> int:
    return at_us - KEPT // timedelta(microseconds=1)


def _key(claim: Claim) -> dict[str, str]:
    return {"workspace": claim.workspace_id, "user": claim.user_id, "key": claim.key}
