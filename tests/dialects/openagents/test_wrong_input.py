"""Whatever is wrong with a request to the openagents wire, it gets a 4xx in the wire's shape, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sessiond.dialects.openagents.routes import DIALECT
from tests.serving import Tenant

ALICE = {"agentId": "agent-123", "userName": "Alice", "userEmail": "alice@example.com", "acceptTerms": "true"}
REQUESTS = [(route.method, route.path.replace("{id}", "s1").replace("{agentId}", "a1")) for route in DIALECT.routes]


@pytest.fixture
def mount() -> str:
    """Once: at the root the same routes answer."""
    return "/openagents"


def _refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"message", "status"}
    assert body["status"] == status
    message: str = body["message"]
    return message


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_a_request_without_a_good_key_is_refused(tenant: Tenant, mount: str, method: str, path: str) -> None:
    database = {"database-id-hash": tenant.database_id_hash}
    for wrong in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic eDp5"}, {"X-API-Key": "nonsense"}):
        with tenant.client(mount, headers=database | wrong) as stranger:
            answer = stranger.request(method, path)
            _refused(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_a_request_without_a_database_is_refused(tenant: Tenant, mount: str, method: str, path: str) -> None:
    for missing in ({}, {"database-id-hash": ""}):
        with tenant.client(mount, headers={"Authorization": f"Bearer {tenant.key}"} | missing) as lost:
            assert "database-id-hash" in _refused(lost.request(method, path), 401)


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_a_request_for_another_database_is_refused(
    tenant: Tenant, client: httpx.Client, mount: str, method: str, path: str
) -> None:
    client.post("/api/exec/session/s1", json=ALICE)
    for other in (tenant.serving.make_tenant().database_id_hash, "nonsense", "0" * 64):
        headers = {"Authorization": f"Bearer {tenant.key}", "database-id-hash": other}
        with tenant.client(mount, headers=headers) as astray:
            _refused(astray.request(method, path), 403)
    assert len(client.get("/api/session").json()) == 1


@pytest.mark.parametrize("field", ["agentId", "userName", "userEmail"])
@pytest.mark.parametrize("empty", ["", None, ...])
def test_a_required_field_that_is_missing_or_empty_is_refused(api: httpx.Client, field: str, empty: Any) -> None:
    body = ALICE | {field: empty}
    answer = api.post("/api/exec/session/s1", json={name: value for name, value in body.items() if value is not ...})

    assert _refused(answer, 400) == "Invalid request, missing required fields"
    assert api.get("/api/session").json() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agentId", 5),
        ("agentId", "a/b"),
        ("agentId", "x" * 10_000),
        ("agentId", "nul\0"),
        ("userName", ["Alice"]),
        ("userName", "nul\0"),
        ("userName", "x" * 10_000),
        ("userEmail", {"at": "home"}),
        ("userEmail", "bell\a"),
        ("acceptTerms", True),
    ],
)
def test_a_wrong_field_is_refused_by_name(api: httpx.Client, field: str, value: Any) -> None:
    assert field in _refused(api.post("/api/exec/session/s1", json=ALICE | {field: value}), 400)
    assert api.get("/api/session").json() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"agentId": "\xff"}',
        b'{"agentId": "\\ud800"}',
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(api: httpx.Client, body: bytes) -> None:
    assert "body" in _refused(api.post("/api/exec/session/s1", content=body), 400)
    assert api.get("/api/session").json() == []


def test_a_body_over_the_limit_is_refused(api: httpx.Client) -> None:
    answer = api.post("/api/exec/session/s1", json=ALICE | {"userName": "x" * 2**21})

    assert "body" in _refused(answer, 413)
    assert api.get("/api/session").json() == []


def test_unknown_fields_are_ignored(api: httpx.Client) -> None:
    assert api.post("/api/exec/session/s1?x=y", json=ALICE | {"status": 7, "messages": []}).status_code == 200
    assert len(api.get("/api/session?x=y").json()) == 1


@pytest.mark.parametrize("session_id", ["x" * 10_000, "%00", "a%2Fb", "%20a", "..%2F", "%ED%A0%80", "%FF"])
def test_an_odd_id_cannot_be_made(api: httpx.Client, session_id: str) -> None:
    _refused(api.post(f"/api/exec/session/{session_id}", json=ALICE), 400)
    assert api.get("/api/session").json() == []


@pytest.mark.parametrize(
    "session_id", ["x" * 10_000, "%00", "a%00b", "a%2Fb", "%20", "%F0%9F%98%80", "%ED%A0%80", "%FF"]
)
def test_an_odd_id_is_not_found(api: httpx.Client, session_id: str) -> None:
    _refused(api.delete(f"/api/session/{session_id}"), 400)


@pytest.mark.parametrize(
    "query", ["id=a%2Fb", f"id={'x' * 10_000}", "agentId=%00", "agentId=%FF", f"agentId={'x' * 300}", "id=%ED%A0%80"]
)
def test_a_filter_that_no_session_can_match_is_refused(api: httpx.Client, query: str) -> None:
    _refused(api.get(f"/api/session?{query}"), 400)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=99999999999999999999999999", "limit"),
        ("offset=-1", "offset"),
        ("offset=1.5", "offset"),
        ("offset=99999999999999999999999999", "offset"),
        ("orderBy=nonsense", "orderBy"),
        ("orderBy=updated_at", "orderBy"),
        (f"query={'x' * 10_000}", "query"),
        ("query=a%00", "query"),
        ("query=%0A", "query"),
        ("query=%FF", "query"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(api: httpx.Client, query: str, field: str) -> None:
    message = _refused(api.get(f"/api/agent/agent-123/session?{query}"), 400)

    assert field in message
    if field in ("limit", "offset"):
        assert field in _refused(api.get(f"/api/audit?{query}"), 400)


@pytest.mark.parametrize("agent_id", ["", "%00", "x" * 10_000, "a%2Fb", "%FF"])
def test_an_odd_agent_is_refused(api: httpx.Client, agent_id: str) -> None:
    _refused(api.get(f"/api/agent/{agent_id}/session"), 400)


def test_an_unknown_agent_has_no_sessions(api: httpx.Client) -> None:
    body = api.get("/api/agent/nobody/session").json()

    assert (body["rows"], body["total"]) == ([], 0)


def test_an_odd_idempotency_key_is_refused(api: httpx.Client) -> None:
    for key in ("", "x" * 256):
        _refused(api.post("/api/exec/session/s1", json=ALICE, headers={"Idempotency-Key": key}), 400)
    assert api.get("/api/session").json() == []


def test_another_workspaces_sessions_look_like_none(api: httpx.Client, mount: str, tenant: Tenant) -> None:
    api.post("/api/exec/session/s1", json=ALICE)
    with tenant.serving.make_tenant().client(mount) as stranger:
        assert stranger.get("/api/session?id=s1").json() == []
        assert stranger.get("/api/agent/agent-123/session").json()["total"] == 0
        assert _refused(stranger.delete("/api/session/s1"), 400) == "Data not found!"
        assert stranger.post("/api/exec/session/s1", json=ALICE).json()["message"] == "Session created"
        assert [entry["eventName"] for entry in stranger.get("/api/audit").json()] == ["createKey"]
    assert len(api.get("/api/session").json()) == 1


def test_another_method_is_refused(api: httpx.Client) -> None:
    answer = api.put("/api/session", content=json.dumps([]))

    _refused(answer, 405)
    assert answer.headers["allow"] == "DELETE, GET"


def test_an_unknown_path_below_the_prefix_is_refused_in_this_wires_shape(tenant: Tenant) -> None:
    with tenant.client("/openagents") as api:
        _refused(api.get("/api/nothing"), 404)
