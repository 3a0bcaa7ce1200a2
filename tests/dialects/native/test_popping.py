"""Messages taken back, and appends with a version and with data, as clients of the native wire see them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sessiond.core.caller import Scope
from tests.dialects.native.working import say
from tests.serving import Tenant

MESSAGES = "/v1/sessions/s/messages"
POP = f"{MESSAGES}/pop"


def etag(client: httpx.Client) -> str:
    return client.get("/v1/sessions/s").headers["etag"]


def log_of(client: httpx.Client) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = client.get("/v1/sessions/s/events").raise_for_status().json()["data"]
    return events


@pytest.fixture
def made(client: httpx.Client) -> httpx.Client:
    """A client with a session `s`."""
    client.post("/v1/sessions", json={"id": "s"}).raise_for_status()
    return client


def test_the_last_message_is_answered_as_it_was_and_then_there_is_none(made: httpx.Client) -> None:
    said = say(made, "hello", metadata={"a": 1})

    popped, nothing = made.post(POP), made.post(POP)

    assert (popped.status_code, popped.json()) == (200, said)
    assert (nothing.status_code, nothing.content) == (204, b"")
    assert popped.headers["etag"] == nothing.headers["etag"] == etag(made)
    assert made.get(f"{MESSAGES}/{said['id']}").status_code == 404
    assert made.get(MESSAGES).json()["data"] == []
    assert made.get(MESSAGES, params={"q": "hello"}).json()["data"] == []
    told = log_of(made)[1:]
    assert [(event["type"], event["data"]) for event in told] == [
        ("removed", {}),
        ("session.message_removed", {"message_id": said["id"], "seq": said["seq"], "role": "user"}),
    ]
    assert "hello" not in str(told)
    (_, step) = made.post("/v1/sessions/s/replay").json()["steps"]
    assert (step["action"], step["input"], step["output"]) == ("pop_message", {}, told[1]["data"])


def test_who_takes_a_message_back_may_write_and_read(made: httpx.Client, tenant: Tenant) -> None:
    say(made, "hello")

    for scope in Scope.SESSIONS_READ, Scope.SESSIONS_WRITE:
        with tenant.make_key(scopes=frozenset({scope})).client() as client:
            refused = client.post(POP)
            assert (refused.status_code, "hello" in refused.text) == (403, False)
    assert made.post("/v1/sessions/none/messages/pop").status_code == 404
    made.post("/v1/sessions/s/complete").raise_for_status()
    assert made.post(POP).status_code == 409
    assert made.get("/v1/sessions/s").json()["message_count"] == 1


def test_an_append_guarded_by_a_version_answers_the_next_one(made: httpx.Client) -> None:
    version = etag(made)

    for number in range(3):
        answer = made.post(MESSAGES, json={"content": str(number)}, headers={"If-Match": version})
        assert answer.status_code == 201
        version = answer.headers["etag"]
        assert version == etag(made)
    assert "etag" not in made.post(MESSAGES, json={"content": "meanwhile"}).headers
    before = log_of(made)

    for path in MESSAGES, POP:
        refused = made.post(path, json={"content": "x", "data": {"a": 1}}, headers={"If-Match": version})
        assert (refused.status_code, refused.json()["title"]) == (412, "Precondition failed")
    assert log_of(made) == before
    any_version = made.post(MESSAGES, json={"messages": [{"content": "y"}]}, headers={"If-Match": "*"})
    assert any_version.headers["etag"] == etag(made)
    # What else is posted to a session has no such condition.
    assert made.post("/v1/sessions/s/complete", headers={"If-Match": version}).status_code == 200


def test_data_that_comes_with_messages_is_merged(made: httpx.Client) -> None:
    made.patch("/v1/sessions/s", json={"data": {"step": 1, "old": True}}).raise_for_status()

    answer = made.post(MESSAGES, json={"content": "x", "data": {"step": 2, "old": None}})

    assert (answer.status_code, answer.headers["etag"]) == (201, etag(made))
    assert made.get("/v1/sessions/s").json()["data"] == {"step": 2}
    assert [event["type"] for event in log_of(made)[-2:]] == ["session.updated", "message.user"]
    assert log_of(made)[-2]["data"] == {"data": {"step": 2, "old": None}}
    batch = made.post(MESSAGES, json={"messages": [{"content": "y"}, {"content": "z"}], "data": {"step": 3}})
    assert [message["content"] for message in batch.json()["data"]] == ["y", "z"]
    assert "etag" not in made.post(MESSAGES, json={"content": "x", "data": None}).headers
    assert made.get("/v1/sessions/s").json()["data"] == {"step": 3}
    for wrong in ("[]", "x", 1):
        refused = made.post(MESSAGES, json={"content": "x", "data": wrong})
        assert (refused.status_code, refused.json()["field"]) == (400, "data")


def test_a_guarded_append_that_comes_twice_under_one_key_is_answered_the_same(made: httpx.Client) -> None:
    headers = {"If-Match": etag(made), "Idempotency-Key": "once"}

    first, second = (made.post(MESSAGES, json={"content": "x", "data": {"n": 1}}, headers=headers) for _ in range(2))

    assert (second.status_code, second.content) == (201, first.content)
    assert first.headers["etag"] == second.headers["etag"] == etag(made)
    assert [made.post(POP, headers={"Idempotency-Key": "pop"}).json() for _ in range(2)] == [first.json()] * 2
