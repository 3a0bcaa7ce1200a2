"""What a server listens on, and speaks TLS with: held by one process, and shared by all that serve."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Final

import msgspec

from sessiond.settings import Settings
from sessiond.web.connections import BACKLOG
from sessiond.web.proxies import Proxies, parse_networks

log: Final = logging.getLogger("sessiond.server")


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
    certificates: Certificates

    def places(self) -> Places:
        scheme = "https" if self.certificates.http is not None else "http"
        return Places(f"{scheme}://{_place(self.http)}", _place(self.smtp) if self.smtp is not None else None)

    def close(self) -> None:
        self.http.close()
        if self.smtp is not None:
            self.smtp.close()


def reserve(settings: Settings) -> Sockets:
    """Return what is listened on; nothing is kept when something cannot be had.

    Raises:
        ServeError: as `_hold` and `load_certificates`.
    """
    certificates = load_certificates(settings)
    http = _hold(settings.host, settings.port, flag="port")
    if settings.smtp_port is None:
        return Sockets(http, None, certificates)
    try:
        smtp = _hold(settings.smtp_host or settings.host, settings.smtp_port, flag="smtp-port")
    except ServeError:
        http.close()
        raise
    return Sockets(http, smtp, certificates)


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


class Certificate:
    """A certificate and its key as files, and what TLS is spoken with."""

    def __init__(self, file: str, key: str | None) -> None:
        """Read both.

        Raises:
            ServeError: they cannot be used.
        """
        self._file = file
        self._key = key
        self.named = f"the certificate {file}" + (f" with the key {key}" if key is not None else "")
        self.context = _make_context()
        self._read_into(self.context)

    def reload(self) -> None:
        """Read the files again, for connections that come from now on; those that are open go on as they are.

        Raises:
            ServeError: they cannot be used; what was read before still is.
        """
        self._read_into(_make_context())  # else half of what cannot be read whole would be kept
        self._read_into(self.context)

    def _read_into(self, context: ssl.SSLContext) -> None:
        def refuse() -> str:
            raise ServeError(f"{self.named} cannot be used: the key has a password, and nobody is there to say it")

        try:
            context.load_cert_chain(self._file, self._key, password=refuse)  # else OpenSSL asks, and waits
        except (OSError, ssl.SSLError) as error:
            raise ServeError(f"{self.named} cannot be used: {error}") from error


def _make_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # what is older is broken (RFC 8996)
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could have us do the costly part again and again
    return context


class Certificates(msgspec.Struct, frozen=True):
    """What TLS is spoken with, where it is."""

    http: Certificate | None
    smtp: Certificate | None

    def __bool__(self) -> bool:
        return self.http is not None or self.smtp is not None

    def reload(self) -> None:
        """Read the files again; what cannot be used is logged, and the one before goes on."""
        for certificate in filter(None, (self.http, self.smtp)):
            try:
                certificate.reload()
            except ServeError as error:
                log.error("%s; the one before is still used", error)
            else:
                log.info("%s was read again", certificate.named)


def load_certificates(settings: Settings) -> Certificates:
    """Return what HTTPS and STARTTLS are spoken with.

    Raises:
        ServeError: files cannot be used, or there is a key alone.
    """
    return Certificates(
        _load(settings.tls_certificate, settings.tls_certificate_key, flag="tls-certificate"),
        _load(settings.smtp_certificate, settings.smtp_certificate_key, flag="smtp-certificate"),
    )


def _load(file: str | None, key: str | None, *, flag: str) -> Certificate | None:
    if file is not None:
        return Certificate(file, key)
    if key is not None:
        raise ServeError(f"the key {key} is of no use without a certificate: name one with --{flag}")
    return None


def read_proxies(settings: Settings) -> Proxies:
    """Return the proxies whose word is taken.

    Raises:
        ServeError: what was given is no address or network.
    """
    try:
        return Proxies(parse_networks(settings.trusted_proxies or ""))
    except ValueError as error:
        raise ServeError(
            f"trusted_proxies cannot be used: {error}; give addresses and networks, with commas"
        ) from error
