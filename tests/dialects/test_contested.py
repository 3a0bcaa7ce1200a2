"""Which wire answers a path that two of them claim."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from sessiond.assembly import DIALECTS
from sessiond.storage.open import migrate
from sessiond.web.routes import Table
from tests.serving import Serving, Tenant, open_serving

CONTESTED = [("GET", "/api/sessions"), ("GET", "/api/sessions/none"), ("DELETE", "/api/sessions/none")]


@pytest.fixture
def default_viben(database: str) -> Iterator[Tenant]:
    """A tenant of a server whose default dialect is viben."""
    yield from _tenant(database, "viben")


@pytest.fixture
def default_openagents(database: str) -> Iterator[Tenant]:
    """A tenant of a server whose default dialect claims none of the contested paths."""
    yield from _tenant(database, "openagents")


def _tenant(database: str, default_dialect: str) -> Iterator[Tenant]:
    asyncio.run(migrate(database))
    with open_serving(database, default_dialect=default_dialect) as serving:
        yield serving.make_tenant()


def ask(tenant: Tenant, method: str, path: str, *, dialect: str | None) -> httpx.Response:
    with tenant.make_key(dialect=dialect).client() as client:
        return client.request(method, path)


def ask_without_key(serving: Serving, method: str, path: str) -> httpx.Response:
    return httpx.request(method, f"{serving.url}{path}")


def answered_by(answer: httpx.Response) -> str:
    """Return the dialect in whose words an answer is."""
    if answer.headers.get("content-type") == "application/problem+json":
        return "native"
    if answer.status_code == 204:
        return "operativus"  # which deletes what there is not
    body = answer.json()
    if "content" in body or "timestamp" in body:
        return "operativus"
    assert "sessions" in body or set(body["error"]) == {"code", "message"}
    return "viben"


def test_three_routes_are_contested_and_the_table_says_which() -> None:
    by_place: dict[tuple[str, str], set[str]] = {}
    for claim in Table(DIALECTS):
        shape = "/".join("{}" if part.startswith("{") else part for part in claim.path.split("/"))
        by_place.setdefault((claim.route.method, shape), set()).add(claim.dialect.name)

    contested = {place: names for place, names in by_place.items() if len(names) > 1}

    assert contested == {
        ("GET", "/api/sessions"): {"operativus", "viben"},
        ("GET", "/api/sessions/{}"): {"operativus", "viben"},
        ("DELETE", "/api/sessions/{}"): {"operativus", "viben"},
    }


@pytest.mark.parametrize("dialect", ["operativus", "viben"])
@pytest.mark.parametrize(("method", "path"), CONTESTED)
def test_the_keys_dialect_answers(tenant: Tenant, method: str, path: str, dialect: str) -> None:
    assert answered_by(ask(tenant, method, path, dialect=dialect)) == dialect


@pytest.mark.parametrize("dialect", [None, "openagents", "agentinbox", "native"])
@pytest.mark.parametrize(("method", "path"), CONTESTED)
def test_a_key_that_does_not_decide_is_told_what_would(
    tenant: Tenant, method: str, path: str, dialect: str | None
) -> None:
    refused = ask(tenant, method, path, dialect=dialect)

    assert (refused.status_code, answered_by(refused)) == (400, "native")
    for hint in ("/operativus/api/sessions", "/viben/api/sessions", "--dialect operativus or viben"):
        assert hint in refused.json()["detail"]


@pytest.mark.parametrize(("method", "path"), CONTESTED)
def test_without_a_key_and_a_default_the_refusal_is_the_native_one(serving: Serving, method: str, path: str) -> None:
    refused = ask_without_key(serving, method, path)

    assert (refused.status_code, answered_by(refused)) == (401, "native")


def test_the_default_dialect_answers_whom_the_key_does_not_decide_for(default_viben: Tenant) -> None:
    for method, path in CONTESTED:
        for dialect in (None, "openagents", "viben"):
            assert answered_by(ask(default_viben, method, path, dialect=dialect)) == "viben"
        assert answered_by(ask(default_viben, method, path, dialect="operativus")) == "operativus"

        refused = ask_without_key(default_viben.serving, method, path)

        assert (refused.status_code, answered_by(refused)) == (401, "viben")


def test_a_default_dialect_that_does_not_claim_the_path_decides_nothing(default_openagents: Tenant) -> None:
    for method, path in CONTESTED:
        assert ask(default_openagents, method, path, dialect=None).status_code == 400
        assert answered_by(ask(default_openagents, method, path, dialect="viben")) == "viben"

        refused = ask_without_key(default_openagents.serving, method, path)

        assert (refused.status_code, answered_by(refused)) == (401, "native")


@pytest.mark.parametrize("dialect", [None, "operativus", "viben", "openagents"])
def test_a_route_that_one_dialect_claims_is_its_whatever_the_key_says(tenant: Tenant, dialect: str | None) -> None:
    with tenant.make_key(dialect=dialect).client() as client:
        made = client.post("/api/sessions", json={"agent_id": "a"})
        runs = client.get(f"/api/sessions/{made.json()['id']}/runs")

    assert (made.status_code, made.json()["status"]) == (201, "created")
    assert (runs.status_code, runs.json()) == (200, [])


def test_a_route_that_one_dialect_claims_is_refused_in_its_words(serving: Serving) -> None:
    create = ask_without_key(serving, "POST", "/api/sessions")
    runs = ask_without_key(serving, "GET", "/api/sessions/none/runs")

    assert (create.status_code, answered_by(create)) == (401, "viben")
    assert (runs.status_code, answered_by(runs)) == (401, "operativus")


@pytest.mark.parametrize("dialect", [None, "operativus", "viben"])
@pytest.mark.parametrize("prefix", ["operativus", "viben"])
@pytest.mark.parametrize(("method", "path"), CONTESTED)
def test_below_its_prefix_a_dialect_answers_alone(
    tenant: Tenant, method: str, path: str, prefix: str, dialect: str | None
) -> None:
    assert answered_by(ask(tenant, method, f"/{prefix}{path}", dialect=dialect)) == prefix
    assert answered_by(ask_without_key(tenant.serving, method, f"/{prefix}{path}")) == prefix


def test_both_dialects_see_the_same_session(tenant: Tenant) -> None:
    with tenant.client("/viben") as viben, tenant.client("/operativus") as operativus:
        session_id = viben.post("/api/sessions", json={"agent_id": "a", "prompt": "one"}).json()["id"]
        viben.post(f"/api/sessions/{session_id}/message", json={"content": "two"}).raise_for_status()

        read = operativus.get(f"/api/sessions/{session_id}").json()

        assert read["messages"] == [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
        assert read["agentId"] == "a"
        assert operativus.delete(f"/api/sessions/{session_id}").status_code == 204
        assert viben.get(f"/api/sessions/{session_id}").status_code == 404


def test_another_method_is_refused_in_the_words_of_the_one_who_would_have_answered(
    tenant: Tenant, default_viben: Tenant
) -> None:
    def refused_by(tenant: Tenant, dialect: str | None) -> str:
        refused = ask(tenant, "PUT", "/api/sessions/x", dialect=dialect)
        assert refused.status_code == 405
        assert refused.headers["allow"] == "DELETE, GET, PATCH"
        return answered_by(refused)

    assert [refused_by(tenant, name) for name in ("viben", "operativus", None)] == ["viben", "operativus", "native"]
    assert [refused_by(default_viben, name) for name in ("operativus", None)] == ["operativus", "viben"]
    for at, name in ((tenant, "native"), (default_viben, "viben")):
        assert answered_by(ask_without_key(at.serving, "PUT", "/api/sessions/x")) == name
