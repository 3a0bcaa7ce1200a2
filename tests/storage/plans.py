"""How a database would run a statement: which tables it would read from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw
import asyncpg
import msgspec

from sessiond.storage.open import sqlite_path
from sessiond.storage.statements import number_parameters


async def read_through(database: str, sql: str) -> list[str]:
    """Return the steps of a statement's plan that do not look for something in an index."""
    numbered, names = number_parameters(sql)
    path = sqlite_path(database)
    if path is not None:
        file = apsw.Connection(str(path))
        rows = file.execute(f"explain query plan {sql}", dict.fromkeys(names)).fetchall()
        file.close()
        steps = [str(row[3]) for row in rows]
        return [step for step in steps if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
    server = await asyncpg.connect(database)
    try:
        # The tables are empty: it would read them from end to end if it may.
        await server.execute("set enable_seqscan = off; set plan_cache_mode = force_generic_plan")
        await server.execute(f"prepare planned as {numbered}")
        given = f"({', '.join('null' for _ in names)})" if names else ""
        plan = msgspec.json.decode(await server.fetchval(f"explain (format json) execute planned{given}"))
    finally:
        await server.close()
    return [*_steps(plan[0]["Plan"])]


def _steps(node: dict[str, Any]) -> Iterator[str]:
    kind = node["Node Type"]
    if kind == "Seq Scan" or ("Index" in kind and "Index Cond" not in node and kind != "Bitmap Heap Scan"):
        yield f"{kind} {node.get('Index Name', node.get('Relation Name'))}"
    for inner in node.get("Plans", ()):
        yield from _steps(inner)
