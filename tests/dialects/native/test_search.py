"""Searching on the native wire, over real HTTP, on both engines."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serving import Tenant


def say(client: httpx.Client, session_id: str, *contents: Any, **fields: Any) -> None:
    body = {"id": session_id, "messages": [{"content": content} for content in contents]} | fields
    client.post("/v1/sessions", json=body).raise_for_status()


def found(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [message["id"] for message in answer.json()["data"]]


def test_a_message_is_found_with_its_session_and_a_snippet(client: httpx.Client) -> None:
    say(client, "talk", "How long to Orbetello?", "An hour.")

    page = client.get("/v1/messages", params={"q": "ORBETELLO"}).json()

    message = client.get("/v1/sessions/talk/messages/msg_2.talk").json()
    shown = {"session_id": "talk", "snippet": "How long to Orbetello?", "matches": [[12, 21]]}
    assert page == {"data": [shown | message], "next_cursor": None, "complete": True}


def test_one_session_is_searched_in_its_list_of_messages(client: httpx.Client) -> None:
    say(client, "one", "same words", "others")
    say(client, "two", "same words")

    assert found(client.get("/v1/sessions/one/messages", params={"q": '"same words"'})) == ["msg_2.one"]
    assert found(client.get("/v1/messages", params={"q": "same", "session_id": "two"})) == ["msg_2.two"]
    assert client.get("/v1/sessions/none/messages", params={"q": "same"}).status_code == 404
    assert client.get("/v1/messages", params={"q": "same", "session_id": "none"}).status_code == 404


def test_a_cursor_goes_on_where_a_page_ended(client: httpx.Client) -> None:
    say(client, "s", *(f"word {number}" for number in range(7)))
    for path in ("/v1/messages", "/v1/sessions/s/messages"):
        read: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = client.get(path, params={"q": "word", "limit": 3, "cursor": cursor})
            read += found(page)
            cursor = page.json()["next_cursor"]
        assert read == [f"msg_{seq}.s" for seq in range(8, 1, -1)]


def test_a_search_is_narrowed_to_a_user_or_an_agent(client: httpx.Client, tenant: Tenant) -> None:
    say(client, "a", "hello", user_id="ann", agent_id="one")
    say(client, "b", "hello", user_id="bob", agent_id="two")

    assert found(client.get("/v1/messages?q=hello&user_id=ann")) == ["msg_3.a"]
    assert found(client.get("/v1/messages?q=hello&agent_id=two")) == ["msg_3.b"]
    with tenant.make_key(user_id="ann").client() as ann:
        assert found(ann.get("/v1/messages?q=hello")) == ["msg_3.a"]
        assert ann.get("/v1/messages?q=hello&user_id=bob").status_code == 403


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "q"),
        ("q=", "q"),
        ("q=%20", "q"),
        ("q=...", "q"),
        ("q=%22open", "q"),
        (f"q={'x' * 501}", "q"),
        ("q=x&limit=101", "limit"),
        ("q=x&limit=0", "limit"),
        ("q=x&cursor=nonsense", "cursor"),
        ("q=x&user_id=", "user_id"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(client: httpx.Client, query: str, field: str) -> None:
    answer = client.get(f"/v1/messages?{query}")

    assert answer.status_code == 400
    assert answer.json()["field"] == field


@pytest.mark.parametrize("other", ["after=1", "before=9", "offset=1", "include=total", "order=asc"])
def test_what_lists_take_cannot_be_combined_with_a_search(client: httpx.Client, other: str) -> None:
    say(client, "s", "x")

    answer = client.get(f"/v1/sessions/s/messages?q=x&{other}")

    assert answer.status_code == 400
    assert answer.json()["field"] == other.partition("=")[0]
    assert found(client.get("/v1/sessions/s/messages?q=x&order=desc")) == ["msg_2.s"]
    assert client.get("/v1/sessions/s/messages?q=").json()["field"] == "q"


def test_the_word_null_can_be_searched_for(client: httpx.Client) -> None:
    say(client, "s", "null and void")

    for path in ("/v1/messages", "/v1/sessions/s/messages"):
        assert found(client.get(path, params={"q": "null"})) == ["msg_2.s"]
