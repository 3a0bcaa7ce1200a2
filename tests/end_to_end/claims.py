"""Every way in that there is, from the table of routes, so that a route that is added is tested without being named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import httpx
import msgspec
from msgspec.inspect import StructType, type_info

from sessiond.assembly import DIALECTS
from sessiond.core.caller import ALL_SCOPES
from sessiond.web.openapi import make_document, openapi_routes
from sessiond.web.routes import Claim, Dialect, Table
from tests.serving import Tenant

TABLE: Final = Table(DIALECTS, documents=openapi_routes(DIALECTS))
CLAIMS: Final = tuple(TABLE)
ASKED: Final = tuple(claim for claim in CLAIMS if not claim.route.public)
"""The claims that need a key."""
ONCE: Final = tuple(claim for claim in ASKED if claim.prefixed)
"""Each of these routes once: at the root it is the same one."""
NATIVE: Final = DIALECTS[0]


def action_of(claim: Claim) -> str:
    """Return the name of what a claim does."""
    name: str = getattr(claim.route.handler, "__name__")  # noqa: B009 - a callable's type has no name
    return name


def name_of(claim: Claim) -> str:
    """Return what a claim is called in a test's name. A contested path is one for each that claims it."""
    return f"{claim.dialect.name} {claim.route.method} {claim.path}"


def params_of(claim: Claim) -> list[str]:
    """Return the names of a path's open segments."""
    return [segment[1:-1] for segment in claim.path.split("/") if segment.startswith("{")]


def path_of(claim: Claim, values: Mapping[str, str]) -> str:
    """Return a claim's path with its open segments filled.

    Raises:
        KeyError: a segment has no value. A new name must be added by someone who knows what it names.
    """
    path = claim.path
    for name in params_of(claim):
        path = path.replace(f"{{{name}}}", values[name])
    return path


def fields_of(kind: Any) -> Mapping[str, msgspec.inspect.Type]:
    """Return the types of a struct's fields by the names that they have on the wire; none for None."""
    if kind is None:
        return {}
    info = type_info(kind)
    assert isinstance(info, StructType), kind
    return {field.encode_name: field.type for field in info.fields}


@cache
def statuses_of(claim: Claim) -> frozenset[int]:
    """Return the statuses that the OpenAPI document has for a claim."""
    document = make_document(claim.dialect, version="")
    return frozenset(map(int, document["paths"][claim.route.path][claim.route.method.lower()]["responses"]))


def is_contested(claim: Claim) -> bool:
    return len(TABLE.find(claim.path.encode()).claims[claim.route.method]) > 1


def key_for(tenant: Tenant, claim: Claim, **new: Any) -> Tenant:
    """Return a tenant whose key makes its request this claim's, also where several answer."""
    return tenant.make_key(scopes=ALL_SCOPES, dialect=claim.dialect.name, **new)


def blamed(claim: Claim) -> Dialect:
    """Return the wire in whose words a caller without a good key is refused."""
    return NATIVE if is_contested(claim) else claim.dialect


def assert_refused(answer: httpx.Response, dialect: Dialect, *, statuses: range | tuple[int, ...]) -> None:
    """Check that an answer says no in a wire's own words."""
    assert answer.status_code in statuses, f"{answer.status_code} {answer.text[:500]}"
    assert answer.headers["content-type"] == dialect.error_content_type, answer.headers
    assert answer.headers["x-request-id"]
    said = msgspec.json.decode(answer.content, type=dialect.error)
    # Everything that was said has its place in the type.
    assert msgspec.json.decode(msgspec.json.encode(said)) == answer.json()


def each_text(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, also the names of its fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from each_text(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from each_text(one)
