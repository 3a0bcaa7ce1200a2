"""Clients of every kind, for tests that hold for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond import Client
from tests.serving import Tenant


@pytest.fixture
def client(tenant: Tenant) -> Iterator[Client]:
    """A client of a server, once on each engine, in a workspace of the test's own."""
    with Client(tenant.key, tenant.serving.url) as client:
        yield client


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Client]:
    """A client of a file in this process."""
    with Client.local(tmp_path / "data.db") as client:
        yield client
