"""Paths: split as they came, and found in the table of what is answered."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.assembly import DIALECTS
from sessiond.core.errors import InvalidInput
from sessiond.web.answers import Answer
from sessiond.web.openapi import openapi_routes
from sessiond.web.requests import Request
from sessiond.web.routes import Dialect, Problem, Route, Table, check_params, split_path

segments = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), min_size=1, max_size=5)


@given(segments)
def test_a_path_is_split_into_the_segments_it_was_made_of(made: list[str]) -> None:
    path = "".join(f"/{quote(segment, safe='')}" for segment in made)

    assert split_path(path.encode()) == made


@given(st.binary(max_size=30))
def test_any_path_is_split_and_what_is_no_text_in_it_is_refused(raw: bytes) -> None:
    params = tuple(split_path(b"/" + raw))

    assert len(params) == raw.count(b"/") + 1
    usable = all("\0" not in param and not any("\ud800" <= sign <= "\udfff" for sign in param) for param in params)
    if usable:
        assert check_params(params) == params
    else:
        with pytest.raises(InvalidInput) as refused:
            check_params(params)
        assert refused.value.field == "path"


@pytest.mark.parametrize("raw", [b"/%ff", b"/a%C3", b"/%ED%A0%80", b"/\xff", b"/%00", b"/a%00b"])
def test_what_is_not_utf_8_or_has_a_nul_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="path"):
        check_params(tuple(split_path(raw)))


def test_percent_signs_that_encode_nothing_stay() -> None:
    assert split_path(b"/100%/%zz/%2F%2f/+") == ["100%", "%zz", "//", "+"]


async def _handler(_: Request) -> Answer:
    return Answer(204)


def _render(_: Problem) -> Answer:
    return Answer(500)


def make_dialect(name: str, prefix: str, *routes: str) -> Dialect:
    made = [
        Route(method=method, path=path, handler=_handler, summary="")
        for method, path in (route.split() for route in routes)
    ]
    return Dialect(name=name, title=name, prefix=prefix, routes=tuple(made), render=_render, error=None)


ONE = make_dialect("one", "", "GET /v1/things", "GET /v1/things/{id}", "POST /v1/things", "GET /v1/things/{id}/of/{n}")
TWO = make_dialect("two", "/two", "GET /api/things/{key}", "GET /api/things/all", "DELETE /api/things/{id}")
THREE = make_dialect("three", "/three", "GET /api/things/{id}", "GET /api/things")
TABLE = Table([ONE, TWO, THREE])


def found(path: str) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    result = TABLE.find(path.encode())
    claims = {method: [claim.dialect.name for claim in claims] for method, claims in result.claims.items()}
    return claims, result.params


def test_a_path_is_found_with_its_methods_and_what_it_leaves_open() -> None:
    assert found("/v1/things") == ({"GET": ["one"], "POST": ["one"]}, ())
    assert found("/v1/things/a%2Fb/of/%20") == ({"GET": ["one"]}, ("a/b", " "))
    assert found("/v1/things/") == ({"GET": ["one"]}, ("",)), "an empty segment is a segment"
    assert found("/v1/things//of/") == ({"GET": ["one"]}, ("", ""))


def test_a_path_that_several_wires_claim_is_found_for_each_and_under_a_prefix_for_one() -> None:
    assert found("/api/things/x") == ({"GET": ["two", "three"], "DELETE": ["two"]}, ("x",))
    assert found("/two/api/things/x") == ({"GET": ["two"], "DELETE": ["two"]}, ("x",))
    assert found("/three/api/things/x") == ({"GET": ["three"]}, ("x",))
    assert found("/api/things") == ({"GET": ["three"]}, ())


def test_a_segment_that_is_named_comes_before_one_that_is_open() -> None:
    assert found("/api/things/all") == ({"GET": ["two"]}, ())
    assert found("/api/things/%61ll") == ({"GET": ["two"]}, ())


@pytest.mark.parametrize(
    "path", ["", "/", "/v1", "/v1/things/a/b", "/V1/things", "//v1/things", "/two", "/v1/things/a/"]
)
def test_what_nobody_claims_is_not_found(path: str) -> None:
    assert found(path) == ({}, ())


def test_the_wire_of_a_path_is_the_one_whose_prefix_it_has() -> None:
    assert TABLE.dialect_of(b"/two/whatever") is TWO
    assert TABLE.dialect_of(b"/two") is None
    assert TABLE.dialect_of(b"/twofold/x") is None
    assert TABLE.dialect_of(b"/v1/things") is None


def test_the_table_lists_every_claim() -> None:
    listed = [(claim.path, claim.route.method, claim.dialect.name) for claim in TABLE]

    assert listed == sorted(listed, key=lambda claim: claim[:2])
    assert len(listed) == len(ONE.routes) + 2 * (len(TWO.routes) + len(THREE.routes))


def test_every_route_that_is_served_can_be_reached() -> None:
    """An id may be any word: a path that names a word where another leaves an id open must not hide what lies below.

    But for a message's, which the server makes, and which is none of these words.
    """
    table = Table(DIALECTS, documents=openapi_routes(DIALECTS))
    words = {segment for claim in table for segment in claim.path.split("/") if segment and segment[0] != "{"}
    for claim in table:
        if "{" not in claim.path:
            continue
        for word in ["x", *words]:
            filled = claim.path.replace("{message_id}", "msg_1.x")
            path = "/".join(word if segment.startswith("{") else segment for segment in filled.split("/"))
            claims = table.find(path.encode()).claims
            assert claim.route.method in claims, f"{claim.route.method} {claim.path} where the id is {word!r}"
