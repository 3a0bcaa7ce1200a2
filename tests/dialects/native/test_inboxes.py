"""Inboxes over real HTTP, on both engines."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import httpx
import pytest

from sessiond.core.caller import Scope
from tests.dialects.agents import eventually
from tests.dialects.native.mailing import make_inbox, make_wait, put_mail, read_all, read_wait
from tests.dialects.native.working import make_session, read_log
from tests.serving import Tenant


def ids(page: Any) -> list[str]:
    return [one["id"] for one in page["data"]]


def test_an_inbox_is_made_read_listed_and_removed(client: httpx.Client) -> None:
    make_session(client, user_id="ada")

    body = {"session_id": "s", "purpose": "sign up", "metadata": {"site": "acme"}, "ttl_seconds": 3600}
    made = client.post("/v1/inboxes", json=body)

    inbox = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/v1/inboxes/{inbox['id']}")
    address, created, expires = (inbox[name] for name in ("address", "created_at", "expires_at"))
    assert inbox == {
        "id": inbox["id"],
        "session_id": "s",
        "user_id": "ada",
        "address": address,
        "purpose": "sign up",
        "metadata": {"site": "acme"},
        "status": "active",
        "mail_count": 0,
        "created_at": created,
        "expires_at": expires,
        "expired_at": None,
    }
    assert inbox["id"].startswith("inb_")
    assert address.endswith("@localhost")
    assert created < expires
    assert client.get(made.headers["location"]).json() == inbox
    assert client.get("/v1/inboxes?session_id=s").json() == {"data": [inbox], "next_cursor": None, "prev_cursor": None}

    removed = client.delete(made.headers["location"])

    assert (removed.status_code, removed.content) == (204, b"")
    assert client.get(made.headers["location"]).status_code == 404
    assert client.delete(made.headers["location"]).status_code == 404
    assert client.get("/v1/inboxes").json()["data"] == []


def test_an_inbox_needs_nothing_said_of_it(client: httpx.Client) -> None:
    made = client.post("/v1/inboxes")

    assert made.status_code == 201
    assert [made.json()[name] for name in ("session_id", "user_id", "purpose", "metadata", "expires_at")] == [
        *(None, None, None),
        {},
        None,
    ]


def test_the_log_tells_of_an_inbox_in_this_wires_words(client: httpx.Client) -> None:
    make_session(client)
    inbox = make_inbox(client, session_id="s", purpose="p", ttl_seconds=60)
    put_mail(client, inbox["id"], subject="Hello")
    client.delete(f"/v1/inboxes/{inbox['id']}").raise_for_status()

    told = {event["type"]: event["data"] for event in read_log(client)[1:]}

    assert told["inbox.created"] == {
        "inbox_id": inbox["id"],
        "address": inbox["address"],
        "purpose": "p",
        "expires_at": inbox["expires_at"],
    }
    assert {name: told["mail.received"][name] for name in ("inbox_id", "from", "subject")} == {
        "inbox_id": inbox["id"],
        "from": "noreply@acme.example",
        "subject": "Hello",
    }
    assert told["inbox.deleted"] == {"inbox_id": inbox["id"]}
    steps = client.post("/v1/sessions/s/replay").json()["steps"]
    assert [step["action"] for step in steps] == ["create_session", "create_inbox", "receive_mail", "delete_inbox"]
    assert steps[1]["input"] == {"ttl_seconds": 60, "purpose": "p"}


def test_inboxes_are_listed_page_by_page_in_either_order(client: httpx.Client) -> None:
    made = [make_inbox(client)["id"] for _ in range(5)]

    for order, wanted in (("asc", made), ("desc", made[::-1])):
        assert [inbox["id"] for inbox in read_all(client, "/v1/inboxes", limit=2, order=order)] == wanted
    cursor = client.get("/v1/inboxes?limit=1").json()["next_cursor"]
    assert ids(client.get("/v1/inboxes?order=asc&offset=3").json()) == made[3:]
    assert client.get("/v1/inboxes?limit=1&include=total").json()["total"] == 5
    assert client.get(f"/v1/inboxes?order=asc&cursor={cursor}").json()["field"] == "cursor"
    assert client.get(f"/v1/inboxes?offset=1&cursor={cursor}").json()["field"] == "offset"
    assert all(before < after for before, after in pairwise(made))


def test_inboxes_are_found_by_session_and_by_whether_they_take_mail(client: httpx.Client) -> None:
    make_session(client)
    short = make_inbox(client, ttl_seconds=1, session_id="s")["id"]
    lasting = make_inbox(client, session_id="s")["id"]
    alone = make_inbox(client)["id"]

    eventually(lambda: client.get(f"/v1/inboxes/{short}").json()["status"] == "expired")

    assert ids(client.get("/v1/inboxes?session_id=s").json()) == [lasting, short]
    assert ids(client.get("/v1/inboxes?active=true").json()) == [alone, lasting]
    assert ids(client.get("/v1/inboxes?active=false").json()) == [short]
    assert client.get("/v1/inboxes?session_id=s&active=true&include=total").json()["total"] == 1
    assert client.get("/v1/inboxes?session_id=nobodys").json()["data"] == []
    for empty in ("session_id", "active"):
        assert client.get(f"/v1/inboxes?{empty}=").json()["field"] == empty


def test_an_inbox_whose_time_is_over_takes_no_mail_and_nobody_waits_for_one(client: httpx.Client) -> None:
    inbox = make_inbox(client, ttl_seconds=1)["id"]
    wait = make_wait(client, "email", inbox_id=inbox)["id"]

    ended = read_wait(client, wait, wait=20)

    assert (ended["status"], ended["reason"]) == ("cancelled", "the inbox expired")
    seen = client.get(f"/v1/inboxes/{inbox}").json()
    assert (seen["status"], seen["expired_at"] >= seen["expires_at"]) == ("expired", True)
    refused = client.post(f"/v1/inboxes/{inbox}/mails", json={"from": "a@b.example"})
    assert (refused.status_code, refused.json()["detail"]) == (404, "the inbox takes no more mail")
    assert client.post("/v1/waits", json={"type": "email", "inbox_id": inbox}).status_code == 409


def test_with_an_inbox_its_mails_go_and_what_waits_for_one(client: httpx.Client) -> None:
    inbox = make_inbox(client)["id"]
    mail = put_mail(client, inbox)["id"]
    wait = make_wait(client, "email", inbox_id=inbox)["id"]

    client.delete(f"/v1/inboxes/{inbox}").raise_for_status()

    ended = read_wait(client, wait)
    assert (ended["status"], ended["reason"]) == ("cancelled", "the inbox was deleted")
    for gone in (f"/v1/mails/{mail}", f"/v1/mails/{mail}/raw", f"/v1/inboxes/{inbox}/mails"):
        assert client.get(gone).status_code == 404


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"ttl_seconds": 0}, 400, "ttl_seconds"),
    ({"ttl_seconds": 2**31}, 400, "ttl_seconds"),
    ({"ttl_seconds": 1.5}, 400, "ttl_seconds"),
    ({"purpose": "x" * 1001}, 413, "purpose"),
    ({"purpose": "a\nb"}, 400, "purpose"),
    ({"metadata": []}, 400, "metadata"),
    ({"metadata": {"a": "x" * 65_536}}, 413, "metadata"),
    ({"session_id": "a/b"}, 400, "session_id"),
    ({"user_id": ""}, 400, "user_id"),
]


@pytest.mark.parametrize(("body", "status", "field"), WRONG)
def test_a_wrong_inbox_is_refused_by_the_name_of_what_is_wrong(
    client: httpx.Client, body: dict[str, Any], status: int, field: str
) -> None:
    refused = client.post("/v1/inboxes", json=body)

    assert (refused.status_code, refused.json()["field"]) == (status, field)
    assert client.get("/v1/inboxes").json()["data"] == []


def test_an_ended_session_gets_no_inbox(client: httpx.Client) -> None:
    make_session(client)
    client.post("/v1/sessions/s/complete").raise_for_status()

    assert client.post("/v1/inboxes", json={"session_id": "s"}).status_code == 409
    assert client.post("/v1/inboxes", json={"session_id": "nobodys"}).status_code == 404


def test_a_request_that_comes_twice_makes_one_inbox(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k"}

    first, again = (client.post("/v1/inboxes", json={"purpose": "p"}, headers=headers) for _ in range(2))

    assert (again.status_code, again.json(), again.headers["location"]) == (
        201,
        first.json(),
        first.headers["location"],
    )
    assert client.get("/v1/inboxes?include=total").json()["total"] == 1


def test_a_users_key_sees_and_makes_its_users_inboxes_only(tenant: Tenant, client: httpx.Client) -> None:
    make_session(client, user_id="bob")
    bobs = make_inbox(client, session_id="s")["id"]
    mail = put_mail(client, bobs)["id"]
    nobodys = make_inbox(client)["id"]

    with tenant.make_key(user_id="ada").client() as ada:
        mine = make_inbox(ada)

        assert mine["user_id"] == "ada"
        assert ids(ada.get("/v1/inboxes").json()) == [mine["id"]]
        for inbox in (bobs, nobodys):
            for path in ("", "/mails", "/extractions"):
                assert ada.get(f"/v1/inboxes/{inbox}{path}").status_code == 404
            assert ada.delete(f"/v1/inboxes/{inbox}").status_code == 404
            assert ada.post(f"/v1/inboxes/{inbox}/mails", json={"from": "a@b.example"}).status_code == 404
        assert ada.get(f"/v1/mails/{mail}").status_code == 404
        assert ada.post("/v1/inboxes", json={"session_id": "s"}).status_code == 404
        refused = ada.post("/v1/inboxes", json={"user_id": "bob"})
        assert (refused.status_code, refused.json()["field"]) == (403, "user_id")
    assert ids(client.get("/v1/inboxes").json()) == [mine["id"], nobodys, bobs]


def test_scopes_decide_who_reads_and_who_writes(tenant: Tenant, client: httpx.Client) -> None:
    inbox = make_inbox(client)["id"]
    mail = put_mail(client, inbox)["id"]
    reading = ("/v1/inboxes", f"/v1/inboxes/{inbox}", f"/v1/inboxes/{inbox}/mails", f"/v1/mails/{mail}")
    with (
        tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ})).client() as reader,
        tenant.make_key(scopes=frozenset({Scope.SESSIONS_WRITE})).client() as writer,
    ):
        assert [reader.get(path).status_code for path in reading] == [200] * 4
        assert [writer.get(path).status_code for path in reading] == [403] * 4
        for path, body in (("/v1/inboxes", {}), (f"/v1/inboxes/{inbox}/mails", {"from": "a@b.example"})):
            assert reader.post(path, json=body).status_code == 403
            assert writer.post(path, json=body).status_code == 201
        assert reader.delete(f"/v1/inboxes/{inbox}").status_code == 403
        assert writer.delete(f"/v1/inboxes/{inbox}").status_code == 204
