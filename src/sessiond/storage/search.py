"""The index of messages, as rows: what is not in it yet, its segments, and how they are written, read, merged, removed.

Which messages have a word is in segments (`core/postings.py`), which message a number stands for in `search_docs`. A
search reads what is not indexed first and the segments after, so that what is indexed meanwhile is in both and not in
neither. A segment that was replaced is kept for `GONE_KEPT_US`, for searches that have begun.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.postings import Segment, first_doc
from sessiond.storage import search_names
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.seals import State

OWN_US: Final = 10_000_000  # how long others leave a workspace to who has indexed in it last
GONE_KEPT_US: Final = 60_000_000  # longer than any search takes: a command may take 30 s
BUILDING_US: Final = 3_600_000_000  # what is not finished by then is of a process that ended
LAG_MAX: Final = 100_000  # sessions that are looked at to tell how far the index is behind
DROP_MAX: Final = 100  # buckets of a segment that go in one piece


class Tail(msgspec.Struct, frozen=True):
    """A session of which some is not indexed. In the order of `search_to_index_select`."""

    workspace_id: WorkspaceId
    session_id: SessionId
    slot: int
    created_at_us: int
    last_seq: int
    log_bytes: int
    largest_bytes: int
    indexed_seq: int
    """0: nothing is indexed; -1: nothing but what was of another session of this id."""

    @property
    def after(self) -> int:
        return max(0, self.indexed_seq)

    @property
    def behind(self) -> int:
        return self.last_seq - self.after


class Doc(msgspec.Struct, frozen=True):
    """A message in the index. In the order of `search_locate`."""

    doc: int
    created_at_us: int
    session_id: SessionId
    seq: int


class Progress(msgspec.Struct, frozen=True):
    """Up to where a session is indexed from now on."""

    session_id: SessionId
    created_at_us: int
    seq: int


class Lag(msgspec.Struct, frozen=True):
    """How far the index is behind."""

    sessions: int
    events: int
    """At most so many messages; other events are not told apart until somebody looks."""
    since_us: int | None
    """When the session that waits longest was last updated; None: everything is indexed."""


class Opening(msgspec.Struct, frozen=True):
    """What a search begins with, all of one moment."""

    state: State
    to_look_at: int
    """Sessions that may not be indexed, as far as they were counted."""
    segments: list[Segment]


async def read_to_index(tx: Tx, behind: tuple[str, int, str], *, limit: int) -> list[Tail]:
    """Return sessions that may not be indexed, from behind a workspace, slot and id on."""
    rows = await tx.all("search_to_index", workspace=behind[0], slot=behind[1], id=behind[2], limit=limit)
    return [Tail(*row) for row in rows]


async def read_opening(tx: Tx, workspace_id: WorkspaceId, *, limit: int) -> Opening:
    """Return what a search begins with, in one round trip; sessions are counted up to `limit`."""
    rows = await tx.all("search_opening", workspace=workspace_id, limit=limit)
    key_id, changing, to_look_at = rows[0][:3] if rows else (None, 0, 0)
    segments = [_segment(row[3:]) for row in rows if row[3] is not None]
    return Opening(State(key_id, changing=bool(changing)), to_look_at, segments)


async def read_tails(
    tx: Tx,
    workspace_id: WorkspaceId,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    agent_id: str | None = None,
    limit: int,
) -> list[Tail]:
    """Return sessions of a workspace that are not indexed, the last updated first.

    It looks at `limit` that may be so: such as were updated lately.
    """
    rows = await tx.all(
        "search_tails", workspace=workspace_id, session=session_id, user=user_id, agent=agent_id, limit=limit
    )
    return [Tail(*row) for row in rows]


async def quieten(tx: Tx, workspace_id: WorkspaceId, tails: Sequence[Tail], *, slot: int) -> None:
    """Look no more at sessions that are indexed and were last updated in `slot` or before, until they are appended to.

    Whoever appends to such a session is told that nobody looks, and changes that: see `session_bump`.
    """
    if tx.takes_arrays:
        ids, seqs = [tail.session_id for tail in tails], [tail.last_seq for tail in tails]
        await tx.run("search_quiet_each", workspace=workspace_id, ids=ids, seqs=seqs, slot=slot)
        return
    await tx.each(
        "search_quiet",
        [{"workspace": workspace_id, "id": tail.session_id, "seq": tail.last_seq, "slot": slot} for tail in tails],
    )


async def read_lag(tx: Tx, workspace_id: WorkspaceId | None = None) -> Lag:
    """Return how far the index is behind, in one workspace or in all."""
    row = await tx.one("search_lag", workspace=workspace_id, limit=LAG_MAX)
    assert row is not None
    return Lag(*row)


async def find_version(tx: Tx, workspace_id: WorkspaceId, *, owner: str, now_us: int) -> int | None:
    """Return the version of a workspace's index, for `change`; None when another process is at it."""
    row = await tx.one("search_owner", workspace=workspace_id)
    if row is None:
        return 0
    return row[2] if row[0] == owner or row[1] < now_us else None


async def change(tx: Tx, workspace_id: WorkspaceId, *, version: int, segments: int = 1) -> int | None:
    """Take a workspace's index in hand, and numbers for new segments; return the first of them.

    None when it has changed since it was in `version`: what was read of it is not so any more.
    """
    found = await _lock(tx, workspace_id)
    if found[0] != version:
        return None
    await tx.run("search_change", workspace=workspace_id, segments=segments)
    return int(found[1])


async def allocate(tx: Tx, workspace_id: WorkspaceId) -> int:
    """Return a number for a new segment, which changes nothing of the index yet."""
    found = await _lock(tx, workspace_id)
    await tx.run("search_allocate", workspace=workspace_id)
    return int(found[1])


async def own(tx: Tx, workspace_id: WorkspaceId, *, owner: str, now_us: int) -> None:
    """Have other processes leave a workspace to this one for a while."""
    await tx.run("search_own", workspace=workspace_id, owner=owner, until_us=now_us + OWN_US)


async def number(tx: Tx, workspace_id: WorkspaceId, places: Sequence[tuple[int, SessionId, int]]) -> list[Doc]:
    """Give messages, each a time, a session and a seq, in that order, numbers that nobody has, in the same order."""
    given, free = list[int](), -1
    for at_us, _, _ in places:
        free = max(free + 1, first_doc(at_us))
        given.append(free)
    taken = set[int]()
    while rows := await tx.all("search_docs_taken", workspace=workspace_id, docs=_array(tx, given)):
        # Said at the same microsecond in another session, or in one batch with more than a microsecond has numbers for.
        taken.update(row[0] for row in rows)
        free = -1
        for place, doc in enumerate(given):
            free = max(free + 1, doc)
            while free in taken:
                free += 1
            given[place] = free
    return [Doc(doc, at_us, session_id, seq) for doc, (at_us, session_id, seq) in zip(given, places, strict=True)]


async def add_docs(tx: Tx, workspace_id: WorkspaceId, docs: Sequence[Doc], *, key_id: int) -> None:
    if tx.takes_arrays:
        await tx.run(
            "search_docs_insert_each",
            workspace=workspace_id,
            key=key_id,
            docs=[doc.doc for doc in docs],
            ids=[doc.session_id for doc in docs],
            seqs=[doc.seq for doc in docs],
            ats_us=[doc.created_at_us for doc in docs],
        )
        return
    await tx.each(
        "search_docs_insert",
        [
            {
                "workspace": workspace_id,
                "doc": doc.doc,
                "id": doc.session_id,
                "seq": doc.seq,
                "at_us": doc.created_at_us,
                "key": key_id,
            }
            for doc in docs
        ],
    )


async def note_progress(tx: Tx, workspace_id: WorkspaceId, progress: Sequence[Progress]) -> None:
    if tx.takes_arrays:
        await tx.run(
            "search_progress_put_each",
            workspace=workspace_id,
            ids=[each.session_id for each in progress],
            ats_us=[each.created_at_us for each in progress],
            seqs=[each.seq for each in progress],
        )
        return
    await tx.each(
        "search_progress_put",
        [
            {"workspace": workspace_id, "id": each.session_id, "at_us": each.created_at_us, "seq": each.seq}
            for each in progress
        ],
    )


async def add_segment(tx: Tx, workspace_id: WorkspaceId, segment: Segment, *, gone_at_us: int | None = None) -> None:
    """Add a segment's row: to be read from now on, or, with `gone_at_us`, not before `begin`."""
    await tx.run(
        "search_segment_insert",
        workspace=workspace_id,
        id=segment.id,
        key_id=segment.key_id,
        docs=segment.docs,
        bits=segment.bits,
        oldest=segment.oldest,
        newest=segment.newest,
        gone_at_us=gone_at_us,
    )


async def add_buckets(tx: Tx, workspace_id: WorkspaceId, segment: int, buckets: Collection[tuple[int, bytes]]) -> None:
    rows: list[dict[str, Value]] = [
        {"workspace": workspace_id, "segment": segment, "bucket": bucket, "entries": entries}
        for bucket, entries in buckets
    ]
    await tx.each("search_postings_insert", rows)


async def begin(tx: Tx, workspace_id: WorkspaceId, segment: Segment) -> bool:
    """Have a segment read that is whole now; False when it took so long that it was removed."""
    row = await tx.one(
        "search_segment_begins",
        workspace=workspace_id,
        id=segment.id,
        docs=segment.docs,
        oldest=segment.oldest,
        newest=segment.newest,
    )
    return row is not None


async def retire(tx: Tx, workspace_id: WorkspaceId, segment: Segment, *, at_us: int) -> bool:
    """Have no search begin to read a segment; False when it is not as it was read."""
    row = await tx.one(
        "search_segment_goes", workspace=workspace_id, id=segment.id, dirty=int(segment.dirty), at_us=at_us
    )
    return row is not None


async def read_segments(tx: Tx, workspace_id: WorkspaceId) -> list[Segment]:
    """Return the segments of a workspace, that with the newest message first."""
    rows = await tx.all("search_segments", workspace=workspace_id)
    return [_segment(row) for row in rows]


async def read_buckets(
    tx: Tx, workspace_id: WorkspaceId, wanted: Sequence[tuple[int, int]]
) -> Mapping[tuple[int, int], bytes]:
    """Return what buckets have, each named by segment and number; one that is empty is not there."""
    if not tx.takes_arrays:
        found: dict[tuple[int, int], bytes] = {}
        for segment, bucket in wanted:
            row = await tx.one("search_bucket", workspace=workspace_id, segment=segment, bucket=bucket)
            if row is not None:
                found[segment, bucket] = row[0]
        return found
    segments, buckets = [place[0] for place in wanted], [place[1] for place in wanted]
    rows = await tx.all("search_buckets", workspace=workspace_id, segments=segments, buckets=buckets)
    return {(row[0], row[1]): row[2] for row in rows}


async def read_range(tx: Tx, workspace_id: WorkspaceId, segment: int, *, first: int, last: int) -> list[bytes]:
    """Return the buckets of a segment from `first` to before `last`."""
    rows = await tx.all("search_postings_range", workspace=workspace_id, segment=segment, first=first, last=last)
    return [row[0] for row in rows]


async def read_alive(tx: Tx, workspace_id: WorkspaceId, segment: Segment) -> set[int]:
    """Return all docs that a segment may have."""
    rows = await tx.all(
        "search_docs_between",
        workspace=workspace_id,
        oldest=segment.oldest,
        newest=segment.newest,
        key=segment.key_id,
    )
    return {row[0] for row in rows}


async def locate(
    tx: Tx,
    workspace_id: WorkspaceId,
    docs: Collection[int],
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    agent_id: str | None = None,
) -> list[Doc]:
    """Return where messages are, of sessions that are there and as asked for."""
    rows = await tx.all(
        "search_locate",
        workspace=workspace_id,
        docs=_array(tx, docs),
        session=session_id,
        user=user_id,
        agent=agent_id,
    )
    return [Doc(*row) for row in rows]


async def read_docs_of(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, newest: int, limit: int) -> list[int]:
    """Return a session's docs up to `newest`, that first."""
    rows = await tx.all(
        "search_docs_of_session", workspace=workspace_id, session=session_id, newest=newest, limit=limit
    )
    return [row[0] for row in rows]


async def remove_some(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> int:
    """Remove up to `limit` messages of a session from the index, and then its names; 0 when nothing of it is left.

    No search finds them any more. The hashes of their words go with the segments that have them, which are written anew
    within seconds (`actions/indexing.py`: `clean`) and kept a minute more. A session that is still there is indexed
    anew.
    """
    removed = await forget(tx, workspace_id, session_id, limit=limit)
    if removed < limit:
        await search_names.drop(tx, workspace_id, session_id)
    return removed


async def forget(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> int:
    """Have a session's messages indexed anew, with the key that is for that now.

    Bounded as `remove_some`: it is done when that is less than `limit`.
    """
    await _lock(tx, workspace_id)
    rows = await tx.all("search_docs_drop", workspace=workspace_id, session=session_id, limit=limit)
    if rows:
        docs = [row[0] for row in rows]
        await tx.run("search_segments_touched", workspace=workspace_id, oldest=min(docs), newest=max(docs))
    if len(rows) < limit:
        await tx.run("search_progress_drop", workspace=workspace_id, session=session_id)
        await tx.run("search_again", workspace=workspace_id, session=session_id)
    # What the indexer has read by now is not written.
    await tx.run("search_change", workspace=workspace_id, segments=0)
    return len(rows)


async def find_dirty(tx: Tx, behind: tuple[str, int]) -> tuple[WorkspaceId, int] | None:
    """Return a segment with docs that are gone, from behind a workspace and an id on."""
    row = await tx.one("search_segment_dirty", workspace=behind[0], id=behind[1])
    return (row[0], row[1]) if row is not None else None


async def sweep(tx: Tx, *, now_us: int, kept_us: int = GONE_KEPT_US) -> int:
    """Remove a piece of a segment that nobody reads any more; 0 when there is none."""
    row = await tx.one("search_segment_gone", before_us=now_us - kept_us)
    if row is None:
        return 0
    gone = await tx.all("search_postings_drop", workspace=row[0], segment=row[1], limit=DROP_MAX)
    if len(gone) < DROP_MAX:
        await tx.run("search_segment_drop", workspace=row[0], id=row[1])
    return max(1, len(gone))


async def _lock(tx: Tx, workspace_id: WorkspaceId) -> Row:
    found = await tx.one("search_lock", workspace=workspace_id)
    if found is None:
        await tx.run("search_begin", workspace=workspace_id)
        found = await tx.one("search_lock", workspace=workspace_id)
    assert found is not None
    return found


def _segment(row: Row) -> Segment:
    id, key_id, docs, bits, oldest, newest, dirty = row
    return Segment(id=id, key_id=key_id, docs=docs, bits=bits, oldest=oldest, newest=newest, dirty=bool(dirty))


def _array(tx: Tx, values: Collection[int]) -> Value:
    return list(values) if tx.takes_arrays else msgspec.json.encode(list(values)).decode()
