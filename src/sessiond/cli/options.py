"""The options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sessiond.settings import Settings, flag_of, read_descriptions, variable_of

DESCRIPTIONS: Final = read_descriptions()

Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="sqlite:///file.db or postgresql://user@host/name, also while a server uses it. [env SESSIOND_DATABASE]",
    ),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of settings. [env SESSIOND_CONFIG]")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def flag(name: str) -> Any:
    """Return the flag of a setting. Neither type nor default are its own: an absent flag leaves the other sources."""
    default = Settings.__struct_defaults__[Settings.__struct_fields__.index(name)]
    shown = f" default {default}" if default is not None else ""
    return typer.Option(
        flag_of(name),
        metavar={int: "N", float: "SECONDS"}.get(type(default), name.rpartition("_")[-1].upper()),
        help=f"{DESCRIPTIONS[name]} [env {variable_of(name)}{shown}]",
    )


def check_dialect(dialect: str | None, flag: str) -> None:
    """Refuse a dialect that does not exist, in the name of `flag`."""
    from sessiond.assembly import DIALECTS

    names = [known.name for known in DIALECTS]
    if dialect is not None and dialect not in names:
        raise typer.BadParameter(f"there is no dialect {dialect!r}: use {', '.join(names)}", param_hint=flag)
