"""A worker in a process of its own, over a database that others use too: prints its name, and works until killed."""

from __future__ import annotations

import asyncio
import logging
import sys

from sessiond.runners.worker import Worker
from sessiond.storage.open import open_engine


async def main(database: str, lease_seconds: float) -> None:
    engine = await open_engine(database, queue_max=1000, pool_max=5, command_timeout_seconds=20)
    worker = Worker(engine, runs_max=10, lease_seconds=lease_seconds)
    sys.stdout.write(f"{worker.name}\n")
    sys.stdout.flush()
    await worker.work()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
