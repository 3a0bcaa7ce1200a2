"""How a workspace's content is sealed: turned on, turned off, and its key replaced, while everybody goes on.

A change begins with one write: from then on all that is new is kept in the new way. Then `Change.move` moves the rest,
piece by piece. Whoever is stopped in between may call it again, and so may anybody else who has the keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Final

import msgspec

from sessiond.actions import expiry
from sessiond.actions.storage_keys import check_storage_key, unwrap
from sessiond.actions.workspaces import OPERATOR
from sessiond.core.audit import DESTROY_KEYS, DISABLE_ENCRYPTION, ENABLE_ENCRYPTION, ROTATE_ENCRYPTION
from sessiond.core.errors import Conflict, Forbidden, InvalidInput, Unavailable
from sessiond.core.ids import WorkspaceId
from sessiond.storage import audit, clock, resealing, seals, search, sessions
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.resealing import Held
from sessiond.storage.seals import Root
from sessiond.storage.vault import damaged

SESSIONS_PAGE: Final = 200
SETTLE_SECONDS: Final = 0.05
SETTLE_TRIES: Final = 1_200  # a minute: no transaction of ours lasts longer (`command_timeout_seconds`)


class Mode(StrEnum):
    OFF = "off"
    SERVER = "server"
    """The master key of the server wraps the workspace's key."""
    CLIENT = "client"
    """What a client sends with each request wraps it."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a workspace is sealed."""

    workspace_id: WorkspaceId
    mode: Mode
    key_id: int | None
    changing: bool
    """Whether a change was begun, and not all is moved."""
    roots: list[Root]
    held: list[Held]
    """How many texts of each kind are kept under which key, counted anew."""
    sessions: int
    unindexed: int
    """Events that the search index may still have to take in, at most."""


class Progress(msgspec.Struct):
    """How far a change has come, in sessions; a session counts when all of it is moved."""

    done: int = 0
    total: int = 0
    texts: int = 0


async def read_status(engine: Engine, workspace_id: WorkspaceId) -> Status:
    """Return how a workspace is sealed, with a count of all that it keeps: it reads the beginning of every text.

    Raises:
        NotFound: there is no such workspace.
    """

    async def operation(tx: Tx) -> Status:
        state, roots = await seals.read_state(tx, workspace_id), await seals.read_roots(tx, workspace_id)
        return Status(
            workspace_id=workspace_id,
            mode=_mode_of(state.key_id, roots),
            key_id=state.key_id,
            changing=state.changing,
            roots=roots,
            held=await resealing.count_held(tx, workspace_id),
            sessions=await sessions.count_all(tx, workspace_id),
            unindexed=(await search.read_lag(tx, workspace_id)).events,
        )

    return await engine.scan(operation)


async def unlock(engine: Engine, workspace_id: WorkspaceId, storage_key: str) -> None:
    """Have a workspace open that is sealed with a storage key; nothing happens to one that is not.

    Raises:
        Forbidden: it is sealed with another.
    """
    root = await engine.read(lambda tx: seals.find_client_root(tx, workspace_id))
    if root is None:
        return
    secret = await asyncio.to_thread(unwrap, workspace_id, root, storage_key)
    if secret is None:
        raise Forbidden("this is not the storage key of the workspace", field="storage-key")
    engine.vault.keep_root(workspace_id, root.id, secret)  # for as long as this program works


async def begin(
    engine: Engine, workspace_id: WorkspaceId, wanted: Mode, *, storage_key: str | None = None, anew: bool = False
) -> bool:
    """Have new content kept in the way that is `wanted` from now on; False when it is so already.

    `storage_key` is the one to seal with from now on. `anew` replaces a key by another of its kind. A change that was
    begun and has the same end is gone on with: then there is nothing to begin.

    Raises:
        InvalidInput: the storage key cannot be one, or is not given.
        Conflict: another change has not come to its end.
        Locked, Unavailable: a key is missing that the old content is sealed with.
    """
    if wanted is Mode.CLIENT:
        if storage_key is None:
            raise InvalidInput("a storage key is needed", field="storage-key")
        check_storage_key(storage_key)
    state, roots = await engine.read(partial(_look, workspace_id=workspace_id))
    mode = _mode_of(state.key_id, roots)
    if state.changing and mode is wanted:
        # Whoever began it may have been stopped before what was under way then had ended.
        await _settle(engine)
        return False
    if state.changing:
        raise Conflict(f"a change to {mode} was begun and has not come to its end: finish that first")
    if mode is wanted and not (anew and wanted is not Mode.OFF):
        return False
    made = await asyncio.to_thread(_make_root, engine, workspace_id, wanted, storage_key)

    async def operation(tx: Tx) -> None:
        await seals.lock(tx, workspace_id)
        if await seals.read_state(tx, workspace_id) != state:
            raise Conflict("somebody else has begun a change at the same time")
        old = [await seals.cipher_of(tx, workspace_id, root.id) for root in roots]
        if made is not None:
            await seals.insert_root(tx, workspace_id, made.root)
            cipher = engine.vault.keep_root(workspace_id, made.root.id, made.secret)
            for root, one in zip(roots, old, strict=True):
                if root.kind == seals.CLIENT:  # who knows the new key opens the old content too
                    await seals.wrap_root(tx, workspace_id, root.id, one, by=cipher)
        await seals.set_state(tx, workspace_id, key_id=made.root.id if made is not None else None, changing=True)
        await _note(tx, workspace_id, _CHANGES.get((mode, wanted), ROTATE_ENCRYPTION), made.root if made else None)

    await engine.write(operation)
    await _settle(engine)
    return True


async def _settle(engine: Engine) -> None:
    """Wait until nobody is at work any more who may have seen how the workspace was sealed before."""
    at = await engine.read(resealing.mark)
    for _ in range(SETTLE_TRIES):
        if await engine.read(lambda tx: resealing.settled(tx, at)):
            return
        await asyncio.sleep(SETTLE_SECONDS)
    raise Unavailable("a transaction that was begun before has not ended: run the command again later")


async def move(
    engine: Engine, workspace_id: WorkspaceId, *, told: Callable[[Progress], None] | None = None
) -> list[Held]:
    """Move all that is kept in another way than it is to be, and destroy the keys that nothing is sealed with any more.

    Return what is kept under which key, as counted at the end: all of it under one. Safe to call again, whenever it was
    stopped, and while another process does the same.

    Raises:
        Locked, Unavailable: a key is missing that content is sealed with.
        Damaged: something cannot be opened; the message names it, and the rest stays as it is.
        Conflict: somebody else has begun another change meanwhile.
    """
    state = (await engine.read(partial(_look, workspace_id=workspace_id)))[0]
    progress = Progress(total=await engine.read(lambda tx: sessions.count_all(tx, workspace_id)))
    other: str | None = None
    while True:
        await _move_sessions(engine, workspace_id, state.key_id, progress, told)
        while await engine.write(partial(_apart, workspace_id=workspace_id, key_id=state.key_id)):
            pass
        await _move_answers(engine, workspace_id, state.key_id)
        while await engine.write(expiry.empty_trash):
            pass
        held = await engine.scan(lambda tx: resealing.count_held(tx, workspace_id))
        wanted = state.key_id if state.key_id is not None else resealing.PLAIN_KEY
        if all(each.key_id == wanted for each in held):
            break
        before = other
        other = await engine.scan(partial(resealing.find_other, workspace_id=workspace_id, root_id=state.key_id))
        if other is not None and other == before:
            # Who goes through `storage` puts nothing there that is not moved: it was changed by hand.
            raise damaged(other)
    await engine.write(partial(_finish, workspace_id=workspace_id, key_id=state.key_id))
    await engine.tidy()
    return held


async def _move_sessions(
    engine: Engine,
    workspace_id: WorkspaceId,
    key_id: int | None,
    progress: Progress,
    told: Callable[[Progress], None] | None,
) -> None:
    after = ""
    while True:
        find = partial(
            resealing.find_sessions, workspace_id=workspace_id, root_id=key_id, after=after, limit=SESSIONS_PAGE
        )
        found = await engine.scan(find)
        if not found:
            return
        left = list(found)
        while left:
            moved, finished = await engine.write(partial(_piece, workspace_id=workspace_id, ids=left, key_id=key_id))
            del left[:finished]
            progress.done += finished
            progress.texts += moved
            if told is not None:
                told(progress)
        after = found[-1]


async def _piece(tx: Tx, *, workspace_id: WorkspaceId, ids: list[str], key_id: int | None) -> tuple[int, int]:
    """Move sessions, in order, until a transaction has enough; return how many texts, and sessions to their end."""
    await _require_key(tx, workspace_id, key_id)
    moved = finished = 0
    for session_id in ids:
        while True:
            texts, done = await resealing.move_some(tx, workspace_id, session_id, key_id)
            moved += texts
            if moved >= resealing.PIECE_EVENTS or done:
                break
        finished += done
        if moved >= resealing.PIECE_EVENTS:
            break
    return moved, finished


async def _apart(tx: Tx, *, workspace_id: WorkspaceId, key_id: int | None) -> int:
    await _require_key(tx, workspace_id, key_id)
    return await resealing.move_apart(tx, workspace_id, key_id)


async def _move_answers(engine: Engine, workspace_id: WorkspaceId, key_id: int | None) -> None:
    async def piece(tx: Tx) -> tuple[str, str] | None:
        await _require_key(tx, workspace_id, key_id)
        return await resealing.move_answers(tx, workspace_id, key_id, after=after)

    place: tuple[str, str] | None = ("", "")
    while place is not None:
        after = place
        place = await engine.write(piece)


async def _require_key(tx: Tx, workspace_id: WorkspaceId, key_id: int | None) -> None:
    """Raise Conflict when content is kept in another way by now: what is sealed with a key that is destroyed is lost.

    It cannot change before the transaction ends that asked: who changes it waits for that (`_settle`).
    """
    if (await seals.read_state(tx, workspace_id)).key_id != key_id:
        raise Conflict("somebody else has begun another change meanwhile")


async def _finish(tx: Tx, *, workspace_id: WorkspaceId, key_id: int | None) -> None:
    await seals.lock(tx, workspace_id)
    await _require_key(tx, workspace_id, key_id)
    if await seals.drop_others(tx, workspace_id, key_id):
        await _note(tx, workspace_id, DESTROY_KEYS, None)
    await seals.set_state(tx, workspace_id, key_id=key_id, changing=False)


async def _look(tx: Tx, *, workspace_id: WorkspaceId) -> tuple[seals.State, list[Root]]:
    return await seals.read_state(tx, workspace_id), await seals.read_roots(tx, workspace_id)


def _make_root(
    engine: Engine, workspace_id: WorkspaceId, wanted: Mode, storage_key: str | None
) -> seals.MadeRoot | None:
    if wanted is Mode.OFF:
        return None
    if wanted is Mode.CLIENT:
        assert storage_key is not None, "it was checked"
        return seals.make_client_root(workspace_id, storage_key)
    if engine.vault.master is None:
        raise InvalidInput(
            "there is no master key: make one with sessiond encryption new-key, and set SESSIOND_MASTER_KEY or"
            " SESSIOND_MASTER_KEY_FILE for this command and for every server",
            field="master_key",
        )
    return seals.make_server_root(workspace_id, engine.vault.master)


_CHANGES: Final = {
    (Mode.OFF, Mode.SERVER): ENABLE_ENCRYPTION,
    (Mode.OFF, Mode.CLIENT): ENABLE_ENCRYPTION,
    (Mode.SERVER, Mode.OFF): DISABLE_ENCRYPTION,
    (Mode.CLIENT, Mode.OFF): DISABLE_ENCRYPTION,
}


async def _note(tx: Tx, workspace_id: WorkspaceId, event: str, root: Root | None) -> None:
    locator = {"key_id": str(root.id), "kind": root.kind} if root is not None else {}
    await audit.append(tx, workspace_id, event, locator, actor=OPERATOR, at_us=await clock.read_us(tx))


def _mode_of(key_id: int | None, roots: list[Root]) -> Mode:
    kinds = {root.id: root.kind for root in roots}
    return Mode(kinds[key_id]) if key_id in kinds else Mode.OFF
