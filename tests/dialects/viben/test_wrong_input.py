"""What is wrong is refused in the wire's own words, and nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serving import Tenant

ROUTES = [
    ("GET", "/api/sessions"),
    ("POST", "/api/sessions"),
    ("GET", "/api/sessions/x"),
    ("PATCH", "/api/sessions/x"),
    ("DELETE", "/api/sessions/x"),
    ("POST", "/api/sessions/x/message"),
    ("GET", "/api/sessions/x/messages"),
]
LONG = "x" * 10_000


@pytest.fixture
def api(tenant: Tenant) -> Iterator[httpx.Client]:
    """Once: at the root the same routes answer."""
    with tenant.client("/viben") as opened:
        yield opened


def assert_refused(answer: httpx.Response, status: int, code: str, *, naming: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert set(answer.json()["error"]) == {"code", "message"}
    assert answer.json()["error"]["code"] == code
    assert naming in answer.json()["error"]["message"]


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer \u00e9"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_good_key_nothing_is_answered(
    tenant: Tenant, method: str, path: str, authorization: str | None
) -> None:
    headers = [(b"Authorization", authorization.encode("latin-1"))] if authorization is not None else []

    refused = httpx.request(method, f"{tenant.serving.url}/viben{path}", headers=headers)

    assert_refused(refused, 401, "unauthorized")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "agent_id"),
        ({"agent_id": None}, "agent_id"),
        ({"agent_id": ""}, "agent_id"),
        ({"agent_id": 7}, "agent_id"),
        ({"agent_id": ["a"]}, "agent_id"),
        ({"agent_id": "a/b"}, "agent_id"),
        ({"agent_id": " a"}, "agent_id"),
        ({"agent_id": "a\0b"}, "agent_id"),
        ({"agent_id": "a\nb"}, "agent_id"),
        ({"agent_id": "a", "task_id": 7}, "task_id"),
        ({"agent_id": "a", "task_id": "a\0b"}, "task_id"),
        ({"agent_id": "a", "task_id": ".."}, "task_id"),
        ({"agent_id": "a", "prompt": {"text": "x"}}, "prompt"),
        ({"agent_id": "a", "prompt": "a\0b"}, "prompt"),
    ],
)
def test_a_session_that_cannot_be_is_not_made(api: httpx.Client, body: Any, field: str) -> None:
    refused = api.post("/api/sessions", json=body)

    assert_refused(refused, 400, "invalid_request", naming=field)
    assert api.get("/api/sessions").json() == {"sessions": []}


@pytest.mark.parametrize("field", ["agent_id", "task_id"])
def test_an_id_that_is_too_long_is_refused(api: httpx.Client, field: str) -> None:
    refused = api.post("/api/sessions", json={"agent_id": "a", field: LONG})

    assert_refused(refused, 413, "payload_too_large", naming=field)
    assert api.get("/api/sessions").json() == {"sessions": []}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"agent_id"',
        b"agent_id=a",
        b'{"agent_id": "a", }',
        b'{"agent_id": "\xff"}',
        b'{"agent_id": "\\ud800"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"agent_id":' * 50_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_body_that_is_no_json_object_is_refused(api: httpx.Client, content: bytes) -> None:
    session_id = api.post("/api/sessions", json={"agent_id": "kept"}).json()["id"]

    for method, path in (
        ("POST", "/api/sessions"),
        ("PATCH", f"/api/sessions/{session_id}"),
        ("POST", f"/api/sessions/{session_id}/message"),
    ):
        if method == "PATCH" and b"agent_id" in content and content.endswith(b'"}'):
            continue  # a field that PATCH does not know is passed over
        assert_refused(api.request(method, path, content=content), 400, "invalid_request")

    (session,) = api.get("/api/sessions").json()["sessions"]
    assert session["message_count"] == 0


def test_a_body_over_the_limit_is_refused(api: httpx.Client) -> None:
    session_id = api.post("/api/sessions", json={"agent_id": "kept"}).json()["id"]
    large = "x" * 2 * 1024 * 1024

    for method, path, body in (
        ("POST", "/api/sessions", {"agent_id": "a", "prompt": large}),
        ("PATCH", f"/api/sessions/{session_id}", {"data": {"n": large}}),
        ("POST", f"/api/sessions/{session_id}/message", {"content": large}),
    ):
        assert_refused(api.request(method, path, json=body), 413, "payload_too_large")

    (session,) = api.get("/api/sessions").json()["sessions"]
    assert session["message_count"] == 0
    assert api.get(f"/api/sessions/{session_id}").json()["data"] == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": 7}, "status"),
        ({"status": None}, "status"),
        ({"data": []}, "data"),
        ({"data": "x"}, "data"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
    ],
)
def test_a_change_that_cannot_be_is_not_made(api: httpx.Client, body: Any, field: str) -> None:
    path = f"/api/sessions/{api.post('/api/sessions', json={'agent_id': 'a'}).json()['id']}"
    before = api.get(path)

    refused = api.patch(path, json={"data": {"n": 1}, "status": "active"} | body)

    assert_refused(refused, 400, "invalid_request", naming=field)
    assert api.get(path).headers["etag"] == before.headers["etag"]


@pytest.mark.parametrize("body", [{}, {"content": ""}, {"content": None}, {"content": 7}, {"content": [{"text": "x"}]}])
def test_a_message_needs_text(api: httpx.Client, body: Any) -> None:
    path = f"/api/sessions/{api.post('/api/sessions', json={'agent_id': 'a'}).json()['id']}"

    refused = api.post(f"{path}/message", json=body)

    assert_refused(refused, 400, "invalid_request", naming="content")
    assert (api.get(path).json()["message_count"], api.get(path).json()["status"]) == (0, "created")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=1001",
        "limit=many",
        "limit=1.5",
        "limit=99999999999999999999999999",
        "cursor=nonsense",
        "cursor=%00",
        "cursor=%E2%98%83",
        f"cursor={LONG}",
        "status=running",
        "status=active,paused",
        "status=%00",
        "task_id=a%00b",
        "agent_id=%ff",
        "agent_id=%ed%a0%80",
        "&".join(f"f{number}=1" for number in range(300)),
    ],
)
def test_a_wrong_query_is_refused(api: httpx.Client, query: str) -> None:
    assert_refused(api.get(f"/api/sessions?{query}"), 400, "invalid_request")


def test_a_cursor_of_another_order_is_refused(client: httpx.Client, api: httpx.Client) -> None:
    for _ in range(2):
        client.post("/v1/sessions", json={})
    cursor = client.get("/v1/sessions?limit=1&order=asc").json()["next_cursor"]

    assert_refused(api.get("/api/sessions", params={"cursor": cursor}), 400, "invalid_request", naming="cursor")


@pytest.mark.parametrize(
    "query", [f"task_id={LONG}", f"agent_id={LONG}", "agent_id=%F0%9F%98%80", "unknown=1", "limit="]
)
def test_an_odd_query_finds_nothing(api: httpx.Client, query: str) -> None:
    assert api.get(f"/api/sessions?{query}").json() == {"sessions": []}


@pytest.mark.parametrize("session_id", ["", LONG, "%F0%9F%98%80", "%2F", "..%2F..", "%20", "%7F", "'", "*", "%25"])
def test_an_odd_id_is_no_sessions(api: httpx.Client, session_id: str) -> None:
    path = f"/api/sessions/{session_id}"

    for answer in (
        api.get(path),
        api.patch(path, json={"data": {"n": 1}}),
        api.post(f"{path}/message", json={"content": "hello"}),
        api.delete(path),
    ):
        assert_refused(answer, 404, "not_found")


@pytest.mark.parametrize("session_id", ["a%00b", "%ff", "%ed%a0%80"])
def test_an_id_that_is_no_text_is_refused(tenant: Tenant, session_id: str) -> None:
    with tenant.client("/viben") as client:
        path = f"/api/sessions/{session_id}"
        for answer in (
            client.get(path),
            client.patch(path, json={"data": {"n": 1}}),
            client.post(f"{path}/message", json={"content": "hello"}),
            client.delete(path),
        ):
            assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_an_idempotency_key_that_cannot_be_one_is_refused(api: httpx.Client, key: str) -> None:
    refused = api.post("/api/sessions", json={"agent_id": "a"}, headers={"Idempotency-Key": key})

    assert refused.status_code in (400, 413)
    assert refused.json()["error"]["code"] in ("invalid_request", "payload_too_large")
    assert api.get("/api/sessions").json() == {"sessions": []}


@pytest.mark.parametrize(("method", "path"), [("PUT", "/api/sessions"), ("GET", "/api/sessions/x/message")])
def test_a_method_that_is_not_the_wires_is_refused(tenant: Tenant, method: str, path: str) -> None:
    with tenant.client("/viben") as client:
        refused = client.request(method, path)

    assert_refused(refused, 405, "method_not_allowed")
    assert refused.headers["allow"]


def test_a_path_that_is_not_the_wires_is_not_found(tenant: Tenant) -> None:
    with tenant.client("/viben") as client:
        assert_refused(client.get("/api/sessions/x/runs"), 404, "not_found")
