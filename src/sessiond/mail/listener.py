"""Mail by SMTP: who may send how much, and to whom. What becomes of a mail is the mailboxes' business."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Final, Protocol, cast

from aiosmtpd.smtp import Envelope, Session

from sessiond.core.errors import NotFound, TooLarge, Unavailable
from sessiond.mail.smtp import LATER, Connection, Connections, network_of

log: Final = logging.getLogger("sessiond.mail")

BACKLOG: Final = 256  # connections that wait to be accepted; all of them are in one turn of the loop
STOP_SECONDS: Final = 5.0  # for mails that are coming in when we are told to stop; their senders try again later

UNKNOWN: Final = "550 5.1.1 no such inbox"

# What an inbox's name is made of. Nothing that other servers take for a way to somewhere else: % ! @ : "
_NAME: Final = re.compile(r"[a-z0-9._+-]+")


class Mailboxes(Protocol):
    """Where mail goes."""

    async def knows(self, address: str) -> bool:
        """Whether there is an inbox at `address`, in lower case, that takes mail now."""
        ...

    async def deliver(self, addresses: Sequence[str], raw: bytes, *, sender: str) -> None:
        """Put a mail into all of these inboxes, or into none. It is on disk when this returns.

        `sender` is what the envelope says, and empty for a notice that a mail could not be delivered.

        Raises:
            Unavailable: not now.
            TooLarge: one of them has no room for it.
            NotFound: one of them does not take mail any more.
        """
        ...


class MailListener:
    """Takes mail for the inboxes of a domain, and for nobody else. Each process counts for itself."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        *,
        domain: str,
        max_bytes: int,
        tls: ssl.SSLContext | None = None,
        recipients_max: int = 50,
        connections_max: int = 100,
        connections_per_address_max: int = 20,
        mails_per_minute: int = 600,
        idle_seconds: float = 60.0,
    ) -> None:
        """`mails_per_minute` are those of one address; an IPv6 network of 64 bits counts as one."""
        self.connections = Connections(most=connections_max, most_per_network=connections_per_address_max)
        self._rules = _Rules(mailboxes, domain=domain, recipients_max=recipients_max, mails_per_minute=mails_per_minute)
        self._domain = domain
        self._max_bytes = max_bytes
        self._tls = tls
        self._idle_seconds = idle_seconds
        self._server: asyncio.Server | None = None
        self._stopping = False

    async def start(self, sock: socket.socket) -> None:
        """Serve on a bound socket, which several processes may share."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Door(self), sock=sock, backlog=BACKLOG)

    async def stop(self) -> None:
        """Accept no more, let mails that are coming in finish for a few seconds, close every connection."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections.open):
            connection.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self.connections.none_left.wait()
        for connection in list(self.connections.open):
            connection.abort()
        await self.connections.none_left.wait()

    def admit(self, transport: asyncio.Transport) -> None:
        """Begin to serve a client, or send it away."""
        network = network_of(transport.get_extra_info("peername"))
        if self._stopping or not self.connections.have_room_for(network):
            log.debug("a connection is refused: network=%s", network)
            transport.write(b"421 4.7.0 too many connections, try again later\r\n")
            transport.close()
            return
        connection = Connection(
            self._rules,
            self.connections,
            network=network,
            domain=self._domain,
            max_bytes=self._max_bytes,
            tls=self._tls,
            idle_seconds=self._idle_seconds,
        )
        transport.set_protocol(connection)
        connection.connection_made(transport)


class _Door(asyncio.Protocol):
    """What a connection is until it is known whose: to make ready for a client costs more than to refuse it."""

    def __init__(self, listener: MailListener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._listener.admit(cast(asyncio.Transport, transport))  # uvloop's are, and do not say so


class _Rules:
    """Decides what clients may do; its methods are aiosmtpd's hooks, and return what is answered."""

    def __init__(self, mailboxes: Mailboxes, *, domain: str, recipients_max: int, mails_per_minute: int) -> None:
        self._mailboxes = mailboxes
        self._domain = domain.lower()
        self._recipients_max = recipients_max
        self._mails_per_minute = mails_per_minute
        self._minute = 0
        self._mails = Counter[str]()

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _connection: Connection, session: Session, _envelope: Envelope, name: str, offers: list[str]
    ) -> list[str]:
        session.host_name = name  # it is only asked whether there is one: whose it is, nobody knows
        kept = [offer for offer in offers if offer[4:].split()[0] not in ("AUTH", "HELP")]
        return ["\r\n".join([*kept, "250 PIPELINING"])]  # as one, or each would be a packet

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, connection: Connection, _session: Session, envelope: Envelope, sender: str, _options: list[str]
    ) -> str:
        if not sender.isascii() and not envelope.smtp_utf8:
            return "553 5.6.7 that address needs SMTPUTF8"
        if not self._may_send(connection.network):
            connection.errors += 1
            return "451 4.7.0 too many mails, try again in a minute"
        envelope.mail_from = sender
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, connection: Connection, _session: Session, envelope: Envelope, recipient: str, _options: list[str]
    ) -> str:
        name, _, domain = recipient.lower().rpartition("@")
        if not recipient.isascii() or domain != self._domain:
            return "550 5.7.1 mail is not relayed"
        if not _NAME.fullmatch(name):
            return UNKNOWN
        if len(envelope.rcpt_tos) >= self._recipients_max:
            return "452 4.5.3 too many recipients"
        return await self._answer(connection, self._add(envelope, f"{name}@{domain}"))

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, connection: Connection, _session: Session, envelope: Envelope
    ) -> str:
        answer = await self._answer(connection, self._deliver(envelope))
        if answer.startswith("250"):
            connection.errors = 0
        return answer

    async def _add(self, envelope: Envelope, address: str) -> str:
        if not await self._mailboxes.knows(address):
            return UNKNOWN
        if address not in envelope.rcpt_tos:
            envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def _deliver(self, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        assert envelope.mail_from is not None
        sender = envelope.mail_from.removeprefix("<>")  # that is how nobody is called until here
        await self._mailboxes.deliver(tuple(envelope.rcpt_tos), envelope.content, sender=sender)
        return "250 2.0.0 delivered"

    async def _answer(self, connection: Connection, asking: Awaitable[str]) -> str:
        """Return the mailboxes' answer, whatever goes wrong there."""
        try:
            async with connection.at_work():
                return await asking
        except NotFound:
            return UNKNOWN
        except TooLarge:
            return "552 5.2.2 more than an inbox takes"
        except (Unavailable, TimeoutError):
            return LATER
        except Exception:
            log.exception("mail could not be taken: peer=%s", connection.peer)
            return LATER

    def _may_send(self, network: str) -> bool:
        minute = int(asyncio.get_running_loop().time() // 60)
        if minute != self._minute:
            self._minute = minute
            self._mails.clear()
        self._mails[network] += 1
        return self._mails[network] <= self._mails_per_minute
