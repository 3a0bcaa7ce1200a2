"""What the tests of the whole program share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer, open_postgres
from tests.program import Program, open_program


@pytest.fixture
def program(database: str) -> Iterator[Program]:
    """The real program, on a database of its own."""
    with open_program(database) as running:
        yield running


@pytest.fixture
def fragile_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own, to be killed and started again."""
    with open_postgres() as server:
        server.create_database("sessiond")
        yield server
