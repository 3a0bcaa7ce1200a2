"""Erasing over the native wire, and reading the receipts."""

from __future__ import annotations

import httpx

from sessiond.actions.erasures import verify
from sessiond.core.caller import Scope
from tests.serving import Tenant


def make(client: httpx.Client, session_id: str, **said: object) -> None:
    body = {"id": session_id, "messages": [{"content": "x"}]} | said
    client.post("/v1/sessions", json=body).raise_for_status()


def test_a_user_is_erased_and_the_receipt_can_be_read_again(client: httpx.Client) -> None:
    for number in range(3):
        make(client, f"s{number}", user_id="ada é" if number else "bob")

    answer = client.delete("/v1/users/ada%20%C3%A9/data")

    assert answer.status_code == 200
    receipt = answer.json()
    assert receipt["subject"]["id"] == "ada é"
    assert (receipt["counts"]["sessions"], receipt["counts"]["messages"], receipt["purged"]) == (2, 2, True)
    assert verify(answer.content).id == receipt["id"]
    assert [each["id"] for each in client.get("/v1/sessions").json()["data"]] == ["s0"]
    again = client.get(f"/v1/erasures/{receipt['id']}")
    del receipt["subject"]["id"]
    assert again.json() == receipt
    assert verify(again.content).subject.id is None


def test_a_session_is_erased_in_place_of_deleted(client: httpx.Client) -> None:
    make(client, "s")
    make(client, "t")
    etag = client.get("/v1/sessions/s").headers["etag"]
    client.post("/v1/sessions/s/messages", json={"content": "y"}).raise_for_status()

    assert client.delete("/v1/sessions/s?erase=true", headers={"If-Match": etag}).status_code == 412
    erased = client.delete("/v1/sessions/s?erase=true")

    assert (erased.status_code, erased.json()["subject"]["kind"]) == (200, "session")
    assert verify(erased.content).counts.messages == 2
    assert client.delete("/v1/sessions/s?erase=true").status_code == 404
    assert client.delete("/v1/sessions/t?erase=false").status_code == 204
    assert client.delete("/v1/sessions/t?erase=perhaps").status_code == 400


def test_receipts_are_listed_the_last_first(client: httpx.Client) -> None:
    made = [client.delete(f"/v1/users/u{number}/data").json()["id"] for number in range(3)]

    first = client.get("/v1/erasures?limit=2").json()
    second = client.get("/v1/erasures", params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [each["id"] for each in first["data"] + second["data"]] == made[::-1]
    assert second["next_cursor"] is None
    assert client.get("/v1/erasures?cursor=nonsense").status_code == 400
    assert client.get("/v1/erasures/era_none").status_code == 404


def test_a_users_own_key_erases_that_user_and_no_other(tenant: Tenant, client: httpx.Client) -> None:
    for user in ("ada", "bob"):
        make(client, user, user_id=user)
    scopes = frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})

    with (
        tenant.make_key(user_id="ada", scopes=scopes).client() as bound,
        tenant.make_key(scopes=scopes).client() as unbound,
    ):
        for refused in (
            bound.delete("/v1/users/bob/data"),
            unbound.delete("/v1/users/ada/data"),
            bound.get("/v1/erasures"),
        ):
            assert refused.status_code == 403
        assert bound.delete("/v1/sessions/bob?erase=true").status_code == 404
        assert bound.delete("/v1/users/ada/data").json()["counts"]["sessions"] == 1

    assert [each["id"] for each in client.get("/v1/sessions").json()["data"]] == ["bob"]
