"""From the options of a command to a client: of a server, or of a database in this process.

What goes wrong with a call becomes one line that says what to do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import msgspec
import typer

from sessiond.cli import profiles, show
from sessiond.cli.profiles import Profile, Profiles
from sessiond.crypto import STORAGE_KEY_VARIABLE

if TYPE_CHECKING:
    from sessiond.client import ApiError, Client

URL_VARIABLE: Final = "SESSIOND_URL"
KEY_VARIABLE: Final = "SESSIOND_API_KEY"
HERE: Final = "http://127.0.0.1:8080"
RETRIES: Final = 3  # less than a second: somebody is looking at it

Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="The server. [env SESSIOND_URL]")]
Key = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Its key. [env SESSIOND_API_KEY]")]
ProfileName = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Another login than the current one.")
]
Local = Annotated[
    str | None,
    typer.Option(
        "--database", metavar="FILE|URL", help="Without a server: a SQLite file, or a database's URL, in this process."
    ),
]
Workspace = Annotated[
    str | None, typer.Option("--workspace", metavar="ID", help="With --database: which; default unless given.")
]


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What the options say of where to work."""

    url: str | None = None
    key: str | None = None
    profile: str | None = None
    database: str | None = None
    workspace: str | None = None


@contextmanager
def open_client(where: Where, *, run_agents: bool = False) -> Iterator[Client]:
    """Yield a client until the block ends. What it raises there ends the program with one line, Ctrl-C with 130.

    A database's agents are left to the servers and workers that have it open, unless `run_agents`.
    """
    place = check(where)
    try:
        with _refusing(place.url if place is not None else None):
            from sessiond.client import Client

            if place is not None:
                opened = Client(place.key, place.url, retries=RETRIES)
            else:
                opened = _open_local(where, run_agents=run_agents)
            with opened as client:
                yield client
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def check(where: Where) -> Profile | None:
    """Return the server and the key that are meant; None is a database.

    Raises:
        typer.BadParameter: the options do not go together.
        InvalidInput: there is no such profile.
    """
    if where.database is not None:
        if any((where.url, where.key, where.profile)):
            raise typer.BadParameter("give a database or a server, not both", param_hint="--database")
        return None
    if where.workspace is not None:
        raise typer.BadParameter("is for --database: a server's key says which workspace", param_hint="--workspace")
    file = profiles.find_file()
    known = profiles.read(file)
    if known.profiles and profiles.readable_by_others(file):
        show.warn(f"warning: others can read the keys in {file}: chmod 600 it")
    return choose(where, os.environ, known)


def choose(where: Where, environment: Mapping[str, str], known: Profiles) -> Profile:
    """Return the server and the key that are meant: options first, then the environment, then the current profile.

    A profile's key is sent to that profile's server and to no other.

    Raises:
        typer.BadParameter: `--profile` is given beside what it says, or the URL is none.
        InvalidInput: there is no such profile.
    """
    if where.profile is not None:
        if where.url is not None or where.key is not None:
            raise typer.BadParameter("says what --url and --key say", param_hint="--profile")
        return known.get(where.profile)
    current = known.find_current()
    url = where.url or environment.get(URL_VARIABLE) or None
    key = where.key or environment.get(KEY_VARIABLE) or None
    if url is None and key is None:
        if current is None:
            show.fail("which server? log in with sessiond login, or give --url and --key, or --database for a database")
        return current
    url = check_url(url) if url is not None else current.url if current is not None else HERE
    if key is None:
        of_url = known.find_by_url(url)
        if of_url is None:
            show.fail(f"there is no key for {url}: give --key or {KEY_VARIABLE}, or sessiond login --url {url}")
        return of_url
    return Profile(url=url, key=check_key(key))


def check_url(url: str) -> str:
    """Return a server's URL as it is kept.

    Raises:
        typer.BadParameter: it is none.
    """
    url = url.strip().rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
    if not fine or not url.isprintable() or " " in url:
        raise typer.BadParameter(f"must be as {HERE} or https://sessions.example.com", param_hint="--url")
    return url


def check_key(key: str) -> str:
    """Return a key without what stands around it.

    Raises:
        typer.BadParameter: it can be none; the message does not show it.
    """
    key = key.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise typer.BadParameter("must be a key, as sessiond keys create prints it: sd_…", param_hint="--key")
    return key


def refusal_of(error: ApiError, url: str | None) -> str:
    """Return why a server, or the database in its place, refused, and what to do."""
    if error.status == 401:
        return f"{url} does not take this key: sessiond login with one that is good, or give --key or {KEY_VARIABLE}"
    if not error.detail:
        return f"{url} answers {error.status}, and not as sessiond does: see that it is the server's URL"
    if error.field == "storage-key" and STORAGE_KEY_VARIABLE not in os.environ:
        return f"this workspace is sealed with a storage key: give it in {STORAGE_KEY_VARIABLE}"
    if error.status >= 500:
        return f"{error}: try again in a while"
    noun = re.match(r"no such (session|run|inbox|wait|agent)\b", error.detail) if error.status == 404 else None
    if noun is None:
        return error.detail
    plural = {"inbox": "inboxes"}.get(noun[1], f"{noun[1]}s")
    return f"there is {error.detail}: sessiond {plural} list shows those there are"


def _open_local(where: Where, *, run_agents: bool) -> Client:
    from sessiond.cli.database import ADVICE
    from sessiond.client import Client, SessiondError
    from sessiond.storage.open import sqlite_path

    assert where.database is not None
    url = where.database if "://" in where.database else f"sqlite:///{where.database}"
    file = sqlite_path(url)
    if file is not None and not file.is_file():
        show.fail(f"there is no database {file}: {ADVICE}; sessiond migrate makes one")
    try:
        return Client.local(
            url,
            workspace=where.workspace or "default",
            storage_key=os.environ.get(STORAGE_KEY_VARIABLE),
            run_agents=run_agents,
        )
    except SessiondError as error:
        if "no such workspace" in str(error):
            show.fail(f"there is no workspace {where.workspace!r}: sessiond workspaces list shows those there are")
        show.fail(f"{error}: {ADVICE}")


@contextmanager
def _refusing(url: str | None) -> Iterator[None]:
    """End the program with one line where a call fails."""
    from sessiond.client import errors

    try:
        yield
    except errors.ApiError as error:
        show.fail(refusal_of(error, url))
    except errors.ConnectionFailed as error:
        show.fail(f"{error}: see that a server runs there, or give another --url, or --profile")
    except errors.SessiondError as error:
        show.fail(error)
    except msgspec.MsgspecError:
        show.fail(f"{url} does not answer as sessiond does: see that it is the server's URL")
