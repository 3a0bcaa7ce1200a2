"""Exports over real HTTP: streamed, of whom the key may see, and no more at once than the database bears."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from sessiond.core.bundle_order import read_bundle
from sessiond.core.bundle_records import End, Header
from sessiond.core.caller import Scope
from tests.serving import Tenant


@pytest.fixture
def client_with_two(client: httpx.Client) -> httpx.Client:
    for user in ("ada", "ben"):
        new = {"id": user, "user_id": user, "messages": [{"content": f"{user}'s word"}]}
        client.post("/v1/sessions", json=new).raise_for_status()
    return client


def export(client: httpx.Client, **asked: str) -> httpx.Response:
    return client.get("/v1/export", params=asked)


def ids(answer: httpx.Response) -> list[str]:
    """Return the sessions of a bundle, which must be whole."""
    assert answer.status_code == 200, answer.text
    lines = answer.content.splitlines(keepends=True)
    first, *_, last = read_bundle(lines)
    assert isinstance(first.record, Header)
    assert isinstance(last.record, End)
    records = map(msgspec.json.decode, lines)
    return [record["id"] for record in records if record["type"] == "session"]


def test_a_workspace_and_its_parts_are_streamed_as_lines(client_with_two: httpx.Client) -> None:
    whole = export(client_with_two)

    assert ids(whole) == ["ada", "ben"]
    assert whole.headers["content-type"] == "application/x-ndjson"
    assert whole.headers["cache-control"] == "no-store"
    assert ids(export(client_with_two, user_id="ada")) == ["ada"]
    assert ids(export(client_with_two, session_id="ben")) == ["ben"]
    assert ids(export(client_with_two, agent_id="a")) == []
    assert client_with_two.head("/v1/export").status_code in (200, 405)


def test_a_key_of_a_user_exports_what_is_theirs(client_with_two: httpx.Client, tenant: Tenant) -> None:
    bound = tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ}), user_id="ada")
    with bound.client() as ada:
        assert ids(export(ada)) == ["ada"]
        assert ids(export(ada, session_id="ada")) == ["ada"]
        assert export(ada, session_id="ben").status_code == 404
        assert export(ada, user_id="ben").status_code == 403
        assert export(ada, agent_id="a").status_code == 403


def test_what_cannot_be_exported_says_why(client_with_two: httpx.Client, tenant: Tenant) -> None:
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})).client() as reader:
        assert export(reader).status_code == 403
    assert export(client_with_two, session_id="none").status_code == 404
    assert export(client_with_two, session_id="a/b").status_code in (400, 422)
    both = export(client_with_two, session_id="ada", user_id="ada")
    assert both.status_code in (400, 422)
    assert "send one of agent_id, user_id and session_id" in both.text
    assert "user_id is empty" in export(client_with_two, user_id="").text


def test_of_too_many_exports_one_is_told_to_come_again(client_with_two: httpx.Client, tenant: Tenant) -> None:
    site = tenant.serving.site
    taken = 0

    async def take() -> None:
        await site.exports.acquire()

    async def give() -> None:
        site.exports.release()

    try:
        while not site.exports.locked():
            tenant.serving.run(take())
            taken += 1
        answer = export(client_with_two)
    finally:
        for _ in range(taken):
            tenant.serving.run(give())

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"
    assert ids(export(client_with_two)) == ["ada", "ben"]
    assert taken == 2
