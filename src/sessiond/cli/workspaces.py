"""`sessiond workspaces`: tenants, each with its own keys and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sessiond.cli import show
from sessiond.cli.expiry import UNITS, parse_retention
from sessiond.cli.options import Config, Database, Json
from sessiond.core.limits import PAGE_MAX
from sessiond.web.answers import iso_micros

if TYPE_CHECKING:
    from sessiond.core.caller import Workspace
    from sessiond.storage.engine import Engine

app: Final = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Make, list and set up workspaces, also called tenants."
)


@app.command()
def create(
    workspace_id: Annotated[str, typer.Argument(metavar="ID", help="A name that can stand in a URL.")],
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make an empty workspace.

    \b
    sessiond workspaces create acme
    sessiond keys create --workspace acme
    """
    from sessiond.actions import workspaces
    from sessiond.cli.database import run

    made = run(lambda engine: workspaces.create(engine, workspace_id), database=database, config=config)
    if json:
        show.print_json(workspace_out(made))
    else:
        show.print_record({"workspace": made.id, "database-id-hash": made.database_id_hash})


@app.command("set")
def change(
    workspace_id: Annotated[str, typer.Argument(metavar="ID", help="The workspace.")],
    retention: Annotated[
        str | None,
        typer.Option(help="How long sessions and inboxes are kept after they have ended: 12h, 30d, 4w, forever."),
    ] = None,
    audit_reads: Annotated[
        str | None,
        typer.Option(metavar="on|off", help="Whether reads of sealed content are noted in the audit log."),
    ] = None,
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say how long a workspace keeps what has ended, and what it notes. Unless told otherwise it keeps it forever.

    A session that has been completed or has failed for so long is deleted with its log, as is an inbox that expired,
    by the servers and workers, a little at a time.

    \b
    sessiond workspaces set acme --retention 30d
    sessiond workspaces set acme --audit-reads on
    """
    if retention is None and audit_reads is None:
        raise typer.BadParameter("say what to set: --retention, --audit-reads")
    if audit_reads not in (None, "on", "off"):
        raise typer.BadParameter("must be on or off", param_hint="--audit-reads")
    from sessiond.actions import workspaces
    from sessiond.cli.database import run

    seconds = parse_retention(retention) if retention is not None else None

    async def set_all(engine: Engine) -> Workspace:
        if retention is not None:
            await workspaces.set_retention(engine, workspace_id, seconds)
        if audit_reads is not None:
            await workspaces.set_audit_reads(engine, workspace_id, wanted=audit_reads == "on")
        return await workspaces.get(engine, workspace_id)

    found = run(set_all, database=database, config=config)
    if json:
        show.print_json(workspace_out(found))
    else:
        show.print_record(
            {"workspace": found.id, "retention": _retention_text(found), "audit-reads": _on_off(found.audit_reads)}
        )


@app.command("list")
def list_all(database: Database = None, config: Config = None, json: Json = False) -> None:
    """List all workspaces, by id."""
    from sessiond.cli.database import run

    found = run(read_workspaces, database=database, config=config)
    if json:
        show.print_json([workspace_out(workspace) for workspace in found])
    else:
        show.print_table(
            ("ID", "CREATED", "RETENTION", "AUDIT READS", "DATABASE-ID-HASH"),
            [_row(each) for each in found],
        )


def workspace_out(workspace: Workspace) -> dict[str, Any]:
    """Return a workspace as JSON shows it."""
    return {
        "id": workspace.id,
        "database_id_hash": workspace.database_id_hash,
        "created_at": iso_micros(workspace.created_at_us),
        "retention_seconds": workspace.retention_seconds,
        "audit_reads": workspace.audit_reads,
    }


def _row(workspace: Workspace) -> tuple[str, ...]:
    return (
        workspace.id,
        show.time_text(workspace.created_at_us),
        _retention_text(workspace),
        _on_off(workspace.audit_reads),
        workspace.database_id_hash,
    )


def _on_off(value: object) -> str:
    return "on" if value else "off"


def _retention_text(workspace: Workspace) -> str:
    seconds = workspace.retention_seconds
    if seconds is None:
        return "forever"
    unit = next((name for name in ("d", "h", "m") if seconds and not seconds % UNITS[name].total_seconds()), "s")
    return f"{int(seconds // UNITS[unit].total_seconds())}{unit}"


async def read_workspaces(engine: Engine) -> list[Workspace]:
    """Return all workspaces, by id."""
    from sessiond.actions import workspaces

    found: list[Workspace] = []
    while page := await workspaces.read_page(engine, after=found[-1].id if found else "", limit=PAGE_MAX):
        found += page
    return found
