"""The published open-agents-builder-client, unmodified, against a running server."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import httpx

from tests.node import CLIENTS, node_command
from tests.serving import Tenant

ALICE = {"agentId": "agent-123", "userName": "Alice", "userEmail": "alice@example.com", "acceptTerms": "true"}


def _run(*arguments: str) -> list[dict[str, Any]]:
    """Run the script and return its lines: what each call of the client came to."""
    command = [node_command(), str(CLIENTS / "openagents.mjs"), *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_the_npm_client_lists_and_deletes_sessions(tenant: Tenant, client: httpx.Client, mount: str) -> None:
    for session_id in ("session-001", "session-002"):
        client.post(f"/api/exec/session/{session_id}", json=ALICE)
        client.post(f"/v1/sessions/{session_id}/messages", json={"content": "Hello"})
    client.post("/api/exec/session/other", json=ALICE | {"agentId": "another"})
    expected = client.get("/api/session?agentId=agent-123").json()

    listed, deleted, listed_again = _run(
        f"{tenant.serving.url}{mount}", tenant.key, tenant.database_id_hash, "agent-123", "session-002"
    )

    assert listed == {"call": "listSessions", "result": expected}
    assert deleted == {"call": "deleteSession", "result": {"message": "Data deleted successfully!", "status": 200}}
    assert listed_again == {"call": "listSessions", "result": expected[1:]}


def test_the_npm_client_is_told_why_not(tenant: Tenant, mount: str) -> None:
    answers = _run(f"{tenant.serving.url}{mount}", tenant.key, "0" * 64, "agent-123", "session-002")

    assert [answer["call"] for answer in answers] == ["listSessions", "deleteSession", "listSessions"]
    assert all("403" in answer["error"] for answer in answers)
