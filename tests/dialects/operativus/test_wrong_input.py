"""What is wrong is refused in the wire's own words, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.serving import Tenant

SHAPE = {"timestamp", "status", "error", "message", "path"}
LONG = "x" * 10_000


@pytest.fixture
def api(tenant: Tenant) -> Iterator[httpx.Client]:
    """Once: at the root the same routes answer."""
    with tenant.client("/operativus") as opened:
        yield opened


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer \u00e9"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/sessions"),
        ("GET", "/api/sessions/x"),
        ("GET", "/api/sessions/x/runs"),
        ("DELETE", "/api/sessions/x"),
        ("POST", "/api/agents/x/runs"),
        ("POST", "/api/agents/x/runs/stream"),
        ("GET", "/api/v1/runs/x"),
    ],
)
def test_without_a_good_key_nothing_is_answered(
    tenant: Tenant, method: str, path: str, authorization: str | None
) -> None:
    headers = [(b"Authorization", authorization.encode("latin-1"))] if authorization is not None else []

    refused = httpx.request(method, f"{tenant.serving.url}/operativus{path}", headers=headers)

    assert (refused.status_code, refused.json()["error"]) == (401, "Unauthorized")
    assert set(refused.json()) == SHAPE


@pytest.mark.parametrize(
    "query",
    [
        "page=-1",
        "page=one",
        "page=1.5",
        "page=90071992547410",
        "page=99999999999999999999999999",
        "size=many",
        "size=1.5",
        "sort=name,asc",
        "sort=createdAt,up",
        "sort=createdAt,",
        "sort=createdAt,asc,desc",
        "sort=,asc",
        "sort=createdAt,desc&sort=updatedAt,asc",
        "userId=a%00b",
        "agentId=%ff",
        "agentId=%ed%a0%80",
        "&".join(f"f{number}=1" for number in range(300)),
    ],
)
def test_a_wrong_query_is_refused(api: httpx.Client, query: str) -> None:
    refused = api.get(f"/api/sessions?{query}")

    assert (refused.status_code, refused.json()["error"]) == (400, "Bad Request")
    assert set(refused.json()) == SHAPE


@pytest.mark.parametrize(
    "query", [f"userId={LONG}", f"agentId={LONG}", "userId=%F0%9F%98%80", "unknown=1", "page=&size="]
)
def test_an_odd_query_finds_nothing(api: httpx.Client, query: str) -> None:
    assert api.get(f"/api/sessions?{query}").json()["content"] == []


@pytest.mark.parametrize("session_id", [LONG, "%F0%9F%98%80", "%2F", "..%2F..", "%20", "%7F", "'", "*", "%25"])
def test_an_odd_id_is_no_sessions(api: httpx.Client, session_id: str) -> None:
    missing = api.get(f"/api/sessions/{session_id}")

    assert (missing.status_code, missing.json()["error"]) == (404, "Not Found")
    assert api.get(f"/api/sessions/{session_id}/runs").json() == []
    assert api.delete(f"/api/sessions/{session_id}").status_code == 204


def test_an_empty_id_is_no_sessions(api: httpx.Client) -> None:
    assert api.get("/api/sessions/").status_code == 404
    assert api.delete("/api/sessions/").status_code == 204


@pytest.mark.parametrize("session_id", ["a%00b", "%ff", "%ed%a0%80"])
def test_an_id_that_is_no_text_is_refused(tenant: Tenant, session_id: str) -> None:
    with tenant.client("/operativus") as client:
        for method, path in (("GET", ""), ("GET", "/runs"), ("DELETE", "")):
            refused = client.request(method, f"/api/sessions/{session_id}{path}")

            assert (refused.status_code, refused.json()["error"]) == (400, "Bad Request")
            assert set(refused.json()) == SHAPE


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/api/sessions"), ("POST", "/api/sessions/x/runs"), ("GET", "/api/agents/x/runs")]
)
def test_a_method_that_is_not_the_wires_is_refused(tenant: Tenant, method: str, path: str) -> None:
    with tenant.client("/operativus") as client:
        refused = client.request(method, path)

    assert (refused.status_code, refused.json()["error"]) == (405, "Method Not Allowed")
    assert refused.headers["allow"]
    assert set(refused.json()) == SHAPE


def test_a_path_that_is_not_the_wires_is_not_found(tenant: Tenant) -> None:
    with tenant.client("/operativus") as client:
        missing = client.get("/api/nothing")

    assert (missing.status_code, missing.json()["error"]) == (404, "Not Found")
    assert set(missing.json()) == SHAPE


def test_a_body_that_nobody_asked_for_does_no_harm(api: httpx.Client) -> None:
    answered = api.request("DELETE", "/api/sessions/none", content=b"x" * 2 * 1024 * 1024)

    assert answered.status_code == 204
