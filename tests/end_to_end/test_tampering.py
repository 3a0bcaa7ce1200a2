"""What was changed behind sessiond's back is answered by an error that names it, and everything else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from sessiond.storage.open import migrate
from tests.dialects.agents import eventually
from tests.end_to_end.filling import Filled, fill
from tests.end_to_end.tampering import PLAIN, Column, ask, flipped
from tests.serving import Serving, Tenant, open_serving

LISTS = ("/v1/sessions", "/v1/runs", "/v1/waits", "/v1/inboxes")


@pytest.fixture
def server(database: str) -> Iterator[Serving]:
    asyncio.run(migrate(database))
    with open_serving(database, shutdown_seconds=1) as opened:
        yield opened


@pytest.fixture
def sealed(server: Serving) -> Tenant:
    return server.make_tenant(sealed=True)


class Place:
    """A sealed column, what it is called in errors, and who reads it."""

    def __init__(self, column: Column, name: str, *readers: str) -> None:
        self.column, self.name, self.readers = column, name, readers

    def check_refused(self, client: httpx.Client) -> None:
        for path in self.readers:
            answer = client.get(path)
            assert answer.status_code == 500, (self.name, path, answer.text)
            named = self.name if path not in LISTS else "cannot be opened"  # a list names the first
            assert named in answer.json()["detail"], answer.text
            assert "forged" not in answer.text

    def check_read(self, client: httpx.Client) -> None:
        for path in self.readers:
            assert client.get(path).status_code == 200, (self.name, path)


def places_of(database: str, workspace: str, made: Filled) -> list[Place]:
    def column(table: str, name: str, where: str) -> Column:
        return Column(database, table, name, f"workspace_id = '{workspace}' and {where}")

    session = f"/v1/sessions/{made.session}"
    mail = f"/v1/mails/{made.mail}"
    found = [
        Place(
            column("events", "body", f"session_id = '{made.session}' and seq = 3"),
            f"event {made.session} 3",
            f"{session}/messages",
            f"{session}/events",
            f"{session}/messages/msg_3.{made.session}",
        ),
        Place(
            column("session_details", "sealed", f"session_id = '{made.session}'"),
            f"session {made.session}",
            session,
            f"{session}/messages",
            "/v1/sessions",
        ),
        Place(column("waits", "terms", f"id = '{made.waiting}'"), f"wait {made.waiting}", f"/v1/waits/{made.waiting}"),
        Place(
            column("waits", "result", f"id = '{made.completed_wait}'"),
            f"wait {made.completed_wait}",
            f"/v1/waits/{made.completed_wait}",
            "/v1/waits",
        ),
        Place(
            column("inboxes", "metadata", f"id = '{made.inbox}'"),
            f"inbox {made.inbox}",
            f"/v1/inboxes/{made.inbox}",
            "/v1/inboxes",
        ),
        Place(column("mails", "envelope", f"id = '{made.mail}'"), f"mail {made.mail}", mail),
        Place(column("mails", "extractions", f"id = '{made.mail}'"), f"mail {made.mail}", mail),
        Place(column("mail_contents", "content", f"mail_id = '{made.mail}'"), f"mail {made.mail}", mail),
        Place(column("mail_contents", "raw", f"mail_id = '{made.mail}'"), f"mail {made.mail}", f"{mail}/raw"),
    ]
    runs = {"input": made.completed, "output": made.completed, "error": made.failed, "ask": made.asking}
    found += [
        Place(column("runs", name, f"id = '{run}'"), f"run {run} {name}", f"/v1/runs/{run}", "/v1/runs")
        for name, run in runs.items()
    ]
    return found


async def change_each(client: httpx.Client, places: Sequence[Place]) -> None:
    for place in places:
        kept = await place.column.read()
        for forged in (*flipped(kept), PLAIN, b"", kept[:20]):
            await place.column.write(forged)
            place.check_refused(client)
        await place.column.write(kept)
        place.check_read(client)


async def swap(one: Column, other: Column) -> None:
    first, second = await one.read(), await other.read()
    await one.write(second)
    await other.write(first)


def test_every_bit_and_place_of_a_sealed_text_matters(sealed: Tenant, server: Serving, database: str) -> None:
    elsewhere = server.make_tenant(sealed=True)
    with sealed.client() as client, elsewhere.client() as other_client:
        made, second, other = fill(client, "marker"), fill(client, "second"), fill(other_client, "marker")
        places = places_of(database, sealed.workspace, made)
        others = places_of(database, sealed.workspace, second)
        foreign = places_of(database, elsewhere.workspace, other)

        asyncio.run(change_each(client, places))

        for place, beside, strange in zip(places, others, foreign, strict=True):
            for wrong in (beside, strange):
                asyncio.run(swap(place.column, wrong.column))
                place.check_refused(client)
                wrong.check_refused(client if wrong is beside else other_client)
                asyncio.run(swap(place.column, wrong.column))
                place.check_read(client)
        for one, another in zip(places[-4:], places[-3:], strict=False):  # a field of a record in place of another
            asyncio.run(swap(one.column, another.column))
            one.check_refused(client)
            asyncio.run(swap(one.column, another.column))


def test_a_kept_answer_that_was_changed_is_not_given_again(sealed: Tenant, database: str) -> None:
    headers = {"Idempotency-Key": "k"}
    with sealed.client() as client:
        made = client.post("/v1/sessions", json={"name": "ann"}, headers=headers).raise_for_status().json()
        column = Column(database, "idempotency", "answer", f"workspace_id = '{sealed.workspace}'")
        kept = asyncio.run(column.read())

        for forged in (*flipped(kept), PLAIN):
            asyncio.run(column.write(forged))
            answer = client.post("/v1/sessions", json={"name": "ann"}, headers=headers)
            assert (answer.status_code, "answer" in answer.json()["detail"]) == (500, True), answer.text

        asyncio.run(column.write(kept))
        assert client.post("/v1/sessions", json={"name": "ann"}, headers=headers).json() == made


def test_every_wire_says_so_in_its_own_shape(sealed: Tenant, database: str) -> None:
    with sealed.client() as client:
        made = fill(client, "marker")
        column = Column(database, "session_details", "sealed", f"session_id = '{made.session}'")
        asyncio.run(column.write(flipped(asyncio.run(column.read()))[-1]))

        asked = {
            "/openagents/api/session": 500,
            f"/viben/api/sessions/{made.session}": 500,
            f"/operativus/api/sessions/{made.session}": 500,
            f"/agentinbox/api/v1/sessions/{made.session}": 500,
        }
        for path, status in asked.items():
            answer = client.get(path)
            assert answer.status_code == status, (path, answer.text)
            assert made.session in answer.text, path
            assert "marker" not in answer.text


def test_others_go_on_and_what_is_damaged_can_be_deleted(sealed: Tenant, server: Serving, database: str) -> None:
    with sealed.client() as client:
        made, beside = fill(client, "marker"), fill(client, "second")
        soon = {"type": "timer", "timeout_seconds": 0.01, "session_id": made.session}
        for place in places_of(database, sealed.workspace, made):
            kept = asyncio.run(place.column.read())
            asyncio.run(place.column.write(flipped(kept)[-1]))
        ready = f"update sessions set expires_at_us = 1 where id = '{made.session}'"
        asyncio.run(ask(database, ready))
        assert client.post("/v1/waits", json=soon).status_code == 500

        path = f"/v1/sessions/{beside.session}"
        assert client.get(path).json()["user_name"] == "user name second"
        said = client.post(f"{path}/messages", json={"content": "again"})
        assert said.status_code == 201
        run = said.json()["run_id"]
        eventually(lambda: client.get(f"/v1/runs/{run}").json()["status"] == "completed")
        timer = client.post("/v1/waits?wait=20", json=soon | {"session_id": beside.session}).json()
        assert timer["status"] == "completed"
        expiring = client.post("/v1/sessions", json={"expires_at": "2026-01-01T00:00:00Z"})
        if expiring.status_code == 201:
            eventually(lambda: client.get(f"/v1/sessions/{expiring.json()['id']}").json()["status"] == "completed")

        assert client.delete(f"/v1/sessions/{made.session}").status_code == 204
        assert client.get(f"/v1/sessions/{made.session}").status_code == 404
        listed = client.get("/v1/sessions").raise_for_status().json()["data"]
        assert beside.session in [one["id"] for one in listed]
        assert _left(database, made.session) == [0, 0, 0, 0]


def _left(database: str, session_id: str) -> list[Any]:
    tables = ("events", "session_details", "session_metadata", "waits")
    counts = (f"select count(*) from {table} where session_id = '{session_id}'" for table in tables)
    return [asyncio.run(ask(database, sql))[0][0] for sql in counts]


def test_a_key_that_was_changed_names_what_it_cannot_open(sealed: Tenant, database: str) -> None:
    with sealed.client() as client:
        made = client.post("/v1/sessions", json={"name": "ann"}).raise_for_status().json()["id"]
        beside = client.post("/v1/sessions", json={"name": "bob"}).raise_for_status().json()["id"]
        column = Column(database, "seal_keys", "wrapped", f"session_id = '{made}'")
        kept = asyncio.run(column.read())

        with open_serving(database) as fresh, httpx.Client(base_url=fresh.url, headers=sealed.headers) as other:
            for forged in (*flipped(kept), b""):  # a process that has not opened it before
                asyncio.run(column.write(forged))
                answer = other.get(f"/v1/sessions/{made}")
                assert (answer.status_code, made in answer.text) == (500, True), answer.text
                assert other.get("/v1/sessions").status_code == 500
                assert other.get(f"/v1/sessions/{beside}").json()["name"] == "bob"
                assert other.post(f"/v1/sessions/{beside}/messages", json={"content": "on"}).status_code == 201
            asyncio.run(column.write(kept))
            assert other.get(f"/v1/sessions/{made}").json()["name"] == "ann"
