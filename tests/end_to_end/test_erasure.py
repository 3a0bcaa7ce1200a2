"""A server killed again and again in the middle of an erasure: asked again it goes on, and nothing is left."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from sessiond.actions.erasures import verify
from tests.conftest import make_database
from tests.program import Program, open_program
from tests.storage.making import query

SESSIONS = 60
EVENTS = 700  # more than go at once
KILLS = 3
SECONDS = 60.0


def ask(program: Program) -> httpx.Response | None:
    """Ask for the erasure; None when the server was killed before it answered."""
    try:
        with program.client() as client:
            return client.delete("/v1/users/ada/data", timeout=SECONDS)
    except httpx.TransportError:
        return None


@pytest.mark.timeout(180)
def test_an_erasure_goes_on_after_the_server_was_killed(
    engine_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = make_database(engine_name, tmp_path, request)

    def count(what: str) -> int:
        n: int = asyncio.run(query(database, f"select count(*) from {what}"))[0][0]
        return n

    with open_program(database) as program:
        with program.client() as client:
            said = [{"content": "Geheimnis"}] * EVENTS
            for number in range(SESSIONS):
                user = "ada" if number else "bob"
                body = {"id": f"s{number}", "user_id": user, "messages": said if number else said[:1]}
                client.post("/v1/sessions", json=body).raise_for_status()
        for _ in range(KILLS):
            left = count("sessions")
            asking = threading.Thread(target=ask, args=(program,))
            asking.start()
            deadline = time.monotonic() + SECONDS
            # A part of it is done, or, where it was quick, all.
            while count("sessions") == left and left > 1:
                assert time.monotonic() < deadline
            program.kill()
            asking.join()
            program.start()

        answer = ask(program)

        assert answer is not None
        receipt = verify(answer.content)
        with program.client() as client:
            listed = client.get("/v1/erasures").json()["data"]
            assert sum(each["counts"]["sessions"] for each in listed) == SESSIONS - 1
            assert sum(each["counts"]["messages"] for each in listed) == (SESSIONS - 1) * EVENTS
            assert [each["id"] for each in client.get("/v1/sessions").json()["data"]] == ["s0"]
            deadline = time.monotonic() + SECONDS
            while not client.get(f"/v1/erasures/{receipt.id}").json()["purged"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            while count("trash"):
                assert time.monotonic() < deadline
            assert client.post("/v1/sessions", json={"id": "s1"}).status_code == 201
    assert count("events where session_id not in ('s0', 's1')") == 0
    assert msgspec.json.decode(answer.content)["subject"]["id"] == "ada"
