"""Whatever is sent to whatever route: a refusal in that wire's words, or an answer; never a bug, and nothing stored."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import pytest
from msgspec import inspect

from sessiond.core.limits import NESTING_MAX
from sessiond.web.routes import Claim
from tests.end_to_end.claims import (
    ASKED,
    CLAIMS,
    ONCE,
    TABLE,
    action_of,
    assert_refused,
    blamed,
    fields_of,
    key_for,
    name_of,
    params_of,
    path_of,
    statuses_of,
)
from tests.serving import Tenant

REFUSED: Final = range(400, 500)
ANSWERED: Final = range(200, 300)
MINE: Final = {
    "id": "mine",
    "sessionId": "mine",
    "session_id": "mine",
    "message_id": "msg_2.mine",
    "agentId": "agent",
    "agent_id": "agent",
    "run_id": "run_none",
    "runId": "run_none",
    "key_id": "key_none",
    "inbox_id": "inb_none",
    "mail_id": "msg_none",
    "wait_id": "wait_none",
    "inboxId": "inb_none",
    "messageId": "msg_none",
    "waitId": "wait_none",
    "user_id": "nobody",
    "erasure_id": "era_none",
    "secret": "none",
}
MAIL_PATHS: Final = tuple(
    f"{prefix}/v1/{noun}"
    for prefix in ("", "/agentinbox/api", "/api")
    for noun in ("inboxes", "mails", "messages", "waits")
)
LONG: Final = "x" * 10_000
# Right to left, beyond the basic plane, combining, not a character, a private one, without width, a line's end.
ODD_TEXTS: Final = ("שלום‏", "👩‍👩‍👧‍👦", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤", "\uffff", "\ue000", "\u200b", "\u2028", "ǅ", "ﷺ", "%", "'", '"', "\\", "*")
ODD_SEGMENTS: Final = (
    *("%00", "a%00b", "%FF", "%ED%A0%80", "%C0%80", "%F0%9F%98", "%EF%BF%BF", "%F0%9F%98%80", "%E2%80%8F", "%CC%81"),
    *(
        "%0A",
        "%0D%0A",
        "%09",
        "%7F",
        "%20",
        "%2F",
        "%2E%2E%2F",
        "%25",
        "%25%30%30",
        "%",
        "%zz",
        "%2",
        "~",
        "'",
        "*",
        ";",
    ),
    *(LONG, "%E2%98%83" * 1_000, "0", "-1", "null", "undefined", "{id}", "msg_1.mine", "msg_99999999999999999999.mine"),
)
NUMBERS: Final = (
    *("-1", "0", "-0", "00", "1.5", "1e3", "1e999", "NaN", "Infinity", "0x10", "١", "²", "1_000", " 1", "+1", "true"),
    *(
        "99999999999999999999999999",
        "-99999999999999999999999999",
        "9223372036854775807",
        "9223372036854775808",
        "9" * 5_000,
    ),
)
TEXTS: Final = (
    *("%00", "a%00b", "%FF", "%ED%A0%80", "%0A", "%", "%zz", "*", "'", "%25%27", "_", "%5C", "null", "[]", "{}", "-1"),
    *(
        "%F0%9F%98%80",
        "%E2%80%8F",
        "%EF%BF%BF",
        "2026-13-45T99:99:99Z",
        "1969-12-31T23:59:59Z",
        "99999-01-01T00:00:00Z",
    ),
    *("0001-01-01T00:00:00%2B23:59", "a" * 10_000, "AAAA", "k8A", "gqNhYmM", "_____", "created", "asc", "total"),
)
BODIES: Final = (
    b"",
    b" ",
    b"{",
    b"}",
    b"nonsense",
    b"a=b&c=d",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'{"a": "\xff"}',
    b'{"a": "\\ud800"}',
    b'{"a": "\\x00"}',
    b"{'a': 1}",
    b'{"a": 1,}',
    b'{"a": 1} {"b": 2}',
    b'{"a": NaN}',
    b'{"a": 1e999999}',
    b'{"a": ' + b"9" * 100_000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"metadata":' * 5_000 + b"{}" + b"}" * 5_000,
    b"<xml/>",
)
TOP_LEVEL: Final = (b"null", b"true", b"7", b"1.5", b'"text"', b"[]", b"[{}]", b'["a", "b"]')
WRONG: Final[Mapping[type[inspect.Type], tuple[Any, ...]]] = {
    inspect.StrType: (7, 1.5, True, [], ["a"], {}, {"a": "b"}),
    inspect.IntType: ("7x", True, [], {}, 10**30, -(10**30), 1.5),
    inspect.FloatType: ("7x", True, [], {}),
    inspect.BoolType: ("yes", 1, [], {}),
    inspect.EnumType: ("no such thing", "", 7, [], {}, None),
    inspect.LiteralType: ("no such thing", "", 7, [], {}),
    inspect.DictType: ("text", 7, True, [], ["a"]),
    inspect.StructType: ("text", 7, True, [], ["a"]),
    inspect.ListType: ("text", 7, True, {}, [7], [None], [[]]),
    inspect.RawType: (7, True, None, {}, {"a": "b"}, ["a"], [None], [[]]),
}


class Watched:
    """A workspace of one's own, with a session in it, and what is stored there."""

    def __init__(self, tenant: Tenant, claim: Claim) -> None:
        self.claim: Final = claim
        self.tenant: Final = key_for(tenant, claim)
        self._looking = tenant.client()
        self._asking = self.tenant.client()
        body = {"id": MINE["id"], "agent_id": "agent", "messages": [{"content": "kept"}]}
        self._looking.post("/v1/sessions", json=body).raise_for_status()
        self.mine: Final = MINE | self._make_run(claim) | self._make_inbox(claim)
        """What can stand in a path."""
        self.kept = False
        """Whether anything may have been stored since."""
        self._commits = tenant.serving.commits
        self._seen = self._look()

    def _make_run(self, claim: Claim) -> dict[str, str]:
        """Return the id of a run that is not begun, nor is any other while the session is paused."""
        if "/runs" not in claim.path or claim.dialect.name != "native":
            return {}
        self._looking.put("/v1/agents/agent", json={"runner": "echo"}).raise_for_status()
        self._looking.patch("/v1/sessions/mine", json={"status": "paused"}).raise_for_status()
        run = self._looking.post("/v1/sessions/mine/runs", json={"input": "kept"}).raise_for_status().json()["id"]
        if action_of(claim) == "retry_run":
            self._looking.post(f"/v1/runs/{run}/cancel").raise_for_status()
        return {"run_id": run}

    def _make_inbox(self, claim: Claim) -> dict[str, str]:
        """Return the ids of an inbox, of a mail in it, and of a wait for somebody's word."""
        if not claim.path.startswith(MAIL_PATHS):
            return {}
        inbox = self._make("/v1/inboxes", session_id="mine")
        mail = self._make(f"/v1/inboxes/{inbox}/mails", **{"from": "me@here.example"}, text="kept")
        wait = self._make("/v1/waits", type="approval")
        return {
            "inbox_id": inbox,
            "inboxId": inbox,
            "mail_id": mail,
            "messageId": mail,
            "wait_id": wait,
            "waitId": wait,
        }

    def _make(self, path: str, **body: Any) -> str:
        made: str = self._looking.post(path, json=body).raise_for_status().json()["id"]
        return made

    def close(self) -> None:
        self._looking.close()
        self._asking.close()

    def _look(self) -> bytes:
        """Return what would be different if anything were stored, or gone."""
        if "keys" in self.claim.path:
            keys = json.loads(self._read("/v1/keys?limit=1000"))["data"]
            return json.dumps([(key["id"], key["revoked_at"]) for key in keys]).encode()
        if self.claim.path.startswith("/v1/agents"):
            return self._read("/v1/agents?limit=1000")
        if self.claim.path.startswith(MAIL_PATHS):
            return self._read("/v1/inboxes?limit=1&include=total") + self._read("/v1/waits?limit=1&include=total")
        return self._read("/v1/sessions?sort=updated&limit=1&include=total")

    def _read(self, path: str, *, method: str = "GET") -> bytes:
        answer = self._looking.request(method, path)
        assert answer.status_code == 200, f"{method} {path} {answer.text[:300]}"
        return answer.content

    def read_all(self) -> None:
        """Read everything through every wire: what was kept must not stand in anybody's way."""
        for path in ("/openagents/api/session", "/openagents/api/audit", "/viben/api/sessions"):
            json.loads(self._read(path))
        for number in range(json.loads(self._read("/operativus/api/sessions?size=100"))["totalPages"]):
            json.loads(self._read(f"/operativus/api/sessions?size=100&page={number}"))
        json.loads(self._read("/agentinbox/api/v1/sessions?limit=1000"))
        for inbox in json.loads(self._read("/v1/inboxes?limit=1000"))["data"]:
            for mail in json.loads(self._read(f"/v1/inboxes/{inbox['id']}/mails?limit=1000"))["data"]:
                json.loads(self._read(f"/v1/mails/{mail['id']}"))
                self._read(f"/v1/mails/{mail['id']}/raw")
            json.loads(self._read(f"/agentinbox/api/v1/inboxes/{inbox['id']}/extractions"))
        for path in ("/v1/waits", "/agentinbox/api/v1/waits", "/agentinbox/api/v1/inboxes"):
            json.loads(self._read(f"{path}?limit=1000"))
        for session in json.loads(self._read("/v1/sessions?limit=1000"))["data"]:
            json.loads(self._read(f"/v1/sessions/{quote(session['id'])}/messages"))
            json.loads(self._read(f"/v1/sessions/{quote(session['id'])}/runs"))
            json.loads(self._read(f"/agentinbox/api/v1/sessions/{quote(session['id'])}/timeline"))
            within = "inboxes,waits,messages,extractions"
            json.loads(self._read(f"/agentinbox/api/v1/sessions/{quote(session['id'])}?include={within}"))
            json.loads(self._read(f"/agentinbox/api/v1/sessions/{quote(session['id'])}/replay", method="POST"))

    def try_it(self, path: str | None = None, **sent: Any) -> httpx.Response:
        """Send something, which may be legal; a refusal is in the wire's words, and nothing came of it."""
        url = path if path is not None else path_of(self.claim, self.mine)
        with self._asking.stream(self.claim.route.method, url, **sent) as answer:
            if answer.status_code not in ANSWERED or not is_stream(self.claim):
                answer.read()
        assert answer.status_code in statuses_of(self.claim), f"{answer.status_code} is not in the document"
        refused = answer.status_code not in ANSWERED
        if refused:
            assert_refused(answer, self.claim.dialect, statuses=REFUSED)
        if self._has_committed():
            seen, self._seen = self._seen, self._look()
            assert not refused or self._seen == seen, f"refused with {answer.status_code}, and something was stored"
            self.kept = self.kept or not refused
        return answer

    def _has_committed(self) -> bool:
        """Whether the server has committed anything since the last call; else there is nothing new to look at."""
        commits, self._commits = self._commits, self.tenant.serving.commits
        return self._commits != commits

    def refuse(self, path: str | None = None, **sent: Any) -> httpx.Response:
        """Send something that is not legal in any wire."""
        answer = self.try_it(path, **sent)
        assert answer.status_code in REFUSED, f"{answer.status_code} {answer.text[:300]}"
        return answer


@contextmanager
def watching(tenant: Tenant, claim: Claim) -> Iterator[Watched]:
    watched = Watched(tenant, claim)
    try:
        yield watched
        if watched.kept:
            watched.read_all()
    finally:
        watched.close()


def is_stream(claim: Claim) -> bool:
    return claim.route.content_type == "text/event-stream"


# Each route once: at the root it is the same one, which tests of credentials, ids and methods show.
WITH_BODY: Final = [claim for claim in ONCE if claim.route.body is not None]


@pytest.mark.parametrize("claim", ASKED, ids=name_of)
def test_without_a_good_key_nothing_is_answered(tenant: Tenant, claim: Claim) -> None:
    revoked, expired = tenant.make_key(), tenant.make_key(expires_at_us=time.time_ns() // 1000 - 1)
    with tenant.client() as client:
        of_revoked = client.get("/v1/me", headers=revoked.headers).json()["key_id"]
        client.delete(f"/v1/keys/{of_revoked}").raise_for_status()
        client.post("/v1/sessions", json={"id": MINE["id"]}).raise_for_status()
        before = client.get(f"/v1/sessions/{MINE['id']}").content
    bad = f"{tenant.key[:-1]}{'a' if tenant.key[-1] != 'a' else 'b'}"
    hash_alone = {"database-id-hash": tenant.database_id_hash}
    sent: list[dict[str, Any]] = [
        {},
        *({"Authorization": each} for each in ("", "Bearer", "Bearer \t.", tenant.key, f"Basic {tenant.key}")),
        *({"Authorization": f"Bearer {each}"} for each in (bad, tenant.key.upper(), f"{tenant.key}x", tenant.key[:-1])),
        *({"Authorization": f"Bearer {each}"} for each in (revoked.key, expired.key, LONG, "null", f"{tenant.key} x")),
        *({"Authorization": each} for each in (b"Bearer \xff\xfe", "Bearer é".encode(), b"\xff")),
        *({"X-API-Key": each} for each in (bad, "", revoked.key)),
        {"Authorization": f"Bearer {bad}", "X-API-Key": tenant.key},
    ]

    with tenant.client(headers={}) as client:
        for headers in sent:
            for body in (None, dict[str, Any]()):
                answer = client.request(
                    claim.route.method, path_of(claim, MINE), headers={**hash_alone, **headers}, json=body
                )
                assert_refused(answer, blamed(claim), statuses=(401,))
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get(f"/v1/sessions/{MINE['id']}", headers=tenant.headers).content == before


@pytest.mark.parametrize("claim", ONCE, ids=name_of)
def test_a_body_that_is_no_json_of_the_right_kind_is_refused(tenant: Tenant, claim: Claim) -> None:
    with watching(tenant, claim) as watched:
        for body in (*BODIES, *TOP_LEVEL):
            # A route that takes no body does not look at one; where it is optional nothing is none.
            legal = claim.route.body is None or (claim.route.body_optional and not body.strip())
            (watched.try_it if legal or not _is_wrong(claim, body) else watched.refuse)(content=body)


def _is_wrong(claim: Claim, body: bytes) -> bool:
    """Whether a body is no JSON, or not an object that the route's type can be read from."""
    try:
        msgspec.json.decode(body, type=claim.route.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    return False


@pytest.mark.parametrize("claim", WITH_BODY, ids=name_of)
def test_a_field_of_the_wrong_type_is_refused(tenant: Tenant, claim: Claim) -> None:
    fields = fields_of(claim.route.body)
    assert fields

    with watching(tenant, claim) as watched:
        for name, kind in fields.items():
            for wrong in _wrong_values(kind):
                watched.refuse(json={**_right_body(claim), name: wrong})


@pytest.mark.parametrize("claim", WITH_BODY, ids=name_of)
def test_odd_text_in_any_field_is_kept_or_refused(tenant: Tenant, claim: Claim) -> None:
    texts = [
        name for name, kind in fields_of(claim.route.body).items() if _takes(kind, inspect.StrType, inspect.RawType)
    ]

    with watching(tenant, claim) as watched:
        for name in texts:
            for text in (*ODD_TEXTS, "", " ", LONG, "x" * 900_000, "\x01", "\x7f", "a\nb", "../..", "a/b", " a", "."):
                watched.try_it(json={**_right_body(claim), name: text})
            # Neither can be kept by PostgreSQL as text, the second in no encoding.
            for escape in ("\\u0000", "a\\u0000b", "\\ud800", "\\udfff\\ud800"):
                body = json.dumps({**_right_body(claim), name: "…"}, ensure_ascii=False).replace("…", escape)
                watched.try_it(content=body.encode())


@pytest.mark.parametrize("claim", WITH_BODY, ids=name_of)
def test_odd_json_in_any_field_is_kept_or_refused(tenant: Tenant, claim: Claim) -> None:
    with watching(tenant, claim) as watched:
        for name in fields_of(claim.route.body):
            for odd in (
                "1e308",
                "-1e308",
                "1e999",
                "123456789012345678901234567890",
                "-0",
                "0.1e-999",
                '{"\\u0000": 1}',
                '{"a": "\\u0000"}',
                '{"\\ud800": 1}',
                '{"a": "\\udc00"}',
                '{"": ""}',
                '{"a": 1, "a": 2}',
                '{"a": 18446744073709551616}',
                '{"a": 1e400}',
                '{"a": ' + "9" * 400 + "}",
                '{"a":' * 3_000 + "1" + "}" * 3_000,
                '[{"a":' + "[" * 3_000 + "]" * 3_000 + "}]",
                '[{"type": "text", "text": "\\u0000"}]',
                '[{"type": "text", "text": "\\ud800"}]',
                '[{"role": "user", "content": "\\u0000"}]',
                '[{"role": "user", "content": "\\ud800"}]',
                '[{"role": "nobody", "content": "x"}]',
                "[" + ",".join(['{"content": "x"}'] * 1_001) + "]",
                "{" + ",".join(f'"{number}": 1' for number in range(1_000)) + "}",
                '{"a": "' + "x" * 70_000 + '"}',
            ):
                right = {each: value for each, value in _right_body(claim).items() if each != name}
                body = json.dumps({**right, name: "…"}, ensure_ascii=False).replace('"…"', odd)
                watched.try_it(content=body.encode())
                # The same name twice: the last one counts, or it is refused.
                watched.try_it(content=body.removesuffix("}").encode() + b', "' + name.encode() + b'": null}')


@pytest.mark.parametrize("claim", WITH_BODY, ids=name_of)
def test_what_is_as_deep_as_may_be_is_read_through_every_wire_and_what_is_deeper_refused(
    tenant: Tenant, claim: Claim
) -> None:
    def nested(levels: int) -> Any:
        value: Any = "x"
        for level in range(levels):
            value = {"a": value} if level % 2 else [value]
        return {"a": value}

    with watching(tenant, claim) as watched:
        for name, kind in fields_of(claim.route.body).items():
            for around in (lambda deep: deep, lambda deep: [deep], lambda deep: [{"content": [deep]}]):
                levels = NESTING_MAX - 1 - _depth(around({}))
                watched.try_it(json={**_right_body(claim), name: around(nested(levels))})
                if _takes(kind, inspect.DictType, inspect.RawType, inspect.ListType):
                    watched.refuse(json={**_right_body(claim), name: around(nested(levels + 1))})


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (1 if isinstance(value, dict | list) else 0) + max(map(_depth, inner), default=0)


@pytest.mark.parametrize("claim", ONCE, ids=name_of)
def test_a_body_over_the_limit_is_refused(tenant: Tenant, claim: Claim) -> None:
    large = json.dumps({**_right_body(claim), "unknown": "x" * 2 * 1024 * 1024}).encode()

    def pieces() -> Iterator[bytes]:
        yield from (large[start : start + 65_536] for start in range(0, len(large), 65_536))

    with watching(tenant, claim) as watched:
        for content in (large, pieces()):
            if claim.route.body is None:
                watched.try_it(content=content)
            else:
                # Of a wire that has no word for it the nearest.
                assert watched.refuse(content=content).status_code in (413, 400)


@pytest.mark.parametrize("claim", ONCE, ids=name_of)
def test_a_wrong_query_is_refused_and_an_odd_one_does_no_harm(tenant: Tenant, claim: Claim) -> None:
    with watching(tenant, claim) as watched:
        path = path_of(claim, watched.mine)
        for name, kind in fields_of(claim.route.query).items():
            for value in NUMBERS if _takes(kind, inspect.IntType, inspect.FloatType) else TEXTS:
                watched.try_it(f"{path}?{name}={value}")
            if _takes(kind, inspect.IntType, inspect.FloatType):
                for value in ("many", "9" * 5_000, "0x10", "NaN", "[1]"):
                    watched.refuse(f"{path}?{name}={value}")
            if _takes(kind, inspect.IntType):
                watched.refuse(f"{path}?{name}=1.5")
            if name == "cursor":
                for value in ("nonsense", "%F0%9F%98%80", "AAAA", "k8A", "kcA", "lAECAwQ", LONG, "%00"):
                    watched.refuse(f"{path}?{name}={value}")
            if name in ("status", "order", "sort", "orderBy", "include", "type"):
                for value in ("NO SUCH THING", "%00", LONG):
                    watched.refuse(f"{path}?{name}={value}")
        for query in ("&&&", "=", "=x", "?", "%", "%00=1", "%FF=1", "a=%00", "a" * 20_000, "&".join(["limit=1"] * 300)):
            watched.try_it(f"{path}?{query}")
        if claim.route.query is not None:
            for query in ("&".join(f"f{number}=1" for number in range(300)), "a=%FF", "a=%00"):
                watched.refuse(f"{path}?{query}")
        for query in ("metadata.=1", "metadata.a.b=1", f"metadata.{LONG}=1", f"metadata.a={LONG}", "metadata.a=%00"):
            watched.try_it(f"{path}?{query}")


@pytest.mark.parametrize("claim", [claim for claim in ONCE if params_of(claim)], ids=name_of)
def test_an_odd_id_is_nobodys_or_refused(tenant: Tenant, claim: Claim) -> None:
    with watching(tenant, claim) as watched:
        for name in params_of(claim):
            for segment in ODD_SEGMENTS:
                path = path_of(claim, {**watched.mine, name: segment})
                watched.try_it(path, json=_right_body(claim))
            for segment in ("%00", "a%00b", "%FF", "%ED%A0%80", "%C0%80"):
                watched.refuse(path_of(claim, {**watched.mine, name: segment}), json=_right_body(claim))


@pytest.mark.parametrize("claim", [claim for claim in ONCE if params_of(claim)], ids=name_of)
def test_an_empty_id_is_refused(tenant: Tenant, claim: Claim) -> None:
    with watching(tenant, claim) as watched:
        for name in params_of(claim):
            path = path_of(claim, {**watched.mine, name: ""})
            found = TABLE.find(path.encode()).claims.get(claim.route.method, [])
            with watched.tenant.client() as client:
                told = client.request(claim.route.method, path, json=_right_body(claim))
            # It may be the path of another route: a list where the last segment was the id.
            if claim in found and claim.dialect.name != "operativus":
                assert_refused(told, claim.dialect, statuses=(400, 404))
            else:
                assert told.status_code < 500


@pytest.mark.parametrize("claim", ONCE, ids=name_of)
def test_odd_headers_are_refused_or_passed_over(tenant: Tenant, claim: Claim) -> None:
    method = claim.route.method
    body: dict[str, Any] = {"json": _right_body(claim)} if claim.route.body is not None else {}
    headers: list[dict[str, str | bytes]] = []
    if method in ("POST", "PATCH"):
        headers += [{"Idempotency-Key": key} for key in ("", LONG, "x" * 256, "a\tb", b"\xff", b"\xf0\x9f\x98\x80")]
    if claim.route.guarded:
        headers += [
            {"If-Match": tag} for tag in ("garbage", '"', '""', "W/*", '"0-0"', LONG, b"\xff", ",", ",,,", '"a", "b"')
        ]
    if is_stream(claim):
        headers += [
            {"Last-Event-ID": last} for last in ("garbage", "-1", "1.5", "9" * 30, LONG, b"\xff", b"\xb2", "0x1")
        ]
    else:
        headers += [{"Last-Event-ID": "garbage"}, {"Content-Type": "text/plain"}, {"Content-Type": LONG}]
        headers += [{"Accept": "image/png"}, {"X-Request-ID": LONG}, {"X-Request-ID": b"\xff"}, {"Range": "bytes=0-1"}]
        headers += [{"Content-Encoding": "gzip"}, {"Expect": "100-continue"}, {"Cookie": LONG}, {"Origin": "null"}]

    with watching(tenant, claim) as watched:
        for sent in headers:
            answer = watched.try_it(headers=sent, **body)
            if "Idempotency-Key" in sent and sent["Idempotency-Key"] in ("", LONG, "x" * 256):
                assert answer.status_code in REFUSED
            if "If-Match" in sent and method in ("POST", "PATCH"):
                assert answer.status_code in REFUSED


@pytest.mark.parametrize("claim", ONCE, ids=name_of)
def test_a_body_that_is_not_as_long_as_was_said_does_nothing(tenant: Tenant, claim: Claim) -> None:
    body = json.dumps(_right_body(claim)).encode()
    lengths = [str(len(body) + 10), "abc", "-1", "99999999999999999999999", f"{len(body)}, {len(body) + 1}", ""]

    with watching(tenant, claim) as watched:
        if claim.route.body is None:
            return
        for length in [*lengths, str(len(body) - 1)]:
            for status in _send_raw(watched, body, length):
                assert status in REFUSED
        watched.refuse(content=b"{")


def _send_raw(watched: Watched, body: bytes, length: str) -> Iterable[int]:
    """Send a request with a wrong Content-Length, and yield the statuses that come back until the server hangs up."""
    tenant, claim = watched.tenant, watched.claim
    address = urlsplit(tenant.serving.url)
    assert address.hostname is not None
    headers = {"Host": address.netloc, **tenant.headers, "Content-Length": length, "Connection": "close"}
    path = path_of(claim, watched.mine)
    lines = [f"{claim.route.method} {path} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        raw.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        raw.shutdown(socket.SHUT_WR)
        answered = b""
        while piece := raw.recv(65_536):
            answered += piece
    for line in answered.split(b"\r\n"):
        if line.startswith(b"HTTP/1."):
            yield int(line.split()[1])


@pytest.mark.parametrize("claim", CLAIMS, ids=name_of)
def test_a_method_that_a_path_does_not_have_is_refused(tenant: Tenant, claim: Claim) -> None:
    path = path_of(claim, MINE)
    known = TABLE.find(path.encode()).claims

    with watching(tenant, claim) as watched:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            if method in known:
                continue
            with watched.tenant.client() as client:
                answer = client.request(method, path)
            # The key names the claim's dialect: it speaks, wherever it claims the path under any method.
            assert_refused(answer, claim.dialect, statuses=(405,))
            assert set(answer.headers["allow"].split(", ")) == set(known)


def _right_body(claim: Claim) -> dict[str, Any]:
    """Return the least that a route takes.

    Raises:
        KeyError: it takes something that is not known here. It must be added by someone who knows what it is.
    """
    if claim.route.body is None:
        return {}
    fields = set(fields_of(claim.route.body))
    known = {
        "agent_id": "agent",
        "agentId": "agent",
        "userName": "me",
        "userEmail": "me@here.example",
        "name": "mine",
        "content": "said",
        "input": "said",
        "message": "said",
        "runner": "echo",
        "from": "me@here.example",
        "type": "approval",
    }
    if "runner" in fields:
        known["id"] = "mine"
    if "type" in fields:
        del known["from"]  # for which an approval has no use
    if "duration_ms" in fields:
        known |= {"type": "note.made", "action": "write"}
    if "inboxId" in fields:
        known |= {"type": "otp", "sessionId": "mine"}
    if "messages" in fields and "content" in fields:
        fields -= {"agent_id", "name"}
    required = [each for each in inspect.type_info(claim.route.body).fields if each.required]  # type: ignore[attr-defined]
    assert {each.encode_name for each in required} <= set(known)
    return {name: value for name, value in known.items() if name in fields}


def _wrong_values(kind: inspect.Type) -> Iterable[Any]:
    """Return values that are of none of a field's types."""
    kinds = _options(kind)
    if any(isinstance(each, inspect.AnyType) for each in kinds):
        return ()
    wrong = [value for each in kinds for value in WRONG.get(type(each), ())]
    right = [each for each in kinds if type(each) in WRONG]
    assert right, f"no wrong value is known for {kind}"
    return [value for value in wrong if not any(_fits(value, each) for each in kinds)]


def _fits(value: Any, kind: inspect.Type) -> bool:
    match kind:
        case inspect.NoneType():
            return value is None
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.DictType():
            return isinstance(value, dict)
        case inspect.RawType():
            return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, dict) for one in value))
        case _:
            return False


def _takes(kind: inspect.Type, *wanted: type[inspect.Type]) -> bool:
    return any(isinstance(each, wanted) for each in _options(kind))


def _options(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """Return the types that a field may have, without what is said about them."""
    if isinstance(kind, inspect.Metadata):
        if isinstance(kind.type, inspect.RawType) and kind.extra_json_schema == {"type": "object"}:
            return inspect.DictType(inspect.AnyType(), inspect.AnyType()), inspect.NoneType()
        return _options(kind.type)
    if isinstance(kind, inspect.UnionType):
        return tuple(option for each in kind.types for option in _options(each))
    return (kind,)
