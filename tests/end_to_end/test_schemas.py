"""The OpenAPI documents that the server shows, held against what it answers to whatever they allow and forbid."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sessiond.assembly import DIALECTS
from sessiond.web.openapi import PATH
from sessiond.web.routes import Dialect, Route
from tests.serving import Tenant

EXAMPLES: Final = 25  # for each operation in each of four ways: some four thousand requests in all
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
REAL: Final = {
    "id": "real",
    "sessionId": "real",
    "session_id": "real",
    "message_id": "msg_3.real",
    "agentId": "agent",
    "agent_id": "agent",
    "run_id": "run_none",  # a new one for each request: see `make_real_run`
    "runId": "run_none",
    "key_id": "key_none",
    "inbox_id": "inb_none",  # new ones, too: see `make_real_mail`
    "mail_id": "msg_none",
    "wait_id": "wait_none",
    "inboxId": "inb_none",
    "messageId": "msg_none",
    "waitId": "wait_none",
    "secret": "none",
}
MAIL_IDS: Final = {"inbox_id", "inboxId", "mail_id", "messageId", "wait_id", "waitId", "secret"}
# Of two wires the documents leave all fields optional, because what is missing has a refusal in words of its own.
BODY: Final = {"agentId": "agent", "userName": "me", "userEmail": "me@here.example", "name": "mine"}
OPERATIONS: Final = [
    pytest.param(dialect, route, mode, id=f"{dialect.name} {route.method} {route.path} {mode.value}")
    for dialect in DIALECTS
    for route in dialect.routes
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or not route.public  # nothing that can be sent to a public route is wrong
]
# What is answered does not depend on the engine, and so many requests take their time.
pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def schemas() -> dict[str, BaseSchema]:
    """The documents that were read already."""
    return {}


@pytest.fixture
def session(tenant: Tenant) -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False  # else it looks for proxies each time
        opened.headers.update(tenant.headers)
        yield opened


def read_schema(schemas: dict[str, BaseSchema], tenant: Tenant, dialect: Dialect) -> BaseSchema:
    """Return a wire's document as its server shows it, to those without a key too."""
    if dialect.name not in schemas:
        answer = httpx.get(f"{tenant.serving.url}{dialect.prefix}{PATH}")
        assert answer.status_code == 200
        schemas[dialect.name] = openapi.from_dict(answer.json())
    return schemas[dialect.name]


@pytest.mark.parametrize("ids", [{}, REAL], ids=["any ids", "real ids"])
@pytest.mark.parametrize(("dialect", "route", "mode"), OPERATIONS)
def test_every_answer_is_in_the_document(
    tenant: Tenant,
    session: requests.Session,
    schemas: dict[str, BaseSchema],
    dialect: Dialect,
    route: Route,
    mode: GenerationMode,
    ids: dict[str, str],
) -> None:
    action = getattr(route.handler, "__name__")  # noqa: B009 - a callable's type has no name
    names = [segment[1:-1] for segment in route.path.split("/") if segment.startswith("{")]
    params = {name: ids[name] for name in names if name in ids}
    operation = read_schema(schemas, tenant, dialect)[route.path][route.method]
    given_parts: dict[str, Any] = {"path_parameters": params} if params else {}
    if route.content_type == "text/event-stream" and "session_id" in params:
        params |= {"session_id": "nobodys"}  # a stream that is let in does not end
    if (
        ids
        and mode is GenerationMode.POSITIVE
        and dialect.name in ("openagents", "agentinbox")
        and route.body is not None
    ):
        given_parts["body"] = BODY

    made: dict[str, str] = {}
    commits = -1

    checks = CHECKS
    if route.content_type == "text/event-stream" or action == "run_agent":
        # The document says that a stream is text; these would have each of its events be what it says. `run_agent`
        # answers JSON or a stream, as it is asked to, and a route has one type of content in the document.
        checks = [not_a_server_error, status_code_conformance]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode, **given_parts))
    def try_it(case: schemathesis.Case[Any]) -> None:
        nonlocal made, commits
        if ids:
            # What the last request did not change is as good as new.
            if commits != tenant.serving.commits:
                made = make_real(tenant, session, params)
                commits = tenant.serving.commits
            if made:
                case.path_parameters |= made
        if action in ("create_wait", "get_wait") and isinstance(case.query.get("wait"), int | float):
            case.query["wait"] = min(case.query["wait"], 0.05)  # nothing ends these
        case.call_and_validate(
            base_url=f"{tenant.serving.url}{dialect.prefix}", session=session, headers=tenant.headers, checks=checks
        )

    try_it()


def make_real(tenant: Tenant, session: requests.Session, names: Collection[str]) -> dict[str, str]:
    """Make what real ids name, and return the ids of what is new each time, of these names."""
    make_real_session(tenant, session)
    made: dict[str, str] = {}
    if {"run_id", "runId"} & set(names):
        run = make_real_run(tenant, session)
        made |= {"run_id": run, "runId": run}
    if MAIL_IDS & set(names):
        made |= make_real_mail(tenant, session)
    return {name: made[name] for name in names if name in made}


def make_real_session(tenant: Tenant, session: requests.Session) -> None:
    """Make the session that real ids name, and its agent, if the last request removed them."""
    agent = session.put(f"{tenant.serving.url}/v1/agents/agent", json={"runner": "echo"})
    agent.raise_for_status()
    body: dict[str, Any] = {
        "id": "real",
        "agent_id": "agent",
        "user_name": "me",
        "metadata": {"a": 1},
        "messages": [{"content": [{"type": "text", "text": "one"}]}],
        "if_exists": "return",
    }
    session.post(f"{tenant.serving.url}/v1/sessions", json=body).raise_for_status()


def make_real_run(tenant: Tenant, session: requests.Session) -> str:
    started = session.post(f"{tenant.serving.url}/v1/sessions/real/runs", json={"input": "x"})
    started.raise_for_status()
    run: str = started.json()["id"]
    return run


def make_real_mail(tenant: Tenant, session: requests.Session) -> dict[str, str]:
    """Make an inbox with a mail in it, a wait for somebody's word, and one for a call."""

    def make(path: str, **body: Any) -> Any:
        made = session.post(f"{tenant.serving.url}{path}", json=body)
        made.raise_for_status()
        return made.json()

    inbox = make("/v1/inboxes", metadata={"a": 1})["id"]
    mail = make(f"/v1/inboxes/{inbox}/mails", **{"from": "me@here.example"}, text="Your code is 482913")["id"]
    hook = make("/v1/waits", type="webhook")["hook_url"].rpartition("/")[2]
    wait = make("/v1/waits", type="approval")["id"]
    natively = {"inbox_id": inbox, "mail_id": mail, "wait_id": wait, "secret": hook}
    return natively | {"inboxId": inbox, "messageId": mail, "waitId": wait}
