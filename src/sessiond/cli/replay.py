"""`sessiond replay`: what was done in a session, shown, done again, or saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sessiond.cli import show
from sessiond.cli.options import Config, Database, Json
from sessiond.settings import load_settings

if TYPE_CHECKING:
    from sessiond.actions.call import Call
    from sessiond.core.comparison import Comparison, Mode, Summary
    from sessiond.core.timeline import Step
    from sessiond.settings import Settings
    from sessiond.storage.engine import Engine


def replay(
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Do it all again in a new session, and compare each step.")
    ] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="As --rerun; the tools of agents answer what they answered then.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show only what changed, and how.")] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the session to a file that pytest can run again.")
    ] = None,
    workspace: Annotated[str, typer.Option(metavar="ID", help="The workspace of the session.")] = "default",
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show what was done in a session, step by step, or do it again and compare.

    Doing it again needs no server: this process does the runs, beside those of a server that is there. It makes a new
    session; the one that is run again stays as it is. Ends with 1 when a step changed or failed.

    \b
    sessiond replay sess_0199
    sessiond replay sess_0199 --rerun --diff
    sessiond replay sess_0199 --save tests/signup.session.jsonl
    """
    if sum((rerun, simulate, save is not None)) > 1:
        raise typer.BadParameter("give one of --rerun, --simulate and --save")
    if diff and not (rerun or simulate):
        raise typer.BadParameter("it needs --rerun or --simulate", param_hint="--diff")
    settings = load_settings({"database": database}, file=config)
    from sessiond.actions.audit import note_read
    from sessiond.actions.call import Call
    from sessiond.actions.workspaces import operator
    from sessiond.cli.database import get_workspace, run_on
    from sessiond.core.comparison import Mode

    async def work(engine: Engine) -> bool:
        call = Call(engine, operator(await get_workspace(engine, workspace)))
        await _require(call, session_id)
        if call.caller.audits_reads:
            await note_read(call, route="sessiond replay", records={"session_id": session_id})
        if save is not None:
            await _save(call, session_id, save, json=json)
        elif rerun or simulate:
            mode = Mode.SIMULATE if simulate else Mode.RERUN
            return await _rerun(call, settings, session_id, mode, diff=diff, json=json)
        else:
            await _show(call, session_id, json=json)
        return False

    if run_on(settings, work):
        raise SystemExit(1)


async def _require(call: Call, session_id: str) -> None:
    from sessiond.actions import sessions
    from sessiond.core.errors import NotFound

    try:
        await sessions.get(call, session_id)
    except NotFound as error:
        raise NotFound(f"there is no session {session_id!r} in {call.caller.workspace_id}") from error


async def _show(call: Call, session_id: str, *, json: bool) -> None:
    from sessiond.actions import sessions, timeline
    from sessiond.cli import replay_view

    session = await sessions.get(call, session_id)
    steps: list[Step] = [step async for page in timeline.read_steps(call, session) for step in page]
    if json:
        show.print_json({"session_id": session_id, "steps": [replay_view.step_out(step) for step in steps]})
    else:
        replay_view.print_steps(steps)


async def _rerun(call: Call, settings: Settings, session_id: str, mode: Mode, *, diff: bool, json: bool) -> bool:
    """Run a session again, and print what comes of it as it comes; whether anything is otherwise than then."""
    from sessiond.actions import replays
    from sessiond.cli import replay_view
    from sessiond.cli.rerunning import at_work
    from sessiond.core.comparison import Comparison

    told, summary = list[Comparison](), None
    tell: Callable[[Comparison], None] = replay_view.make_teller(diff=diff) if not json else told.append
    async with at_work(settings, call.engine):
        new_id = call.new_id("sess_")
        rerunning = replays.rerun(call, session_id, new_id=new_id, mode=mode, domain=settings.mail_domain)
        async for one in rerunning:
            if isinstance(one, Comparison):
                tell(one)
            else:
                summary = one
    assert summary is not None, "it is the last that is told"
    if json:
        show.print_json(_document(mode, [one for one in told if not diff or one.verdict != "same"], summary))
    else:
        replay_view.print_summary(summary)
    return summary.drifted


def _document(mode: Mode, told: list[Comparison], summary: Summary) -> dict[str, Any]:
    from sessiond.cli import replay_view

    steps = [replay_view.comparison_out(one) for one in told]
    return {"session_id": summary.session_id, "mode": mode, "steps": steps, "summary": summary}


async def _save(call: Call, session_id: str, file: Path, *, json: bool) -> None:
    from sessiond.actions import replays

    partial = file.with_name(f".{file.name}.partial")
    events = mails = 0
    try:
        partial.touch(mode=0o600)  # what was said in it is nobody else's to read
        with partial.open("wb") as written:
            async for kind, line in replays.save(call, session_id):
                written.write(line)
                events += kind == "event"
                mails += kind == "mail"
        partial.replace(file)  # whole, or not there
    except OSError as error:
        show.fail(f"{file} cannot be written: {error}")
    finally:
        partial.unlink(missing_ok=True)
    if json:
        show.print_json({"session_id": session_id, "file": str(file), "events": events, "mails": mails})
    else:
        print(f"saved {events} events and {mails} mails to {file}")
