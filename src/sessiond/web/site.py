"""The program as a web application: finds the wire, lets in who may, answers, counts, and logs one line a request."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Final

import uuid_utils

from sessiond.actions.audit import note_read
from sessiond.actions.storage_keys import StorageKeys
from sessiond.auth.failures import Failures
from sessiond.auth.keys import Authenticator
from sessiond.auth.refusals import WRONG_STORAGE_KEY
from sessiond.core.caller import Caller
from sessiond.core.errors import (
    Damaged,
    Forbidden,
    InvalidInput,
    Locked,
    NotFound,
    SessiondError,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from sessiond.storage.engine import Engine
from sessiond.telemetry import Telemetry
from sessiond.web.answers import Answer, Stream
from sessiond.web.asgi import Message, Receive, Scope, Send
from sessiond.web.errors import Internal, MethodNotAllowed
from sessiond.web.openapi import openapi_routes
from sessiond.web.proxies import Proxies
from sessiond.web.requests import Request
from sessiond.web.routes import Claim, Dialect, Found, Problem, Route, Table, check_params

log: Final = logging.getLogger("sessiond.web")

SEND_SECONDS: Final = 60.0  # a client that takes nothing for a minute is gone, or costs more than it gives
EXPORTS_MAX: Final = 2  # at once: each reads all there is, and keeps the database from tidying up meanwhile
SLICE_BYTES: Final = 64 * 1024  # what a server buffers before it waits for the client, so each slice is a wait at most
# Whoever came by https once comes so for a year. Said over plain HTTP it would be anybody's word.
_ONLY_SECURE: Final = (b"strict-transport-security", b"max-age=31536000")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class Site:
    """The ASGI application."""

    def __init__(
        self,
        dialects: Sequence[Dialect],
        *,
        engine: Engine,
        telemetry: Telemetry,
        version: str,
        default_dialect: str | None = None,
        body_max_bytes: int,
        streams_max: int,
        keep_alive_seconds: float,
        mail_domain: str,
        auth_failures_max: int,
        proxies: Proxies,
        beside: Sequence[Route] = (),
    ) -> None:
        self.engine = engine
        self.mail_domain = mail_domain
        self.telemetry = telemetry
        self.version = version
        self.failures = Failures(auth_failures_max)
        self.authenticator = Authenticator(engine, self.failures)
        self.storage_keys = StorageKeys(engine)
        self.proxies = proxies
        self.body_max_bytes = body_max_bytes
        self.keep_alive_seconds = keep_alive_seconds
        self.native = dialects[0]
        others = [Claim(self.native, route, route.path, prefixed=True) for route in beside]
        self.table = Table(dialects, documents=[*openapi_routes(dialects), *others])
        self._default_dialect = default_dialect
        self._streams_max = streams_max
        self.streams_open = 0
        self.exports = asyncio.Semaphore(EXPORTS_MAX)
        self._closing = False
        # Unique to this process and counted: a random id for each request costs more.
        self._request_ids = uuid_utils.uuid7().hex[-16:]
        self._request_numbers = itertools.count(1)
        telemetry.gauge("sessiond_streams_open", "Followers connected.", lambda: self.streams_open)
        telemetry.gauge("sessiond_writer_queue", "Writes not committed yet.", lambda: engine.load().writes_waiting)
        telemetry.summary(
            "sessiond_batch_size",
            "Writes that shared a commit.",
            lambda: (engine.load().commits, engine.load().operations),
        )

    def request_id(self, sent: str | None) -> str:
        """Return the client's id for its request if that can stand in a log, else a new one."""
        if sent is not None and _REQUEST_ID.match(sent):
            return sent
        return f"{self._request_ids}-{next(self._request_numbers):x}"

    def close_streams(self) -> None:
        """End every stream now; their clients reconnect elsewhere and miss nothing."""
        self._closing = True
        self.engine.watches.wake_all()

    async def still_allowed(self, request: Request) -> None:
        """Raise unless a stream may go on: its key is still good and the server is not stopping."""
        if self._closing:
            raise Unavailable("the server is shutting down")
        await self.authenticator.authenticate(request.credential)
        if request.storage_key is not None:
            await self.unlock(request, request.caller)

    async def unlock(self, request: Request, caller: Caller) -> None:
        """Have the caller's workspace open for a request, by the storage key that came with it.

        Raises:
            TooMany: its address has sent too many wrong keys.
            As `StorageKeys.show`.
        """
        storage_key = request.storage_key
        if self.storage_keys.knows(caller, storage_key):
            return
        if storage_key is not None:
            self.failures.check(request.address)
        try:
            new = await self.storage_keys.show(caller, storage_key, writes=request.method in ("POST", "PATCH"))
        except Forbidden:
            self.failures.note_failure(request.address)
            request.note_refusal(WRONG_STORAGE_KEY)
            raise
        if new:
            self.authenticator.forget()  # others with the same key, whom it would let in without the storage key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        exchange = _Exchange(self, Request(scope, receive, site=self))
        status = await exchange.send(await exchange.answer(), receive, send)
        self.telemetry.request(
            dialect=exchange.dialect.name,
            route=exchange.claim.path if exchange.claim is not None else "",
            method=scope["method"],
            status=status,
            seconds=time.perf_counter() - started,
            request_id=exchange.request_id,
            caller=exchange.who,
        )

    async def answer(self, request: Request) -> Answer:
        """Return the whole answer to a request that this process makes: the same, but for the bytes between.

        It is neither counted nor logged.
        """
        exchange = _Exchange(self, request)
        answer = await exchange.answer()
        return await exchange.gather(answer) if isinstance(answer, Stream) else answer

    def choose(self, claims: Sequence[Claim], caller: Caller | None) -> Claim:
        """Return the claim that answers: the key's dialect, the only one, the server's default.

        Raises:
            InvalidInput: none of these decides; the message says which prefixes would.
        """
        for wanted in (caller.dialect if caller is not None else None, None, self._default_dialect):
            for claim in claims:
                if claim.dialect.name == wanted or (wanted is None and len(claims) == 1):
                    return claim
        prefixes = " or ".join(f"{claim.dialect.prefix}{claim.path}" for claim in claims)
        names = " or ".join(claim.dialect.name for claim in claims)
        raise InvalidInput(
            f"several APIs answer here: use {prefixes}, or a key made with --dialect {names}", field="path"
        )

    def blame(self, claims: Sequence[Claim], caller: Caller | None = None) -> Dialect:
        """Return the wire in whose words to refuse a caller, who is None where nobody knows yet."""
        with suppress(InvalidInput):
            return self.choose(claims, caller).dialect
        return self.native


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_first", "_request", "_request_id", "_site", "caller", "claim", "dialect")

    def __init__(self, site: Site, request: Request) -> None:
        self._site = site
        self._request = request
        self._request_id: str | None = None
        self.dialect = site.native
        self.claim: Claim | None = None
        self.caller: Caller | None = None
        self._first = b""
        """The first chunk of a stream, made before anything is sent."""

    @property
    def request_id(self) -> str:
        if self._request_id is None:
            self._request_id = self._site.request_id(self._request.headers.get("x-request-id"))
        return self._request_id

    def who(self) -> str:
        """Return who asked, for the log."""
        address = f" address={self._request.address or '-'}"
        caller = self.caller
        return f"{address} workspace={caller.workspace_id} key={caller.key_id}" if caller is not None else address

    async def answer(self) -> Answer | Stream:
        """Return the answer, or a refusal in the words of the wire that was meant."""
        try:
            return await self._answer(self._request)
        except SessiondError as error:
            return self._refuse(error)
        except RecursionError:
            return self._refuse(InvalidInput("the body is nested too deeply", field="body"))
        except Exception:
            log.exception("a bug: request_id=%s path=%s", self.request_id, self.claim and self.claim.path)
            return self._refuse(Internal("internal server error"))

    async def send(self, answer: Answer | Stream, receive: Receive, send: Send) -> int:
        """Send an answer, and return the status that was sent."""
        if isinstance(answer, Stream):
            return await self._stream(answer, receive, send)
        await self._send_whole(answer, send)
        return answer.status

    async def gather(self, stream: Stream) -> Answer:
        """Return a stream that ends by itself as one answer; what goes wrong meanwhile is a refusal like any other."""
        chunks = [self._first]
        try:
            async with aclosing(stream.chunks) as rest:  # type: ignore[type-var]  # generators, all of them
                chunks += [chunk async for chunk in rest]
        except SessiondError as error:
            return self._refuse(error)
        return Answer(HTTPStatus.OK, b"".join(chunks), stream.content_type, stream.headers)

    async def _answer(self, request: Request) -> Answer | Stream:
        site, scope = self._site, request.scope
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        found = site.table.find(raw_path)
        claims = found.claims.get(request.method) or await self._no_claim(request, found, raw_path)
        if len(claims) == 1:
            self._settle(claims[0])
            if not claims[0].route.public:
                known = site.authenticator.find(request.credential)
                self.caller = request.caller = known or await self._authenticate(request)
        else:
            self.dialect = site.blame(claims)
            self.caller = request.caller = await self._authenticate(request)
            self.dialect = site.native
            self._settle(site.choose(claims, self.caller))
        assert self.claim is not None, "one claim was settled on"
        if found.params:
            request.params = check_params(found.params)
        route, caller = self.claim.route, self.caller
        request.guarded = route.guarded
        if caller is not None and (request.storage_key is not None or caller.storage_key_id is not None):
            await self._unlock(request, caller)
        answer = await route.handler(request)
        if isinstance(answer, Stream):
            await self._begin(answer)
        if caller is not None and caller.audits_reads and route.shows_content:
            await self._note_read(request, answer)
        return answer

    async def _note_read(self, request: Request, answer: Answer | Stream) -> None:
        """Note that content was read, before anybody is shown it: what cannot be noted is not shown."""
        if isinstance(answer, Answer) and (answer.status >= HTTPStatus.BAD_REQUEST or not answer.body):
            return
        assert self.claim is not None, "somebody answered"
        names = (segment[1:-1] for segment in self.claim.path.split("/") if segment.startswith("{"))
        records = dict(zip(names, request.params, strict=True))
        try:
            await note_read(await request.call(), route=f"{request.method} {self.claim.path}", records=records)
        except BaseException:
            if isinstance(answer, Stream):
                await answer.chunks.aclose()  # type: ignore[attr-defined]  # generators, all of them
            raise

    def _authenticate(self, request: Request) -> Awaitable[Caller]:
        return self._site.authenticator.authenticate(request.credential, address=request.address or None)

    async def _unlock(self, request: Request, caller: Caller) -> None:
        """Have the caller's workspace open, where a client holds its key. What shows no content does without."""
        assert self.claim is not None, "it was settled on"
        storage_key, content = request.storage_key, self.claim.route.content
        if storage_key is None and not content:
            return
        if not content and caller.storage_key_id is None:
            return  # nothing to be sealed, and nothing to be opened
        await self._site.unlock(request, caller)

    def _settle(self, claim: Claim) -> None:
        self.claim, self.dialect = claim, claim.dialect

    async def _no_claim(self, request: Request, found: Found, raw_path: bytes) -> list[Claim]:
        if request.method == "HEAD" and "GET" in found.claims:
            return found.claims["GET"]
        if not found.claims:
            self.dialect = self._site.table.dialect_of(raw_path) or self.dialect
            raise NotFound("no such path")
        self.dialect = await self._dialect_of_others(request, found)
        raise MethodNotAllowed(found.claims)

    async def _dialect_of_others(self, request: Request, found: Found) -> Dialect:
        """Return the wire that would have answered another method of the path, whoever asks."""
        by_dialect = {claim.dialect.name: claim for claims in found.claims.values() for claim in claims}
        claims = list(by_dialect.values())
        caller = None
        if len(claims) > 1:
            with suppress(SessiondError):  # a key that is no good is not what is wrong here
                caller = await self._authenticate(request)
        return self._site.blame(claims, caller)

    async def _begin(self, stream: Stream) -> None:
        """Have a stream make its first chunk: what goes wrong until then is an answer like any other."""
        if stream.lasting and self._site.streams_open >= self._site._streams_max:
            raise Unavailable("too many streams are open", retry_after_seconds=10)
        self._first = await anext(stream.chunks, b"")

    def _refuse(self, error: SessiondError) -> Answer:
        route = self.claim.route if self.claim is not None else None
        if isinstance(error, Locked) and self.caller is None:
            error = Unavailable("this cannot be done just now", retry_after_seconds=60)  # nobody here has that key
        answer = self.dialect.render(
            Problem(error=error, path=self._request.scope["path"], request_id=self.request_id, route=route)
        )
        headers = answer.headers
        if isinstance(error, Damaged):
            log.error("damaged: %s: request_id=%s", error, self.request_id)
        if isinstance(error, TooMany | Unavailable) and not isinstance(error, Locked):
            headers += (("retry-after", str(error.retry_after_seconds)),)
        elif isinstance(error, Unauthenticated):
            headers += (("www-authenticate", "Bearer"),)
        elif isinstance(error, MethodNotAllowed):
            headers += (("allow", error.allowed),)
        return Answer(answer.status, answer.body, answer.content_type, headers)

    async def _send_whole(self, answer: Answer, send: Send) -> None:
        headers = self._headers()
        if answer.status != 204:
            headers.append((b"content-type", answer.content_type.encode()))
            headers.append((b"content-length", b"%d" % len(answer.body)))
        for name, value in answer.headers:
            headers.append((name.encode(), value.encode("utf-8", "replace")))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = answer.body
        if len(body) <= SLICE_BYTES:
            await send({"type": "http.response.body", "body": body})
            return
        with suppress(_GoneError, TimeoutError):
            for start in range(0, len(body), SLICE_BYTES):
                end = start + SLICE_BYTES
                await _send_in_time(
                    send, {"type": "http.response.body", "body": body[start:end], "more_body": end < len(body)}
                )

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", self.request_id.encode())]
        if self._request.client.scheme == "https":
            headers.append(_ONLY_SECURE)
        return headers

    async def _stream(self, stream: Stream, receive: Receive, send: Send) -> int:
        headers = [*self._headers(), (b"content-type", stream.content_type.encode())]
        headers += [(name.encode(), value.encode()) for name, value in stream.headers]
        # Closed here whether or not anybody ever iterates it: it has begun.
        async with aclosing(stream.chunks) as chunks:  # type: ignore[type-var]  # generators, all of them
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            whole = self._request.method == "HEAD" or await self._write_chunks(
                chunks, receive, send, lasting=stream.lasting
            )
        if whole:
            with suppress(_GoneError, TimeoutError):
                await _send_in_time(send, {"type": "http.response.body", "body": b""})
        return 200

    async def _write_chunks(self, chunks: AsyncIterator[bytes], receive: Receive, send: Send, *, lasting: bool) -> bool:
        """Write a stream's chunks; whether it may end as if it were whole.

        It is too late for a status: what was cut short has no end, so that the client sees the connection break.
        """
        whole = True
        self._site.streams_open += lasting
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_raise_when_gone(receive))
                await _send_in_time(send, {"type": "http.response.body", "body": self._first, "more_body": True})
                async for chunk in chunks:
                    await _send_in_time(send, {"type": "http.response.body", "body": chunk, "more_body": True})
                watching.cancel()
        except* (_GoneError, TimeoutError):
            whole = False
        except* SessiondError as group_of_one:
            reason = group_of_one.exceptions[0]
            log.info("stream ended: request_id=%s reason=%s", self.request_id, type(reason).__name__)
            whole = lasting
        except* Exception:
            log.exception("a bug: request_id=%s path=%s", self.request_id, self.claim and self.claim.path)
            whole = False
        finally:
            self._site.streams_open -= lasting
        return whole


async def _raise_when_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _GoneError


async def _send_in_time(send: Send, message: Message) -> None:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await send(message)
    except (RuntimeError, ConnectionError) as error:
        # What a transport says that was closed a moment ago, in the middle of an answer that went well so far.
        raise _GoneError from error


class _GoneError(Exception):
    """The client has hung up."""
