"""What stands between a client and its server and does harm, on real sockets: a server that answers what it is told
to, and a way through that is cut."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

SECONDS: Final = 20
HEAD_BYTES: Final = 600  # of an answer, and of its first event


class Request:
    """A request as it came."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        self.headers: Final = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
        self.body: Final = body


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return an answer's bytes; in names of headers `_` stands for a hyphen."""
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Broken:
    """A server of one connection at a time, kept open, that gives the answers it was given, one after another.

    An answer may be a function of the request. An empty one hangs up; after the last one the last is given again.
    """

    def __init__(self, listener: socket.socket, answers: list[bytes | Callable[[Request], bytes]]) -> None:
        self.url: Final = "http://{}:{}".format(*listener.getsockname())
        self.requests: Final = list[Request]()
        self._listener = listener
        self._answers = answers

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            with connection, connection.makefile("rb") as reader, suppress(OSError):
                connection.settimeout(SECONDS)
                while (request := _read(reader)) is not None:
                    given = self._answers[min(len(self.requests), len(self._answers) - 1)]
                    self.requests.append(request)
                    said = given(request) if callable(given) else given
                    if not said:
                        break
                    connection.sendall(said)


def _read(reader: object) -> Request | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line: bytes = reader.readline()  # type: ignore[attr-defined]  # a buffered reader
        if not line:
            return None
        head += line
    request = Request(head[:-4], b"")
    body: bytes = reader.read(int(request.headers.get("content-length", "0")))  # type: ignore[attr-defined]
    return Request(head[:-4], body)


@contextmanager
def open_broken(*answers: bytes | Callable[[Request], bytes]) -> Iterator[Broken]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broken = Broken(listener, [*answers])
        thread = threading.Thread(target=broken.serve)
        thread.start()
        try:
            yield broken
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)


class Cutter:
    """A way to a server that passes on a random number of its bytes for each connection, then cuts both sides."""

    def __init__(self, target: str, listener: socket.socket, *, bytes_max: int) -> None:
        address = urlsplit(target)
        self._target = (address.hostname or "", address.port or 0)
        self.url: Final = "http://{}:{}".format(*listener.getsockname())
        self._listener = listener
        self._chance = random.Random(7)
        self._bytes_max = bytes_max
        self.cuts = 0
        self.over = False
        """Whether nothing is cut any more."""

    def serve(self) -> None:
        threads = list[threading.Thread]()
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            thread = threading.Thread(target=self._pass_on, args=(connection, self._bytes()))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join(SECONDS)

    def _bytes(self) -> int:
        few = self._chance.random() < 0.1  # cut in the head, or in the first event
        return self._chance.randrange(HEAD_BYTES) if few else self._chance.randrange(HEAD_BYTES, self._bytes_max)

    def _pass_on(self, client: socket.socket, left: int) -> None:
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            there = threading.Thread(target=_pump, args=(client, server))
            there.start()
            while (self.over or left) and (piece := server.recv(65536 if self.over else left)):
                left -= len(piece)
                client.sendall(piece)
            self.cuts += not self.over
            for side in (server, client):
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
            there.join(SECONDS)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def open_cutter(target: str, *, bytes_max: int) -> Iterator[Cutter]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        cutter = Cutter(target, listener, bytes_max=bytes_max)
        thread = threading.Thread(target=cutter.serve)
        thread.start()
        try:
            yield cutter
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)
