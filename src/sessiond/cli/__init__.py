"""The commands: what can be asked of `sessiond` in a shell, by who runs it and by who works with it.

The modules with commands import what they work with inside the commands: `--help` and `version` need none of it, and
the server's rooms together take half a second to import.
"""

from __future__ import annotations

import io
import platform
import sys
from typing import Final

import typer

from sessiond import __version__
from sessiond.cli import (
    agents,
    audit,
    completion,
    doctor,
    encryption,
    inboxes,
    keys,
    login,
    routes,
    runs,
    serve,
    sessions,
    show,
    waits,
    workspaces,
)
from sessiond.cli.backup import backup
from sessiond.cli.bundles import export, import_
from sessiond.cli.erase import erase
from sessiond.cli.mcp import mcp
from sessiond.cli.options import Config, Database, Json
from sessiond.cli.replay import replay
from sessiond.cli.worker import worker
from sessiond.core.errors import Locked, SessiondError
from sessiond.crypto import STORAGE_KEY_VARIABLE, SecretError
from sessiond.settings import SettingsError, load_settings

# Without typer's markup: with it every help page imports rich, and draws boxes also where nobody sees them.
app: Final = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=completion.asked,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""\
    A session server for AI agents: one durable, ordered log per session.

    \b
    sessiond serve                     serve on SQLite in ./data, 127.0.0.1:8080
    sessiond keys create --name app    make a key for a client
    sessiond agents add --help         how to register an agent
    sessiond login                     keep a server's URL and a key for it
    sessiond sessions tail SESSION     follow what is said in a session
    sessiond doctor                    find out why something does not work
    """,
)
app.command("serve")(serve.serve)
app.command("worker")(worker)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("whoami")(login.whoami)
app.add_typer(login.app, name="profiles")
app.add_typer(sessions.app, name="sessions")
app.add_typer(runs.app, name="runs")
app.add_typer(inboxes.app, name="inboxes")
app.add_typer(waits.app, name="waits")
app.add_typer(agents.app, name="agents")
app.add_typer(audit.app, name="audit")
app.add_typer(keys.app, name="keys")
app.add_typer(encryption.app, name="encryption")
app.add_typer(workspaces.app, name="workspaces")
app.command("replay")(replay)
app.command("erase")(erase)
app.command("export")(export)
app.command("import")(import_)
app.command("backup")(backup)
app.command("mcp")(mcp)
app.command("routes")(routes.routes)
app.command("doctor")(doctor.doctor)
app.command("completion")(completion.completion)


@app.command()
def migrate(database: Database = None, config: Config = None, json: Json = False) -> None:
    """Bring the database's schema up to date.

    `serve` and `worker` do so too, as do `agents`, `audit`, `keys` and `workspaces`.

    \b
    sessiond migrate --database postgresql://sessiond@db/sessiond
    """
    import asyncio

    from sessiond.storage import open as opening

    ran = asyncio.run(opening.migrate(load_settings({"database": database}, file=config).database))
    if json:
        show.print_json({"ran": ran})
    elif ran:
        show.print_record({"ran": ", ".join(ran)})
    else:
        print("the schema is current")


@app.command()
def version(json: Json = False) -> None:
    """Print the version."""
    if json:
        show.print_json({"version": __version__, "python": platform.python_version()})
    else:
        print(f"sessiond {__version__}")


def main() -> None:
    """Run the command line. It ends with 0, with 1 when refused or failed, or with 2 when it was called wrongly."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 shows what it can
    try:
        app(prog_name="sessiond")
    except (SettingsError, SecretError) as error:
        show.fail(error, status=2)
    except Locked:
        show.fail(f"this workspace is sealed with a storage key: give it in {STORAGE_KEY_VARIABLE}")
    except SessiondError as error:
        show.fail(error)
