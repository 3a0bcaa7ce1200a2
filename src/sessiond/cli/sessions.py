"""`sessiond sessions`: what is going on in them, for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sessiond.cli import show
from sessiond.cli.connecting import Key, Local, ProfileName, Url, Where, Workspace, open_client
from sessiond.cli.listing import LIMIT, All, Limit, page_of, print_list
from sessiond.cli.options import Json
from sessiond.cli.progress import bar

if TYPE_CHECKING:
    from sessiond.cli.transcript import Transcript
    from sessiond.client import Client, Event, Message, Session

STATUSES: Final = ("created", "active", "paused", "completed", "failed")
SORTS: Final = ("created", "updated")
ROLES: Final = ("user", "assistant", "system", "developer", "tool")
EVENTS_PAGE: Final = 200  # a tool's result may have 256 KiB
TAIL: Final = 10  # messages: about what a terminal shows

app: Final = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="List, show, follow, end sessions; say something in them."
)

Id = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
Last = Annotated[int | None, typer.Option("--last", metavar="N", min=0, help="From the last N messages on.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the log.")]


@app.command("list")
def list_all(
    agent: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this agent's; several: any.")] = None,
    user: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this user's; several: any.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help=f"Only these: {', '.join(STATUSES)}.")
    ] = None,
    sort: Annotated[str, typer.Option(metavar="TIME", help=f"The newest by which: {' or '.join(SORTS)}.")] = SORTS[0],
    limit: Limit = LIMIT,
    every: All = False,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """List sessions, the newest first.

    \b
    sessiond sessions list --status active --agent echo
    """
    if unknown := {*(status or ())} - {*STATUSES}:
        raise typer.BadParameter(f"{min(unknown)!r} is none of {', '.join(STATUSES)}", param_hint="--status")
    if sort not in SORTS:
        raise typer.BadParameter(f"must be {' or '.join(SORTS)}", param_hint="--sort")
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    by: Any = sort
    with open_client(where) as client:
        page = page_of(limit, every=every)
        print_list(
            client.sessions.iterate(agent_id=agent, user_id=user, status=status, sort=by, limit=page),
            lambda session: _row(session, sort),
            columns=("ID", "STATUS", "AGENT", "USER", "NAME", "MESSAGES", sort.upper()),
            cut=("NAME", "USER", "AGENT"),
            limit=limit,
            every=every,
            json=json,
        )


@app.command()
def create(
    agent: Annotated[str | None, typer.Option(metavar="ID", help="Who answers in it.")] = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="Whose it is.")] = None,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is called.")] = None,
    session_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Its id; one is made unless given.")
    ] = None,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Make a session, and print its id.

    \b
    sessiond sessions create --agent echo --id hello
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        session = client.sessions.create(id=session_id, agent_id=agent, user_id=user, name=name)
    if json:
        show.print_json(session)
    else:
        print(show.escape_line(session.id))


@app.command("show")
def show_one(
    session_id: Id,
    last: Last = None,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Show a session, and what was said and done in it, as a conversation.

    \b
    sessiond sessions show hello --last 20
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        session = client.sessions.get(session_id)
        events = client.sessions.iterate_events(
            session_id, after=_before_last(client, session, last), limit=EVENTS_PAGE
        )
        with bar("reading", shown=not sys.stdout.isatty()) as shown:
            read = _told_of(events, lambda event: shown.update(event.seq, session.last_seq))
            if json:
                print(f'{{"session":{show.json_of(session)},"events":', end="")
                show.print_json_array(read)
                print("}")
                return
            show.print_record(_fields(session))
            print()
            transcript = _transcript(session)
            for event in read:
                sys.stdout.write(transcript.tell(event))
            sys.stdout.write(transcript.finish())


@app.command()
def tail(
    session_id: Id,
    last: Last = TAIL,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Show the last messages of a session, and go on with what happens, word by word, until Ctrl-C.

    A server that is started anew is found again, and nothing is missed or told twice.

    \b
    sessiond sessions tail hello
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        session = client.sessions.get(session_id)
        transcript = _transcript(session)
        try:
            for told in client.sessions.stream_live(
                session_id, after=_before_last(client, session, last), deltas=not json
            ):
                sys.stdout.write(f"{show.json_of(told)}\n" if json else transcript.tell(told))
                sys.stdout.flush()
        finally:
            if not json:
                sys.stdout.write(transcript.finish())


@app.command()
def send(
    session_id: Id,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to say; standard input unless given.")
    ] = None,
    role: Annotated[str, typer.Option(metavar="ROLE", help=f"As whom: {', '.join(ROLES)}.")] = "user",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the agent's answer.")] = False,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Say something in a session, and show what its agent answers, as it comes.

    Ends with 1 when the agent fails, or is cancelled. Ctrl-C stops the waiting, not the agent.

    \b
    sessiond sessions send hello "Is anybody there?"
    git diff | sessiond sessions send review --no-wait
    """
    if role not in ROLES:
        raise typer.BadParameter(f"must be {', '.join(ROLES)}", param_hint="--role")
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    from sessiond.cli.answering import answer, read_input

    said = text if text is not None else read_input()
    with open_client(where, run_agents=not no_wait) as client:
        # The role was checked above.
        message = client.messages.append(session_id, said, role=role)  # type: ignore[arg-type]
        run = None
        if message.run_id is not None and not no_wait:
            run = answer(client, message.run_id, quiet=json)
        if json:
            show.print_json({"message": message, "run": run})
        elif message.run_id is None:
            _say_who_answers(client, message, session_id)
        elif no_wait:
            print(show.escape_line(message.id))
        if run is not None and run.status in ("failed", "cancelled"):
            show.fail(f"the run {run.id} was {run.status}{f': {run.error.message}' if run.error is not None else ''}")


@app.command()
def complete(
    session_id: Id,
    reason: Reason = None,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """End a session well; its runs and waits are cancelled.

    \b
    sessiond sessions complete hello --reason "answered"
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    with open_client(where) as client:
        session = client.sessions.complete(session_id, reason=reason)
    if json:
        show.print_json(session)
    else:
        print(f"{show.escape_line(session.id)} is {session.status}")


@app.command()
def delete(
    session_id: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask in a terminal.")] = False,
    url: Url = None,
    key: Key = None,
    profile: ProfileName = None,
    database: Local = None,
    workspace: Workspace = None,
    json: Json = False,
) -> None:
    """Remove a session with its log. To have a signed receipt of it, use `sessiond erase`.

    \b
    sessiond sessions delete hello --yes
    """
    where = Where(url=url, key=key, profile=profile, database=database, workspace=workspace)
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Remove the session {show.escape_line(session_id)} with its log?", abort=True, err=True)
    with open_client(where) as client:
        client.sessions.delete(session_id)
    if json:
        show.print_json({"id": session_id, "deleted": True})
    else:
        print(f"removed {show.escape_line(session_id)}")


def _row(session: Session, sort: str) -> tuple[str, ...]:
    return (
        session.id,
        session.status,
        session.agent_id or show.NOTHING,
        session.user_id or show.NOTHING,
        session.name or show.NOTHING,
        str(session.message_count),
        show.when(session.created_at if sort == "created" else session.updated_at),
    )


def _fields(session: Session) -> dict[str, str]:
    agent = session.agent_id or show.NOTHING
    fields = {
        "session": session.id,
        "status": session.status,
        "name": session.name,
        "agent": f"{agent} (not registered)" if session.agent_registered is False else agent,
        "user": session.user_id,
        "messages": str(session.message_count),
        "tokens": f"{session.prompt_tokens} + {session.completion_tokens}",
        "made from": session.parent,
        "created": show.when(session.created_at),
        "updated": show.when(session.updated_at),
        "completed": show.when(session.completed_at) if session.completed_at is not None else None,
        "metadata": show.json_of(session.metadata) if session.metadata else None,
        "data": show.cut(show.json_of(session.data), 1_000) if session.data else None,
        "inboxes": " ".join(session.inboxes),
        "waits": " ".join(session.waits),
    }
    return {name: value for name, value in fields.items() if value}


def _told_of(events: Iterable[Event], tell: Callable[[Event], None]) -> Iterator[Event]:
    """Yield events, each after it was told."""
    for event in events:
        tell(event)
        yield event


def _transcript(session: Session) -> Transcript:
    from sessiond.cli.transcript import Transcript

    return Transcript(names={"user": session.user_id, "assistant": session.agent_id}, paint=show.coloured)


def _before_last(client: Client, session: Session, last: int | None) -> int:
    """Return the number of the event before the last so many messages; 0 where there are no more than those."""
    if last == 0:
        return session.last_seq
    if last is None or last >= session.message_count:
        return 0
    newest: Iterator[Message] = client.messages.iterate(session.id, order="desc", limit=min(last, EVENTS_PAGE))
    seq = session.last_seq + 1
    for message in islice(newest, last):
        seq = message.seq
    return seq - 1


def _say_who_answers(client: Client, message: Message, session_id: str) -> None:
    """Say why no answer comes, where somebody may wait for one."""
    print(show.escape_line(message.id))
    if message.role != "user":
        return
    session = client.sessions.get(session_id)
    if session.agent_id is None:
        show.warn("nobody answers: the session names no agent")
    elif not session.agent_registered:
        show.warn(f"nobody answers: there is no agent {session.agent_id!r}; sessiond agents add registers one")
