"""What runners that call an endpoint share: a client, refusals, and errors that name no secret."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from ipaddress import ip_address
from typing import Any, Final

import anyio
import httpx2
import msgspec

from sessiond import __version__
from sessiond.core.agent import HIDDEN
from sessiond.runners.lines import MESSAGE_MAX, UNREADABLE, show
from sessiond.runners.runner import AGENT_FAILED, BAD_OUTPUT, NOT_CONFIGURED, TOO_LARGE, UNREACHABLE, AgentError

CONNECT_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 60.0  # for each stretch of a request; an endpoint that takes nothing for so long is stuck
REFUSAL_MAX_BYTES: Final = 64 * 1024  # of what stands below a refusing status, as much as is read
REFUSAL_SECONDS: Final = 5.0  # and for as long
FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection"})  # they follow from the body
HIDDEN_MIN: Final = 8  # characters of what is hidden: shorter ones are no secrets, and stand in ordinary words

# They would log addresses with their queries, and headers.
for name in ("httpx2", "httpcore2"):
    logging.getLogger(name).setLevel(logging.WARNING)


class Refused(Exception):
    """An answer whose status is not 2xx."""

    def __init__(self, status: int, message: str, *, location: str | None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        """What the endpoint says, shortened; may be empty."""
        self.location = location
        """Where it points, as a host; None when it does not."""


def open_client(url: httpx2.URL, *, read_seconds: float | None) -> httpx2.AsyncClient:
    """Open a client that raises `Refused` for every status but 2xx. Close it.

    `read_seconds` is how long an endpoint may be silent; None leaves that to the agent's time limit.
    """
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(CONNECT_SECONDS, read=read_seconds, write=WRITE_SECONDS),
        verify=_trust(),
        # A proxy of the environment would look for this machine's own addresses on its own machine.
        trust_env=not is_loopback(url),
        follow_redirects=False,
        # Compressed, a few bytes could become any number of them at once.
        headers={"User-Agent": f"sessiond/{__version__}", "Accept-Encoding": "identity"},
        event_hooks={"response": [_refuse]},
    )


@cache
def _trust() -> ssl.SSLContext:
    """Return the certificates that are trusted: reading them takes 20 ms, too long to do for each run."""
    return httpx2.create_ssl_context()


def parse_url(url: str) -> httpx2.URL:
    """Return an agent's address.

    Raises:
        AgentError: it is none.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise AgentError(NOT_CONFIGURED, "the agent's URL cannot be read as one", permanent=True) from error
    if not parsed.host or (parsed.port or 0) > 65_535:
        raise AgentError(NOT_CONFIGURED, "the agent's URL names no host, or a port that cannot be", permanent=True)
    return parsed


def is_loopback(url: httpx2.URL) -> bool:
    if url.host == "localhost" or url.host.endswith(".localhost"):
        return True
    try:
        return ip_address(url.host).is_loopback
    except ValueError:
        return False


def place_of(url: httpx2.URL) -> str:
    """Return a URL's host and port: what may be told of it. Its path and query may hold secrets."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return an agent's headers if they can be sent.

    Raises:
        AgentError: one cannot; the message has its name alone.
    """
    for name, value in headers.items():
        sendable = name.isascii() and name.replace("-", "").replace("_", "").isalnum() and value.isascii()
        if name.lower() in FRAMING or not sendable or not (value.isprintable() and value == value.strip()):
            raise AgentError(NOT_CONFIGURED, f"the header {show(name)!r} cannot be sent", permanent=True)
    return headers


def read_secret(given: str | None, variable: str | None, *, what: str) -> str | None:
    """Return a secret from an agent's options or from the worker's environment; None where neither is named.

    Raises:
        AgentError: the variable is not set.
    """
    if given:
        return given
    if not variable:
        return None
    found = os.environ.get(variable, "").strip()
    if not found:
        raise AgentError(
            NOT_CONFIGURED,
            f"the worker's environment variable {variable}, which holds {what}, is not set",
            permanent=True,
        )
    return found


async def read_whole(chunks: AsyncIterator[bytes], max_bytes: int) -> bytes:
    """Read an answer to its end.

    Raises:
        AgentError: it is larger.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise AgentError(TOO_LARGE, f"the agent answered with more than {max_bytes:,} bytes", permanent=True)
    return bytes(body)


@contextmanager
def calling(url: httpx2.URL, *, hide: Iterable[str] = ()) -> Iterator[None]:
    """Say what went wrong with a request in words for whoever runs the agent.

    `hide`: what must not be told, though the endpoint may say it back. Nor is what stands in the URL's query.

    Raises:
        AgentError: in place of whatever the client raises, `Refused` among it.
    """
    try:
        try:
            yield
        except Refused as refused:
            raise _say_refusal(refused, place_of(url)) from None
        # The last two come through where TLS ends early: https://github.com/pydantic/httpx2/issues/854
        except (httpx2.RequestError, httpx2.InvalidURL, ssl.SSLError, anyio.EndOfStream) as error:
            raise say_failure(error, url) from error
    except AgentError as error:
        message = error.message
        for secret in (*hide, *url.params.values(), url.password):
            if len(secret) >= HIDDEN_MIN:
                message = message.replace(secret, HIDDEN)
        raise AgentError(error.code, message, permanent=error.permanent) from error.__cause__


def say_failure(error: BaseException | None, url: httpx2.URL) -> AgentError:
    """Return an error of the client in our words."""
    place = place_of(url)
    match error:
        case httpx2.ConnectTimeout():
            return AgentError(UNREACHABLE, f"{place} did not answer within {CONNECT_SECONDS:g} seconds")
        case httpx2.TimeoutException():
            return AgentError(UNREACHABLE, f"{place} was silent for too long")
        case httpx2.ConnectError() | httpx2.ProxyError():
            return AgentError(UNREACHABLE, f"cannot connect to {place}: {_reason(error)}")
        case httpx2.DecodingError():
            return AgentError(BAD_OUTPUT, f"the answer of {place} is not encoded as it says")
        case httpx2.LocalProtocolError() | httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
            return AgentError(NOT_CONFIGURED, f"the request to {place} cannot be sent", permanent=True)
        case httpx2.RemoteProtocolError() if "without sending a response" in str(error):
            return AgentError(UNREACHABLE, f"{place} closed the connection without an answer")
        case httpx2.RemoteProtocolError() if "peer closed" not in str(error):
            return AgentError(BAD_OUTPUT, f"{place} does not answer in HTTP")
        case _:
            return AgentError(UNREACHABLE, f"{place} closed the connection in mid-stream")


def _reason(error: BaseException) -> str:
    """Return the reason below a client's error, as TLS or the operating system has it."""
    reason, below = show(str(error)), error.__cause__ or error.__context__
    while below is not None:
        if isinstance(below, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({below.verify_message})"
        if isinstance(below, ssl.SSLError):  # its number is none of the operating system's
            return f"it does not speak TLS as we do ({below.reason})" if below.reason else "it does not speak TLS"
        if isinstance(below, OSError) and below.errno:
            # asyncio puts its own words into refusals; the system's are known to everybody.
            reason = os.strerror(below.errno) if below.errno > 0 else below.strerror or reason
        below = below.__cause__ or below.__context__
    return reason.lower()


async def _refuse(response: httpx2.Response) -> None:
    if response.is_success:
        return
    body = bytearray()
    # What comes before it breaks, ends or takes too long is told; the status alone says enough.
    with suppress(httpx2.RequestError, TimeoutError):
        async with asyncio.timeout(REFUSAL_SECONDS):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) >= REFUSAL_MAX_BYTES:
                    break
    await response.aclose()
    location = None
    if "location" in response.headers:
        with suppress(httpx2.InvalidURL):
            location = response.url.join(response.headers["location"]).host
    raise Refused(response.status_code, _message_in(bytes(body[:REFUSAL_MAX_BYTES])), location=location)


def _message_in(body: bytes) -> str:
    """Return what the body of a refusal says, in whichever of the usual forms."""
    try:
        said: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return show(body, MESSAGE_MAX)
    return show(message_of(said) or body, MESSAGE_MAX)


def message_of(said: Any) -> str | None:
    """Return the message in a decoded error; None when there is none where it usually stands."""
    if isinstance(said, str):
        return said
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            return message_of(said[name]) or msgspec.json.encode(said[name]).decode()
    return None


def _say_refusal(refused: Refused, place: str) -> AgentError:
    says = f"{place} answered with status {refused.status}"
    if refused.message and refused.status not in (401, 403):  # those like to repeat a part of the key
        says += f": {refused.message}"
    if refused.status in (408, 429) or refused.status >= 500:
        return AgentError(UNREACHABLE, says)
    if 300 <= refused.status < 400:
        to = f" to {refused.location}" if refused.location else ""
        return AgentError(AGENT_FAILED, f"{place} redirects{to}, which is not followed", permanent=True)
    return AgentError(AGENT_FAILED, says, permanent=True)
