"""Waits over real HTTP, ended by the server's own sweeper, on both engines."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from sessiond.core.caller import Scope
from sessiond.storage.open import migrate
from tests.dialects.agents import eventually
from tests.dialects.native.mailing import (
    CODE,
    make_inbox,
    make_wait,
    put_mail,
    put_raw,
    read_all,
    read_wait,
)
from tests.dialects.native.working import make_session, read_log, say
from tests.serving import Tenant, open_serving


@pytest.fixture
def inbox(client: httpx.Client) -> str:
    """An inbox in the session `s`."""
    make_session(client)
    made: str = make_inbox(client, session_id="s")["id"]
    return made


def seconds_between(first: str, second: str) -> float:
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


def test_a_wait_is_made_and_shown(client: httpx.Client, inbox: str) -> None:
    body = {
        "type": "otp",
        "inbox_id": inbox,
        "critical": True,
        "from": "acme",
        "subject_contains": "confirm",
        "since": "2026-11-21T18:55:46+01:00",
        "title": "The code",
        "detail": {"step": [1, None]},
    }
    made = client.post("/v1/waits", json=body)

    wait = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/v1/waits/{wait['id']}")
    assert {name: wait[name] for name in wait if name not in ("id", "created_at", "times_out_at")} == body | {
        "session_id": "s",
        "run_id": None,
        "user_id": None,
        "status": "pending",
        "since": "2026-11-21T17:55:46.000000Z",
        "events": [],
        "result": None,
        "reason": None,
        "ended_at": None,
    }
    assert wait["id"].startswith("wait_")
    assert 3590 < seconds_between(wait["created_at"], wait["times_out_at"]) < 3610
    assert read_wait(client, wait["id"]) == wait
    assert make_wait(client, "approval", timeout_seconds=None)["times_out_at"] is None


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "JSON"])
def test_a_mail_with_a_code_completes_who_waits_for_one(client: httpx.Client, inbox: str, raw: bool) -> None:
    of_inbox = make_wait(client, "otp", inbox_id=inbox)["id"]
    of_session = make_wait(client, "otp", session_id="s")["id"]
    elsewhere = make_wait(client, "otp", inbox_id=make_inbox(client)["id"])["id"]

    mail = put_raw(client, inbox) if raw else put_mail(client, inbox, subject="Confirm your address")

    (found,) = mail["extractions"]
    for wait in (of_inbox, of_session):
        ended = read_wait(client, wait)
        assert (ended["status"], ended["ended_at"]) == ("completed", mail["received_at"])
        assert ended["result"] == {
            "mail_id": mail["id"],
            "inbox_id": inbox,
            "from": "noreply@acme.example",
            "subject": "Confirm your address",
            "received_at": mail["received_at"],
            "value": CODE,
            "confidence": found["confidence"],
            "source": "text",
        }
    assert read_wait(client, elsewhere)["status"] == "pending"
    log = read_log(client)
    assert [event["type"] for event in log if not event["type"].startswith("session.")] == [
        "inbox.created",
        "wait.created",
        "wait.created",
        "mail.received",
        "wait.completed",
        "wait.completed",
    ]
    told = {event["data"]["wait_id"]: event["data"] for event in log if event["type"] == "wait.completed"}
    assert told[of_inbox] == {"wait_id": of_inbox, "type": "otp", "result": read_wait(client, of_inbox)["result"]}


def test_a_mail_without_a_code_completes_only_who_waits_for_any(client: httpx.Client, inbox: str) -> None:
    waits = {type: make_wait(client, type, inbox_id=inbox)["id"] for type in ("email", "otp", "magic_link")}

    mail = put_mail(client, inbox, text="See you on Monday.")

    seen = {type: read_wait(client, wait) for type, wait in waits.items()}
    assert {type: wait["status"] for type, wait in seen.items()} == {
        "email": "completed",
        "otp": "pending",
        "magic_link": "pending",
    }
    assert (seen["email"]["result"]["mail_id"], "value" in seen["email"]["result"]) == (mail["id"], False)


def test_a_link_completes_who_waits_for_it(client: httpx.Client, inbox: str) -> None:
    wait = make_wait(client, "password_reset", inbox_id=inbox)["id"]
    url = "https://acme.example/password/reset?token=5f3a9c1e7b"

    put_mail(client, inbox, subject="Reset your password", text=f"To reset your password, follow this link:\n\n{url}\n")

    result = read_wait(client, wait)["result"]
    assert (result["url"], "value" in result) == (url, False)


def test_what_narrows_a_wait_is_heeded(client: httpx.Client, inbox: str) -> None:
    by_sender = make_wait(client, "email", inbox_id=inbox, sender="NoReply@acme")["id"]
    by_name = make_wait(client, "email", inbox_id=inbox, sender="acme accounts")["id"]
    by_subject = make_wait(client, "email", inbox_id=inbox, subject_contains="CONFIRM")["id"]

    def statuses() -> list[str]:
        return [read_wait(client, wait)["status"] for wait in (by_sender, by_name, by_subject)]

    put_mail(client, inbox, sender="Eve <eve@here.example>", subject="Hello")
    assert statuses() == ["pending"] * 3
    put_mail(client, inbox, sender="Acme Accounts <robot@acme.example>", subject="Hello")
    assert statuses() == ["pending", "completed", "pending"]
    put_mail(client, inbox, sender="noreply@ACME.example", subject="Please confirm")
    assert statuses() == ["completed"] * 3


def test_a_mail_that_came_before_counts_only_since_a_time_that_was_said(client: httpx.Client, inbox: str) -> None:
    before = make_wait(client, "approval")["created_at"]
    mail = put_mail(client, inbox)

    unsaid = make_wait(client, "otp", inbox_id=inbox)
    said = make_wait(client, "otp", inbox_id=inbox, since=before)
    of_session = make_wait(client, "otp", session_id="s", since=before)
    later = make_wait(client, "otp", inbox_id=inbox, since="2999-01-01T00:00:00Z")

    assert (unsaid["status"], unsaid["since"]) == ("pending", None)
    assert (later["status"], later["since"]) == ("pending", "2999-01-01T00:00:00.000000Z")
    for wait in (said, of_session):
        assert (wait["status"], wait["result"]["mail_id"], wait["since"]) == ("completed", mail["id"], before)
    put_mail(client, inbox)
    assert read_wait(client, unsaid["id"])["status"] == "completed"
    assert read_wait(client, later["id"])["status"] == "pending"


@pytest.mark.parametrize("by_making", [True, False], ids=["made", "asked for"])
def test_an_answer_is_held_back_until_the_mail_has_come(
    tenant: Tenant, client: httpx.Client, inbox: str, by_making: bool
) -> None:
    wait = make_wait(client, "otp", inbox_id=inbox)["id"]
    with tenant.client() as other, ThreadPoolExecutor() as pool:
        watched = len(tenant.serving.site.engine.watches)
        if by_making:
            asked = pool.submit(make_wait, other, "otp", wait=300, inbox_id=inbox)
        else:
            asked = pool.submit(read_wait, other, wait, wait=300)
        eventually(lambda: len(tenant.serving.site.engine.watches) > watched)
        put_mail(client, inbox)

        answer = asked.result(10)

    assert (answer["status"], answer["result"]["value"]) == ("completed", CODE)


def test_an_answer_is_held_back_no_longer_than_was_said(client: httpx.Client) -> None:
    wait = make_wait(client, "approval", wait=0.1)

    began = time.monotonic()
    assert read_wait(client, wait["id"], wait=0.2) == wait
    assert time.monotonic() - began >= 0.2
    assert wait["status"] == "pending"
    for path in (f"/v1/waits/{wait['id']}?wait=301", f"/v1/waits/{wait['id']}?wait=-1"):
        assert client.get(path).json()["field"] == "wait"


def test_nobody_is_waited_for_who_has_hung_up(tenant: Tenant, client: httpx.Client) -> None:
    wait, address = make_wait(client, "approval")["id"], urlsplit(tenant.serving.url)
    watches = tenant.serving.site.engine.watches
    before = len(watches)
    head = f"GET /v1/waits/{wait}?wait=300 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.key}\r\n\r\n"

    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(head.encode())
        eventually(lambda: len(watches) > before)

    eventually(lambda: len(watches) <= before)


def test_whose_key_is_revoked_while_it_waits_is_told_no_more(tenant: Tenant, client: httpx.Client) -> None:
    wait, made = make_wait(client, "approval")["id"], client.post("/v1/keys", json={}).json()
    headers, watches = {"Authorization": f"Bearer {made['key']}"}, tenant.serving.site.engine.watches
    with tenant.client(headers=headers) as other, ThreadPoolExecutor() as pool:
        before = len(watches)
        asked = pool.submit(other.get, f"/v1/waits/{wait}?wait=300")
        making = pool.submit(make_wait, other, "approval", wait=300)
        eventually(lambda: len(watches) >= before + 2)

        client.delete(f"/v1/keys/{made['id']}").raise_for_status()

        assert asked.result(20).status_code == 401
        assert making.result(20)["status"] == "pending"  # it is made


def test_a_server_that_stops_answers_who_waits(database: str) -> None:
    asyncio.run(migrate(database))
    with open_serving(database) as serving, serving.make_tenant().client() as client, ThreadPoolExecutor() as pool:
        wait = make_wait(client, "approval")

        async def stop() -> None:
            serving.site.close_streams()

        before = len(serving.site.engine.watches)
        asked = pool.submit(read_wait, client, wait["id"], wait=300)
        eventually(lambda: len(serving.site.engine.watches) > before)
        serving.run(stop())

        assert asked.result(20) == wait


def test_waits_are_listed_by_what_they_are_of(client: httpx.Client, inbox: str) -> None:
    code = make_wait(client, "otp", inbox_id=inbox)
    link = make_wait(client, "magic_link", session_id="s")
    approval = make_wait(client, "approval", session_id="s")
    alone = make_wait(client, "approval")
    client.post(f"/v1/waits/{alone['id']}/complete").raise_for_status()

    def found(query: str) -> list[str]:
        page = client.get(f"/v1/waits?order=asc&include=total&{query}").raise_for_status().json()
        assert page["total"] == len(page["data"])
        return [wait["id"] for wait in page["data"]]

    assert found("session_id=s") == [code["id"], link["id"], approval["id"]]
    assert found(f"inbox_id={inbox}") == [code["id"]]
    assert found("status=pending&type=approval") == [approval["id"]]
    assert found("status=completed") == [alone["id"]]
    assert found("session_id=nobodys") == []
    for order in ("asc", "desc"):
        in_order = [wait["id"] for wait in read_all(client, "/v1/waits", limit=2, order=order)]
        made = [code["id"], link["id"], approval["id"], alone["id"]]
        assert in_order == (made if order == "asc" else made[::-1])
    assert client.get("/v1/waits?order=asc&offset=2&limit=1").json()["data"] == [approval]
    for query, field in (("status=ended", "status"), ("type=mail", "type"), ("inbox_id=", "inbox_id")):
        assert client.get(f"/v1/waits?{query}").json()["field"] == field


def test_an_approval_is_completed_with_somebodys_word_once(client: httpx.Client) -> None:
    make_session(client)
    wait = make_wait(client, "approval", session_id="s", title="Buy it?", detail={"price": 12})["id"]

    done = client.post(f"/v1/waits/{wait}/complete", json={"result": {"approved": True, "at_us": 1, "sender": "me"}})

    ended = done.json()
    assert (done.status_code, ended["status"], ended["title"]) == (200, "completed", "Buy it?")
    assert ended["result"] == {"approved": True, "at_us": 1, "sender": "me"}
    assert read_wait(client, wait) == ended
    again = client.post(f"/v1/waits/{wait}/complete", json={"result": {"approved": False}})
    assert (again.status_code, again.json()["detail"]) == (409, "the wait is completed")
    told = read_log(client)[-1]
    assert (told["type"], told["data"]["result"]) == ("wait.completed", ended["result"])
    steps = client.post("/v1/sessions/s/replay").json()["steps"]
    assert [step["action"] for step in steps[1:]] == ["create_wait", "complete_wait"]


def test_only_an_approval_is_completed_by_a_caller(client: httpx.Client, inbox: str) -> None:
    for type, more in (("otp", {"inbox_id": inbox}), ("timer", {"timeout_seconds": 100}), ("webhook", {})):
        wait = make_wait(client, type, **more)["id"]
        assert client.post(f"/v1/waits/{wait}/complete", json={"result": {}}).status_code == 409
        assert read_wait(client, wait)["status"] == "pending"
    assert client.post("/v1/waits/none/complete").status_code == 404


def test_an_event_of_the_session_completes_who_waits_for_it(client: httpx.Client) -> None:
    make_session(client)
    say(client, "before", start_run=False)
    wait = make_wait(client, "event", session_id="s", events=["run.completed", "message.*"])["id"]

    said = say(client, "after", start_run=False)

    ended = read_wait(client, wait, wait=20)
    assert ended["status"] == "completed"
    assert {name: ended["result"][name] for name in ("event_id", "seq", "type")} == {
        "event_id": f"evt_{said['seq']}.s",
        "seq": said["seq"],
        "type": "message.user",
    }
    assert ended["result"]["data"]["content"] == "after"


def test_an_event_that_completed_a_wait_is_told_in_this_wires_words(client: httpx.Client, inbox: str) -> None:
    wait = make_wait(client, "event", session_id="s", events=["mail.received", "session.updated"])["id"]

    mail = put_mail(client, inbox, subject="Hello")

    result = read_wait(client, wait, wait=20)["result"]
    assert (result["type"], result["data"]["from"], result["data"]["mail_id"]) == (
        "mail.received",
        "noreply@acme.example",
        mail["id"],
    )
    assert not {"sender", "input", "output"} & set(result["data"])
    told = read_log(client)[-1]
    assert (told["type"], told["data"]["result"]) == ("wait.completed", result)

    again = make_wait(client, "event", session_id="s", events=["session.updated"])["id"]
    client.patch("/v1/sessions/s", json={"expires_at": "2999-01-01T00:00:00Z"}).raise_for_status()
    data = read_wait(client, again, wait=20)["result"]["data"]
    assert data == {"expires_at": "2999-01-01T00:00:00.000000Z"}


def test_a_timer_goes_off_on_time_and_not_early(client: httpx.Client) -> None:
    at = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    for said in ({"timeout_seconds": 0.5}, {"at": at}):
        timer = make_wait(client, "timer", wait=20, **said)

        assert timer["status"] == "completed"
        assert timer["result"] == {"at": timer["ended_at"]}
        assert 0 <= seconds_between(timer["times_out_at"], timer["ended_at"]) < 2
    timer = make_wait(client, "timer", at=at, wait=20)
    assert (timer["status"], seconds_between(timer["created_at"], timer["ended_at"]) < 2) == ("completed", True)


def test_a_wait_times_out_and_its_session_fails_where_it_was_critical(client: httpx.Client) -> None:
    make_session(client)
    mild = make_wait(client, "approval", session_id="s", timeout_seconds=0.05)["id"]
    assert read_wait(client, mild, wait=20)["status"] == "timed_out"
    assert client.get("/v1/sessions/s").json()["status"] != "failed"
    other = make_wait(client, "approval", session_id="s")["id"]

    critical = make_wait(client, "approval", session_id="s", timeout_seconds=0.05, critical=True, wait=20)

    assert (critical["status"], critical["result"]) == ("timed_out", None)
    assert client.get("/v1/sessions/s").json()["status"] == "failed"
    (failed,) = [event["data"] for event in read_log(client) if event["type"] == "session.failed"]
    assert (failed["reason"], failed["wait_id"]) == ("a critical wait timed out", critical["id"])
    assert read_wait(client, other)["status"] == "cancelled"


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_what_is_waited_for_in_a_session_is_cancelled_with_it(client: httpx.Client, inbox: str, end: str) -> None:
    waits = [make_wait(client, "otp", inbox_id=inbox), make_wait(client, "approval", session_id="s")]
    alone = make_wait(client, "approval")["id"]

    client.post(f"/v1/sessions/s/{end}").raise_for_status()

    assert {read_wait(client, wait["id"])["status"] for wait in waits} == {"cancelled"}
    assert read_wait(client, alone)["status"] == "pending"
    assert client.post("/v1/waits", json={"type": "approval", "session_id": "s"}).status_code == 409


def test_a_wait_is_cancelled_by_a_caller_with_a_reason_or_without(client: httpx.Client) -> None:
    for body, reason in (({"reason": "never mind"}, "never mind"), (None, None)):
        wait = make_wait(client, "approval")["id"]

        done = client.post(f"/v1/waits/{wait}/cancel", json=body)

        assert (done.status_code, done.json()["status"], done.json()["reason"]) == (200, "cancelled", reason)
        # Once more is fine.
        assert client.post(f"/v1/waits/{wait}/cancel", json={"reason": "x"}).json() == done.json()
    assert client.post("/v1/waits/none/cancel").status_code == 404


def call(tenant: Tenant, url: str, content: bytes = b"", **headers: str) -> httpx.Response:
    """Call a hook as strangers do: without a key."""
    assert url.startswith(f"{tenant.serving.url}/v1/hooks/")
    with tenant.client(headers=headers) as stranger:
        return stranger.post(url, content=content)


@pytest.mark.parametrize(
    ("content", "result"),
    [
        (b'{"paid": true}', {"body": {"paid": True}}),
        (b" [1, null] ", {"body": [1, None]}),
        (b'"ok"', {"body": "ok"}),
        (b"a=1&b=2", {"body": "a=1&b=2", "content_type": "text/odd; x=1"}),
        (b"\xff\x00", {"body": "\ufffd\0", "content_type": "text/odd; x=1"}),
        (b'"\\ud800"', {"body": '"\\ud800"', "content_type": "text/odd; x=1"}),
        (b"", {"body": "", "content_type": "text/odd; x=1"}),
    ],
)
def test_a_hook_is_called_without_a_key_and_its_body_is_kept(
    tenant: Tenant, client: httpx.Client, content: bytes, result: dict[str, Any]
) -> None:
    wait = make_wait(client, "webhook")

    called = call(tenant, wait["hook_url"], content, **{"Content-Type": "text/odd; x=1"})

    assert (called.status_code, called.json()) == (202, {"status": "completed"})
    ended = read_wait(client, wait["id"])
    assert (ended["status"], ended["result"]) == ("completed", result)
    # Once more is fine, and changes nothing.
    assert call(tenant, wait["hook_url"], b'"other"').status_code == 202
    assert read_wait(client, wait["id"]) == ended


def test_a_hook_that_nobody_waits_for_looks_like_one_that_never_was(tenant: Tenant, client: httpx.Client) -> None:
    wait = make_wait(client, "webhook")
    client.post(f"/v1/waits/{wait['id']}/cancel").raise_for_status()

    cancelled = call(tenant, wait["hook_url"])
    never = call(tenant, f"{tenant.serving.url}/v1/hooks/{'x' * 43}")

    assert cancelled.headers["content-type"] == "application/problem+json"
    told = [{name: answer.json()[name] for name in ("status", "detail")} for answer in (cancelled, never)]
    assert told[0] == told[1]
    assert (told[0]["status"], wait["hook_url"].rpartition("/")[2] in cancelled.text) == (404, False)


def test_a_hook_takes_no_get_and_nothing_that_is_large_or_deep(tenant: Tenant, client: httpx.Client) -> None:
    wait = make_wait(client, "webhook")
    url = wait["hook_url"]

    with tenant.client(headers={}) as stranger:
        assert [stranger.get(url).status_code, stranger.head(url).status_code] == [405, 405]
    large = call(tenant, url, b"x" * (64 * 1024 + 1))
    assert (large.status_code, large.json()["field"]) == (413, "body")
    for depth in (200, 30_000):
        deep = call(tenant, url, b"[" * depth + b"]" * depth)
        assert (deep.status_code, deep.json()["field"]) == (400, "body")
    assert read_wait(client, wait["id"])["status"] == "pending"
    assert call(tenant, url, b"x" * 64 * 1024).status_code == 202


def test_a_hooks_secret_is_told_once_and_kept_nowhere(tenant: Tenant, client: httpx.Client) -> None:
    make_session(client)
    body, headers = {"type": "webhook", "session_id": "s"}, {"Idempotency-Key": "k"}

    made, again = (client.post("/v1/waits", json=body, headers=headers) for _ in range(2))

    url = made.json()["hook_url"]
    secret = url.rpartition("/")[2]
    assert len(secret) == 43
    assert again.status_code == 201
    assert again.json() == {name: value for name, value in made.json().items() if name != "hook_url"}
    assert call(tenant, url).status_code == 202
    wait = made.json()["id"]
    for path in ("/v1/waits", f"/v1/waits/{wait}", "/v1/sessions/s/events", "/metrics"):
        assert secret not in client.get(path).text
    assert secret not in client.post("/v1/sessions/s/replay").text
    assert "/v1/hooks/{secret}" in client.get("/metrics").text


def test_a_hooks_url_is_on_the_host_that_was_asked(client: httpx.Client) -> None:
    made = client.post("/v1/waits?wait=0.05", json={"type": "webhook"}, headers={"Host": "sessions.example:8443"})

    assert made.json()["hook_url"].startswith("http://sessions.example:8443/v1/hooks/")


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, "type"),
    ({"type": "mail"}, 400, "type"),
    ({"type": "otp"}, 400, "inbox_id"),
    ({"type": "approval", "inbox_id": "inb_1"}, 400, "inbox_id"),
    ({"type": "approval", "session_id": "a/b"}, 400, "session_id"),
    ({"type": "otp", "inbox_id": ""}, 400, "inbox_id"),
    ({"type": "otp", "session_id": "s", "from": ""}, 400, "from"),
    ({"type": "otp", "session_id": "s", "from": "a\nb"}, 400, "from"),
    ({"type": "otp", "session_id": "s", "subject_contains": ""}, 400, "subject_contains"),
    ({"type": "otp", "session_id": "s", "since": "yesterday"}, 400, "since"),
    ({"type": "event", "session_id": "s"}, 400, "events"),
    ({"type": "event", "session_id": "s", "events": ["NO"]}, 400, "events"),
    ({"type": "event", "session_id": "s", "events": [f"a.{'b' * n}" for n in range(1, 30)]}, 413, "events"),
    ({"type": "event", "events": ["*"]}, 400, "session_id"),
    ({"type": "timer"}, 400, "timeout_seconds"),
    ({"type": "timer", "timeout_seconds": 0}, 400, "timeout_seconds"),
    ({"type": "timer", "timeout_seconds": 1e9}, 400, "timeout_seconds"),
    ({"type": "timer", "at": "2999-01-01T00:00:00Z"}, 400, "at"),
    ({"type": "timer", "at": "soon"}, 400, "at"),
    ({"type": "timer", "at": "2026-01-01T00:00:00Z", "timeout_seconds": 5}, 400, "at"),
    ({"type": "approval", "at": "2026-01-01T00:00:00Z"}, 400, "at"),
    ({"type": "approval", "title": "x" * 1001}, 413, "title"),
    ({"type": "approval", "detail": "x" * 70_000}, 413, "detail"),
]


@pytest.mark.parametrize(("body", "status", "field"), WRONG)
def test_a_wrong_wait_is_refused_by_the_name_of_what_is_wrong(
    client: httpx.Client, body: dict[str, Any], status: int, field: str
) -> None:
    make_session(client)

    refused = client.post("/v1/waits", json=body)

    assert (refused.status_code, refused.json()["field"]) == (status, field)
    assert client.get("/v1/waits").json()["data"] == []


def test_waits_for_what_is_not_there_are_refused(client: httpx.Client, inbox: str) -> None:
    make_session(client, "other")

    for body, status in (
        ({"type": "otp", "inbox_id": "none"}, 404),
        ({"type": "approval", "session_id": "none"}, 404),
        ({"type": "otp", "inbox_id": inbox, "session_id": "other"}, 409),
    ):
        assert client.post("/v1/waits", json=body).status_code == status
    for path in ("/v1/waits/none", "/v1/waits/none?wait=20"):
        assert client.get(path).status_code == 404


def test_a_request_that_comes_twice_waits_for_the_one_wait_that_it_made(client: httpx.Client) -> None:
    def ask() -> httpx.Response:
        body = {"type": "timer", "timeout_seconds": 0.2}
        return client.post("/v1/waits?wait=20", json=body, headers={"Idempotency-Key": "k"})

    first, again = ask(), ask()

    assert (first.json()["status"], again.status_code, again.json()) == ("completed", 201, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert client.get("/v1/waits?include=total").json()["total"] == 1


def test_a_users_key_sees_and_ends_its_users_waits_only(tenant: Tenant, client: httpx.Client) -> None:
    make_session(client, user_id="bob")
    inbox = make_inbox(client, session_id="s")["id"]
    bobs = make_wait(client, "approval", session_id="s")["id"]
    nobodys = make_wait(client, "approval")["id"]

    with tenant.make_key(user_id="ada").client() as ada:
        mine = make_wait(ada, "approval")

        assert mine["user_id"] == "ada"
        assert ada.get("/v1/waits").json()["data"] == [mine]
        for wait in (bobs, nobodys):
            assert ada.get(f"/v1/waits/{wait}").status_code == 404
            for do in ("cancel", "complete"):
                assert ada.post(f"/v1/waits/{wait}/{do}").status_code == 404
        assert ada.post("/v1/waits", json={"type": "otp", "inbox_id": inbox}).status_code == 404
        assert ada.post("/v1/waits", json={"type": "approval", "session_id": "s"}).status_code == 404
        assert ada.post(f"/v1/waits/{mine['id']}/complete").json()["status"] == "completed"
    assert [read_wait(client, wait)["status"] for wait in (bobs, nobodys)] == ["pending", "pending"]


def test_a_key_that_may_not_read_is_told_neither_what_is_waited_for_nor_what_came(
    tenant: Tenant, client: httpx.Client, inbox: str
) -> None:
    put_mail(client, inbox)
    approval = make_wait(client, "approval", title="Buy it?")["id"]
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_WRITE})).client() as writer:
        made = make_wait(writer, "otp", inbox_id=inbox, since="2020-01-01T00:00:00Z", wait=20)
        done = writer.post(f"/v1/waits/{approval}/complete", json={"result": {"approved": True}}).json()
        cancelled = writer.post(f"/v1/waits/{made['id']}/cancel").json()

        assert (made["status"], made["result"]) == ("completed", None)
        assert (done["status"], done["title"], done["result"]) == ("completed", None, None)
        assert (cancelled["status"], cancelled["result"]) == ("completed", None)
        for path in ("/v1/waits", f"/v1/waits/{made['id']}", f"/v1/waits/{made['id']}?wait=20"):
            assert writer.get(path).status_code == 403
    assert read_wait(client, made["id"])["result"]["value"] == CODE
