"""The wire under test, where its clients find it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.serving import Tenant


@pytest.fixture(params=["prefix", "root"])
def api(tenant: Tenant, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of the tenant's: below the prefix with any key, and at the root with a key of this dialect."""
    if request.param == "prefix":
        opened = tenant.client("/viben")
    else:
        opened = tenant.make_key(dialect="viben").client()
    with opened:
        yield opened
