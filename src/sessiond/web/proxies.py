"""Who a client is that comes through proxies, and what it called this server. Only the word of those named is taken.

What a header says was written by whoever sent it: from the right, each part by the proxy next to us. So parts are read
from the right for as long as the one who wrote them is trusted, and what stands left of that is anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from itertools import islice
from typing import Final

import msgspec

from sessiond.core.address import read_address, tidy_address
from sessiond.web.asgi import Scope

Network = IPv4Network | IPv6Network

HOPS_MAX: Final = 16  # proxies in a row; with more of them something is wrong
_READ_MAX_CHARS: Final = 4096  # of the right end of a header: what is further left nobody whom we trust has written

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PAIR: Final = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^\s";,]*)')


class Client(msgspec.Struct, frozen=True):
    """A client as it is to be known. Nothing in it is text as a header had it, unless it was checked."""

    address: str
    """Empty where there is none."""
    scheme: str
    """`http` or `https`."""
    host: str | None = None
    """What it called this server, as a proxy says; None where none does."""


class _Hop(msgspec.Struct, frozen=True):
    """What one proxy says of whoever asked it."""

    address: str
    scheme: str
    host: str


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return addresses and networks of a list with commas.

    Raises:
        ValueError: one is neither; the message names it.
    """
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def check_host(text: str | None) -> str | None:
    """Return a name or address with or without a port, if it is one: it comes to stand in URLs."""
    return text if text is not None and _HOST.fullmatch(text) else None


class Proxies:
    """The proxies whose word is taken; none, unless named."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)

    def find_client(self, scope: Scope) -> Client:
        """Return who asks: whoever is connected, or whom a trusted proxy speaks for."""
        peer = scope.get("client")
        direct = Client(tidy_address(peer[0]) if peer else "", scope["scheme"])
        if not self._networks or not self._trusts(read_address(direct.address)):
            return direct
        return self._follow(direct, islice(_read_hops(scope["headers"]), HOPS_MAX))

    def _follow(self, client: Client, hops: Iterable[_Hop]) -> Client:
        """Return whom the last trusted proxy speaks for; `client` is the one next to us."""
        for hop in hops:
            address = _read_node(hop.address)
            scheme = hop.scheme.lower()
            client = Client(
                str(address or client.address),  # what hides whom it speaks for answers for them itself
                scheme if scheme in ("http", "https") else client.scheme,
                check_host(hop.host) or client.host,
            )
            if not self._trusts(address):
                break
        return client

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _read_hops(headers: Sequence[tuple[bytes, bytes]]) -> Iterator[_Hop]:
    """Yield what proxies say, the nearest first.

    Nearly all speak of `X-Forwarded-…`, and hand on a `Forwarded` that a client made up: so that is read only where
    nothing else is said.
    """
    addresses, schemes, hosts = (
        _split(_joined(headers, b"x-forwarded-" + name)) for name in (b"for", b"proto", b"host")
    )
    if addresses or schemes or hosts:
        for place in range(max(len(addresses), 1)):
            address = addresses[place] if addresses else ""
            yield _Hop(address, _at(schemes, place), _at(hosts, place))
        return
    forwarded = _joined(headers, b"forwarded")
    for element in _split_quoted(forwarded) if forwarded else ():
        # The first of a name counts, since a proxy puts what it says itself in front of what a client sent.
        pairs = {name.lower(): value.strip('"') for name, value in reversed(_PAIR.findall(element))}
        yield _Hop(pairs.get("for", ""), pairs.get("proto", ""), pairs.get("host", ""))


def _at(values: Sequence[str], place: int) -> str:
    """Return what was said at a place from the right; a proxy that puts its word in place of the others' says one."""
    return values[min(place, len(values) - 1)] if values else ""


def _joined(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> str:
    """Return the end of a header that may come in several lines, which are one list."""
    return b",".join(value for name, value in headers if name == wanted).decode("latin-1")[-_READ_MAX_CHARS:]


def _split(text: str) -> Sequence[str]:
    """Return the parts of a list, the last first."""
    return [part.strip() for part in reversed(text.rsplit(",", HOPS_MAX)[-HOPS_MAX:])] if text else []


def _split_quoted(text: str) -> Iterator[str]:
    """Yield the parts of a list, the last first: a quotation mark that a client left open swallows nobody's part."""
    end, quoted = len(text), False
    for place in range(len(text) - 1, -1, -1):
        if text[place] == '"' and text[place - 1 : place] != "\\":
            quoted = not quoted
        elif text[place] == "," and not quoted:
            yield text[place + 1 : end]
            end = place
    yield text[:end]


def _read_node(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`; else None."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return read_address(text)
