"""`sessiond waits`: what is waited for, and a code in a shell as soon as its mail comes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sessiond.cli import show
from sessiond.cli.connecting import Key, Local, ProfileName, Url, Where, Workspace, open_client
from sessiond.cli.expiry import parse_span
from sessiond.cli.listing import LIMIT, All, Limit, page_of, print_list
from sessiond.cli.options import Json

if TYPE_CHECKING:
    from sessiond.client import Wait

STATUSES: Final = ("pending", "completed", "timed_out", "cancelled")
TYPES: Final = ("email", "otp", "magic_link", "password_reset", "approval", "event", "timer", "webhook")
FOR_MAIL: Final = TYPES[:4]

app: Final = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, show, end waits; wait for a code that comes by mail.",
)

Id = Annotated[str, typer.Argument(metavar="WAIT", help="The wait's id.")]


@app.command("list")
def list_all(
    session: Annotated[str | None, typer.Option(metavar="ID", help="Only this session's.")] = None,
    inbox: Annotated[str | None, typer.Option(metavar="ID", help="Only those for mail to this inbox.")] = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help=f"Only {', '.join(STATUSES)}.")] = None,
    limit: Limit = LIMIT,
    every: All = False,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """List waits, the newest first.

    \b
    sessiond waits list --status pending
    """
    if status is not None and status not in STATUSES:
        raise typer.BadParameter(f"must be {', '.join(STATUSES)}", param_hint="--status")
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        found = client.waits.iterate(
            session_id=session, inbox_id=inbox, status=status, limit=page_of(limit, every=every)
        )
        print_list(
            found,
            _row,
            columns=("ID", "TYPE", "STATUS", "SESSION", "INBOX", "RESULT", "CREATED"),
            cut=("RESULT", "SESSION", "INBOX"),
            limit=limit,
            every=every,
            json=json,
        )


@app.command()
def create(
    kind: Annotated[
        str, typer.Option("--for", metavar="WHAT", help=f"What is to come: {', '.join(FOR_MAIL)}.")
    ] = "otp",
    inbox: Annotated[str | None, typer.Option(metavar="ID", help="The inbox it comes to.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Any inbox of this session.")] = None,
    sender: Annotated[str | None, typer.Option("--from", metavar="TEXT", help="Part of who sends it.")] = None,
    subject: Annotated[str | None, typer.Option(metavar="TEXT", help="Part of its subject.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Mails of the last 10m, 2h … count too; else from now on.")
    ] = None,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long to wait, such as 90s or 10m.")] = "2m",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the wait's id, and do not wait.")] = False,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Wait for a code that comes by mail, and print it: nothing else stands on standard output.

    Ends with 1 when none has come in time.

    \b
    CODE=$(sessiond waits create --inbox inb_01998f3b5c7d7a0e9f6d2b1c4e8a7f30 --since 10m)
    """
    if kind not in FOR_MAIL:
        raise typer.BadParameter(f"must be {', '.join(FOR_MAIL)}", param_hint="--for")
    if (inbox is None) == (session is None):
        raise typer.BadParameter("give either --inbox or --session")
    terms: dict[str, Any] = {
        "inbox_id": inbox,
        "session_id": session,
        "sender": sender,
        "subject_contains": subject,
        "since": datetime.now(UTC) - parse_span(since, "--since") if since is not None else None,
        "timeout_seconds": parse_span(timeout, "--timeout").total_seconds(),
    }
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        wait: Wait = client.waits.create(kind, **terms)  # type: ignore[arg-type]  # it was checked above
        if not no_wait:
            wait = client.waits.wait_for(wait.id)
    if json:
        show.print_json(wait)
    elif no_wait:
        print(show.escape_line(wait.id))
    else:
        result = wait.result or {}
        print(show.escape_line(str(result.get("value") or result.get("url") or result.get("mail_id") or "")))


@app.command("show")
def show_one(
    wait_id: Id,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Show a wait, and what it was completed with.

    \b
    sessiond waits show wait_01998f3b5c7d7a0e9f6d2b1c4e8a7f30
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        _print(client.waits.get(wait_id), json=json)


@app.command()
def approve(
    wait_id: Id,
    result: Annotated[
        str, typer.Option(metavar="JSON", help="What it is completed with, an object.")
    ] = '{"approved": true}',
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Complete a wait for somebody's word: of type `approval`.

    \b
    sessiond waits approve wait_01998f3b5c7d7a0e9f6d2b1c4e8a7f30 --result '{"approved": false}'
    """
    import msgspec

    try:
        decoded = msgspec.json.decode(result, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise typer.BadParameter("must be an object of JSON", param_hint="--result") from error
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        _print(client.waits.complete(wait_id, decoded), json=json)


@app.command()
def cancel(
    wait_id: Id,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the log.")] = None,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Cancel a wait; one that has ended stays as it is.

    \b
    sessiond waits cancel wait_01998f3b5c7d7a0e9f6d2b1c4e8a7f30 --reason "never mind"
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        _print(client.waits.cancel(wait_id, reason=reason), json=json)


def _row(wait: Wait) -> tuple[str, ...]:
    from sessiond.cli.transcript import result_of

    return (
        wait.id,
        wait.type,
        wait.status,
        wait.session_id or show.NOTHING,
        wait.inbox_id or show.NOTHING,
        result_of(wait.result) or wait.reason or show.NOTHING,
        show.when(wait.created_at),
    )


def _print(wait: Wait, *, json: bool) -> None:
    if json:
        show.print_json(wait)
        return
    fields = {
        "wait": wait.id,
        "for": wait.type,
        "status": wait.status,
        "session": wait.session_id,
        "inbox": wait.inbox_id,
        "run": wait.run_id,
        "user": wait.user_id,
        "from": wait.sender,
        "subject": wait.subject_contains,
        "events": " ".join(wait.events),
        "title": wait.title,
        "detail": show.json_of(wait.detail) if wait.detail is not None else None,
        "result": show.json_of(wait.result) if wait.result is not None else None,
        "reason": wait.reason,
        "created": show.when(wait.created_at),
        "times out": show.when(wait.times_out_at) if wait.times_out_at is not None else "never",
        "ended": show.when(wait.ended_at) if wait.ended_at is not None else None,
    }
    show.print_record({name: value for name, value in fields.items() if value})
