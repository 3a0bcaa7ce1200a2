"""What integrations need of a session's log: read its end, add to it and create it, with either client, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, ParamSpec, TypeVar, cast

import msgspec

from sessiond.client import AsyncClient, Client, Message, NotFound, Page, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

BATCH: Final = 1_000  # as many messages as are appended together
PAGE: Final = 1_000
TRIES: Final = 5  # to write to a session that others change or delete meanwhile


class Asker:
    """Makes calls of a client, whichever it is."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client: Final = client
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(
        self, call: Callable[P, T] | Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Make a call; one that blocks is made in a thread, and so works on every event loop.

        Raises:
            RuntimeError: the client is an `AsyncClient`, and was used on another event loop before.
        """
        if isinstance(self.client, Client):
            return cast(T, await asyncio.to_thread(call, *args, **kwargs))
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("this AsyncClient is in use on another event loop; a Client can be used on several")
        return await cast(Coroutine[Any, Any, T], call(*args, **kwargs))


class Log:
    """The messages of one session, which need not exist yet."""

    def __init__(
        self,
        asker: Asker,
        session_id: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """The rest is for when the session is created."""
        self.session_id: Final = session_id
        self._ask = asker.ask
        self._client = asker.client
        self._user_id, self._agent_id, self._metadata = user_id, agent_id, metadata

    async def read(self, limit: int | None) -> list[Message]:
        """Return the latest `limit` messages, or all, the oldest first; none where there is no session."""
        found = list[Message]()
        cursor: str | None = None
        while limit is None or len(found) < limit:
            try:
                page: Page[Message] = await self._ask(
                    self._client.messages.list,
                    self.session_id,
                    order="asc" if limit is None else "desc",
                    limit=PAGE if limit is None else min(PAGE, limit - len(found)),
                    cursor=cursor,
                )
            except NotFound:
                return []
            found += page.data
            cursor = page.next_cursor
            if cursor is None:
                break
        return found if limit is None else found[::-1]

    async def append(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Append messages, at most 1,000 of them in one transaction, and start no run.

        The session is created where there is none. When this is cancelled, it waits for what became of the batch that
        is under way.

        Raises:
            Conflict: the session has ended.
            TypeError: a message has something in it that JSON has not.
        """
        for first in range(0, len(messages), BATCH):
            await settled(self._append(messages[first : first + BATCH]))

    async def pop(self) -> Message | None:
        """Take the last message back, and return it; None where there is none.

        Raises:
            Conflict: the session has ended.
        """
        try:
            return await settled(self._ask(self._client.messages.pop, self.session_id))
        except NotFound:
            return None

    async def delete(self) -> None:
        """Delete the session. One that does not exist is fine."""
        try:
            await settled(self._ask(self._client.sessions.delete, self.session_id))
        except NotFound:
            return

    async def _append(self, messages: Sequence[Mapping[str, Any]]) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                await self._ask(self._client.messages.append_batch, self.session_id, messages, start_run=False)
                return
            except NotFound:
                pass
            try:
                await self._create()
            except Unavailable:
                # The client has tried for seconds. It takes longer when a very long log was deleted under this id.
                if attempt == TRIES:
                    raise
        await self._ask(self._client.messages.append_batch, self.session_id, messages, start_run=False)

    async def _create(self) -> None:
        await self._ask(
            self._client.sessions.create,
            id=self.session_id,
            user_id=self._user_id,
            agent_id=self._agent_id,
            metadata=self._metadata,
            if_exists="return",
        )


async def settled(change: Coroutine[Any, Any, T]) -> T:
    """Wait for a change to end, also when cancelled: whoever then tries again must not do it twice."""
    task = asyncio.create_task(change)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # else the loop complains that nobody has asked
    raise cancelled


def text_of(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Return content as plain text, for frameworks that do not know its parts: the texts of its parts, a line each.

    Where no part has any, the JSON of each.
    """
    if isinstance(content, str):
        return content
    texts = [part["text"] for part in content if isinstance(part.get("text"), str)]
    return "\n".join(texts if any(texts) else (msgspec.json.encode(part).decode() for part in content))
