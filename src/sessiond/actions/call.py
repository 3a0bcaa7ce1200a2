"""One call of an action: who, when, over which database, and on which terms."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec
import uuid_utils

from sessiond.core.audit import OK, Locator
from sessiond.core.caller import Caller
from sessiond.core.event import Entry
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.session import Session
from sessiond.storage import audit, idempotency
from sessiond.storage.appends import Append
from sessiond.storage.engine import Engine, Operation, T, Tx

A = TypeVar("A")


def itself(result: T) -> T:
    """The answer of a caller who wants what the action made, as it is."""
    return result


class Told(Protocol):
    """What an answer tells of: something of a session or, where it has none, of a user."""

    @property
    def session_id(self) -> str | None: ...

    @property
    def user_id(self) -> str | None: ...


class About(msgspec.Struct, frozen=True):
    """A session, told of; without one, nobody."""

    session_id: str | None = None
    user_id: str | None = None


def nobody(_result: object) -> None:
    """What an answer tells of that tells of no session and no user."""


class Author(msgspec.Struct, frozen=True):
    """Who changes something, and when."""

    workspace_id: WorkspaceId
    actor: str
    at_us: int


class Retry(msgspec.Struct, frozen=True):
    """How a request that may be sent twice is recognised and answered the same."""

    key: str
    fingerprint: bytes
    """A hash of the route and the body."""
    pack: Callable[[Any], bytes]
    """Keeps an answer of whatever kind the caller's `answer` makes."""
    unpack: Callable[[bytes], Any]


class Call:
    """What every action takes first.

    Actions that write also take `answer`: it makes the caller's answer of the result, inside the transaction, so that
    the answer is kept with what it answers and a retried request gets it again.
    """

    __slots__ = ("_started_ns", "address", "caller", "engine", "if_match", "now_us", "retry")

    def __init__(
        self,
        engine: Engine,
        caller: Caller,
        *,
        if_match: str | None = None,
        retry: Retry | None = None,
        address: str | None = None,
    ) -> None:
        self.engine = engine
        self.caller = caller
        self.if_match = if_match
        """The value of an If-Match header: the session must be in this version."""
        self.retry = retry
        self.address = address
        """Where it was asked from; None for what did not come over the network."""
        self.now_us = time.time_ns() // 1000
        self._started_ns = time.perf_counter_ns()

    @property
    def unconditional(self) -> bool:
        """Whether nothing but the session's state decides: such appends can be combined."""
        return self.retry is None and self.if_match is None

    @property
    def author(self) -> Author:
        return Author(self.caller.workspace_id, self.caller.key_id, self.now_us)

    def new_id(self, prefix: str) -> str:
        return new_id(prefix)

    def append(self, session_id: SessionId, *entries: Entry, starts: bool = False) -> Append:
        """Return `entries` as an append in this caller's name."""
        return Append(
            workspace_id=self.caller.workspace_id,
            session_id=session_id,
            user_id=self.caller.user_id,
            at_us=self.now_us,
            actor=self.caller.key_id,
            duration_us=(time.perf_counter_ns() - self._started_ns) // 1000,
            entries=entries,
            starts=starts,
        )

    async def audit(self, tx: Tx, event: str, record_locator: Locator, *, result: str = OK) -> None:
        """Note in the workspace's audit log, in the transaction of what it tells of, what this caller did."""
        await audit.append(
            tx,
            self.caller.workspace_id,
            event,
            record_locator,
            actor=self.caller.key_id,
            at_us=self.now_us,
            address=self.address,
            result=result,
        )

    async def write(self, operation: Operation[T], answer: Callable[[T], A], *, about: Callable[[T], Told | None]) -> A:
        """Run a write, once however often it is asked for under one idempotency key.

        `about` says what the answer tells of: when that is deleted, the answer that is kept goes too.

        Raises:
            KeyReused: the key was used for another request.
            NotFound: the key was used for a session that was deleted.
            Unavailable: as `Engine.write`.
        """
        retry = self.retry
        if retry is None:
            return answer(await self.engine.write(operation))
        claim = self._claim(retry)

        async def once(tx: Tx) -> A:
            kept = await idempotency.claim(tx, claim, at_us=self.now_us)
            if kept is not None:
                again: A = retry.unpack(kept)
                return again
            result = await operation(tx)
            made, told = answer(result), about(result) or About()
            packed = retry.pack(made)
            await idempotency.keep_answer(tx, claim, packed, session_id=told.session_id, user_id=told.user_id)
            return made

        return await self.engine.write(once)

    async def claim(self, note: bytes = b"") -> bytes | None:
        """Take the idempotency key of a request that is not one write, and keep `note` with it.

        Return what was kept the first time, for the caller to decide whether to answer afresh; None when it is new.

        Raises:
            KeyReused: the key was used for another request.
            Unavailable: as `Engine.write`.
        """
        if self.retry is None:
            return None
        claim = self._claim(self.retry)

        async def once(tx: Tx) -> bytes | None:
            kept = await idempotency.claim(tx, claim, at_us=self.now_us)
            if kept is None:
                await idempotency.keep_answer(tx, claim, note)
            return kept

        return await self.engine.write(once)

    def _claim(self, retry: Retry) -> idempotency.Claim:
        return idempotency.Claim(
            workspace_id=self.caller.workspace_id,
            user_id=self.caller.user_id or "",
            key=retry.key,
            fingerprint=retry.fingerprint,
        )


def new_id(prefix: str) -> str:
    """Return a new id; ids sort in the order in which they were made."""
    return f"{prefix}{uuid_utils.uuid7().hex}"


def note(session: Session, by: Author, *entries: Entry) -> Append:
    """Return what happens in a session, whoever asked for it, as an append to its log."""
    return note_in(session.id, by, *entries)


def note_in(session_id: SessionId, by: Author, *entries: Entry) -> Append:
    return Append(
        workspace_id=by.workspace_id,
        session_id=session_id,
        user_id=None,
        at_us=by.at_us,
        actor=by.actor,
        duration_us=0,
        entries=entries,
    )
