"""`sessiond audit`: who did what in a workspace, and whether the log of it is as it was written."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from sessiond.cli import show
from sessiond.cli.options import Config, Database, Json
from sessiond.core.errors import InvalidInput
from sessiond.core.limits import PAGE_MAX, TIME_MAX_US

if TYPE_CHECKING:
    from sessiond.actions.audit import Verdict
    from sessiond.core.audit import AuditEntry, Noted
    from sessiond.storage.engine import Engine

T = TypeVar("T")

LONG: Final = 10_000  # entries, from which on somebody who waits wants to see how far it is
WHY_NOT_CHAINED: Final = "{} of an older release, not in the chain yet: the next entry takes them in"

app: Final = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Read, export and check the audit log of a workspace."
)

InWorkspace = Annotated[str, typer.Option(metavar="ID", help="The workspace whose log it is.")]


@app.command("list")
def list_some(
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this event, such as deleteSession; may be given several times."),
    ] = None,
    actor: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Only what this key did, or operator, or clock; may be given several times."),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=PAGE_MAX, help="How many at most.")] = 50,
    workspace: InWorkspace = "default",
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List the newest entries of a workspace's audit log, newest first.

    \b
    sessiond audit list
    sessiond audit list --workspace acme --event failedAuthentication --limit 10
    """
    from sessiond.actions import audit
    from sessiond.actions.call import Call
    from sessiond.actions.workspaces import operator
    from sessiond.cli.database import get_workspace, run
    from sessiond.core.audit import AuditFilter
    from sessiond.dialects.native.audit import entry_out

    wanted = AuditFilter(events=tuple(event or ()), actors=tuple(actor or ()))

    async def read(engine: Engine) -> list[AuditEntry]:
        call = Call(engine, operator(await get_workspace(engine, workspace)))
        return (await audit.find(call, wanted, limit=limit))[0]

    found = run(read, database=database, config=config)
    if json:
        show.print_json([entry_out(entry) for entry in found])
        return
    columns = ("SEQ", "AT", "ACTOR", "FROM", "EVENT", "RESULT", "RECORD")
    show.print_table(columns, [_row(entry) for entry in found])


@app.command()
def export(
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; a new file. Standard output unless given.")
    ] = None,
    workspace: InWorkspace = "default",
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write a workspace's whole audit log, a line of JSON an entry, oldest first; `verify --file` checks it.

    \b
    sessiond audit export --output audit.jsonl
    sessiond audit export --workspace acme | gzip > acme.jsonl.gz
    """
    if json and output is None:
        raise typer.BadParameter("what is exported is JSON already; it needs --output", param_hint="--json")
    from sessiond.cli import audit_file
    from sessiond.cli.database import get_workspace

    async def write(engine: Engine) -> int:
        of = await get_workspace(engine, workspace)
        with _open(output) as file, _progress(f"exporting {of.id}") as progress:
            return await audit_file.export(engine, of.id, file, progress=progress)

    try:
        written = _run(write, database=database, config=config)
    except BrokenPipeError:
        # Whoever read has had enough. What Python still holds for them must not be tried again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    if json:
        show.print_json({"workspace": workspace, "entries": written, "file": str(output)})
    elif output is not None:
        print(f"exported {written} entries to {output}")


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check an exported log, without any database.")
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(metavar="SEQ:HASH", help="An entry's hash as it was noted before: it must still be that one."),
    ] = None,
    workspace: Annotated[
        str | None, typer.Option(metavar="ID", help="The workspace whose log it is; all of them unless given.")
    ] = None,
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Find out whether an audit log is as it was written: nothing changed, removed, added or moved.

    It needs no server, and disturbs none. Names the first entry that is wrong, and ends with 1 then. LAST is the last
    entry with its hash: kept elsewhere and given to --expect, it also shows a log that was written anew.

    \b
    sessiond audit verify
    sessiond audit verify --workspace acme --expect 17:2c26b46b68ffc68ff99b453c1d304134…
    sessiond audit verify --file audit.jsonl
    """
    noted = _parse_noted(expect) if expect is not None else None
    if file is not None and workspace is not None:
        raise typer.BadParameter("the file says whose log it is", param_hint="--workspace")
    if noted is not None and file is None and workspace is None:
        raise typer.BadParameter("it needs --workspace or --file", param_hint="--expect")
    checked = _verify_file(file, noted) if file is not None else _verify(workspace, noted, database, config)
    if json:
        show.print_json([_out(workspace_id, verdict) for workspace_id, verdict in checked])
    else:
        columns = ("WORKSPACE", "STATE", "ENTRIES", "LAST", "WHY")
        show.print_table(columns, [_verdict_row(workspace_id, verdict) for workspace_id, verdict in checked])
    if any(verdict.fault is not None for _, verdict in checked):
        raise SystemExit(1)


def _verify(
    workspace: str | None, noted: Noted | None, database: str | None, config: Path | None
) -> list[tuple[str, Verdict]]:
    from sessiond.actions import audit
    from sessiond.cli.database import get_workspace
    from sessiond.cli.workspaces import read_workspaces

    async def check(engine: Engine) -> list[tuple[str, Verdict]]:
        every = [await get_workspace(engine, workspace)] if workspace is not None else await read_workspaces(engine)
        checked: list[tuple[str, Verdict]] = []
        for each in every:
            with _progress(f"checking {each.id}") as progress:
                checked.append((each.id, await audit.verify(engine, each.id, noted=noted, progress=progress)))
        return checked

    return _run(check, database=database, config=config)


def _verify_file(path: Path, noted: Noted | None) -> list[tuple[str, Verdict]]:
    from sessiond.cli import audit_file

    try:
        with path.open("rb") as opened, _progress(f"checking {path}") as progress:
            return [audit_file.verify(opened, noted=noted, progress=progress)]
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error


def _run(work: Callable[[Engine], Awaitable[T]], *, database: str | None, config: Path | None) -> T:
    """Run `work` on a database that is brought up to date, and otherwise left as it is."""
    import asyncio

    from sessiond.cli.database import open_database
    from sessiond.settings import load_settings

    settings = load_settings({"database": database}, file=config)

    async def on_engine() -> T:
        async with open_database(settings) as engine:
            return await work(engine)

    return asyncio.run(on_engine())


@contextmanager
def _open(output: Path | None) -> Iterator[IO[bytes]]:
    """Open where to write to. What is begun and not finished is removed: half a log is none."""
    if output is None:
        yield sys.stdout.buffer
        return
    try:
        # Nobody else on the machine is to read who did what.
        opened = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InvalidInput(f"{output} exists: name a new file") from error
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}") from error
    with os.fdopen(opened, "wb") as file:
        try:
            yield file
        except BaseException:
            with suppress(OSError):
                output.unlink()
            raise


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give what shows on a terminal how far something long is."""
    shown = 0

    def tell(done: int, total: int) -> None:
        nonlocal shown
        if total >= LONG and sys.stderr.isatty():
            shown = sys.stderr.write(f"\r{what}: {done:,} of {total:,} entries, {done * 100 // total} %")
            sys.stderr.flush()

    try:
        yield tell
    finally:
        if shown:
            sys.stderr.write(f"\r{' ' * shown}\r")


def _parse_noted(expect: str) -> Noted:
    from sessiond.core.audit import Noted

    match = re.fullmatch(r"([1-9][0-9]{0,18}):([0-9a-fA-F]{64})", expect)
    if match is None:
        raise typer.BadParameter(
            "must be an entry's number and hash, as verify shows them: 17:2c26…", param_hint="--expect"
        )
    return Noted(int(match[1]), bytes.fromhex(match[2]))


def _row(entry: AuditEntry) -> tuple[str, ...]:
    return (
        str(entry.seq),
        show.time_text(min(max(entry.at_us, 0), TIME_MAX_US)),
        entry.actor,
        entry.address or show.NOTHING,
        entry.event,
        entry.result,
        entry.record_locator.decode("utf-8", "replace"),
    )


def _verdict_row(workspace_id: str, verdict: Verdict) -> tuple[str, ...]:
    fault = verdict.fault
    why = show.NOTHING
    if fault is not None:
        why = f"entry {fault.seq}: {fault.text}"
    elif verdict.unchained:
        why = WHY_NOT_CHAINED.format(verdict.unchained)
    state = "ok" if fault is None else "bad"
    return (workspace_id, state, str(verdict.entries), _last(verdict) or show.NOTHING, why)


def _last(verdict: Verdict) -> str | None:
    return f"{verdict.entries - verdict.unchained}:{verdict.hash.hex()}" if verdict.hash is not None else None


def _out(workspace_id: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "workspace": workspace_id,
        "ok": verdict.fault is None,
        "entries": verdict.entries,
        "unchained": verdict.unchained,
        "last": _last(verdict),
        "fault": verdict.fault,
    }
