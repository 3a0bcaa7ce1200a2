"""What is compared by `bench.peers`: each side runs in a process of its own, and does what it is told line by line.

    python -m bench.sides openai /some/folder 16
    → append 1600
    ← {"cpu_us": 290.1, "per_second": 1830.0}

Every writer has a session of its own. CPU is that of the whole process, all its threads, user and system.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import resource
import sqlite3
import string
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from sessiond import AsyncClient, Client
from sessiond.storage.sqlite import connect

TEXT: Final = "x" * 200
LAST: Final = 50
FILLED: Final = 60  # messages that every writer's session has before anything is measured
APP: Final[dict[str, Any]] = {"app_name": "bench", "user_id": "u"}


class Side(Protocol):
    """One way to keep sessions. A writer is a number; a session, whatever the side calls it by."""

    async def open(self, database: Path) -> None: ...

    async def make(self, messages: int) -> Any:
        """Return a new session that has so many messages."""
        ...

    async def append(self, session: Any) -> None: ...

    async def last(self, session: Any) -> int:
        """Read the last 50 messages, and return how many there were."""
        ...

    async def close(self) -> None: ...


class Embedded:
    """sessiond, in this process."""

    async def open(self, database: Path) -> None:
        self._client = AsyncClient.local(database)

    async def make(self, messages: int) -> str:
        session = await self._client.sessions.create(name="bench")
        for start in range(0, messages, 1_000):
            said = [{"content": TEXT}] * min(1_000, messages - start)
            await self._client.messages.append_batch(session.id, said)
        return session.id

    async def append(self, session: str) -> None:
        await self._client.messages.append(session, TEXT)

    async def last(self, session: str) -> int:
        return len((await self._client.messages.list(session, order="desc", limit=LAST)).data)

    async def close(self) -> None:
        await self._client.close()


class OverHttp(Embedded):
    """sessiond, asked over HTTP: what comes in place of the database is a server's port and a key."""

    async def open(self, database: Path) -> None:
        port, key = database.name.split("-", 1)
        self._client = AsyncClient(api_key=key, base_url=f"http://127.0.0.1:{port}")


class OpenAI:
    """The session of OpenAI's Agents SDK, on a file."""

    async def open(self, database: Path) -> None:
        from agents import SQLiteSession

        self._make: Callable[[str], Any] = lambda name: SQLiteSession(name, database)

    async def make(self, messages: int) -> Any:
        session = self._make(make_name())
        if messages:
            await session.add_items([{"role": "user", "content": TEXT}] * messages)
        return session

    async def append(self, session: Any) -> None:
        await session.add_items([{"role": "user", "content": TEXT}])

    async def last(self, session: Any) -> int:
        return len(await session.get_items(limit=LAST))

    async def close(self) -> None:
        pass


class Adk:
    """ADK's service for sessions in a database, on a file."""

    async def open(self, database: Path) -> None:
        from google.adk.events.event import Event
        from google.adk.sessions import DatabaseSessionService
        from google.adk.sessions.base_session_service import GetSessionConfig
        from google.genai import types

        self._database = database
        self._service = DatabaseSessionService(f"sqlite+aiosqlite:///{database}")
        content = types.Content(role="user", parts=[types.Part(text=TEXT)])
        self._event: Callable[[], Any] = lambda: Event(invocation_id="i", author="user", content=content)
        self._config = GetSessionConfig(num_recent_events=LAST)

    async def make(self, messages: int) -> Any:
        session = await self._service.create_session(**APP)
        if messages:
            await self._service.append_event(session, self._event())
            copy_events(self._database, session.id, messages)
            found = await self._service.get_session(**APP, session_id=session.id)
            assert found is not None
            assert len(found.events) == messages
            session = found
        return session

    async def append(self, session: Any) -> None:
        await self._service.append_event(session, self._event())
        del session.events[LAST:]  # what it keeps in memory is not to grow with the rounds

    async def last(self, session: Any) -> int:
        found = await self._service.get_session(**APP, session_id=session.id, config=self._config)
        assert found is not None
        return len(found.events)

    async def close(self) -> None:
        await self._service.close()


SIDES: Final[dict[str, Callable[[], Side]]] = {
    "embedded": Embedded,
    "http": OverHttp,
    "openai": OpenAI,
    "adk": Adk,
}


class Threads:
    """sessiond in this process, for threads that wait."""

    def __init__(self, database: Path, writers: int) -> None:
        self._client = Client.local(database)
        self._sessions = [self._make() for _ in range(writers)]

    def _make(self) -> str:
        session = self._client.sessions.create(name="bench")
        self._client.messages.append_batch(session.id, [{"content": TEXT}] * FILLED)
        return session.id

    def run(self, kind: str, each: int) -> None:
        def work(session: str) -> None:
            for _ in range(each):
                if kind == "append":
                    self._client.messages.append(session, TEXT)
                else:
                    assert len(self._client.messages.list(session, order="desc", limit=LAST).data) == LAST

        threads = [threading.Thread(target=work, args=(session,)) for session in self._sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        self._client.close()


def copy_events(database: Path, session_id: str, messages: int) -> None:
    """Have a session of ADK's have so many events: one by one it would take minutes."""
    connection = sqlite3.connect(database, timeout=10)
    with connection:
        columns = [row[1] for row in connection.execute("pragma table_info(events)")]
        kept = dict(
            zip(
                columns,
                connection.execute("select * from events where session_id = ?", (session_id,)).fetchone(),
                strict=True,
            )
        )
        marks = ", ".join("?" * len(columns))
        for _ in range(messages - 1):
            name = make_name()
            copy = kept | {"id": name}
            copy["event_data"] = json.dumps(json.loads(kept["event_data"]) | {"id": name})
            connection.execute(f"insert into events ({', '.join(columns)}) values ({marks})", tuple(copy.values()))
    connection.close()


def make_name() -> str:
    return "".join(random.choices(string.hexdigits, k=32))


def durability(side: str, database: Path) -> str:
    """Say how a side's database commits. What it leaves unsaid is as SQLite has it unless told."""
    if side in ("embedded", "threads"):
        ours = connect(database)
        found = [next(iter(ours.execute(f"pragma {name}")))[0] for name in ("journal_mode", "synchronous")]
        ours.close()
    else:
        peers = sqlite3.connect(database)
        found = [peers.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        peers.close()
    return f"{found[0]}, synchronous={('off', 'normal', 'full', 'extra')[found[1]]}"


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(count: int, cpu: float, seconds: float) -> dict[str, float]:
    return {"cpu_us": cpu / count * 1e6, "per_second": count / seconds}


async def serve(name: str, database: Path, writers: int) -> None:
    side = SIDES[name]()
    await side.open(database)
    sessions = [await side.make(FILLED) for _ in range(writers)]
    alone: dict[int, Any] = {}

    async def work(kind: str, session: Any, each: int) -> None:
        for _ in range(each):
            if kind == "append":
                await side.append(session)
            else:
                assert await side.last(session) == min(LAST, FILLED)

    async def work_alone(kind: str, session: Any, each: int) -> None:
        for _ in range(each):
            await (side.append(session) if kind == "append" else side.last(session))

    say("ready" if name == "http" else durability(name, database))
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        kind, count, of = line[0], int(line[1]), int(line[2]) if len(line) > 2 else None
        if of is not None and of not in alone:
            alone[of] = await side.make(of)
        cpu, began = cpu_seconds(), time.perf_counter()
        if of is not None:
            await work_alone(kind, alone[of], count)
        else:
            await asyncio.gather(*(work(kind, session, count // writers) for session in sessions))
        say(measured(count, cpu_seconds() - cpu, time.perf_counter() - began))
    await side.close()


def serve_threads(database: Path, writers: int) -> None:
    side = Threads(database, writers)
    say(durability("threads", database))
    while line := sys.stdin.readline().split():
        count = int(line[1])
        cpu, began = cpu_seconds(), time.perf_counter()
        side.run(line[0], count // writers)
        say(measured(count, cpu_seconds() - cpu, time.perf_counter() - began))
    side.close()


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if sys.argv[1] == "threads":
        serve_threads(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
