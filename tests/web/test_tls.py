"""HTTPS as clients speak it: kept alive, streamed, left in the middle, and mistaken for HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from sessiond.storage.open import migrate
from sessiond.web import connections, site
from tests.certificates import make_certificate
from tests.conftest import make_database
from tests.serving import Serving, Tenant, open_serving

SECONDS: Final = 10.0
SWEEPERS: Final = 2  # things that the sweeper of a server watches

# What is spoken does not depend on the engine.
pytestmark = [
    pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True),
    pytest.mark.usefixtures("nothing_loud"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"), names=(), addresses=["127.0.0.1"])


@pytest.fixture(scope="module")
def serving(
    engine_name: str,
    files: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Serving]:
    """A server that speaks HTTPS, without a worker: whoever watches something there is a follower, or the sweeper."""
    database = make_database(engine_name, tmp_path_factory.mktemp("serving"), request)
    asyncio.run(migrate(database))
    certificate, key = map(str, files)
    with open_serving(database, runs_max=0, tls_certificate=certificate, tls_certificate_key=key) as server:
        yield server


@pytest.fixture(scope="module")
def trusting(files: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=files[0])


@pytest.fixture
def client(tenant: Tenant, trusting: ssl.SSLContext) -> Iterator[httpx.Client]:
    url, headers = tenant.serving.url, tenant.headers
    with httpx.Client(base_url=url, headers=headers, timeout=30, verify=trusting) as opened:
        yield opened


@pytest.fixture
def session(client: httpx.Client) -> str:
    made: str = client.post("/v1/sessions", json={"messages": [{"content": "one"}]}).json()["id"]
    return made


@pytest.fixture
def nothing_loud(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever clients do is no warning."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


def connect(serving: Serving) -> socket.socket:
    address = urlsplit(serving.url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=SECONDS)


def wait_until(fact: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not fact():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.005)


def read_to_the_end(made: socket.socket) -> bytes:
    read = b""
    with suppress(ConnectionError, ssl.SSLError):
        while more := made.recv(65_536):
            read += more
    return read


def test_requests_share_a_connection(serving: Serving, client: httpx.Client, session: str) -> None:
    assert serving.url.startswith("https://127.0.0.1:")
    sockets = set[object]()
    for _ in range(3):
        answer = client.get(f"/v1/sessions/{session}")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        stream = answer.extensions["network_stream"]
        assert stream.get_extra_info("ssl_object").version() == "TLSv1.3"
        sockets.add(stream.get_extra_info("client_addr"))
    assert len(sockets) == 1


def test_a_large_body_and_a_large_answer_arrive_whole(client: httpx.Client, session: str) -> None:
    messages = [{"content": f"{number} " + "é" * 20_000} for number in range(20)]
    client.post(f"/v1/sessions/{session}/messages", json={"messages": messages}).raise_for_status()

    read = client.get(f"/v1/sessions/{session}/messages", params={"limit": 100, "after": 2})

    assert int(read.headers["content-length"]) == len(read.content) > 10 * site.SLICE_BYTES
    assert [message["content"] for message in read.json()["data"]] == [message["content"] for message in messages]


def test_a_stream_is_told_and_a_follower_that_hangs_up_is_freed(
    serving: Serving, client: httpx.Client, session: str
) -> None:
    with client.stream("GET", f"/v1/sessions/{session}/stream?after=0") as stream:
        assert "strict-transport-security" in stream.headers
        lines = stream.iter_lines()
        while "one" not in next(lines):
            pass
        client.post(f"/v1/sessions/{session}/messages", json={"content": "two"}).raise_for_status()
        while "two" not in next(lines):
            pass
        assert serving.site.streams_open == 1

    wait_until(lambda: serving.site.streams_open == 0 and len(serving.site.engine.watches) == SWEEPERS)


def test_plain_http_ends_without_an_answer_or_a_word_in_the_log(serving: Serving, client: httpx.Client) -> None:
    with closing(connect(serving)) as made:
        made.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"HTTP" not in read_to_the_end(made)

    assert client.get("/healthz").status_code == 200


def test_who_hangs_up_in_the_handshake_is_nobody(serving: Serving, client: httpx.Client) -> None:
    for sent in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with closing(connect(serving)) as made:
            made.sendall(sent)

    assert client.get("/healthz").status_code == 200


def test_who_does_not_trust_the_certificate_gets_no_further(serving: Serving, client: httpx.Client) -> None:
    with closing(connect(serving)) as made, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(made, server_hostname="127.0.0.1")

    assert client.get("/healthz").status_code == 200


def test_what_is_older_than_tls_1_2_is_refused(serving: Serving) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1

    with closing(connect(serving)) as made, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(made)


def test_tls_1_2_is_spoken(serving: Serving, files: tuple[Path, Path]) -> None:
    older = ssl.create_default_context(cafile=files[0])
    older.maximum_version = ssl.TLSVersion.TLSv1_2

    assert httpx.get(f"{serving.url}/healthz", verify=older).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_does_not_end_is_not_waited_for(
    database: str, files: tuple[Path, Path], sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    asyncio.run(migrate(database))
    certificate, key = map(str, files)

    with (
        open_serving(database, tls_certificate=certificate, tls_certificate_key=key) as server,
        closing(connect(server)) as made,
    ):
        made.sendall(sent)
        assert read_to_the_end(made) == b""


def test_neither_is_a_head_behind_it(
    database: str, files: tuple[Path, Path], trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    asyncio.run(migrate(database))
    certificate, key = map(str, files)

    with (
        open_serving(database, tls_certificate=certificate, tls_certificate_key=key) as server,
        closing(trusting.wrap_socket(connect(server), server_hostname="127.0.0.1")) as made,
    ):
        made.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert read_to_the_end(made) == b""


def test_a_head_without_end_is_refused(serving: Serving, trusting: ssl.SSLContext) -> None:
    with closing(trusting.wrap_socket(connect(serving), server_hostname="127.0.0.1")) as made:
        made.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(5):
            made.sendall(b"X-Long: " + b"x" * 15_000 + b"\r\n")
        assert made.recv(100).startswith(b"HTTP/1.1 431")


def test_who_does_not_read_is_given_up(
    serving: Serving,
    tenant: Tenant,
    client: httpx.Client,
    session: str,
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(8):
        messages = [{"content": "x" * 90_000} for _ in range(10)]
        client.post(f"/v1/sessions/{session}/messages", json={"messages": messages}).raise_for_status()
    monkeypatch.setattr(site, "SEND_SECONDS", 0.3)

    with closing(socket.socket()) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(SECONDS)
        address = urlsplit(serving.url)
        made.connect((address.hostname, address.port))
        with closing(trusting.wrap_socket(made, server_hostname="127.0.0.1")) as secure:
            asked = f"GET /v1/sessions/{session}/stream?after=0 HTTP/1.1\r\nAuthorization: Bearer {tenant.key}\r\n"
            secure.sendall(f"{asked}Host: here\r\n\r\n".encode())
            secure.recv(100)
            wait_until(lambda: serving.site.streams_open == 1)

            def given_up() -> bool:
                # A follower is waited for when there is more to tell it.
                client.post(f"/v1/sessions/{session}/messages", json={"content": "x" * 90_000}).raise_for_status()
                return serving.site.streams_open == 0

            wait_until(given_up)
