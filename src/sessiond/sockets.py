"""What a server listens on: held by one process, and shared by all that serve."""

from __future__ import annotations

import socket
import ssl

import msgspec

from sessiond.settings import Settings
from sessiond.web.connections import BACKLOG


class ServeError(Exception):
    """The server cannot start; the message says what to do."""


class Places(msgspec.Struct, frozen=True):
    """Where a server can be reached."""

    url: str
    smtp: str | None
    """Host and port; None when it takes no mail."""


class Sockets(msgspec.Struct, frozen=True):
    """What a server listens on, shared by all its processes."""

    http: socket.socket
    smtp: socket.socket | None

    def places(self) -> Places:
        return Places(f"http://{_place(self.http)}", _place(self.smtp) if self.smtp is not None else None)

    def close(self) -> None:
        self.http.close()
        if self.smtp is not None:
            self.smtp.close()


def reserve(settings: Settings) -> Sockets:
    """Return what is listened on; nothing is kept when something cannot be had.

    Raises:
        ServeError: as `_reserve`.
    """
    http = _hold(settings.host, settings.port, flag="port")
    if settings.smtp_port is None:
        return Sockets(http, None)
    try:
        return Sockets(http, _hold(settings.smtp_host or settings.host, settings.smtp_port, flag="smtp-port"))
    except ServeError:
        http.close()
        raise


def _hold(host: str, port: int, *, flag: str) -> socket.socket:
    """Return a socket that holds the address and collects connections for whoever will accept them.

    Raises:
        ServeError: somebody else listens there, or there is no such address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(address)
        held.listen(BACKLOG)
    except OSError as error:
        host_flag = flag.replace("port", "host")
        raise ServeError(
            f"cannot listen on {host}:{port} ({error.strerror}): try another --{flag} or --{host_flag}"
        ) from error
    held.setblocking(False)
    return held


def _place(held: socket.socket) -> str:
    address, port = held.getsockname()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def load_certificate(settings: Settings) -> ssl.SSLContext | None:
    """Return what STARTTLS is offered with, if it is.

    Raises:
        ServeError: the files cannot be used.
    """
    certificate, key = settings.smtp_certificate, settings.smtp_certificate_key
    if certificate is None:
        if key is not None:
            raise ServeError(f"the key {key} is of no use without a certificate: name one with --smtp-certificate")
        return None
    named = f"the certificate {certificate}" + (f" with the key {key}" if key is not None else "")

    def refuse() -> str:
        raise ServeError(f"{named} cannot be used: the key has a password, and nobody is there to say it")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password=refuse)  # else OpenSSL asks, and waits
    except (OSError, ssl.SSLError) as error:
        raise ServeError(f"{named} cannot be used: {error}") from error
    return context
