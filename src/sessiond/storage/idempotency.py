"""What was answered to requests that may come again, kept in the transaction of what they did."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Final

import msgspec

from sessiond.core.errors import KeyReused
from sessiond.core.ids import WorkspaceId
from sessiond.storage import seals
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
    fingerprints = await _fingerprints(tx, wanted)
    row = await tx.one(
        "idempotency_claim",
        **_key(wanted),
        fingerprint=fingerprints[0],
        at_us=at_us,
        expired_us=expired_before(at_us),
    )
    if row is not None:
        return None
    found = await tx.one("idempotency_get", **_key(wanted))
    if found is None or bytes(found[0]) not in fingerprints:
        raise KeyReused("this Idempotency-Key was used for another request", field="Idempotency-Key")
    if found[1] is None:
        return found[1]
    return await seals.open_any(tx, wanted.workspace_id, found[1], *_place(wanted))


async def keep_answer(tx: Tx, claimed: Claim, answer: bytes) -> None:
    key_id = await seals.key_for(tx, claimed.workspace_id, None)
    sealed = await seals.seal_with(tx, claimed.workspace_id, key_id, answer, *_place(claimed))
    await tx.run("idempotency_answer", **_key(claimed), answer=sealed)


async def sweep(tx: Tx, *, at_us: int) -> int:
    """Forget up to `SWEEP_MAX` answers that nobody can ask for any more; return how many."""
    return len(await tx.all("idempotency_sweep", expired_us=expired_before(at_us), limit=SWEEP_MAX))


def expired_before(at_us: int) -> int:
    return at_us - KEPT // timedelta(microseconds=1)


async def _fingerprints(tx: Tx, claim: Claim) -> list[bytes]:
    """Return how a request may be known again, first how it is from now on.

    Where content is sealed, a plain hash of the request would tell whoever guesses it.
    """
    state = await seals.read_state(tx, claim.workspace_id)
    if state.key_id is None and not state.changing:
        return [claim.fingerprint]
    roots = sorted(await seals.read_roots(tx, claim.workspace_id), key=lambda root: root.id != state.key_id)
    ciphers = [await seals.cipher_of(tx, claim.workspace_id, root.id) for root in roots]
    keyed = [hmac.digest(cipher.derive("fingerprint"), claim.fingerprint, "sha256") for cipher in ciphers]
    return [claim.fingerprint, *keyed] if state.key_id is None else [*keyed, claim.fingerprint]


def _place(claim: Claim) -> tuple[str, ...]:
    return "answer", claim.user_id, claim.key


def _key(claim: Claim) -> dict[str, str]:
    return {"workspace": claim.workspace_id, "user": claim.user_id, "key": claim.key}
