"""Addresses of machines, as text."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.address import network_of, read_address, tidy_address


@pytest.mark.parametrize(
    ("text", "shown", "network"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:1::7", "2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::", "2001:db8:0:1:ffff::", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::1", "fe80::/64"),
        ("unknown", "", "unknown"),
        ("", "", ""),
        ("192.0.2.01", "", "192.0.2.01"),
        ("192.0.2.1\r\n", "", "192.0.2.1\r\n"),
    ],
)
def test_an_address_has_one_form_and_one_network(text: str, shown: str, network: str) -> None:
    assert tidy_address(text) == shown
    assert network_of(text) == network


@given(st.ip_addresses())
def test_every_address_is_read_as_it_is_written(address: object) -> None:
    read = read_address(str(address))

    assert read is not None
    assert read_address(tidy_address(str(address))) == read


@given(st.text(max_size=100) | st.text("0123456789abcdef:.%/[]", max_size=100))
def test_what_is_no_address_is_none(text: str) -> None:
    read = read_address(text)

    assert tidy_address(text) == str(read or "")
    assert read is None or ip_address(text.partition("%")[0]) is not None


def test_what_is_too_long_to_be_an_address_is_none_and_is_not_kept() -> None:
    assert read_address("1.2.3.4%" + "x" * 100) is None
    assert tidy_address("1.2.3.4%" + "x" * 100) == ""
