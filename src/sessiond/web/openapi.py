"""OpenAPI 3.1 documents, made of the routes and their types: what is not in the code is not in the document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from sessiond.core.limits import ID_MAX_CHARS
from sessiond.web.answers import Answer, encode
from sessiond.web.requests import Request
from sessiond.web.routes import Claim, Dialect, Handler, Route

PATH: Final = "/openapi.json"
_REFERENCE: Final = "#/components/schemas/{name}"
# What any route may answer, whatever it is for: a bad key, too many of them, a path in several APIs, another method of
# its path, a full queue, a bug.
_ALWAYS: Final = (400, 401, 405, 429, 500, 503)


def openapi_routes(dialects: Iterable[Dialect]) -> Iterable[Claim]:
    """Yield the route of each dialect's document, under its prefix."""
    for dialect in dialects:
        route = Route(
            method="GET",
            path=PATH,
            handler=_handler(dialect),
            summary="This document",
            answers={200: dict[str, Any]},
            public=True,
        )
        yield Claim(dialect, route, dialect.prefix + PATH, prefixed=True)


def make_document(dialect: Dialect, *, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of one wire."""
    kinds = [dialect.error, *(kind for route in dialect.routes for kind in _kinds(route))]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    by_kind = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in dialect.routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, dialect, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {"title": dialect.title, "version": version},
        "servers": [{"url": dialect.prefix or "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": components,
        },
    }


def _handler(dialect: Dialect) -> Handler:
    document: list[bytes] = []

    async def serve(request: Request) -> Answer:
        if not document:
            document.append(encode(make_document(dialect, version=request.site.version)))
        return Answer(200, document[0])

    return serve


def _kinds(route: Route) -> Iterable[Any]:
    for kind in route.answers.values():
        yield from (one for one in _options(kind) if one not in (None, bytes))
    if route.body is not None:
        yield route.body


def _operation(route: Route, dialect: Dialect, by_kind: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": getattr(route.handler, "__name__", route.summary),
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_headers(route)],
        "responses": {
            str(status): _response(kind, route, dialect, by_kind)
            for status, kind in sorted(_answers(route, dialect).items())
        },
    }
    if route.description:
        operation["description"] = route.description
    if route.public:
        operation["security"] = []
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {
                "application/json": {"schema": by_kind[repr(route.body)]},
                **{kind: {"schema": {"type": "string"}} for kind in route.other_bodies},
            },
        }
    return operation


def _answers(route: Route, dialect: Dialect) -> dict[int, Any]:
    if route.public:
        return {**route.answers, 405: dialect.error, 503: dialect.error}
    return {**dict.fromkeys(_ALWAYS, dialect.error), **route.answers}


def _options(kind: Any) -> tuple[Any, ...]:
    """Return what an answer may be: several types where they stand in a tuple."""
    return kind if isinstance(kind, tuple) else (kind,)


def _response(kind: Any, route: Route, dialect: Dialect, by_kind: dict[str, Any]) -> dict[str, Any]:
    if kind is None:
        return {"description": "Done; the body is empty"}
    if kind is bytes:
        return {"description": "Text", "content": {route.content_type: {"schema": {"type": "string"}}}}
    schemas = [by_kind[repr(option)] for option in _options(kind)]
    return {
        "description": " or ".join(getattr(option, "__name__", "JSON") for option in _options(kind)),
        "content": {
            dialect.error_content_type if kind is dialect.error else "application/json": {
                "schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
            }
        },
    }


def _path_parameters(route: Route) -> Sequence[dict[str, Any]]:
    return [
        {
            "name": segment[1:-1],
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": ID_MAX_CHARS},
        }
        for segment in route.path.split("/")
        if segment.startswith("{")
    ]


def _query_parameters(route: Route) -> Iterable[dict[str, Any]]:
    if route.query is None:
        return
    _, components = msgspec.json.schema_components([route.query], ref_template=_REFERENCE)
    schema = components[route.query.__name__]
    for name, field in schema["properties"].items():
        yield {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _inlined(field, components),
        }


def _inlined(field: Any, components: dict[str, Any]) -> Any:
    """Return a parameter's schema without references: enums are small, and readers need not look them up."""
    if isinstance(field, dict):
        if "$ref" in field:
            return _inlined(components[field["$ref"].rsplit("/", 1)[-1]], components)
        return {name: _inlined(value, components) for name, value in field.items()}
    if isinstance(field, list):
        return [_inlined(value, components) for value in field]
    return field


def _headers(route: Route) -> Iterable[dict[str, Any]]:
    text = {"type": "string"}
    if route.method in ("POST", "PATCH") and not route.public:
        yield {"name": "Idempotency-Key", "in": "header", "schema": text | {"minLength": 1, "maxLength": 255}}
    if route.guarded and 412 in route.answers:
        yield {"name": "If-Match", "in": "header", "schema": text}
    if route.content_type == "text/event-stream" and route.method == "GET":
        yield {"name": "Last-Event-ID", "in": "header", "schema": text | {"pattern": "^[0-9]{1,18}$"}}
