"""Who holds an API key. A key is looked up once and remembered for less time than a revocation may take."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

import msgspec

from sessiond.auth import refusals
from sessiond.auth.failures import Failures
from sessiond.auth.refusals import Refusals
from sessiond.core.caller import Caller, Key
from sessiond.core.errors import Unauthenticated
from sessiond.core.ids import KeyId, WorkspaceId
from sessiond.crypto import hash_secret, make_secret
from sessiond.storage import keys
from sessiond.storage.engine import Engine, Tx

REMEMBERED_SECONDS: Final = 3.0  # a revoked key must stop working within 5 s in every process
REMEMBERED_MAX: Final = 10_000  # about 10 MB
PROVEN_MAX: Final = 10_000  # about 2 MB

LOCAL: Final = KeyId("local")
"""The key of whoever has the database open in this process, and asks no server."""


class _Remembered(msgspec.Struct):
    caller: Caller
    expires_at_us: int | None
    until: float


class Authenticator:
    """Remembers keys that were checked, and notes when they were used."""

    def __init__(self, engine: Engine, failures: Failures | None = None) -> None:
        """Without `failures` no address is refused."""
        self._engine = engine
        self._failures = failures or Failures(0)
        self.refusals: Final = Refusals(engine)
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        # Hashes of keys that were good once. They are looked up also for an address that is refused, since behind one
        # address are many clients, of which one is bad.
        self._proven: OrderedDict[bytes, None] = OrderedDict()
        self._used: dict[str, int] = {}
        self._admitted: dict[bytes, WorkspaceId] = {}

    def admit(self, workspace_id: WorkspaceId) -> str:
        """Return a key that may do everything in a workspace, for whoever runs this process: it is stored nowhere."""
        secret = make_secret()
        self._admitted[hash_secret(secret)] = workspace_id
        return secret

    async def authenticate(self, authorization: str | None, *, address: str | None = None) -> Caller:
        """Return who an Authorization header is from.

        `address` is where it comes from: failures are counted for it, and noted for the audit log. None is somebody who
        was let in before.

        Raises:
            Unauthenticated: there is none, it is not `Bearer <key>`, or the key is unknown, expired or revoked.
            TooMany: the address sent too many wrong keys, and this key was not good before; it is not looked up.
        """
        if authorization is None:
            self.refusals.note(refusals.MISSING, address=address)
            raise Unauthenticated("missing API key: send the header Authorization: Bearer <key>")
        remembered = self._recall(authorization) or await self._look_up(authorization, address)
        caller = self._use(remembered)
        if caller is None:
            raise self._failure(refusals.EXPIRED, address, remembered.caller)
        return caller

    def find(self, authorization: str | None) -> Caller | None:
        """Return who an Authorization header is from, if that was looked up a moment ago and the key is still good."""
        remembered = self._recall(authorization) if authorization is not None else None
        return self._use(remembered) if remembered is not None else None

    def _recall(self, authorization: str) -> _Remembered | None:
        """Return what was looked up a moment ago."""
        remembered = self._remembered.get(authorization)
        return remembered if remembered is not None and remembered.until >= time.monotonic() else None

    def _use(self, remembered: _Remembered) -> Caller | None:
        """Note that a key is used, and return whose it is; None once it has expired."""
        caller = remembered.caller
        if caller.key_id is not LOCAL:
            now_us = time.time_ns() // 1000
            if remembered.expires_at_us is not None and remembered.expires_at_us <= now_us:
                return None
            self._used[caller.key_id] = now_us
        return caller

    def forget(self) -> None:
        """Look every key up again: one was revoked."""
        self._remembered.clear()

    async def note_used(self) -> None:
        """Write down when keys were last used, since the last time this was called, and let go of old ones."""
        now = time.monotonic()
        for authorization in [known for known, remembered in self._remembered.items() if remembered.until < now]:
            del self._remembered[authorization]
        if not self._used:
            return
        used, self._used = self._used, {}

        async def operation(tx: Tx) -> None:
            await keys.touch(tx, used)

        await self._engine.write(operation)

    async def _look_up(self, authorization: str, address: str | None) -> _Remembered:
        self._remembered.pop(authorization, None)
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            self.refusals.note(refusals.MALFORMED, address=address)
            raise Unauthenticated("the Authorization header must be: Bearer <key>")
        secret_hash = hash_secret(secret.strip())
        if address is not None and secret_hash not in self._proven:
            self._failures.check(address)

        async def operation(tx: Tx) -> keys.Known | None:
            if secret_hash in self._admitted:
                return await keys.find_operator(tx, self._admitted[secret_hash], LOCAL)
            return await keys.find_by_hash(tx, secret_hash)

        found = await self._engine.read(operation)
        if found is None:
            raise self._failure(refusals.UNKNOWN, address)
        key = found.key
        if key.revoked_at_us is not None:
            self._proven.pop(secret_hash, None)
            raise self._failure(refusals.REVOKED, address, key)
        caller = Caller(
            workspace_id=key.workspace_id,
            database_id_hash=found.database_id_hash,
            key_id=key.id,
            scopes=key.scopes,
            user_id=key.user_id,
            dialect=key.dialect,
            storage_key_id=found.storage_key_id,
            audits_reads=found.audits_reads,
        )
        self._proven[secret_hash] = None
        self._proven.move_to_end(secret_hash)
        if len(self._proven) > PROVEN_MAX:
            self._proven.popitem(last=False)
        remembered = _Remembered(caller, key.expires_at_us, time.monotonic() + REMEMBERED_SECONDS)
        if authorization == f"Bearer {secret}":  # one form only: spaces could be varied without end
            self._remembered[authorization] = remembered
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return remembered

    def _failure(self, reason: str, address: str | None, known: Caller | Key | None = None) -> Unauthenticated:
        """Count a wrong key and note it, and return what to raise."""
        if address is not None:
            self._failures.note_failure(address)
        if known is None:
            self.refusals.note(reason, address=address)
        else:
            key_id = known.id if isinstance(known, Key) else known.key_id
            self.refusals.note(reason, address=address, workspace_id=known.workspace_id, key_id=key_id)
        return Unauthenticated("invalid API key")
