"""`sessiond erase`: forget somebody, and check the receipt of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sessiond.cli import show
from sessiond.cli.options import Config, Database, Json

if TYPE_CHECKING:
    from sessiond.core.erasure import Receipt
    from sessiond.storage.engine import Engine


def erase(
    user: Annotated[str | None, typer.Option(metavar="ID", help="Erase all that there is of this user.")] = None,
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Erase this session, and those that were made from it.")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check a receipt instead; this needs no database.")
    ] = None,
    public_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="With --verify: the key that it must be signed with.")
    ] = None,
    workspace: Annotated[str, typer.Option(metavar="ID", help="The workspace.")] = "default",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask in a terminal.")] = False,
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Erase a user or a session for good, and print a signed receipt.

    Nobody can read any of it through a server from then on. The command waits until the database has removed it, too.
    Run it again if it was cut short: it goes on.

    \b
    sessiond erase --user ada --json > receipt.json
    sessiond erase --session sess_01998f3b5c7d7a0e9f6d2b1c4e8a7f30 --workspace acme
    sessiond erase --verify receipt.json
    """
    if sum(each is not None for each in (user, session, verify)) != 1:
        raise typer.BadParameter("give one of --user, --session and --verify")
    if public_key is not None and verify is None:
        raise typer.BadParameter("is for --verify", param_hint="--public-key")
    if verify is not None:
        _print(_verified(verify, public_key), json=json)
        if not json:
            print("the receipt is as it was signed" + ("" if public_key else ": see that the key is the workspace's"))
        return
    if not yes and sys.stdin.isatty():
        named = f"{'user' if user is not None else 'session'} {user or session} of workspace {workspace}"
        typer.confirm(f"Erase {named} for good?", abort=True, err=True)
    from sessiond.cli.database import run

    _print(run(lambda engine: _erase(engine, workspace, user, session), database=database, config=config), json=json)


async def _erase(engine: Engine, workspace: str, user: str | None, session: str | None) -> Receipt:
    from sessiond.actions import erasures, expiry
    from sessiond.actions.call import Call
    from sessiond.actions.workspaces import operator
    from sessiond.cli.database import get_workspace

    call = Call(engine, operator(await get_workspace(engine, workspace)))
    if user is not None:
        made = await erasures.erase_user(call, user)
    else:
        made = await erasures.erase_session(call, session or "")
    # There may be no server that would do it.
    while not (await erasures.get(call, made.id)).purged:
        removed: int = await engine.write(expiry.empty_trash)
        if not removed:
            break  # a server has the rest in hand
    import msgspec

    return msgspec.structs.replace(made, purged=(await erasures.get(call, made.id)).purged)


def _verified(file: Path, public_key: str | None) -> Receipt:
    from sessiond.actions.erasures import verify

    try:
        document = file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot be read: {error}", param_hint="--verify") from error
    return verify(document, public_key=public_key)


def _print(receipt: Receipt, *, json: bool) -> None:
    if json:
        show.print_json(receipt)
        return
    import msgspec

    counts = {name: n for name, n in msgspec.structs.asdict(receipt.counts).items() if n}
    subject = receipt.subject
    show.print_record(
        {
            "erasure": receipt.id,
            "workspace": receipt.workspace,
            "of": f"{subject.kind} {subject.id if subject.id is not None else f'whose hash is {subject.hash}'}",
            "requested": receipt.requested_at,
            "completed": receipt.completed_at or show.NOTHING,
            "erased": ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items()) or "nothing",
            "signed with": receipt.public_key or show.NOTHING,
        }
    )
