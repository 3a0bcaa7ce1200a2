"""Holds a run as a worker does: prints what the agent says, until it is killed.

Takes a loop (`asyncio` or `uvloop`), a run's id and the agent's command.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing

import uvloop

from sessiond.core.run import Text
from sessiond.runners.command import run
from tests.runners.briefs import make_brief


async def hold(run_id: str, command: list[str]) -> None:
    async with aclosing(run(make_brief({"command": command}, run_id=run_id))) as pieces:
        async for piece in pieces:
            assert isinstance(piece, Text)
            sys.stdout.write(piece.text + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    loop, run_id, *command = sys.argv[1:]
    (uvloop.run if loop == "uvloop" else asyncio.run)(hold(run_id, command))
