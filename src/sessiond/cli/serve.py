"""`sessiond serve`: the server, and what its first start tells."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sessiond.cli import show
from sessiond.cli.calling import make_curl
from sessiond.cli.options import Config, check_dialect, flag
from sessiond.settings import Settings, flag_of, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessiond.actions.keys import MadeKey
    from sessiond.cli.agents_file import Listed
    from sessiond.sockets import Places

log: Final = logging.getLogger("sessiond.cli")

LOOPBACK: Final = ("127.", "::1", "localhost")


def serve(
    context: typer.Context,
    database: Annotated[str | None, flag("database")] = None,
    host: Annotated[str | None, flag("host")] = None,
    port: Annotated[int | None, flag("port")] = None,
    tls_certificate: Annotated[str | None, flag("tls_certificate")] = None,
    tls_certificate_key: Annotated[str | None, flag("tls_certificate_key")] = None,
    trusted_proxies: Annotated[str | None, flag("trusted_proxies")] = None,
    auth_failures_max: Annotated[int | None, flag("auth_failures_max")] = None,
    workers: Annotated[int | None, flag("workers")] = None,
    default_dialect: Annotated[str | None, flag("default_dialect")] = None,
    log_level: Annotated[str | None, flag("log_level")] = None,
    body_max_bytes: Annotated[int | None, flag("body_max_bytes")] = None,
    write_queue_max: Annotated[int | None, flag("write_queue_max")] = None,
    streams_max: Annotated[int | None, flag("streams_max")] = None,
    pool_max: Annotated[int | None, flag("pool_max")] = None,
    command_timeout_seconds: Annotated[float | None, flag("command_timeout_seconds")] = None,
    runs_max: Annotated[int | None, flag("runs_max")] = None,
    lease_seconds: Annotated[float | None, flag("lease_seconds")] = None,
    agents_file: Annotated[str | None, flag("agents_file")] = None,
    smtp_port: Annotated[int | None, flag("smtp_port")] = None,
    smtp_host: Annotated[str | None, flag("smtp_host")] = None,
    mail_domain: Annotated[str | None, flag("mail_domain")] = None,
    mail_max_bytes: Annotated[int | None, flag("mail_max_bytes")] = None,
    smtp_certificate: Annotated[str | None, flag("smtp_certificate")] = None,
    smtp_certificate_key: Annotated[str | None, flag("smtp_certificate_key")] = None,
    master_key_file: Annotated[str | None, flag("master_key_file")] = None,
    keep_alive_seconds: Annotated[float | None, flag("keep_alive_seconds")] = None,
    shutdown_seconds: Annotated[float | None, flag("shutdown_seconds")] = None,
    config: Config = None,
) -> None:
    """Serve until stopped by SIGTERM or Ctrl-C. The first start prints a key.

    A flag wins over the environment, that over the file, that over the default.

    \b
    sessiond serve
    sessiond serve --database sqlite:////var/lib/sessiond/sessiond.db --host 0.0.0.0
    sessiond serve --database postgresql://sessiond@db/sessiond --workers 4
    sessiond serve --host 0.0.0.0 --port 443 --tls-certificate chain.pem --tls-certificate-key key.pem
    sessiond serve --smtp-port 2525 --mail-domain agents.example.com
    """
    # The parameters are the settings, name by name, and stand above for `--help`.
    flags = {name: value for name, value in context.params.items() if name != "config"}
    settings = load_settings(flags, file=config)
    check_dialect(settings.default_dialect, flag_of("default_dialect"))
    from sessiond import server
    from sessiond.cli.agents_file import read_agents
    from sessiond.sockets import ServeError

    listed = read_agents(settings.agents_file)

    server.prepare(settings)
    try:
        # Before the database is touched: a first key belongs to a server that then runs.
        server.check_workers(settings)
        server.check_transport(settings)
        server.check_addresses(settings)
        first = _begin(settings, listed)
        if first is not None:
            key = f"The first key of the workspace {first.key.workspace_id}, shown only now:\n\n  {first.secret}\n"
            print(key, flush=True)  # a process that is forked must not find it in its buffer, and say it again
        if listed:
            _register(settings, listed)
        if settings.tls_certificate is None and not settings.host.startswith(LOOPBACK):
            log.warning("listening beyond this machine without TLS: see --tls-certificate, or put a proxy in front")
        server.serve(settings, lambda places: _announce(places, settings, first))
    except ServeError as error:
        show.fail(error)


def _begin(settings: Settings, listed: Sequence[Listed]) -> MadeKey | None:
    """Bring the database up to date; on the first start return its first key."""
    import asyncio

    from sessiond.actions import workspaces
    from sessiond.cli.agents_file import check_workspaces
    from sessiond.cli.database import open_database

    async def begin() -> MadeKey | None:
        async with open_database(settings) as engine:
            await check_workspaces(engine, listed)  # before there is a key that a start which fails would not show
            return await workspaces.begin(engine)

    return asyncio.run(begin())


def _register(settings: Settings, listed: Sequence[Listed]) -> None:
    import asyncio

    from sessiond.cli.agents_file import register_listed
    from sessiond.cli.database import open_as_it_is

    async def register() -> None:
        async with open_as_it_is(settings) as engine:
            await register_listed(engine, listed)

    asyncio.run(register())


def _announce(places: Places, settings: Settings, first: MadeKey | None) -> None:
    """Say where the server listens, on a line of its own, and what to do next."""
    url = places.url
    print(f"listening on {url}")
    if places.smtp is not None:
        print(f"taking mail on {places.smtp} for addresses at {settings.mail_domain}")
    if first is not None:
        session = '{"id": "hello", "agent_id": "echo", "messages": [{"content": "Hello!"}]}'
        curl, key = f"{make_curl(url, settings)}/v1/sessions", f"-H 'Authorization: Bearer {first.secret}'"
        print(
            "\nCreate a session for the agent echo, which says back what it is told, and read what was said:\n\n"
            f"  {curl} {key} -H 'Content-Type: application/json' -d '{session}'\n"
            f"  {curl}/hello/messages {key}\n",
            flush=True,
        )
    else:
        database = shlex.quote(show.hide_password(settings.database))
        print(f"make a key with: sessiond keys create --database {database}", flush=True)
