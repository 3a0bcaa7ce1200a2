"""The audit log over HTTP: which routes' reads are noted, and who asked from where."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import httpx
import msgspec
import pytest

from sessiond.core.caller import ALL_SCOPES
from sessiond.storage.open import migrate
from sessiond.web.routes import Claim
from tests.cli.program import wait_until
from tests.end_to_end.claims import ASKED, ONCE, key_for, name_of, path_of
from tests.end_to_end.test_isolation import Names, make_session, register
from tests.serving import Serving, Tenant, open_serving
from tests.storage.making import execute

NO_CONTENT: Final = {
    "native GET /v1/agents",
    "native POST /v1/agents",
    "native GET /v1/agents/{agent_id}",
    "native PUT /v1/agents/{agent_id}",
    "native DELETE /v1/agents/{agent_id}",
    "native DELETE /v1/keys/{key_id}",
    "native DELETE /v1/users/{user_id}/data",
    "native GET /v1/audit",
    "native GET /v1/erasures",
    "native GET /v1/erasures/{erasure_id}",
    "native GET /v1/me",
    "native GET /v1/keys",
    "native POST /v1/keys",
    "native POST /v1/sessions/{session_id}/messages",
    "native POST /v1/sessions/{session_id}/events",
    "openagents GET /openagents/api/audit",
    "openagents POST /openagents/api/exec/session/{id}",
    "viben POST /viben/api/sessions",
    "viben POST /viben/api/sessions/{id}/message",
    "agentinbox DELETE /agentinbox/api/v1/inboxes/{inboxId}",
}
"""What answers with a body in which nothing stands of what people and agents say."""
BODIES: Final[dict[str, Any]] = {
    "input": "hello",
    "content": "hello",
    "message": "hello",
    "userId": "u",
    "from": "a@b.c",
}


def test_every_answer_with_a_body_is_a_read_of_content_unless_it_is_marked_otherwise() -> None:
    unmarked = {name_of(claim) for claim in ONCE if claim.route.content and claim.route.reads}
    marked = {name_of(claim) for claim in ONCE if not (claim.route.content and claim.route.reads)}

    assert marked == NO_CONTENT
    for claim in ASKED:
        bodies = [kind for status, kind in claim.route.answers.items() if status < 400 and kind is not None]
        assert claim.route.shows_content == (claim.route.content and claim.route.reads and bool(bodies))
    assert {name_of(claim) for claim in ONCE if claim.route.method == "GET"} - marked <= unmarked
    for claim in ASKED:
        assert claim.route.shows_content or claim.route.method != "GET" or not claim.route.content


@pytest.fixture(scope="module")
def sealed(engine_name: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    from tests.conftest import make_database

    database = make_database(engine_name, tmp_path_factory.mktemp("sealed"), request)
    asyncio.run(migrate(database))
    with open_serving(database) as serving:
        yield serving, database


class Watched:
    """A workspace whose reads are noted."""

    def __init__(self, serving: Serving, database: str) -> None:
        self.tenant: Final = serving.make_tenant(sealed=True)
        with self.tenant.client() as client:
            names = Names("s", "msg_3.s", "key_none", "a", "u", "t")
            register(client, names)
            erased = client.delete("/v1/users/nobody/data").raise_for_status().json()
            names = msgspec.structs.replace(make_session(client, names, "secret"), erasure=erased["id"])
        self.names: Final = names
        workspace = f"where id = '{self.tenant.workspace}'"
        asyncio.run(execute(database, f"update workspaces set audit_reads = 1 {workspace}"))
        # Keys that were used are remembered for seconds as they were: the tests ask with new ones.

    def noted(self) -> list[dict[str, Any]]:
        with self.tenant.client() as client:
            answer = client.get("/v1/audit?event=readSealed&limit=1000").raise_for_status()
            found: list[dict[str, Any]] = answer.json()["data"]
            return found


@pytest.fixture
def watched(sealed: tuple[Serving, str]) -> Watched:
    return Watched(*sealed)


@pytest.mark.parametrize("claim", ONCE, ids=name_of)
def test_a_read_of_sealed_content_is_noted_once_before_it_is_answered(watched: Watched, claim: Claim) -> None:
    path, method = path_of(claim, watched.names.params()), claim.route.method
    path += "?q=secret" if claim.path == "/v1/messages" else ""
    tenant = key_for(watched.tenant, claim)
    with tenant.client() as client, client.stream(method, path, json=None if method == "GET" else BODIES) as answer:
        shown = answer.status_code < 400 and answer.status_code != 204

        noted = watched.noted()

        assert len(noted) == (1 if shown and claim.route.shows_content else 0)
        key_id = client.get("/v1/me").json()["key_id"]
    for entry in noted:
        assert (entry["actor"], entry["address"], entry["result"]) == (key_id, "127.0.0.1", "ok")
        record = dict(entry["record"])
        assert record.pop("route") == f"{method} {claim.path}"
        assert record == {name: watched.names.params()[name] for name in record}
        assert len(record) == claim.path.count("{")
        assert "secret" not in str(entry)
    if method == "GET":
        assert answer.status_code < 300, answer.status_code


def test_what_is_not_found_was_not_read(watched: Watched) -> None:
    with watched.tenant.make_key(scopes=ALL_SCOPES).client() as client:
        for path in ("/v1/sessions/none", "/v1/sessions/none/stream", "/v1/sessions?limit=0", "/v1/nothing"):
            assert client.get(path).status_code >= 400

    assert watched.noted() == []


def test_a_contested_path_and_a_head_are_noted_too(watched: Watched) -> None:
    with watched.tenant.make_key(dialect="viben").client() as client:
        client.get("/api/sessions/s").raise_for_status()
        client.head("/v1/sessions/s").raise_for_status()

    routes = [entry["record"]["route"] for entry in watched.noted()]
    assert routes == ["HEAD /v1/sessions/{session_id}", "GET /api/sessions/{id}"]


def test_reads_are_not_noted_where_nobody_asked_for_it(sealed: tuple[Serving, str]) -> None:
    serving, database = sealed
    tenants = [serving.make_tenant() for _ in range(2)]
    for tenant, setting in zip(tenants, ("audit_reads = 1", "key_id = 1"), strict=True):
        asyncio.run(execute(database, f"update workspaces set {setting} where id = '{tenant.workspace}'"))
        with tenant.client() as client:
            with tenant.make_key().client() as reader:
                reader.get("/v1/sessions").raise_for_status()
            assert client.get("/v1/audit?event=readSealed").json()["data"] == []


def test_what_cannot_be_noted_is_not_shown(watched: Watched, sealed: tuple[Serving, str]) -> None:
    _, database = sealed
    workspace = f"where id = '{watched.tenant.workspace}'"
    with watched.tenant.make_key(scopes=ALL_SCOPES).client() as client:
        client.get("/v1/me").raise_for_status()
        # The next entry's number is taken: it cannot be added.
        seq = client.get("/v1/audit").json()["data"][0]["seq"]
        asyncio.run(
            execute(database, f"update workspaces set audit_seq = {seq - 1}, audit_chained = {seq - 1} {workspace}")
        )

        answers = [client.get(path) for path in ("/v1/sessions/s", "/v1/sessions/s/stream")]

    for answer in answers:
        assert answer.status_code == 500
        assert "secret" not in answer.text


def _noted(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/audit?event=failedAuthentication").json()["data"]
    return found


def _eventually(client: httpx.Client, entries: int) -> Iterator[dict[str, Any]]:
    wait_until(lambda: len(_noted(client)) >= entries, 15)
    yield from _noted(client)


def test_a_revoked_key_and_a_wrong_database_are_noted_by_the_server_in_a_while(tenant: Tenant) -> None:
    revoked = tenant.make_key()
    with tenant.client() as client, revoked.client() as refused:
        key_id = refused.get("/v1/me").json()["key_id"]
        client.delete(f"/v1/keys/{key_id}").raise_for_status()
        for _ in range(3):
            assert refused.get("/v1/me").status_code == 401
        wrong = client.get("/openagents/api/session", headers={"database-id-hash": "0" * 64})
        assert wrong.status_code == 403

        found = {entry["record"]["reason"]: entry for entry in _eventually(client, 2)}

    assert set(found) == {"revoked", "wrong database"}
    assert (found["revoked"]["actor"], found["revoked"]["record"]["count"]) == (key_id, 3)
    assert found["wrong database"]["record"]["key_id"] == found["wrong database"]["actor"]
    assert {(entry["address"], entry["result"]) for entry in found.values()} == {("127.0.0.1", "refused")}
    assert revoked.key not in str(found)


def test_what_failed_last_is_written_when_the_server_stops(database: str) -> None:
    asyncio.run(migrate(database))
    with open_serving(database) as first:
        tenant = first.make_tenant()
        assert httpx.get(f"{first.url}/v1/me").status_code == 401
        assert httpx.get(f"{first.url}/v1/me", headers={"Authorization": "Bearer sd_nobodys"}).status_code == 401

    with open_serving(database) as second, httpx.Client(base_url=second.url, headers=tenant.headers) as client:
        assert {entry["record"]["reason"] for entry in _noted(client)} == {"missing", "unknown"}
