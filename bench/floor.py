"""The floor: the same HTTP server and framework answering a constant 200-byte JSON. Prints its port."""

from __future__ import annotations

import asyncio
import socket

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BODY = b'{"text":"' + b"x" * 189 + b'"}'


async def constant(_request: Request) -> Response:
    return Response(BODY, media_type="application/json")


async def serve() -> None:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        server = Server(
            Starlette(routes=[Route("/", constant)]),
            address="127.0.0.1",
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            log_level=LogLevels.error,
        )
        running = asyncio.create_task(server.serve())
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                await asyncio.sleep(0.01)
        writer.close()
        print(port, flush=True)
        await running


if __name__ == "__main__":
    uvloop.run(serve())
