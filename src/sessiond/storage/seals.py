"""Keys that content is sealed with, as rows, and what the other nouns need to seal and to open."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Final

import msgspec

from sessiond.core.errors import Damaged, Locked
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.crypto import Master, NotOpened, is_sealed, key_id_of, make_key, make_key_id, wrap_by_client
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.vault import Cipher, KeyNeeded, damaged, root_place

SERVER: Final = "server"
CLIENT: Final = "client"
CONTENT: Final = "content"

PLAIN: Final = 0
"""The id of the index key of what is kept in plain text."""


class IndexKey(msgspec.Struct, frozen=True):
    """What the words of a search index are hashed with, so that an index alone tells no word."""

    id: int
    """The workspace's key that it is derived from, or `PLAIN`."""
    secret: bytes


class State(msgspec.Struct, frozen=True):
    """How a workspace's content is kept."""

    key_id: int | None
    """The key that new content gets; None: it is kept in plain text."""
    changing: bool
    """Whether some content may still be kept in another way."""


class Root(msgspec.Struct, frozen=True):
    """A key of a workspace, as its row has it."""

    id: int
    kind: str
    wrapped: bytes
    salt: bytes | None
    verifier: bytes | None
    created_at_us: int
    parent_id: int | None = None


class KeyRow(msgspec.Struct, frozen=True):
    """A key as it is kept: wrapped. The order of the fields is that of `seal_key_rows`."""

    workspace_id: WorkspaceId
    id: int
    kind: str
    parent_id: int | None
    session_id: str | None
    wrapped: bytes
    salt: bytes | None
    verifier: bytes | None
    created_at_us: int


class MadeRoot(msgspec.Struct, frozen=True):
    """A key of a workspace as it was made: its row, and what it is."""

    root: Root
    secret: bytes


async def read_state(tx: Tx, workspace_id: WorkspaceId) -> State:
    row = await tx.one("workspace_seal_state", workspace=workspace_id)
    return State(row[0], bool(row[1])) if row is not None else State(None, changing=False)


async def find_client_root(tx: Tx, workspace_id: WorkspaceId) -> Root | None:
    """Return the key of a workspace that a client holds."""
    row = await tx.one("seal_key_of_client", workspace=workspace_id)
    return Root(*row) if row is not None else None


async def lock(tx: Tx, workspace_id: WorkspaceId) -> None:
    """Keep how a workspace is sealed from changing until this transaction ends."""
    await tx.run("workspace_lock", workspace=workspace_id)


async def set_state(tx: Tx, workspace_id: WorkspaceId, *, key_id: int | None, changing: bool) -> None:
    await tx.run("workspace_seal", workspace=workspace_id, key_id=key_id, changing=int(changing))


async def is_empty(tx: Tx, workspace_id: WorkspaceId) -> bool:
    """Whether a workspace has neither content nor a key."""
    state = await read_state(tx, workspace_id)
    if state.key_id is not None or state.changing:
        return False
    return await tx.one("workspace_has_content", workspace=workspace_id) is None


async def insert_root(tx: Tx, workspace_id: WorkspaceId, root: Root) -> None:
    await tx.run(
        "seal_key_insert",
        workspace=workspace_id,
        id=root.id,
        kind=root.kind,
        parent_id=None,
        session_id=None,
        wrapped=root.wrapped,
        salt=root.salt,
        verifier=root.verifier,
        at_us=root.created_at_us,
    )


async def wrap_root(tx: Tx, workspace_id: WorkspaceId, key_id: int, root: Cipher, *, by: Cipher) -> None:
    """Have a key that a client holds be opened by the workspace's next key, and by nothing else."""
    wrapped = by.wrap(key_id, root.secret)
    await tx.run("seal_key_wrap", workspace=workspace_id, id=key_id, parent=by.key_id, wrapped=wrapped)


async def drop_others(tx: Tx, workspace_id: WorkspaceId, key_id: int | None) -> bool:
    """Destroy all keys of a workspace but one and what it wraps; False when there were none."""
    return bool(await tx.all("seal_keys_drop_others", workspace=workspace_id, key=key_id or PLAIN))


def make_client_root(workspace_id: WorkspaceId, storage_key: str) -> MadeRoot:
    """Make a key for a workspace that a client's storage key opens. Takes about 0.1 s."""
    key_id, secret = make_key_id(), make_key()
    wrapped, salt, verifier = wrap_by_client(secret, storage_key, root_place(workspace_id, key_id))
    return MadeRoot(Root(key_id, CLIENT, wrapped, salt, verifier, time.time_ns() // 1000), secret)


def make_server_root(workspace_id: WorkspaceId, master: Master) -> MadeRoot:
    """Make a key for a workspace that the master key wraps, which may take its time."""
    key_id, secret = make_key_id(), make_key()
    wrapped = master.wrap(secret, root_place(workspace_id, key_id))
    return MadeRoot(Root(key_id, SERVER, wrapped, None, None, time.time_ns() // 1000), secret)


async def read_roots(tx: Tx, workspace_id: WorkspaceId) -> list[Root]:
    """Return the keys of a workspace, the newest first: more than one while content is moved from one to another."""
    return [Root(*row) for row in await tx.all("seal_key_roots", workspace=workspace_id)]


async def read_locked(tx: Tx) -> list[WorkspaceId]:
    """Return the workspaces whose content this process cannot open now: a client holds their key, or a master key that
    it was not given."""
    rows = await tx.all("seal_keys_of_clients" if tx.vault.master is not None else "seal_keys_of_workspaces")
    return sorted({*tx.vault.refused(), *(row[0] for row in rows if not tx.vault.holds(row[0], row[1]))})


async def locked(tx: Tx) -> Value:
    """Return those workspaces as what the fragment `locked_workspaces` takes."""
    return as_parameter(tx, await read_locked(tx))


def as_parameter(tx: Tx, found: list[WorkspaceId]) -> Value:
    """Return workspaces that were read as what the fragment `locked_workspaces` takes."""
    return list(found) if tx.takes_arrays else msgspec.json.encode(found).decode()


async def cipher_of(tx: Tx, workspace_id: WorkspaceId, key_id: int) -> Cipher:
    """Return a key of a workspace, to seal and open with.

    Raises:
        Locked: a client holds the key that wraps it, and has not shown it.
        Damaged: there is no such key.
        KeyNeeded: for the engine, which runs the operation again.
    """
    found = tx.vault.find(workspace_id, key_id)
    if found is not None:
        return found
    row = await tx.one("seal_key_get", workspace=workspace_id, id=key_id)
    if row is None:
        raise damaged("key", key_id)
    return await _unwrap(tx, workspace_id, key_id, row)


async def make_session_key(
    tx: Tx, workspace_id: WorkspaceId, key_id: int, *, session_id: SessionId, under: int | None, at_us: int
) -> None:
    """Make a key for a session's content, wrapped by the workspace's key `under`."""
    assert under is not None, "a workspace that seals has a key"
    root, secret = await cipher_of(tx, workspace_id, under), make_key()
    await tx.run(
        "seal_key_insert",
        workspace=workspace_id,
        id=key_id,
        kind=CONTENT,
        parent_id=under,
        session_id=session_id,
        wrapped=root.wrap(key_id, secret),
        salt=None,
        verifier=None,
        at_us=at_us,
    )
    tx.vault.keep(workspace_id, Cipher(workspace_id, key_id, secret, root))


async def key_for(tx: Tx, workspace_id: WorkspaceId, session_id: str | None) -> int | None:
    """Return the id of the key for what is made in a session that is in hand, or in none; None for plain text."""
    if session_id is not None:
        row = await tx.one("session_key", workspace=workspace_id, id=session_id)
        return row[0] if row is not None else await _key_to_come(tx, workspace_id, SessionId(session_id))
    return (await read_state(tx, workspace_id)).key_id


async def _key_to_come(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId) -> int | None:
    """Return the id of the key of a session whose content comes before its row does, from elsewhere."""
    root_id = (await read_state(tx, workspace_id)).key_id
    if root_id is None:
        return None
    row = await tx.one("seal_key_to_come", workspace=workspace_id, session=session_id, parent=root_id)
    if row is not None:
        key_id: int = row[0]
        return key_id
    key_id = make_key_id()
    at_us = time.time_ns() // 1000
    await make_session_key(tx, workspace_id, key_id, session_id=session_id, under=root_id, at_us=at_us)
    return key_id


async def seal_with(
    tx: Tx, workspace_id: WorkspaceId, key_id: int | None, plain: bytes | None, *place: str | int
) -> bytes | None:
    """Return `plain` sealed with a key for a place; itself where there is none of either."""
    if key_id is None or plain is None:
        return plain
    return (await cipher_of(tx, workspace_id, key_id)).seal(plain, *place)


async def open_with(
    tx: Tx, workspace_id: WorkspaceId, key_id: int | None, kept: bytes | None, *place: str | int
) -> bytes | None:
    """Return what is kept for a place, opened if its record has a key.

    Raises:
        Damaged: it was changed, moved, or put there in plain text.
    """
    if key_id is None or kept is None:
        return kept
    if not is_sealed(kept):
        raise damaged(*place)
    return (await cipher_named(tx, workspace_id, kept, *place)).open(kept, *place)


async def open_any(tx: Tx, workspace_id: WorkspaceId, kept: bytes, *place: str | int) -> bytes:
    """Return what is kept for a place, opened if it is sealed, with the key that it names itself."""
    if not is_sealed(kept):
        return kept
    return (await cipher_named(tx, workspace_id, kept, *place)).open(kept, *place)


async def cipher_named(tx: Tx, workspace_id: WorkspaceId, kept: bytes, *place: str | int) -> Cipher:
    """Return the key that a sealed text names.

    Raises:
        Damaged: there is no such key; the message names the place.
        Locked, KeyNeeded: as `cipher_of`.
    """
    try:
        key_id = key_id_of(kept)
        found = tx.vault.find(workspace_id, key_id)
        if found is not None:
            return found
        row = await tx.one("seal_key_get", workspace=workspace_id, id=key_id)
    except NotOpened as error:
        raise damaged(*place) from error
    if row is None:
        raise damaged(*place)
    try:
        return await _unwrap(tx, workspace_id, key_id, row)
    except Damaged as error:
        raise damaged(*place) from error


async def prepare(tx: Tx, workspace_id: WorkspaceId, key_ids: Iterable[int | None]) -> None:
    """Have many keys in memory, in one round trip where there would be one for each."""
    missing = {key_id for key_id in key_ids if key_id is not None and tx.vault.find(workspace_id, key_id) is None}
    if not tx.takes_arrays or len(missing) < 2:
        return
    for row in await tx.all("seal_keys_get_each", workspace=workspace_id, ids=sorted(missing)):
        with suppress(Damaged):  # whoever needs it will say what cannot be opened with it
            await _unwrap(tx, workspace_id, row[0], row[1:])


async def read_index_keys(tx: Tx, workspace_id: WorkspaceId, state: State | None = None) -> list[IndexKey]:
    """Return the keys that a workspace's index may have been made with, first the one for what is indexed now.

    `state` is the workspace's, where it is known already.

    Raises:
        Locked: a client holds the key that they are derived from, and has not shown it.
    """
    state = state or await read_state(tx, workspace_id)
    plain = IndexKey(PLAIN, hashlib.sha256(b"sessiond index\0" + workspace_id.encode()).digest())
    if state.key_id is None and not state.changing:
        return [plain]
    ids = [root.id for root in await read_roots(tx, workspace_id)]
    if state.key_id is not None and state.key_id not in ids:
        raise damaged("key", state.key_id)  # of a backup without keys, which are not put back yet
    ids.sort(key=lambda key_id: key_id != state.key_id)
    keys = [index_key(await cipher_of(tx, workspace_id, key_id)) for key_id in ids]
    if state.key_id is None:
        return [plain, *keys]
    return [*keys, plain] if state.changing else keys


def index_key(root: Cipher) -> IndexKey:
    """Return what is indexed with under a key of a workspace."""
    return IndexKey(root.key_id, root.derive("index"))


async def read_rows(tx: Tx, *, after: tuple[str, int], limit: int) -> list[KeyRow]:
    """Return up to `limit` keys of all workspaces, in their order, from behind one."""
    rows = await tx.all("seal_key_rows", workspace=after[0], id=after[1], limit=limit)
    return [KeyRow(*row) for row in rows]


async def restore_row(tx: Tx, row: KeyRow) -> bool:
    """Put a key back as it was; False when it is there."""
    return await tx.one("seal_key_restore", **msgspec.structs.asdict(row)) is not None


async def find_missing_workspaces(tx: Tx, workspace_ids: Collection[WorkspaceId]) -> list[WorkspaceId]:
    return [each for each in sorted(workspace_ids) if await tx.one("workspace_get", id=each) is None]


async def destroy_unused(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> None:
    """Destroy the keys of a session that is deleted, but for those that its runs have, which outlive it."""
    await tx.run("seal_keys_drop_of_session", workspace=workspace_id, session=session_id, key=PLAIN)


async def destroy(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> bool:
    """Destroy the key of a session's content, which nobody can read any more, also where it was copied to; False when
    it has none."""
    return bool(await tx.all("seal_key_destroy", workspace=workspace_id, session=session_id))


def sealed_keys(kept: Iterable[bytes | None]) -> set[int]:
    """Return the ids of the keys that sealed texts name; of those that can name none, none."""
    found = set()
    for text in kept:
        if text is not None and is_sealed(text):
            try:
                found.add(key_id_of(text))
            except NotOpened:
                continue
    return found


async def _unwrap(tx: Tx, workspace_id: WorkspaceId, key_id: int, row: Row) -> Cipher:
    kind, parent_id, wrapped = row
    if parent_id is not None:
        parent = await cipher_of(tx, workspace_id, parent_id)
        return tx.vault.keep(workspace_id, parent.unwrap(key_id, bytes(wrapped)))
    if kind == CLIENT:
        raise Locked
    raise KeyNeeded(workspace_id, key_id, bytes(wrapped))
