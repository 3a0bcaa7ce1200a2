"""What comes in is checked, and every refusal names the field."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Annotated, Any, cast
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from sessiond.assembly import DIALECTS
from sessiond.core.errors import InvalidInput, TooLarge, Unavailable
from sessiond.core.session import Status
from sessiond.web import requests
from sessiond.web.proxies import Proxies, parse_networks
from sessiond.web.requests import Request
from sessiond.web.routes import Table
from sessiond.web.site import Site


class Inner(msgspec.Struct):
    role: str
    count: int = 0


class Body(msgspec.Struct):
    name: str
    status: Status = Status.ACTIVE
    limit: Annotated[int, Meta(ge=1, le=10)] = 1
    inner: list[Inner] = []
    extra: dict[str, int] = {}


class Query(msgspec.Struct):
    limit: Annotated[int, Meta(ge=1, le=10)] = 5
    status: list[Status] = []
    agent_id: tuple[str, ...] = ()
    name: str | None = None
    flag: bool = False


def make_request(
    body: bytes | list[bytes] = b"",
    *,
    query: bytes = b"",
    headers: dict[str, str] | None = None,
    method: str = "POST",
    path: str = "/x",
    guarded: bool = False,
) -> Request:
    chunks = [body] if isinstance(body, bytes) else list(body)
    messages = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "scheme": "http",
        "server": ("::1", 8080),
        "client": ("192.0.2.1", 4711),
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
    }
    proxies = Proxies(parse_networks("192.0.2.1"))
    site = SimpleNamespace(body_max_bytes=1_000, engine=None, table=Table(DIALECTS), proxies=proxies)
    request = Request(scope, receive, site=cast(Site, site))
    request.caller = cast(Any, None)
    request.guarded = guarded
    return request


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "name"),
        (b'{"name": "\\ud800"}', "name"),
        (b'{"name": "a", "other": [1, {"k": "x\\udc00"}]}', "other[1].k"),
        (b'{"\\ud800": 1}', "body"),
        (b'{"name": 1}', "name"),
        (b'{"name": null}', "name"),
        (b'{"name": "a", "status": "asleep"}', "status"),
        (b'{"name": "a", "limit": 11}', "limit"),
        (b'{"name": "a", "limit": 1.5}', "limit"),
        (b'{"name": "a", "inner": {}}', "inner"),
        (b'{"name": "a", "inner": [{"role": "x"}, {"role": 1}]}', "inner[1].role"),
        (b'{"name": "a", "inner": [{"count": 1}]}', "inner[0].role"),
        (b'{"name": "a", "extra": {"k": "v"}}', "extra[...]"),
        *((body, "body") for body in (b"", b" ", b"[]", b'"a"', b"1", b"null", b"{", b"{'name'}", b'{"name": "\xff"}')),
        *((body, "body") for body in (b"\xff\xfe{}", b"{" * 1_000, b'{"name": "a"} x')),
    ],
)
async def test_a_body_of_another_shape_is_refused_by_field(body: bytes, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await make_request(body).body_as(Body)

    assert refused.value.field == field
    assert field in refused.value.message
    assert "`$" not in refused.value.message


async def test_a_body_nested_too_deeply_is_refused() -> None:
    deep = make_request(b'{"x": ' + b"[" * 900 + b"]" * 90)
    deep.site.body_max_bytes = 10**7
    with pytest.raises(InvalidInput):
        await deep.body_as(Body)


@given(st.binary(max_size=40))
def test_any_body_is_understood_or_refused(body: bytes) -> None:
    async def read() -> None:
        try:
            await make_request(body).body_as(Body)
        except InvalidInput as error:
            assert error.field  # noqa: PT017 - either way is right

    asyncio.run(read())


async def test_a_body_is_read_once_whole_and_only_up_to_its_limit() -> None:
    request = make_request([b'{"na', b'me": ', b'"a"}'])
    assert (await request.body_as(Body)).name == "a"
    assert await request.read() == b'{"name": "a"}'
    assert await make_request([b"x" * 500, b"x" * 500]).read() == b"x" * 1_000
    for large in (make_request([b"x" * 500, b"x" * 501, b""]), make_request(headers={"content-length": "1001"})):
        with pytest.raises(TooLarge, match="1000 bytes") as refused:
            await large.read()
        assert refused.value.field == "body"


async def test_an_empty_body_may_stand_for_something() -> None:
    for body in (b"", b" \n"):
        assert (await make_request(body).body_as(Body, empty=Body("none"))).name == "none"
    assert (await make_request(b'{"name": "a"}').body_as(Body, empty=Body("none"))).name == "a"


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = make_request([b"half", b""])
    await gone._receive()
    await gone._receive()
    with pytest.raises(Unavailable):
        await gone.read()

    async def never() -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(requests, "BODY_SECONDS", 0.02)
    slow = make_request()
    slow._receive = never
    with pytest.raises(Unavailable):
        await slow.read()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (b"limit=0", "limit"),
        (b"limit=11", "limit"),
        (b"limit=x", "limit"),
        (b"limit=1e0.5", "limit"),
        (b"limit=" + b"9" * 5_000, "limit"),
        (b"limit=-1", "limit"),
        (b"status=active&status=asleep", "status[1]"),
        (b"flag=maybe", "flag"),
        *(
            (query, "query")
            for query in (b"name=%ff", b"name=\xff", b"name=%00", b"%00=a", b"name=%ED%A0%80", b"a=b&" * 201)
        ),
    ],
)
def test_a_query_of_another_shape_is_refused_by_field(query: bytes, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_request(query=query).query_as(Query)

    assert refused.value.field == field
    assert "\0" not in refused.value.message


def test_a_query_is_read_by_name_and_a_list_may_come_several_times() -> None:
    query = b"limit=7&status=active&status=failed&agent_id=a+b&agent_id=%C3%A9&name=&unknown=1&flag=true"

    read = make_request(query=query).query_as(Query)

    assert read == Query(7, [Status.ACTIVE, Status.FAILED], ("a b", "é"), None, True)
    assert make_request(query=b"name=a&name=b").query_as(Query).name == "b"
    assert make_request().query_as(Query) == Query()


@given(st.binary(max_size=40))
def test_any_query_is_understood_or_refused(query: bytes) -> None:
    try:
        make_request(query=query).query_as(Query)
    except InvalidInput as error:
        assert error.field  # noqa: PT017 - either way is right


async def test_the_terms_of_a_call_stand_in_its_headers() -> None:
    headers = {"if-match": '"1"', "idempotency-key": "k"}

    posted = await make_request(b"a", headers=headers).call()
    patched = await make_request(b"a", headers=headers, method="PATCH", guarded=True).call()
    deleted = await make_request(headers=headers, method="DELETE", guarded=True).call()
    got = await make_request(headers=headers, method="GET").call()

    assert [call.if_match for call in (posted, patched, deleted, got)] == [None, '"1"', '"1"', None]
    assert [call.retry is not None for call in (posted, patched, deleted, got)] == [True, True, False, False]


async def test_the_same_request_has_the_same_fingerprint_and_another_has_not() -> None:
    headers = {"idempotency-key": "k"}

    async def fingerprint(request: Request) -> bytes:
        retry = (await request.call()).retry
        assert retry is not None
        return retry.fingerprint

    first = await fingerprint(make_request(b"a", headers=headers))
    assert await fingerprint(make_request([b"", b"a"], headers=headers | {"x-other": "1"})) == first
    others = [
        make_request(b"b", headers=headers),
        make_request(b"a", headers=headers, query=b"q=1"),
        make_request(b"a", headers=headers, method="PATCH"),
        make_request(b"a", headers=headers, path="/x/y"),
        make_request(b"a", headers=headers, path="/x%2Fy"),
    ]
    assert len({first, *[await fingerprint(other) for other in others]}) == 1 + len(others)
    assert await fingerprint(make_request(b"a", headers=headers, path="/viben/x")) == first


@pytest.mark.parametrize("key", ["", "a\tb", "x" * 256, "\x7f"])
async def test_an_idempotency_key_is_a_line_of_text(key: str) -> None:
    with pytest.raises((InvalidInput, TooLarge)) as refused:
        await make_request(headers={"idempotency-key": key}).call()

    assert refused.value.field == "Idempotency-Key"


def test_a_credential_is_an_authorization_header_or_an_api_key() -> None:
    assert make_request().credential is None
    assert make_request(headers={"authorization": "Basic x", "x-api-key": "k"}).credential == "Basic x"
    assert make_request(headers={"x-api-key": "k"}).credential == "Bearer k"


def test_a_filter_that_lost_its_value_is_refused_where_it_would_find_everything() -> None:
    request = make_request(query=b"name=&agent_id=a&agent_id=&limit=")

    assert request.query_pairs() == (("name", ""), ("agent_id", "a"), ("agent_id", ""), ("limit", ""))
    assert request.query_as(Query) == Query(agent_id=("a",))
    for filled in ("name", "agent_id"):
        with pytest.raises(InvalidInput, match="is empty") as refused:
            request.query_as(Query, filled=frozenset({filled}))
        assert refused.value.field == filled


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({"host": "a.example:8080"}, "http://a.example:8080"),
        ({}, "http://[::1]:8080"),
        ({"host": ""}, "http://[::1]:8080"),
        ({"host": 'a"><script>'}, "http://[::1]:8080"),
        ({"host": "inner", "x-forwarded-proto": "https"}, "https://inner"),
        ({"host": "inner", "x-forwarded-proto": "https", "x-forwarded-host": "a.example"}, "https://a.example"),
        ({"host": "inner", "x-forwarded-host": "a/b"}, "http://inner"),
        ({"host": "inner", "forwarded": "proto=https;host=a.example"}, "https://a.example"),
    ],
)
def test_an_origin_is_what_the_client_calls_us(headers: dict[str, str], origin: str) -> None:
    assert make_request(headers=headers).origin == origin


def test_the_beginning_of_urls_by_an_ipv4_address_has_no_brackets() -> None:
    request = make_request()
    request.scope["server"] = ("127.0.0.1", 80)

    assert request.origin == "http://127.0.0.1:80"


def test_the_address_is_that_of_whom_a_trusted_proxy_speaks_for() -> None:
    assert make_request().address == "192.0.2.1"
    assert make_request(headers={"x-forwarded-for": "6.6.6.6, 2001:DB8::7"}).address == "2001:db8::7"
