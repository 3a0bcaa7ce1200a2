"""Agents over real HTTP, on both engines."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest

from sessiond.core.caller import ALL_SCOPES, Scope
from tests.serving import Tenant

CHAT: Final = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}


def test_an_agent_is_registered_read_changed_and_removed(client: httpx.Client) -> None:
    made = client.post("/v1/agents", json={"id": "ä b", "runner": "echo", "options": {"delay_ms": 5}})

    assert (made.status_code, made.headers["location"]) == (201, "/v1/agents/%C3%A4%20b")
    agent = made.json()
    assert {name: agent[name] for name in agent if not name.endswith("_at")} == {
        "id": "ä b",
        "runner": "echo",
        "options": {"delay_ms": 5},
        "time_limit_seconds": 600.0,
        "retries": 2,
        "backoff_seconds": 1.0,
        "concurrency": None,
        "history": 50,
        "fails_session": False,
    }
    assert client.get(made.headers["location"]).json() == agent
    assert client.get("/v1/agents").json() == {"data": [agent], "next_cursor": None, "prev_cursor": None}

    said = {
        "options": {},
        "time_limit_seconds": 1.5,
        "retries": 0,
        "backoff_seconds": 0.0,
        "concurrency": 3,
        "history": 1,
        "fails_session": True,
    }
    changed = client.put(made.headers["location"], json=agent | said)
    assert changed.status_code == 200
    assert changed.json() == agent | said | {"updated_at": changed.json()["updated_at"]}
    assert changed.json()["updated_at"] > agent["updated_at"]

    assert client.delete(made.headers["location"]).status_code == 204
    assert [client.request(method, made.headers["location"]).status_code for method in ("GET", "DELETE")] == [404, 404]


def test_put_registers_what_is_not_there_and_replaces_what_is(client: httpx.Client) -> None:
    made = client.put("/v1/agents/a", json={"runner": "echo", "retries": 7})
    replaced = client.put("/v1/agents/a", json={"runner": "echo"})

    assert (made.status_code, made.headers["location"], made.json()["retries"]) == (201, "/v1/agents/a", 7)
    assert (replaced.status_code, replaced.json()["retries"]) == (200, 2)


def test_an_id_is_taken_once(client: httpx.Client) -> None:
    made = client.post("/v1/agents", json={"id": "a", "runner": "echo"})

    refused = client.post("/v1/agents", json={"id": "a", "runner": "echo", "retries": 0})

    assert (refused.status_code, refused.json()["field"]) == (409, "id")
    assert client.get("/v1/agents/a").json() == made.json()


def test_agents_are_listed_by_their_ids_page_by_page(client: httpx.Client) -> None:
    for name in "cabed":
        client.put(f"/v1/agents/{name}", json={"runner": "echo"}).raise_for_status()

    first = client.get("/v1/agents?limit=2").json()
    second = client.get(f"/v1/agents?limit=3&cursor={first['next_cursor']}").json()

    assert [[agent["id"] for agent in page["data"]] for page in (first, second)] == [["a", "b"], ["c", "d", "e"]]
    assert (second["next_cursor"], second["prev_cursor"]) == (None, None)


def test_a_cursor_of_another_list_is_refused(client: httpx.Client) -> None:
    for name in ("k1", "k2"):
        client.post("/v1/keys", json={"name": name}).raise_for_status()
    cursor = client.get("/v1/keys?limit=1").json()["next_cursor"]

    refused = client.get(f"/v1/agents?cursor={cursor}")

    assert (refused.status_code, refused.json()["field"]) == (400, "cursor")


SECRETS: Final[list[tuple[str, dict[str, Any], dict[str, Any]]]] = [
    ("chat", CHAT | {"api_key": "geheim"}, {"api_key": "***"}),
    ("chat", CHAT | {"headers": {"X-Key": "geheim"}}, {"headers": {"X-Key": "***"}}),
    (
        "chat",
        CHAT | {"base_url": "http://me:geheim@127.0.0.1:9/v1?key=geheim"},
        {"base_url": "http://***@127.0.0.1:9/v1?***"},
    ),
    ("webhook", {"url": "http://127.0.0.1:9/", "secret": "whsec_geheim"}, {"secret": "***"}),
    ("command", {"command": "true", "env": {"KEY": "geheim"}}, {"env": {"KEY": "***"}}),
]


@pytest.mark.parametrize(("runner", "options", "shown"), SECRETS)
def test_secrets_are_shown_nowhere(
    client: httpx.Client, runner: str, options: dict[str, Any], shown: dict[str, Any]
) -> None:
    body = {"id": "a", "runner": runner, "options": options}
    made = client.post("/v1/agents", json=body, headers={"Idempotency-Key": "k"})
    again = client.post("/v1/agents", json=body, headers={"Idempotency-Key": "k"})
    put = client.put("/v1/agents/a", json=body)

    assert (made.status_code, again.status_code, put.status_code) == (201, 201, 200)
    for answer in (made, again, put, client.get("/v1/agents/a"), client.get("/v1/agents")):
        assert "geheim" not in answer.text
    assert made.json()["options"] == options | shown


@pytest.mark.parametrize(("runner", "options", "shown"), SECRETS)
def test_what_was_hidden_does_not_become_the_secret(
    client: httpx.Client, runner: str, options: dict[str, Any], shown: dict[str, Any]
) -> None:
    client.post("/v1/agents", json={"id": "a", "runner": runner, "options": options}).raise_for_status()
    read = client.get("/v1/agents/a").json()

    refused = client.put("/v1/agents/a", json=read)

    (hidden,) = shown
    assert (refused.status_code, refused.json()["field"]) == (400, "options")
    assert refused.json()["detail"] == f"options.{hidden} is ***, which only stands for a secret"


def test_who_does_not_administer_is_not_told_how_an_agent_is_run(client: httpx.Client, tenant: Tenant) -> None:
    client.post(
        "/v1/agents", json={"id": "a", "runner": "command", "options": {"command": "geheim"}}
    ).raise_for_status()

    for new in ({"scopes": frozenset({Scope.SESSIONS_READ})}, {"scopes": ALL_SCOPES, "user_id": "u"}):
        with tenant.make_key(**new).client() as reader:
            read = [reader.get("/v1/agents/a").json(), *reader.get("/v1/agents").json()["data"]]
        assert [(agent["id"], agent["options"]) for agent in read] == [("a", None)] * 2


HOSTED: Final[list[tuple[str, dict[str, Any]]]] = [
    ("command", {"command": "true"}),
    ("acp", {"command": ["true"]}),
    ("chat", CHAT | {"api_key_env": "HOME"}),
    ("webhook", {"url": "http://127.0.0.1:9/", "secret_env": "HOME"}),
]


@pytest.mark.parametrize(("runner", "options"), HOSTED)
def test_what_uses_the_machine_needs_the_host_scope(
    tenant: Tenant, client: httpx.Client, runner: str, options: dict[str, Any]
) -> None:
    client.put("/v1/agents/a", json={"runner": runner, "options": options}).raise_for_status()
    before = client.get("/v1/agents/a").json()

    with tenant.make_key(scopes=ALL_SCOPES - {Scope.HOST}).client() as admin:
        for refused in (
            admin.post("/v1/agents", json={"id": "b", "runner": runner, "options": options}),
            admin.put("/v1/agents/b", json={"runner": runner, "options": options}),
            admin.put("/v1/agents/a", json={"runner": "echo"}),  # what somebody with the scope set up stays so
        ):
            assert (refused.status_code, refused.json()["detail"].endswith("the scope host")) == (403, True)
        assert admin.put("/v1/agents/b", json={"runner": "chat", "options": CHAT}).status_code == 201
    assert client.get("/v1/agents/a").json() == before


def test_a_key_that_says_nothing_of_scopes_gets_neither_admin_nor_host(client: httpx.Client) -> None:
    made = client.post("/v1/keys", json={"name": "k"}).json()

    assert made["scopes"] == ["sessions:read", "sessions:write"]


def test_nobody_gives_the_host_scope_who_does_not_have_it(tenant: Tenant, client: httpx.Client) -> None:
    assert client.post("/v1/keys", json={"scopes": ["host"]}).json()["scopes"] == ["host"]
    assert set(client.get("/v1/me").json()["scopes"]) == ALL_SCOPES

    with tenant.make_key(scopes=frozenset({Scope.ADMIN})).client() as admin:
        refused = admin.post("/v1/keys", json={"scopes": ["sessions:read", "host"]})

    assert (refused.status_code, refused.json()["detail"]) == (403, "this key lacks the scope host")


def test_agents_are_read_by_readers_and_changed_by_administrators(tenant: Tenant, client: httpx.Client) -> None:
    client.put("/v1/agents/a", json={"runner": "echo"}).raise_for_status()
    everybody = {scope: tenant.make_key(scopes=frozenset({scope})) for scope in Scope}

    for scope, key in everybody.items():
        with key.client() as holder:
            reads = [holder.get(path).status_code for path in ("/v1/agents", "/v1/agents/a")]
            writes = [
                holder.post("/v1/agents", json={"id": f"of-{scope.name}", "runner": "echo"}).status_code,
                holder.put("/v1/agents/a", json={"runner": "echo"}).status_code,
                holder.delete("/v1/agents/none").status_code,
            ]
        assert reads == ([200, 200] if scope is Scope.SESSIONS_READ else [403, 403])
        assert writes == ([201, 200, 404] if scope is Scope.ADMIN else [403, 403, 403])
    with tenant.make_key(scopes=ALL_SCOPES, user_id="ada").client() as ada:
        assert ada.get("/v1/agents/a").status_code == 200
        assert ada.put("/v1/agents/a", json={"runner": "echo"}).status_code == 403


def test_agents_are_their_workspaces_own(tenant: Tenant, client: httpx.Client) -> None:
    client.put("/v1/agents/a", json={"runner": "echo"}).raise_for_status()

    with tenant.serving.make_tenant().client() as stranger:
        assert stranger.get("/v1/agents").json()["data"] == []
        assert [stranger.request(method, "/v1/agents/a").status_code for method in ("GET", "DELETE")] == [404, 404]
        assert stranger.post("/v1/agents", json={"id": "a", "runner": "echo"}).status_code == 201
    assert client.get("/v1/agents/a").status_code == 200


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"id": "a/b"}, "id"),
        ({"id": "a\nb"}, "id"),
        ({"runner": None}, "runner"),
        ({"runner": "telepathy"}, "runner"),
        ({"options": None}, "options"),
        ({"options": []}, "options"),
        ({"options": {"delay": 1}}, "options"),
        ({"options": {"delay_ms": -1}}, "options"),
        ({"options": {"delay_ms": "soon"}}, "options"),
        ({"runner": "command"}, "options"),
        ({"runner": "command", "options": {"command": ""}}, "options"),
        ({"runner": "command", "options": {"command": "sh -c '"}}, "options"),
        ({"runner": "command", "options": {"command": "a\0b"}}, "options"),
        ({"runner": "chat", "options": {"base_url": "ftp://x", "model": "m"}}, "options"),
        ({"time_limit_seconds": 0}, "time_limit_seconds"),
        ({"time_limit_seconds": 7 * 86_400 + 1}, "time_limit_seconds"),
        ({"time_limit_seconds": None}, "time_limit_seconds"),
        ({"retries": -1}, "retries"),
        ({"retries": 101}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"backoff_seconds": -0.1}, "backoff_seconds"),
        ({"backoff_seconds": "1"}, "backoff_seconds"),
        ({"concurrency": 0}, "concurrency"),
        ({"history": 0}, "history"),
        ({"history": 1_001}, "history"),
        ({"fails_session": "yes"}, "fails_session"),
    ],
)
def test_a_field_that_is_wrong_is_named(client: httpx.Client, wrong: dict[str, Any], field: str) -> None:
    body = {"id": "a", "runner": "echo"} | wrong

    refused = client.post("/v1/agents", json=body)

    assert (refused.status_code, refused.json()["field"]) == (400, field), refused.text
    if field != "id":
        refused = client.put("/v1/agents/a", json=body)
        assert (refused.status_code, refused.json()["field"]) == (400, field), refused.text
    assert client.get("/v1/agents").json()["data"] == []


@pytest.mark.parametrize("missing", ["id", "runner"])
def test_what_is_missing_is_named(client: httpx.Client, missing: str) -> None:
    body = {name: value for name, value in (("id", "a"), ("runner", "echo")) if name != missing}

    refused = client.post("/v1/agents", json=body)

    assert (refused.status_code, refused.json()["detail"]) == (400, f"{missing} is required")


@pytest.mark.parametrize(("segment", "status"), [("a%2Fb", 400), ("%0A", 400), ("x" * 201, 413), ("%2E%2E", 400)])
def test_an_id_in_the_path_is_held_to_the_same_rules(client: httpx.Client, segment: str, status: int) -> None:
    refused = client.put(f"/v1/agents/{segment}", json={"runner": "echo"})

    assert (refused.status_code, refused.json()["field"]) == (status, "agent_id")
