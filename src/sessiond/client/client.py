"""The two clients: the same calls, sent by a thread that waits, or by coroutines."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
)
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sessiond.client.agents import Agents, AsyncAgents
from sessiond.client.audit import AsyncAudit, AsyncErasures, Audit, Erasures
from sessiond.client.call import Call, T, query_of, reads_nothing
from sessiond.client.errors import ConnectionFailed, SessiondError, TimedOut
from sessiond.client.inboxes import AsyncInboxes, AsyncMails, Inboxes, Mails
from sessiond.client.keys import AsyncKeys, Keys
from sessiond.client.messages import AsyncMessages, Messages
from sessiond.client.resource import AsyncOpened, Opened
from sessiond.client.retrying import Attempts, Done, prepared, understood
from sessiond.client.runs import AsyncRuns, Runs
from sessiond.client.sessions import AsyncSessions, Sessions
from sessiond.client.transport import AsyncHttpTransport, AsyncTransport, HttpTransport, Terms, Transport
from sessiond.client.waits import AsyncWaits, Waits

URL_VARIABLE: Final = "SESSIOND_URL"
KEY_VARIABLE: Final = "SESSIOND_API_KEY"
STORAGE_KEY_VARIABLE: Final = "SESSIOND_STORAGE_KEY"
URL: Final = "http://127.0.0.1:8080"
TIMEOUT_SECONDS: Final = 30.0
RETRIES: Final = 5  # with the pauses between them about six seconds: a server that is restarted is back by then


class Client:
    """A client that waits for each answer. Threads may share it; close it, or use it in a `with` block.

        with Client(api_key="sd_…", base_url="http://127.0.0.1:8080") as client:
            session = client.sessions.create(name="trip")
            client.messages.append(session.id, "Is it far?")

    Each call raises what `sessiond.client.errors` lists. One that was not answered, or with 429, 502, 503 or 504, is
    tried again, and done once.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        storage_key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        ssl_context: ssl.SSLContext | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Without a key or URL those of the environment are taken: SESSIOND_API_KEY, SESSIOND_URL.

        `storage_key` (SESSIOND_STORAGE_KEY) is for a workspace that is sealed with a key of yours. `timeout_seconds` is
        for how long a server may be silent, `retries` how often a call is tried again, `ssl_context` whom to trust.
        `transport` takes requests elsewhere: then nothing of this counts but `retries`.

        Raises:
            SessiondError: there is no key, or the URL is none.
        """
        if transport is None:
            transport = HttpTransport(_make_terms(api_key, base_url, storage_key, timeout_seconds, ssl_context))
        self._carrier = carrier = _Carrier(transport, retries)
        self.sessions: Final = Sessions(carrier)
        self.messages: Final = Messages(carrier)
        self.runs: Final = Runs(carrier)
        self.inboxes: Final = Inboxes(carrier)
        self.mails: Final = Mails(carrier)
        self.waits: Final = Waits(carrier)
        self.agents: Final = Agents(carrier)
        self.keys: Final = Keys(carrier)
        self.audit: Final = Audit(carrier)
        self.erasures: Final = Erasures(carrier)

    @classmethod
    def local(
        cls,
        database: str | Path = "data/sessiond.db",
        *,
        workspace: str = "default",
        storage_key: str | None = None,
        run_agents: bool = True,
    ) -> Self:
        """Return a client of a database, in this process: no server, no port, no key.

        `database` is a SQLite file, which is made if need be, or the URL of a database. Other processes may use it at
        the same time. Agents of its workspace are run by whoever has it open, so by this process too, unless
        `run_agents` is False: closing waits ten seconds for runs under way (SESSIOND_SHUTDOWN_SECONDS), then leaves
        them to others. A fork needs a client of its own.

        Raises:
            SessiondError: the database cannot be opened, or has no such workspace.
        """
        from sessiond.local import LocalTransport

        transport = LocalTransport(database, workspace=workspace, storage_key=storage_key, run_agents=run_agents)
        return cls(transport=transport)

    def export(
        self, *, session_id: str | None = None, agent_id: str | None = None, user_id: str | None = None
    ) -> Generator[bytes]:
        """Yield the workspace, or a part of it, as a bundle of JSON lines, in pieces of any size.

        Raises:
            ConnectionFailed: it was cut short; what was yielded is no whole bundle.
        """
        opened, stack = self._carrier.begin_stream(_make_export(session_id, agent_id, user_id))
        with stack:
            yield from opened.chunks

    def send(self, call: Call[T]) -> T:
        """Send a call that a function of `sessiond.client` has made, as `sessions.create_session`."""
        return self._carrier.send(call)

    def close(self) -> None:
        """Let go of connections, or of the database. Streams that other threads read end with `ClientClosed`."""
        self._carrier.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """A client for coroutines: the calls of `Client`, awaited.

        async with AsyncClient(api_key="sd_…", base_url="http://127.0.0.1:8080") as client:
            session = await client.sessions.create(name="trip")
            async for event in client.sessions.stream(session.id):
                print(event.type)

    Over HTTP it may be used on one event loop after another; one of `local` belongs to the loop of its first call.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        storage_key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        ssl_context: ssl.SSLContext | None = None,
        transport: AsyncTransport | None = None,
    ) -> None:
        """As `Client`."""
        if transport is None:
            transport = AsyncHttpTransport(_make_terms(api_key, base_url, storage_key, timeout_seconds, ssl_context))
        self._carrier = carrier = _AsyncCarrier(transport, retries)
        self.sessions: Final = AsyncSessions(carrier)
        self.messages: Final = AsyncMessages(carrier)
        self.runs: Final = AsyncRuns(carrier)
        self.inboxes: Final = AsyncInboxes(carrier)
        self.mails: Final = AsyncMails(carrier)
        self.waits: Final = AsyncWaits(carrier)
        self.agents: Final = AsyncAgents(carrier)
        self.keys: Final = AsyncKeys(carrier)
        self.audit: Final = AsyncAudit(carrier)
        self.erasures: Final = AsyncErasures(carrier)

    @classmethod
    def local(
        cls,
        database: str | Path = "data/sessiond.db",
        *,
        workspace: str = "default",
        storage_key: str | None = None,
        run_agents: bool = True,
    ) -> Self:
        """As `Client.local`. The database is opened by the first call, on its event loop."""
        from sessiond.local import AsyncLocalTransport

        transport = AsyncLocalTransport(database, workspace=workspace, storage_key=storage_key, run_agents=run_agents)
        return cls(transport=transport)

    async def export(
        self, *, session_id: str | None = None, agent_id: str | None = None, user_id: str | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield as `Client.export`."""
        opened, stack = await self._carrier.begin_stream(_make_export(session_id, agent_id, user_id))
        async with stack:
            async for chunk in opened.chunks:
                yield chunk

    async def send(self, call: Call[T]) -> T:
        """As `Client.send`."""
        return await self._carrier.send(call)

    async def close(self) -> None:
        """Let go of connections, or of the database."""
        await self._carrier.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class _Carrier:
    """Sends calls, as often as it takes."""

    def __init__(self, transport: Transport, retries: int) -> None:
        self.transport = transport
        self._retries = retries

    def send(self, call: Call[T]) -> T:
        if not self.transport.sure:
            call = prepared(call)
        attempts: Attempts | None = None
        while True:
            try:
                response = self.transport.send(call)
            except (ConnectionFailed, TimedOut) as error:
                attempts = attempts or Attempts(retries=self._retries)
                wait_seconds = attempts.after_failure(error)
            else:
                if response.status < 400:
                    return understood(call, response)
                attempts = attempts or Attempts(retries=self._retries)
                outcome = attempts.after_answer(call, response)
                if isinstance(outcome, Done):
                    return outcome.result
                wait_seconds = outcome
            time.sleep(wait_seconds)

    def open_stream(self, call: Call[Any]) -> AbstractContextManager[Opened]:
        return self.transport.open_stream(call)

    def begin_stream(self, call: Call[Any]) -> tuple[Opened, ExitStack]:
        """Open a stream, as often as it takes to begin, and return what closes it. What breaks it later ends it."""
        attempts = Attempts(retries=self._retries)
        while True:
            with ExitStack() as stack:
                try:
                    opened = stack.enter_context(self.open_stream(call))
                except (ConnectionFailed, TimedOut) as error:
                    wait_seconds = attempts.after_failure(error)
                else:
                    outcome = attempts.after_answer(call, opened.response)
                    if isinstance(outcome, Done):
                        return opened, stack.pop_all()
                    wait_seconds = outcome
            time.sleep(wait_seconds)


class _AsyncCarrier:
    """Sends calls, as often as it takes."""

    def __init__(self, transport: AsyncTransport, retries: int) -> None:
        self.transport = transport
        self._retries = retries

    async def send(self, call: Call[T]) -> T:
        if not self.transport.sure:
            call = prepared(call)
        attempts: Attempts | None = None
        while True:
            try:
                response = await self.transport.send(call)
            except (ConnectionFailed, TimedOut) as error:
                attempts = attempts or Attempts(retries=self._retries)
                wait_seconds = attempts.after_failure(error)
            else:
                if response.status < 400:
                    return understood(call, response)
                attempts = attempts or Attempts(retries=self._retries)
                outcome = attempts.after_answer(call, response)
                if isinstance(outcome, Done):
                    return outcome.result
                wait_seconds = outcome
            await asyncio.sleep(wait_seconds)

    def open_stream(self, call: Call[Any]) -> AbstractAsyncContextManager[AsyncOpened]:
        return self.transport.open_stream(call)

    async def begin_stream(self, call: Call[Any]) -> tuple[AsyncOpened, AsyncExitStack]:
        """Open a stream, as often as it takes to begin, and return what closes it. What breaks it later ends it."""
        attempts = Attempts(retries=self._retries)
        while True:
            async with AsyncExitStack() as stack:
                try:
                    opened = await stack.enter_async_context(self.open_stream(call))
                except (ConnectionFailed, TimedOut) as error:
                    wait_seconds = attempts.after_failure(error)
                else:
                    outcome = attempts.after_answer(call, opened.response)
                    if isinstance(outcome, Done):
                        return opened, stack.pop_all()
                    wait_seconds = outcome
            await asyncio.sleep(wait_seconds)


def _make_terms(
    api_key: str | None,
    base_url: str | None,
    storage_key: str | None,
    timeout_seconds: float,
    ssl_context: ssl.SSLContext | None,
) -> Terms:
    api_key = (api_key or os.environ.get(KEY_VARIABLE) or "").strip()  # of a file, it ends in a new line
    if not api_key:
        raise SessiondError(f"there is no API key: give api_key, or set {KEY_VARIABLE}")
    url = (base_url or os.environ.get(URL_VARIABLE) or URL).strip().rstrip("/").removesuffix("/v1").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise SessiondError(f"base_url must begin with http:// or https://, not {url!r}")
    headers = {"authorization": f"Bearer {api_key}"}
    if storage_key := (storage_key or os.environ.get(STORAGE_KEY_VARIABLE) or "").strip():
        headers["storage-key"] = storage_key
    if not all(value.isascii() and value.isprintable() for value in headers.values()):
        raise SessiondError("a key has characters that no key has")
    return Terms(url=url, headers=headers, timeout_seconds=timeout_seconds, ssl_context=ssl_context)


def _make_export(session_id: str | None, agent_id: str | None, user_id: str | None) -> Call[None]:
    query = query_of(session_id=session_id, agent_id=agent_id, user_id=user_id)
    return Call(method="GET", path="/v1/export", query=query, read=reads_nothing)
