"""What machines ask of the program itself: alive, ready, how busy. It needs no key, and names no session."""

from __future__ import annotations

from typing import Final

import msgspec

from sessiond.core.errors import Unavailable
from sessiond.web.answers import Answer, json_answer
from sessiond.web.requests import Request
from sessiond.web.routes import Route


class Health(msgspec.Struct, frozen=True):
    status: str


class Readiness(msgspec.Struct, frozen=True):
    status: str
    database: str
    """The engine's name."""
    schema: int
    """The newest migration that the database has seen."""


async def healthz(_request: Request) -> Answer:
    return json_answer(Health("ok"))


async def readyz(request: Request) -> Answer:
    engine = request.site.engine
    schema = await engine.schema()
    if schema.version < schema.newest:
        raise Unavailable(f"the database has schema {schema.version}, needed is {schema.newest}: run sessiond migrate")
    return json_answer(Readiness("ready", engine.name, schema.version))


async def metrics(request: Request) -> Answer:
    return Answer(200, request.site.telemetry.exposition(), "text/plain; version=0.0.4; charset=utf-8")


ROUTES: Final = (
    Route(method="GET", path="/healthz", handler=healthz, summary="Alive", answers={200: Health}, public=True),
    Route(
        method="GET",
        path="/readyz",
        handler=readyz,
        summary="Ready: the database answers and its schema is current",
        answers={200: Readiness},
        public=True,
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=metrics,
        summary="Metrics for Prometheus",
        answers={200: bytes},
        content_type="text/plain",
        public=True,
    ),
)
