"""Indexing: messages that were said become searchable, a batch at a time, some moments later.

Nobody asks for it: the sweeper does it (`sweeper.py`), in every process. Each piece reads, works it out in a thread,
and writes, as long as the index is still as it was read; so it holds a writer up for a few milliseconds at most, and
what two processes do at the same time is done once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from sessiond.core.errors import SessiondError
from sessiond.core.event import StoredMessage
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.postings import BUCKET_BYTES, Gatherer, Segment, bits_for, bits_for_bytes, merge, numbers, pack
from sessiond.core.search import text_of_body
from sessiond.storage import clock, events, seals, search
from sessiond.storage.engine import Engine, Operation, Tx
from sessiond.storage.seals import PLAIN, IndexKey
from sessiond.storage.search import Doc, Progress, Tail
from sessiond.storage.slots import slot_of

log: Final = logging.getLogger("sessiond.indexing")

LOOK_MAX: Final = 500  # sessions of one look: they are filtered here, in a millisecond
BATCH_ROWS: Final = 1_000  # messages of one write: it takes some milliseconds, and more of them cost less each
BATCH_BYTES: Final = 4 * 1024 * 1024  # of bodies in memory
QUIET_SLOTS: Final = 1  # without an append, so that the next one moves the session's slot anyway
FANOUT: Final = 8  # segments alike in size that become one: each message is rewritten as often as eight goes into it
MERGED_MAX_SIZE: Final = 5  # 32,768 messages: a common word's list of them is still read in a millisecond
PIECE_BYTES: Final = 256 * 1024  # of a merged segment, to a write
UNREADABLE_SECONDS: Final = 60.0  # before another look at what is damaged
TOKENS_MAX: Final = 50_000  # words of plain text that are remembered with their hashes: about 8 MiB


class Looked(msgspec.Struct, frozen=True):
    """What one look found, and where the next begins."""

    tails: list[Tail]
    behind: tuple[str, int, str]
    done: bool
    """Whether that was the last of them."""


SLOT_MAX: Final = 2**63 - 1

START: Final = ("", 0, "")


def past(tails: Sequence[Tail]) -> tuple[str, int, str]:
    """Return from where to look for the sessions of the next workspace."""
    return (tails[0].workspace_id, SLOT_MAX, "")


class Indexer:
    """One process's part in it. What it remembers only saves work."""

    def __init__(self, engine: Engine, *, name: str) -> None:
        self._engine = engine
        self._name = name
        self._tokens: dict[WorkspaceId, dict[str, int]] = {}
        self._unreadable: dict[tuple[WorkspaceId, SessionId], float] = {}

    async def look(self, behind: tuple[str, int, str]) -> Looked:
        """Return some sessions of one workspace that may not be indexed."""

        async def operation(tx: Tx) -> list[Tail]:
            return await search.read_to_index(tx, behind, limit=LOOK_MAX)

        found = await self._engine.scan(operation)
        if not found:
            return Looked([], START, done=True)
        tails = [tail for tail in found if tail.workspace_id == found[0].workspace_id]
        last = tails[-1]
        done = len(tails) == len(found) < LOOK_MAX
        return Looked(tails, (last.workspace_id, last.slot, last.session_id), done=done)

    async def index(self, tails: Sequence[Tail]) -> int:
        """Index messages of sessions of one workspace, some of each; return how many events they stand among.

        0: all of them are indexed, or another process is at it. Sessions that have been quiet are not looked at again
        until they are appended to.

        Raises:
            SessiondError: what is said in this workspace cannot be read now.
            Unavailable: as `Engine.write`.
        """
        workspace_id = tails[0].workspace_id
        if settled := [tail for tail in tails if tail.behind <= 0]:
            await self._quieten(workspace_id, settled)
        for tail in tails:
            if tail.indexed_seq < 0:  # of another session that had this id
                return await self._engine.write(_forgetting(tail))
        indexed, most, now = 0, LOOK_MAX, time.monotonic()
        behind = [tail for tail in tails if tail.behind > 0 and self._unreadable.get(_key(tail), 0) < now]
        while behind:
            batch, limit = _batch(behind[:most])
            try:
                done = await self._index(workspace_id, batch, limit)
            except _UnreadableError:
                # One of them is damaged, and keeps no other waiting: each by itself.
                most = 1
                if len(batch) > 1:
                    continue
                self._unreadable[_key(batch[0])] = now + UNREADABLE_SECONDS
                log.warning("a session cannot be read, and is not indexed: session=%s", batch[0].session_id)
            else:
                if not done:
                    break
                indexed += done
            behind = behind[len(batch) :]
        return indexed

    async def merge(self, workspace_id: WorkspaceId) -> bool:
        """Make one segment of several that are alike in size; False when there are none."""

        async def operation(tx: Tx) -> list[Segment]:
            return await search.read_segments(tx, workspace_id)

        segments = await self._engine.read(operation)
        alike: dict[tuple[int, int], list[Segment]] = {}
        for segment in segments:
            alike.setdefault((segment.key_id, _size(segment)), []).append(segment)
        for found in alike.values():
            if len(found) >= FANOUT and _size(found[0]) < MERGED_MAX_SIZE:
                return await self._rewrite(workspace_id, found[-FANOUT:])
        return False

    async def clean(self, behind: tuple[str, int]) -> tuple[str, int] | None:
        """Write a segment anew, without what is gone; return which it was, None when there was none behind that one."""

        async def operation(tx: Tx) -> tuple[tuple[WorkspaceId, int] | None, list[Segment]]:
            place = await search.find_dirty(tx, behind)
            return place, await search.read_segments(tx, place[0]) if place is not None else []

        place, segments = await self._engine.read(operation)
        if place is None:
            return None
        for segment in segments:
            if segment.id == place[1]:
                await self._rewrite(place[0], [segment])
        return place

    async def _index(self, workspace_id: WorkspaceId, batch: Sequence[Tail], limit: int) -> int:
        async def read(tx: Tx) -> tuple[int, IndexKey, list[StoredMessage], list[Doc]] | None:
            now_us = await clock.read_us(tx)
            version = await search.find_version(tx, workspace_id, owner=self._name, now_us=now_us)
            if version is None:
                return None
            keys = await seals.read_index_keys(tx, workspace_id)
            key, sealed = keys[0], all(each.id != PLAIN for each in keys)
            stretches = [(tail.session_id, tail.after, tail.last_seq) for tail in batch]
            try:
                found = await events.read_tails(tx, workspace_id, stretches, limit=limit, sealed=sealed)
            except SessiondError as error:
                # Its keys are there: it is not the workspace that cannot be read.
                raise _UnreadableError from error
            found.sort(key=lambda message: (message.created_at_us, message.session_id, message.seq))
            places = [(message.created_at_us, message.session_id, message.seq) for message in found]
            return version, key, found, await search.number(tx, workspace_id, places)

        was = await self._engine.scan(read)
        if was is None:
            return 0
        version, key, found, docs = was
        segment, buckets = await asyncio.to_thread(_gather, key, found, docs, self._known(workspace_id, key))
        progress = _progress(batch, found, limit)

        async def write(tx: Tx) -> bool:
            first = await search.change(tx, workspace_id, version=version)
            if first is None:
                return False
            await search.own(tx, workspace_id, owner=self._name, now_us=await clock.read_us(tx))
            if docs:
                whole = msgspec.structs.replace(segment, id=first)
                await search.add_docs(tx, workspace_id, docs, key_id=key.id)
                await search.add_segment(tx, workspace_id, whole)
                await search.add_buckets(tx, workspace_id, first, buckets)
            await search.note_progress(tx, workspace_id, progress)
            return True

        if not await self._engine.write(write):
            return 0
        return sum(each.seq - tail.after for tail, each in zip(batch, progress, strict=True))

    def _known(self, workspace_id: WorkspaceId, key: IndexKey) -> dict[str, int] | None:
        """Return the words of a workspace that are remembered; those of sealed text never are."""
        if key.id != PLAIN:
            return None
        if sum(map(len, self._tokens.values())) > TOKENS_MAX:
            self._tokens.clear()
        return self._tokens.setdefault(workspace_id, {})

    async def _quieten(self, workspace_id: WorkspaceId, tails: Sequence[Tail]) -> None:
        async def read(tx: Tx) -> int:
            return slot_of(await clock.read_us(tx)) - QUIET_SLOTS

        slot = await self._engine.read(read)
        if quiet := sorted((tail for tail in tails if tail.slot <= slot), key=lambda tail: tail.session_id):

            async def write(tx: Tx) -> None:
                await search.quieten(tx, workspace_id, quiet, slot=slot)

            await self._engine.write(write)

    async def _rewrite(self, workspace_id: WorkspaceId, old: Sequence[Segment]) -> bool:
        """Write segments anew as one, without what is gone, and have that read in their place.

        False when they have changed meanwhile: what was written is removed in time.
        """

        async def prepare(tx: Tx) -> tuple[Segment, set[int] | None]:
            at_us = await clock.read_us(tx) + search.BUILDING_US
            new = _joined(old, await search.allocate(tx, workspace_id))
            await search.add_segment(tx, workspace_id, new, gone_at_us=at_us)
            if not any(segment.dirty for segment in old):
                return new, None
            return new, {doc for segment in old for doc in await search.read_alive(tx, workspace_id, segment)}

        new, alive = await self._engine.write(prepare)
        seen: set[int] = set()
        for step in _steps(old, new):
            await self._rewrite_some(workspace_id, step, new, alive, seen)
        if alive is not None:
            new = msgspec.structs.replace(new, docs=len(seen))

        async def finish(tx: Tx) -> None:
            at_us = await clock.read_us(tx)
            for segment in old:
                if not await search.retire(tx, workspace_id, segment, at_us=at_us):
                    raise _ChangedError
            if new.docs:
                await search.begin(tx, workspace_id, new)

        try:
            await self._engine.write(finish)
        except _ChangedError:
            return False
        return True

    async def _rewrite_some(
        self, workspace_id: WorkspaceId, step: _Step, new: Segment, alive: set[int] | None, seen: set[int]
    ) -> None:
        async def read(tx: Tx) -> list[bytes]:
            return [
                bucket
                for segment, first, last in step
                for bucket in await search.read_range(tx, workspace_id, segment, first=first, last=last)
            ]

        found = await self._engine.scan(read)
        buckets = await asyncio.to_thread(_merge, found, new.bits, alive, seen)

        async def write(tx: Tx) -> None:
            await search.add_buckets(tx, workspace_id, new.id, buckets)

        await self._engine.write(write)


class _UnreadableError(Exception):
    """Some message cannot be opened."""


class _ChangedError(Exception):
    """A segment is not any more as it was read."""


_Step = Sequence[tuple[int, int, int]]
"""For each segment that is rewritten, the buckets from one to before another."""


def _key(tail: Tail) -> tuple[WorkspaceId, SessionId]:
    return tail.workspace_id, tail.session_id


def _forgetting(tail: Tail) -> Operation[int]:
    async def operation(tx: Tx) -> int:
        # One at least: the session itself is still to be indexed.
        return 1 + await search.forget(tx, tail.workspace_id, tail.session_id, limit=BATCH_ROWS)

    return operation


def _batch(behind: Sequence[Tail]) -> tuple[list[Tail], int]:
    """Return the sessions of one batch, and how many messages it takes of each."""
    batch, rows, size, limit = list[Tail](), 0, 0, BATCH_ROWS
    for tail in behind:
        tail_rows = min(tail.behind, BATCH_ROWS)
        tail_size = min(tail.log_bytes, tail_rows * tail.largest_bytes)
        if batch and (rows + tail_rows > BATCH_ROWS or size + tail_size > BATCH_BYTES):
            break
        if tail_size > BATCH_BYTES:
            limit = max(1, BATCH_BYTES // tail.largest_bytes)
        batch.append(tail)
        rows, size = rows + tail_rows, size + tail_size
    return batch, limit


def _progress(batch: Sequence[Tail], found: Sequence[StoredMessage], limit: int) -> list[Progress]:
    seqs: dict[str, list[int]] = {tail.session_id: [] for tail in batch}
    for message in found:
        seqs[message.session_id].append(message.seq)
    return [
        Progress(
            tail.session_id,
            tail.created_at_us,
            max(seqs[tail.session_id]) if len(seqs[tail.session_id]) >= limit else tail.last_seq,
        )
        for tail in batch
    ]


def _gather(
    key: IndexKey, found: Sequence[StoredMessage], docs: Sequence[Doc], tokens: dict[str, int] | None
) -> tuple[Segment, list[tuple[int, bytes]]]:
    """Return the segment of messages, but for its id, and its buckets."""
    gatherer = Gatherer(key.secret, tokens)
    for message, doc in zip(found, docs, strict=True):
        gatherer.add(doc.doc, text_of_body(message.body))
    gathered = gatherer.gathered()
    bits = bits_for(gathered)
    numbers = [doc.doc for doc in docs] or [0]
    segment = Segment(id=0, key_id=key.id, docs=len(docs), bits=bits, oldest=min(numbers), newest=max(numbers))
    return segment, list(pack(gathered, bits))


def _merge(found: Sequence[bytes], bits: int, alive: set[int] | None, seen: set[int]) -> list[tuple[int, bytes]]:
    merged = merge(found, alive)
    if alive is not None:
        seen.update(*map(numbers, merged.values()))
    return list(pack(merged, bits))


def _size(segment: Segment) -> int:
    """Return which segments one is alike in size: the power of eight that its messages come to."""
    return (segment.docs.bit_length() - 1) // (FANOUT.bit_length() - 1)


def _joined(old: Sequence[Segment], id: int) -> Segment:
    return Segment(
        id=id,
        key_id=old[0].key_id,
        docs=sum(segment.docs for segment in old),
        # A bucket is three quarters full on average.
        bits=bits_for_bytes(sum(BUCKET_BYTES * 3 // 4 << segment.bits for segment in old)),
        oldest=min(segment.oldest for segment in old),
        newest=max(segment.newest for segment in old),
    )


def _steps(old: Sequence[Segment], new: Segment) -> Iterator[_Step]:
    """Yield stretches of all segments that have the same tokens, each about as much as a write may be."""
    bits = min(new.bits, *(segment.bits for segment in old))
    whole = sum(BUCKET_BYTES << segment.bits for segment in old)
    # A power of two, so that every stretch is whole buckets of each segment.
    bits = min(bits, max(0, (whole // PIECE_BYTES).bit_length()))
    for number in range(1 << bits):
        yield [(segment.id, number << (segment.bits - bits), (number + 1) << (segment.bits - bits)) for segment in old]
