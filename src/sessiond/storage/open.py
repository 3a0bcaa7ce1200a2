"""From a database URL to an engine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from sessiond.core.errors import InvalidInput
from sessiond.crypto import Master
from sessiond.storage.engine import Engine
from sessiond.storage.migrate import migrate_postgres, migrate_sqlite
from sessiond.storage.sqlite import SqliteEngine
from sessiond.storage.vault import Vault

POSTGRES_SCHEMES: Final = ("postgresql", "postgres")


def sqlite_path(url: str) -> Path | None:
    """Return the file that a `sqlite:///relative.db` or `sqlite:////absolute.db` URL names; None for PostgreSQL.

    Raises:
        InvalidInput: the URL is of neither kind, or PostgreSQL's while its driver is not installed.
    """
    scheme = urlsplit(url).scheme
    if scheme in POSTGRES_SCHEMES:
        if find_spec("asyncpg") is None:
            raise InvalidInput("PostgreSQL needs its driver: pip install 'sessiond[postgres]'", field="database")
        return None
    if not url.startswith("sqlite:///") or url == "sqlite:///":
        raise InvalidInput(
            "the database must be sqlite:///path/to/file.db or postgresql://user@host/name", field="database"
        )
    return Path(unquote(url.removeprefix("sqlite:///")))


async def migrate(url: str) -> list[str]:
    """Bring the schema at `url` up to date; see `migrate.py`."""
    path = sqlite_path(url)
    return migrate_sqlite(path) if path is not None else await migrate_postgres(url)


async def open_engine(
    url: str, *, queue_max: int, pool_max: int, command_timeout_seconds: float, master: Master | None = None
) -> Engine:
    """Open the database at `url`, whose schema must be current. Close the engine when done.

    Without a `master` key, content that was sealed with one cannot be read.

    Raises:
        InvalidInput: the URL is of no known kind.
        Unavailable: nothing answers there.
    """
    path, vault = sqlite_path(url), Vault(master)
    if path is not None:
        return await SqliteEngine.open(path, queue_max=queue_max, vault=vault)
    from sessiond.storage.postgres import PostgresEngine  # with its driver, which is an extra

    return await PostgresEngine.open(
        url, queue_max=queue_max, pool_max=pool_max, command_timeout_seconds=command_timeout_seconds, vault=vault
    )
