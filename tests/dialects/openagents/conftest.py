from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.serving import Tenant


@pytest.fixture(params=["", "/openagents"], ids=["root", "prefix"])
def mount(request: pytest.FixtureRequest) -> str:
    """Where the wire answers: its documented paths, and the same below its prefix."""
    path: str = request.param
    return path


@pytest.fixture
def api(tenant: Tenant, mount: str) -> Iterator[httpx.Client]:
    """A client of this wire, with the tenant's key and database."""
    with tenant.client(mount) as opened:
        yield opened
