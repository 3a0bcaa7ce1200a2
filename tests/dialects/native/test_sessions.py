"""The native wire, over real HTTP, on both engines."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sessiond.core.caller import Scope
from tests.serving import Tenant

AGENTS = {"there": True, "elsewhere": False, None: None}
"""An agent, and whether it is registered."""


def test_a_session_is_created_and_read_back(client: httpx.Client) -> None:
    made = client.post("/v1/sessions", json={"name": "first", "metadata": {"a": "b"}})

    assert made.status_code == 201
    read = client.get(made.headers["location"])
    assert read.json() == made.json()
    assert read.headers["etag"] == made.headers["etag"]


def test_a_session_is_read_with_the_ids_of_what_is_in_it_where_that_is_asked_for(client: httpx.Client) -> None:
    for session_id in "st":
        client.post("/v1/sessions", json={"id": session_id}).raise_for_status()
    made: dict[str, list[str]] = {"inboxes": [], "waits": []}
    for _ in range(3):
        made["inboxes"].append(client.post("/v1/inboxes", json={"session_id": "s"}).json()["id"])
        made["waits"].append(client.post("/v1/waits", json={"type": "approval", "session_id": "s"}).json()["id"])
    bare = client.get("/v1/sessions/s")
    assert not {"inboxes", "waits"} & bare.json().keys()

    for query, names in (
        ("include=inboxes", ["inboxes"]),
        ("include=waits", ["waits"]),
        ("include=waits,inboxes", ["inboxes", "waits"]),
        ("include=inboxes&include=%20waits,", ["inboxes", "waits"]),
    ):
        whole = client.get(f"/v1/sessions/s?{query}")
        assert whole.json() == bare.json() | {name: made[name] for name in names}
        assert whole.headers["etag"] == bare.headers["etag"]
    assert client.get("/v1/sessions/t?include=inboxes").json()["inboxes"] == []
    assert client.get("/v1/sessions/s?include=").content == bare.content
    refused = client.get("/v1/sessions/s?include=inboxes,total")
    assert (refused.status_code, refused.json()["field"]) == (400, "include")


@pytest.mark.parametrize("strategy", ["enqueue", "reject", "interrupt", None])
def test_what_becomes_of_messages_during_a_run_is_kept_and_changed(client: httpx.Client, strategy: str | None) -> None:
    made = client.post("/v1/sessions", json={"id": "s", "multitask_strategy": strategy}).json()
    assert made["multitask_strategy"] == strategy

    for other in ("interrupt", None, strategy):
        patched = client.patch("/v1/sessions/s", json={"multitask_strategy": other}).json()
        assert patched["multitask_strategy"] == other
        (shown,) = client.get("/v1/sessions").json()["data"]
        assert shown == patched


def test_a_session_says_whether_its_agent_is_registered(client: httpx.Client) -> None:
    client.put("/v1/agents/there", json={"runner": "echo"}).raise_for_status()

    made = [
        client.post("/v1/sessions", json={"id": str(n), "agent_id": agent}).json() for n, agent in enumerate(AGENTS)
    ]

    assert [session["agent_registered"] for session in made] == [True, False, None]
    assert client.get("/v1/sessions?order=asc").json()["data"] == made
    for agent, registered in AGENTS.items():
        patched = client.patch("/v1/sessions/0", json={"agent_id": agent}).json()
        assert patched["agent_registered"] is registered


def test_the_log_speaks_as_the_session_does(client: httpx.Client) -> None:
    there = {"expires_at": "2030-01-01T02:00:00+02:00", "accept_terms": True, "data": {"expires_at_us": 1}}
    shown = there | {"expires_at": "2030-01-01T00:00:00.000000Z"}
    client.post("/v1/sessions", json={"id": "s", **there}).raise_for_status()
    for patch in (there | {"accept_terms": False}, {"expires_at": None, "accept_terms": None, "status": "paused"}):
        client.patch("/v1/sessions/s", json=patch).raise_for_status()
    client.patch("/v1/sessions/s", json={"status": "active"}).raise_for_status()

    events = client.get("/v1/sessions/s/events").json()["data"]
    steps = client.post("/v1/sessions/s/replay").json()["steps"]

    said = [
        shown,
        shown | {"accept_terms": False},
        {"expires_at": None, "accept_terms": None, "status": "paused"},
    ]
    assert [event["data"] for event in events if event["type"] in ("session.created", "session.updated")] == said
    assert [step["input"] for step in steps] == [*said, {"status": "active"}]


def test_a_replay_is_shown_afresh_under_one_idempotency_key(client: httpx.Client) -> None:
    for session_id in "st":
        client.post("/v1/sessions", json={"id": session_id}).raise_for_status()

    def replay(session_id: str) -> httpx.Response:
        return client.post(f"/v1/sessions/{session_id}/replay", headers={"Idempotency-Key": "k"})

    assert len(replay("s").json()["steps"]) == 1
    client.patch("/v1/sessions/s", json={"name": "n"}).raise_for_status()
    assert len(replay("s").json()["steps"]) == 2
    assert (replay("t").status_code, replay("none").status_code) == (422, 404)


@pytest.mark.parametrize("field", ["agent_id", "user_id", "task_id", "status", "created_after", "created_before"])
def test_a_filter_that_lost_its_value_finds_nothing(client: httpx.Client, field: str) -> None:
    refused = client.get(f"/v1/sessions?{field}=")

    assert (refused.status_code, refused.json()["field"]) == (400, field)


def test_metadata_is_found_by_the_empty_string(client: httpx.Client) -> None:
    for session_id, metadata in (("a", {"k": ""}), ("b", {"k": "x"}), ("c", {})):
        client.post("/v1/sessions", json={"id": session_id, "metadata": metadata}).raise_for_status()

    assert [session["id"] for session in client.get("/v1/sessions?metadata.k=").json()["data"]] == ["a"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("/v1/sessions?sort=name", "sort must be created or updated"),
        ("/v1/sessions?order=up", "order must be asc or desc"),
        ("/v1/sessions/s/events?type=A", "type must be a type of event such as message.user, or its beginning and *"),
    ],
)
def test_a_refusal_says_what_is_allowed(client: httpx.Client, query: str, says: str) -> None:
    client.post("/v1/sessions", json={"id": "s"})

    assert client.get(query).json()["detail"] == says


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/s0/messages", "/v1/sessions/s0/events"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("extra", ["", "&include=total"])
def test_a_page_beyond_the_end_leads_back(client: httpx.Client, path: str, order: str, extra: str) -> None:
    messages = [{"content": "x"}, {"content": "y"}]
    for number in range(3):
        client.post("/v1/sessions", json={"id": f"s{number}", "messages": messages}).raise_for_status()
    sort = "&sort=updated" if path == "/v1/sessions" else ""
    whole: list[Any] = client.get(f"{path}?order={order}{sort}").json()["data"]

    beyond = client.get(f"{path}?order={order}&offset=50&limit=2{sort}{extra}").json()
    back = client.get(f"{path}?order={order}&limit=2&cursor={beyond['prev_cursor']}{sort}").json()

    assert (beyond["data"], beyond["next_cursor"]) == ([], None)
    assert back["data"] == whole[-2:]


def test_a_session_that_is_there_is_returned_to_whom_may_read_it(tenant: Tenant, client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"id": "s", "data": {"secret": 1}}).raise_for_status()
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_WRITE})).client() as writer:
        refused = writer.post("/v1/sessions", json={"id": "s", "if_exists": "return"})
        made = writer.post("/v1/sessions", json={"id": "t", "if_exists": "return"})

    assert (refused.status_code, made.status_code) == (403, 201)
    assert "secret" not in refused.text


@pytest.mark.parametrize("new", [{"scopes": []}, {"expires_at": "2020-01-01T00:00:00Z"}])
def test_a_key_that_would_be_good_for_nothing_is_refused(client: httpx.Client, new: dict[str, Any]) -> None:
    refused = client.post("/v1/keys", json=new)

    assert (refused.status_code, refused.json()["field"]) == (400, next(iter(new)))


def test_the_document_says_what_a_route_takes_and_answers(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    assert "metadata.<key>" in paths["/v1/sessions"]["get"]["description"]
    assert [each["name"] for each in paths["/v1/keys/{key_id}"]["delete"]["parameters"]] == ["key_id"]
    assert all("405" in operation["responses"] for path in paths.values() for operation in path.values())
