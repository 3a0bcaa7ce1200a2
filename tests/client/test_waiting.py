"""Waiting for what comes later: a mail, an agent's words, the end of a run."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from sessiond import AsyncClient, Client
from sessiond.client import Delta, WaitCancelled
from tests.client.test_calls import KINDS
from tests.client.using import Using
from tests.serving import Tenant


def _put_when_waited_for(client: Client, inbox_id: str) -> None:
    """Put a mail into an inbox once somebody waits for one."""
    for event in client.sessions.stream(SESSION):
        if event.type == "wait.created":
            client.inboxes.put_mail(inbox_id, sender="shop@example.com", subject="Sign in", text="Your code: 404512")
            return


SESSION = "sign-up"


async def _wait_for_a_code(made: Client | AsyncClient, other: Client) -> None:
    inbox = other.inboxes.create(session_id=other.sessions.create(id=SESSION).id)
    putting = threading.Thread(target=_put_when_waited_for, args=(other, inbox.id))
    putting.start()

    found = await Using(made).call("waits.wait_for_otp", session_id=SESSION, sender="shop@")

    putting.join(10)
    assert (str(found), found.inbox_id, found.sender) == ("404512", inbox.id, "shop@example.com")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_code_that_comes_while_it_is_waited_for_is_returned(
    kind: type[Client | AsyncClient], tenant: Tenant
) -> None:
    made = kind(tenant.key, tenant.serving.url)
    with Client(tenant.key, tenant.serving.url) as other:
        await _wait_for_a_code(made, other)
    closing: Any = made.close()
    if closing is not None:
        await closing


async def test_a_code_is_waited_for_in_this_process(tmp_path: Path) -> None:
    with Client.local(tmp_path / "data.db") as client:
        await _wait_for_a_code(client, client)
    async with AsyncClient.local(tmp_path / "more.db") as other:
        inbox = await other.inboxes.create()
        waiting = asyncio.create_task(other.waits.wait_for_otp(inbox.id, timeout_seconds=60))
        while not (await other.waits.list()).data:
            pass
        await other.inboxes.delete(inbox.id)
        with pytest.raises(WaitCancelled):
            await waiting


@pytest.mark.parametrize("kind", KINDS)
async def test_what_an_agent_says_is_told_as_it_is_said_and_whole_in_the_end(
    kind: type[Client | AsyncClient], tenant: Tenant
) -> None:
    made = kind(tenant.key, tenant.serving.url)
    using = Using(made)
    await using.call("agents.create", "talker", "command", {"command": TALKER, "protocol": "text"})
    session = await using.call("sessions.create", agent_id="talker")
    run = await using.call("runs.start", session.id, "Go on")

    told = await using.take(-1, "runs.stream_live", run.id)

    said = "".join(one.text for one in told if type(one) is Delta)
    assert told[-1].type == "run.completed"
    assert "one two three".startswith(" ".join(said.split()))
    ended = await using.call("runs.wait", run.id)
    assert (ended.ended, ended.output.split()) == (True, ["one", "two", "three"])
    closing: Any = made.close()
    if closing is not None:
        await closing


TALKER = ["sh", "-c", "cat >/dev/null; for word in one two three; do echo $word; done"]
