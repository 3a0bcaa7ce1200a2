"""What whoever runs the server can set: by flag, else environment (`SESSIOND_…`), else a TOML file, else a default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

ENVIRONMENT_PREFIX: Final = "SESSIOND_"


class SettingsError(Exception):
    """A setting that cannot be used; the message names it and where it came from."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each field's description is what `docs/operate/settings.md` and `serve --help` say."""

    database: Annotated[str, Meta(description="Where sessions are kept: `sqlite:///file.db` or `postgresql://…`.")] = (
        "sqlite:///data/sessiond.db"
    )
    host: Annotated[str, Meta(description="The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="The port to listen on; 0 takes a free one.")] = 8080
    workers: Annotated[int, Meta(ge=1, le=64, description="Processes; more than one needs PostgreSQL.")] = 1
    default_dialect: Annotated[
        str | None,
        Meta(description="The API that answers a path several claim, when the key names none."),
    ] = None
    log_level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$", description="How much is logged.")] = "info"
    body_max_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024, description="The largest request body.")] = (
        1024 * 1024
    )
    write_queue_max: Annotated[
        int, Meta(ge=1, description="Writes that may wait; the next is answered 503 with Retry-After.")
    ] = 10_000
    streams_max: Annotated[
        int, Meta(ge=0, le=100_000, description="Followers a process serves at once; the next is answered 503.")
    ] = 10_000
    pool_max: Annotated[int, Meta(ge=2, le=1000, description="PostgreSQL connections of a process.")] = 10
    command_timeout_seconds: Annotated[
        float, Meta(gt=0, description="How long PostgreSQL may take over one command.")
    ] = 30.0
    keep_alive_seconds: Annotated[
        float, Meta(gt=0, description="Silence after which a stream sends a comment, so that proxies keep it open.")
    ] = 15.0
    shutdown_seconds: Annotated[
        float, Meta(gt=0, description="How long a stopping server lets accepted requests finish.")
    ] = 10.0


def load_settings(
    flags: Mapping[str, Any], *, environment: Mapping[str, str] = os.environ, file: Path | None = None
) -> Settings:
    """Return the settings; a flag that is None was not given.

    Raises:
        SettingsError: one is unknown or cannot be used.
    """
    if file is None and environment.get(f"{ENVIRONMENT_PREFIX}CONFIG"):
        file = Path(environment[f"{ENVIRONMENT_PREFIX}CONFIG"])
    names = Settings.__struct_fields__
    from_environment = {
        name: environment[variable]
        for name in names
        if environment.get(variable := f"{ENVIRONMENT_PREFIX}{name.upper()}")
    }
    given = {name: value for name, value in flags.items() if value is not None}
    sources = (
        (str(file), _read_file(file) if file is not None else {}),
        ("the environment", from_environment),
        ("the command line", given),
    )
    merged: dict[str, Any] = {}
    for where, values in sources:
        try:
            msgspec.convert(values, Settings, strict=False)
        except msgspec.ValidationError as error:
            raise SettingsError(f"a setting from {where} cannot be used: {error}") from error
        merged |= values
    return msgspec.convert(merged, Settings, strict=False)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the settings file {file} cannot be read: {error}") from error
