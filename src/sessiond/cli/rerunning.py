"""Running a session again in this process: with a worker of its own, and what keeps time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from sessiond.actions import replays, workspaces
from sessiond.actions.call import Call
from sessiond.assembly import open_worker, running
from sessiond.cli.agents_file import Listed, register_listed
from sessiond.cli.database import open_database
from sessiond.core.comparison import Comparison, Mode, Verdict
from sessiond.core.session_file import SessionFile
from sessiond.settings import Settings
from sessiond.storage.engine import Engine
from sessiond.sweeper import Sweeper


@asynccontextmanager
async def at_work(settings: Settings, engine: Engine) -> AsyncIterator[None]:
    """Work on runs and end waits until the block ends, beside the servers and workers that the database has."""
    # A server that leaves its runs to others has a setting for that, which is not meant for this.
    here = msgspec.structs.replace(settings, runs_max=settings.runs_max or 1)
    async with running(Sweeper(engine).work()), open_worker(here, engine):
        yield


async def rerun_file(file: SessionFile, listed: Sequence[Listed], *, mode: Mode, folder: Path) -> list[Comparison]:
    """Run a saved session again on a new database in `folder`, with these agents; return what is not as it was.

    The agents are registered in one workspace, whichever they are listed for.

    Raises:
        InvalidInput: the file is no recording that can be run again.
    """
    settings = Settings(database=f"sqlite:///{folder}/sessiond.db", shutdown_seconds=1.0)
    async with open_database(settings) as engine:
        await workspaces.begin(engine)
        call = Call(engine, workspaces.operator(await workspaces.get(engine, workspaces.DEFAULT)))
        here = [msgspec.structs.replace(each, workspace_id=workspaces.DEFAULT) for each in listed]
        await register_listed(engine, here)
        await replays.keep(call, file)
        async with at_work(settings, engine):
            told = replays.rerun_recording(
                call,
                replays.recording_of(file),
                new_id=call.new_id("sess_"),
                mode=mode,
                domain=settings.mail_domain,
            )
            return [one async for one in told if isinstance(one, Comparison) and one.verdict is not Verdict.SAME]
