"""`sessiond inboxes`: addresses that take mail, and what came to them."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sessiond.cli import show
from sessiond.cli.connecting import Key, Local, ProfileName, Url, Where, Workspace, open_client
from sessiond.cli.expiry import parse_span
from sessiond.cli.listing import LIMIT, All, Limit, page_of, print_list
from sessiond.cli.options import Json

if TYPE_CHECKING:
    from sessiond.client import Inbox, Mail

app: Final = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Make, list, show and remove inboxes, which take mail."
)

Id = Annotated[str, typer.Argument(metavar="INBOX", help="The inbox's id.")]


@app.command("list")
def list_all(
    session: Annotated[str | None, typer.Option(metavar="ID", help="Only this session's.")] = None,
    active: Annotated[bool, typer.Option("--active", help="Only those that take mail.")] = False,
    limit: Limit = LIMIT,
    every: All = False,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """List inboxes, the newest first.

    \b
    sessiond inboxes list --active
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        print_list(
            client.inboxes.iterate(session_id=session, active=active or None, limit=page_of(limit, every=every)),
            _row,
            columns=("ID", "ADDRESS", "STATUS", "MAILS", "SESSION", "PURPOSE", "CREATED"),
            cut=("PURPOSE", "SESSION", "ADDRESS"),
            limit=limit,
            every=every,
            json=json,
        )


@app.command()
def create(
    session: Annotated[str | None, typer.Option(metavar="ID", help="The session it belongs to.")] = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="Whose it is.")] = None,
    purpose: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    ttl: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it takes mail, such as 45m or 12h; for ever unless given."),
    ] = None,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Make an inbox, and print its id and its address.

    \b
    sessiond inboxes create --purpose "sign up" --ttl 1h
    """
    seconds = int(parse_span(ttl, "--ttl").total_seconds()) if ttl is not None else None
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        inbox = client.inboxes.create(session_id=session, user_id=user, purpose=purpose, ttl_seconds=seconds)
    if json:
        show.print_json(inbox)
    else:
        show.print_record({"id": inbox.id, "address": inbox.address})


@app.command("show")
def show_one(
    inbox_id: Id,
    limit: Limit = LIMIT,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Show an inbox with its mails, the newest first, and the codes and links that were found in them.

    \b
    sessiond inboxes show inb_01998f3b5c7d7a0e9f6d2b1c4e8a7f30 --limit 5
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        inbox = client.inboxes.get(inbox_id)
        mails = [*islice(client.inboxes.iterate_mails(inbox_id, limit=page_of(limit, every=False)), limit)]
    if json:
        show.print_json({"inbox": inbox, "mails": mails})
        return
    show.print_record(_fields(inbox))
    if mails:
        print()
        rows = [_mail_row(mail) for mail in mails]
        show.print_table(("MAIL", "FROM", "SUBJECT", "FOUND", "RECEIVED"), rows, cut=("SUBJECT", "FROM", "MAIL"))


@app.command()
def delete(
    inbox_id: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask in a terminal.")] = False,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Remove an inbox with its mails; what waits for one is cancelled.

    \b
    sessiond inboxes delete inb_01998f3b5c7d7a0e9f6d2b1c4e8a7f30 --yes
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Remove the inbox {show.escape_line(inbox_id)} with its mails?", abort=True, err=True)
    with open_client(where) as client:
        client.inboxes.delete(inbox_id)
    if json:
        show.print_json({"id": inbox_id, "deleted": True})
    else:
        print(f"removed {show.escape_line(inbox_id)}")


def _row(inbox: Inbox) -> tuple[str, ...]:
    return (
        inbox.id,
        inbox.address,
        inbox.status,
        str(inbox.mail_count),
        inbox.session_id or show.NOTHING,
        inbox.purpose or show.NOTHING,
        show.when(inbox.created_at),
    )


def _mail_row(mail: Mail) -> tuple[str, ...]:
    best = max(mail.extractions, key=lambda found: found.confidence, default=None)
    found = (best.value or best.url) if best is not None else None
    return (mail.id, mail.sender, mail.subject, found or show.NOTHING, show.when(mail.received_at))


def _fields(inbox: Inbox) -> dict[str, str]:
    fields = {
        "inbox": inbox.id,
        "address": inbox.address,
        "status": inbox.status,
        "mails": str(inbox.mail_count),
        "session": inbox.session_id,
        "user": inbox.user_id,
        "purpose": inbox.purpose,
        "created": show.when(inbox.created_at),
        "expires": show.when(inbox.expires_at) if inbox.expires_at is not None else None,
        "metadata": show.json_of(inbox.metadata) if inbox.metadata else None,
    }
    return {name: value for name, value in fields.items() if value}
