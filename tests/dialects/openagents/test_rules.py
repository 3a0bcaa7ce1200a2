"""What the openagents wire promises beyond its document's examples."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sessiond.actions import sessions
from sessiond.actions.call import Call, itself
from sessiond.core.caller import ALL_SCOPES, Caller, Scope, Workspace
from sessiond.core.ids import KeyId, WorkspaceId
from sessiond.core.message import Role, make_message
from sessiond.core.session import NewSession
from sessiond.dialects.openagents import routes
from sessiond.dialects.openagents.routes import DIALECT, render
from sessiond.storage import workspaces
from sessiond.storage.engine import Engine, Tx
from sessiond.web.errors import Internal
from sessiond.web.routes import Problem
from tests.serving import Tenant

ALICE = {"agentId": "agent-123", "userName": "Alice", "userEmail": "alice@example.com", "acceptTerms": "true"}


def _add(api: httpx.Client, session_id: str, **fields: Any) -> None:
    answer = api.post(f"/api/exec/session/{session_id}", json=ALICE | fields)
    assert answer.status_code == 200, answer.text


def _ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [session["id"] for session in (body if isinstance(body, list) else body["rows"])]


def test_a_session_that_exists_is_never_changed(api: httpx.Client, client: httpx.Client) -> None:
    _add(api, "s1")
    before = client.get("/v1/sessions/s1").json()

    answer = api.post(
        "/api/exec/session/s1",
        json={"agentId": "other", "userName": "Mallory", "userEmail": "m@example.com", "acceptTerms": "false"},
    )

    assert answer.json() == {"message": "Session already exists", "data": {"id": "s1"}}
    assert client.get("/v1/sessions/s1").json() == before


@pytest.mark.parametrize(
    ("sent", "kept"), [("true", "true"), ("false", "false"), ("TRUE", "false"), ("yes", "false"), (None, "false")]
)
def test_terms_are_accepted_only_by_the_word_true(api: httpx.Client, sent: str | None, kept: str) -> None:
    _add(api, "s1", acceptTerms=sent)

    assert api.get("/api/session?id=s1").json()[0]["acceptTerms"] == kept


def test_a_session_without_messages_has_an_empty_list_of_them(api: httpx.Client) -> None:
    _add(api, "s1")

    assert api.get("/api/session").json()[0]["messages"] == "[]"


def test_content_in_parts_stays_in_parts(api: httpx.Client, client: httpx.Client) -> None:
    _add(api, "s1")
    parts = [
        {"type": "text", "text": 'a "quoted"\nline \\ \u0001 é 😀'},
        {"type": "image", "url": "data:…", "size": 1.5},
    ]
    client.post("/v1/sessions/s1/messages", json={"role": "assistant", "content": parts})

    [session] = api.get("/api/session").json()

    assert json.loads(session["messages"]) == [{"role": "assistant", "content": parts}]


def test_a_session_without_an_agent_has_an_empty_agent_id(api: httpx.Client, client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"id": "s1"})

    [session] = api.get("/api/session").json()

    assert (session["agentId"], session["userName"], session["userEmail"], session["acceptTerms"]) == (
        "",
        None,
        None,
        None,
    )


def test_an_ended_session_says_when(api: httpx.Client, client: httpx.Client) -> None:
    _add(api, "s1")
    completed_at = client.post("/v1/sessions/s1/complete").json()["completed_at"]

    finalized_at = api.get("/api/session").json()[0]["finalizedAt"]

    assert finalized_at == f"{completed_at[:23]}Z"


def test_both_filters_must_match(api: httpx.Client) -> None:
    _add(api, "s1")
    _add(api, "s2", agentId="other")

    assert _ids(api.get("/api/session?id=s1")) == ["s1"]
    assert _ids(api.get("/api/session?agentId=other")) == ["s2"]
    assert _ids(api.get("/api/session?id=s1&agentId=other")) == []
    assert _ids(api.get("/api/session?id=&agentId=")) == ["s2", "s1"]


def test_all_sessions_are_listed_newest_first(client: httpx.Client, tenant: Tenant) -> None:
    wanted = [f"s{number:03d}" for number in range(2 * routes.PAGE_SESSIONS + 1)]
    for session_id in wanted:
        _add(client, session_id)

    assert _ids(client.get("/api/session")) == wanted[::-1]
    assert _ids(client.get("/api/agent/agent-123/session?limit=1000&orderBy=createdAt")) == wanted[::-1]


def test_a_page_of_exactly_all_sessions_ends_the_list(client: httpx.Client) -> None:
    for number in range(routes.PAGE_SESSIONS):
        _add(client, f"s{number}")

    assert len(_ids(client.get("/api/session"))) == routes.PAGE_SESSIONS


def test_a_session_too_large_for_memory_is_listed_whole(client: httpx.Client) -> None:
    _add(client, "large")
    _add(client, "small")
    texts = [f"{number} " + "\\é\n" * 250_000 for number in range(8)]
    for text in texts:
        assert client.post("/v1/sessions/large/messages", json={"content": text[:500_000]}).status_code == 201

    small, large = client.get("/api/session").json()

    assert small["messages"] == "[]"
    assert [message["content"] for message in json.loads(large["messages"])] == [text[:500_000] for text in texts]


async def test_a_session_deleted_while_it_is_listed_does_not_spoil_the_list(engine: Engine) -> None:
    workspace = Workspace(WorkspaceId("w"), "0" * 64, 0)

    async def add_workspace(tx: Tx) -> None:
        await workspaces.insert(tx, workspace)

    await engine.write(add_workspace)
    caller = Caller(workspace_id=workspace.id, database_id_hash="0" * 64, key_id=KeyId("k"), scopes=ALL_SCOPES)
    call = Call(engine, caller)
    content = make_message(Role.USER, "x" * 1_000_000)
    created = await sessions.create(call, NewSession(agent_id="a"), itself, session_id="gone", messages=[content] * 5)
    await sessions.delete(call, "gone", itself)

    listed = b"".join([piece async for piece in routes._rows(call, [created.session])])

    assert json.loads(listed)["messages"] == "[]"


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("userName", ["s3", "s1", "s2"]),
        ("userEmail", ["s2", "s3", "s1"]),
        ("createdAt", ["s3", "s2", "s1"]),
        ("updatedAt", ["s1", "s3", "s2"]),
        (None, ["s1", "s3", "s2"]),
    ],
)
def test_names_are_ordered_up_and_times_down(
    api: httpx.Client, client: httpx.Client, order_by: str | None, expected: list[str]
) -> None:
    _add(api, "s1", userName="Bob", userEmail="c@example.com")
    _add(api, "s2", userName="Carol", userEmail="a@example.com")
    _add(api, "s3", userName="Alice", userEmail="b@example.com")
    client.post("/v1/sessions/s1/messages", json={"content": "now"})

    answer = api.get("/api/agent/agent-123/session", params={"orderBy": order_by} if order_by else {})

    assert _ids(answer) == expected
    assert answer.json()["orderBy"] == (order_by or "updatedAt")


def test_pages_follow_one_another(api: httpx.Client) -> None:
    for number in range(25):
        _add(api, f"s{number:02d}")

    pages = [api.get(f"/api/agent/agent-123/session?orderBy=createdAt&offset={offset}") for offset in (0, 10, 20, 30)]

    assert [session_id for page in pages for session_id in _ids(page)] == [f"s{n:02d}" for n in range(24, -1, -1)]
    assert [page.json()["total"] for page in pages] == [25] * 4
    assert [page.json()["limit"] for page in pages] == [10] * 4
    assert pages[0].json()["query"] == ""


@pytest.mark.parametrize("query", ["lice", "ALICE", "alice@EXAMPLE", "abc-1", "ABC"])
def test_a_search_finds_parts_of_names_mails_and_ids_whatever_the_case(api: httpx.Client, query: str) -> None:
    _add(api, "abc-1")
    _add(api, "xyz-2", userName="Bob", userEmail="bob@example.org")

    answer = api.get("/api/agent/agent-123/session", params={"query": query})

    assert _ids(answer) == ["abc-1"]
    assert answer.json()["query"] == query


@pytest.mark.parametrize("query", ["%", "_", "\\", "alice%example", "nobody"])
def test_a_search_has_no_wildcards(api: httpx.Client, query: str) -> None:
    _add(api, "abc-1")

    assert _ids(api.get("/api/agent/agent-123/session", params={"query": query})) == []


def test_deletions_are_in_the_audit_log_newest_first(api: httpx.Client, tenant: Tenant) -> None:
    for session_id in ("s1", "s2", "s3"):
        _add(api, session_id)
        api.delete(f"/api/session/{session_id}")

    *entries, made = api.get("/api/audit").json()

    assert made["eventName"] == "createKey"
    assert [entry["recordLocator"] for entry in entries] == ['{"id":"s3"}', '{"id":"s2"}', '{"id":"s1"}']
    first = entries[-1]
    assert first.pop("createdAt").endswith("Z")
    assert first.pop("keyLocatorHash")
    assert len(bytes.fromhex(first.pop("hash"))) == 32
    assert first == {
        "id": 2,
        "databaseIdHash": tenant.database_id_hash,
        "recordLocator": '{"id":"s1"}',
        "eventName": "deleteSession",
        "ip": "127.0.0.1",
        "result": "ok",
    }
    assert api.get("/api/audit?limit=1&offset=1").json() == entries[1:2]
    assert api.get("/api/audit?offset=9007199254740992").json() == []


def test_the_audit_log_needs_the_admin_scope(mount: str, tenant: Tenant) -> None:
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})).client(mount) as weak:
        answer = weak.get("/api/audit")

    assert answer.status_code == 403
    assert answer.json() == {"message": "this key lacks the scope admin", "status": 403}


def test_a_key_bound_to_a_user_sees_only_their_sessions(api: httpx.Client, mount: str, tenant: Tenant) -> None:
    _add(api, "theirs")
    scopes = frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})
    with tenant.make_key(scopes=scopes, user_id="alice").client(mount) as bound:
        _add(bound, "hers")

        assert _ids(bound.get("/api/session")) == ["hers"]
        assert _ids(bound.get("/api/agent/agent-123/session")) == ["hers"]
        assert bound.delete("/api/session/theirs").json() == {"message": "Data not found!", "status": 400}
        taken = bound.post("/api/exec/session/theirs", json=ALICE)
        assert (taken.status_code, taken.json()["status"]) == (409, 409)


def test_a_repeated_creation_gets_the_first_answer(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "once"}
    first = api.post("/api/exec/session/s1", json=ALICE, headers=headers)
    again = api.post("/api/exec/session/s1", json=ALICE, headers=headers)
    other = api.post("/api/exec/session/s1", json=ALICE | {"userName": "Bob"}, headers=headers)

    assert first.json()["message"] == again.json()["message"] == "Session created"
    assert (other.status_code, other.json()["status"]) == (400, 400)


def test_a_changed_session_is_not_deleted_by_its_old_version(api: httpx.Client, client: httpx.Client) -> None:
    _add(api, "s1")
    etag = client.get("/v1/sessions/s1").headers["etag"]
    client.post("/v1/sessions/s1/messages", json={"content": "news"})

    refused = api.delete("/api/session/s1", headers={"If-Match": etag})

    assert (refused.status_code, refused.json()["status"]) == (412, 412)
    newest = client.get("/v1/sessions/s1").headers["etag"]
    assert api.delete("/api/session/s1", headers={"If-Match": newest}).status_code == 200


def test_the_published_clients_headers_name_key_and_database_too(tenant: Tenant, mount: str) -> None:
    headers = {"X-API-Key": tenant.key, "X-Database-Id": tenant.database_id_hash, "Content-Type": "application/json"}
    with tenant.client(mount, headers=headers) as other:
        assert other.get("/api/session").json() == []


def test_the_database_is_named_whatever_the_case(tenant: Tenant, mount: str) -> None:
    with tenant.client(
        mount, headers=tenant.headers | {"database-id-hash": tenant.database_id_hash.upper()}
    ) as shouting:
        assert shouting.get("/api/session").status_code == 200


def test_a_bug_is_a_500_in_this_wires_words() -> None:
    for route in DIALECT.routes:
        answer = render(Problem(error=Internal("internal server error"), path="/", request_id="r", route=route))

        assert (answer.status, json.loads(answer.body)) == (500, {"message": "internal server error", "status": 500})


def test_a_filter_without_a_value_is_none(api: httpx.Client) -> None:
    for number in range(2):
        api.post(f"/api/exec/session/s{number}", json={"agentId": "a", "userName": "n", "userEmail": "e"})

    assert len(api.get("/api/session?id=&agentId=").json()) == 2
    assert len(api.get("/api/agent/a/session?query=").json()["rows"]) == 2
