"""The native wire, over real HTTP, on both engines."""

from __future__ import annotations

import httpx


def test_a_session_is_created_and_read_back(client: httpx.Client) -> None:
    made = client.post("/v1/sessions", json={"name": "first", "metadata": {"a": "b"}})

    assert made.status_code == 201
    read = client.get(made.headers["location"])
    assert read.json() == made.json()
    assert read.headers["etag"] == made.headers["etag"]
