"""Clients that come through proxies: whose word is taken, and whose is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.address import tidy_address
from sessiond.web.proxies import Client, Proxies, check_host, parse_networks

PROXY, EDGE, CLIENT, LIAR = "10.0.0.1", "10.0.0.2", "203.0.113.7", "198.51.100.9"
PROXIES = Proxies(parse_networks("10.0.0.0/24, 2001:db8::1"))

Headers = list[tuple[str, str]]


def find(headers: Headers, *, peer: str = PROXY, proxies: Proxies = PROXIES) -> Client:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope: Any = {"client": (peer, 4711), "scheme": "http", "headers": raw}
    return proxies.find_client(scope)


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([], Client(PROXY, "http")),
        ([("X-Forwarded-For", CLIENT)], Client(CLIENT, "http")),
        ([("X-Forwarded-For", f"{CLIENT}:5000")], Client(CLIENT, "http")),
        ([("X-Forwarded-For", "[2001:DB8::7]:5000")], Client("2001:db8::7", "http")),
        ([("X-Forwarded-For", "2001:db8::7")], Client("2001:db8::7", "http")),
        # What a client said itself stands on the left.
        ([("X-Forwarded-For", f"{LIAR}, {CLIENT}")], Client(CLIENT, "http")),
        ([("X-Forwarded-For", LIAR), ("X-Forwarded-For", CLIENT)], Client(CLIENT, "http")),
        ([("X-Forwarded-For", f"{LIAR}, {CLIENT}, {EDGE}")], Client(CLIENT, "http")),
        ([("X-Forwarded-For", f"{EDGE}, {CLIENT}, {EDGE}")], Client(CLIENT, "http")),
        # A request of a proxy's own.
        ([("X-Forwarded-For", f"{EDGE}, {PROXY}")], Client(EDGE, "http")),
        # What is no address answers for nobody: it is the proxy's that let it through.
        ([("X-Forwarded-For", "unknown")], Client(PROXY, "http")),
        ([("X-Forwarded-For", f"{LIAR}, unknown, {EDGE}")], Client(EDGE, "http")),
        ([("X-Forwarded-For", f"{CLIENT},")], Client(PROXY, "http")),
        ([("X-Forwarded-For", "")], Client(PROXY, "http")),
        ([("X-Forwarded-Proto", "https")], Client(PROXY, "https")),
        (
            [("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "a.example:8443")],
            Client(PROXY, "https", "a.example:8443"),
        ),
        ([("X-Forwarded-Proto", "javascript")], Client(PROXY, "http")),
        ([("X-Forwarded-Host", '"><script>')], Client(PROXY, "http")),
        ([("X-Forwarded-Host", "evil.example, a.example")], Client(PROXY, "http", "a.example")),
        # Two proxies that each add what they saw: the client spoke to the first one.
        (
            [
                ("X-Forwarded-For", f"{LIAR}, {CLIENT}, {EDGE}"),
                ("X-Forwarded-Proto", "http, https, http"),
                ("X-Forwarded-Host", "evil.example, a.example, inner"),
            ],
            Client(CLIENT, "https", "a.example"),
        ),
        # Two proxies of which the second leaves what the first said.
        ([("X-Forwarded-For", f"{CLIENT}, {EDGE}"), ("X-Forwarded-Proto", "https")], Client(CLIENT, "https")),
        ([("Forwarded", f"for={CLIENT}")], Client(CLIENT, "http")),
        ([("Forwarded", f"For={CLIENT};Proto=https;Host=a.example")], Client(CLIENT, "https", "a.example")),
        ([("Forwarded", 'for="[2001:db8::7]:80";host="a.example:80"')], Client("2001:db8::7", "http", "a.example:80")),
        ([("Forwarded", f"for={LIAR}, for={CLIENT};proto=https")], Client(CLIENT, "https")),
        ([("Forwarded", f"for={LIAR}"), ("Forwarded", f"for={CLIENT}")], Client(CLIENT, "http")),
        (
            [("Forwarded", f"for={LIAR};host=evil.example, for={CLIENT};host=a.example, for={EDGE};host=inner")],
            Client(CLIENT, "http", "a.example"),
        ),
        ([("Forwarded", "for=_hidden;proto=https")], Client(PROXY, "https")),
        ([("Forwarded", "for=unknown")], Client(PROXY, "http")),
        ([("Forwarded", "nonsense")], Client(PROXY, "http")),
        # A client cannot reach into what the proxy says behind it.
        ([("Forwarded", f'for="{LIAR}, for={CLIENT};proto=https')], Client(CLIENT, "https")),
        ([("Forwarded", 'for="x;, for="[2001:db8::7]";host=a.example')], Client("2001:db8::7", "http", "a.example")),
        ([("Forwarded", f'for={CLIENT};host="a\\";for={LIAR};x=\\"b"')], Client(CLIENT, "http")),
        ([("Forwarded", f'for={CLIENT};host="a, for={LIAR}"')], Client(CLIENT, "http")),
        ([("Forwarded", f"for={CLIENT};for={LIAR}")], Client(CLIENT, "http")),
        # Proxies that speak of X-Forwarded-… hand on a Forwarded that a client made up.
        ([("Forwarded", f"for={LIAR}"), ("X-Forwarded-For", CLIENT)], Client(CLIENT, "http")),
    ],
)
def test_a_trusted_proxy_says_who_the_client_is(headers: Headers, client: Client) -> None:
    assert find(headers) == client


LIES: Headers = [
    ("X-Forwarded-For", LIAR),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.example"),
    ("Forwarded", f"for={LIAR};proto=https;host=evil.example"),
]


def test_nobody_else_does() -> None:
    assert find(LIES, peer=CLIENT) == Client(CLIENT, "http")
    assert find(LIES, proxies=Proxies()) == Client(PROXY, "http")
    assert find(LIES[3:], peer=CLIENT) == Client(CLIENT, "http")


def test_a_proxy_is_known_by_its_address_in_any_form() -> None:
    assert find(LIES[:1], peer="::ffff:10.0.0.1").address == LIAR
    assert find(LIES[:1], peer="2001:DB8:0::1").address == LIAR
    assert find(LIES[:1], peer="2001:db8::2").address == "2001:db8::2"


def test_a_client_without_an_address_has_none() -> None:
    scope: Any = {"client": None, "scheme": "http", "headers": [(b"x-forwarded-for", b"192.0.2.1")]}

    assert PROXIES.find_client(scope) == Client("", "http")


def test_a_chain_of_proxies_has_an_end() -> None:
    chain = ", ".join([CLIENT, *[EDGE] * 100])

    assert find([("X-Forwarded-For", chain)]).address == EDGE
    assert find([("Forwarded", ", ".join(f"for={hop}" for hop in chain.split(", ")))]).address == EDGE


HEADERS = st.sampled_from(["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"])
VALUES = st.text('for=proto,host;"\\[]: 10.2ab\t', max_size=60) | st.text(st.characters(max_codepoint=255), max_size=60)


@given(st.lists(st.tuples(HEADERS, VALUES), max_size=4))
def test_whatever_headers_say_what_comes_of_it_is_an_address_a_scheme_and_a_host(headers: Headers) -> None:
    client = find(headers)

    assert client.address == tidy_address(client.address) != ""
    assert client.scheme in ("http", "https")
    assert client.host == check_host(client.host)


@given(st.lists(st.tuples(HEADERS, VALUES), max_size=3), st.sampled_from(["X-Forwarded-For", "Forwarded"]))
def test_no_client_makes_a_proxy_say_something_else(lies: Headers, header: str) -> None:
    told = CLIENT if header == "X-Forwarded-For" else f"for={CLIENT};proto=https"
    sent = [(name, value) for name, value in lies if name == header]  # what is not the proxy's to write, it removes

    assert find([*sent, (header, told)]).address == CLIENT
    assert find([(header, ", ".join([*(value for _, value in sent), told]))]).address == CLIENT


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("a.example", True),
        ("a.example:80", True),
        ("[2001:db8::1]:80", True),
        ("xn--bcher-kva.example", True),
        ("", False),
        ("a b", False),
        ("a.example/x", False),
        ("a@b", False),
        ("a.example\n", False),
        ("é", False),
        ("x" * 254, False),
        (None, False),
    ],
)
def test_a_host_is_a_name_or_an_address_and_a_port(text: str | None, good: bool) -> None:
    assert check_host(text) == (text if good else None)


def test_networks_are_addresses_and_networks_with_commas() -> None:
    assert [str(each) for each in parse_networks("127.0.0.1, 10.1.2.3/8,::1 ,")] == [
        "127.0.0.1/32",
        "10.0.0.0/8",
        "::1/128",
    ]
    assert parse_networks("") == ()
    with pytest.raises(ValueError, match="'nginx'"):
        parse_networks("127.0.0.1,nginx")
