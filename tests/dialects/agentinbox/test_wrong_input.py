"""Whatever is wrong with a request to the agentinbox wire, it gets a 4xx in the wire's shape, and nothing is stored."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from sessiond.dialects.agentinbox.routes import DIALECT
from tests.dialects.agentinbox.mailing import create_inbox, create_session, create_wait, get, message_in, send
from tests.serving import Tenant

ROUTES_WITH_ID = [(route.method, route.path) for route in DIALECT.routes if "{id}" in route.path]
ROUTES_WITH_OTHER_IDS = [
    (route.method, route.path) for route in DIALECT.routes if "{" in route.path and "{id}" not in route.path
]
OPEN = re.compile(r"\{\w+\}")
WORDS = {400: "Invalid request", 404: "Not found", 405: "Method not allowed", 413: "Payload too large"}


@pytest.fixture
def mount() -> str:
    """Once: at the root the same routes answer."""
    return "/agentinbox"


def _refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error", "message"}
    assert body["error"] == WORDS[status]
    message: str = body["message"]
    return message


def _each(field: str, *values: Any) -> list[tuple[str, Any]]:
    return [(field, value) for value in values]


def _nothing_is_stored(api: httpx.Client) -> bool:
    total: int = api.get("/api/v1/sessions").json()["pagination"]["total"]
    return total == 0


@pytest.mark.parametrize("name", ["", " ", None])
def test_an_empty_name_is_no_name(api: httpx.Client, name: str | None) -> None:
    assert _refused(api.post("/api/v1/sessions", json={"name": name}), 400) == "name is required"
    assert _nothing_is_stored(api)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 5),
        ("name", ["flow"]),
        ("name", "nul\0"),
        ("name", "x" * 10_000),
        ("metadata", "text"),
        ("metadata", [1]),
        ("metadata", {str(number): number for number in range(65)}),
        ("metadata", {"long": "x" * 70_000}),
        ("ttlSeconds", 0),
        ("ttlSeconds", -1),
        ("ttlSeconds", 1.5),
        ("ttlSeconds", "3600"),
        ("ttlSeconds", 2**31),
        ("ttlSeconds", 10**30),
    ],
)
def test_a_wrong_field_is_refused_by_name(api: httpx.Client, field: str, value: Any) -> None:
    assert field in _refused(api.post("/api/v1/sessions", json={"name": "flow", field: value}), 400)
    assert _nothing_is_stored(api)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(api: httpx.Client, body: bytes) -> None:
    assert "body" in _refused(api.post("/api/v1/sessions", content=body), 400)
    assert _nothing_is_stored(api)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *_each("ttlSeconds", 0, -1, 1.5, "3600", True, []),
        *_each("purpose", 5, ["signup"], "nul\0", "x" * 10_000),
        *_each("metadata", "text", [1], {"long": "x" * 70_000}),
        *_each("sessionId", 5, "", "a/b", " a", "nul\0", "x" * 10_000),
        ("ttlSeconds", 2**31),
    ],
)
def test_a_wrong_field_of_an_inbox_is_refused_by_name(api: httpx.Client, field: str, value: Any) -> None:
    message = _refused(api.post("/api/v1/inboxes", json={field: value}), 400)

    assert field in message
    if field == "ttlSeconds" and value != 2**31:
        assert message == "ttlSeconds must be a positive integer"
    assert api.get("/api/v1/inboxes").json()["pagination"]["total"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *_each("timeoutSeconds", 0, -1, 86_401, 10**30, 1.5, "60", True),
        *_each("type", "check", "approval", "event", "timer", "webhook", "OTP", "", 5, []),
        *_each("inboxId", 5, "", "a/b", "nul\0", "x" * 10_000),
        *_each("sessionId", 5, "", "a/b", "nul\0", "x" * 10_000),
        *_each("critical", "yes", 1),
        *_each("filters", "text", 5, []),
        *_each("filters", *({"from": value} for value in [5, ["a"], "nul\0", "x" * 10_000])),
        *_each("filters", *({"subjectContains": value} for value in [5, "nul\0", "x" * 10_000])),
        *_each("filters", *({"since": value} for value in [5, "yesterday", "", "1969-12-31T23:59:59Z", "nul\0"])),
    ],
)
def test_a_wrong_field_of_a_wait_is_refused_by_name(api: httpx.Client, field: str, value: Any) -> None:
    inbox_id = api.post("/api/v1/inboxes").json()["id"]

    message = _refused(api.post("/api/v1/waits", json={"inboxId": inbox_id, "type": "otp", field: value}), 400)

    assert field in message
    if field == "timeoutSeconds":
        assert message == "timeoutSeconds must be between 1 and 86400"
    if field == "type":
        assert message == "type must be one of email, otp, magic_link, password_reset"
    assert api.get("/api/v1/waits").json()["pagination"]["total"] == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"type": "otp"}, "inboxId or sessionId is required"),
        ({"type": "otp", "inboxId": None, "sessionId": None}, "inboxId or sessionId is required"),
        ({"inboxId": "inb_123"}, "type is required"),
        ({"inboxId": "inb_123", "type": None}, "type is required"),
    ],
)
def test_a_wait_says_where_and_for_what(api: httpx.Client, body: dict[str, Any], message: str) -> None:
    assert _refused(api.post("/api/v1/waits", json=body), 400) == message


def test_a_body_that_is_no_object_is_refused_of_inboxes_and_waits_too(api: httpx.Client) -> None:
    for path in ("/api/v1/inboxes", "/api/v1/waits", "/api/v1/messages/msg_456/extract"):
        for body in (b"{", b"[]", b"null", b'"text"', b"\xff"):
            assert "body" in _refused(api.post(path, content=body), 400)
    assert "body" in _refused(api.post("/api/v1/waits", content=b""), 400)
    _refused(api.post("/api/v1/messages/msg_456/extract", json={"type": "email"}), 400)


def test_metadata_nested_too_deeply_is_refused(api: httpx.Client) -> None:
    body = b'{"name": "flow", "metadata": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"

    assert "nested" in _refused(api.post("/api/v1/sessions", content=body), 400)
    assert _nothing_is_stored(api)


def test_a_body_over_the_limit_is_refused(api: httpx.Client) -> None:
    assert "body" in _refused(api.post("/api/v1/sessions", json={"name": "x" * 2**21}), 413)
    assert _nothing_is_stored(api)


def test_unknown_fields_are_ignored(api: httpx.Client) -> None:
    answer = api.post("/api/v1/sessions?x=y", json={"name": "flow", "id": "mine", "status": "failed"})

    assert answer.status_code == 201
    assert answer.json()["id"].startswith("sess_")
    assert answer.json()["status"] == "active"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=99999999999999999999999999", "limit"),
        ("offset=-1", "offset"),
        ("offset=1.5", "offset"),
        ("offset=99999999999999999999999999", "offset"),
        ("status=nonsense", "status"),
        ("status=", "status"),
        ("status=created", "status"),
        ("status=paused", "status"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%00", "cursor"),
        ("offset=1&cursor=nonsense", "offset"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(api: httpx.Client, query: str, field: str) -> None:
    assert field in _refused(api.get(f"/api/v1/sessions?{query}"), 400)


PAGING = (
    *("limit=0", "limit=-1", "limit=1001", "limit=ten", "offset=-1", "offset=1.5"),
    *("cursor=nonsense", "cursor=%00", "cursor=k8A", "offset=1&cursor=kgGhYQ"),
)


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/inboxes", (*PAGING, "status=nonsense", "status=", "status=completed", "sessionId=")),
        ("/inboxes/{inboxId}/messages", PAGING),
        ("/inboxes/{inboxId}/extractions", (*PAGING, "type=email", "type=", "messageId=")),
        ("/waits", (*PAGING, "status=cancelled", "status=", "type=check", "type=", "inboxId=", "sessionId=")),
        ("/waits/wait_456", ("wait=-1", "wait=30.5", "wait=soon", "wait=NaN")),
    ],
)
def test_a_wrong_parameter_of_inboxes_and_waits_is_refused_by_name(
    api: httpx.Client, path: str, queries: tuple[str, ...]
) -> None:
    inbox_id = api.post("/api/v1/inboxes").json()["id"]
    for query in queries:
        message = _refused(api.get(f"/api/v1{path.replace('{inboxId}', inbox_id)}?{query}"), 400)
        assert query.partition("=")[0] in message


def test_a_hold_of_more_than_half_a_minute_is_refused(api: httpx.Client) -> None:
    inbox_id = api.post("/api/v1/inboxes").json()["id"]

    refused = api.post("/api/v1/waits?wait=31", json={"inboxId": inbox_id, "type": "otp"})

    assert "wait" in _refused(refused, 400)
    assert api.get("/api/v1/waits").json()["pagination"]["total"] == 0


@pytest.mark.parametrize("include", ["nonsense", "inboxes,nonsense", "Timeline", "%00", "%FF"])
def test_an_unknown_include_is_refused(api: httpx.Client, include: str) -> None:
    session_id = api.post("/api/v1/sessions", json={"name": "flow"}).json()["id"]

    _refused(api.get(f"/api/v1/sessions/{session_id}?include={include}"), 400)


@pytest.mark.parametrize(("method", "path"), ROUTES_WITH_ID)
def test_an_odd_id_is_refused(api: httpx.Client, method: str, path: str) -> None:
    for session_id in ("", "x" * 10_000, "a%2Fb", "%20", "%F0%9F%98%80"):
        assert _refused(api.request(method, path.replace("{id}", session_id)), 404) == "Session not found"
    for session_id in ("%00", "a%00b", "%ED%A0%80", "%FF"):
        _refused(api.request(method, path.replace("{id}", session_id)), 400)


@pytest.mark.parametrize(("method", "path"), ROUTES_WITH_ID)
def test_another_workspaces_session_looks_like_none(
    api: httpx.Client, mount: str, tenant: Tenant, method: str, path: str
) -> None:
    session_id = api.post("/api/v1/sessions", json={"name": "flow"}).json()["id"]
    with tenant.serving.make_tenant().client(mount) as stranger:
        assert _refused(stranger.request(method, path.replace("{id}", session_id)), 404) == "Session not found"
        assert _nothing_is_stored(stranger)
    assert api.get(f"/api/v1/sessions/{session_id}").json()["status"] == "active"


@pytest.mark.parametrize(("method", "path"), ROUTES_WITH_OTHER_IDS)
def test_an_odd_id_of_something_else_is_refused(api: httpx.Client, method: str, path: str) -> None:
    for odd in ("x" * 10_000, "a%2Fb", "%20", "%F0%9F%98%80"):
        assert "not found" in _refused(api.request(method, OPEN.sub(odd, path)), 404)
    for odd in ("%00", "a%00b", "%ED%A0%80", "%FF"):
        _refused(api.request(method, OPEN.sub(odd, path)), 400)


def test_what_is_another_workspaces_looks_like_none(tenant: Tenant, api: httpx.Client, mount: str) -> None:
    session_id = create_session(api)
    inbox = create_inbox(api, sessionId=session_id)
    send(tenant, inbox)
    message, wait = message_in(api, inbox), create_wait(api, inbox)
    ids = {"{inboxId}": inbox["id"], "{messageId}": message["id"], "{waitId}": wait["id"]}

    with tenant.serving.make_tenant().client(mount) as stranger:
        for method, path in ROUTES_WITH_OTHER_IDS:
            [(segment, theirs)] = [(name, value) for name, value in ids.items() if name in path]
            told = stranger.request(method, path.replace(segment, theirs))
            assert told.json() == stranger.request(method, path.replace(segment, "never")).json()
            assert "not found" in _refused(told, 404)
        for path, body in (
            ("/inboxes", {"sessionId": session_id}),
            ("/waits", {"sessionId": session_id, "type": "otp"}),
            ("/waits", {"inboxId": inbox["id"], "type": "otp"}),
        ):
            assert "not found" in _refused(stranger.post(f"/api/v1{path}", json=body), 404)
        for path in (f"/inboxes?sessionId={session_id}", f"/waits?inboxId={inbox['id']}", "/waits", "/inboxes"):
            assert stranger.get(f"/api/v1{path}").json()["pagination"]["total"] == 0

    assert get(api, f"/waits/{wait['id']}") == wait
    assert get(api, f"/inboxes/{inbox['id']}") == inbox


def test_an_odd_idempotency_key_is_refused(api: httpx.Client) -> None:
    for key in ("", "x" * 256):
        _refused(api.post("/api/v1/sessions", json={"name": "flow"}, headers={"Idempotency-Key": key}), 400)
    assert _nothing_is_stored(api)


def test_another_method_is_refused(api: httpx.Client) -> None:
    answer = api.delete("/api/v1/sessions")

    _refused(answer, 405)
    assert answer.headers["allow"] == "GET, POST"


def test_an_unknown_path_below_the_prefix_is_refused_in_this_wires_shape(tenant: Tenant) -> None:
    with tenant.client("/agentinbox") as api:
        assert _refused(api.get("/api/v1/nothing"), 404) == "no such path"
