"""A thread for threads that wait: it has the event loop on which something is open that only coroutines can use."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Protocol, TypeVar

from sessiond.client.call import Call, Response
from sessiond.client.errors import ClientClosed

T = TypeVar("T")

CLOSE_SECONDS: Final = 30.0  # with runs under way, which get as long as at the end of a server


class _Opened(Protocol):
    """What takes calls once it is open."""

    async def open(self) -> object: ...

    async def send(self, call: Call[Any]) -> Response: ...

    async def close(self) -> None: ...


class _Waiting:
    """A call of a thread that waits for it."""

    __slots__ = ("call", "done", "error", "response", "task")

    def __init__(self, call: Call[Any]) -> None:
        self.call = call
        self.response: Response | None = None
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


class Home:
    """A thread with an event loop, on which a database is open until somebody leaves."""

    def __init__(self, transport: _Opened) -> None:
        self._transport = transport
        self._process = os.getpid()
        self._lock = threading.Lock()
        """Held to ask and to change whether it is left: nothing is begun after that."""
        self._left = False
        self._waiting: deque[_Waiting] = deque()
        self._woken = False
        self._stop = asyncio.Event()
        opened: Future[asyncio.AbstractEventLoop] = Future()
        # Not to be waited for at the end of the program by itself: `_leave_all` ends it before.
        self._thread = threading.Thread(target=self._live, args=(opened,), name="sessiond", daemon=True)
        self._thread.start()
        self._loop = opened.result()
        _homes.add(self)

    def send(self, call: Call[Any]) -> Response:
        """As `run`, of a call. Those of many threads are handed over together.

        A wake of the loop and a future for each would cost as much as the rest of an append.
        """
        waiting = _Waiting(call)
        with self._lock:
            if self._left or self._process != os.getpid():
                raise self._closed()
            self._waiting.append(waiting)
            if not self._woken:
                self._woken = True
                self._loop.call_soon_threadsafe(self._take)
        try:
            waiting.done.acquire()
        except BaseException:
            self._loop.call_soon_threadsafe(waiting.cancel)
            raise
        if waiting.error is not None:
            raise waiting.error
        assert waiting.response is not None, "it was answered, or failed"
        return waiting.response

    def _take(self) -> None:
        self._woken = False  # first: whoever comes from now on wakes again
        while self._waiting:
            waiting = self._waiting.popleft()
            waiting.task = self._loop.create_task(self._answer(waiting))

    async def _answer(self, waiting: _Waiting) -> None:
        try:
            waiting.response = await self._transport.send(waiting.call)
        except asyncio.CancelledError:
            waiting.error = ClientClosed("this client was closed")
            raise
        except Exception as error:
            waiting.error = error
        finally:
            waiting.done.release()

    def _closed(self) -> ClientClosed:
        here = self._process == os.getpid()
        return ClientClosed("this client is closed" if here else "this client was opened before the fork")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns. Whoever is interrupted while waiting cancels it.

        Raises:
            ClientClosed: the database is closed, or is closed meanwhile.
        """
        future = self._submit(coroutine)
        if future is None:
            raise self._closed()
        try:
            return future.result()
        except CancelledError as error:
            raise ClientClosed("this client was closed") from error
        except BaseException:
            future.cancel()
            raise

    def begin(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Have a coroutine run, without waiting: also the garbage collector may be who asks, in any thread."""
        self._submit(coroutine)

    def leave(self) -> None:
        """Have the database closed, without waiting for it."""
        if self._process != os.getpid():
            return
        with self._lock:
            if not self._left:
                self._left = True
                self._loop.call_soon_threadsafe(self._stop.set)

    def close(self) -> None:
        """Close the database, and wait for it."""
        self.leave()
        if self._process == os.getpid() and threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T] | None:
        if self._process == os.getpid():
            with self._lock:
                if not self._left:
                    return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        return None

    def _live(self, opened: Future[asyncio.AbstractEventLoop]) -> None:
        try:
            asyncio.run(self._keep(opened))
        finally:
            _homes.discard(self)

    async def _keep(self, opened: Future[asyncio.AbstractEventLoop]) -> None:
        try:
            await self._transport.open()
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        await self._transport.close()


_homes: Final[set[Home]] = set()


def _leave_all() -> None:
    """Close what was forgotten, at the end of the program."""
    for home in [*_homes]:
        home.leave()
    for home in [*_homes]:
        home.close()


# Before the pools of threads are told to end, which closing needs: `atexit` comes after that.
getattr(threading, "_register_atexit", atexit.register)(_leave_all)
