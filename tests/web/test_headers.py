"""What every answer says beside itself, and how wrong keys and proxies are seen over the wire."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from sessiond.assembly import DIALECTS
from sessiond.storage.open import migrate
from tests.conftest import make_database
from tests.serving import TLS, Serving, Tenant, open_serving

PRIVATE: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def assert_private(answer: httpx.Response) -> None:
    headers = answer.headers
    assert {name: headers.get(name) for name in PRIVATE} == PRIVATE  # once each: httpx joins what comes twice
    assert "server" not in headers
    assert "strict-transport-security" not in headers  # that is nothing to say in the clear


def test_every_answer_is_for_the_one_who_asked_alone(client: httpx.Client, tenant: Tenant) -> None:
    made = client.post("/v1/sessions", json={"messages": [{"content": "Hello"}]})
    path = f"/v1/sessions/{made.json()['id']}"
    answers = [
        made,
        client.get(path),
        client.head(path),
        client.get(f"{path}/messages"),
        client.head(f"{path}/stream"),
        client.put(path),
        client.get("/v1/nothing"),
        client.get("/openapi.json"),
        client.post("/v1/sessions", content=b"{"),
        client.delete(path),
        client.get(path),
    ]
    with tenant.client(headers={"Authorization": "Bearer x"}) as stranger:
        answers += [stranger.get(path), *(stranger.get(place) for place in ("/healthz", "/readyz", "/metrics"))]
    answers += [client.get(f"{dialect.prefix}/openapi.json") for dialect in DIALECTS]

    assert {answer.status_code for answer in answers} >= {200, 201, 204, 400, 401, 404, 405}
    for answer in answers:
        assert_private(answer)


def test_so_is_a_stream(client: httpx.Client) -> None:
    session = client.post("/v1/sessions", json={}).json()["id"]

    with client.stream("GET", f"/v1/sessions/{session}/stream?after=0") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert_private(stream)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: %b\r\n" % (b"x" * 1000) * 70, 431),
    ],
)
def test_so_is_what_is_no_request(serving: Serving, sent: bytes, status: int) -> None:
    address = urlsplit(serving.url)
    with closing(socket.create_connection((address.hostname or "", address.port or 0), timeout=10)) as made:
        made.sendall(sent)
        answered = made.recv(65_536).decode()

    assert answered.startswith(f"HTTP/1.1 {status} ")
    for name, value in PRIVATE.items():
        assert f"\r\n{name}: {value}\r\n" in answered


@pytest.fixture(scope="module")
def strict(
    engine_name: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Serving]:
    """A server that minds wrong keys, behind a proxy at 127.0.0.1."""
    database = make_database(engine_name, tmp_path_factory.mktemp("strict"), request)
    asyncio.run(migrate(database))
    with open_serving(database, auth_failures_max=3, trusted_proxies="127.0.0.1") as server:
        yield server


def ask(serving: Serving, path: str, key: str, address: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": f"6.6.6.6, {address}"}
    return httpx.get(f"{serving.url}{path}", headers=headers, verify=TLS)


def test_too_many_wrong_keys_of_a_client_are_refused_in_the_words_of_each_wire(strict: Serving) -> None:
    paths = {"native": "/v1/sessions", "openagents": "/openagents/api/session"}
    paths |= {"operativus": "/operativus/api/sessions", "viben": "/viben/api/sessions"}
    paths |= {"agentinbox": "/agentinbox/api/v1/sessions"}
    good = strict.make_tenant()
    assert ask(strict, "/v1/me", good.key, "192.0.2.1").status_code == 200
    for number in range(3):
        assert ask(strict, "/v1/me", f"x{number}", "192.0.2.1").status_code == 401

    for dialect in DIALECTS:
        refused = ask(strict, paths[dialect.name], "x", "192.0.2.1")
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert "too many wrong keys" in refused.text
        unknown = ask(strict, paths[dialect.name], "x", "192.0.2.99")
        assert unknown.status_code in (401, 429)
        assert unknown.headers["content-type"] == refused.headers["content-type"]
    assert ask(strict, "/v1/me", good.key, "192.0.2.1").status_code == 200


def test_another_client_of_the_same_proxy_is_not_refused(strict: Serving) -> None:
    for number in range(5):
        ask(strict, "/v1/me", f"x{number}", "192.0.2.2")
    assert ask(strict, "/v1/me", "x", "192.0.2.2").status_code == 429

    assert ask(strict, "/v1/me", strict.make_tenant().key, "192.0.2.3").status_code == 200


def test_a_hook_s_url_is_as_the_client_of_a_proxy_calls_us(strict: Serving) -> None:
    with strict.make_tenant().client() as client:

        def make_hook(headers: dict[str, str]) -> str:
            url: str = client.post("/v1/waits", json={"type": "webhook"}, headers=headers).json()["hook_url"]
            return url

        told = make_hook({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "agents.example.com"})
        hostile = make_hook({"X-Forwarded-Proto": "gopher", "X-Forwarded-Host": 'a"b', "Host": "a<b>"})

    assert told.startswith("https://agents.example.com/v1/hooks/")
    assert re.match(r"http://127\.0\.0\.1:\d+/v1/hooks/", hostile)


def test_behind_a_proxy_with_https_browsers_are_told_to_stay_with_it(strict: Serving) -> None:
    def said(scheme: str) -> object:
        answer = httpx.get(f"{strict.url}/healthz", headers={"X-Forwarded-Proto": scheme}, verify=TLS)
        return answer.headers.get("strict-transport-security")

    assert said("https") == "max-age=31536000"
    assert said("http") is None


def test_without_a_trusted_proxy_these_headers_are_nobody_s_word(serving: Serving) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1", "Forwarded": "proto=https"}

    answer = httpx.get(f"{serving.url}/healthz", headers=headers, verify=TLS)

    assert "strict-transport-security" not in answer.headers
