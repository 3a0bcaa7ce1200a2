"""`sessiond serve`: the server, and what its first start tells."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sessiond.cli import show
from sessiond.cli.options import Config, check_dialect
from sessiond.settings import Settings, flag_of, load_settings, read_descriptions, variable_of

if TYPE_CHECKING:
    from sessiond.actions.keys import MadeKey

log: Final = logging.getLogger("sessiond.cli")

DESCRIPTIONS: Final = read_descriptions()
LOOPBACK: Final = ("127.", "::1", "localhost")


def _flag(name: str) -> Any:
    """Return the flag of a setting. Neither type nor default are its own: an absent flag leaves the other sources."""
    default = Settings.__struct_defaults__[Settings.__struct_fields__.index(name)]
    shown = f" default {default}" if default is not None else ""
    return typer.Option(
        flag_of(name),
        metavar={int: "N", float: "SECONDS"}.get(type(default), name.rpartition("_")[-1].upper()),
        help=f"{DESCRIPTIONS[name]} [env {variable_of(name)}{shown}]",
    )


def serve(
    context: typer.Context,
    database: Annotated[str | None, _flag("database")] = None,
    host: Annotated[str | None, _flag("host")] = None,
    port: Annotated[int | None, _flag("port")] = None,
    workers: Annotated[int | None, _flag("workers")] = None,
    default_dialect: Annotated[str | None, _flag("default_dialect")] = None,
    log_level: Annotated[str | None, _flag("log_level")] = None,
    body_max_bytes: Annotated[int | None, _flag("body_max_bytes")] = None,
    write_queue_max: Annotated[int | None, _flag("write_queue_max")] = None,
    streams_max: Annotated[int | None, _flag("streams_max")] = None,
    pool_max: Annotated[int | None, _flag("pool_max")] = None,
    command_timeout_seconds: Annotated[float | None, _flag("command_timeout_seconds")] = None,
    keep_alive_seconds: Annotated[float | None, _flag("keep_alive_seconds")] = None,
    shutdown_seconds: Annotated[float | None, _flag("shutdown_seconds")] = None,
    config: Config = None,
) -> None:
    """Serve until stopped by SIGTERM or Ctrl-C. The first start prints a key.

    A flag wins over the environment, that over the file, that over the default.

    \b
    sessiond serve
    sessiond serve --database sqlite:////var/lib/sessiond/sessiond.db --host 0.0.0.0
    sessiond serve --database postgresql://sessiond@db/sessiond --workers 4
    """
    # The parameters are the settings, name by name, and stand above for `--help`.
    flags = {name: value for name, value in context.params.items() if name != "config"}
    settings = load_settings(flags, file=config)
    check_dialect(settings.default_dialect, flag_of("default_dialect"))
    from sessiond import server

    server.prepare(settings)
    try:
        # Before the database is touched: a first key belongs to a server that then runs.
        server.check_workers(settings)
        server.check_address(settings)
        first = _begin(settings)
        if first is not None:
            key = f"The first key of the workspace {first.key.workspace_id}, shown only now:\n\n  {first.secret}\n"
            print(key, flush=True)  # a process that is forked must not find it in its buffer, and say it again
        if not settings.host.startswith(LOOPBACK):
            log.warning("listening beyond this machine without TLS: put a proxy that speaks it in front")
        server.serve(settings, lambda url: _announce(url, settings, first))
    except server.ServeError as error:
        show.fail(error)


def _begin(settings: Settings) -> MadeKey | None:
    """Bring the database up to date; on the first start return its first key."""
    import asyncio

    from sessiond.actions import workspaces
    from sessiond.cli.database import open_database

    async def begin() -> MadeKey | None:
        async with open_database(settings) as engine:
            return await workspaces.begin(engine)

    return asyncio.run(begin())


def _announce(url: str, settings: Settings, first: MadeKey | None) -> None:
    """Say where the server listens, on a line of its own, and what to do next."""
    print(f"listening on {url}")
    if first is not None:
        # Every address at once is none to call.
        url = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        print(
            f"\nCreate a session:\n\n  curl -sS {url}/v1/sessions -H 'Authorization: Bearer {first.secret}' "
            """-H 'Content-Type: application/json' -d '{"agent_id": "assistant"}'\n""",
            flush=True,
        )
    else:
        database = shlex.quote(show.hide_password(settings.database))
        print(f"make a key with: sessiond keys create --database {database}", flush=True)
