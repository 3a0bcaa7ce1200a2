"""The database's clock."""

from __future__ import annotations

import time

from sessiond.storage import clock
from sessiond.storage.engine import Engine


async def test_the_databases_clock_is_read_in_microseconds(engine: Engine) -> None:
    before_us = time.time_ns() // 1000
    times = [await engine.write(clock.read_us) for _ in range(3)]
    after_us = time.time_ns() // 1000

    assert times == sorted(times)
    # Both run on this machine. SQLite's clock has milliseconds.
    assert before_us - 1_000 <= times[0] <= times[-1] <= after_us
