"""Messages of the agentinbox wire, which are mails that came, and what was found in them."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any

import httpx

from sessiond.actions.mails import Mailboxes
from sessiond.core.caller import Scope
from tests.dialects.agentinbox.mailing import (
    CODE,
    RESET,
    SIGN_IN,
    TIME,
    create_inbox,
    create_session,
    get,
    make_mail,
    message_in,
    send,
)
from tests.serving import Tenant

MAGIC_URL = "https://app.example.com/auth/magic?token=abcdef0123456789"


def _ids(listed: dict[str, Any]) -> list[str]:
    return [one["id"] for one in listed["data"]]


def test_a_message_of_a_list_has_all_that_documents_and_clients_read(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    send(tenant, inbox)

    listed = get(api, f"/inboxes/{inbox['id']}/messages")

    [message] = listed.pop("data")
    assert listed == {
        "object": "list",
        "pagination": {"limit": 20, "offset": 0, "total": 1},
        "hasMore": False,
        "nextCursor": None,
    }
    assert message.pop("id").startswith("msg_")
    assert TIME.fullmatch(message.pop("receivedAt"))
    assert message.pop("sizeBytes") > len(CODE)
    assert message == {
        "object": "message",
        "inboxId": inbox["id"],
        "subject": "Your code",
        "from": "noreply@example.com",
        "to": [inbox["emailAddress"]],
        "fromEmail": "noreply@example.com",
        "fromName": "Example",
        "toEmail": inbox["emailAddress"],
        "hasAttachments": False,
        "read": False,
    }


def test_a_message_in_full_has_what_it_says(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    send(tenant, inbox, html=f"<p>{CODE}</p>")
    listed = message_in(api, inbox)

    message = get(api, f"/messages/{listed['id']}")

    full = {name: message.pop(name) for name in ("headers", "body", "textBody", "htmlBody", "extractions")}
    assert message == listed | {"read": True}
    assert full["headers"]["Subject"] == "Your code"
    assert full["headers"]["Content-Type"].startswith("multipart/alternative")
    assert full["body"]["text"].strip() == CODE
    assert full["body"]["html"].strip() == f"<p>{CODE}</p>"
    assert (full["textBody"], full["htmlBody"]) == (full["body"]["text"], full["body"]["html"])
    assert "\nSubject: Your code" in full["body"]["raw"].replace("\r\n", "\n")
    [extraction] = full["extractions"]
    candidates = extraction.pop("candidates")
    assert 0.5 < extraction.pop("confidence") <= 1
    assert extraction == {
        "id": f"ext_otp.{message['id']}",
        "object": "extraction",
        "inboxId": inbox["id"],
        "messageId": message["id"],
        "type": "otp",
        "value": "482913",
        "url": None,
        "source": "text",
        "createdAt": message["receivedAt"],
    }
    assert candidates[0].keys() == {"value", "confidence", "source"}
    assert candidates[0]["value"] == "482913"


def test_a_message_that_says_little_is_shown_all_the_same(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    mail = EmailMessage()
    mail["To"] = inbox["emailAddress"]
    mail["X-Twice"], mail["x-twice"] = "one", "two"
    mail.set_content(b"\xff\xfe", maintype="application", subtype="octet-stream", filename="a.bin", cte="8bit")
    _deliver(tenant, inbox, mail.as_bytes())

    message = get(api, f"/messages/{message_in(api, inbox)['id']}")

    shown = {name: message[name] for name in ("subject", "from", "fromEmail", "fromName", "hasAttachments")}
    assert shown == {"subject": None, "from": "", "fromEmail": None, "fromName": None, "hasAttachments": True}
    assert message["headers"]["X-Twice"] == "one, two"
    assert message["body"]["text"] is message["textBody"] is None
    assert "\ufffd\ufffd" in message["body"]["raw"]
    assert message["extractions"] == []


def _deliver(tenant: Tenant, inbox: dict[str, Any], raw: bytes) -> None:
    """Put a mail into an inbox that has no sender at all."""
    mailboxes = Mailboxes(tenant.serving.site.engine)
    tenant.serving.run(mailboxes.deliver([inbox["emailAddress"]], raw, sender=""))


def test_messages_are_listed_newest_first_and_paged(tenant: Tenant, api: httpx.Client) -> None:
    inbox, other = create_inbox(api), create_inbox(api)
    for number in range(5):
        send(tenant, inbox, "Hello", subject=f"Number {number}")
    send(tenant, other)
    path = f"/inboxes/{inbox['id']}/messages"

    listed = get(api, path)
    ids = _ids(listed)

    assert [message["subject"] for message in listed["data"]] == [f"Number {number}" for number in (4, 3, 2, 1, 0)]
    by_offset = [get(api, f"{path}?limit=2&offset={offset}") for offset in (0, 2, 4, 6)]
    assert [_ids(page) for page in by_offset] == [ids[:2], ids[2:4], ids[4:], []]
    assert [page["pagination"]["total"] for page in by_offset] == [5] * 4
    second = get(api, f"{path}?limit=2&cursor={by_offset[0]['nextCursor']}")
    third = get(api, f"{path}?limit=2&cursor={second['nextCursor']}")
    assert (_ids(second), _ids(third), third["nextCursor"]) == (ids[2:4], ids[4:], None)
    assert get(api, f"{path}?")["pagination"]["total"] == 5  # as a published client asks


def test_extractions_are_listed_newest_first_paged_and_by_message_and_type(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    path = f"/inboxes/{inbox['id']}/extractions"
    for text, subject in ((CODE, "Code"), ("Hello", "Hello"), (SIGN_IN, "Sign in"), (RESET, "Reset your password")):
        send(tenant, inbox, text, subject=subject)
    reset, sign_in, nothing, code = _ids(get(api, f"/inboxes/{inbox['id']}/messages"))

    listed = get(api, path)
    ids = _ids(listed)

    assert ids == [f"ext_password_reset.{reset}", f"ext_magic_link.{sign_in}", f"ext_otp.{code}"]
    assert listed["pagination"] == {"limit": 20, "offset": 0, "total": 3}
    link = listed["data"][1]
    assert (link["value"], link["url"], link["createdAt"][-1]) == (MAGIC_URL, MAGIC_URL, "Z")
    assert _ids(get(api, f"{path}?type=otp")) == [ids[2]]
    assert _ids(get(api, f"{path}?messageId={sign_in}")) == [ids[1]]
    assert _ids(get(api, f"{path}?messageId={nothing}")) == _ids(get(api, f"{path}?messageId=msg_456")) == []
    by_offset = [get(api, f"{path}?limit=2&offset={offset}") for offset in (0, 2, 4)]
    assert [_ids(page) for page in by_offset] == [ids[:2], ids[2:], []]
    assert [page["pagination"]["total"] for page in by_offset] == [3] * 3
    assert [page["hasMore"] for page in by_offset] == [True, False, False]
    second = get(api, f"{path}?limit=2&cursor={by_offset[0]['nextCursor']}")
    assert (_ids(second), second["nextCursor"]) == (ids[2:], None)


def test_what_is_found_in_one_message_is_paged_too(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    path = f"/inboxes/{inbox['id']}/extractions"
    for _ in range(2):
        send(tenant, inbox, f"{CODE}\n\nOr: {SIGN_IN}", subject="Sign in")
    ids = _ids(get(api, path))
    assert len(ids) == 4

    found, cursor = list[str](), None
    for _ in range(4):
        page = get(api, f"{path}?limit=1" + (f"&cursor={cursor}" if cursor else ""))
        found += _ids(page)
        cursor = page["nextCursor"]

    assert (found, cursor) == (ids, None)


def test_extracting_again_finds_the_same_under_the_same_ids(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    send(tenant, inbox, f"{CODE}\n\nOr: {SIGN_IN}", subject="Sign in")
    message = get(api, f"/messages/{message_in(api, inbox)['id']}")
    path = f"/api/v1/messages/{message['id']}/extract"

    bare = api.post(f"{path}?useLlm=true")
    empty = api.post(path, content=b"", headers={"Content-Type": "application/json"})
    only = api.post(path, json={"type": "otp"})

    assert bare.status_code == empty.status_code == only.status_code == 200
    assert len(message["extractions"]) == 2
    assert (
        bare.json()
        == empty.json()
        == {
            "object": "list",
            "data": message["extractions"],
            "pagination": {"limit": 2, "offset": 0, "total": 2},
            "hasMore": False,
            "nextCursor": None,
        }
    )
    assert [one["type"] for one in only.json()["data"]] == ["otp"]
    assert get(api, f"/messages/{message['id']}") == message
    assert api.post(path, json={"type": "password_reset"}).json()["pagination"] == {"limit": 0, "offset": 0, "total": 0}


def test_a_messages_of_a_session_is_no_mail(api: httpx.Client, client: httpx.Client) -> None:
    session_id = create_session(api)
    said = client.post(f"/v1/sessions/{session_id}/messages", json={"content": "Hello"}).json()

    assert said["id"].startswith("msg_")
    assert api.get(f"/api/v1/messages/{said['id']}").status_code == 404


def test_a_key_that_may_only_read_cannot_extract_or_delete(tenant: Tenant, api: httpx.Client, mount: str) -> None:
    inbox = create_inbox(api)
    send(tenant, inbox)
    message = message_in(api, inbox)
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ})).client(mount) as reader:
        assert get(reader, f"/messages/{message['id']}")["read"]
        for method, path in (
            ("POST", "/inboxes"),
            ("DELETE", f"/inboxes/{inbox['id']}"),
            ("POST", f"/messages/{message['id']}/extract"),
        ):
            refused = reader.request(method, f"/api/v1{path}")
            assert (refused.status_code, refused.json()["error"]) == (403, "Forbidden")


def test_a_mail_for_two_inboxes_is_a_message_in_each(tenant: Tenant, api: httpx.Client) -> None:
    one, two = create_inbox(api), create_inbox(api)
    mail = make_mail(one)
    mail["Cc"] = two["emailAddress"]

    tenant.serving.send(mail)

    for inbox in (one, two):
        message = message_in(api, inbox)
        assert (message["inboxId"], message["toEmail"]) == (inbox["id"], inbox["emailAddress"])
        assert message["to"] == [one["emailAddress"], two["emailAddress"]]
