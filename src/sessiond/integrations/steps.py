"""Work that takes several calls, written once and done by either client.

It is a generator: what it yields is a `Call`, of which it gets the answer, or something for whoever asked for the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, Final, TypeVar

import msgspec

from sessiond.client import AsyncClient, Client, SessiondError
from sessiond.client.call import Call

T = TypeVar("T")

BATCH: Final = 500
BATCH_BYTES: Final = 512 * 1024  # a server takes bodies of 1 MiB, unless told otherwise

Asking = Generator[Call[Any], Any, T]
"""Calls, and what comes of them."""
Steps = Generator[Call[Any] | T, Any, None]
"""Calls, and between them what was found."""


class Clients:
    """One client or both: coroutines take the `AsyncClient`, or a `Client` in a thread."""

    def __init__(self, client: Client | AsyncClient | None, async_client: AsyncClient | None) -> None:
        """Take them, in either order.

        Raises:
            TypeError: there is none.
        """
        if isinstance(client, AsyncClient):
            client, async_client = None, async_client or client
        if client is None and async_client is None:
            raise TypeError("give a Client, an AsyncClient, or both: Client.local('data.db') needs no server")
        self._client = client
        self._async_client = async_client

    def each(self, steps: Steps[T]) -> Generator[T]:
        """Do the work, and yield what it yields, when that is asked for.

        Raises:
            TypeError: there is no `Client`.
        """
        client = self._client
        if client is None:
            raise TypeError("only an AsyncClient was given: use the asynchronous methods, or give a Client too")
        with closing(steps):
            given = next(steps, None)
            while given is not None:
                if not isinstance(given, Call):
                    yield given
                    given = next(steps, None)
                    continue
                try:
                    answer = client.send(given)
                except SessiondError as error:
                    given = _throw(steps, error)
                else:
                    given = _send(steps, answer)

    async def each_async(self, steps: Steps[T]) -> AsyncGenerator[T]:
        """As `each`."""
        with closing(steps):
            given = next(steps, None)
            while given is not None:
                if not isinstance(given, Call):
                    yield given
                    given = next(steps, None)
                    continue
                try:
                    answer = await self._send(given)
                except SessiondError as error:
                    given = _throw(steps, error)
                else:
                    given = _send(steps, answer)

    def first(self, steps: Steps[T]) -> T | None:
        """Do the work until it yields something; None when it never does."""
        with closing(self.each(steps)) as found:
            return next(found, None)

    async def first_async(self, steps: Steps[T]) -> T | None:
        """As `first`."""
        async with aclosing(self.each_async(steps)) as found:
            return await anext(found, None)

    async def _send(self, call: Call[Any]) -> Any:
        if self._async_client is not None:
            return await self._async_client.send(call)
        assert self._client is not None
        return await asyncio.to_thread(self._client.send, call)


def batches(entries: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield messages or events in pieces that a server takes in one request."""
    batch, size = list[Mapping[str, Any]](), 0
    for entry in entries:
        bytes_more = len(msgspec.json.encode(entry))
        if batch and (size + bytes_more > BATCH_BYTES or len(batch) == BATCH):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += bytes_more
    if batch:
        yield batch


def _send(steps: Steps[T], answer: Any) -> Call[Any] | T | None:
    try:
        return steps.send(answer)
    except StopIteration:
        return None


def _throw(steps: Steps[T], error: SessiondError) -> Call[Any] | T | None:
    try:
        return steps.throw(error)
    except StopIteration:
        return None
