"""The floor: the same HTTP server and framework answering a constant 200-byte JSON. Prints its port."""

from __future__ import annotations

import socket

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BODY = b'{"text":"' + b"x" * 189 + b'"}'


async def constant(_request: Request) -> Response:
    return Response(BODY, media_type="application/json")


async def serve() -> None:
    app = Starlette(routes=[Route("/", constant)])
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_level="error", access_log=False)
    held = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(held.getsockname()[1], flush=True)
    await uvicorn.Server(config).serve([held])


if __name__ == "__main__":
    uvloop.run(serve())
