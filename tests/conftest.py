"""What every test may ask for: real databases, a real server on a real socket, and a workspace of its own in it."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, settings

from sessiond.storage.engine import Engine
from sessiond.storage.open import migrate, open_engine, sqlite_path
from tests.postgres import PostgresServer, open_postgres
from tests.serving import Serving, Tenant, open_serving

ENGINES = ("sqlite", "postgres")

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("sessiond", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sessiond")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this process, which nobody kills."""
    with open_postgres(durable=False) as server:
        yield server


def make_database(engine_name: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """Return the URL of a new, empty database."""
    if engine_name == "sqlite":
        return f"sqlite:///{folder}/sessiond.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"test_{uuid.uuid4().hex}"
    server.create_database(name)
    return server.url(name)


@pytest.fixture(scope="session", params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Whoever asks for this, or for what is built on it, runs once on each engine."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """By the engine's name, the URL of a database with the current schema and nothing in it.

    Copies cost a quarter of what making one does. Nobody may be connected to it.
    """

    @cache
    def make(engine_name: str) -> str:
        database = make_database(engine_name, tmp_path_factory.mktemp("migrated"), request)
        asyncio.run(migrate(database))
        return database

    return make


def copy_database(migrated: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """Return the URL of a new database with the current schema."""
    path = sqlite_path(migrated)
    if path is None:
        server: PostgresServer = request.getfixturevalue("postgres")
        name = f"test_{uuid.uuid4().hex}"
        server.create_database(name, template=migrated.rpartition("/")[2])
        return server.url(name)
    database = make_database("sqlite", folder, request)
    for made in path.parent.glob(f"{path.name}*"):
        shutil.copy(made, folder)
    return database


@pytest.fixture
def database(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a database of the test's own: empty, or with the current schema where the test has an `engine`."""
    if "engine" in request.fixturenames:
        return copy_database(request.getfixturevalue("migrated")(engine_name), tmp_path, request)
    return make_database(engine_name, tmp_path, request)


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Engine]:
    """An open engine over a database of the test's own, with the current schema."""
    opened = await open_engine(database, queue_max=10_000, pool_max=10, command_timeout_seconds=20)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def serving(
    engine_name: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Serving]:
    """A server shared by many tests; each asks for a `tenant` of its own."""
    database = make_database(engine_name, tmp_path_factory.mktemp("serving"), request)
    asyncio.run(migrate(database))
    with open_serving(database) as server:
        yield server


@pytest.fixture
def tenant(serving: Serving) -> Tenant:
    """A workspace that nobody else uses, with a key that may do everything in it."""
    return serving.make_tenant()


@pytest.fixture
def client(tenant: Tenant) -> Iterator[httpx.Client]:
    """An HTTP client that holds the tenant's key."""
    with tenant.client() as opened:
        yield opened
