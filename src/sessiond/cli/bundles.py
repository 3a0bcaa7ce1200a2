"""`sessiond export`, `sessiond import`: sessions on their way to another server, engine or workspace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sessiond.cli import show
from sessiond.cli.connecting import Where
from sessiond.cli.options import Config, Database, Json

if TYPE_CHECKING:
    from sessiond.cli.progress import Bar
    from sessiond.core.bundle import Subject
    from sessiond.storage.engine import Engine

Workspace = Annotated[str, typer.Option(metavar="ID", help="The workspace.")]

# A server takes no bundles: who tries is told so.
NotUrl = Annotated[str | None, typer.Option("--url", hidden=True)]
NotProfile = Annotated[str | None, typer.Option("--profile", hidden=True)]


def export(
    workspace: Annotated[
        str | None, typer.Option(metavar="ID", help="The workspace; default unless given. A server's key says which.")
    ] = None,
    agent: Annotated[str | None, typer.Option(metavar="ID", help="Only this agent and its sessions.")] = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="Only what is this user's.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Only this session.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to; packed where it ends in .gz. Standard output unless given."),
    ] = None,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Leave the keys in the options of agents; else they are left out.")
    ] = False,
    database: Database = None,
    config: Config = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="From a server that runs there, in place of a database.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Its key, with the scope admin. [env SESSIOND_API_KEY]")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="NAME", help="From the server of a login, in place of a database."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a workspace, or a part of it, to a bundle, while the server goes on.

    A bundle is lines of JSON, with what was said in plain text. Keys of the API are in none. It comes from the
    database, or with --url, --key or --profile from a server, as others see it.

    \b
    sessiond export --workspace acme --output acme.jsonl.gz
    sessiond export --user ada --output ada.jsonl
    sessiond export --url https://sessions.example.com --output ours.jsonl.gz
    """
    subject = _subject(agent, user, session)
    if json and output is None:
        raise typer.BadParameter("it needs --output: standard output is the bundle", param_hint="--json")
    if url is not None or key is not None or profile is not None:
        if with_secrets:
            raise typer.BadParameter("a server tells no secrets: it is for a database", param_hint="--with-secrets")
        if config is not None:
            raise typer.BadParameter("is for a database", param_hint="--config")
        from sessiond.cli.fetching import export_from_server, print_exported

        where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
        with _writing_to(output):
            sessions = export_from_server(where, subject, output)
        print_exported(sessions, subject, output, json=json)
        return
    from sessiond.cli.bundle_file import writing
    from sessiond.cli.database import run
    from sessiond.cli.fetching import print_exported
    from sessiond.cli.progress import bar

    async def work(engine: Engine) -> int:
        from contextlib import aclosing

        from sessiond.actions import exports
        from sessiond.actions.call import Call
        from sessiond.actions.workspaces import operator
        from sessiond.cli.database import get_workspace

        call, progress = Call(engine, operator(await get_workspace(engine, workspace or "default"))), exports.Progress()
        # Nothing is opened for a bundle that cannot be begun.
        async with aclosing(exports.export(call, subject, secrets=with_secrets, progress=progress)) as bundle:
            first = await anext(bundle)
            with writing(output) as written, bar("exporting") as shown:
                written.write(first)
                async for line in bundle:
                    written.write(line)
                    shown.update(progress.sessions, progress.total)
        return progress.sessions

    with _writing_to(output):
        sessions = run(work, database=database, config=config)
    print_exported(sessions, subject, output, json=json)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle, packed by gzip or not.")],
    workspace: Workspace = "default",
    keep_agents: Annotated[
        bool, typer.Option("--keep-agents", help="Leave agents as they are that are registered otherwise here.")
    ] = False,
    start_runs: Annotated[
        bool, typer.Option("--start-runs", help="Do what is queued. Else it waits until somebody speaks, or resumes.")
    ] = False,
    database: Database = None,
    config: Config = None,
    url: NotUrl = None,
    profile: NotProfile = None,
    json: Json = False,
) -> None:
    """Put a bundle into a workspace, while the server goes on.

    It is read to its end first: of one that is damaged nothing stays, and the line is named. What is there already
    stays as it is, so an import that was broken off is run again, and goes on.

    \b
    sessiond import acme.jsonl.gz --workspace acme --database postgresql://sessiond@db/sessiond
    """
    if url is not None or profile is not None:
        raise typer.BadParameter(
            "a server takes no bundles: import on its machine, or wherever its database can be reached, with --database"
        )
    if not file.is_file():
        show.fail(f"{file} is no file: a bundle is read several times, so it cannot come through a pipe")
    from sessiond.cli.database import run
    from sessiond.cli.progress import bar

    async def work(engine: Engine) -> None:
        from sessiond.actions import imports
        from sessiond.actions.call import Call
        from sessiond.actions.workspaces import operator
        from sessiond.cli.database import get_workspace

        call = Call(engine, operator(await get_workspace(engine, workspace)))
        with bar("checking") as shown:
            done = await imports.import_bundle(
                call, _Source(file, shown), keep_agents=keep_agents, start_runs=start_runs
            )
        if json:
            show.print_json({"file": str(file), "sha256": done.sha256, "added": done.added, "kept": done.kept})
            return
        print(f"imported {_counted(done.added)}")
        if any(done.kept.values()):
            print(f"there already: {_counted(done.kept)}")

    run(work, database=database, config=config)


@contextmanager
def _writing_to(output: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        show.fail(f"{output or 'standard output'} cannot be written: {error}")


class _Source:
    """Opens a bundle: to be checked, to be compared, to be imported."""

    def __init__(self, file: Path, shown: Bar) -> None:
        self._file, self._shown = file, shown
        self._names = ["importing", "comparing", "checking"]

    def __call__(self) -> Iterator[bytes]:
        from sessiond.cli.bundle_file import lines_of

        total = self._file.stat().st_size
        self._shown.rename(self._names.pop())
        return lines_of(self._file, told=lambda read: self._shown.update(read, total))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nothing"


def _subject(agent: str | None, user: str | None, session: str | None) -> Subject:
    from sessiond.core.bundle import Scope, Subject

    said = {Scope.AGENT: agent, Scope.USER: user, Scope.SESSION: session}
    wanted = [Subject(scope, id) for scope, id in said.items() if id is not None]
    if len(wanted) > 1:
        raise typer.BadParameter("give one of --agent, --user and --session")
    return wanted[0] if wanted else Subject()
