"""A real listener in a thread of its own, the inboxes behind it, and a client that says whatever it is told to."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import uvloop

from sessiond.mail.listener import MailListener

DOMAIN: Final = "mail.example"
INBOX: Final = f"one@{DOMAIN}"
OTHER: Final = f"two@{DOMAIN}"
LOOPS: Final = ("asyncio", "uvloop")
SECONDS: Final = 10


class Delivered(NamedTuple):
    recipients: tuple[str, ...]
    raw: bytes
    sender: str


class Inboxes:
    """Keeps what was delivered."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = set(addresses or (INBOX, OTHER))
        self.asked = list[str]()
        self.mails = list[Delivered]()
        self.fails: Exception | None = None
        """Raised by whatever is asked next."""
        self.delivering = threading.Event()
        self.open = threading.Event()
        """As long as it is not set, delivering takes."""
        self.open.set()

    async def knows(self, address: str) -> bool:
        self.asked.append(address)
        if self.fails is not None:
            raise self.fails
        return address in self.addresses

    async def deliver(self, addresses: Sequence[str], raw: bytes, *, sender: str) -> None:
        self.delivering.set()
        if not self.open.is_set():
            await asyncio.to_thread(self.open.wait, SECONDS)
        if self.fails is not None:
            raise self.fails
        self.mails.append(Delivered(tuple(addresses), raw, sender))


class Listening:
    """A listener that runs."""

    def __init__(self, listener: MailListener, inboxes: Inboxes, port: int) -> None:
        self.listener = listener
        self.inboxes = inboxes
        self.port = port
        self.loop = asyncio.get_running_loop()
        self.told_to_stop = asyncio.Event()
        self.held_up_seconds = 0.0
        """The longest that the loop was in one turn."""

    @property
    def mails(self) -> list[Delivered]:
        return self.inboxes.mails

    @property
    def open_connections(self) -> int:
        return len(self.listener.connections.open)

    def stop(self) -> None:
        """Have it stop, and do not wait."""
        with suppress(RuntimeError):  # it has stopped before
            self.loop.call_soon_threadsafe(self.told_to_stop.set)

    async def watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            self.held_up_seconds = max(self.held_up_seconds, time.perf_counter() - began)


@contextmanager
def listening(
    loop: str, inboxes: Inboxes | None = None, *, watched: bool = False, **options: Any
) -> Iterator[Listening]:
    """Listen on a free port, on one of the `LOOPS`, until the block ends."""
    started = Future[Listening]()

    async def listen() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        kept = inboxes or Inboxes()
        listener = MailListener(kept, domain=DOMAIN, **{"max_bytes": 1_000_000, **options})
        await listener.start(sock)
        running = Listening(listener, kept, sock.getsockname()[1])
        watching = asyncio.create_task(running.watch() if watched else asyncio.sleep(0))
        started.set_result(running)
        await running.told_to_stop.wait()
        await listener.stop()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    def run() -> None:
        try:
            (uvloop.run if loop == "uvloop" else asyncio.run)(listen())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    running = started.result(SECONDS)
    try:
        yield running
    finally:
        running.inboxes.open.set()
        running.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


class Client:
    """A connection on which nothing is said but what a test says."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.greeting = self.hear()

    def say(self, said: bytes) -> None:
        self.sock.sendall(said)

    def hear(self) -> str:
        """Return the next answer, its lines joined; empty when the connection is closed."""
        lines = list[str]()
        while not lines or lines[-1][3:4] == "-":
            line = self._read_line()
            if not line:
                break
            lines.append(line)
        return "\n".join(lines)

    def ask(self, *commands: bytes) -> str:
        """Say commands, one after the other, and return the last one's answer."""
        answer = ""
        for command in commands:
            self.say(command + b"\r\n")
            answer = self.hear()
        return answer

    def hear_out(self) -> list[str]:
        """Return all answers until the connection is closed."""
        answers = list[str]()
        with suppress(ConnectionError):
            while answer := self.hear():
                answers.append(answer)
        return answers

    def begin(self, recipient: str = INBOX) -> None:
        """Go as far as to the mail itself."""
        answer = self.ask(b"EHLO there", b"MAIL FROM:<you@there>", b"RCPT TO:<%b>" % recipient.encode(), b"DATA")
        assert answer.startswith("354"), answer

    def _read_line(self) -> str:
        # A byte at a time: what stands behind may be TLS.
        line = b""
        while not line.endswith(b"\n"):
            more = self.sock.recv(1)
            if not more:
                break
            line += more
        return line.decode().removesuffix("\r\n")


@contextmanager
def connect(listener: Listening, *, source: str = "127.0.0.1", receive_bytes: int | None = None) -> Iterator[Client]:
    with socket.socket() as sock:
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(SECONDS)
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", listener.port))
        yield Client(sock)


def wait_until(fact: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not fact():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.002)
