"""The options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="sqlite:///file.db or postgresql://user@host/name, also while a server uses it. [env SESSIOND_DATABASE]",
    ),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of settings. [env SESSIOND_CONFIG]")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check_dialect(dialect: str | None, flag: str) -> None:
    """Refuse a dialect that does not exist, in the name of `flag`."""
    from sessiond.server import DIALECTS

    names = [known.name for known in DIALECTS]
    if dialect is not None and dialect not in names:
        raise typer.BadParameter(f"there is no dialect {dialect!r}: use {', '.join(names)}", param_hint=flag)
