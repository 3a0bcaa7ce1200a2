"""One session, five wires: what goes in through one comes out of every other, and each keeps the same promises."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import msgspec
import pytest

from sessiond.core.session import Status
from sessiond.web.routes import Claim
from tests.end_to_end.claims import ASKED, action_of, assert_refused, key_for, name_of, params_of, path_of
from tests.end_to_end.connection import Connection
from tests.serving import Tenant

AGENTINBOX_STATUS: Final = {
    "created": "active",
    "active": "active",
    "paused": "active",
    "completed": "completed",
    "failed": "failed",
}


def create_natively(client: httpx.Client) -> str:
    body = {
        "agent_id": "agent",
        "user_id": "ada",
        "task_id": "task",
        "name": "Invoices",
        "user_name": "Ada",
        "user_email": "ada@here.example",
        "accept_terms": True,
        "metadata": {"team": "ops", "n": 1.50},
        "data": {"step": [1, None]},
        "prompt": "Find them",
    }
    return _id_of(client.post("/v1/sessions", json=body))


def create_through_openagents(client: httpx.Client) -> str:
    body = {"agentId": "agent", "userName": "Ada", "userEmail": "ada@here.example", "acceptTerms": "true"}
    made = client.post("/openagents/api/exec/session/chosen", json=body)
    assert made.status_code == 200, made.text
    session: str = made.json()["data"]["id"]
    return session


def create_through_viben(client: httpx.Client) -> str:
    body = {"agent_id": "agent", "task_id": "task", "prompt": "Find them"}
    return _id_of(client.post("/viben/api/sessions", json=body))


def create_through_agentinbox(client: httpx.Client) -> str:
    body = {"name": "Invoices", "metadata": {"team": "ops"}, "ttlSeconds": 1000}
    return _id_of(client.post("/agentinbox/api/v1/sessions", json=body))


def _id_of(made: httpx.Response) -> str:
    assert made.status_code == 201, made.text
    session: str = made.json()["id"]
    return session


# operativus makes no sessions.
CREATORS: Final[Mapping[str, Callable[[httpx.Client], str]]] = {
    "native": create_natively,
    "openagents": create_through_openagents,
    "viben": create_through_viben,
    "agentinbox": create_through_agentinbox,
}


def read(client: httpx.Client, path: str, *, method: str = "GET") -> Any:
    answer = client.request(method, path)
    assert answer.status_code == 200, f"{path}: {answer.text}"
    return answer.json()


def millis(at: str | None) -> str | None:
    """Return a native time as the other wires write it."""
    return f"{at[:-4]}Z" if at is not None else None


def as_text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def assert_all_agree(client: httpx.Client, session: str) -> dict[str, Any]:
    """Check that every wire says the same of a session as the native one, and return what that says."""
    row: dict[str, Any] = read(client, f"/v1/sessions/{session}")
    messages = read(client, f"/v1/sessions/{session}/messages?limit=1000")["data"]
    log = read(client, f"/v1/sessions/{session}/events?limit=1000")["data"]
    said = [{"role": message["role"], "content": message["content"]} for message in messages]
    created, updated, ended = (millis(row[name]) for name in ("created_at", "updated_at", "completed_at"))
    assert (row["message_count"], row["last_seq"]) == (len(messages), len(log))

    (of_openagents,) = read(client, f"/openagents/api/session?id={session}")
    assert json.loads(of_openagents.pop("messages")) == said
    assert of_openagents == {
        "id": session,
        "agentId": row["agent_id"] or "",
        "userName": row["user_name"],
        "userEmail": row["user_email"],
        "acceptTerms": {True: "true", False: "false", None: None}[row["accept_terms"]],
        "promptTokens": row["prompt_tokens"],
        "completionTokens": row["completion_tokens"],
        "createdAt": created,
        "updatedAt": updated,
        "finalizedAt": ended,
    }
    of_operativus = {
        "sessionId": session,
        "id": session,
        "userId": row["user_id"],
        "agentId": row["agent_id"],
        "messages": [{"role": message["role"], "content": as_text(message["content"])} for message in said],
        "createdAt": created,
        "updatedAt": updated,
    }
    assert read(client, f"/operativus/api/sessions/{session}") == of_operativus
    assert read(client, "/operativus/api/sessions")["content"] == [of_operativus]

    summary = {
        "id": session,
        "agent_id": row["agent_id"] or "",
        "task_id": row["task_id"] or "",
        "status": row["status"],
        "created_at": created,
        "last_active": millis(row["last_active_at"]),
        "message_count": len(messages),
    }
    prompt = {"prompt": row["prompt"]} if row["prompt"] is not None else {}
    of_viben = read(client, f"/viben/api/sessions/{session}")
    assert [(one["role"], one["content"], one["created_at"]) for one in of_viben.pop("messages")] == [
        (message["role"], as_text(message["content"]), millis(message["created_at"])) for message in messages
    ]
    assert of_viben == summary | {"data": row["data"]} | prompt
    assert read(client, "/viben/api/sessions") == {"sessions": [summary]}

    expires = {"expiresAt": millis(row["expires_at"])} if row["expires_at"] is not None else {}
    assert read(client, f"/agentinbox/api/v1/sessions/{session}") == expires | {
        "id": session,
        "name": row["name"] or "",
        "status": AGENTINBOX_STATUS[row["status"]],
        "createdAt": created,
        "updatedAt": updated,
        "completedAt": ended,
        "metadata": row["metadata"],
        "inboxes": [],
        "waits": [],
    }
    timeline = read(client, f"/agentinbox/api/v1/sessions/{session}/timeline")["events"]
    assert [(event["type"], event["timestamp"]) for event in timeline] == [
        (event["type"], millis(event["created_at"])) for event in log
    ]
    spoken = [event["payload"] for event in timeline if event["type"].startswith("message.")]
    assert [{"role": one["role"], "content": one["content"]} for one in spoken] == said
    steps = read(client, f"/agentinbox/api/v1/sessions/{session}/replay", method="POST")["steps"]
    native_steps = read(client, f"/v1/sessions/{session}/replay", method="POST")["steps"]
    assert native_steps[0]["action"] == "create_session"
    # Which is no step in AgentInbox's document.
    assert [(step["index"] + 1, step["action"], step["timestamp"]) for step in steps] == [
        (step["index"], step["action"], millis(step["at"])) for step in native_steps[1:]
    ]
    return row


def change_status(client: httpx.Client, session: str, status: str) -> None:
    client.patch(f"/viben/api/sessions/{session}", json={"status": status}).raise_for_status()


@pytest.mark.parametrize("create", CREATORS.values(), ids=CREATORS)
def test_a_session_is_the_same_through_every_wire_for_all_its_life(
    client: httpx.Client, create: Callable[[httpx.Client], str]
) -> None:
    session = create(client)
    begun = assert_all_agree(client, session)
    assert begun["status"] == ("created" if begun["agent_id"] and not begun["message_count"] else "active")

    client.post(f"/viben/api/sessions/{session}/message", json={"content": "Hello 👋\n\u2028"}).raise_for_status()
    assert assert_all_agree(client, session)["status"] == "active"

    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two", "more": {"n": 1}}]
    batch = {"messages": [{"role": "assistant", "content": parts}, {"role": "tool", "content": ""}]}
    client.post(f"/v1/sessions/{session}/messages", json=batch).raise_for_status()
    assert_all_agree(client, session)

    assert client.post(f"/v1/sessions/{session}/messages/pop").raise_for_status().json()["role"] == "tool"
    assert assert_all_agree(client, session)["message_count"] == begun["message_count"] + 2
    step = {"type": "tool.used", "action": "create_session", "data": {"n": 1}}
    client.post(f"/v1/sessions/{session}/events", json={"events": [step, {"type": "note.made"}]}).raise_for_status()
    assert_all_agree(client, session)

    client.patch(f"/viben/api/sessions/{session}", json={"data": {"k": {"deep": [1]}}}).raise_for_status()
    client.patch(f"/v1/sessions/{session}", json={"name": "New", "metadata": {"a": "b"}}).raise_for_status()
    assert_all_agree(client, session)

    change_status(client, session, "paused")
    assert assert_all_agree(client, session)["status"] == "paused"
    change_status(client, session, "active")
    assert_all_agree(client, session)

    completed = client.post(f"/agentinbox/api/v1/sessions/{session}/complete")
    assert completed.status_code == 200
    ended = assert_all_agree(client, session)
    assert (ended["status"], millis(ended["completed_at"])) == ("completed", completed.json()["completedAt"])

    change_status(client, session, "active")
    assert assert_all_agree(client, session)["completed_at"] is None
    client.post(f"/v1/sessions/{session}/fail", json={"reason": "no more"}).raise_for_status()
    assert assert_all_agree(client, session)["status"] == "failed"


WORKING: Final = r"""
echo '{"type":"tool_call","id":"1","name":"search","arguments":{"q":1}}'
echo '{"type":"tool_result","id":"1","output":[2]}'
echo '{"type":"usage","prompt_tokens":7,"completion_tokens":3}'
echo '{"type":"text","text":"found"}'
"""


def test_a_session_whose_agent_has_worked_is_the_same_through_every_wire(client: httpx.Client) -> None:
    agent = {"runner": "command", "options": {"command": ["sh", "-c", WORKING]}}
    client.put("/v1/agents/agent", json=agent).raise_for_status()
    session = create_natively(client)

    for path, body in (
        (f"/viben/api/sessions/{session}/message", {"content": "one"}),
        (f"/v1/sessions/{session}/runs?wait=20", {"input": [{"type": "text", "text": "two"}]}),
    ):
        client.post(path, json=body).raise_for_status()

    row = assert_all_agree(client, session)
    assert (row["message_count"], row["prompt_tokens"], row["completion_tokens"]) == (4, 14, 6)
    natively = read(client, f"/v1/sessions/{session}/runs?order=asc")["data"]
    through_operativus = read(client, f"/operativus/api/sessions/{session}/runs")
    assert len(natively) == len(through_operativus) == 2
    assert {run["status"] for run in natively} == {"completed"}
    steps = read(client, f"/v1/sessions/{session}/replay", method="POST")["steps"]
    assert [step["action"] for step in steps].count("call_tool") == 2
    assert [step["output"]["output"] for step in steps if step["action"] == "run_agent"] == ["found", "found"]


def test_a_message_sent_through_viben_is_in_every_other_wire(client: httpx.Client) -> None:
    session = create_through_viben(client)

    sent = client.post(f"/viben/api/sessions/{session}/message", json={"content": "Hello there"}).json()

    hello = {"role": "user", "content": "Hello there"}
    assert read(client, f"/operativus/api/sessions/{session}")["messages"][-1] == hello
    (row,) = read(client, f"/openagents/api/session?id={session}")
    assert json.loads(row["messages"])[-1] == hello
    event = read(client, f"/v1/sessions/{session}/events")["data"][-1]
    assert (event["type"], event["data"]["content"]) == ("message.user", "Hello there")
    assert millis(event["created_at"]) == sent["timestamp"]
    told = read(client, f"/agentinbox/api/v1/sessions/{session}/timeline")["events"][-1]
    assert told["type"] == "message.user"
    assert told["payload"] == {"messageId": f"msg_{event['seq']}.{session}", **hello}


@pytest.mark.parametrize("status", Status)
def test_a_status_is_shown_as_each_wire_knows_it(client: httpx.Client, status: str) -> None:
    session = _id_of(client.post("/v1/sessions", json={"agent_id": "agent"}))
    if status != "created":
        change_status(client, session, "active")
        change_status(client, session, status)

    assert assert_all_agree(client, session)["status"] == status
    for shown in ("active", "completed", "failed"):
        listed = read(client, f"/agentinbox/api/v1/sessions?status={shown}")
        assert (len(listed["data"]), listed["pagination"]["total"]) == ((1, 1) if shown == _inbox(status) else (0, 0))
    for each in Status:
        assert len(read(client, f"/viben/api/sessions?status={each}")["sessions"]) == (each == status)
        assert read(client, f"/v1/sessions?status={each}&include=total")["total"] == (each == status)


def _inbox(status: str) -> str:
    return AGENTINBOX_STATUS[status]


DELETERS: Final = {
    "native": "/v1/sessions/{}",
    "openagents": "/openagents/api/session/{}",
    "operativus": "/operativus/api/sessions/{}",
    "viben": "/viben/api/sessions/{}",
}


@pytest.mark.parametrize("path", DELETERS.values(), ids=DELETERS)
def test_what_one_wire_deletes_is_gone_from_all(client: httpx.Client, path: str) -> None:
    session = create_natively(client)
    client.post(f"/v1/sessions/{session}/messages", json={"content": "x"}).raise_for_status()

    assert client.delete(path.format(session)).is_success

    for gone, status in (
        (f"/v1/sessions/{session}", 404),
        (f"/v1/sessions/{session}/messages", 404),
        (f"/v1/sessions/{session}/events", 404),
        (f"/v1/sessions/{session}/stream", 404),
        (f"/operativus/api/sessions/{session}", 404),
        (f"/viben/api/sessions/{session}", 404),
        (f"/agentinbox/api/v1/sessions/{session}", 404),
        (f"/agentinbox/api/v1/sessions/{session}/timeline", 404),
    ):
        assert client.get(gone).status_code == status, gone
    assert client.delete(f"/openagents/api/session/{session}").status_code == 400
    assert client.post(f"/viben/api/sessions/{session}/message", json={"content": "x"}).status_code == 404
    assert read(client, "/openagents/api/session") == []
    assert read(client, "/viben/api/sessions") == {"sessions": []}
    assert read(client, "/v1/sessions?include=total") == {
        "data": [],
        "next_cursor": None,
        "prev_cursor": None,
        "total": 0,
    }
    assert read(client, "/operativus/api/sessions")["totalElements"] == 0
    assert read(client, "/agentinbox/api/v1/sessions")["pagination"]["total"] == 0
    entry, *_ = read(client, "/openagents/api/audit")
    assert (entry["eventName"], json.loads(entry["recordLocator"])) == ("deleteSession", {"id": session})
    # The id is free again, and nothing of what was is there.
    client.post("/v1/sessions", json={"id": session}).raise_for_status()
    assert [event["seq"] for event in read(client, f"/v1/sessions/{session}/events")["data"]] == [1]


# What reads, or finds again what it has found, does nothing that could be done twice.
READING: Final = {"replay_session", "extract", "extract_message"}
# They only say what was missing from the path.
NEVER: Final = {"create_session_without_id", "delete_session_without_id"}
# What is answered by a stream, and what needs a run that waits: see the tests of their dialects.
ELSEWHERE: Final = {"stream_agent", "respond_to_run"}
RETRIED: Final = [
    claim
    for claim in ASKED
    if claim.route.method in ("POST", "PATCH") and action_of(claim) not in READING | NEVER | ELSEWHERE
]
CONDITIONAL: Final = [
    claim
    for claim in ASKED
    if claim.route.guarded
    and action_of(claim) not in NEVER
    # Keys, agents, inboxes, waits and users have no versions.
    and not {"key_id", "agent_id", "inbox_id", "inboxId", "waitId", "user_id"} & set(params_of(claim))
]
BODY: Final[Mapping[str, Mapping[str, Any]]] = {
    "create_session": {"agent_id": "a", "agentId": "a", "userName": "me", "userEmail": "me@here.example", "name": "n"},
    "append_messages": {"content": "said"},
    "pop_message": {},
    "append_events": {"type": "note.made", "data": {"n": 1}},
    "send_message": {"content": "said"},
    "patch_session": {"data": {"k": 1}},
    "create_key": {"name": "k"},
    "complete_session": {},
    "complete_session_in_short": {},
    "fail_session": {},
    "start_run": {"input": "said"},
    "cancel_run": {},
    "retry_run": {},
    "run_agent": {"message": "said"},
    "create_agent": {"id": "new", "runner": "echo"},
    "create_inbox": {"session_id": "mine", "sessionId": "mine"},
    "put_mail": {"from": "me@here.example", "text": "x"},
    "create_wait": {"type": "otp", "session_id": "mine", "sessionId": "mine"},
    "cancel_wait": {},
    "complete_wait": {"result": {"approved": True}},
}
REUSED: Final = {"native": 422, "viben": 422, "operativus": 422, "openagents": 400, "agentinbox": 409}


class Mine(msgspec.Struct, frozen=True):
    """The session `mine`, and what there is in it."""

    etag: str
    last_seq: int
    run: str
    """A run that was cancelled where one is to be tried again, else one that is not begun."""
    inbox: str
    wait: str


def make_mine(tenant: Tenant, claim: Claim) -> Mine:
    """Make the session `mine` and what else a claim needs. No run is under way: nothing happens by itself."""
    action, run, inbox, wait = action_of(claim), "none", "none", "none"
    with tenant.client() as client:
        made = client.post("/v1/sessions", json={"id": "mine", "agent_id": "a", "messages": [{"content": "x"}]})
        assert made.status_code == 201
        if action == "run_agent":
            client.put("/v1/agents/echo", json={"runner": "echo"}).raise_for_status()
        if action in ("start_run", "cancel_run", "retry_run"):
            client.put("/v1/agents/a", json={"runner": "echo"}).raise_for_status()
            client.patch("/v1/sessions/mine", json={"status": "paused"}).raise_for_status()
        if action in ("cancel_run", "retry_run"):
            run = client.post("/v1/sessions/mine/runs", json={"input": "x"}).raise_for_status().json()["id"]
        if action == "retry_run":
            client.post(f"/v1/runs/{run}/cancel").raise_for_status()
        if action == "put_mail":
            inbox = _id_of(client.post("/v1/inboxes", json={"session_id": "mine"}))
        if action in ("cancel_wait", "complete_wait"):
            wait = _id_of(client.post("/v1/waits", json={"type": "approval", "session_id": "mine"}))
        now = client.get("/v1/sessions/mine")
        return Mine(now.headers["etag"], now.json()["last_seq"], run, inbox, wait)


def path_to(claim: Claim, mine: Mine) -> str:
    """Return a claim's path to what there is, or to what it will make."""
    new = "new" if action_of(claim) == "create_session" else "mine"
    ids = dict.fromkeys(("id", "session_id", "sessionId"), new)
    others = {"inbox_id": mine.inbox, "inboxId": mine.inbox, "wait_id": mine.wait, "waitId": mine.wait}
    return path_of(claim, ids | others | {"run_id": mine.run, "agentId": "echo"})


def stored(tenant: Tenant) -> tuple[Any, ...]:
    with tenant.client() as client:
        return (
            read(client, "/v1/sessions?limit=1000&include=total"),
            len(read(client, "/v1/keys?limit=1000")["data"]),
            [read(client, f"/v1/sessions/{each['id']}/events") for each in read(client, "/v1/sessions")["data"]],
            read(client, "/v1/runs?limit=1000&include=total"),
            read(client, "/v1/agents?limit=1000"),
            read(client, "/v1/inboxes?limit=1000"),
            read(client, "/v1/waits?limit=1000"),
        )


def body_of(claim: Claim) -> dict[str, Any]:
    return dict(BODY[action_of(claim)])


@pytest.mark.parametrize("claim", RETRIED, ids=name_of)
def test_a_request_that_comes_twice_under_one_key_is_done_once_and_answered_the_same(
    tenant: Tenant, claim: Claim
) -> None:
    mine = make_mine(tenant, claim)
    caller = key_for(tenant, claim)
    before = stored(tenant)

    with caller.client(headers={**caller.headers, "Idempotency-Key": "once"}) as client:
        first = client.request(claim.route.method, path_to(claim, mine), json=body_of(claim))
        after = stored(tenant)
        again = client.request(claim.route.method, path_to(claim, mine), json=body_of(claim))
        other = client.request(claim.route.method, path_to(claim, mine), json={**body_of(claim), "another": True})

    assert first.is_success, first.text
    assert after != before
    assert (again.status_code, again.headers.get("etag")) == (first.status_code, first.headers.get("etag"))
    # A key's secret is shown once: it is kept nowhere.
    assert without_secret(again) == without_secret(first)
    assert_refused(other, claim.dialect, statuses=(REUSED[claim.dialect.name],))
    assert stored(tenant) == after


def without_secret(answer: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "key"}


@pytest.mark.parametrize("claim", [claim for claim in RETRIED if claim.prefixed], ids=name_of)
async def test_a_request_that_comes_many_times_at_once_under_one_key_is_done_once(tenant: Tenant, claim: Claim) -> None:
    def ask_under(key: str) -> Any:
        async def ask() -> tuple[int, Any]:
            async with Connection(tenant.serving.url, tenant.headers) as connection:
                answer = await connection.ask(
                    claim.route.method,
                    path_to(claim, mine),
                    json.dumps(body_of(claim)).encode(),
                    {"Idempotency-Key": key},
                )
                return answer.status, {name: value for name, value in answer.json.items() if name != "key"}

        return asyncio.gather(*[ask() for _ in range(8)])

    mine = await asyncio.to_thread(make_mine, tenant, claim)

    answers = await ask_under("once")
    after = await asyncio.to_thread(stored, tenant)
    await ask_under("once")

    assert all(answer == answers[0] for answer in answers)
    assert 200 <= answers[0][0] < 300
    assert await asyncio.to_thread(stored, tenant) == after
    (row,) = [row for row in after[0]["data"] if row["id"] == "mine"]
    assert row["last_seq"] <= mine.last_seq + 2  # at most what was asked for: a message, and a run that answers it


@pytest.mark.parametrize("claim", RETRIED, ids=name_of)
def test_a_refusal_is_not_kept_under_a_key(tenant: Tenant, claim: Claim) -> None:
    caller = key_for(tenant, claim)
    mine = make_mine(tenant, claim)

    with caller.client(headers={**caller.headers, "Idempotency-Key": "once"}) as client:
        refused = client.request(
            claim.route.method, path_to(claim, mine), content=b"{" if claim.route.body else b"{}" * 2**20
        )
        done = client.request(claim.route.method, path_to(claim, mine), json=body_of(claim))

    assert_refused(refused, claim.dialect, statuses=(400, 413))
    assert done.is_success, done.text


@pytest.mark.parametrize("claim", CONDITIONAL, ids=name_of)
def test_a_change_to_an_old_version_is_refused(tenant: Tenant, claim: Claim) -> None:
    mine = make_mine(tenant, claim)
    old = mine.etag
    caller = key_for(tenant, claim)
    with caller.client() as client:
        client.post("/v1/sessions/mine/messages", json={"content": "newer"}).raise_for_status()
        now = client.get("/v1/sessions/mine").headers["etag"]
        before = stored(tenant)

        for stale in (old, '"nonsense"', f"{old}, {old}", f"W/{now}"):
            refused = client.request(
                claim.route.method, path_to(claim, mine), json=_change(claim), headers={"If-Match": stale}
            )
            assert_refused(refused, claim.dialect, statuses=(412,))
        assert stored(tenant) == before

        done = client.request(
            claim.route.method, path_to(claim, mine), json=_change(claim), headers={"If-Match": f"{old}, {now}"}
        )
    assert done.is_success, done.text
    assert stored(tenant) != before


@pytest.mark.parametrize("claim", CONDITIONAL, ids=name_of)
def test_any_version_matches_a_star(tenant: Tenant, claim: Claim) -> None:
    mine = make_mine(tenant, claim)
    caller = key_for(tenant, claim)

    with caller.client() as client:
        done = client.request(claim.route.method, path_to(claim, mine), json=_change(claim), headers={"If-Match": "*"})

    assert done.is_success, done.text


def _change(claim: Claim) -> dict[str, Any] | None:
    return body_of(claim) if claim.route.body is not None else None
