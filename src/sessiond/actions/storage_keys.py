"""Storage keys: keys of workspaces that clients hold, and send with each request.

The server keeps such a key wrapped by what the client holds, so that without the client nothing can be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sessiond.core.audit import ENABLE_ENCRYPTION
from sessiond.core.caller import Caller, Scope
from sessiond.core.errors import Conflict, Forbidden, InvalidInput, Locked, Unavailable
from sessiond.core.ids import WorkspaceId
from sessiond.crypto import STORAGE_KEY_MAX_CHARS, STORAGE_KEY_MIN_CHARS, NotOpened, unwrap_by_client
from sessiond.storage import audit, clock, resealing, runs, seals
from sessiond.storage.engine import Engine, T, Tx
from sessiond.storage.events import WAITS_DUE
from sessiond.storage.vault import damaged, root_place

STRETCHING_MAX: Final = 20  # that may wait: each takes 0.1 s of a core, whoever asks


class StorageKeys:
    """Checks storage keys. Each is stretched once, and then known for as long as it is used."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one_by_one = asyncio.Semaphore(1)
        self._waiting = 0

    def knows(self, caller: Caller, storage_key: str | None) -> bool:
        """Whether this is the key that the caller's workspace was opened with; it stays open some minutes longer."""
        key_id = caller.storage_key_id
        if storage_key is None or key_id is None:
            return False
        return self._engine.vault.knows(caller.workspace_id, key_id, storage_key)

    async def show(self, caller: Caller, storage_key: str | None, *, writes: bool) -> bool:
        """Have the caller's workspace open for this request with the storage key that came with it.

        Return whether the caller must be looked up anew: that a client holds the key was not known yet. The first write
        with a storage key to a workspace that holds nothing yet seals it with that key.

        Raises:
            Locked: none came, and the workspace is sealed with one.
            InvalidInput, Forbidden: it cannot be one, or it is the wrong one.
            Conflict: the workspace is not sealed with a storage key.
            Unavailable: too many are being checked.
        """
        if storage_key is None:
            raise Locked
        workspace_id, key_id = caller.workspace_id, caller.storage_key_id
        check_storage_key(storage_key)
        root = await self._engine.read(lambda tx: seals.find_client_root(tx, workspace_id))
        if root is None:
            root = await self._adopt(caller, storage_key, writes=writes)
        if root is not None and not self._engine.vault.knows(workspace_id, root.id, storage_key):
            await self._open(workspace_id, root, storage_key)
        return root is not None and root.id != key_id

    async def _adopt(self, caller: Caller, storage_key: str, *, writes: bool) -> seals.Root | None:
        """Seal a workspace that holds nothing; return its key, or None where there is nothing to do."""
        workspace_id = caller.workspace_id
        if not await self._engine.read(lambda tx: seals.is_empty(tx, workspace_id)):
            raise Conflict(
                "this workspace is not sealed with a storage key: leave the header storage-key out, or have its"
                " operator run sessiond encryption enable --storage-key-file",
                field="storage-key",
            )
        if not writes or caller.user_id is not None or Scope.SESSIONS_WRITE not in caller.scopes:
            return None
        made = await self._stretched(lambda: seals.make_client_root(workspace_id, storage_key))
        self._engine.vault.keep_shown(workspace_id, made.root.id, made.secret, storage_key)

        async def operation(tx: Tx) -> seals.Root:
            await seals.lock(tx, workspace_id)
            root = await seals.find_client_root(tx, workspace_id)
            if root is None and await seals.is_empty(tx, workspace_id):
                root = made.root
                await seals.insert_root(tx, workspace_id, root)
                await seals.set_state(tx, workspace_id, key_id=root.id, changing=False)
                after: tuple[str, str] | None = ("", "")
                while after is not None:  # to what showed no content: keys that were made, say
                    after = await resealing.move_answers(tx, workspace_id, root.id, after=after)
                locator = {"key_id": str(root.id), "kind": root.kind}
                at_us = await clock.read_us(tx)
                await audit.append(tx, workspace_id, ENABLE_ENCRYPTION, locator, actor=caller.key_id, at_us=at_us)
            if root is None:
                raise Conflict("somebody else has just begun to write to this workspace", field="storage-key")
            return root

        return await self._engine.write(operation)

    async def _open(self, workspace_id: WorkspaceId, root: seals.Root, storage_key: str) -> None:
        secret = await self._stretched(lambda: unwrap(workspace_id, root, storage_key))
        if secret is None:
            raise Forbidden("this is not the storage key of the workspace", field="storage-key")
        vault = self._engine.vault
        was_open = vault.holds(workspace_id, root.id)
        vault.keep_shown(workspace_id, root.id, secret, storage_key)
        if not was_open:  # what had to wait for the key goes on
            self._engine.watches.wake([runs.DUE, WAITS_DUE])

    async def _stretched(self, work: Callable[[], T]) -> T:
        if self._waiting >= STRETCHING_MAX:
            raise Unavailable("too many storage keys are being checked")
        self._waiting += 1
        try:
            async with self._one_by_one:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def unwrap(workspace_id: WorkspaceId, root: seals.Root, storage_key: str) -> bytes | None:
    """Return a workspace's key, or None when it is another storage key's. Takes about 0.1 s.

    Raises:
        Damaged: it is that storage key's, and was changed.
    """
    assert root.salt is not None, "it is a client's"
    assert root.verifier is not None, "it is a client's"
    place = root_place(workspace_id, root.id)
    try:
        return unwrap_by_client(root.wrapped, root.salt, root.verifier, storage_key, place)
    except NotOpened as error:
        raise damaged("key", root.id) from error


def check_storage_key(storage_key: str) -> str:
    """Return it, if it can be one.

    Raises:
        InvalidInput: it is too short to keep a secret, or too long for a header.
    """
    if not STORAGE_KEY_MIN_CHARS <= len(storage_key) <= STORAGE_KEY_MAX_CHARS:
        raise InvalidInput(
            f"a storage key has {STORAGE_KEY_MIN_CHARS} to {STORAGE_KEY_MAX_CHARS} characters", field="storage-key"
        )
    return storage_key
