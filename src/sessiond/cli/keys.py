"""`sessiond keys`: who may call, and as whom."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sessiond.cli import show
from sessiond.cli.expiry import parse_expiry
from sessiond.cli.options import Config, Database, Json, check_dialect
from sessiond.core.caller import Key, Scope, Workspace
from sessiond.core.errors import NotFound
from sessiond.core.ids import parse_id
from sessiond.core.limits import PAGE_MAX, check_text
from sessiond.web.answers import iso_micros

if TYPE_CHECKING:
    from sessiond.actions.keys import MadeKey
    from sessiond.storage.engine import Engine

app: Final = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Make, list and revoke API keys.")

InWorkspace = Annotated[str, typer.Option(metavar="ID", help="The workspace of the key.")]


@app.command()
def create(
    workspace: InWorkspace = "default",
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="What the key is for, for the list.")] = None,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            metavar="SCOPE",
            help=f"What it may do: {', '.join(Scope)}. May be given several times; without any, the first two.",
        ),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(metavar="NAME", help="The API its holder means where several answer a path.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Bind it to one user: it sees no other's sessions.")
    ] = None,
    expires_in: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 90s, 45m, 12h, 30d or 4w.")] = None,
    expires_at: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 2030-01-31T12:00:00Z.")] = None,
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a key, and print it: it cannot be shown again.

    \b
    sessiond keys create --name app
    sessiond keys create --dialect viben --user ada --expires-in 30d
    sessiond keys create --scope sessions:read --scope admin --json
    """
    expires_at_us = parse_expiry(expires_in, expires_at, now_us=time.time_ns() // 1000)
    if dialect is not None:
        check_dialect(dialect, "--dialect")
    if name is not None:
        check_text(name, "name")
    if user is not None:
        parse_id(user, "user")
    from sessiond.actions.call import Call, itself
    from sessiond.actions.keys import NewKey
    from sessiond.actions.keys import create as create_key
    from sessiond.actions.workspaces import operator
    from sessiond.cli.database import get_workspace, run

    scopes = frozenset(scope) if scope else NewKey().scopes
    new = NewKey(name=name, scopes=scopes, dialect=dialect, user_id=user, expires_at_us=expires_at_us)

    async def make(engine: Engine) -> tuple[Workspace, MadeKey]:
        of = await get_workspace(engine, workspace)
        return of, await create_key(Call(engine, operator(of)), new, itself)

    of, made = run(make, database=database, config=config)
    if json:
        show.print_json(key_out(made.key, of) | {"key": made.secret})
        return
    show.print_record(
        {
            "key": made.secret,
            "id": made.key.id,
            "workspace": of.id,
            "database-id-hash": of.database_id_hash,
            "scopes": " ".join(sorted(made.key.scopes)),
            "expires": show.time_text(made.key.expires_at_us),
        }
    )


@app.command("list")
def list_all(
    workspace: InWorkspace = "default", database: Database = None, config: Config = None, json: Json = False
) -> None:
    """List a workspace's keys, oldest first, with their last use."""
    from sessiond.cli.database import get_workspace, run

    async def read(engine: Engine) -> tuple[Workspace, list[Key]]:
        of = await get_workspace(engine, workspace)
        return of, await _read_all(engine, of)

    of, found = run(read, database=database, config=config)
    if json:
        show.print_json([key_out(key, of) for key in found])
        return
    columns = ("ID", "NAME", "STATE", "SCOPES", "DIALECT", "USER", "CREATED", "LAST USED", "EXPIRES")
    show.print_table(columns, [_row(key) for key in found])


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it: key_…")],
    workspace: Annotated[
        str | None, typer.Option(metavar="ID", help="Refuse to revoke another workspace's key.")
    ] = None,
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a key useless, in every running server within five seconds.

    \b
    sessiond keys revoke key_01998f3b5c7d7a0e9f6d2b1c4e8a7f30
    """
    from sessiond.actions.call import Call, itself
    from sessiond.actions.keys import revoke as revoke_key
    from sessiond.actions.workspaces import get_by_key, operator
    from sessiond.cli.database import get_workspace, run

    async def make_useless(engine: Engine) -> Workspace:
        of = await get_workspace(engine, workspace) if workspace is not None else None
        try:
            of = of or await get_by_key(engine, key_id)
            await revoke_key(Call(engine, operator(of)), key_id, itself)
        except NotFound as error:
            raise NotFound(f"there is no key {key_id!r}: sessiond keys list shows them") from error
        return of

    of = run(make_useless, database=database, config=config)
    if json:
        show.print_json({"id": key_id, "workspace": of.id, "revoked": True})
    else:
        print(f"revoked {key_id}")


def key_out(key: Key, workspace: Workspace) -> dict[str, Any]:
    """Return a key as JSON shows it."""

    def iso(at_us: int | None) -> str | None:
        return iso_micros(at_us) if at_us is not None else None

    return {
        "id": key.id,
        "workspace": workspace.id,
        "database_id_hash": workspace.database_id_hash,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "dialect": key.dialect,
        "user_id": key.user_id,
        "created_at": iso(key.created_at_us),
        "expires_at": iso(key.expires_at_us),
        "revoked_at": iso(key.revoked_at_us),
        "last_used_at": iso(key.last_used_at_us),
    }


def _row(key: Key) -> tuple[str, ...]:
    return (
        key.id,
        key.name or show.NOTHING,
        _state(key),
        " ".join(sorted(key.scopes)),
        key.dialect or show.NOTHING,
        key.user_id or show.NOTHING,
        show.time_text(key.created_at_us),
        show.time_text(key.last_used_at_us),
        show.time_text(key.expires_at_us),
    )


def _state(key: Key) -> str:
    if key.revoked_at_us is not None:
        return "revoked"
    expired = key.expires_at_us is not None and key.expires_at_us <= time.time_ns() // 1000
    return "expired" if expired else "active"


async def _read_all(engine: Engine, workspace: Workspace) -> list[Key]:
    from sessiond.actions.call import Call
    from sessiond.actions.keys import read_page
    from sessiond.actions.workspaces import operator

    call, found, after = Call(engine, operator(workspace)), list[Key](), (-1, "")
    while page := await read_page(call, after=after, limit=PAGE_MAX):
        found += page
        after = (page[-1].created_at_us, page[-1].id)
    return found
