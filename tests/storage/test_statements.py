"""Named SQL: every statement is one that its database understands."""

from __future__ import annotations

import apsw
import asyncpg
import pytest

from sessiond.storage.engine import Engine
from sessiond.storage.open import sqlite_path
from sessiond.storage.sqlite import connect
from sessiond.storage.statements import load_statements, number_parameters

# An index cannot be asked for where what it holds is not.
COMPLETED = {"message_select_sparse": "where workspace_id = :w and session_id = :s and type like 'message.%'"}


async def test_the_database_understands_every_statement(engine: Engine, database: str) -> None:
    statements = load_statements(engine.name)
    assert len(statements) > 30
    path = sqlite_path(database)
    if path is not None:
        file = connect(path)
        for name, sql in statements.items():
            _, parameters = number_parameters(f"{sql} {COMPLETED.get(name, '')}")
            try:
                file.execute(f"explain {sql} {COMPLETED.get(name, '')}", dict.fromkeys(parameters)).fetchall()
            except apsw.Error as error:
                pytest.fail(f"{name}: {error}")
        file.close()
        return
    server = await asyncpg.connect(database)
    for name, sql in statements.items():
        numbered, parameters = number_parameters(sql)
        try:
            prepared = await server.prepare(numbered)
        except asyncpg.PostgresError as error:
            pytest.fail(f"{name}: {error}")
        assert len(prepared.get_parameters()) == len(parameters), name
    await server.close()


@pytest.mark.parametrize("override", ["sqlite", "postgres"])
def test_an_override_selects_the_same_columns(override: str) -> None:
    columns = {
        engine: load_statements(engine)["session_select"].partition("from sessions")[0].count(",")
        for engine in ("sqlite", "postgres")
    }

    assert columns["sqlite"] == columns["postgres"] == columns[override]


def test_parameters_are_numbered_by_name_and_casts_are_left_alone() -> None:
    assert number_parameters("select :b, :a_1::text, :b, x::bigint") == (
        "select $1, $2::text, $1, x::bigint",
        ("b", "a_1"),
    )
