"""Answers about waits that are held until the wait has ended, on the agentinbox wire."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import httpx

from sessiond.core.caller import Scope
from tests.dialects.agentinbox.mailing import (
    create_inbox,
    create_wait,
    get,
    made,
    send,
)
from tests.dialects.agents import eventually
from tests.serving import Tenant


def test_a_wait_without_a_hold_is_answered_at_once(api: httpx.Client) -> None:
    began = time.monotonic()
    wait = create_wait(api, create_inbox(api))
    again = get(api, f"/waits/{wait['id']}")

    assert wait["status"] == again["status"] == "pending"
    assert time.monotonic() - began < 10


def test_a_held_wait_is_answered_when_the_mail_comes(tenant: Tenant, api: httpx.Client, mount: str) -> None:
    inbox = create_inbox(api)
    answers = list[httpx.Response]()

    def hold() -> None:
        with tenant.client(mount) as holding:
            answers.append(holding.post("/api/v1/waits?wait=30", json={"inboxId": inbox["id"], "type": "otp"}))
            answers.append(holding.post("/api/v1/waits", json={"inboxId": inbox["id"], "type": "otp"}))
            wait_id = answers[-1].json()["id"]
            answers.append(holding.get(f"/api/v1/waits/{wait_id}?wait=30"))

    holder = threading.Thread(target=hold)
    holder.start()
    eventually(lambda: get(api, "/waits?status=pending")["data"])
    send(tenant, inbox)
    eventually(lambda: len(answers) == 2)
    send(tenant, inbox)
    holder.join(30)

    assert [answer.status_code for answer in answers] == [201, 201, 200]
    assert [answer.json()["status"] for answer in answers] == ["completed", "pending", "completed"]
    assert answers[0].json() == get(api, f"/waits/{answers[0].json()['id']}")
    assert answers[2].elapsed < timedelta(seconds=20)


def test_a_hold_ends_with_its_seconds_and_the_wait_goes_on(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)

    held = api.post("/api/v1/waits?wait=0.2", json={"inboxId": inbox["id"], "type": "otp"})
    again = api.get(f"/api/v1/waits/{held.json()['id']}?wait=0.2")

    assert (held.status_code, again.status_code) == (201, 200)
    assert held.json() == again.json()
    assert held.json()["status"] == "pending"
    assert min(held.elapsed, again.elapsed) >= timedelta(seconds=0.2)


def test_a_repeated_held_creation_waits_for_the_same_wait(tenant: Tenant, api: httpx.Client) -> None:
    inbox = create_inbox(api)
    body = {"inboxId": inbox["id"], "type": "otp"}
    headers = {"Idempotency-Key": "once"}
    first = made(api.post("/api/v1/waits?wait=0.1", json=body, headers=headers))
    send(tenant, inbox)

    again = made(api.post("/api/v1/waits?wait=0.1", json=body, headers=headers))

    assert (first["id"], first["status"]) == (again["id"], "pending")
    assert (again["status"], again["result"]["value"]) == ("completed", "482913")


def test_a_creation_whose_hold_is_cut_short_is_answered_with_what_was_made(
    tenant: Tenant, api: httpx.Client, client: httpx.Client, mount: str
) -> None:
    inbox = create_inbox(api)
    brief = tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE}))
    answers = list[httpx.Response]()
    with brief.client(mount) as holding:
        key_id = holding.get(f"{tenant.serving.url}/v1/me").json()["key_id"]
        body = {"inboxId": inbox["id"], "type": "otp"}
        holder = threading.Thread(target=lambda: answers.append(holding.post("/api/v1/waits?wait=30", json=body)))
        holder.start()
        [wait] = eventually(lambda: get(api, "/waits")["data"])
        client.delete(f"/v1/keys/{key_id}").raise_for_status()
        holder.join(30)

    assert made(answers[0]) == wait
    assert wait["status"] == "pending"
    assert answers[0].elapsed < timedelta(seconds=20)


def test_a_revoked_key_ends_a_hold(tenant: Tenant, client: httpx.Client, mount: str) -> None:
    scopes = frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})
    brief = tenant.make_key(scopes=scopes)
    answers = list[httpx.Response]()
    with brief.client(mount) as holding:
        wait = create_wait(holding, create_inbox(holding))
        key_id = holding.get(f"{tenant.serving.url}/v1/me").json()["key_id"]
        holder = threading.Thread(target=lambda: answers.append(holding.get(f"/api/v1/waits/{wait['id']}?wait=30")))
        holder.start()
        client.delete(f"/v1/keys/{key_id}").raise_for_status()
        holder.join(30)

    assert answers[0].status_code == 401
    assert answers[0].elapsed < timedelta(seconds=20)
