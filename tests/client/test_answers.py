"""What comes back from a server, or from something that is none: errors, and what is tried again, on real sockets."""

from __future__ import annotations

import pickle
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from sessiond import AsyncClient, Client
from sessiond import client as sdk
from sessiond.client import ApiError, ConnectionFailed, SessiondError, TimedOut, UnexpectedAnswer
from tests.certificates import make_certificate
from tests.client.breaking import Request, answer, open_broken
from tests.serving import Tenant, open_serving

SESSION = (
    b'{"id":"s","status":"dreaming","message_count":0,"last_seq":1,"created_at":"2026-01-01T00:00:00Z","of":"tomorrow",'
    b'"updated_at":"2026-01-01T00:00:00Z","last_active_at":"2026-01-01T00:00:00Z"}'
)
FINE = answer(200, SESSION)
HUNG_UP = b""


def passed_on(url: str, *, lost: bool) -> Callable[[Request], bytes]:
    """Return what sends a request on to a server, and gives its answer, or loses it."""
    import httpx

    def pass_on(request: Request) -> bytes:
        kept = {name: value for name, value in request.headers.items() if name not in ("host", "accept-encoding")}
        said = httpx.request(request.method, url + request.target, content=request.body, headers=kept)
        return HUNG_UP if lost else answer(said.status_code, said.content)

    return pass_on


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, sdk.InvalidInput),
        (401, sdk.Unauthenticated),
        (403, sdk.Forbidden),
        (404, sdk.NotFound),
        (405, sdk.ApiError),
        (409, sdk.Conflict),
        (412, sdk.PreconditionFailed),
        (413, sdk.TooLarge),
        (422, sdk.KeyReused),
        (429, sdk.TooManyRequests),
        (500, sdk.ServerError),
        (503, sdk.Unavailable),
    ],
)
def test_each_refusal_is_an_error_of_its_own_that_carries_the_problem(status: int, kind: type[ApiError]) -> None:
    body = b'{"title":"No","detail":"not like that","field":"name","request_id":"r-1","of":"tomorrow"}'
    with (
        open_broken(answer(status, body)) as broken,
        Client("sd_x", broken.url, retries=0) as client,
        pytest.raises(ApiError) as caught,
    ):
        client.sessions.get("s")

    error = caught.value
    assert type(error) is kind
    assert (error.status, error.title, error.detail) == (status, "No", "not like that")
    assert (error.field, error.request_id) == ("name", "r-1")
    assert str(error) == f"not like that (status {status}, request r-1)"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # our own


def test_a_proxys_page_is_shown_in_the_error() -> None:
    page = answer(500, b"<html>\n <h1>Bad gateway</h1>", content_type="text/html", x_request_id="r-2")
    with (
        open_broken(page) as broken,
        Client("sd_x", broken.url) as client,
        pytest.raises(sdk.ServerError, match="<html> <h1>Bad gateway</h1>") as caught,
    ):
        client.sessions.get("s")
    assert caught.value.request_id == "r-2"


@pytest.mark.parametrize(
    "said",
    [answer(200), answer(204), answer(200, b"<html>"), answer(200, b"{}"), answer(200, b'{"id":"\xff"}'), answer(304)],
)
def test_an_answer_that_means_nothing_is_an_error_and_not_tried_again(said: bytes) -> None:
    with (
        open_broken(said) as broken,
        Client("sd_x", broken.url) as client,
        pytest.raises(UnexpectedAnswer, match="is base_url right"),
    ):
        client.sessions.create()
    assert len(broken.requests) == 1


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with (
        open_broken(answer(301, location="https://elsewhere.example/v1")) as broken,
        Client("sd_x", broken.url) as it,
        pytest.raises(UnexpectedAnswer, match=r"a redirect to https://elsewhere\.example/v1"),
    ):
        it.sessions.get("s")


def test_what_a_newer_server_says_besides_is_passed_by() -> None:
    with open_broken(FINE) as broken, Client("sd_x", broken.url) as client:
        assert client.sessions.get("s").status == "dreaming"


def test_an_answer_503_is_asked_for_again_when_the_server_wants() -> None:
    moment = format_datetime(datetime.now(UTC) - timedelta(minutes=1), usegmt=True)
    told = [answer(503, retry_after="0"), answer(429, retry_after=moment), answer(502), answer(504, retry_after="soon")]
    with open_broken(*told, FINE) as broken, Client("sd_x", broken.url) as client:
        assert client.sessions.create(name="x").id == "s"

    keys = {request.headers["idempotency-key"] for request in broken.requests}
    assert (len(broken.requests), len(keys)) == (5, 1)
    assert {request.body for request in broken.requests} == {b'{"name":"x"}'}


def test_a_server_that_wants_to_be_left_alone_for_long_is() -> None:
    with (
        open_broken(answer(503, retry_after="61")) as broken,
        Client("sd_x", broken.url) as client,
        pytest.raises(sdk.Unavailable),
    ):
        client.sessions.get("s")
    assert len(broken.requests) == 1


async def test_retries_end() -> None:
    with open_broken(HUNG_UP) as broken:
        with (
            Client("sd_x", broken.url, retries=1) as client,
            pytest.raises(ConnectionFailed, match="cannot be reached"),
        ):
            client.sessions.get("s")
        async with AsyncClient("sd_x", broken.url, retries=1) as other:
            with pytest.raises(ConnectionFailed, match="cannot be reached"):
                await other.sessions.get("s")
    assert len(broken.requests) == 4


def test_a_server_that_is_silent_is_given_up() -> None:
    half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
    with (
        open_broken(half) as broken,
        Client("sd_x", broken.url, timeout_seconds=0.1, retries=0) as client,
        pytest.raises(TimedOut, match="in time"),
    ):
        client.sessions.get("s")


async def test_writes_whose_answers_are_lost_are_done_once(tenant: Tenant) -> None:
    through, lost = (passed_on(tenant.serving.url, lost=lost) for lost in (False, True))
    async with AsyncClient(tenant.key, tenant.serving.url) as direct:
        session = await direct.sessions.create()
        with open_broken(HUNG_UP, lost, through) as broken, Client(tenant.key, broken.url) as client:
            assert client.messages.append(session.id, "once").seq == 2
            assert client.messages.append(session.id, "again").seq == 3
        with open_broken(HUNG_UP, lost, through) as broken:
            async with AsyncClient(tenant.key, broken.url) as other:
                assert (await other.sessions.update(session.id, name="named")).name == "named"
        with open_broken(lost, through) as broken, Client(tenant.key, broken.url) as client:
            client.sessions.delete((await direct.sessions.create(id="gone")).id)
        assert len(broken.requests) == 2
        events = (await direct.sessions.timeline(session.id)).events
        assert [event.type for event in events[1:]] == ["message.user", "message.user", "session.updated"]


def test_an_export_is_begun_again_but_never_ends_half_way_as_if_it_were_whole() -> None:
    half = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    with (
        open_broken(answer(503, retry_after="0"), HUNG_UP, half + b"0\r\n\r\n") as broken,
        Client("sd_x", broken.url) as client,
    ):
        assert b"".join(client.export()) == b"abc"
    with open_broken(lambda _: half) as broken, Client("sd_x", broken.url, timeout_seconds=0.1) as client:
        pieces = client.export()
        assert next(pieces) == b"abc"
        with pytest.raises(TimedOut):
            next(pieces)


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_a_base_url_may_end_as_it_likes(end: str) -> None:
    with open_broken(FINE) as broken, Client(" sd_x\n", broken.url + "/below" + end) as client:
        client.sessions.get("s 1")
    assert broken.requests[0].target == "/below/v1/sessions/s%201?include=inboxes%2Cwaits"
    assert broken.requests[0].headers["authorization"] == "Bearer sd_x"


@pytest.mark.parametrize(
    ("key", "url", "said"),
    [
        ("", "http://127.0.0.1", "there is no API key"),
        ("sd_x\ny", "http://127.0.0.1", "characters that no key has"),
        ("sd_ä", "http://127.0.0.1", "characters that no key has"),
        ("sd_x", "127.0.0.1:8080", "must begin with http"),
        ("sd_x", "http://[::1", "base_url cannot be"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(
    key: str, url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SESSIOND_API_KEY", raising=False)
    for kind in (Client, AsyncClient):
        with pytest.raises(SessiondError, match=said):
            kind(key, url)


def test_the_environment_says_where_and_through_what(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_broken(FINE) as proxy:
        for name, value in {"SESSIOND_API_KEY": "sd_e", "SESSIOND_STORAGE_KEY": "k" * 8}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SESSIOND_URL", "http://sessiond.example")
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with Client() as client:
            client.sessions.get("s")
    (asked,) = proxy.requests
    assert asked.target == "http://sessiond.example/v1/sessions/s?include=inboxes%2Cwaits"
    assert (asked.headers["authorization"], asked.headers["storage-key"]) == ("Bearer sd_e", "k" * 8)


async def test_https_is_spoken_with_those_who_are_trusted(database: str, tmp_path: Path) -> None:
    from sessiond.storage.open import migrate

    await migrate(database)
    certificate, key = make_certificate(tmp_path / "tls", names=("localhost",))
    trusting = ssl.create_default_context(cafile=certificate)
    with open_serving(database, runs_max=0, tls_certificate=str(certificate), tls_certificate_key=str(key)) as serving:
        tenant = serving.make_tenant()
        url = tenant.serving.url.replace("127.0.0.1", "localhost")
        async with AsyncClient(tenant.key, url, ssl_context=trusting) as client:
            assert (await client.keys.me()).workspace == tenant.workspace
        with Client(tenant.key, url, retries=0) as other, pytest.raises(ConnectionFailed, match="certificate"):
            other.keys.me()
