"""`sessiond routes`: which API answers which path."""

from __future__ import annotations

from typing import Any

from sessiond.cli import show
from sessiond.cli.options import Json


def routes(json: Json = False) -> None:
    """List which API answers which path.

    Needs no database. Where several claim a path, the key's dialect decides, then `--default-dialect`.
    """
    found = read_table()
    if json:
        show.print_json(found)
        return
    rows = [
        (each["path"], each["method"], ", ".join(each["dialects"]), "contested" if each["contested"] else "")
        for each in found
    ]
    show.print_table(("PATH", "METHOD", "ANSWERED BY", ""), rows)


def read_table() -> list[dict[str, Any]]:
    """Return what the server's own table says of each path and method, in that order."""
    from sessiond.assembly import DIALECTS
    from sessiond.web.openapi import openapi_routes
    from sessiond.web.routes import Table

    table = Table(DIALECTS, documents=openapi_routes(DIALECTS))
    seen, found = set[int](), list[dict[str, Any]]()
    for claim in table:
        # Two wires may call the same segment {id} and {sessionId}: the table knows that it is one path.
        claims = table.find(claim.path.encode()).claims[claim.route.method]
        if id(claims) in seen:
            continue
        seen.add(id(claims))
        found.append(
            {
                "path": claim.path,
                "method": claim.route.method,
                "dialects": [each.dialect.name for each in claims],
                "contested": len(claims) > 1,
                "summary": claim.route.summary,
            }
        )
    return found
