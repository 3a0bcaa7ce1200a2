"""What was answered to requests that may come again, kept in the transaction of what they did."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Final

import msgspec

from sessiond.core.errors import KeyReused, NotFound
from sessiond.core.ids import WorkspaceId
from sessiond.crypto import is_sealed, key_id_of
from sessiond.storage import seals
from sessiond.storage.engine import Tx, Value
from sessiond.storage.vault import Cipher, damaged

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
    # Overwritten, or about to be.
    if found is not None and (found[0] == NOTHING or (found[1] is None and found[2] is not None)):
        raise NotFound("what this Idempotency-Key was used for was deleted", field="Idempotency-Key")
    if found is None or bytes(found[0]) not in fingerprints:
        raise KeyReused("this Idempotency-Key was used for another request", field="Idempotency-Key")
    if found[1] is None:
        return found[1]
    if (bytes(found[0]) == wanted.fingerprint) == is_sealed(found[1]):  # what is sealed has a keyed one, and only that
        raise damaged("answer", wanted.user_id, wanted.key)
    return (await _open(tx, wanted.workspace_id, found[1], wanted.user_id, wanted.key))[1]


async def keep_answer(
    tx: Tx, claimed: Claim, answer: bytes, *, session_id: str | None = None, user_id: str | None = None
) -> None:
    """Keep the answer of a request whose key was claimed in this transaction.

    It goes with the session that it tells of; where it tells of none, with the data of the user that it tells of.
    """
    about_user = user_id if session_id is None else None
    state = await seals.read_state(tx, claimed.workspace_id)
    if state.key_id is not None:
        answer = await _seal(tx, claimed, answer, state.key_id)
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


async def reseal(tx: Tx, workspace_id: WorkspaceId, user_id: str, key: str, kept: bytes, root_id: int | None) -> None:
    """Keep an answer under another key of the workspace, or in plain text."""
    if (is_sealed(kept) and key_id_of(kept) == root_id) or (root_id is None and not is_sealed(kept)):
        return
    fingerprint, answer = await _open(tx, workspace_id, kept, user_id, key)
    if fingerprint is None:  # in plain text it stands in its row
        row = await tx.one("idempotency_get", workspace=workspace_id, user=user_id, key=key)
        assert row is not None, "it was read in this transaction"
        fingerprint = bytes(row[0])
    claim = Claim(workspace_id=workspace_id, user_id=user_id, key=key, fingerprint=fingerprint)
    if root_id is not None:
        cipher = await seals.cipher_of(tx, workspace_id, root_id)
        answer, fingerprint = await _seal(tx, claim, answer, root_id), _keyed(cipher, fingerprint)
    # Unless it has been forgotten meanwhile, and the key was taken by another request.
    await tx.run("answer_rekey", **_key(claim), fingerprint=fingerprint, answer=answer, kept=kept)


async def _seal(tx: Tx, claim: Claim, answer: bytes, key_id: int) -> bytes:
    """Seal an answer, and with it the plain fingerprint, for the time when the key is another."""
    cipher = await seals.cipher_of(tx, claim.workspace_id, key_id)
    packed = msgspec.msgpack.encode((claim.fingerprint, answer))
    return cipher.seal(packed, "answer", claim.user_id, claim.key)


async def _open(tx: Tx, workspace_id: WorkspaceId, kept: bytes, user_id: str, key: str) -> tuple[bytes | None, bytes]:
    if not is_sealed(kept):
        return None, kept
    opened = await seals.open_any(tx, workspace_id, kept, "answer", user_id, key)
    return msgspec.msgpack.decode(opened, type=tuple[bytes, bytes])


def _keyed(cipher: Cipher, fingerprint: bytes) -> bytes:
    return hmac.digest(cipher.derive("fingerprint"), fingerprint, "sha256")


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
    keyed = [_keyed(cipher, claim.fingerprint) for cipher in ciphers]
    return [claim.fingerprint, *keyed] if state.key_id is None else [*keyed, claim.fingerprint]


def _key(claim: Claim) -> dict[str, str]:
    return {"workspace": claim.workspace_id, "user": claim.user_id, "key": claim.key}
