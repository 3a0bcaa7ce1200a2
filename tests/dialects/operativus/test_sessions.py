"""What the document leaves open, and what the README lists under "Differences"."""

from __future__ import annotations

import time
import tracemalloc
from datetime import datetime
from typing import Any

import httpx
import msgspec
import pytest

from sessiond.actions import sessions, workspaces
from sessiond.actions.call import Call, itself
from sessiond.core import errors
from sessiond.core.caller import Scope
from sessiond.core.message import Role, make_message
from sessiond.core.session import NewSession
from sessiond.dialects.operativus.routes import DIALECT, _sessions
from sessiond.storage.engine import Engine
from sessiond.web.errors import Internal, MethodNotAllowed
from sessiond.web.openapi import make_document
from sessiond.web.routes import Problem
from tests.serving import Tenant


def make_session(client: httpx.Client, **fields: Any) -> str:
    made = client.post("/v1/sessions", json=fields)
    assert made.status_code == 201, made.text
    session_id: str = made.json()["id"]
    return session_id


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [session["sessionId"] for session in answer.json()["content"]]


def test_a_page_has_what_clients_of_a_spring_page_read(client: httpx.Client, api: httpx.Client) -> None:
    for _ in range(5):
        make_session(client)

    pages = [api.get("/api/sessions", params={"page": page, "size": 2}).json() for page in range(4)]

    assert [{name: page[name] for name in page if name != "content"} for page in pages] == [
        {
            "totalElements": 5,
            "totalPages": 3,
            "number": number,
            "size": 2,
            "numberOfElements": elements,
            "first": number == 0,
            "last": number >= 2,
            "empty": elements == 0,
        }
        for number, elements in enumerate([2, 2, 1, 0])
    ]


def test_an_empty_workspace_has_an_empty_page(api: httpx.Client) -> None:
    assert api.get("/api/sessions").json() == {
        "content": [],
        "totalElements": 0,
        "totalPages": 0,
        "number": 0,
        "size": 20,
        "numberOfElements": 0,
        "first": True,
        "last": True,
        "empty": True,
    }


def test_the_newest_session_comes_first_and_none_is_on_two_pages(client: httpx.Client, api: httpx.Client) -> None:
    made = [make_session(client) for _ in range(7)]

    listed = [
        session_id
        for page in range(3)
        for session_id in ids(api.get("/api/sessions", params={"page": page, "size": 3}))
    ]

    assert listed == made[::-1]


@pytest.mark.parametrize(
    ("sent", "size"), [("0", 1), ("-7", 1), ("1", 1), ("100", 100), ("101", 100), ("9" * 30, 100), ("", 20)]
)
def test_a_size_is_clamped_to_1_to_100(api: httpx.Client, sent: str, size: int) -> None:
    assert api.get(f"/api/sessions?size={sent}").json()["size"] == size


def test_a_page_far_beyond_the_end_is_empty(client: httpx.Client, api: httpx.Client) -> None:
    make_session(client)

    page = api.get("/api/sessions", params={"page": 2**53 // 100}).json()

    assert (page["content"], page["totalElements"]) == ([], 1)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("createdAt,desc", [2, 1, 0]),
        ("createdAt,asc", [0, 1, 2]),
        ("createdAt", [0, 1, 2]),
        ("createdAt,DESC", [2, 1, 0]),
        ("updatedAt,desc", [0, 2, 1]),
        ("updatedAt,asc", [1, 2, 0]),
        ("", [2, 1, 0]),
    ],
)
def test_sessions_are_sorted_as_asked(client: httpx.Client, api: httpx.Client, sort: str, order: list[int]) -> None:
    made = [make_session(client) for _ in range(3)]
    client.post(f"/v1/sessions/{made[0]}/messages", json={"content": "later"})

    listed = ids(api.get("/api/sessions", params={"sort": sort}))

    assert listed == [made[index] for index in order]


def test_sessions_are_filtered_by_user_and_agent(client: httpx.Client, api: httpx.Client) -> None:
    made = {
        (user, agent): make_session(client, user_id=user, agent_id=agent) for user in "uv" for agent in ("one", "two")
    }

    def listed(**params: str) -> set[str]:
        return set(ids(api.get("/api/sessions", params=params)))

    assert listed(userId="u") == {made["u", "one"], made["u", "two"]}
    assert listed(agentId="two") == {made["u", "two"], made["v", "two"]}
    assert listed(userId="v", agentId="one") == {made["v", "one"]}
    assert listed(userId="nobody") == set()
    assert listed(userId="", agentId="") == set(made.values())


def test_a_total_counts_what_the_filter_finds(client: httpx.Client, api: httpx.Client) -> None:
    for user in "uuv":
        make_session(client, user_id=user)

    page = api.get("/api/sessions", params={"userId": "u", "size": 1}).json()

    assert (page["totalElements"], page["totalPages"], page["numberOfElements"]) == (2, 2, 1)


def test_a_session_without_user_and_agent_has_null_for_them(client: httpx.Client, api: httpx.Client) -> None:
    session_id = make_session(client)

    session = api.get(f"/api/sessions/{session_id}").json()

    assert (session["userId"], session["agentId"], session["messages"]) == (None, None, [])


def test_content_of_parts_becomes_its_text(client: httpx.Client, api: httpx.Client) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "image", "url": "x"}, {"type": "text", "text": "two"}]
    session_id = make_session(client, messages=[{"role": "user", "content": parts}])

    expected = [{"role": "user", "content": "one\ntwo"}]

    assert api.get(f"/api/sessions/{session_id}").json()["messages"] == expected


def test_content_of_parts_without_text_becomes_their_json(client: httpx.Client, api: httpx.Client) -> None:
    session_id = make_session(client, messages=[{"role": "user", "content": [{"type": "image", "url": "x"}]}])

    expected = [{"role": "user", "content": '{"type":"image","url":"x"}'}]

    assert api.get(f"/api/sessions/{session_id}").json()["messages"] == expected
    assert api.get("/api/sessions").json()["content"][0]["messages"] == expected


def test_every_role_is_shown_as_it_is(client: httpx.Client, api: httpx.Client) -> None:
    said = [{"role": role, "content": f"{role} \u0000 ☃ \U0001f600"} for role in Role]
    session_id = make_session(client, messages=said)

    assert api.get(f"/api/sessions/{session_id}").json()["messages"] == said


def test_a_session_carries_its_etag(client: httpx.Client, api: httpx.Client) -> None:
    session_id = make_session(client)

    read = api.get(f"/api/sessions/{session_id}")

    assert read.headers["etag"] == client.get(f"/v1/sessions/{session_id}").headers["etag"]


def test_a_page_too_large_to_be_held_has_all_its_messages(client: httpx.Client, api: httpx.Client) -> None:
    made = []
    for number in range(6):
        session_id = make_session(client, messages=[{"content": f"{number} first"}])
        client.post(f"/v1/sessions/{session_id}/messages", json={"content": "x" * 900_000})
        client.post(f"/v1/sessions/{session_id}/messages", json={"content": f"{number} last"})
        made.append(session_id)

    page = api.get("/api/sessions").json()

    assert [session["sessionId"] for session in page["content"]] == made[::-1]
    for number, session in enumerate(reversed(page["content"])):
        assert [message["content"][:7] for message in session["messages"]] == [
            f"{number} first"[:7],
            "xxxxxxx",
            f"{number} last"[:7],
        ]


def test_a_session_of_100_000_messages_is_never_held_in_memory(tenant: Tenant) -> None:
    with tenant.client("/operativus") as client:
        session_id = make_session_of(tenant, 100, {"content": "x" * 200})
        for path in (f"/api/sessions/{session_id}", "/api/sessions"):
            size = 0
            tracemalloc.start()
            with client.stream("GET", path) as answer:
                for chunk in answer.iter_bytes():
                    size += len(chunk)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()

            assert size > 100_000 * 200
            assert peak < 8_000_000


def make_session_of(tenant: Tenant, batches: int, message: dict[str, str]) -> str:
    with tenant.client() as client:
        session_id = make_session(client)
        for _ in range(batches):
            client.post(f"/v1/sessions/{session_id}/messages", json={"messages": [message] * 1000}).raise_for_status()
    return session_id


async def test_a_session_deleted_while_it_is_written_ends_there(engine: Engine) -> None:
    workspace = await workspaces.create(engine, "w")
    call = Call(engine, workspaces.operator(workspace))
    found = []
    for name in ("kept", "deleted"):
        made = await sessions.create(
            call, NewSession(), itself, session_id=name, messages=[make_message(Role.USER, "hello")]
        )
        # As if it were too large to be read at once.
        found.append(msgspec.structs.replace(made.session, log_bytes=2**40))
    await sessions.delete(call, "deleted", itself)

    written = b"".join([piece async for piece in _sessions(call, found)])

    kept, deleted = msgspec.json.decode(b"[" + written + b"]")
    assert kept["messages"] == [{"role": "user", "content": "hello"}]
    assert deleted["messages"] == []


def test_a_session_without_runs_looks_like_one_that_does_not_exist(client: httpx.Client, api: httpx.Client) -> None:
    session_id = make_session(client)

    known, unknown = api.get(f"/api/sessions/{session_id}/runs"), api.get("/api/sessions/none/runs")

    assert (known.status_code, known.json()) == (200, [])
    assert (unknown.status_code, unknown.json()) == (200, [])


def test_deleting_needs_the_version_that_if_match_names(client: httpx.Client, api: httpx.Client) -> None:
    session_id = make_session(client)
    path = f"/api/sessions/{session_id}"
    stale = api.get(path).headers["etag"]
    client.post(f"/v1/sessions/{session_id}/messages", json={"content": "news"})

    refused = api.delete(path, headers={"If-Match": stale})

    assert (refused.status_code, refused.json()["error"]) == (412, "Precondition Failed")
    current = api.get(path).headers["etag"]
    assert api.delete(path, headers={"If-Match": current}).status_code == 204
    assert api.get(path).status_code == 404
    assert api.delete(path, headers={"If-Match": current}).status_code == 204


def test_a_key_without_the_write_scope_deletes_nothing(tenant: Tenant, client: httpx.Client) -> None:
    session_id = make_session(client)

    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ})).client("/operativus") as reader:
        refused = reader.delete(f"/api/sessions/{session_id}")

    assert (refused.status_code, refused.json()["error"]) == (403, "Forbidden")
    assert client.get(f"/v1/sessions/{session_id}").status_code == 200


def test_a_key_without_the_read_scope_reads_nothing(tenant: Tenant, client: httpx.Client) -> None:
    session_id = make_session(client)

    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_WRITE})).client("/operativus") as writer:
        paths = ("/api/sessions", f"/api/sessions/{session_id}", f"/api/sessions/{session_id}/runs")
        refused = [writer.get(path) for path in paths]

    assert [answer.status_code for answer in refused] == [403, 403, 403]


@pytest.mark.parametrize("asked", [None, "alice", "bob", "nobody"])
def test_a_key_bound_to_a_user_lists_only_theirs_whatever_it_asks_for(
    tenant: Tenant, client: httpx.Client, asked: str | None
) -> None:
    mine = make_session(client, user_id="alice", agent_id="one")
    make_session(client, user_id="bob", agent_id="one")
    make_session(client)

    with tenant.make_key(user_id="alice").client("/operativus") as alice:
        page = alice.get("/api/sessions", params={"userId": asked} if asked else {})

    assert ids(page) == [mine]
    assert page.json()["totalElements"] == 1


def test_a_key_bound_to_a_user_reads_and_deletes_only_theirs(tenant: Tenant, client: httpx.Client) -> None:
    mine, theirs = make_session(client, user_id="alice"), make_session(client, user_id="bob")

    with tenant.make_key(user_id="alice").client("/operativus") as alice:
        assert alice.get(f"/api/sessions/{theirs}").status_code == 404
        assert alice.delete(f"/api/sessions/{theirs}").status_code == 204
        assert alice.get(f"/api/sessions/{mine}").status_code == 200
        assert alice.delete(f"/api/sessions/{mine}").status_code == 204

    assert client.get(f"/v1/sessions/{theirs}").status_code == 200
    assert client.get(f"/v1/sessions/{mine}").status_code == 404


def test_another_workspaces_session_looks_like_none(tenant: Tenant, client: httpx.Client) -> None:
    session_id = make_session(client)

    with tenant.serving.make_tenant().client("/operativus") as stranger:
        assert ids(stranger.get("/api/sessions")) == []
        assert stranger.get(f"/api/sessions/{session_id}").status_code == 404
        assert stranger.delete(f"/api/sessions/{session_id}").status_code == 204

    assert client.get(f"/v1/sessions/{session_id}").status_code == 200


def test_an_error_is_written_as_spring_writes_it(tenant: Tenant) -> None:
    before = time.time()

    with tenant.client("/operativus") as client:
        error = client.get("/api/sessions/none").json()

    timestamp = error.pop("timestamp")
    assert timestamp.endswith("Z")
    assert abs(datetime.fromisoformat(timestamp).timestamp() - before) < 60
    assert error == {
        "status": 404,
        "error": "Not Found",
        "message": "no such session",
        "path": "/operativus/api/sessions/none",
    }


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (errors.InvalidInput("x"), 400, "Bad Request"),
        (errors.Unauthenticated("x"), 401, "Unauthorized"),
        (errors.Forbidden("x"), 403, "Forbidden"),
        (errors.NotFound("x"), 404, "Not Found"),
        (MethodNotAllowed(["GET"]), 405, "Method Not Allowed"),
        (errors.Conflict("x"), 409, "Conflict"),
        (errors.PreconditionFailed("x"), 412, "Precondition Failed"),
        (errors.TooLarge("x"), 413, "Payload Too Large"),
        (errors.KeyReused("x"), 422, "Unprocessable Entity"),
        (errors.TooMany("x"), 429, "Too Many Requests"),
        (Internal("x"), 500, "Internal Server Error"),
        (errors.Unavailable("x"), 503, "Service Unavailable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_error_has_its_status_and_words(error: errors.SessiondError, status: int, reason: str) -> None:
    answer = DIALECT.render(Problem(error=error, path="/p", request_id="r", route=None))

    body = msgspec.json.decode(answer.body)
    assert answer.status == body["status"] == status
    assert body["error"] == reason


def test_the_openapi_document_names_every_route(tenant: Tenant) -> None:
    with tenant.client("/operativus") as client:
        document = client.get("/openapi.json").json()

    assert document == msgspec.json.decode(
        msgspec.json.encode(make_document(DIALECT, version=document["info"]["version"]))
    )
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == {
        (route.path, route.method.lower()) for route in DIALECT.routes
    }
    page = document["components"]["schemas"]["PageOut"]
    assert {"content", "totalElements", "totalPages", "number"} <= set(page["required"])
