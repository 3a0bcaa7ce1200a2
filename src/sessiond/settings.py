"""What whoever runs the server can set: by flag, else environment (`SESSIOND_…`), else a TOML file, else a default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN: Final = rf"^{_LABEL}(\.{_LABEL})*$"
ENVIRONMENT_PREFIX: Final = "SESSIOND_"
FILE_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"


class SettingsError(Exception):
    """A setting that cannot be used; the message names it and where it came from."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each field's description is what `docs/operate/settings.md` and `serve --help` say."""

    database: Annotated[str, Meta(description="Where sessions are kept: `sqlite:///file.db` or `postgresql://…`.")] = (
        "sqlite:///data/sessiond.db"
    )
    host: Annotated[str, Meta(description="The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="The port to listen on; 0 takes a free one.")] = 8080
    tls_certificate: Annotated[
        str | None, Meta(description="A PEM file, with which HTTPS is spoken in place of HTTP; its chain in it.")
    ] = None
    tls_certificate_key: Annotated[
        str | None, Meta(description="A PEM file with its private key; in the same file unless given.")
    ] = None
    trusted_proxies: Annotated[
        str | None,
        Meta(description="Addresses and networks of proxies whose word on clients is taken, with commas."),
    ] = None
    # Many clients share one address, and some go on with a revoked key; of 256 random bits nobody guesses any so fast.
    auth_failures_max: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Wrong keys an address may send in a minute before it is answered 429; 0: any.",
        ),
    ] = 100
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
    runs_max: Annotated[
        int,
        Meta(ge=0, le=10_000, description="Runs of agents a process works on at once; 0: it leaves them to others."),
    ] = 100
    lease_seconds: Annotated[
        float, Meta(ge=0.5, le=300, description="How soon a run whose process was lost is taken over by another.")
    ] = 8.0
    agents_file: Annotated[
        str | None, Meta(description="A TOML file of agents that a start registers; none unless given.")
    ] = None
    smtp_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(description="The port that takes mail for inboxes; 0 takes a free one, none unless given."),
    ] = None
    smtp_host: Annotated[
        str | None, Meta(description="The address that takes mail; the one of `host` unless given.")
    ] = None
    mail_domain: Annotated[
        str, Meta(pattern=DOMAIN, max_length=253, description="What the addresses of inboxes end in, in lower case.")
    ] = "localhost"
    mail_max_bytes: Annotated[
        int, Meta(ge=1024, le=64 * 1024 * 1024, description="The largest mail that is taken by SMTP.")
    ] = 10 * 1024 * 1024
    smtp_certificate: Annotated[
        str | None, Meta(description="A PEM file, with which STARTTLS is offered; its chain in it.")
    ] = None
    smtp_certificate_key: Annotated[
        str | None, Meta(description="A PEM file with its private key; in the same file unless given.")
    ] = None
    master_key_file: Annotated[
        str | None,
        Meta(
            description="A file with the master key, which seals workspaces; SESSIOND_MASTER_KEY holds the key itself."
        ),
    ] = None
    keep_alive_seconds: Annotated[
        float, Meta(gt=0, description="Silence after which a stream sends a comment, so that proxies keep it open.")
    ] = 15.0
    shutdown_seconds: Annotated[
        float, Meta(gt=0, description="How long a stopping process lets requests and runs finish.")
    ] = 10.0


def load_settings(
    flags: Mapping[str, Any], *, environment: Mapping[str, str] = os.environ, file: Path | None = None
) -> Settings:
    """Return the settings; a flag that is None was not given.

    Raises:
        SettingsError: one is unknown or cannot be used, or the file cannot be read.
    """
    file = file or find_file(environment)
    from_environment = {
        name: environment[variable_of(name)]
        for name in Settings.__struct_fields__
        if environment.get(variable_of(name))
    }
    given = {name: value for name, value in flags.items() if value is not None}
    sources: tuple[tuple[Callable[[str], str], Mapping[str, Any]], ...] = (
        (lambda name: f"{name} in {file}", _read_file(file) if file is not None else {}),
        (variable_of, from_environment),
        (flag_of, given),
    )
    merged: dict[str, Any] = {}
    for called, values in sources:
        for name, value in values.items():
            _check(called(name), name, value)
        merged |= values
    return msgspec.convert(merged, Settings, strict=False)


def find_file(environment: Mapping[str, str]) -> Path | None:
    """Return the settings file that the environment names."""
    named = environment.get(FILE_VARIABLE)
    return Path(named) if named else None


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{ENVIRONMENT_PREFIX}{name.upper()}"


def flag_of(name: str) -> str:
    """Return the flag of a setting."""
    return f"--{name.replace('_', '-')}"


def read_descriptions() -> dict[str, str]:
    """Return what each setting means, a sentence each."""
    return {
        name: field["description"]
        for name, field in msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"].items()
    }


def _check(called: str, name: str, value: object) -> None:
    if name not in Settings.__struct_fields__:
        raise SettingsError(f"{called} is not a setting; there are {', '.join(Settings.__struct_fields__)}")
    try:
        msgspec.convert({name: value}, Settings, strict=False)
    except msgspec.ValidationError as error:
        expected = str(error).partition(" - at ")[0]
        raise SettingsError(f"{called} cannot be {value!r}: {expected[0].lower()}{expected[1:]}") from error


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the settings file {file} cannot be read: {error}") from error
