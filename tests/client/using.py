"""A client of either kind used in one way, and what was used of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from sessiond import AsyncClient, Client

RESOURCES = ("sessions", "messages", "runs", "inboxes", "mails", "waits", "agents", "keys", "audit", "erasures")


class Using:
    """Calls of a client, by name; results are awaited where they must be, iterators are read up to a number."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client
        self.used = set[str]()

    async def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Return what `sessions.create`, or whatever is named, returns."""
        result = self._find(name)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def take(self, count: int, name: str, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Return the first things that an iterator yields; as many as there are for -1."""
        iterator, taken = self._find(name)(*args, **kwargs), list[Any]()
        if hasattr(iterator, "__aiter__"):
            async with aclosing(iterator):
                while len(taken) != count and (one := await anext(iterator, iterator)) is not iterator:
                    taken.append(one)
        else:
            while len(taken) != count and (one := next(iterator, iterator)) is not iterator:
                taken.append(one)
            iterator.close()
        return taken

    def _find(self, name: str) -> Any:
        self.used.add(name)
        found: Any = self._client
        for part in name.split("."):
            found = getattr(found, part)
        return found


def methods(client: type[Client] | type[AsyncClient]) -> Iterator[str]:
    """Yield the names of all calls that a client has."""
    made = client("sd_none", "http://127.0.0.1:1")
    for resource in RESOURCES:
        for name in dir(getattr(made, resource)):
            if not name.startswith("_"):
                yield f"{resource}.{name}"
    yield "export"
