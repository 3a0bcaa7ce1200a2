"""No key of one workspace reaches anything of another, by any route there is; nor a user's key another user's."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
import msgspec
import pytest

from sessiond.auth.refusals import UNKNOWN
from sessiond.core.caller import ALL_SCOPES
from sessiond.web.routes import Claim
from tests.end_to_end.claims import ASKED, CLAIMS, ONCE, action_of, fields_of, key_for, name_of, params_of, path_of
from tests.serving import TLS, Serving, Tenant

MARKER: Final = "Geheimnis-5e0f"
"""In everything of the other's that a stranger does not name."""
NEVER_WAS: Final = "never-was"


SAID: Final[dict[str, dict[str, Any]]] = {
    "append_events": {
        "type": "note.made",
        "action": "mine",
        "input": {"whose": "mine"},
        "output": {"whose": "mine"},
        "duration_ms": 1.5,
        "events": None,
    },
}
"""What fields of a body say that mean something else elsewhere; None: nothing."""


class Names(msgspec.Struct, frozen=True):
    """What of somebody's there is to name."""

    session: str
    message: str
    key: str
    agent: str
    user: str
    task: str
    run: str = "run_none"
    inbox: str = "inb_none"
    mail: str = "msg_none"
    wait: str = "wait_none"
    erasure: str = "era_none"

    def params(self) -> dict[str, str]:
        """Return what can stand in a path, by the names that routes give to it."""
        return {
            "id": self.session,
            "sessionId": self.session,
            "session_id": self.session,
            "message_id": self.message,
            "agentId": self.agent,
            "agent_id": self.agent,
            "run_id": self.run,
            "runId": self.run,
            "key_id": self.key,
            "inbox_id": self.inbox,
            "mail_id": self.mail,
            "wait_id": self.wait,
            "inboxId": self.inbox,
            "messageId": self.mail,
            "waitId": self.wait,
            "user_id": self.user,
            "erasure_id": self.erasure,
            "secret": "not-a-secret",
        }

    def fields(self) -> dict[str, Any]:
        """Return what a body or a query can say, by the names of their fields."""
        times = {"created_after": "1970-01-01T00:00:00Z", "created_before": "9999-01-01T00:00:00Z"}
        sizes = {"limit": 100, "offset": 0, "page": 0, "size": 100, "after": 0, "before": 10**9}
        orders = {"order": "asc", "sort": None, "orderBy": "createdAt", "cursor": None, "type": "otp"}
        said = {"role": "user", "content": "mine", "messages": [{"content": "mine"}], "reason": "mine"}
        mine = {"name": "mine", "prompt": "mine", "metadata": {"whose": "mine"}, "data": {"whose": "mine"}}
        people = {"user_name": "me", "userName": "me", "user_email": "me@a.example", "userEmail": "me@a.example"}
        terms = {"accept_terms": True, "acceptTerms": "true"}
        ends = {"expires_at": "2999-01-01T00:00:00Z", "ttlSeconds": 1000}
        whose = {
            "id": self.session,
            "agent_id": self.agent,
            "agentId": self.agent,
            "user_id": self.user,
            "userId": self.user,
            "task_id": self.task,
            "session_id": self.session,
            "sessionId": self.session,
            "query": self.session,
            "q": MARKER,
            "inbox_id": self.inbox,
            "inboxId": self.inbox,
            "messageId": self.mail,
        }
        how = {
            "mode": "rerun",
            "status": "active",
            "include": None,
            "if_exists": "return",
            "scopes": ["sessions:read"],
            "dialect": None,
            "event": "deleteSession",
            "actor": self.key,
            "erase": "true",
        }
        runs = {
            "input": "mine",
            "message": "mine",
            "multitask_strategy": "enqueue",
            "start_run": True,
            "option_id": "yes",
        }
        waits: dict[str, Any] = {"wait": 0.1, "deltas": True, "stream": False}
        agents = {"runner": "echo", "options": {"delay_ms": 1}, "time_limit_seconds": 1.5, "retries": 0}
        agents |= {"backoff_seconds": 0.5, "concurrency": 1, "history": 1, "fails_session": False}
        inboxes = {"purpose": "mine", "ttl_seconds": 1000, "active": True}
        mails: dict[str, Any] = {
            "from": "me@a.example",
            "to": ["you@a.example"],
            "subject": "mine",
            "text": "mine",
            "html": "mine",
        }
        mails |= {"message_id": "mine@a.example", "sent_at": "2020-01-01T00:00:00Z"}
        waits |= {"timeout_seconds": 1000, "critical": True, "since": "1970-01-01T00:00:00Z"}
        waits |= {"subject_contains": "e", "events": ["message.*"], "title": "mine", "detail": "mine", "at": None}
        waits |= {"result": {"approved": True}, "timeoutSeconds": 1000, "filters": {"since": "1970-01-01T00:00:00Z"}}
        all = times | sizes | orders | said | mine | people | terms | ends | whose | how | runs | waits | agents
        return all | inboxes | mails


def register(client: httpx.Client, names: Names, **agent: Any) -> None:
    client.put(f"/v1/agents/{names.agent}", json=agent or {"runner": "echo"}).raise_for_status()


def make_session(client: httpx.Client, names: Names, content: str) -> Names:
    """Make a session with a run that has ended, of an agent that is registered; return the names with the run's."""
    body = {
        "id": names.session,
        "agent_id": names.agent,
        "user_id": names.user,
        "task_id": names.task,
        "name": content,
        "user_name": content,
        "user_email": f"{content}@b.example",
        "accept_terms": True,
        "prompt": content,
        "metadata": {content: content},
        "data": {content: [content]},
        "messages": [{"role": "user", "content": content, "metadata": {content: content}}],
    }
    client.post("/v1/sessions", json=body).raise_for_status()
    run = client.post(f"/v1/sessions/{names.session}/runs?wait=20", json={"input": content}).raise_for_status().json()
    assert (run["status"], run["output"]) == ("completed", content)
    # A mail was read, and somebody waits for the next one.
    inbox = _make(client, "/v1/inboxes", session_id=names.session, purpose=content, metadata={content: content})
    mail = _make(client, f"/v1/inboxes/{inbox}/mails", **{"from": "me@b.example"}, subject=content, text=content)
    wait = _make(client, "/v1/waits", type="email", inbox_id=inbox, title=content, detail=content)
    return msgspec.structs.replace(names, run=run["id"], inbox=inbox, mail=mail, wait=wait)


def _make(client: httpx.Client, path: str, **body: Any) -> str:
    made: str = client.post(path, json=body).raise_for_status().json()["id"]
    return made


class Other:
    """A workspace full of secrets, and what there is to know about it."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant: Final = tenant
        with tenant.client() as client:
            self.key_id = client.post("/v1/keys", json={"name": MARKER}).json()["id"]
            # Sessions that a stranger may know of and names, and others, made through every wire, that it does not.
            self.names = self._make(client, "known")
            self._make(client, MARKER)
            for path, body in (
                (
                    f"/openagents/api/exec/session/{MARKER}-2",
                    {"agentId": MARKER, "userName": MARKER, "userEmail": MARKER},
                ),
                ("/viben/api/sessions", {"agent_id": MARKER, "task_id": MARKER, "prompt": MARKER}),
                ("/agentinbox/api/v1/sessions", {"name": MARKER, "metadata": {MARKER: MARKER}}),
                ("/v1/sessions", {"id": f"{MARKER}-3", "user_id": MARKER}),
            ):
                client.post(path, json=body).raise_for_status()
            client.delete(f"/v1/sessions/{MARKER}-3").raise_for_status()  # for the audit log
            erased = client.delete(f"/v1/users/{MARKER}/data").raise_for_status().json()
            self.names = msgspec.structs.replace(self.names, erasure=erased["id"])
        self._commits, self._seen = -1, dict[str, Any]()

    def _make(self, client: httpx.Client, name: str) -> Names:
        names = Names(f"{name}-session", f"msg_3.{name}-session", self.key_id, f"{name}-agent", f"{name}-user", name)
        register(client, names)
        names = make_session(client, names, MARKER)
        # What it is set to is nobody's business either.
        register(client, names, runner="command", options={"command": ["true", MARKER]}, retries=0)
        said = client.get(f"/v1/sessions/{names.session}/messages/{names.message}")
        assert said.status_code == 200, said.text
        return names

    def look(self) -> dict[str, Any]:
        """Return everything that there is in the workspace, and how often, as the wires show it.

        It is the same as last time when the server has committed nothing since.
        """
        commits = self.tenant.serving.commits
        if commits != self._commits:
            self._commits, self._seen = commits, self._look()
        return self._seen

    def _look(self) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        with self.tenant.client() as client:
            listed = client.get("/v1/sessions?limit=1000&include=total")
            seen["sessions"] = listed.content
            for session in listed.json()["data"]:
                for path in ("", "/events?limit=1000", "/messages?limit=1000", "/runs?limit=1000"):
                    answer = client.get(f"/v1/sessions/{session['id']}{path}")
                    seen[f"{session['id']}{path}"] = (answer.status_code, answer.headers.get("etag"), answer.content)
            for inbox in client.get("/v1/inboxes?limit=1000&order=asc").json()["data"]:
                seen[f"mails of {inbox['id']}"] = client.get(f"/v1/inboxes/{inbox['id']}/mails?limit=1000").content
            for noun in ("inboxes", "waits"):
                seen[noun] = client.get(f"/v1/{noun}?limit=1000&order=asc").json()["data"]
            seen["agents"] = client.get("/v1/agents?limit=1000").content
            seen["erasures"] = client.get("/v1/erasures?limit=1000").json()["data"]
            seen["runs"] = client.get("/v1/runs?limit=1000&order=asc").json()["data"]
            keys = client.get("/v1/keys?limit=1000").json()["data"]
            # This very request is a use.
            seen["keys"] = [{name: key[name] for name in key if name != "last_used_at"} for key in keys]
            for path in (
                "/openagents/api/session",
                "/operativus/api/sessions?size=100",
                f"/operativus/api/sessions?userId={self.names.user}",
                f"/operativus/api/sessions?agentId={self.names.agent}",
                "/viben/api/sessions",
                f"/viben/api/sessions?task_id={self.names.task}",
                "/agentinbox/api/v1/sessions?status=active",
            ):
                seen[path] = client.get(path).content
            # Who was refused without a key is noted here, some seconds later.
            noted = client.get("/openagents/api/audit").json()
            seen["audit"] = [entry for entry in noted if entry["keyLocatorHash"] != UNKNOWN]
        return seen


@pytest.fixture(scope="module")
def other(serving: Serving) -> Other:
    return Other(serving.make_tenant())


def make_stranger(serving: Serving) -> tuple[Tenant, Names]:
    """Return a new workspace with things of its own, called as the other's may not be."""
    stranger = serving.make_tenant()
    with stranger.client() as client:
        key = client.post("/v1/keys", json={"name": "mine"}).json()["id"]
        mine = Names("my-session", "msg_3.my-session", key, "my-agent", "my-user", "my-task")
        register(client, mine)
        mine = make_session(client, mine, "mine")
    return stranger, mine


def whose_params(claim: Claim, mine: Names, theirs: Names) -> Iterator[dict[str, str]]:
    """Yield every way to fill a path with what is mine and theirs, something theirs; the only way where it is whole."""
    names = params_of(claim)
    for chosen in itertools.product((theirs, mine), repeat=len(names)):
        if theirs in chosen or not names:
            yield {name: whose.params()[name] for name, whose in zip(names, chosen, strict=True)}


def requests(claim: Claim, params: Mapping[str, str], theirs: Names) -> Iterator[dict[str, Any]]:
    """Yield requests on a path: bare, and with every field that the route takes naming what is theirs."""
    path, said = path_of(claim, params), theirs.fields() | SAID.get(action_of(claim), {})
    query = {name: said[name] for name in fields_of(claim.route.query)}
    body = {name: said[name] for name in fields_of(claim.route.body)}
    asked = {name: value for name, value in query.items() if value is not None}
    told = {name: value for name, value in body.items() if value is not None}
    yield {"url": path, "json": told if claim.route.body is not None else None}
    for name, value in asked.items():
        yield {"url": path, "params": {name: value}}
    if asked:
        yield {"url": path, "params": asked}
    if claim.route.body is not None:
        yield {"url": path, "json": {}}
        yield {"url": path, "json": {name: told[name] for name in told if name not in ("messages", "if_exists")}}
        for name in told:
            yield {"url": path, "json": {each: value for each, value in told.items() if each != name}}
    yield {"url": path, "headers": {"If-Match": "*", "Idempotency-Key": "theirs", "Last-Event-ID": "0"}, "json": told}


def assert_nothing_of(other: Other, answer: httpx.Response, sent: str) -> None:
    said = answer.text + str(answer.headers)
    assert MARKER not in said
    hidden = [other.tenant.workspace, other.tenant.database_id_hash, other.tenant.key]
    # What was sent may come back, as the path does in errors, or as one's own session of that id.
    hidden += [name for name in msgspec.structs.astuple(other.names) if name not in sent and len(name) > 5]
    assert not [name for name in hidden if name in said]


@pytest.mark.parametrize("claim", ASKED, ids=name_of)
def test_no_route_shows_or_changes_anything_of_another_workspace(serving: Serving, other: Other, claim: Claim) -> None:
    before = other.look()
    assert MARKER in str(before)

    stranger, mine = make_stranger(serving)
    sent = ""
    with key_for(stranger, claim).client() as client:
        for params in whose_params(claim, mine, other.names):
            for request in requests(claim, params, other.names):
                sent += str(request)
                answer = client.request(claim.route.method, timeout=10, **request)

                assert answer.status_code < 500
                assert_nothing_of(other, answer, sent)
    assert other.look() == before


@pytest.mark.parametrize("claim", [claim for claim in ONCE if params_of(claim)], ids=name_of)
def test_what_is_another_workspaces_looks_like_what_never_was(serving: Serving, other: Other, claim: Claim) -> None:
    stranger, mine = make_stranger(serving)
    strange = Names(NEVER_WAS, f"msg_3.{NEVER_WAS}", "key_never", "never-agent", "never-user", "never-task", "run_0")

    with key_for(stranger, claim).client() as client:
        for theirs, never in zip(
            whose_params(claim, mine, other.names), whose_params(claim, mine, strange), strict=True
        ):
            seen = [
                _told(client.request(claim.route.method, timeout=10, **request), names)
                for params, names in ((theirs, other.names), (never, strange))
                for request in list(requests(claim, params, names))[:1]
            ]
            assert seen[0] == seen[1]


# What differs in every answer; the last of them stand in receipts.
_EACH_ITS_OWN: Final = (
    *("request_id", "timestamp", "created_at", "updated_at"),
    *("requested_at", "completed_at", "salt", "hash", "sessions_digest", "signature"),
)


def _told(answer: httpx.Response, names: Names) -> tuple[int, str]:
    """Return an answer without what differs in every one, and without the names that were asked for."""
    text = re.sub(rf'"({"|".join(_EACH_ITS_OWN)})":"[^"]*"', "", answer.text)
    text = re.sub(r'"audit_seq":[0-9]+', "", text)
    for name in sorted(msgspec.structs.astuple(names), key=len, reverse=True):
        text = text.replace(name, "…")
    text = re.sub(r'"era_[0-9a-f]{32}"', "", text)
    return answer.status_code, text


@pytest.mark.parametrize("claim", [claim for claim in ASKED if claim.dialect.name == "openagents"], ids=name_of)
def test_another_workspaces_hash_opens_nothing(serving: Serving, other: Other, claim: Claim) -> None:
    before = other.look()
    stranger, mine = make_stranger(serving)
    caller = key_for(stranger, claim)

    for header in ("database-id-hash", "x-database-id"):
        headers = {"Authorization": caller.headers["Authorization"], header: other.tenant.database_id_hash}
        with caller.client(headers=headers) as client:
            for params in whose_params(claim, mine, other.names):
                for request in requests(claim, params, other.names):
                    request["headers"] = {**request.get("headers", {}), **headers}
                    answer = client.request(claim.route.method, **request)

                    assert answer.status_code == 403, answer.text
                    assert_nothing_of(other, answer, str(request))
    assert other.look() == before


@pytest.mark.parametrize("claim", CLAIMS, ids=name_of)
def test_without_a_key_nothing_of_a_workspace_is_to_be_seen(serving: Serving, other: Other, claim: Claim) -> None:
    before = other.look()

    for headers in ({}, {"database-id-hash": other.tenant.database_id_hash}):
        with httpx.Client(base_url=serving.url, headers=headers, verify=TLS) as client:
            answer = client.request(claim.route.method, path_of(claim, other.names.params()))

            # What is open to all by the secret in its path is not open without.
            assert answer.status_code == ((404 if params_of(claim) else 200) if claim.route.public else 401)
            assert MARKER not in answer.text
    assert other.look() == before


# Agents are their workspace's, and read by all who read in it.
OF_USERS: Final = [claim for claim in ONCE if not claim.path.startswith("/v1/agents")]


@pytest.mark.parametrize("claim", OF_USERS, ids=name_of)
def test_no_route_shows_or_changes_another_users_session(tenant: Tenant, claim: Claim) -> None:
    other = Other(tenant)
    mine = Names("my-session", "msg_3.my-session", other.key_id, "my-agent", "me", "my-task")
    caller = tenant.make_key(scopes=ALL_SCOPES - {"admin"}, dialect=claim.dialect.name, user_id="me")
    with tenant.client() as client:
        register(client, mine)
    before = other.look()

    with caller.client() as client:
        mine = make_session(client, mine, "mine")
        for params in whose_params(claim, mine, other.names):
            for request in requests(claim, params, other.names):
                answer = client.request(claim.route.method, timeout=10, **request)

                assert answer.status_code < 500
                assert MARKER not in answer.text + str(answer.headers)
    with tenant.client() as client:
        for session in client.get("/v1/sessions?user_id=me&limit=1000").json()["data"]:
            client.delete(f"/v1/sessions/{session['id']}").raise_for_status()
    assert _of_others(other.look()) == _of_others(before)


def _of_others(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what tells of this test's own tidying up, and what of its own outlives it."""
    mine = {f"mails of {inbox['id']}" for inbox in seen["inboxes"] if inbox["user_id"] == "me"}
    others = {name: value for name, value in seen.items() if name not in {"audit", *mine}}
    for name in ("runs", "inboxes", "waits"):
        others[name] = [one for one in seen[name] if one["user_id"] != "me"]
    return others
