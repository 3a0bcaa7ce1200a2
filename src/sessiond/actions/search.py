"""Searching: the messages that have all of some words and phrases, newest first.

The index names candidates, and each is looked at: what it does not have, or has not any more, is never shown. What is
not indexed yet is read as it is. A page takes bounded work, so that it may be short, or empty, and still not the last.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec

from sessiond.actions.call import Call
from sessiond.core.caller import Scope
from sessiond.core.event import StoredMessage
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.message import unpack_message
from sessiond.core.postings import WORD, Segment, bucket_of, first_doc, latest_us, look_up, make_token
from sessiond.core.search import Match, Term, find, parse_query, text_in
from sessiond.storage import events, seals, search, sessions
from sessiond.storage.engine import Tx
from sessiond.storage.pages import count_fitting
from sessiond.storage.seals import PLAIN, State
from sessiond.storage.search import Doc

STEP_MESSAGES: Final = 25  # opened together: of the largest kind they are 25 MiB
STEPS_MAX: Final = 40  # of one page: a thousand messages are looked at, some milliseconds
LOCATED_MAX: Final = 2_000  # candidates of one step that are looked up, of which only some are of who is asked for
LOCATED_TOGETHER: Final = 100
SEGMENTS_FIRST: Final = 16  # read in one go, most often all there are; behind them twice as many, and so on
SESSION_DOCS_MAX: Final = 2_000  # of a session that are looked for in the index at a time
TAILS_MAX: Final = 1_000  # sessions of which something may not be indexed: a millisecond or two
TAIL_MESSAGES_MAX: Final = 500
TAIL_BYTES_MAX: Final = 4 * 1024 * 1024
SLACK_DOCS: Final = 1 << 16  # docs of one microsecond: far more than one append has
INLINE_BYTES: Final = 64 * 1024  # what is looked through on the loop, in some milliseconds

_NEWEST: Final = 2**63 - 1


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched for, and where. None: anywhere."""

    query: str
    session_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None


class Place(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Where a message stands in what was found: the newest first, by time, session and seq."""

    at_us: int
    session_id: str
    seq: int


class Found(msgspec.Struct, frozen=True):
    message: StoredMessage
    match: Match


class FoundPage(msgspec.Struct, frozen=True, kw_only=True):
    found: list[Found]
    next: Place | None
    """Behind what the next page begins; None: there is nothing more."""
    complete: bool
    """Whether all that is not indexed yet was looked through."""


class _Step(msgspec.Struct, frozen=True):
    """Candidates from the index, the newest first."""

    messages: list[StoredMessage]
    next: Place | None


class _Fresh(msgspec.Struct, frozen=True):
    """What is not indexed yet."""

    messages: list[StoredMessage]
    complete: bool


async def read_page(call: Call, wanted: Wanted, *, behind: Place | None, limit: int) -> FoundPage:
    """Return up to `limit` messages that have what is asked for, from behind a place on, the newest first.

    Raises:
        Forbidden: the caller lacks the read scope, or is bound to another user.
        NotFound: there is no session of that id that the caller may see.
        InvalidInput: the query cannot be read; see `core.search.parse_query`.
    """
    call.caller.require(Scope.SESSIONS_READ)
    if wanted.user_id is not None:
        call.caller.require_own(wanted.user_id)
    else:
        wanted = msgspec.structs.replace(wanted, user_id=call.caller.user_id)
    terms = parse_query(wanted.query)
    workspace_id = call.caller.workspace_id

    async def begin(tx: Tx) -> tuple[_Fresh, _Step]:
        if wanted.session_id is not None:
            await sessions.get(tx, workspace_id, wanted.session_id, user_id=wanted.user_id)
        opening = await search.read_opening(tx, workspace_id, limit=TAILS_MAX + 1)
        secrets = await _read_secrets(tx, workspace_id, opening.state)
        if not opening.to_look_at:
            step = await _read_step(tx, workspace_id, wanted, terms, behind, secrets, opening.segments)
            return _Fresh([], complete=True), step
        # The segments are read behind it, again: what is indexed in between is in both.
        whole = opening.to_look_at <= TAILS_MAX or wanted.session_id is not None
        fresh = await _read_fresh(tx, workspace_id, wanted, sealed=PLAIN not in secrets, whole=whole)
        return fresh, await _read_step(tx, workspace_id, wanted, terms, behind, secrets)

    fresh, step = await call.engine.scan(begin)
    hits = {_place(hit.message): hit for hit in await _verify(fresh.messages, terms)}
    hits = {place: hit for place, hit in hits.items() if behind is None or place < behind}
    steps = 1
    while True:
        hits |= {_place(hit.message): hit for hit in await _verify(step.messages, terms)}
        # Behind `step.next` there may be more of the index than was looked at.
        known = sorted((place for place in hits if step.next is None or place >= step.next), reverse=True)
        if step.next is None or len(known) > limit or steps == STEPS_MAX:
            break
        start = step.next

        async def go_on(tx: Tx, start: Place = start) -> _Step:
            opening = await search.read_opening(tx, workspace_id, limit=0)
            secrets = await _read_secrets(tx, workspace_id, opening.state)
            return await _read_step(tx, workspace_id, wanted, terms, start, secrets, opening.segments)

        step = await call.engine.scan(go_on)
        steps += 1
    shown = known[: _fitting(hits, known, limit)]
    rest: Place | None = step.next
    if len(shown) < len(known):
        rest = shown[-1]
    return FoundPage(found=[hits[place] for place in shown], next=rest, complete=fresh.complete)


async def _read_secrets(tx: Tx, workspace_id: WorkspaceId, state: State) -> dict[int, bytes]:
    """Return by its id each key that the index may have been made with; without `PLAIN`, all that is said is sealed."""
    return {key.id: key.secret for key in await seals.read_index_keys(tx, workspace_id, state)}


async def _read_fresh(tx: Tx, workspace_id: WorkspaceId, wanted: Wanted, *, sealed: bool, whole: bool) -> _Fresh:
    tails = await search.read_tails(
        tx,
        workspace_id,
        session_id=wanted.session_id,
        user_id=wanted.user_id,
        agent_id=wanted.agent_id,
        limit=TAILS_MAX,
    )
    stretches, size, room, complete = list[tuple[SessionId, int, int]](), 0, TAIL_MESSAGES_MAX, whole
    for tail in tails:
        size += min(tail.log_bytes, tail.behind * tail.largest_bytes)
        if size > TAIL_BYTES_MAX or not room:
            complete = False
            break
        # The last ones, where there are too many.
        after = max(tail.after, tail.last_seq - room)
        complete = complete and after == tail.after
        room -= tail.last_seq - after
        stretches.append((tail.session_id, after, tail.last_seq))
    if not stretches:
        return _Fresh([], complete)
    found = await events.read_tails(tx, workspace_id, stretches, limit=TAIL_MESSAGES_MAX, sealed=sealed)
    return _Fresh(found, complete)


async def _read_step(
    tx: Tx,
    workspace_id: WorkspaceId,
    wanted: Wanted,
    terms: Sequence[Term],
    behind: Place | None,
    secrets: Mapping[int, bytes],
    segments: Sequence[Segment] | None = None,
) -> _Step:
    """Return the next messages that the index says have all words, and where to go on."""
    newest = first_doc(behind.at_us) + SLACK_DOCS if behind is not None else _NEWEST
    own, floor = await _own_docs(tx, workspace_id, wanted.session_id, behind, newest)
    pending = _Pending(newest, own)
    if segments is None:
        segments = await search.read_segments(tx, workspace_id)
    unread = [segment for segment in segments if segment.oldest <= newest]
    if own is not None:
        unread = [segment for segment in unread if own and segment.newest >= min(own)]
    postings = _Postings(unread, secrets, terms)
    places, held, located = list[Place](), list[Doc](), 0
    while True:
        if postings.unread and len(pending) < STEP_MESSAGES:
            pending.add(await postings.read_next(tx, workspace_id))
            continue
        bound = max(floor, postings.unread[0].newest) if postings.unread else floor
        if bound < 0 and len(pending) <= STEP_MESSAGES and not places and not held:
            found = await _read_last(tx, workspace_id, wanted, pending, sealed=PLAIN not in secrets)
            return _Step([message for message in found if behind is None or _place(message) < behind], None)
        docs = pending.take(bound, LOCATED_TOGETHER)
        if not docs and postings.unread:
            pending.add(await postings.read_next(tx, workspace_id))
            continue
        if docs:
            held += await search.locate(
                tx,
                workspace_id,
                docs,
                session_id=wanted.session_id,
                user_id=wanted.user_id,
                agent_id=wanted.agent_id,
            )
            located += len(docs)
        # What is not looked at yet is not younger than that.
        horizon = latest_us(max(bound, pending.first)) if max(bound, pending.first) >= 0 else -1
        ready = [doc for doc in held if doc.created_at_us > horizon]
        held = [doc for doc in held if doc.created_at_us <= horizon]
        places += (place for place in map(_place, ready) if behind is None or place < behind)
        if horizon < 0:
            rest = None
            break
        rest = Place(horizon + 1, "", 0)
        moved = behind is None or rest < behind
        if moved and (len(places) >= STEP_MESSAGES or located >= LOCATED_MAX or not docs):
            break
    places.sort(reverse=True)
    if len(places) > STEP_MESSAGES:
        places, rest = places[:STEP_MESSAGES], places[STEP_MESSAGES - 1]
    read = [(SessionId(place.session_id), place.seq) for place in places]
    found = await events.read_messages_at(tx, workspace_id, read, sealed=PLAIN not in secrets)
    return _Step(found, rest)


async def _read_last(
    tx: Tx, workspace_id: WorkspaceId, wanted: Wanted, pending: _Pending, *, sealed: bool
) -> list[StoredMessage]:
    """Return all that is pending. So end most searches, which look for what is rare."""
    docs = pending.take(-1, STEP_MESSAGES)
    if not docs:
        return []
    return await events.read_messages_of_docs(
        tx,
        workspace_id,
        docs,
        session_id=wanted.session_id,
        user_id=wanted.user_id,
        agent_id=wanted.agent_id,
        sealed=sealed,
    )


class _Pending:
    """Docs that are not looked up yet: the newest can be taken."""

    def __init__(self, newest: int, own: frozenset[int] | None) -> None:
        self._newest = newest
        self._own = own
        self._docs: list[int] = []

    def __len__(self) -> int:
        return len(self._docs)

    @property
    def first(self) -> int:
        """The newest; -1 when there is none."""
        return self._docs[-1] if self._docs else -1

    def add(self, docs: Collection[int]) -> None:
        own = self._own
        self._docs += [doc for doc in docs if doc <= self._newest and (own is None or doc in own)]
        self._docs.sort()

    def take(self, bound: int, most: int) -> list[int]:
        """Return up to `most` docs that are newer than `bound`, and have them no more."""
        start = max(bisect_right(self._docs, bound), len(self._docs) - most)
        taken = self._docs[start:]
        del self._docs[start:]
        return taken


async def _own_docs(
    tx: Tx, workspace_id: WorkspaceId, session_id: str | None, behind: Place | None, newest: int
) -> tuple[frozenset[int] | None, int]:
    """Return the docs of the session that is searched, and below which there are more; None, when all are."""
    if session_id is None:
        return None, -1
    most = SESSION_DOCS_MAX
    listed = await search.read_docs_of(tx, workspace_id, session_id, newest=newest, limit=most)
    if len(listed) == most and behind is not None and latest_us(listed[-1]) >= behind.at_us:
        # So many at one microsecond: this time those behind them, too.
        most += SLACK_DOCS
        listed = await search.read_docs_of(tx, workspace_id, session_id, newest=newest, limit=most)
    return frozenset(listed), -1 if len(listed) < most else listed[-1] - 1


class _Postings:
    """Tells what segments have, one after another; what of them is needed is read of several in one round trip.

    It is unpacked of one at a time: a common word is in the newest, and its list in a large one is long.
    """

    def __init__(self, segments: Sequence[Segment], secrets: Mapping[int, bytes], terms: Sequence[Term]) -> None:
        keys = frozenset().union(*(term.keys for term in terms))
        self._tokens = {key_id: [make_token(secret, WORD, key) for key in keys] for key_id, secret in secrets.items()}
        # What was made with a key that is no more cannot be asked.
        self.unread = deque(segment for segment in segments if segment.key_id in self._tokens)
        self._buckets: Mapping[tuple[int, int], bytes] = {}
        self._read = 0
        self._together = SEGMENTS_FIRST

    async def read_next(self, tx: Tx, workspace_id: WorkspaceId) -> Collection[int]:
        """Return the docs of the next segment that have all that is asked for, as far as hashes tell."""
        if not self._read:
            batch = list(islice(self.unread, self._together))
            wanted = {place for segment in batch for place, _ in self._places(segment)}
            self._buckets = await search.read_buckets(tx, workspace_id, sorted(wanted))
            self._read, self._together = len(batch), 2 * self._together
        having = []
        for place, token in self._places(self.unread.popleft()):
            bucket = self._buckets.get(place)
            having.append(look_up(bucket, token) if bucket is not None else ())
        self._read -= 1
        having.sort(key=len)
        return set(having[0]).intersection(*having[1:])

    def _places(self, segment: Segment) -> list[tuple[tuple[int, int], int]]:
        """Return for each token the bucket in which it would be."""
        return [((segment.id, bucket_of(token, segment.bits)), token) for token in self._tokens[segment.key_id]]


async def _verify(messages: Sequence[StoredMessage], terms: Sequence[Term]) -> list[Found]:
    if sum(len(message.body) for message in messages) <= INLINE_BYTES:
        return list(_matching(messages, terms))
    return await asyncio.to_thread(lambda: list(_matching(messages, terms)))


def _matching(messages: Sequence[StoredMessage], terms: Sequence[Term]) -> Iterator[Found]:
    for message in messages:
        match = find(text_in(unpack_message(message.body).content), terms)
        if match is not None:
            yield Found(message, match)


def _place(message: Doc | StoredMessage) -> Place:
    return Place(message.created_at_us, message.session_id, message.seq)


def _fitting(hits: Mapping[Place, Found], places: Sequence[Place], limit: int) -> int:
    return count_fitting((len(hits[place].message.body) for place in places), limit)
