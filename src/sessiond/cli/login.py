"""`sessiond login`, `logout`, `profiles`, `whoami`: which server one works with, and as whom."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from sessiond.cli import profiles as kept
from sessiond.cli import show
from sessiond.cli.connecting import (
    HERE,
    KEY_VARIABLE,
    URL_VARIABLE,
    Key,
    Local,
    ProfileName,
    Url,
    Where,
    Workspace,
    check,
    check_key,
    check_url,
    open_client,
)
from sessiond.cli.options import Json
from sessiond.cli.profiles import Profile

KEY_MAX_CHARS: Final = 1_000  # what is piped in by mistake is not read to its end

app: Final = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Show logins, and choose one.")


def login(
    url: Url = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="KEY", help="Its key. Better asked for, or from standard input: others may see options."
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="What to call it; `default` unless given.")
    ] = None,
    json: Json = False,
) -> None:
    """Keep a server's URL and a key, once the server takes it.

    Other commands find both then. The key is asked for without being shown, or read from standard input. The login
    becomes the current one.

    \b
    sessiond login --url http://127.0.0.1:8080
    sessiond login --url https://sessions.example.com --profile work < key.txt
    """
    name = profile or kept.FIRST
    if not kept.NAME.fullmatch(name):
        raise typer.BadParameter("must be letters, digits, '.', '_' and '-'", param_hint="--profile")
    asked = sys.stdin.isatty()
    url = url or os.environ.get(URL_VARIABLE) or None
    if url is None:
        url = typer.prompt("Server", default=HERE, err=True) if asked and key is None else HERE
    url = check_url(url)
    key = check_key(key or _read_key(url, asked=asked))
    file = kept.find_file()
    known = kept.read(file)
    with open_client(Where(url=url, key=key)) as client:
        me = client.keys.me()
    kept.write(file, known.with_profile(name, Profile(url=url, key=key)))
    if _is_open(url):
        show.warn(f"warning: {url} is not encrypted: on the way there others may read the key; better use https")
    if json:
        show.print_json({"profile": name, "url": url, "workspace": me.workspace, "scopes": me.scopes})
    else:
        print(f"logged in to {url}, workspace {show.escape_line(me.workspace)}; profile {name} is the current one")


def logout(
    profile: ProfileName = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json: Json = False,
) -> None:
    """Forget a login: the current one, or another. Its key stays good, until it is revoked with `sessiond keys revoke`.

    \b
    sessiond logout --profile work
    """
    if every and profile is not None:
        raise typer.BadParameter("give --all or --profile, not both", param_hint="--all")
    file = kept.find_file()
    known = kept.read(file)
    name = profile or known.current
    if every:
        gone = sorted(known.profiles)
    elif name is None:
        show.fail("there is no current login: sessiond profiles list shows those there are")
    else:
        known.get(name)
        gone = [name]
    for each in gone:
        known = known.without(each)
    kept.write(file, known)
    if json:
        show.print_json({"forgotten": gone})
    else:
        print(f"forgot {', '.join(gone) or 'nothing'}; keys stay good until they are revoked")


@app.command("list")
def list_all(json: Json = False) -> None:
    """List the logins of whoever works here. Of keys only the end is shown.

    \b
    sessiond profiles list
    """
    known = kept.read(kept.find_file())
    found = sorted(known.profiles.items())
    if json:
        show.print_json(
            [
                {"profile": name, "url": each.url, "key": each.shown, "current": name == known.current}
                for name, each in found
            ]
        )
        return
    rows = [(name, "current" if name == known.current else show.NOTHING, each.url, each.shown) for name, each in found]
    show.print_table(("PROFILE", "", "URL", "KEY"), rows, cut=("URL",))


@app.command()
def use(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The login that is to be the current one.")],
    json: Json = False,
) -> None:
    """Make another login the current one.

    \b
    sessiond profiles use work
    """
    file = kept.find_file()
    known = kept.read(file)
    chosen = known.get(name)
    kept.write(file, known.with_profile(name, chosen))
    if json:
        show.print_json({"profile": name, "url": chosen.url})
    else:
        print(f"{name} is the current one: {chosen.url}")


def whoami(
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Show which server is meant, and what the key may do there.

    \b
    sessiond whoami
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    place = check(where)
    with open_client(where) as client:
        me = client.keys.me()
    server = place.url if place is not None else show.hide_password(database or "")
    if json:
        show.print_json({"server": server, "me": me})
        return
    show.print_record(
        {
            "server": server,
            "workspace": me.workspace,
            "key": f"{me.key_id} ({place.shown})" if place is not None else me.key_id,
            "scopes": " ".join(me.scopes),
            "user": me.user_id or show.NOTHING,
            "dialect": me.dialect or show.NOTHING,
        }
    )


def _read_key(url: str, *, asked: bool) -> str:
    """Return a key that stands in no list of processes and on no screen."""
    if asked:
        key: str = typer.prompt(f"Key for {url}", hide_input=True, err=True)
        return key
    key = sys.stdin.readline(KEY_MAX_CHARS).strip() or os.environ.get(KEY_VARIABLE, "")
    if not key:
        show.fail("there is no key: give it on standard input, with --key, or in a terminal")
    return key


def _is_open(url: str) -> bool:
    """Whether what is sent there may be read on the way."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "http" and host not in ("localhost", "::1") and not host.startswith("127.")
