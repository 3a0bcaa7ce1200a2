"""One SMTP client's connection: aiosmtpd's, with the bounds it leaves out. It knows nothing of inboxes.

aiosmtpd keeps the transaction and changes to TLS. Reading commands, addresses and mails is done here, since what it
does there can be made to grow, to hold up the loop, or to last for ever.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, AnyStr, Final, cast

from aiosmtpd.smtp import SMTP, TLSSetupException

from sessiond.core import address
from sessiond.core.mail import ADDRESS_MAX_CHARS

log: Final = logging.getLogger("sessiond.mail")

COMMANDS: Final = frozenset({"HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "QUIT", "STARTTLS"})
COMMAND_MAX_BYTES: Final = 1_000  # RFC 5321: 512, and a little more for each extension
READ_BYTES: Final = 64 * 1024  # what is looked at in one go; a client is not read from while twice as much waits
ERRORS_MAX: Final = 20  # who has not got it right by then never will, or tries out addresses
COMMANDS_MAX: Final = 500  # without a mail; with one they are a few, and one more for each recipient
DRAIN_FACTOR: Final = 10  # a mail that is too large is read on, so that the answer is heard; but not for ever
WORK_SECONDS: Final = 30.0  # for us to look up or to store; clients wait minutes, and try again
LINGER_SECONDS: Final = 5.0  # for the client to take our last words
CONNECTION_SECONDS: Final = 3_600.0  # whoever sends a byte a minute is not idle, and has to come again all the same
HELD_MAX_BYTES: Final = 256 * 1024 * 1024  # of mails that are coming in, all clients together

CRLF: Final = b"\r\n"
END: Final = b"\r\n.\r\n"
LATER: Final = "451 4.3.0 not now, try again later"

# An address in angle brackets, and what stands behind it. No source route: nobody has needed one for thirty years.
_PATH: Final = re.compile(r'<((?:[^\s<>"@]+|"(?:[^"\\]|\\.)*")@[^\s<>"@]+)?>(?: +(.*))?')

# It logs what clients send, and warns of what they do wrong.
logging.getLogger("mail.log").setLevel(logging.ERROR)


class Connections:
    """Those that are open."""

    def __init__(self, *, most: int, most_per_network: int) -> None:
        self.open = set[Connection]()
        self.turn = asyncio.Lock()
        """Whoever holds it looks at what a client sent. One does in a turn of the loop, however many send."""
        self.none_left = asyncio.Event()
        self.none_left.set()
        self._most = most
        self._most_per_network = most_per_network
        self._by_network = Counter[str]()

    @property
    def held_bytes(self) -> int:
        return sum(connection.held_bytes for connection in self.open)

    def have_room_for(self, network: str) -> bool:
        return len(self.open) < self._most and self._by_network[network] < self._most_per_network

    def add(self, connection: Connection) -> None:
        self.open.add(connection)
        self._by_network[connection.network] += 1
        self.none_left.clear()

    def remove(self, connection: Connection) -> None:
        if connection not in self.open:
            return
        self.open.remove(connection)
        self._by_network -= Counter({connection.network: 1})  # keeps no zeros
        if not self.open:
            self.none_left.set()


class Connection(SMTP):
    """A client's connection. `handler` decides, by aiosmtpd's hooks EHLO, MAIL, RCPT and DATA."""

    line_length_limit = READ_BYTES

    def __init__(
        self,
        handler: object,
        connections: Connections,
        *,
        network: str,
        domain: str,
        max_bytes: int,
        tls: ssl.SSLContext | None,
        idle_seconds: float,
    ) -> None:
        super().__init__(
            handler,
            hostname=domain,
            data_size_limit=max_bytes,
            enable_SMTPUTF8=True,
            tls_context=tls,
            timeout=idle_seconds,
            loop=asyncio.get_running_loop(),
        )
        self.network = network
        self.errors = 0
        self.held_bytes = 0
        self._connections = connections
        self._max_bytes = max_bytes
        self._commands = 0
        self._receiving = False
        self._at_work = False
        self._farewell: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._original_transport is None:  # else this is the same connection, under TLS from now on
            assert self._handler_coroutine is not None
            self._handler_coroutine.add_done_callback(lambda _: self._close())
            self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._connections.remove(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._receiving and self.transport is not None:
            self._reset_timeout()

    def eof_received(self) -> bool:
        """Answer what was sent before; aiosmtpd would stop in the middle of it, also of storing a mail."""
        self._reader.feed_eof()
        return self._tls_protocol is None  # under TLS there are no half-closed connections

    def leave(self) -> None:
        """Say good-bye, after the mail that is coming in."""
        self._part("421 4.3.2 shutting down", at_once=not self._receiving)

    def abort(self) -> None:
        raw = self._original_transport or self.transport
        if raw is not None:
            cast(asyncio.Transport, raw).abort()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Do something that the client waits for: it is not idle meanwhile.

        Raises:
            TimeoutError: it has taken too long.
        """
        self._at_work = True
        try:
            async with asyncio.timeout(WORK_SECONDS):
                yield
        finally:
            self._at_work = False

    async def push(self, status: AnyStr) -> None:
        if status[:1] in ("5", b"5"):
            self.errors += 1
        # A client may send thousands of commands in one packet. Nothing else would let others have a turn. Not behind
        # the answer: when STARTTLS is answered, the next byte that is read must be read as TLS.
        await asyncio.sleep(0)
        await super().push(status)

    def _timeout_cb(self) -> None:
        if self._at_work:
            self._reset_timeout()
        else:
            self._part("421 4.4.2 idle for too long", at_once=True)

    def _part(self, farewell: str, *, at_once: bool) -> None:
        self._farewell = farewell
        if at_once and self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    def _close(self) -> None:
        if self.transport is None:
            return
        if self._shaking_hands:
            # TLS tells nobody that a connection is lost who has not heard of it yet.
            self.abort()
            self.connection_lost(None)
            return
        if self._farewell is not None and not self._writer.is_closing():
            self._writer.write(self._farewell.encode() + CRLF)
        self._writer.close()
        # Closing waits for a client to take what was written to it, for ever if need be.
        self.loop.call_later(LINGER_SECONDS, self.abort)

    async def _handle_client(self) -> None:
        try:
            async with asyncio.timeout(CONNECTION_SECONDS):
                await self.push(f"220 {self.hostname} ESMTP")
                while self._farewell is None:
                    await self._serve_command()
                    self._commands += 1
                    if self.errors >= ERRORS_MAX or self._commands >= COMMANDS_MAX:
                        self._farewell = "421 4.7.0 too many errors, or commands without a mail"
        except TimeoutError:
            self._farewell = "421 4.4.2 connected for too long"
        except (OSError, asyncio.IncompleteReadError, TLSSetupException) as error:
            log.debug("a client hung up: %s", type(error).__name__)
        except asyncio.CancelledError:
            # A task keeps what it was cancelled with, and that the mail, until Python looks for such circles.
            log.debug("a client is gone, or has to go")
        except Exception:
            log.exception("a connection failed: peer=%s", self.peer)
            self._farewell = "421 4.3.0 try again later"

    @property
    def peer(self) -> str:
        """The client's address."""
        peer: Any = None if self.session is None else self.session.peer
        return str(peer[0]) if isinstance(peer, tuple) else "-"

    @property
    def _shaking_hands(self) -> bool:
        return self._tls_protocol is not None and (self.session is None or self.session.ssl is None)

    async def _serve_command(self) -> None:
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            self._farewell = "500 5.5.2 line too long"
            return
        if len(line) > COMMAND_MAX_BYTES:
            await self.push("500 5.5.2 line too long")
            return
        text = line.decode(errors="surrogateescape").removesuffix("\r\n")
        if not text.isprintable():  # with a line end of another kind too
            await self.push("500 5.5.2 a command is a line of UTF-8 that ends in CR LF")
            return
        verb, _, argument = text.partition(" ")
        if verb.upper() not in COMMANDS:
            await self.push("502 5.5.1 no such command")
            return
        self._reset_timeout()
        await self._smtp_methods[verb.upper()](argument.strip() or None)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """Return an address, `<>` for none, and what follows it; None when it is no address."""
        path = _PATH.fullmatch(arg)
        if path is None or len(path[1] or "") > ADDRESS_MAX_CHARS:
            return None, None
        return path[1] or "<>", path[2] or ""

    def _getparams(self, params: Sequence[str]) -> dict[str, str | bool] | None:
        for param in params:
            # There are digits in other scripts, and not all of them are numbers.
            if param.startswith("SIZE=") and not re.fullmatch("SIZE=[0-9]{1,20}", param):
                return None
        return super()._getparams(params)

    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        await self.push("252 2.5.0 send a mail and see")

    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        if self._tls_protocol is not None:
            await self.push("503 5.5.1 this is TLS already")
            return
        await super().smtp_STARTTLS(arg or "")
        if self._shaking_hands:
            raise TLSSetupException("cut off in the middle, which TLS does not say")

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        assert self.envelope is not None
        if arg is not None:
            await self.push("501 5.5.4 DATA stands alone")
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 for whom? RCPT first")
            return
        content, answer, recipients = Content(), "none", len(self.envelope.rcpt_tos)
        self._receiving = True
        self._commands = 0
        try:
            await self.push("354 end with <CR><LF>.<CR><LF>")
            answer = await self._receive(content)
            await self.push(answer)
        finally:
            self._receiving = False
            self.held_bytes = 0
            self.envelope = self._create_envelope()
            log.info(
                'mail: peer=%s bytes=%d recipients=%d answer="%s"', self.peer, max(content.size, 0), recipients, answer
            )

    async def _receive(self, content: Content) -> str:
        """Read a mail to its end and have it decided upon; the answer."""
        buffer: bytearray = self._reader._buffer  # type: ignore[attr-defined]  # aiosmtpd reaches for it too
        buffer[:0] = CRLF  # that of DATA itself: a dot right behind it is an end too, of an empty mail
        refusal, ended = None, False
        while not ended:
            try:
                piece, ended = await self._reader.readuntil(END), True
            except asyncio.LimitOverrunError as overrun:  # `consumed` never parts an end
                piece = await self._reader.read(overrun.consumed)
            async with self._connections.turn:
                content.add(piece[: -len(".\r\n")] if ended else piece)
                await asyncio.sleep(0)
            if refusal is None and (refusal := self._refuse(content)) is not None:
                content.drop()
            self.held_bytes = content.held_bytes
            if content.size > DRAIN_FACTOR * self._max_bytes:
                self._farewell = "421 4.7.0 this never ends"
                break
        if refusal is not None:
            return refusal
        assert self.envelope is not None
        self.envelope.content = content.finish()
        answer: str = await self._call_handler_hook("DATA")
        return answer

    def _refuse(self, content: Content) -> str | None:
        if content.size > self._max_bytes:
            return f"552 5.3.4 larger than {self._max_bytes} bytes"
        if content.ambiguous:
            return "554 5.6.0 a CR or LF stands alone, which some take for the end of a line"
        if self._connections.held_bytes + content.held_bytes - self.held_bytes > max(HELD_MAX_BYTES, self._max_bytes):
            return "452 4.3.1 too much is coming in, try again later"
        return None


class Content:
    """What comes between DATA and the dot that ends it, without the dots that were put in for the way."""

    def __init__(self) -> None:
        self.size = -len(CRLF)  # the first line end is that of DATA itself
        self.ambiguous = False
        """A CR or LF stood alone. Servers that take it for a line end may read another mail in it: smuggling."""
        self._gathered: bytearray | None = bytearray()
        self._tail = b""

    @property
    def held_bytes(self) -> int:
        return len(self._gathered or b"")

    def add(self, piece: bytes) -> None:
        """Take the next bytes; the last are to end in CR LF."""
        if self._gathered is None:
            self.size += len(piece)
            return
        piece = self._tail + piece
        # What may go on as a line end with a dot is looked at together with what follows.
        self._tail = CRLF if piece.endswith(CRLF) else b"\r" if piece.endswith(b"\r") else b""
        piece = piece.removesuffix(self._tail)
        if not piece.count(b"\r") == piece.count(b"\n") == piece.count(CRLF):
            self.ambiguous = True
        self._gathered += piece.replace(b"\r\n.", CRLF)
        self.size = len(self._gathered) + len(self._tail) - len(CRLF)

    def drop(self) -> None:
        """Forget what there is, and count only from now on."""
        self._gathered = None

    def finish(self) -> bytes:
        """Return all of it."""
        assert self._gathered is not None
        self._gathered += self._tail
        gathered, self._gathered = self._gathered, None
        del gathered[: len(CRLF)]
        return bytes(gathered)


def network_of(peer: Any) -> str:
    """Return for whom limits are counted: an IPv4 address, or the 64 bits of IPv6 that one customer has."""
    return address.network_of(str(peer[0])) if isinstance(peer, tuple) else ""
