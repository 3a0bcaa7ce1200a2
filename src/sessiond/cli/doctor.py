"""`sessiond doctor`: what keeps a server from working, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from sessiond.cli import show
from sessiond.cli.options import Config, Database, Json
from sessiond.settings import SettingsError, load_settings


def doctor(
    database: Database = None,
    host: Annotated[str | None, typer.Option(help="The address that `serve` will be given.")] = None,
    port: Annotated[int | None, typer.Option(help="The port that `serve` will be given.")] = None,
    workers: Annotated[int | None, typer.Option(help="The processes that `serve` will be given.")] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Find out what keeps a server from working.

    It looks at settings, database, schema, clock, disk, address, and at what agents need of this machine; it says what
    to do, and changes nothing. Give it what `serve` is given. It ends with 1 when something is bad.

    \b
    sessiond doctor --database postgresql://sessiond@db/sessiond
    """
    import asyncio

    from sessiond.cli.checks import BAD, Finding, examine

    flags = {"database": database, "host": host, "port": port, "workers": workers}
    try:
        findings = asyncio.run(examine(load_settings(flags, file=config)))
    except SettingsError as error:
        findings = [Finding("settings", BAD, str(error), "docs/operate/settings.md lists them all")]
    if json:
        show.print_json(findings)
    else:
        show.print_table(
            ("STATE", "CHECK", "FOUND"),
            [(each.state, each.check, each.text) for each in findings],
        )
    if any(each.state == BAD for each in findings):
        raise typer.Exit(1)
