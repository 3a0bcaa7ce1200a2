"""`sessiond mcp`: the tools of the Model Context Protocol, for an assistant that starts this program."""

from __future__ import annotations

from sessiond.cli import connecting, show
from sessiond.cli.connecting import Key, Local, ProfileName, Url, Where, Workspace


def mcp(
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
) -> None:
    """Serve the tools of the Model Context Protocol on standard input and output.

    An assistant starts this: it can list and search sessions, read and append to them, make an inbox, and wait for a
    code, as far as the key's scopes go. A server with the extra `mcp` answers the same at /mcp.

    \b
    sessiond mcp                              against the server of sessiond login
    sessiond mcp --database data/sessiond.db  on a file, without a server
    """
    import asyncio

    from sessiond.client import AsyncClient

    try:
        from sessiond.integrations.mcp.stdio import serve_stdio
    except ImportError as error:
        show.fail(error)
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    place = connecting.check(where)
    if place is not None:
        client = AsyncClient(place.key, place.url)
    else:
        assert database is not None, "there is a server or a database"
        client = AsyncClient.local(database, workspace=workspace or "default")
    asyncio.run(serve_stdio(client))
