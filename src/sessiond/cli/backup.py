"""`sessiond backup`: a copy of a database that is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sessiond.cli import show
from sessiond.cli.options import Config, Database, Json
from sessiond.settings import load_settings


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to. What is there is not overwritten.")],
    without_keys: Annotated[
        bool,
        typer.Option(
            "--without-keys", help="Leave out the keys that content is sealed with: see sessiond encryption save-keys."
        ),
    ] = False,
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Copy an SQLite database that is in use; the server goes on, and waits for nothing.

    All that was answered before the copy began is in it. It is checked, and readable by you alone. To restore, stop the
    server, put it in the place of the database, remove the files beside it (-wal, -shm), and start.

    \b
    sessiond backup /backups/sessiond-$(date +%F).db
    """
    url = load_settings({"database": database}, file=config).database
    from sessiond.cli.progress import bar
    from sessiond.storage.backup import back_up
    from sessiond.storage.open import sqlite_path

    path = sqlite_path(url)
    if path is None:
        show.fail("PostgreSQL is backed up by its own means, also while it is in use: pg_dump --format=custom")
    with bar("copying") as shown:
        size = back_up(path, file, told=shown.update, with_keys=not without_keys)
    if json:
        show.print_json({"file": str(file), "bytes": size})
    else:
        print(f"copied {path} to {file}, {size} bytes")
