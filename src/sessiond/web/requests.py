"""What a client asked, checked on the way in: every refusal names the field."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from sessiond.actions.call import Call, Retry
from sessiond.core.caller import Caller
from sessiond.core.errors import InvalidInput, TooLarge, Unavailable
from sessiond.core.limits import IDEMPOTENCY_KEY_MAX_CHARS, check_nesting, check_text
from sessiond.web.answers import pack_answer, unpack_answer
from sessiond.web.asgi import Receive, Scope
from sessiond.web.proxies import Client, check_host

if TYPE_CHECKING:
    from sessiond.web.site import Site

T = TypeVar("T")

BODY_SECONDS: Final = 30.0  # a client that stops in the middle of its body is not waited for
_QUERY_FIELDS_MAX: Final = 200
_decoders: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


class Request:
    """One request. `params` are the segments of the path that a route leaves open, in order."""

    __slots__ = ("_body", "_client", "_receive", "caller", "guarded", "headers", "method", "params", "scope", "site")

    caller: Caller
    """Set before a handler runs; a public route has none."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        *,
        site: Site,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        client: Client | None = None,
    ) -> None:
        """Who makes a request in this process has its headers, body and client as they come to be read."""
        self.scope = scope
        self.site = site
        self.method: str = scope["method"]
        if headers is None:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.headers = headers
        self.params: tuple[str, ...] = ()
        self.guarded = False
        """Whether its route honours If-Match."""
        self._receive = receive
        self._body = body
        self._client = client

    async def read(self) -> bytes:
        """Return the body.

        Raises:
            TooLarge: it is over the site's limit; the rest is not read.
            Unavailable: it did not come.
        """
        if self._body is None:
            length = self.headers.get("content-length", "")
            if length.isdigit() and int(length) > self.site.body_max_bytes:
                raise self._too_large()
            # A timer of the loop's: `asyncio.timeout` costs as much as the rest of this function.
            task, late = asyncio.current_task(), list[bool]()
            timer = asyncio.get_running_loop().call_later(BODY_SECONDS, _give_up, task, late)
            try:
                self._body = await self._read_whole()
            except asyncio.CancelledError:
                if late:
                    raise Unavailable("the body did not arrive in time") from None
                raise
            finally:
                timer.cancel()
        return self._body

    async def _read_whole(self) -> bytes:
        chunks, size = list[bytes](), 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Unavailable("the client went away")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self.site.body_max_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return chunk if not chunks else b"".join([*chunks, chunk])
            chunks.append(chunk)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self.site.body_max_bytes} bytes", field="body")

    async def body_as(self, kind: type[T], *, empty: T | None = None) -> T:
        """Return the body as a `kind`, or `empty` where there is none.

        Raises:
            InvalidInput: it is not JSON, not of that shape, or nested too deeply; the message names the field.
            TooLarge, Unavailable: as `read`.
        """
        body = self._body if self._body is not None else await self.read()
        if empty is not None and not body.strip():
            return empty
        decoder = _decoders.get(kind)
        if decoder is None:
            decoder = _decoders[kind] = msgspec.json.Decoder(kind)
        try:
            decoded: T = decoder.decode(body)
        except msgspec.ValidationError as error:
            raise invalid(error) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if (field := _half_a_pair(body)) is not None:
                half = f"{field} contains half a surrogate pair"
                raise InvalidInput(f"the body is not valid JSON: {half}", field=field) from error
            raise InvalidInput(f"the body is not valid JSON: {error}", field="body") from error
        except RecursionError as error:
            raise InvalidInput("the body is nested too deeply", field="body") from error
        check_nesting(body)
        return decoded

    @property
    def content_type(self) -> str:
        """What the body is said to be, in lower case and without parameters; empty where nothing is said."""
        said: str = self.headers.get("content-type", "")
        return said.partition(";")[0].strip().lower()

    @property
    def origin(self) -> str:
        """The beginning of this server's URLs, as the client has it."""
        host = self.client.host or check_host(self.headers.get("host")) or self._own_host()
        return f"{self.client.scheme}://{host}"

    @property
    def address(self) -> str:
        """The client's address, for a log or a limit: the one connected, or for whom a trusted proxy speaks.

        It is an address in its one form, or empty where there is none.
        """
        return self.client.address

    def note_refusal(self, reason: str) -> None:
        """Note for the audit log why this caller was not let in, who has a good key."""
        caller = self.caller
        self.site.authenticator.refusals.note(
            reason, address=self.address or None, workspace_id=caller.workspace_id, key_id=caller.key_id
        )

    async def hung_up(self) -> bool:
        """Whether the client is gone: for whom an answer is held back must be asked now and then.

        Raises:
            As `read`.
        """
        await self.read()
        try:
            async with asyncio.timeout(0):
                return bool((await self._receive())["type"] == "http.disconnect")
        except TimeoutError:
            return False

    @property
    def client(self) -> Client:
        """Who asks, from where, and how."""
        if self._client is None:
            self._client = self.site.proxies.find_client(self.scope)
        return self._client

    def _own_host(self) -> str:
        address, port = self.scope["server"]
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    @property
    def credential(self) -> str | None:
        """What an Authorization header says, or would say: some published clients send `X-API-Key` instead."""
        authorization = self.headers.get("authorization")
        if authorization is None and (key := self.headers.get("x-api-key")) is not None:
            return f"Bearer {key}"
        return authorization

    @property
    def storage_key(self) -> str | None:
        """What the client says that its workspace is sealed with."""
        return self.headers.get("storage-key")

    def query_pairs(self) -> Sequence[tuple[str, str]]:
        """Return the query string's fields; what one without a value means is the wire's to say.

        Raises:
            InvalidInput: it is not UTF-8, has a NUL, or has hundreds of fields.
        """
        return _query_pairs(self.scope["query_string"])

    def query_as(self, kind: type[T], *, filled: frozenset[str] = frozenset()) -> T:
        """Return the query string as a `kind`, a frozen struct; fields that are lists may come several times.

        A field without a value is as good as absent, except those named in `filled`: a filter that lost its value on
        the way would find everything.

        Raises:
            InvalidInput: a value is not of its field's type or range; the message names the field.
        """
        query: T = _query_as(self.scope["query_string"], kind, filled)  # type: ignore[arg-type]  # a class can be hashed
        return query

    async def call(self) -> Call:
        """Return the call that this request makes: the caller's, on the terms of its headers.

        Raises:
            InvalidInput: the Idempotency-Key cannot be one.
        """
        address = self.client.address or None
        if self.method not in ("POST", "PATCH", "DELETE"):
            return Call(self.site.engine, self.caller, address=address)
        headers = self.headers
        if_match = headers.get("if-match") if self.guarded else None
        key = headers.get("idempotency-key") if self.method != "DELETE" else None
        retry = await self._retry(key) if key is not None else None
        return Call(self.site.engine, self.caller, if_match=if_match, retry=retry, address=address)

    async def _retry(self, key: str) -> Retry:
        check_text(key, "Idempotency-Key", max_chars=IDEMPOTENCY_KEY_MAX_CHARS)
        if not key:
            raise InvalidInput("Idempotency-Key is empty", field="Idempotency-Key")
        asked = (self.method.encode(), self._path_of_route(), self.scope["query_string"])
        fingerprint = hashlib.sha256(b"\0".join((*asked, await self.read()))).digest()
        return Retry(key, fingerprint, pack_answer, unpack_answer)

    def _path_of_route(self) -> bytes:
        """Return the path as it came, without the prefix of its wire: one API in two places."""
        raw_path: bytes = self.scope["raw_path"]
        dialect = self.site.table.dialect_of(raw_path)
        return raw_path.removeprefix(dialect.prefix.encode()) if dialect is not None else raw_path


def _half_a_pair(body: bytes) -> str | None:
    """Return where in a body is text that Unicode has no bytes for, which our decoder calls truncated input."""
    try:
        return _find_half_a_pair(json.loads(body), "")
    except (ValueError, RecursionError):
        return None


def _find_half_a_pair(value: Any, place: str) -> str | None:
    if isinstance(value, str):
        return (place or "body") if _SURROGATE.search(value) else None
    found: Iterable[str | None] = ()
    if isinstance(value, list):
        found = (_find_half_a_pair(each, f"{place}[{index}]") for index, each in enumerate(value))
    elif isinstance(value, dict):
        found = (
            place or "body" if _SURROGATE.search(name) else _find_half_a_pair(each, f"{place}.{name}".lstrip("."))
            for name, each in value.items()
        )
    return next((one for one in found if one is not None), None)


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _give_up(task: asyncio.Task[Any] | None, late: list[bool]) -> None:
    if task is not None:
        late.append(True)
        task.cancel()


# Clients ask the same few things again and again: what a query string says is worked out once.
@lru_cache(maxsize=512)
def _query_pairs(raw: bytes) -> Sequence[tuple[str, str]]:
    if not raw:
        return ()
    try:
        text = raw.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError as error:  # a UnicodeDecodeError is one
        raise InvalidInput("the query string is not valid UTF-8, or has too many fields", field="query") from error
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise InvalidInput(f"{name.replace(chr(0), '')} contains a NUL character", field="query")
    return tuple(pairs)


@lru_cache(maxsize=512)
def _query_as(raw: bytes, kind: Any, filled: frozenset[str]) -> Any:
    listed = _listed_fields(kind)
    values: dict[str, Any] = {}
    for name, value in _query_pairs(raw):
        if not value:
            if name in filled:
                raise InvalidInput(f"{name} is empty: leave it out, or give it a value", field=name)
        elif name in listed:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from error


_MISSING: Final = re.compile(r"^Object missing required field `([^`]+)`")
_ONE_OF: Final = re.compile(r"^Expected `str` matching regex '\^\(([a-z_|]+)\)\$'$")
_PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")


def invalid(error: msgspec.ValidationError) -> InvalidInput:
    """Say what a decoder found wrong in our words, naming the field."""
    text = str(error)
    place = _PLACE.search(text)
    field = place.group(1) if place else ""
    text = _PLACE.sub("", text)
    if missing := _MISSING.match(text):
        field = f"{field}.{missing.group(1)}".lstrip(".")
        return InvalidInput(f"{field} is required", field=field)
    if words := _ONE_OF.match(text):
        return InvalidInput(f"{field} must be {words.group(1).replace('|', ' or ')}", field=field)
    text = text[:1].lower() + text[1:]
    return InvalidInput(f"{field or 'the body'}: {text}", field=field or "body")


def _listed_fields(kind: Any) -> frozenset[str]:
    found = _lists.get(kind)
    if found is None:
        info: Any = msgspec.inspect.type_info(kind)
        names = [field.encode_name for field in info.fields if _is_list(field.type)]
        found = _lists[kind] = frozenset(names)
    return found


def _is_list(kind: msgspec.inspect.Type) -> bool:
    return isinstance(kind, msgspec.inspect.ListType | msgspec.inspect.VarTupleType)


_lists: Final[dict[Any, frozenset[str]]] = {}
