"""What is appended to logs, on its way into rows: sealed, and many logs' in one round trip where arrays exist."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from sessiond.core.event import Entry, Event
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.storage import seals
from sessiond.storage.engine import Tx, Value
from sessiond.storage.slots import slot_of
from sessiond.storage.vault import Cipher


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """Entries for one session's log, to be appended together."""

    workspace_id: WorkspaceId
    session_id: SessionId
    user_id: str | None
    """When set, the session must be this user's."""
    at_us: int
    actor: str
    duration_us: int
    entries: tuple[Entry, ...]
    starts: bool = False
    """Whether it makes the session's agent work, if that is registered."""

    @property
    def messages(self) -> int:
        return len([entry for entry in self.entries if entry.is_message])

    @property
    def active(self) -> bool:
        """Whether somebody said or did something: a message, or an event of a client."""
        return any(entry.is_message or entry.of_client for entry in self.entries)

    @property
    def largest(self) -> int:
        return max(len(entry.body) for entry in self.entries)

    @property
    def size(self) -> int:
        return sum(len(entry.body) for entry in self.entries)


def duration_of(append: Append, entry: Entry) -> int | None:
    """Return how long what an entry tells of took, in microseconds: an action, as long as its request unless said."""
    if entry.action is None or entry.duration_us is not None:
        return entry.duration_us
    return append.duration_us


async def restore(tx: Tx, workspace_id: WorkspaceId, found: Sequence[Event]) -> None:
    """Add events exactly as they were elsewhere, of sessions that are not there yet: see `sessions.restore`."""
    rows, ciphers = list[dict[str, Value]](), dict[str, Cipher | None]()
    for event in found:
        if event.session_id not in ciphers:
            key_id = await seals.key_for(tx, workspace_id, event.session_id)
            ciphers[event.session_id] = await cipher_for(tx, workspace_id, key_id)
        rows += rows_of(_as_append(workspace_id, event), event.seq, ciphers[event.session_id])
    if tx.takes_arrays:
        await insert_each(tx, rows)
    else:
        await tx.each("event_insert", rows)


async def append_each_in_arrays(tx: Tx, appends: Sequence[Append]) -> list[int | None]:
    together: defaultdict[tuple[WorkspaceId, SessionId, str | None], list[int]] = defaultdict(list)
    for index, append in enumerate(appends):
        together[append.workspace_id, append.session_id, append.user_id].append(index)
    # One session may be asked for by callers bound to a user and by others; a row can be updated once a statement.
    first: list[int | None] = [None] * len(appends)
    ciphers: list[Cipher | None] = [None] * len(appends)
    for group in _once_each(together):
        bumped = await _bump_each(tx, appends, group)
        for (workspace_id, session_id, _), indexes in group.items():
            if (workspace_id, session_id) not in bumped:
                continue
            last_seq, key_id = bumped[workspace_id, session_id]
            cipher = await cipher_for(tx, workspace_id, key_id)
            seq = last_seq - sum(len(appends[index].entries) for index in indexes) + 1
            for index in indexes:
                first[index], ciphers[index] = seq, cipher
                seq += len(appends[index].entries)
            tx.wake(workspace_id, session_id)
    placed = zip(appends, first, ciphers, strict=True)
    rows = [row for append, seq, cipher in placed if seq is not None for row in rows_of(append, seq, cipher)]
    await insert_each(tx, rows)
    return first


async def append_each_in_turn(tx: Tx, appends: Sequence[Append]) -> list[int | None]:
    """The same where there are no arrays: two statements for all, since going into the driver costs as much as most."""
    first: list[int | None] = [None] * len(appends)
    rows = list[tuple[Value, ...]]()
    bumps = list[tuple[Value, ...]]()
    for number, append in enumerate(appends):
        entries = append.entries
        sizes = [len(entry.body) for entry in entries]
        bumps.append(
            (
                len(entries),
                len([entry for entry in entries if entry.is_message]),
                sum(sizes),
                max(sizes),
                append.at_us,
                append.workspace_id,
                append.session_id,
                append.user_id,
                int(append.starts),
                number,
            )
        )
    for last_seq, slot, key_id, dense, number in await tx.turns("session_bump_in_turn", bumps):
        append = appends[number]
        if slot != slot_of(append.at_us):
            await move_slot(tx, append, slot)
        first[number] = seq = last_seq - len(append.entries) + 1
        cipher = await cipher_for(tx, append.workspace_id, key_id) if key_id is not None else None
        for entry in append.entries:
            body = cipher.seal(entry.body, "event", append.session_id, seq) if cipher is not None else entry.body
            rows.append(
                (
                    append.workspace_id,
                    append.session_id,
                    seq,
                    entry.type,
                    append.at_us,
                    append.actor,
                    entry.run_id,
                    entry.action,
                    duration_of(append, entry),
                    body,
                    dense or None,
                )
            )
            seq += 1
        tx.wake(append.workspace_id, append.session_id)
    await tx.turns("event_insert_in_turn", rows)
    return first


async def move_slot(tx: Tx, append: Append, slot: int) -> None:
    """Have a list by update find a session that was appended to; `slot` is where it stood."""
    if slot != slot_of(append.at_us):
        await tx.run("session_slot", workspace=append.workspace_id, id=append.session_id, slot=slot_of(append.at_us))


async def insert_each(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await tx.run("event_insert_each", **in_arrays(rows))


def in_arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {array: [row[name] for row in rows] for name, array in _ARRAYS.items()}


Together = dict[tuple[WorkspaceId, SessionId, str | None], list[int]]

_ARRAYS: Final = {
    "workspace": "workspaces",
    "id": "ids",
    "seq": "seqs",
    "type": "types",
    "at_us": "ats_us",
    "actor": "actors",
    "run_id": "run_ids",
    "action": "actions",
    "duration_us": "durations_us",
    "body": "bodies",
}


def _once_each(together: Together) -> list[Together]:
    groups: list[Together] = []
    for key, indexes in together.items():
        for group in groups:
            if not any(key[:2] == other[:2] for other in group):
                group[key] = indexes
                break
        else:
            groups.append({key: indexes})
    return groups


async def _bump_each(
    tx: Tx, appends: Sequence[Append], group: Together
) -> dict[tuple[str, str], tuple[int, int | None]]:
    """Return the last seq that each session gave, and its key."""
    members = [[appends[index] for index in indexes] for indexes in group.values()]
    rows = await tx.all(
        "session_bump_each",
        workspaces=[key[0] for key in group],
        ids=[key[1] for key in group],
        users=[key[2] for key in group],
        events=[sum(len(append.entries) for append in each) for each in members],
        messages=[sum(append.messages for append in each) for each in members],
        bytes=[sum(append.size for append in each) for each in members],
        largest=[max(append.largest for append in each) for each in members],
        ats_us=[max(append.at_us for append in each) for each in members],
        starts=[int(any(append.starts for append in each)) for each in members],
    )
    at_us = {key[:2]: max(append.at_us for append in each) for key, each in zip(group, members, strict=True)}
    moved = [
        {"workspace": workspace_id, "id": session_id, "slot": slot_of(at_us[workspace_id, session_id])}
        for workspace_id, session_id, _, slot, _ in rows
        if slot != slot_of(at_us[workspace_id, session_id])
    ]
    if moved:
        await tx.each("session_slot", moved)
    # Keys are in the rows: many sessions' in one round trip.
    for workspace_id in {row[0] for row in rows}:
        await seals.prepare(tx, workspace_id, [row[4] for row in rows if row[0] == workspace_id])
    return {(row[0], row[1]): (row[2], row[4]) for row in rows}


async def cipher_for(tx: Tx, workspace_id: WorkspaceId, key_id: int | None) -> Cipher | None:
    return await seals.cipher_of(tx, workspace_id, key_id) if key_id is not None else None


def rows_of(append: Append, first_seq: int, cipher: Cipher | None) -> list[dict[str, Value]]:
    return [
        {
            "workspace": append.workspace_id,
            "id": append.session_id,
            "seq": seq,
            "type": entry.type,
            "at_us": append.at_us,
            "actor": append.actor,
            "run_id": entry.run_id,
            "action": entry.action,
            "duration_us": duration_of(append, entry),
            "body": (cipher.seal(entry.body, "event", append.session_id, seq) if cipher is not None else entry.body),
        }
        for seq, entry in enumerate(append.entries, first_seq)
    ]


def _as_append(workspace_id: WorkspaceId, event: Event) -> Append:
    return Append(
        workspace_id=workspace_id,
        session_id=event.session_id,
        user_id=None,
        at_us=event.created_at_us,
        actor=event.actor,
        duration_us=0,
        entries=(
            Entry(
                type=event.type,
                body=event.body,
                action=event.action,
                run_id=event.run_id,
                duration_us=event.duration_us,
            ),
        ),
    )
