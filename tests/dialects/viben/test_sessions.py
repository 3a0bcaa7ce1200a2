"""What the document leaves open, and what the README lists under "Differences"."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core import errors
from sessiond.core.caller import Scope
from sessiond.core.session import NEXT, Status
from sessiond.dialects.viben.routes import DIALECT
from sessiond.dialects.viben.shapes import make_message_id
from sessiond.web.errors import Internal, MethodNotAllowed
from sessiond.web.openapi import make_document
from sessiond.web.routes import Problem
from tests.serving import Tenant


def make_session(api: httpx.Client, **fields: Any) -> str:
    made = api.post("/api/sessions", json={"agent_id": "a", **fields})
    assert made.status_code == 201, made.text
    session_id: str = made.json()["id"]
    return session_id


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [session["id"] for session in answer.json()["sessions"]]


def messages(client: httpx.Client, session_id: str) -> list[tuple[str, str]]:
    found = client.get(f"/v1/sessions/{session_id}/messages", params={"limit": 1000}).json()["data"]
    return [(message["role"], message["content"]) for message in found]


def test_a_prompt_is_the_first_message_and_the_session_under_way(client: httpx.Client, api: httpx.Client) -> None:
    made = api.post("/api/sessions", json={"agent_id": "a", "prompt": "Do it"})

    assert made.json()["status"] == "created"
    session_id = made.json()["id"]
    assert messages(client, session_id) == [("user", "Do it")]
    read = api.get(f"/api/sessions/{session_id}").json()
    assert (read["status"], read["message_count"], read["prompt"]) == ("active", 1, "Do it")


@pytest.mark.parametrize("fields", [{}, {"prompt": ""}, {"prompt": None, "task_id": None}, {"task_id": ""}])
def test_without_a_prompt_a_session_waits(client: httpx.Client, api: httpx.Client, fields: dict[str, Any]) -> None:
    session_id = make_session(api, **fields)

    read = api.get(f"/api/sessions/{session_id}").json()

    assert (read["status"], read["message_count"], read["data"], "prompt" in read) == ("created", 0, {}, False)
    assert messages(client, session_id) == []


def test_a_field_that_a_session_lacks_is_empty_text(client: httpx.Client, api: httpx.Client) -> None:
    without_task = api.post("/api/sessions", json={"agent_id": "a"}).json()
    others_id = client.post("/v1/sessions", json={"name": "made elsewhere"}).json()["id"]

    assert without_task["task_id"] == ""
    read = api.get(f"/api/sessions/{others_id}").json()
    assert (read["agent_id"], read["task_id"], read["status"]) == ("", "", "active")
    assert [session["agent_id"] for session in api.get("/api/sessions").json()["sessions"]] == ["", "a"]


def test_ids_say_what_they_are(api: httpx.Client) -> None:
    session_id = make_session(api)

    sent = api.post(f"/api/sessions/{session_id}/message", json={"content": "hello"}).json()

    assert session_id.startswith("session-")
    # The log begins with the creation and, at the first message, the change to active.
    assert sent["message_id"] == f"msg-3.{session_id}"


@given(st.text(), st.integers(1), st.text(), st.integers(1))
def test_two_messages_never_share_an_id(one: str, one_seq: int, other: str, other_seq: int) -> None:
    alike = make_message_id(one, one_seq) == make_message_id(other, other_seq)

    assert alike == ((one, one_seq) == (other, other_seq))


def test_a_list_is_whole_however_long_and_the_newest_comes_first(tenant: Tenant) -> None:
    with tenant.client("/viben") as api:
        made = [make_session(api) for _ in range(205)]

        listed = api.get("/api/sessions")

    assert ids(listed) == made[::-1]
    assert list(listed.json()) == ["sessions"]


def test_a_list_of_exactly_one_page_is_whole(tenant: Tenant) -> None:
    with tenant.client("/viben") as api:
        made = [make_session(api) for _ in range(100)]

        assert ids(api.get("/api/sessions")) == made[::-1]


def test_an_empty_list_is_a_list(api: httpx.Client) -> None:
    assert api.get("/api/sessions").json() == {"sessions": []}
    assert api.get("/api/sessions?limit=1").json() == {"sessions": [], "next_cursor": None}


def test_sessions_are_filtered(api: httpx.Client) -> None:
    one, two = make_session(api, task_id="t"), make_session(api, agent_id="b", task_id="t", prompt="go")
    three = make_session(api, agent_id="b", task_id="u")

    def listed(**params: str) -> list[str]:
        return ids(api.get("/api/sessions", params=params))

    assert listed(task_id="t") == [two, one]
    assert listed(agent_id="b") == [three, two]
    assert listed(status="active") == [two]
    assert listed(status="created", agent_id="b") == [three]
    assert listed(task_id="t", agent_id="b", status="created") == []


@pytest.mark.parametrize("query", ["agent_id=", "task_id", "status=", "agent_id=a&task_id="])
def test_a_filter_without_a_value_is_refused(api: httpx.Client, query: str) -> None:
    refused = api.get(f"/api/sessions?{query}")

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert query.rpartition("&")[2].strip("=") in refused.json()["error"]["message"]


def test_a_limit_and_a_cursor_bound_the_list(api: httpx.Client) -> None:
    made = [make_session(api) for _ in range(5)]

    found, cursors = list[str](), list[str | None]()
    params: dict[str, Any] = {"limit": 2}
    while not cursors or cursors[-1] is not None:
        page = api.get("/api/sessions", params=params)
        found += ids(page)
        cursors.append(page.json()["next_cursor"])
        params["cursor"] = cursors[-1]

    assert found == made[::-1]
    assert [cursor is None for cursor in cursors] == [False, False, True]


def test_a_cursor_goes_on_without_a_limit(api: httpx.Client) -> None:
    made = [make_session(api) for _ in range(3)]
    cursor = api.get("/api/sessions?limit=1").json()["next_cursor"]

    rest = api.get("/api/sessions", params={"cursor": cursor})

    assert ids(rest) == [made[1], made[0]]
    assert rest.json()["next_cursor"] is None


def test_a_cursor_that_leads_before_the_first_session_finds_an_empty_end(
    client: httpx.Client, api: httpx.Client
) -> None:
    newest = [make_session(api), make_session(api)][1]
    backwards = client.get("/v1/sessions?limit=1&offset=1").json()["prev_cursor"]
    client.delete(f"/v1/sessions/{newest}")

    assert api.get("/api/sessions", params={"cursor": backwards}).json() == {"sessions": [], "next_cursor": None}


def test_data_is_merged_and_null_removes(api: httpx.Client) -> None:
    path = f"/api/sessions/{make_session(api)}"

    def patch(data: Any) -> Any:
        patched = api.patch(path, json={"data": data})
        assert patched.json().items() <= api.get(path).json().items()
        return patched.json()["data"]

    assert patch({"a": 1, "deep": {"b": 2, "c": [3]}}) == {"a": 1, "deep": {"b": 2, "c": [3]}}
    assert patch({"a": None, "deep": {"c": "x"}}) == {"deep": {"b": 2, "c": "x"}}
    assert patch({}) == {"deep": {"b": 2, "c": "x"}}
    assert patch(None) == {}


def test_a_prompt_is_changed_and_removed(client: httpx.Client, api: httpx.Client) -> None:
    path = f"/api/sessions/{make_session(api, prompt='one')}"

    changed = api.patch(path, json={"prompt": "two"}).json()
    kept = api.patch(path, json={}).json()
    removed = [api.patch(path, json={"prompt": prompt}).json() for prompt in ("", None)]

    assert changed["prompt"] == kept["prompt"] == "two"
    assert ["prompt" in session for session in removed] == [False, False]
    assert changed["message_count"] == 1


def test_a_patch_of_nothing_changes_nothing(api: httpx.Client) -> None:
    path = f"/api/sessions/{make_session(api)}"
    before = api.get(path)

    after = api.patch(path, json={"id": "other", "agent_id": "other", "message_count": 7})

    assert (after.status_code, after.json() | {"messages": []}) == (200, before.json())
    assert after.headers["etag"] == before.headers["etag"]


WAYS = {
    Status.CREATED: [],
    Status.ACTIVE: ["active"],
    Status.PAUSED: ["active", "paused"],
    Status.COMPLETED: ["completed"],
    Status.FAILED: ["failed"],
}


@pytest.mark.parametrize("before", Status)
def test_only_the_steps_there_are_can_be_taken(api: httpx.Client, before: Status) -> None:
    for after in Status:
        path = f"/api/sessions/{make_session(api)}"
        for step in WAYS[before]:
            api.patch(path, json={"status": step}).raise_for_status()

        patched = api.patch(path, json={"status": after, "data": {"n": 1}})

        if after == before or after in NEXT[before]:
            assert (patched.status_code, patched.json()["status"]) == (200, after)
        else:
            assert (patched.status_code, patched.json()["error"]["code"]) == (409, "conflict")
            assert before in patched.json()["error"]["message"]
            assert after in patched.json()["error"]["message"]
            assert (api.get(path).json()["status"], api.get(path).json()["data"]) == (before, {})


@pytest.mark.parametrize("status", ["running", "Active", "", " active", "\u2603", "x" * 10_000])
def test_an_unknown_status_is_refused_and_the_known_ones_named(api: httpx.Client, status: str) -> None:
    path = f"/api/sessions/{make_session(api)}"

    refused = api.patch(path, json={"status": status, "data": {"n": 1}})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert repr(status[:40]) in refused.json()["error"]["message"]
    assert "created, active, paused, completed, failed" in refused.json()["error"]["message"]
    assert api.get(path).json()["data"] == {}


def test_a_list_by_an_unknown_status_is_refused(api: httpx.Client) -> None:
    refused = api.get("/api/sessions?status=running")

    assert refused.status_code == 400
    assert "'running'" in refused.json()["error"]["message"]
    assert "created, active, paused, completed, failed" in refused.json()["error"]["message"]


def test_the_first_message_makes_a_session_active(client: httpx.Client, api: httpx.Client) -> None:
    session_id = make_session(api)

    for content in ("one", "two \u0000 ☃ \U0001f600"):
        api.post(f"/api/sessions/{session_id}/message", json={"content": content}).raise_for_status()

    read = api.get(f"/api/sessions/{session_id}").json()
    assert (read["status"], read["message_count"]) == ("active", 2)
    assert messages(client, session_id) == [("user", "one"), ("user", "two \u0000 ☃ \U0001f600")]


def test_a_paused_session_keeps_the_message_and_stays_paused(client: httpx.Client, api: httpx.Client) -> None:
    session_id = make_session(api, prompt="go")
    api.patch(f"/api/sessions/{session_id}", json={"status": "paused"}).raise_for_status()

    sent = api.post(f"/api/sessions/{session_id}/message", json={"content": "for later"})

    assert (sent.status_code, sent.json()["status"]) == (200, "sent")
    assert api.get(f"/api/sessions/{session_id}").json()["status"] == "paused"
    assert messages(client, session_id)[-1] == ("user", "for later")


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_an_ended_session_refuses_messages_until_it_is_active_again(
    client: httpx.Client, api: httpx.Client, status: str
) -> None:
    session_id = make_session(api, prompt="go")
    api.patch(f"/api/sessions/{session_id}", json={"status": status}).raise_for_status()

    refused = api.post(f"/api/sessions/{session_id}/message", json={"content": "too late"})

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert status in refused.json()["error"]["message"]
    assert messages(client, session_id) == [("user", "go")]
    api.patch(f"/api/sessions/{session_id}", json={"status": "active"}).raise_for_status()
    assert api.post(f"/api/sessions/{session_id}/message", json={"content": "again"}).status_code == 200


def test_a_deleted_session_is_gone_with_its_messages(client: httpx.Client, api: httpx.Client) -> None:
    session_id = make_session(api, prompt="go")

    assert api.delete(f"/api/sessions/{session_id}").status_code == 204

    again = api.delete(f"/api/sessions/{session_id}")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")
    assert client.get(f"/v1/sessions/{session_id}/messages").status_code == 404


def test_answers_carry_the_etag_and_if_match_is_honoured(api: httpx.Client) -> None:
    made = api.post("/api/sessions", json={"agent_id": "a", "prompt": "go"})
    path = f"/api/sessions/{made.json()['id']}"
    first = made.headers["etag"]
    assert api.get(path).headers["etag"] == first

    patched = api.patch(path, json={"data": {"n": 1}}, headers={"If-Match": first})

    second = patched.headers["etag"]
    assert (patched.status_code, second != first) == (200, True)
    assert api.get(path).headers["etag"] == second
    for refused in (
        api.patch(path, json={"data": {"n": 2}}, headers={"If-Match": first}),
        api.delete(path, headers={"If-Match": first}),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (412, "precondition_failed")
    assert api.get(path).json()["data"] == {"n": 1}
    assert api.delete(path, headers={"If-Match": second}).status_code == 204


def test_a_request_sent_twice_under_one_idempotency_key_happens_once(client: httpx.Client, api: httpx.Client) -> None:
    def twice(method: str, path: str, body: Any) -> httpx.Response:
        headers = {"Idempotency-Key": f"{method} {path}"}
        first, second = (api.request(method, path, json=body, headers=headers) for _ in range(2))
        assert (second.status_code, second.content) == (first.status_code, first.content)
        assert second.headers.get("etag") == first.headers.get("etag")
        other = api.request(method, path, json={**body, "n": 1}, headers=headers)
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
        return first

    made = twice("POST", "/api/sessions", {"agent_id": "a"})
    path = f"/api/sessions/{made.json()['id']}"
    twice("POST", f"{path}/message", {"content": "once"})
    twice("PATCH", path, {"data": {"n": 1}})

    assert ids(api.get("/api/sessions")) == [made.json()["id"]]
    assert messages(client, made.json()["id"]) == [("user", "once")]


def test_a_key_without_the_write_scope_changes_nothing(tenant: Tenant, client: httpx.Client) -> None:
    with tenant.client("/viben") as api:
        session_id = make_session(api)

    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ})).client("/viben") as reader:
        refused = [
            reader.post("/api/sessions", json={"agent_id": "a"}),
            reader.patch(f"/api/sessions/{session_id}", json={"data": {"n": 1}}),
            reader.post(f"/api/sessions/{session_id}/message", json={"content": "hello"}),
            reader.delete(f"/api/sessions/{session_id}"),
        ]
        listed = ids(reader.get("/api/sessions"))

    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in refused} == {(403, "forbidden")}
    assert listed == [session_id]
    assert client.get(f"/v1/sessions/{session_id}").json()["last_seq"] == 1


def test_a_key_without_the_read_scope_reads_nothing(tenant: Tenant) -> None:
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_WRITE})).client("/viben") as writer:
        session_id = make_session(writer)
        paths = ("/api/sessions", "/api/sessions?limit=1", f"/api/sessions/{session_id}")

        assert [writer.get(path).status_code for path in paths] == [403, 403, 403]


def test_a_key_bound_to_a_user_has_sessions_of_its_own(tenant: Tenant, client: httpx.Client) -> None:
    theirs = client.post("/v1/sessions", json={"agent_id": "a", "user_id": "bob"}).json()["id"]

    with tenant.make_key(user_id="alice").client("/viben") as alice:
        mine = make_session(alice)
        path = f"/api/sessions/{theirs}"
        refused = [
            alice.get(path),
            alice.patch(path, json={"data": {"n": 1}}),
            alice.post(f"{path}/message", json={"content": "hello"}),
            alice.delete(path),
        ]
        listed = ids(alice.get("/api/sessions"))

    assert [answer.status_code for answer in refused] == [404] * 4
    assert listed == [mine]
    assert client.get(f"/v1/sessions/{mine}").json()["user_id"] == "alice"
    assert client.get(f"/v1/sessions/{theirs}").json()["last_seq"] == 1


def test_another_workspaces_session_looks_like_none(tenant: Tenant, api: httpx.Client) -> None:
    session_id = make_session(api)
    path = f"/api/sessions/{session_id}"

    with tenant.serving.make_tenant().client("/viben") as stranger:
        refused = [
            stranger.get(path),
            stranger.patch(path, json={"data": {"n": 1}}),
            stranger.post(f"{path}/message", json={"content": "hello"}),
            stranger.delete(path),
        ]
        assert ids(stranger.get("/api/sessions")) == []

    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in refused} == {(404, "not_found")}
    assert api.get(path).json()["message_count"] == 0


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidInput("x"), 400, "invalid_request"),
        (errors.Unauthenticated("x"), 401, "unauthorized"),
        (errors.Forbidden("x"), 403, "forbidden"),
        (errors.NotFound("x"), 404, "not_found"),
        (MethodNotAllowed(["GET"]), 405, "method_not_allowed"),
        (errors.Conflict("x"), 409, "conflict"),
        (errors.PreconditionFailed("x"), 412, "precondition_failed"),
        (errors.TooLarge("x"), 413, "payload_too_large"),
        (errors.KeyReused("x"), 422, "idempotency_key_reused"),
        (errors.TooMany("x"), 429, "too_many_requests"),
        (Internal("x"), 500, "internal_error"),
        (errors.Unavailable("x"), 503, "unavailable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_error_has_its_status_and_code(error: errors.SessiondError, status: int, code: str) -> None:
    answer = DIALECT.render(Problem(error=error, path="/p", request_id="r", route=None))

    assert answer.status == status
    assert msgspec.json.decode(answer.body) == {"error": {"code": code, "message": error.message}}


def test_the_openapi_document_names_every_route(tenant: Tenant) -> None:
    with tenant.client("/viben") as client:
        document = client.get("/openapi.json").json()

    expected = make_document(DIALECT, version=document["info"]["version"])
    assert document == msgspec.json.decode(msgspec.json.encode(expected))
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == {
        (route.path, route.method.lower()) for route in DIALECT.routes
    }
    assert document["components"]["schemas"]["CreateSession"]["required"] == ["agent_id"]
