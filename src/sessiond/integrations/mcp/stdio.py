"""The tools on standard input and output: for an assistant that starts `sessiond mcp` itself."""

from __future__ import annotations

from sessiond.client import AsyncClient
from sessiond.integrations.mcp.tools import make_server  # first: it says what to install


async def serve_stdio(client: AsyncClient) -> None:
    """Answer until standard input ends, in the name of `client`, which is closed then."""
    from mcp.server.stdio import stdio_server

    server = make_server(lambda _context: client)
    async with client, stdio_server() as (requests, answers):
        await server.run(requests, answers, server.create_initialization_options())
