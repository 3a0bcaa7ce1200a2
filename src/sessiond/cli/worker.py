"""`sessiond worker`: a process that does the runs of agents, and nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from sessiond.cli.options import Config, flag
from sessiond.settings import SettingsError, load_settings


def worker(
    context: typer.Context,
    database: Annotated[str | None, flag("database")] = None,
    runs_max: Annotated[int | None, flag("runs_max")] = None,
    lease_seconds: Annotated[float | None, flag("lease_seconds")] = None,
    agents_file: Annotated[str | None, flag("agents_file")] = None,
    log_level: Annotated[str | None, flag("log_level")] = None,
    write_queue_max: Annotated[int | None, flag("write_queue_max")] = None,
    pool_max: Annotated[int | None, flag("pool_max")] = None,
    command_timeout_seconds: Annotated[float | None, flag("command_timeout_seconds")] = None,
    shutdown_seconds: Annotated[float | None, flag("shutdown_seconds")] = None,
    config: Config = None,
) -> None:
    """Work on runs until stopped by SIGTERM or Ctrl-C.

    `serve` does so too, unless it is told --runs-max 0. Start as many workers as you like, on as many machines: they
    share the work through the database. On SQLite they must be on the same machine, and find new work by looking, once
    a second.

    A worker that is stopped takes nothing more, and gives back what has not ended within --shutdown-seconds. What one
    had that was killed, another takes over within --lease-seconds.

    \b
    sessiond serve --database postgresql://sessiond@db/sessiond --runs-max 0
    sessiond worker --database postgresql://sessiond@db/sessiond --runs-max 50
    """
    # The parameters are the settings, name by name, and stand above for `--help`.
    flags = {name: value for name, value in context.params.items() if name != "config"}
    settings = load_settings(flags, file=config)
    if settings.runs_max == 0:
        raise SettingsError("a worker with runs_max 0 would do nothing: give --runs-max, or start none")
    from sessiond import server
    from sessiond.cli.agents_file import check_workspaces, read_agents, register_listed
    from sessiond.cli.database import run_on
    from sessiond.storage.engine import Engine

    listed = read_agents(settings.agents_file)
    server.prepare(settings)

    async def begin(engine: Engine) -> None:
        await check_workspaces(engine, listed)
        await register_listed(engine, listed)

    run_on(settings, begin)
    server.work(settings, lambda name: print(f"working as {name}, up to {settings.runs_max} runs at once", flush=True))
