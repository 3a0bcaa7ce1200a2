"""Addresses of machines, as text that somebody sent: read, compared, and counted by."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_MAX_CHARS: Final = 60  # the longest IPv6 address and a zone; what is longer is not kept in the cache either


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address without its zone, and an IPv4 address that comes in the form of IPv6 as what it is.

    None means that `text` is no address.
    """
    return _read(text) if len(text) <= _MAX_CHARS else None


def tidy_address(text: str) -> str:
    """Return an address in its one form, to be shown and compared; empty where `text` is none."""
    return _tidy(text) if len(text) <= _MAX_CHARS else ""


def network_of(text: str) -> str:
    """Return for whom limits are counted: an IPv4 address, or the 64 bits of IPv6 that one customer has."""
    address = read_address(text)
    return str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address or text)


@lru_cache(maxsize=4096)
def _read(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=4096)  # asked for each request, and a connection has many
def _tidy(text: str) -> str:
    return str(_read(text) or "")
