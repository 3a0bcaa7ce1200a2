"""GET /v1/audit."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sessiond.core.caller import Scope
from tests.serving import Tenant


def read(client: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = client.get("/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_entries_come_newest_first_and_page_by_page(client: httpx.Client) -> None:
    for number in range(4):
        client.post("/v1/sessions", json={"id": f"s{number}"}).raise_for_status()
        client.delete(f"/v1/sessions/s{number}").raise_for_status()

    whole = read(client)

    assert [entry["seq"] for entry in whole["data"]] == [5, 4, 3, 2, 1]
    assert whole["next_cursor"] is None
    first = whole["data"][0]
    assert first["at"].endswith("Z")
    assert first["actor"] == client.get("/v1/me").json()["key_id"]
    assert len(bytes.fromhex(first["hash"])) == 32
    assert {name: first[name] for name in ("address", "event", "record", "result")} == {
        "address": "127.0.0.1",
        "event": "deleteSession",
        "record": {"id": "s3"},
        "result": "ok",
    }
    pages, cursor = list[dict[str, Any]](), None
    while page := read(client, limit=2, **({"cursor": cursor} if cursor else {})):
        pages += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == whole["data"]


def test_entries_are_found_by_event_actor_and_time(client: httpx.Client, tenant: Tenant) -> None:
    client.put("/v1/agents/a", json={"runner": "echo"}).raise_for_status()
    client.delete("/v1/agents/a").raise_for_status()
    whole = read(client)["data"]
    deleted, registered, made = whole

    assert read(client, event="deleteAgent")["data"] == [deleted]
    assert read(client, event=["deleteAgent", "createKey"])["data"] == [deleted, made]
    assert read(client, actor="operator")["data"] == [made]
    assert read(client, actor=registered["actor"], before=deleted["at"])["data"] == [registered]
    assert read(client, after=deleted["at"])["data"] == [deleted]
    assert read(client, event="none")["data"] == []
    with tenant.serving.make_tenant().client() as stranger:
        assert [entry["event"] for entry in read(stranger)["data"]] == ["createKey"]


@pytest.mark.parametrize(
    "query", ["event=", "actor=", "after=", "before=yesterday", "limit=0", "cursor=x", f"event={'x' * 201}"]
)
def test_a_wrong_parameter_is_refused_by_name(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/v1/audit?{query}")

    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["detail"]


def test_the_audit_log_needs_the_admin_scope(tenant: Tenant) -> None:
    with tenant.make_key(scopes=frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})).client() as weak:
        assert weak.get("/v1/audit").status_code == 403
