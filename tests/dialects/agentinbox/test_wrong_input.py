"""Whatever is wrong with a request to the agentinbox wire, it gets a 4xx in the wire's shape, and nothing is stored."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sessiond.dialects.agentinbox.routes import DIALECT
from tests.serving import Tenant

ROUTES_WITH_ID = [(route.method, route.path) for route in DIALECT.routes if "{id}" in route.path]
WORDS = {400: "Invalid request", 404: "Not found", 405: "Method not allowed", 413: "Payload too large"}


def _refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error", "message"}
    assert body["error"] == WORDS[status]
    message: str = body["message"]
    return message


def _nothing_is_stored(api: httpx.Client) -> bool:
    total: int = api.get("/api/v1/sessions").json()["pagination"]["total"]
    return total == 0


@pytest.mark.parametrize("name", ["", " ", None])
def test_an_empty_name_is_no_name(api: httpx.Client, name: str | None) -> None:
    assert _refused(api.post("/api/v1/sessions", json={"name": name}), 400) == "name is required"
    assert _nothing_is_stored(api)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 5),
        ("name", ["flow"]),
        ("name", "nul\0"),
        ("name", "x" * 10_000),
        ("metadata", "text"),
        ("metadata", [1]),
        ("metadata", {str(number): number for number in range(65)}),
        ("metadata", {"long": "x" * 70_000}),
        ("ttlSeconds", 0),
        ("ttlSeconds", -1),
        ("ttlSeconds", 1.5),
        ("ttlSeconds", "3600"),
        ("ttlSeconds", 2**31),
        ("ttlSeconds", 10**30),
    ],
)
def test_a_wrong_field_is_refused_by_name(api: httpx.Client, field: str, value: Any) -> None:
    assert field in _refused(api.post("/api/v1/sessions", json={"name": "flow", field: value}), 400)
    assert _nothing_is_stored(api)


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
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(api: httpx.Client, body: bytes) -> None:
    assert "body" in _refused(api.post("/api/v1/sessions", content=body), 400)
    assert _nothing_is_stored(api)


def test_metadata_nested_too_deeply_is_refused(api: httpx.Client) -> None:
    body = b'{"name": "flow", "metadata": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"

    assert "nested" in _refused(api.post("/api/v1/sessions", content=body), 400)
    assert _nothing_is_stored(api)


def test_a_body_over_the_limit_is_refused(api: httpx.Client) -> None:
    assert "body" in _refused(api.post("/api/v1/sessions", json={"name": "x" * 2**21}), 413)
    assert _nothing_is_stored(api)


def test_unknown_fields_are_ignored(api: httpx.Client) -> None:
    answer = api.post("/api/v1/sessions?x=y", json={"name": "flow", "id": "mine", "status": "failed"})

    assert answer.status_code == 201
    assert answer.json()["id"].startswith("sess_")
    assert answer.json()["status"] == "active"


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
        ("status=nonsense", "status"),
        ("status=", "status"),
        ("status=created", "status"),
        ("status=paused", "status"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%00", "cursor"),
        ("offset=1&cursor=nonsense", "offset"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(api: httpx.Client, query: str, field: str) -> None:
    assert field in _refused(api.get(f"/api/v1/sessions?{query}"), 400)


@pytest.mark.parametrize("include", ["nonsense", "inboxes,nonsense", "Timeline", "%00", "%FF"])
def test_an_unknown_include_is_refused(api: httpx.Client, include: str) -> None:
    session_id = api.post("/api/v1/sessions", json={"name": "flow"}).json()["id"]

    _refused(api.get(f"/api/v1/sessions/{session_id}?include={include}"), 400)


@pytest.mark.parametrize(("method", "path"), ROUTES_WITH_ID)
def test_an_odd_id_is_refused(api: httpx.Client, method: str, path: str) -> None:
    for session_id in ("", "x" * 10_000, "a%2Fb", "%20", "%F0%9F%98%80"):
        assert _refused(api.request(method, path.replace("{id}", session_id)), 404) == "Session not found"
    for session_id in ("%00", "a%00b", "%ED%A0%80", "%FF"):
        _refused(api.request(method, path.replace("{id}", session_id)), 400)


@pytest.mark.parametrize(("method", "path"), ROUTES_WITH_ID)
def test_another_workspaces_session_looks_like_none(
    api: httpx.Client, mount: str, tenant: Tenant, method: str, path: str
) -> None:
    session_id = api.post("/api/v1/sessions", json={"name": "flow"}).json()["id"]
    with tenant.serving.make_tenant().client(mount) as stranger:
        assert _refused(stranger.request(method, path.replace("{id}", session_id)), 404) == "Session not found"
        assert _nothing_is_stored(stranger)
    assert api.get(f"/api/v1/sessions/{session_id}").json()["status"] == "active"


def test_an_odd_idempotency_key_is_refused(api: httpx.Client) -> None:
    for key in ("", "x" * 256):
        _refused(api.post("/api/v1/sessions", json={"name": "flow"}, headers={"Idempotency-Key": key}), 400)
    assert _nothing_is_stored(api)


def test_another_method_is_refused(api: httpx.Client) -> None:
    answer = api.delete("/api/v1/sessions")

    _refused(answer, 405)
    assert answer.headers["allow"] == "GET, POST"


def test_an_unknown_path_below_the_prefix_is_refused_in_this_wires_shape(tenant: Tenant) -> None:
    with tenant.client("/agentinbox") as api:
        assert _refused(api.get("/api/v1/nothing"), 404) == "no such path"
