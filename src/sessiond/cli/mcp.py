"""`sessiond mcp`: the tools of the Model Context Protocol, for an assistant that starts this program."""

from __future__ import annotations

from typing import Annotated

import typer

from sessiond.cli import show
from sessiond.cli.options import Database


def mcp(
    url: Annotated[str | None, typer.Option(metavar="URL", help="The server's. [env SESSIOND_URL]")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="An API key. [env SESSIOND_API_KEY]")] = None,
    database: Database = None,
    workspace: Annotated[str, typer.Option(metavar="ID", help="Of a database: which workspace.")] = "default",
) -> None:
    """Serve the tools of the Model Context Protocol on standard input and output.

    An assistant starts this: it can list and search sessions, read and append to them, make an inbox, and wait for a
    code, as far as the key's scopes go. A server with the extra `mcp` answers the same at /mcp.

    \b
    sessiond mcp --url http://127.0.0.1:8080      against a server; the key in SESSIOND_API_KEY
    sessiond mcp --database data/sessiond.db      on a file, without a server
    """
    import asyncio

    from sessiond.client import AsyncClient

    try:
        from sessiond.integrations.mcp.stdio import serve_stdio
    except ImportError as error:
        show.fail(error)
    client = AsyncClient(key, url) if database is None else AsyncClient.local(database, workspace=workspace)
    asyncio.run(serve_stdio(client))
