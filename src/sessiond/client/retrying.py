"""When a call is tried again, and after how long. Decided from what happened; nothing here waits or sends."""

from __future__ import annotations

import random
import uuid
from typing import Final, Generic

import msgspec

from sessiond.client.call import Call, Response, T
from sessiond.client.errors import SessiondError, error_of

FIRST_SECONDS: Final = 0.1
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
        """
        if response.status < 400:
            return Done(call.read(response))
        if response.status == 404 and call.method == "DELETE" and self._unsure:
            return Done(call.read(Response(204, response.headers)))  # it was there, and our first try removed it
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


def _asked_for(response: Response) -> float | None:
    """Return how many seconds a server wants to be left alone; a date is not one of ours."""
    said = response.headers.get("retry-after", "")
    return float(said) if said.isdigit() else None
