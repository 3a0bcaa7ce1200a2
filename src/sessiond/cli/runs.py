"""`sessiond runs`: the work of agents, looked at, answered and cancelled."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sessiond.cli import show
from sessiond.cli.connecting import Key, Local, ProfileName, Url, Where, Workspace, open_client
from sessiond.cli.listing import LIMIT, All, Limit, page_of, print_list
from sessiond.cli.options import Json

if TYPE_CHECKING:
    from sessiond.client import Run

STATUSES: Final = ("queued", "running", "waiting", "completed", "failed", "cancelled")

app: Final = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="List, show, answer and cancel runs of agents."
)

Id = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@app.command("list")
def list_all(
    session: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this session's; several: any.")] = None,
    agent: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this agent's; several: any.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help=f"Only these: {', '.join(STATUSES)}.")
    ] = None,
    limit: Limit = LIMIT,
    every: All = False,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """List runs, the newest first.

    \b
    sessiond runs list --status failed --limit 50
    """
    if unknown := {*(status or ())} - {*STATUSES}:
        raise typer.BadParameter(f"{min(unknown)!r} is none of {', '.join(STATUSES)}", param_hint="--status")
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        print_list(
            client.runs.iterate(session_id=session, agent_id=agent, status=status, limit=page_of(limit, every=every)),
            _row,
            columns=("ID", "STATUS", "AGENT", "SESSION", "SECONDS", "CREATED", "ERROR"),
            cut=("ERROR", "SESSION", "AGENT"),
            limit=limit,
            every=every,
            json=json,
        )


@app.command("show")
def show_one(
    run_id: Id,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Show a run: what it was given, what it said, and what it asks or why it failed.

    \b
    sessiond runs show run_01998f3b5c7d7a0e9f6d2b1c4e8a7f30
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        run = client.runs.get(run_id)
    if json:
        show.print_json(run)
        return
    from sessiond.cli.transcript import text_of

    show.print_record(_fields(run))
    for title, said in (("input", run.input), ("output", run.output)):
        if said is not None:
            print(f"\n{show.coloured(title, 'bold')}\n{show.escape(text_of(said))}")


@app.command()
def answer(
    run_id: Id,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The answer, where there are no options.")] = None,
    option: Annotated[str | None, typer.Option(metavar="ID", help="One of the options it offers.")] = None,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Answer a run that asks something; `show` tells what it asks.

    \b
    sessiond runs answer run_01998f3b5c7d7a0e9f6d2b1c4e8a7f30 --option allow
    """
    if (text is None) == (option is None):
        raise typer.BadParameter("give the answer, or --option")
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        run = client.runs.respond(run_id, option_id=option, content=text)
    _print_state(run, json=json)


@app.command()
def cancel(
    run_id: Id,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the log.")] = None,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Cancel a run; its worker stops the agent, as a rule within two seconds.

    \b
    sessiond runs cancel run_01998f3b5c7d7a0e9f6d2b1c4e8a7f30
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        run = client.runs.cancel(run_id, reason=reason)
    _print_state(run, json=json)
    if not json and not run.ended and sys.stderr.isatty():
        print("its worker was told to stop the agent", file=sys.stderr)


def _print_state(run: Run, *, json: bool) -> None:
    if json:
        show.print_json(run)
    else:
        print(f"{show.escape_line(run.id)} is {run.status}")


def _row(run: Run) -> tuple[str, ...]:
    return (
        run.id,
        run.status,
        run.agent_id,
        run.session_id or show.NOTHING,
        _seconds(run),
        show.when(run.created_at),
        f"{run.error.code}: {run.error.message}" if run.error is not None else show.NOTHING,
    )


def _seconds(run: Run) -> str:
    if run.started_at is None or run.completed_at is None:
        return show.NOTHING
    return f"{(run.completed_at - run.started_at).total_seconds():.1f}"


def _fields(run: Run) -> dict[str, str]:
    from sessiond.cli.transcript import question

    fields = {
        "run": run.id,
        "status": run.status,
        "session": run.session_id or "deleted",
        "agent": run.agent_id,
        "user": run.user_id,
        "attempts": str(run.attempts),
        "worker": run.worker,
        "retry of": run.retry_of,
        "tokens": f"{run.prompt_tokens} + {run.completion_tokens}",
        "created": show.when(run.created_at),
        "started": show.when(run.started_at),
        "seconds": _seconds(run),
        "asks": question(run.ask) if run.ask is not None else None,
        "error": f"{run.error.code}: {run.error.message}" if run.error is not None else None,
    }
    return {name: value for name, value in fields.items() if value}
