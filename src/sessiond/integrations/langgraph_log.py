"""How a thread of LangGraph stands in a session's log, and how the log is read from its end.

Knows nothing of LangGraph's classes: what is in a checkpoint is bytes here.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from sessiond.client import Event, NotFound
from sessiond.client.call import Call
from sessiond.client.events import append_events, list_events
from sessiond.client.sessions import create_session, list_sessions, update_session
from sessiond.integrations.steps import BATCH_BYTES, Asking

CHECKPOINT: Final = "langgraph.checkpoint"
WRITES: Final = "langgraph.writes"
PART: Final = "langgraph.part"
"""A piece of a JSON object with fields of an event that is too long: that has their seqs in `parts`."""
REMOVED: Final = "langgraph.removed"
"""Hides checkpoints before it: all but those in `keep`, or those of the runs in `run_ids`."""

FRAMEWORK: Final = {"framework": "langgraph"}
"""In the metadata of every thread's session, beside its `thread_id`."""

SESSIONS_PAGE: Final = 100
PAGE_FIRST: Final = 4  # the newest checkpoint, with what a few tasks have written; each may be large
PAGE_MAX: Final = 200  # a server ends a page at 8 MiB
SMALL_BYTES: Final = 2048  # not worth being compressed
SHORT_BYTES: Final = 4096  # a field that stays where it is: ids, and metadata as a rule
THREADS_MAX: Final = 10_000  # kept in mind: each is a few hundred bytes
FLOORS_MAX: Final = 1_000

_ID: Final = re.compile("[^/\x00-\x1f\x7f\ud800-\udfff]{1,200}")

Key = tuple[str, str]
"""A checkpoint's namespace and id: one of a kind in its thread."""


def session_of(thread_id: str) -> str:
    """Return the id of a thread's session: its own, or one made of it where that cannot be an id."""
    if _ID.fullmatch(thread_id) and thread_id == thread_id.strip() and thread_id not in (".", ".."):
        return thread_id
    return f"langgraph-{hashlib.sha256(thread_id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def packed(typed: tuple[str, bytes]) -> dict[str, str]:
    """Return what the framework's serializer has made, as JSON; what is large is compressed."""
    kind, said = typed
    if len(said) > SMALL_BYTES:
        return {"type": kind, "zlib": base64.b64encode(zlib.compress(said, 1)).decode()}
    return {"type": kind, "base64": base64.b64encode(said).decode()}


def unpacked(value: Mapping[str, str]) -> tuple[str, bytes]:
    """Return what was `packed`."""
    if "zlib" in value:
        return value["type"], zlib.decompress(base64.b64decode(value["zlib"]))
    return value["type"], base64.b64decode(value["base64"])


class Found:
    """A checkpoint, with what was written for it."""

    def __init__(self, event: Event, *, hidden: bool) -> None:
        said = event.data
        self.data = said
        self.namespace: str = said["ns"]
        self.id: str = said["id"]
        self.parent_id: str | None = said.get("parent")
        self.run_id: str | None = said.get("run_id")
        self.since: int = min(said.get("since", event.seq), event.seq)
        self.hidden = hidden
        self.writes: list[dict[str, Any]] = []
        """The data of the events, the oldest first."""

    @property
    def key(self) -> Key:
        return self.namespace, self.id


class Walk:
    """Goes through a thread's checkpoints, the newest first. A thread that does not exist has none."""

    def __init__(self, thread_id: str, known: Known) -> None:
        self._thread_id = thread_id
        self._known = known
        self._read_from: int | None = None
        """All events from this seq on were read."""
        self._limit = PAGE_FIRST
        self._found = deque[Found]()
        self._writes: dict[Key, list[dict[str, Any]]] = {}
        self._seen = set[Key]()
        self._kept: set[Key] | None = None
        self._removed_runs = set[str]()

    def next(self) -> Asking[Found | None]:
        """Return the next checkpoint, with everything that was written for it; None behind the last."""
        while self._read_from != 0 and not self._is_complete():
            yield from self._read()
        if not self._found:
            return None
        found = self._found.popleft()
        found.writes = self._writes.pop(found.key, [])[::-1]
        return found

    def finish(self) -> None:
        """Read no more: what is yet to come is what has been read."""
        self._read_from = 0

    def _is_complete(self) -> bool:
        return bool(self._found) and self._read_from is not None and self._found[0].since >= self._read_from

    def _read(self) -> Asking[None]:
        try:
            page = yield list_events(
                session_of(self._thread_id),
                type=[CHECKPOINT, WRITES, REMOVED],
                before=self._read_from,
                order="desc",
                limit=self._limit,
            )
        except NotFound:
            self._read_from = 0
            return
        if self._read_from is None and page.data:
            self._known.saw(self._thread_id, page.data[0].seq)
        self._limit = min(self._limit * 2, PAGE_MAX)
        for event in page.data:
            self._take(event)
        self._read_from = page.data[-1].seq if page.data and page.next_cursor is not None else 0

    def _take(self, event: Event) -> None:
        said = event.data
        if event.type == WRITES:
            self._writes.setdefault((said["ns"], said["checkpoint_id"]), []).append(said)
        elif event.type == REMOVED:
            self._removed_runs.update(said.get("run_ids", ()))
            if "keep" in said:
                keep = {(namespace, id) for namespace, id in said["keep"]}
                self._kept = keep if self._kept is None else self._kept & keep
        elif (
            key := (said["ns"], said["id"])
        ) not in self._seen:  # else it was put once more, and this is the older one
            self._seen.add(key)
            hidden = said.get("run_id") in self._removed_runs or (self._kept is not None and key not in self._kept)
            self._found.append(Found(event, hidden=hidden))


class Known:
    """What is known of threads without asking: how long their logs were, at least.

    While a graph runs, what is written for a checkpoint may get into the log before the checkpoint itself. So a
    checkpoint says since when: a seq that the log had not reached when the first thing was written for it. Whoever
    reads from the end knows by that where to stop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[str, _Thread] = {}

    def saw(self, thread_id: str, seq: int) -> None:
        """Note that the thread's log has come to `seq`."""
        with self._lock:
            thread = self._threads.get(thread_id)
            if thread is None:
                thread = self._threads[thread_id] = _Thread()
                if len(self._threads) > THREADS_MAX:
                    del self._threads[next(iter(self._threads))]
            thread.last_seq = max(thread.last_seq, seq)

    def has(self, thread_id: str) -> bool:
        return thread_id in self._threads

    def forget(self, thread_id: str) -> None:
        with self._lock:
            self._threads.pop(thread_id, None)

    def begin(self, thread_id: str, keys: Sequence[Key]) -> None:
        """Note that something is about to be written that belongs to these checkpoints."""
        with self._lock:
            thread = self._threads.get(thread_id, _Thread())
            for key in keys:
                thread.floors.setdefault(key, thread.last_seq + 1)
            while len(thread.floors) > FLOORS_MAX:
                del thread.floors[next(iter(thread.floors))]

    def since(self, thread_id: str, key: Key) -> int:
        """Return a seq before which nothing of the checkpoint can be."""
        with self._lock:
            thread = self._threads.get(thread_id, _Thread())
            return min(thread.floors.pop(key, thread.last_seq + 1), thread.last_seq + 1)


class _Thread:
    """A thread's log, as far as it is known."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.floors: dict[Key, int] = {}


def thread_ids() -> Asking[Sequence[str]]:
    """Return the ids of all threads of the workspace, the newest first."""
    ids, cursor = list[str](), None
    while True:
        page = yield list_sessions(metadata=FRAMEWORK, limit=SESSIONS_PAGE, cursor=cursor)
        ids += [session.metadata.get("thread_id", session.id) for session in page.data]
        cursor = page.next_cursor
        if cursor is None:
            return ids


def create(thread_id: str, known: Known) -> Asking[None]:
    """Create the thread's session, unless it exists; one that was made for something else is marked too."""
    mark = FRAMEWORK | {"thread_id": thread_id}
    session = yield create_session(id=session_of(thread_id), metadata=mark, if_exists="return")
    if any(session.metadata.get(name) != value for name, value in mark.items()):
        session = yield update_session(session.id, metadata=mark)
    known.saw(thread_id, session.last_seq)


def append(thread_id: str, events: Sequence[Mapping[str, Any]], known: Known) -> Asking[None]:
    """Add events to the thread's log, which is created if need be: all of them, or none."""
    try:
        appended = yield from _append(thread_id, events)
    except NotFound:
        known.forget(thread_id)  # somebody has deleted it
        yield from create(thread_id, known)
        appended = yield from _append(thread_id, events)
    known.saw(thread_id, appended[-1].seq)


def _append(thread_id: str, events: Sequence[Mapping[str, Any]]) -> Asking[list[Event]]:
    if len(msgspec.json.encode(events)) > BATCH_BYTES:
        shortened = []
        for event in events:
            shortened.append({**event, "data": (yield from _cut(thread_id, event["data"]))})
        events = shortened
    appended: list[Event] = yield append_events(session_of(thread_id), events)
    return appended


def _cut(thread_id: str, data: Mapping[str, Any]) -> Asking[dict[str, Any]]:
    """Return an event's data without its long fields, which are in the log then."""
    short = {name: value for name, value in data.items() if len(msgspec.json.encode(value)) <= SHORT_BYTES}
    text = msgspec.json.encode({name: value for name, value in data.items() if name not in short}).decode()
    seqs = list[int]()
    for start in range(0, len(text), BATCH_BYTES):
        piece = {"type": PART, "data": {"text": text[start : start + BATCH_BYTES]}}
        appended = yield append_events(session_of(thread_id), [piece])
        seqs.append(appended[0].seq)
    return short | {"parts": seqs}


def whole(thread_id: str, data: Mapping[str, Any]) -> Asking[dict[str, Any]]:
    """Return an event's data with its long fields."""
    pieces = list[str]()
    for seq in data.get("parts", ()):
        page = yield list_events(session_of(thread_id), type=PART, after=seq - 1, before=seq + 1)
        pieces.append(page.data[0].data["text"])
    long: dict[str, Any] = msgspec.json.decode("".join(pieces) or "{}")
    return {name: value for name, value in data.items() if name != "parts"} | long


def append_if_there(thread_id: str, event: Mapping[str, Any]) -> Asking[None]:
    """Add an event to the thread's log, if there is one."""
    call: Call[Any] = append_events(session_of(thread_id), [event])
    try:
        yield call
    except NotFound:
        return
