"""Connections as clients treat them: left in the middle, asked ahead of the answer, not read from."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from sessiond.storage.open import migrate
from sessiond.web import site
from tests.conftest import make_database
from tests.serving import Serving, Tenant, open_serving

SECONDS = 10.0
SWEEPERS = 2  # things that the sweeper of a server watches


def wait_until(fact: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not fact():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.005)


@contextmanager
def connect(serving: Serving, *, receive_bytes: int | None = None) -> Iterator[socket.socket]:
    address = urlsplit(serving.url)
    assert address.hostname is not None
    assert address.port is not None
    with closing(socket.socket()) as made:
        if receive_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.settimeout(SECONDS)
        made.connect((address.hostname, address.port))
        yield made


def head(tenant: Tenant, asked: str, *, length: int = 0) -> bytes:
    return (
        f"{asked} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {tenant.key}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def read_until(made: socket.socket, end: bytes, *, times: int = 1) -> bytes:
    read = b""
    while read.count(end) < times:
        more = made.recv(65_536)
        assert more, f"closed after {read[-200:]!r}"
        read += more
    return read


@pytest.fixture
def nothing_loud(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whoever asks for this, logs nothing above info."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.fixture(scope="module")
def serving(
    engine_name: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Serving]:
    """A server without a worker: whoever watches something there is a follower, or the sweeper."""
    database = make_database(engine_name, tmp_path_factory.mktemp("serving"), request)
    asyncio.run(migrate(database))
    with open_serving(database, runs_max=0) as server:
        yield server


@pytest.fixture
def session(client: httpx.Client) -> str:
    made: str = client.post("/v1/sessions", json={"messages": [{"content": "one"}]}).json()["id"]
    return made


def followers(serving: Serving) -> tuple[int, int]:
    return serving.site.streams_open, len(serving.site.engine.watches) - SWEEPERS


@pytest.mark.usefixtures("nothing_loud")
def test_head_of_a_stream_is_its_head_alone_and_leaves_no_follower(
    serving: Serving, client: httpx.Client, session: str
) -> None:
    for path in ("/stream", "/messages", ""):
        asked = client.head(f"/v1/sessions/{session}{path}")
        assert (asked.status_code, asked.content) == (200, b"")
    assert client.head(f"/v1/sessions/{session}/stream").headers["content-type"].startswith("text/event-stream")
    assert client.head("/openagents/api/session").content == b""
    assert client.head("/v1/sessions/none/stream").status_code == 404

    assert followers(serving) == (0, 0)
    assert client.get(f"/v1/sessions/{session}").status_code == 200


@pytest.mark.usefixtures("nothing_loud")
@pytest.mark.parametrize("behind", [b"", b"one", b"many"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_follower_that_hangs_up_is_freed_whatever_it_asked_for_behind_the_stream(
    serving: Serving, tenant: Tenant, session: str, behind: bytes, at_once: bool
) -> None:
    follow, ask = head(tenant, f"GET /v1/sessions/{session}/stream?after=0"), head(tenant, "GET /v1/me")
    more = ask * {b"": 0, b"one": 1, b"many": 5}[behind]
    with connect(serving) as made:
        made.sendall(follow + more if at_once else follow)
        read_until(made, b"event: message.user")
        assert followers(serving) == (1, 1)
        if not at_once:
            made.sendall(more)

    wait_until(lambda: followers(serving) == (0, 0))


@pytest.mark.usefixtures("nothing_loud")
def test_a_follower_that_hangs_up_while_much_is_told_is_no_bug(
    serving: Serving, tenant: Tenant, client: httpx.Client, session: str
) -> None:
    for _ in range(4):
        messages = [{"content": "x" * 40_000} for _ in range(20)]
        client.post(f"/v1/sessions/{session}/messages", json={"messages": messages}).raise_for_status()
    for asked in (
        f"GET /v1/sessions/{session}/stream?after=0",
        f"POST /v1/sessions/{session}/replay",
        f"GET /v1/sessions/{session}/messages?limit=1000",
    ):
        for taken in (1, 10_000, 200_000):
            with connect(serving, receive_bytes=4_096) as made:
                made.sendall(head(tenant, asked))
                left = taken
                while left > 0:
                    left -= len(made.recv(left))
    wait_until(lambda: followers(serving) == (0, 0))


@pytest.mark.usefixtures("nothing_loud")
@pytest.mark.parametrize("asked", ["GET /v1/sessions/{}/messages?limit=1000", "GET /v1/sessions/{}/stream?after=0"])
def test_who_does_not_read_is_given_up(
    serving: Serving,
    tenant: Tenant,
    client: httpx.Client,
    session: str,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(8):
        messages = [{"content": "x" * 90_000} for _ in range(10)]
        client.post(f"/v1/sessions/{session}/messages", json={"messages": messages}).raise_for_status()
    monkeypatch.setattr(site, "SEND_SECONDS", 0.3)

    answered = _answered(client, asked)

    with connect(serving, receive_bytes=4_096) as made:
        made.sendall(head(tenant, asked.format(session)))
        read = len(read_until(made, b"\r\n\r\n"))

        def given_up() -> bool:
            # A follower is waited for when there is more to tell it.
            client.post(f"/v1/sessions/{session}/messages", json={"content": "more"}).raise_for_status()
            return _answered(client, asked) > answered

        wait_until(given_up)
        while taken := _take(made):
            read += taken

    assert followers(serving) == (0, 0)
    assert read < 80 * 90_000


def _answered(client: httpx.Client, asked: str) -> float:
    route = asked.removeprefix("GET ").partition("?")[0].replace("{}", "{session_id}")
    counted = f'sessiond_request_seconds_count{{dialect="native",method="GET",route="{route}",status="200"}} '
    shown = client.get("/metrics").text
    return float(shown.partition(counted)[2].partition("\n")[0]) if counted in shown else 0


def _take(made: socket.socket) -> int:
    try:
        return len(made.recv(65_536))
    except ConnectionResetError:
        return 0


@pytest.mark.usefixtures("nothing_loud")
def test_a_large_answer_arrives_whole(client: httpx.Client, session: str) -> None:
    messages = [{"content": f"{number} " + "é" * 20_000} for number in range(20)]
    client.post(f"/v1/sessions/{session}/messages", json={"messages": messages}).raise_for_status()

    read = client.get(f"/v1/sessions/{session}/messages", params={"limit": 100, "after": 2})

    assert int(read.headers["content-length"]) == len(read.content) > 10 * site.SLICE_BYTES
    assert [message["content"] for message in read.json()["data"]] == [message["content"] for message in messages]


@pytest.mark.usefixtures("nothing_loud")
def test_a_body_is_no_part_of_the_head_behind_it(serving: Serving, tenant: Tenant, session: str) -> None:
    body = b'{"content": "%b"}' % (b"x" * 200_000)
    after = head(tenant, f"GET /v1/sessions/{session}")
    with connect(serving) as made:
        made.sendall(head(tenant, f"POST /v1/sessions/{session}/messages", length=len(body)))
        for start in range(0, len(body), 20_000):
            made.sendall(body[start : start + 20_000])
        assert read_until(made, b"\r\n\r\n").startswith(b"HTTP/1.1 201")
        made.sendall(after[:30])
        wait_until(lambda: made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24:28] == b"\0" * 4)
        made.sendall(after[30:])
        assert b"HTTP/1.1 200" in read_until(made, b'"expires_at":')


def test_a_head_without_end_is_refused(serving: Serving) -> None:
    with connect(serving) as made:
        made.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(5):
            made.sendall(b"X-Long: " + b"x" * 15_000 + b"\r\n")
        assert made.recv(100).startswith(b"HTTP/1.1 431")
