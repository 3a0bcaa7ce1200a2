"""Waits that time out while the server is killed: each ends once, none early, and none later than it must."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from sessiond.actions import sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.core.session import NewSession
from sessiond.core.wait import NewWait, Terms, Wait, WaitType
from sessiond.storage.engine import Engine
from tests.actions.calling import ME
from tests.conftest import make_database
from tests.end_to_end.running import open_workers
from tests.program import open_program
from tests.storage.making import another_engine, query

# As large as in the promise, 2,000 over a minute, where these say so.
WAITS: Final = int(os.environ.get("WAITS", "300"))
SECONDS: Final = float(os.environ.get("WAITS_SECONDS", "6"))
FIRST_SECONDS: Final = 2.0 + WAITS / 150  # until the first ends: all are made by then
SESSIONS: Final = 40
LATE_SECONDS: Final = 2.0
DOWN_SECONDS: Final = 1.0
TYPES: Final = (WaitType.TIMER, WaitType.APPROVAL, WaitType.WEBHOOK, WaitType.EVENT)


@pytest.mark.timeout(SECONDS + 120)
async def test_on_sqlite_a_server_that_is_killed_ends_them_when_it_is_back(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/sessiond.db"
    with open_program(database) as program:

        async def kill() -> float:
            await asyncio.to_thread(program.kill)
            killed = time.monotonic()
            await asyncio.sleep(DOWN_SECONDS)
            await asyncio.to_thread(program.start)
            return time.monotonic() - killed

        await end_all(database, kill)


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("killed", ["the server", "the worker"])
async def test_on_postgres_the_other_process_ends_them(
    tmp_path: Path, killed: str, request: pytest.FixtureRequest
) -> None:
    database = make_database("postgres", tmp_path, request)
    with open_program(database) as program, open_workers(database, 1) as workers:
        assert workers.running[0].name

        async def kill() -> float:
            await asyncio.to_thread(program.kill if killed == "the server" else kill_worker)
            return 0.0

        def kill_worker() -> None:
            workers.kill(workers.running[0])

        await end_all(database, kill)


async def end_all(database: str, kill: Callable[[], Awaitable[float]]) -> None:
    """Make waits, kill in the middle of their ends, and check all of them; `kill` returns for how long nobody swept."""
    async with another_engine(database) as engine:
        made = await make_waits(engine)
        half = sorted(wait.times_out_at_us or 0 for wait in made)[WAITS // 2]
        await asyncio.sleep(max(0.0, half / 1e6 - time.time()))
        outage_seconds = await kill()
        last = max(wait.times_out_at_us or 0 for wait in made) / 1e6
        deadline = max(last, time.time()) + outage_seconds + 20
        while pending := (await query(database, "select count(*) from waits where status = 'pending'"))[0][0]:
            assert time.time() < deadline, f"{pending} of {WAITS} have not ended"
            await asyncio.sleep(0.2)
    late_seconds = await check(database, made)
    told = f"{WAITS} waits over {SECONDS:g} s: down {outage_seconds:.2f} s"
    print(f"\n{told}, the latest {late_seconds:.3f} s late")  # noqa: T201 - what the promise is about
    assert late_seconds <= outage_seconds + LATE_SECONDS


async def make_waits(engine: Engine) -> list[Wait]:
    """Make waits in many sessions and in none, whose ends are spread evenly."""
    for number in range(SESSIONS):
        await sessions.create(Call(engine, ME), NewSession(), itself, session_id=f"s{number}")
    dice, began = random.Random(11), time.time()
    ends = [began + FIRST_SECONDS + SECONDS * number / WAITS for number in range(WAITS)]
    dice.shuffle(ends)

    async def make(number: int, end: float) -> Wait:
        type = TYPES[number % len(TYPES)]
        alone = number % 5 == 0 and type is not WaitType.EVENT
        new = NewWait(
            type=type,
            session_id=None if alone else f"s{number % SESSIONS}",
            timeout_seconds=end - time.time(),
            terms=Terms(events=["never"]) if type is WaitType.EVENT else Terms(),
        )
        return (await waits.create(Call(engine, ME), new, itself)).wait

    made = list[Wait]()
    for start in range(0, WAITS, 50):
        some = range(start, min(start + 50, WAITS))
        made += await asyncio.gather(*[make(number, ends[number]) for number in some])
    assert time.time() < began + FIRST_SECONDS, "the first have ended before the last were made"
    return made


async def check(database: str, made: list[Wait]) -> float:
    """Check that each has ended, once, as it is to and not early; return how late the latest was, in seconds."""
    rows = await query(database, "select id, type, status, times_out_at_us, ended_at_us from waits")
    assert {row[0] for row in rows} == {wait.id for wait in made}
    for wait_id, type, status, times_out_at_us, ended_at_us in rows:
        assert status == ("completed" if type == "timer" else "timed_out"), wait_id
        assert ended_at_us >= times_out_at_us, f"{wait_id} ended early"
    events = await query(database, "select type, body from events where type like 'wait.%' and type <> 'wait.created'")
    told = Counter((wait_id_of(body), type) for type, body in events)
    assert told == Counter(
        (wait.id, "wait.completed" if wait.type is WaitType.TIMER else "wait.timed_out")
        for wait in made
        if wait.session_id is not None
    )
    for last_seq, count in await query(
        database,
        "select max(s.last_seq), count(*) from sessions s join events e on e.session_id = s.id group by s.id",
    ):
        assert last_seq == count, "a log has no gaps"
    latest_us: int = max(row[4] - row[3] for row in rows)
    return latest_us / 1e6


def wait_id_of(body: Any) -> str:
    wait_id: str = msgspec.json.decode(body)["wait_id"]
    return wait_id
