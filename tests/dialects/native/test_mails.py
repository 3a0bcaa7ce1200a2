"""Mails over real HTTP: put into inboxes raw and as JSON, and what is found in them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.dialects.native.mailing import CODE, RAW, SAID, make_inbox, put_mail, put_raw, read_all


@pytest.fixture
def inbox(client: httpx.Client) -> str:
    made: str = make_inbox(client)["id"]
    return made


def test_a_raw_mail_is_kept_as_it_came_and_read(client: httpx.Client, inbox: str) -> None:
    path, headers = f"/v1/inboxes/{inbox}/mails", {"Content-Type": "message/rfc822"}
    put = client.post(path, content=RAW, headers=headers)

    mail = put.json()
    assert (put.status_code, put.headers["location"]) == (201, f"/v1/mails/{mail['id']}")
    (found,) = mail["extractions"]
    assert {name: mail[name] for name in mail if name not in ("id", "received_at", "extractions")} == {
        "inbox_id": inbox,
        "session_id": None,
        "from": "noreply@acme.example",
        "from_name": "Acme",
        "to": ["someone@here.example"],
        "subject": "Confirm your address",
        "message_id": "<one@acme.example>",
        "sent_at": "2026-11-21T16:55:46.000000Z",
        "size": len(RAW),
    }
    assert mail["id"].startswith("msg_")
    assert found == {
        "type": "otp",
        "value": CODE,
        "url": None,
        "confidence": found["confidence"],
        "source": "text",
        "candidates": found["candidates"],
    }
    assert found["candidates"][0] == {"value": CODE, "confidence": found["confidence"], "source": "text"}
    assert client.get(f"/v1/inboxes/{inbox}").json()["mail_count"] == 1

    full = client.get(put.headers["location"]).json()
    assert full == mail | {
        "text": f"{SAID}\n",
        "html": None,
        "headers": full["headers"],
        "attachments": [],
        "defects": [],
    }
    assert full["headers"][2] == ["Subject", "Confirm your address"]

    raw = client.get(f"/v1/mails/{mail['id']}/raw")
    assert (raw.status_code, raw.content) == (200, RAW)
    assert {name: raw.headers[name] for name in ("content-type", "content-disposition", "x-content-type-options")} == {
        "content-type": "message/rfc822",
        "content-disposition": f'attachment; filename="{mail["id"]}.eml"',
        "x-content-type-options": "nosniff",
    }


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "application/octet-stream", "Message/RFC822"])
def test_a_raw_mail_may_be_called_otherwise(client: httpx.Client, inbox: str, kind: str) -> None:
    assert put_raw(client, inbox, content_type=kind)["subject"] == "Confirm your address"


def test_a_mail_that_is_damaged_is_taken_and_says_what_is_wrong(client: httpx.Client, inbox: str) -> None:
    mail = put_raw(client, inbox, b"\xff\x00 no mail at all")["id"]

    full = client.get(f"/v1/mails/{mail}").json()

    assert (full["from"], full["to"], full["subject"], full["sent_at"]) == ("", [], "", None)
    assert "From has no address" in full["defects"]


def test_what_hangs_on_a_mail_is_told_by_name(client: httpx.Client, inbox: str) -> None:
    raw = (
        b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nsee there\r\n--x\r\n"
        b'Content-Type: application/pdf\r\nContent-Disposition: attachment; filename="bill.pdf"\r\n\r\nPDF\r\n--x--'
    )

    full = client.get(f"/v1/mails/{put_raw(client, inbox, raw)['id']}").json()

    assert full["attachments"] == [{"name": "bill.pdf", "content_type": "application/pdf", "size": 3}]
    assert full["text"] == "see there"


@pytest.mark.parametrize("kind", [None, "application/json", "application/json; charset=utf-8"])
def test_a_mail_is_written_from_its_fields(client: httpx.Client, inbox: str, kind: str | None) -> None:
    body = {
        "from": "Ann <ann@here.example>",
        "to": ["Bob <bob@there.example>", "eve@there.example"],
        "subject": "Grüße",
        "text": "Hallo",
        "html": "<p>Hallo</p>",
        "message_id": "one@here.example",
        "sent_at": "2026-11-21T18:55:46+01:00",
    }
    headers = {"Content-Type": kind} if kind is not None else {}

    path, content = f"/v1/inboxes/{inbox}/mails", httpx.Request("POST", "http://x", json=body).content
    mail = client.post(path, content=content, headers=headers).raise_for_status().json()["id"]

    full = client.get(f"/v1/mails/{mail}").json()
    wanted = body | {
        "from": "ann@here.example",
        "from_name": "Ann",
        "to": ["bob@there.example", "eve@there.example"],
        "message_id": "<one@here.example>",
        "sent_at": "2026-11-21T17:55:46.000000Z",
    }
    assert {name: full[name] for name in wanted} == wanted
    assert full["defects"] == []


def test_a_mail_of_which_little_is_said_has_a_date_and_an_id(client: httpx.Client, inbox: str) -> None:
    mail = put_mail(client, inbox, text=None)

    full = client.get(f"/v1/mails/{mail['id']}").json()

    assert (full["to"], full["subject"], full["html"], full["extractions"], full["defects"]) == ([], "", None, [], [])
    assert full["message_id"].endswith("@localhost>")
    assert full["sent_at"][:10] == full["received_at"][:10]


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, "from"),
    ({"from": "nobody"}, 400, "from"),
    ({"from": "a@b.example\r\nBcc: c@d.example"}, 400, "from"),
    ({"from": "x" * 2_000}, 413, "from"),
    ({"to": "c@d.example"}, 400, "to"),
    ({"to": ["c@d.example", "nobody"]}, 400, "to"),
    ({"to": ["c@d.example"] * 101}, 400, "to"),
    ({"subject": "a\r\nBcc: c@d.example"}, 400, "subject"),
    ({"subject": "x" * 2_000}, 413, "subject"),
    ({"text": "a\0b"}, 400, "text"),
    ({"html": "a\0b"}, 400, "html"),
    ({"message_id": "a b"}, 400, "message_id"),
    ({"sent_at": "yesterday"}, 400, "sent_at"),
]


@pytest.mark.parametrize(("body", "status", "field"), WRONG)
def test_a_wrong_mail_is_refused_by_the_name_of_what_is_wrong(
    client: httpx.Client, inbox: str, body: dict[str, Any], status: int, field: str
) -> None:
    said = {"from": "a@b.example"} | body if body else body
    refused = client.post(f"/v1/inboxes/{inbox}/mails", json=said)

    assert (refused.status_code, refused.json()["field"]) == (status, field)
    assert field in refused.json()["detail"]
    assert client.get(f"/v1/inboxes/{inbox}/mails").json()["data"] == []


def test_what_is_neither_a_mail_nor_its_fields_is_refused(client: httpx.Client, inbox: str) -> None:
    path = f"/v1/inboxes/{inbox}/mails"

    for kind in ("image/png", "application/xml", "multipart/form-data; boundary=x"):
        refused = client.post(path, content=RAW, headers={"Content-Type": kind})
        assert (refused.status_code, refused.json()["field"]) == (400, "Content-Type")
        assert "message/rfc822" in refused.json()["detail"]
    empty = client.post(path, content=b"", headers={"Content-Type": "message/rfc822"})
    assert (empty.status_code, empty.json()["field"]) == (400, "body")
    large = client.post(path, content=b"x" * 2**21, headers={"Content-Type": "message/rfc822"})
    assert (large.status_code, large.json()["field"]) == (413, "body")
    assert client.post("/v1/inboxes/none/mails", json={"from": "a@b.example"}).status_code == 404


def test_mails_are_listed_page_by_page_in_either_order_without_what_is_wide(client: httpx.Client, inbox: str) -> None:
    put_mail(client, make_inbox(client)["id"])
    made = [put_mail(client, inbox, subject=str(number)) for number in range(5)]

    path = f"/v1/inboxes/{inbox}/mails"
    for order, wanted in (("asc", made), ("desc", made[::-1])):
        assert read_all(client, path, limit=2, order=order) == wanted
    assert client.get(f"{path}?limit=1&include=total").json()["total"] == 5
    cursor = client.get(f"{path}?limit=1").json()["next_cursor"]
    assert client.get(f"{path}?order=asc&offset=4").json()["data"] == made[4:]
    for query, field in (("order=up", "order"), (f"order=asc&cursor={cursor}", "cursor"), ("include=x", "include")):
        assert client.get(f"{path}?{query}").json()["field"] == field


def test_what_was_found_in_an_inboxs_mails_is_listed_the_newest_first(client: httpx.Client, inbox: str) -> None:
    mails = [put_mail(client, inbox, text=f"Your verification code is 77120{number}.") for number in range(3)]
    for _ in range(2):
        put_mail(client, inbox, text="See you on Monday.")

    page = client.get(f"/v1/inboxes/{inbox}/extractions?limit=2").json()
    rest = client.get(f"/v1/inboxes/{inbox}/extractions?limit=2&cursor={page['next_cursor']}").json()

    assert [found["value"] for found in page["data"]] == ["771202", "771201"]
    assert [found["value"] for found in rest["data"]] == ["771200"]
    assert (rest["next_cursor"], rest["prev_cursor"]) == (None, None)
    newest = mails[2]
    assert page["data"][0] == {
        "mail_id": newest["id"],
        **newest["extractions"][0],
        "received_at": newest["received_at"],
    }
    ascending = client.get(f"/v1/inboxes/{inbox}/extractions?order=asc").json()["data"]
    assert [found["mail_id"] for found in ascending] == [mail["id"] for mail in mails]
    assert client.get(f"/v1/inboxes/{make_inbox(client)['id']}/extractions").json()["data"] == []
    assert client.get("/v1/inboxes/none/extractions").status_code == 404


def test_a_page_that_is_full_at_the_last_mail_has_none_behind_it(client: httpx.Client, inbox: str) -> None:
    for _ in range(2):
        put_mail(client, inbox)

    page = client.get(f"/v1/inboxes/{inbox}/extractions?limit=2").json()

    assert (len(page["data"]), page["next_cursor"]) == (2, None)


def test_who_looks_once_more_finds_the_same(client: httpx.Client, inbox: str) -> None:
    mail = put_mail(client, inbox)

    again = client.post(f"/v1/mails/{mail['id']}/extract")

    assert (again.status_code, again.json()) == (200, {"data": mail["extractions"]})
    assert client.post("/v1/mails/none/extract").status_code == 404


def test_a_mail_that_comes_twice_under_one_key_is_put_in_once(client: httpx.Client, inbox: str) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "message/rfc822"}

    first, again = (client.post(f"/v1/inboxes/{inbox}/mails", content=RAW, headers=headers) for _ in range(2))

    assert (again.status_code, again.json()) == (201, first.json())
    assert client.get(f"/v1/inboxes/{inbox}/mails?include=total").json()["total"] == 1
