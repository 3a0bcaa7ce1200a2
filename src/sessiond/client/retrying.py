"""When a call is tried again, and after how long. Decided from what happened; nothing here waits or sends."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Generic

import msgspec

from sessiond.client.call import Call, Response, T, reads_nothing
from sessiond.client.errors import SessiondError, error_of, unexpected

FIRST_SECONDS: Final = 0.2
MOST_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 60.0  # a server that asks for more is not waited for: the caller may want to know
AGAIN: Final = frozenset({429, 502, 503, 504})
WRITES: Final = frozenset({"POST", "PATCH"})


def prepared(call: Call[T]) -> Call[T]:
    """Return a call that can be sent twice and is done once: a write has an Idempotency-Key."""
    if call.method not in WRITES or "idempotency-key" in call.headers:
        return call
    return msgspec.structs.replace(call, headers={**call.headers, "idempotency-key": uuid.uuid4().hex})


def backoff_seconds(tries: int) -> float:
    """Return how long to wait after so many tries: twice as long each time, give or take half."""
    most = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** (tries - 1))
    return most * random.uniform(0.5, 1.5)  # noqa: S311  # no secret: clients are not to come back all at once


class Done(msgspec.Struct, Generic[T], frozen=True):
    """What a call came to."""

    result: T


class Attempts:
    """What became of one call so far."""

    def __init__(self, *, retries: int) -> None:
        self._retries = retries
        self._tries = 0
        self._unsure = False
        """Whether an earlier try may have been done without our having heard of it."""

    def after_answer(self, call: Call[T], response: Response) -> Done[T] | float:
        """Return what the answer means, or after how many seconds to try again.

        Raises:
            ApiError: the server said no, for good or once too often.
            UnexpectedAnswer: the answer means nothing.
        """
        if response.status < 400:
            return Done(understood(call, response))
        if response.status == 404 and call.method == "DELETE" and call.read is reads_nothing and self._unsure:
            return Done(call.read(response))  # it was there, and our first try removed it
        self._tries += 1
        wait = _asked_for(response)
        if response.status not in AGAIN or self._tries > self._retries or (wait or 0) > PATIENCE_SECONDS:
            raise error_of(response)
        return wait if wait is not None else backoff_seconds(self._tries)

    def after_failure(self, error: SessiondError) -> float:
        """Return after how many seconds to try again when no answer came.

        Raises:
            SessiondError: that error, once too often.
        """
        self._tries += 1
        self._unsure = True
        if self._tries > self._retries:
            raise error
        return backoff_seconds(self._tries)


def understood(call: Call[T], response: Response) -> T:
    """Return what an answer of a status below 400 means.

    Raises:
        UnexpectedAnswer: nothing.
    """
    if response.status >= 300:
        raise unexpected(response)
    try:
        return call.read(response)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unexpected(response) from error


def _asked_for(response: Response) -> float | None:
    """Return how many seconds a server wants to be left alone. It says so, or names a moment; None if neither."""
    said = response.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        moment = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())
