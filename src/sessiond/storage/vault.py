"""Keys in this process's memory: what has been unwrapped, and for how long it stays.

A workspace's key comes from the master key, and stays; or from a client, who sends it with each request, and is
forgotten some minutes after the last one. With it go the keys of its sessions.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import Final, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sessiond import crypto
from sessiond.core.errors import Damaged, Unavailable
from sessiond.core.ids import WorkspaceId

T = TypeVar("T")

REMEMBERED_SECONDS: Final = (
    300.0  # a client that goes on talking is not asked to wait 0.1 s again; who is silent is gone
)
REFUSED_SECONDS: Final = 30.0  # before a key is tried again that the master key does not open: it may be a service
CIPHERS_MAX: Final = 20_000  # about 10 MB: a page of a list may open a thousand sessions


class KeyNeeded(Exception):
    """An operation met a key that the master key must unwrap, which takes its time: the engine sees to that, and runs
    the operation again."""

    def __init__(self, workspace_id: WorkspaceId, key_id: int, wrapped: bytes) -> None:
        super().__init__(key_id)
        self.workspace_id = workspace_id
        self.key_id = key_id
        self.wrapped = wrapped


class Cipher:
    """A key of a workspace, in use.

    `parent` is the key that wraps it, and `root` the one at the end of that chain, which a client or the master key
    holds; each itself where there is none.
    """

    __slots__ = ("_aead", "_secret", "_workspace_id", "key_id", "parent", "root", "until")

    def __init__(self, workspace_id: WorkspaceId, key_id: int, secret: bytes, parent: Cipher | None = None) -> None:
        self.key_id = key_id
        self.parent = parent or self
        self.root: Cipher = parent.root if parent is not None else self
        self.until: float | None = None
        """When a key of a client's is forgotten, by `time.monotonic`; None: it stays."""
        self._workspace_id = workspace_id
        self._secret = secret
        self._aead = AESGCM(secret)

    def seal(self, plain: bytes, *place: str | int) -> bytes:
        """Return `plain` sealed for one place of this workspace: the record, and which of its fields."""
        return crypto.seal(self._aead, self.key_id, plain, self._place(place))

    def open(self, sealed: bytes, *place: str | int) -> bytes:
        """Return what was sealed for a place.

        Raises:
            Damaged: it was changed, or belongs somewhere else; the message names the place.
        """
        try:
            if not crypto.is_sealed(sealed) or crypto.key_id_of(sealed) != self.key_id:
                raise crypto.NotOpened  # as it was written it says so: else somebody has changed it
            return crypto.unseal(self._aead, sealed, self._place(place))
        except crypto.NotOpened as error:
            raise damaged(*place) from error

    def wrap(self, key_id: int, secret: bytes) -> bytes:
        return self.seal(secret, "key", key_id)

    def unwrap(self, key_id: int, wrapped: bytes) -> Cipher:
        """Return a key that this one wraps."""
        return Cipher(self._workspace_id, key_id, self.open(wrapped, "key", key_id), self)

    def derive(self, purpose: str) -> bytes:
        return crypto.derive(self._secret, purpose)

    @property
    def secret(self) -> bytes:
        """The key itself, to be wrapped anew."""
        return self._secret

    def _place(self, place: Iterable[str | int]) -> bytes:
        # Ids hold no control characters (`core/ids.py`), so that no two places are written alike.
        return "\0".join((self._workspace_id, *map(str, place))).encode()


class Vault:
    """Belongs to an engine; its threads share it. `clock` is `time.monotonic`, or a test's."""

    def __init__(self, master: crypto.Master | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.master = master
        self._clock = clock
        self._ciphers: dict[tuple[WorkspaceId, int], Cipher] = {}
        self._roots: dict[tuple[WorkspaceId, int], Cipher] = {}
        self._shown: dict[tuple[WorkspaceId, int], bytes] = {}
        """A hash of what each client has shown, to know it again without stretching it."""
        self._refused: dict[WorkspaceId, float] = {}
        """Workspaces whose key could not be unwrapped, and until when nobody need try again."""
        self._salt = os.urandom(32)
        self.newest: dict[WorkspaceId, int | None] = {}
        """The key that new sessions of a workspace got when somebody last looked, None for plain text."""

    def find(self, workspace_id: WorkspaceId, key_id: int) -> Cipher | None:
        """Return a key that is in memory, and has not been forgotten."""
        place = workspace_id, key_id
        found = self._roots.get(place) or self._ciphers.get(place)
        if found is None:
            return None
        until = found.root.until
        if until is not None and until <= self._clock():
            self._forget(place)
            return None
        return found

    def keep(self, workspace_id: WorkspaceId, cipher: Cipher) -> Cipher:
        """Keep the key of a session's content."""
        if len(self._ciphers) >= CIPHERS_MAX:
            self._ciphers.clear()
        self._ciphers[workspace_id, cipher.key_id] = cipher
        return cipher

    def keep_root(self, workspace_id: WorkspaceId, key_id: int, secret: bytes) -> Cipher:
        """Keep the key of a workspace."""
        cipher = self._roots[workspace_id, key_id] = Cipher(workspace_id, key_id, secret)
        return cipher

    async def unwrap(self, needed: KeyNeeded) -> None:
        """Have the master key unwrap what an operation needs.

        Raises:
            Unavailable: there is no master key here, or it is another.
        """
        if self.master is None:
            raise Unavailable(
                "this workspace is sealed with the server's key, and the server was started without"
                f" {crypto.MASTER_KEY_VARIABLE}",
                retry_after_seconds=30,
            )
        place = root_place(needed.workspace_id, needed.key_id)
        try:
            secret = await asyncio.to_thread(self.master.unwrap, needed.wrapped, place)
        except crypto.NotOpened as error:
            self._refused[needed.workspace_id] = self._clock() + REFUSED_SECONDS
            raise Unavailable(
                "this workspace's key was changed, or wrapped by another master key than the server was started with",
                retry_after_seconds=30,
            ) from error
        self.keep_root(needed.workspace_id, needed.key_id, secret)

    async def with_keys(self, run: Callable[[], Awaitable[T]]) -> T:
        """Run an operation, and again where it needs a key that must be unwrapped first.

        Raises:
            As `settle`.
        """
        for tries in count():
            try:
                return await run()
            except (KeyNeeded, Damaged) as error:
                await self.settle(error, tries)
        raise AssertionError("nobody may try for ever")

    async def settle(self, error: KeyNeeded | Damaged, tries: int) -> None:
        """See to it that an operation can be run again, or raise what it failed with.

        Raises:
            Unavailable: as `unwrap`.
            Damaged: it is so when looked at again, too: it was not only being sealed anew just then.
        """
        if isinstance(error, Damaged):
            if tries > 0:
                raise error
        elif self.find(error.workspace_id, error.key_id) is None:  # else somebody else has seen to it
            await self.unwrap(error)

    def knows(self, workspace_id: WorkspaceId, key_id: int, storage_key: str) -> bool:
        """Whether this is the storage key that a client has shown; then its key stays some minutes longer."""
        place = workspace_id, key_id
        shown = self._shown.get(place)
        if shown is None or not hmac.compare_digest(shown, self._hash(storage_key)):
            return False
        root = self._roots.get(place)
        now = self._clock()
        if root is None or root.until is None or root.until <= now:
            self._forget(place)
            return False
        root.until = now + REMEMBERED_SECONDS
        return True

    def keep_shown(self, workspace_id: WorkspaceId, key_id: int, secret: bytes, storage_key: str) -> None:
        """Keep the key of a workspace that a client's storage key opens, for some minutes."""
        cipher = self.keep_root(workspace_id, key_id, secret)
        cipher.until = self._clock() + REMEMBERED_SECONDS
        self._shown[workspace_id, key_id] = self._hash(storage_key)

    def holds(self, workspace_id: WorkspaceId, key_id: int) -> bool:
        """Whether a workspace's key is in memory."""
        return self.find(workspace_id, key_id) is not None

    def refused(self) -> list[WorkspaceId]:
        """Return the workspaces whose key the master key did not open a moment ago."""
        now = self._clock()
        return [workspace_id for workspace_id, until in list(self._refused.items()) if until > now]

    def forget_old(self) -> None:
        """Forget what clients have shown long ago, also where nobody asks for it."""
        now = self._clock()
        for workspace_id, until in list(self._refused.items()):
            if until <= now:
                del self._refused[workspace_id]
        for place, root in list(self._roots.items()):
            if root.until is not None and root.until <= now:
                self._forget(place)

    def _forget(self, place: tuple[WorkspaceId, int]) -> None:
        self._roots.pop(place, None)
        self._shown.pop(place, None)
        for other, cipher in list(self._ciphers.items()):
            if other == place or (other[0] == place[0] and cipher.root.key_id == place[1]):
                self._ciphers.pop(other, None)

    def _hash(self, storage_key: str) -> bytes:
        # Not an HMAC: that lets go of the interpreter, and each request would queue behind the writer to get it back.
        return hashlib.blake2b(storage_key.encode("utf-8", "surrogateescape"), key=self._salt).digest()


def root_place(workspace_id: WorkspaceId, key_id: int) -> bytes:
    """Return what a workspace's wrapped key is bound to."""
    return f"{workspace_id}\0{key_id}".encode()


def damaged(*place: str | int) -> Damaged:
    """Return the error that names what cannot be opened."""
    kind, *rest = place
    return Damaged(
        f"{kind} {' '.join(map(str, rest))} cannot be opened: it was changed, or moved, or its key was destroyed"
    )
