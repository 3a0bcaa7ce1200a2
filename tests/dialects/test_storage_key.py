"""Workspaces that clients seal: what each wire says to who has the key, another, an old one or none."""

from __future__ import annotations

import smtplib
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import Any, Final

import httpx
import pytest

from sessiond.actions import encryption
from sessiond.actions.encryption import Mode
from sessiond.core.ids import WorkspaceId
from sessiond.storage import seals
from tests.dialects.agents import eventually
from tests.dialects.native.working import register
from tests.end_to_end.claims import ONCE, name_of, params_of, path_of
from tests.serving import Serving, Tenant

KEY: Final = "a storage key of some length"
ANOTHER: Final = "another storage key of some length"
LISTS: Final = {
    "native": "/v1/sessions",
    "openagents": "/openagents/api/session",
    "operativus": "/operativus/api/sessions",
    "viben": "/viben/api/sessions",
    "agentinbox": "/agentinbox/api/v1/sessions",
}
every_wire = pytest.mark.parametrize("wire", list(LISTS))


@pytest.fixture
def plain(serving: Serving) -> Tenant:
    return serving.make_tenant(sealed=False)


def with_key(tenant: Tenant, storage_key: str = KEY) -> httpx.Client:
    return tenant.client(headers=tenant.headers | {"storage-key": storage_key})


def workspace_of(tenant: Tenant) -> WorkspaceId:
    return WorkspaceId(tenant.workspace)


def forget(tenant: Tenant) -> None:
    """Have the server forget the key, as it does some minutes after it was last shown."""

    async def do() -> None:
        engine = tenant.serving.site.engine
        for root in await engine.read(lambda tx: seals.read_roots(tx, workspace_of(tenant))):
            engine.vault._forget((workspace_of(tenant), root.id))

    tenant.serving.run(do())


@pytest.fixture
def sealed(plain: Tenant) -> Tenant:
    """A workspace that its first write has sealed."""
    with with_key(plain) as client:
        assert client.post("/v1/sessions", json={"id": "first", "name": "ann"}).status_code == 201
    return plain


def test_the_first_write_seals_an_empty_workspace(sealed: Tenant) -> None:
    with with_key(sealed) as client:
        assert client.get("/v1/sessions/first").json()["name"] == "ann"
    status = sealed.serving.run(encryption.read_status(sealed.serving.site.engine, workspace_of(sealed)))
    assert (status.mode, status.changing, len(status.roots)) == (Mode.CLIENT, False, 1)
    assert {one.key_id for one in status.held} == {status.key_id}


def test_a_read_or_a_refused_write_seals_nothing(plain: Tenant) -> None:
    reader = plain.make_key(scopes=frozenset({"sessions:read"}))
    with with_key(plain) as client, with_key(reader) as reading:
        assert client.get("/v1/sessions").json()["data"] == []
        assert reading.post("/v1/sessions", json={}).status_code == 403
        assert client.get("/v1/sessions").status_code == 200

    status = plain.serving.run(encryption.read_status(plain.serving.site.engine, workspace_of(plain)))
    assert status.mode is Mode.OFF


@every_wire
def test_who_sends_no_key_is_told_which_header_it_is(sealed: Tenant, wire: str) -> None:
    with sealed.client() as client:
        refused = client.get(LISTS[wire])

    assert (refused.status_code, "storage-key" in refused.text) == (400, True), refused.text


def test_every_route_that_takes_or_shows_content_asks_for_the_key_also_while_it_is_in_memory(sealed: Tenant) -> None:
    asked = [claim for claim in ONCE if claim.route.content and not claim.route.public]
    values = dict.fromkeys({name for claim in asked for name in params_of(claim)}, "first")
    with sealed.client() as client:
        for claim in asked:
            refused = client.request(claim.route.method, path_of(claim, values))

            assert (refused.status_code, "storage-key" in refused.text) == (400, True), name_of(claim)

    assert len(asked) > 70


@every_wire
def test_another_key_is_forbidden(sealed: Tenant, wire: str) -> None:
    with with_key(sealed, ANOTHER) as client:
        refused = client.get(LISTS[wire])

    assert (refused.status_code, "storage key" in refused.text) == (403, True), refused.text
    assert ANOTHER not in refused.text


@every_wire
def test_the_right_key_opens(sealed: Tenant, wire: str) -> None:
    with with_key(sealed) as client:
        assert "first" in client.get(LISTS[wire]).raise_for_status().text


@every_wire
@pytest.mark.parametrize("written", ["short", "x" * 1_025])
def test_what_cannot_be_a_key_is_refused(plain: Tenant, wire: str, written: str) -> None:
    with with_key(plain, written) as client:
        refused = client.get(LISTS[wire])

    assert (refused.status_code, "16 to 1024" in refused.text) == (400, True), refused.text


@every_wire
def test_a_workspace_with_content_in_plain_text_takes_no_key(plain: Tenant, wire: str) -> None:
    with plain.client() as client:
        client.post("/v1/sessions", json={"name": "ann"}).raise_for_status()
    with with_key(plain) as client:
        refused = client.get(LISTS[wire])

    assert (refused.status_code, "not sealed with a storage key" in refused.text) == (409, True), refused.text


@every_wire
def test_after_a_rotation_the_new_key_opens_and_the_old_one_does_not(sealed: Tenant, wire: str) -> None:
    engine = sealed.serving.site.engine
    workspace = workspace_of(sealed)
    sealed.serving.run(encryption.begin(engine, workspace, Mode.CLIENT, storage_key=ANOTHER, anew=True))
    sealed.serving.run(encryption.move(engine, workspace))
    sealed.serving.site.authenticator.forget()  # in other processes within seconds

    with with_key(sealed) as old, with_key(sealed, ANOTHER) as new, sealed.client() as none:
        assert old.get(LISTS[wire]).status_code == 403
        assert "first" in new.get(LISTS[wire]).raise_for_status().text
        assert none.get(LISTS[wire]).status_code == 400


def test_what_shows_no_content_needs_no_key(sealed: Tenant) -> None:
    paths = ("/v1/me", "/v1/keys", "/v1/agents", "/openagents/api/audit", "/openapi.json", "/healthz")
    with sealed.client() as none, with_key(sealed) as right, with_key(sealed, ANOTHER) as wrong:
        for path in paths:
            assert none.get(path).status_code == 200, path
            assert right.get(path).status_code == 200, path
        assert wrong.get("/v1/me").status_code == 403
        assert none.post("/v1/keys", json={"scopes": ["sessions:read"]}).status_code == 201
        forget(sealed)
        again = right.post("/v1/keys", json={"scopes": ["sessions:read"]}, headers={"Idempotency-Key": "k"})
        assert again.status_code == 201, again.text


def test_keys_and_agents_come_before_the_first_content(plain: Tenant) -> None:
    with plain.client() as client:
        headers = {"Idempotency-Key": "k"}
        made = client.post("/v1/keys", json={"scopes": ["sessions:read"]}, headers=headers).raise_for_status()
        register(client)
    with with_key(plain) as client:
        assert client.get("/v1/agents").status_code == 200
        assert client.post("/v1/sessions", json={}).status_code == 201
        again = client.post("/v1/keys", json={"scopes": ["sessions:read"]}, headers=headers)
        assert (again.status_code, again.json()["id"]) == (201, made.json()["id"])


def test_writers_at_once_agree_on_one_key(plain: Tenant) -> None:
    def write(number: int) -> int:
        with with_key(plain, KEY if number % 2 else ANOTHER) as client:
            return client.post("/v1/sessions", json={"id": f"s{number}"}).status_code

    with ThreadPoolExecutor(6) as threads:
        statuses = list(threads.map(write, range(6)))

    assert statuses in ([201, 403] * 3, [403, 201] * 3), statuses
    status = plain.serving.run(encryption.read_status(plain.serving.site.engine, workspace_of(plain)))
    assert len(status.roots) == 1


def test_what_was_forgotten_is_opened_by_whoever_shows_it_again(sealed: Tenant) -> None:
    with with_key(sealed) as client, sealed.client() as none:
        forget(sealed)
        assert none.get("/v1/sessions/first").status_code == 400
        assert client.get("/v1/sessions/first").json()["name"] == "ann"
        # Still in memory, and even so nobody reads without it.
        assert none.get("/v1/sessions/first").status_code == 400


def test_a_stream_goes_on_for_as_long_as_it_is_open(sealed: Tenant) -> None:
    with (
        with_key(sealed) as client,
        with_key(sealed) as follower,
        follower.stream("GET", "/v1/sessions/first/stream") as stream,
    ):
        lines = stream.iter_lines()
        client.post("/v1/sessions/first/messages", json={"content": "before"}).raise_for_status()
        assert any("before" in line for line in lines)
        client.post("/v1/sessions/first/messages", json={"content": "after"}).raise_for_status()
        assert any("after" in line for line in lines)


def test_runs_and_timers_wait_for_the_key(sealed: Tenant, serving: Serving) -> None:
    other = serving.make_tenant(sealed=True)
    with with_key(sealed) as client, other.client() as beside:
        for each in (client, beside):
            register(each)
        made = client.post("/v1/sessions", json={"id": "works", "agent_id": "a"}).raise_for_status().json()
        waiting = {"type": "timer", "timeout_seconds": 1.0, "session_id": "works"}
        timer = client.post("/v1/waits", json=waiting).raise_for_status().json()
        client.post("/v1/sessions/works/messages", json={"content": "one"}).raise_for_status()
        eventually(lambda: _runs(client) == ["completed"])
        client.post("/v1/sessions/works/messages", json={"content": "two"}).raise_for_status()
        forget(sealed)
        if _count(sealed, "runs", "status = 'queued'"):
            # While it waits, another workspace's goes on.
            beside.post("/v1/sessions", json={"agent_id": "a", "messages": [{"role": "user", "content": "x"}]})
            eventually(lambda: _runs(beside) == ["completed"])
        done = beside.post("/v1/waits?wait=20", json={"type": "timer", "timeout_seconds": 1.5}).json()
        assert done["status"] == "completed"

        assert client.get(f"/v1/waits/{timer['id']}?wait=20").json()["status"] == "completed"
        eventually(lambda: _runs(client) == ["completed", "completed"])
        assert made["id"] == "works"


def _runs(client: httpx.Client) -> list[str]:
    return [run["status"] for run in client.get("/v1/runs").raise_for_status().json()["data"]]


def _count(tenant: Tenant, table: str, where: str) -> int:
    async def look(tx: Any) -> int:
        rows = await tx.select("run_count_select", f"where workspace_id = :w and {where}", {"w": tenant.workspace})
        n: int = rows[0][0]
        return n

    found: int = tenant.serving.run(tenant.serving.site.engine.scan(look))
    assert table == "runs"
    return found


def test_mail_to_a_locked_workspace_is_asked_to_come_again(sealed: Tenant, serving: Serving) -> None:
    message = EmailMessage()
    with with_key(sealed) as client:
        inbox = client.post("/v1/inboxes", json={}).raise_for_status().json()
        message["From"], message["To"], message["Subject"] = "ann@example.org", inbox["address"], "hello"
        message.set_content("hello")
        forget(sealed)

        with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused)) as refused:
            serving.send(message)
        assert "451" in repr(refused.value)

        client.get("/v1/sessions").raise_for_status()
        serving.send(message)
        (mail,) = client.get(f"/v1/inboxes/{inbox['id']}/mails").raise_for_status().json()["data"]
        assert mail["subject"] == "hello"


def test_a_hook_of_a_locked_workspace_is_refused_until_it_is_open(sealed: Tenant) -> None:
    with with_key(sealed) as client, sealed.client(headers={}) as anybody:
        wait = client.post("/v1/waits", json={"type": "webhook"}).raise_for_status().json()
        path = httpx.URL(wait["hook_url"]).path
        forget(sealed)

        assert anybody.post(path, json={}).status_code == 503
        client.get("/v1/sessions").raise_for_status()
        assert anybody.post(path, json={}).is_success
