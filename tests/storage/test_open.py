"""From a database URL to an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessiond.core.errors import InvalidInput, Unavailable
from sessiond.storage.open import open_engine, sqlite_path
from tests.postgres import PostgresServer


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///data/a.db", "data/a.db"),
        ("sqlite:////srv/a.db", "/srv/a.db"),
        ("sqlite:///with%20space.db", "with space.db"),
        ("postgresql://u@h1,h2:5433/name", None),
        ("postgres:///name", None),
    ],
)
def test_a_url_names_a_file_or_a_server(url: str, path: str | None) -> None:
    assert sqlite_path(url) == (Path(path) if path is not None else None)


@pytest.mark.parametrize("url", ["", "a.db", "sqlite://a.db", "sqlite:///", "mysql://h/name"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        sqlite_path(url)

    assert refused.value.field == "database"


async def test_a_database_that_cannot_be_opened_is_unavailable(postgres: PostgresServer, tmp_path: Path) -> None:
    for url in (
        postgres.url("no_such_database"),
        "postgresql://127.0.0.1:1/name",
        f"sqlite:///{tmp_path}/no/such/folder.db",
    ):
        with pytest.raises(Unavailable):
            await open_engine(url, queue_max=1, pool_max=1, command_timeout_seconds=1)
