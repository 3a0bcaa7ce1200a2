"""Named SQL: `sql/*.sql` holds statements both databases run, `sqlite.sql` and `postgres.sql` what must differ.

A file is a list of `-- name: session_get` lines, each followed by one statement with `:name` parameters.
`{session_get}` in a statement stands for that statement's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

OVERRIDES: Final = frozenset({"sqlite", "postgres"})

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_INCLUDE: Final = re.compile(r"\{(\w+)\}")
# A parameter, but not the second half of a `::cast` nor part of a quoted string that has a colon.
_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


def load_statements(engine: str) -> Mapping[str, str]:
    """Return every statement by name, as `engine` ("sqlite" or "postgres") runs it.

    Raises:
        ValueError: two files of the same rank define one name.
    """
    folder = files("sessiond.storage") / "sql"
    names = sorted(entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql"))
    statements: dict[str, str] = {}
    for name in names:
        if name in OVERRIDES:
            continue
        for statement, sql in _parse((folder / f"{name}.sql").read_text()).items():
            if statement in statements:
                raise ValueError(f"the statement {statement} stands twice in storage/sql")
            statements[statement] = sql
    statements |= _parse((folder / f"{engine}.sql").read_text())
    return {name: _include(sql, statements) for name, sql in statements.items()}


def number_parameters(sql: str) -> tuple[str, tuple[str, ...]]:
    """Return `sql` with `$1`, `$2`… for its `:name` parameters, and the names in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(number, sql), tuple(names)


def _parse(text: str) -> dict[str, str]:
    parts = _NAME.split(text)
    return {name: _strip_comments(sql) for name, sql in zip(parts[1::2], parts[2::2], strict=True)}


def _include(sql: str, statements: Mapping[str, str]) -> str:
    while match := _INCLUDE.search(sql):
        sql = sql[: match.start()] + statements[match.group(1)] + sql[match.end() :]
    return sql


def _strip_comments(sql: str) -> str:
    lines = (line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
