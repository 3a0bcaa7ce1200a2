"""`sessiond agents`: what does the work of a session."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from sessiond.cli import show
from sessiond.cli.agent_options import FLAG, describe_runners, parse_options, show_options
from sessiond.cli.options import Config, Database, Json
from sessiond.core.agent import RUNNERS, Agent, NewAgent
from sessiond.core.errors import InvalidInput, NotFound
from sessiond.core.ids import WorkspaceId, parse_id
from sessiond.core.limits import PAGE_MAX
from sessiond.web.answers import iso_micros

if TYPE_CHECKING:
    from sessiond.actions.agents import Registered
    from sessiond.core.caller import Workspace
    from sessiond.storage.engine import Engine

app: Final = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Register, list and remove agents: what answers the messages of a session.",
)

InWorkspace = Annotated[str, typer.Option(metavar="ID", help="The workspace of the agent.")]

ADD_HELP: Final = f"""\
Register an agent; one that is registered becomes what is said here, all of it.

A session names its agent by this id. A run goes by what the agent is when it starts. Programs are started by the
server or worker that does the run, on its machine and as its user.

\b
sessiond agents add coder --runner acp --option command='gemini --acp' --option cwd=/srv/project
sessiond agents add local --runner chat --option base_url=http://127.0.0.1:11434/v1 --option model=qwen3
sessiond agents add mine --runner command --option command='python3 agent.py' --option env.MODE=fast

The runners, and the options of each:

{describe_runners()}

What is typed in a shell may stand in its history and is seen by others on the machine: give secrets by the name of an
environment variable (api_key_env, secret_env) that the server or worker has.
"""

DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(NewAgent)}


@app.command(help=ADD_HELP)
def add(
    agent_id: Annotated[str, typer.Argument(metavar="ID", help="A name that can stand in a URL.")],
    runner: Annotated[str, typer.Option(metavar="NAME", help=f"What runs it: {', '.join(RUNNERS)}.")],
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="An option of its runner, see above; may be given several times. A value in [ ] or { } is JSON.",
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help=f"How long one attempt may take.  [default: {DEFAULTS['time_limit_seconds']:g}]"
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"How often a run is tried again whose failure may pass.  [default: {DEFAULTS['retries']}]",
        ),
    ] = None,
    backoff: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help=f"Before the first retry; twice as long each time.  [default: {DEFAULTS['backoff_seconds']:g}]",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(metavar="N", help="Its runs at once, in all workers together; any number unless given."),
    ] = None,
    history: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"How many messages a run gets to see.  [default: {DEFAULTS['history']}]"),
    ] = None,
    fails_session: Annotated[
        bool, typer.Option("--fails-session", help="A run that fails for good fails its session too.")
    ] = False,
    workspace: InWorkspace = "default",
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    new = _checked(
        agent_id,
        runner,
        option or (),
        {
            "time_limit_seconds": ("--time-limit", time_limit),
            "retries": ("--retries", retries),
            "backoff_seconds": ("--backoff", backoff),
            "concurrency": ("--concurrency", concurrency),
            "history": ("--history", history),
            "fails_session": ("--fails-session", fails_session),
        },
    )
    from sessiond.actions.agents import register
    from sessiond.actions.call import Call, itself
    from sessiond.actions.workspaces import operator
    from sessiond.cli.database import get_workspace, run
    from sessiond.cli.lacks import find_lacks

    async def make(engine: Engine) -> Registered:
        of = await get_workspace(engine, workspace)
        return await register(Call(engine, operator(of)), agent_id, new, itself)

    made = run(make, database=database, config=config)
    for lack in find_lacks(made.agent):
        print(f"sessiond: warning: {lack}; whoever does its runs needs it", file=sys.stderr)
    if json:
        show.print_json(agent_out(made.agent) | {"new": made.new})
        return
    show.print_record(
        {
            "registered" if made.new else "changed": made.agent.id,
            "workspace": made.agent.workspace_id,
            "runner": made.agent.runner,
            "options": show_options(made.agent.shown_options()) or show.NOTHING,
        }
    )


@app.command("list")
def list_all(
    workspace: InWorkspace = "default", database: Database = None, config: Config = None, json: Json = False
) -> None:
    """List a workspace's agents, by id. What is secret in their options is not shown."""
    from sessiond.cli.database import get_workspace, run

    async def read(engine: Engine) -> list[Agent]:
        return await read_workspace_agents(engine, await get_workspace(engine, workspace))

    found = run(read, database=database, config=config)
    if json:
        show.print_json([agent_out(agent) for agent in found])
        return
    columns = ("ID", "RUNNER", "SECONDS", "RETRIES", "AT ONCE", "HISTORY", "FAILS SESSION", "CHANGED", "OPTIONS")
    show.print_table(columns, [_row(agent) for agent in found])


@app.command()
def remove(
    agent_id: Annotated[str, typer.Argument(metavar="ID", help="As `agents list` shows it.")],
    workspace: InWorkspace = "default",
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Remove an agent: messages to its sessions are kept without an answer, and what is queued for it fails.

    \b
    sessiond agents remove coder
    """
    from sessiond.actions import agents
    from sessiond.actions.call import Call, itself
    from sessiond.actions.workspaces import operator
    from sessiond.cli.database import get_workspace, run

    async def take_away(engine: Engine) -> None:
        of = await get_workspace(engine, workspace)
        try:
            await agents.remove(Call(engine, operator(of)), agent_id, itself)
        except NotFound as error:
            raise NotFound(f"there is no agent {agent_id!r} in {of.id}: sessiond agents list shows them") from error

    run(take_away, database=database, config=config)
    if json:
        show.print_json({"id": agent_id, "workspace": workspace, "removed": True})
    else:
        print(f"removed {agent_id}")


def agent_out(agent: Agent) -> dict[str, Any]:
    """Return an agent as JSON shows it."""
    return {
        "id": agent.id,
        "workspace": agent.workspace_id,
        "runner": agent.runner,
        "options": agent.shown_options(),
        "time_limit_seconds": agent.time_limit_seconds,
        "retries": agent.retries,
        "backoff_seconds": agent.backoff_seconds,
        "concurrency": agent.concurrency,
        "history": agent.history,
        "fails_session": agent.fails_session,
        "created_at": iso_micros(agent.created_at_us),
        "updated_at": iso_micros(agent.updated_at_us),
    }


async def read_workspace_agents(engine: Engine, workspace: Workspace) -> list[Agent]:
    """Return all agents of a workspace, by id."""
    from sessiond.actions.agents import read_page
    from sessiond.actions.call import Call
    from sessiond.actions.workspaces import operator

    call, found = Call(engine, operator(workspace)), list[Agent]()
    while page := await read_page(call, after=found[-1].id if found else "", limit=PAGE_MAX):
        found += page
    return found


def _checked(agent_id: str, runner: str, options: Any, fields: dict[str, tuple[str, Any]]) -> NewAgent:
    """Return what was asked for, before a database is touched; a flag that is None was not given."""
    given = {name: value for name, (_, value) in fields.items() if value is not None}
    for name, value in given.items():
        try:
            msgspec.convert({"runner": runner, name: value}, NewAgent)
        except msgspec.ValidationError as error:
            expected = str(error).partition(" - at ")[0]
            said = f"it cannot be {value!r}: {expected[0].lower()}{expected[1:]}"
            raise typer.BadParameter(said, param_hint=fields[name][0]) from error
    new = NewAgent(runner=runner, options=parse_options(options), **given)
    try:
        parse_id(agent_id, "ID")
        new.make(WorkspaceId("default"), agent_id, at_us=0)
    except InvalidInput as error:
        hint = {"runner": "--runner", "options": FLAG}.get(error.field or "", "ID")
        raise typer.BadParameter(str(error), param_hint=hint) from error
    return new


def _row(agent: Agent) -> tuple[str, ...]:
    return (
        agent.id,
        agent.runner,
        f"{agent.time_limit_seconds:g}",
        str(agent.retries),
        str(agent.concurrency or show.NOTHING),
        str(agent.history),
        "yes" if agent.fails_session else "no",
        show.time_text(agent.updated_at_us),
        show_options(agent.shown_options()) or show.NOTHING,
    )
