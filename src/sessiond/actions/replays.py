"""Replay that runs again: a recorded session's inputs, done once more against the agents of today, and compared."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Final

import msgspec
from msgspec.structs import replace

from sessiond.actions import agents, events, mails, sessions
from sessiond.actions.call import Call
from sessiond.actions.performance import Performance, Recording
from sessiond.core.caller import Scope
from sessiond.core.comparison import Comparison, Mode, Summary
from sessiond.core.errors import Conflict, InvalidInput, NotFound, TooLarge
from sessiond.core.event import MAIL_RECEIVED, RUN_QUEUED, RUN_TEXT, RUN_THOUGHT, SESSION_CREATED, Entry, Event
from sessiond.core.ids import SessionId
from sessiond.core.limits import MESSAGES_PER_APPEND
from sessiond.core.session import COMPLETED, NewSession
from sessiond.core.session_file import SessionFile, UsedAgent, event_line, head_line, mail_line
from sessiond.storage import events as stored_events
from sessiond.storage import sessions as stored_sessions
from sessiond.storage.appends import Append
from sessiond.storage.engine import Tx

STEPS_MAX: Final = 10_000  # each is a write at least, and all are in memory while one after the other is done
BYTES_MAX: Final = 64 * 1024 * 1024
TIME_LIMIT_SECONDS: Final = 6 * 3_600.0  # somebody waits for it, or has forgotten it

_UNNEEDED: Final = (RUN_TEXT, RUN_THOUGHT)


async def rerun(
    call: Call,
    session_id: str,
    *,
    new_id: str,
    mode: Mode,
    domain: str,
    still_allowed: Callable[[], Awaitable[object]] | None = None,
) -> AsyncGenerator[Comparison | Summary]:
    """Run a session again, in a new one of the id `new_id`: see `rerun_recording`.

    Raises:
        As `rerun_recording`.
        NotFound: there is no session of that id that the caller may see.
        TooLarge: it is too long to be run again.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    recording = await read(call, session_id)
    told = rerun_recording(call, recording, new_id=new_id, mode=mode, domain=domain, still_allowed=still_allowed)
    async with aclosing(told) as each:
        async for one in each:
            yield one


async def rerun_recording(
    call: Call,
    recording: Recording,
    *,
    new_id: str,
    mode: Mode,
    domain: str,
    still_allowed: Callable[[], Awaitable[object]] | None = None,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
) -> AsyncGenerator[Comparison | Summary]:
    """Do in a new session what a recording says was done, in order, and yield each step's comparison as it is known.

    A run is waited for before the next step, unless it waits for that itself. What cannot be done is a step that
    failed, and the rest goes on; after `time_limit_seconds` nothing more is done. The last that is yielded is the
    summary. New inboxes are at `domain`. Ends early with what `still_allowed` raises.

    Raises:
        Forbidden: the caller lacks the read or the write scope, or is bound to another user.
        InvalidInput: the recording has no beginning.
        Conflict: the id is taken.
        Unavailable: not now.
    """
    call.caller.require(Scope.SESSIONS_READ)
    call.caller.require(Scope.SESSIONS_WRITE)
    if not recording.events or recording.events[0].type != SESSION_CREATED:
        raise InvalidInput("the recording does not begin with the session's creation")
    performance = Performance(
        call,
        recording,
        session_id=SessionId(new_id),
        mode=mode,
        domain=domain,
        still_allowed=still_allowed,
        deadline=time.monotonic() + time_limit_seconds,
    )
    summary = Summary(session_id=SessionId(new_id))
    for done_together in _grouped(recording.events):
        if still_allowed is not None:
            await still_allowed()
        for comparison in await performance.perform(done_together):
            summary = summary.with_one(comparison.verdict)
            yield comparison
    for comparison in await performance.end():
        summary = summary.with_one(comparison.verdict)
        yield comparison
    yield summary


async def read(call: Call, session_id: str) -> Recording:
    """Return what is needed to run a session again, as it is now.

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is no session of that id that the caller may see.
        TooLarge: it is too long to be run again.
    """
    session = await sessions.get(call, session_id)
    kept, size, steps = list[Event](), 0, 0
    async for page in events.read_all(call, session):
        needed = [event for event in page if event.type not in _UNNEEDED]
        size += sum(len(event.body) for event in needed)
        steps += sum(event.action is not None or event.of_client for event in needed)
        if steps > STEPS_MAX or size > BYTES_MAX:
            raise TooLarge(f"a session of more than {STEPS_MAX} steps, or {BYTES_MAX} bytes, is not run again")
        kept += needed

    async def read_mail(mail_id: str) -> bytes | None:
        try:
            return await mails.get_raw(call, mail_id)
        except NotFound:
            return None

    return Recording(session_id=session.id, events=kept, read_mail=read_mail)


def recording_of(file: SessionFile) -> Recording:
    """Return what is needed to run a session again that was saved to a file."""

    async def read_mail(mail_id: str) -> bytes | None:
        return file.mails.get(mail_id)

    kept = [event for event in file.events if event.type not in _UNNEEDED]
    return Recording(session_id=file.head.session_id, events=kept, read_mail=read_mail)


async def save(call: Call, session_id: str) -> AsyncGenerator[tuple[str, bytes]]:
    """Yield the lines of a session's file, as it is now, and what each is: "session", "event" or "mail".

    Raises:
        Forbidden: the caller lacks the read scope.
        NotFound: there is no session of that id that the caller may see.
    """
    session = await sessions.get(call, session_id)
    names, mail_ids = dict.fromkeys([session.agent_id] if session.agent_id is not None else []), list[str]()
    async for page in events.read_all(call, session):
        for event in page:
            if event.type == RUN_QUEUED:
                names[msgspec.json.decode(event.body)["agent_id"]] = None
            elif event.type == MAIL_RECEIVED:
                mail_ids.append(msgspec.json.decode(event.body)["mail_id"])
    yield "session", head_line(session, [await _used(call, agent_id) for agent_id in names])
    async for page in events.read_all(call, session):
        for event in page:
            yield "event", event_line(event)
    for mail_id in mail_ids:
        with suppress(NotFound):
            yield "mail", mail_line(mail_id, await mails.get_raw(call, mail_id))


async def _used(call: Call, agent_id: str) -> UsedAgent:
    try:
        return UsedAgent(agent_id, (await agents.get(call, agent_id)).runner)
    except NotFound:
        return UsedAgent(agent_id, None)


async def keep(call: Call, file: SessionFile) -> None:
    """Put a saved session with its log into the database, ended, so that runs can be simulated by it.

    Raises:
        Forbidden: the caller lacks the write scope.
        InvalidInput: the file's head is no session's.
        Conflict: the id is taken.
    """
    call.caller.require(Scope.SESSIONS_WRITE)
    workspace_id = call.caller.workspace_id
    try:
        names = ("agent_id", "user_id", "task_id", "name", "prompt")
        new = msgspec.convert({name: file.head.session.get(name) for name in names}, NewSession)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"its first line is no session's: {error}") from error
    begun = new.begin(workspace_id, file.head.session_id, at_us=call.now_us)
    appends = [
        Append(
            workspace_id=workspace_id,
            session_id=begun.id,
            user_id=None,
            at_us=event.created_at_us,
            actor=event.actor,
            duration_us=0,
            entries=(_entry(event),),
        )
        for event in file.events
    ]
    whole = replace(
        begun,
        status=COMPLETED,
        completed_at_us=call.now_us,
        last_seq=len(appends),
        message_count=sum(append.messages for append in appends),
        log_bytes=sum(append.size for append in appends),
        largest_bytes=max((append.largest for append in appends), default=0),
    )

    async def operation(tx: Tx) -> None:
        inserted = await stored_sessions.insert(tx, whole)
        if inserted is None:
            raise Conflict("a session with this id exists", field="id")
        for seq, append in enumerate(appends, start=1):
            await stored_events.insert(tx, append, first_seq=seq, key_id=inserted.key_id)

    await call.engine.write(operation)


def _entry(event: Event) -> Entry:
    return Entry(
        type=event.type, body=event.body, action=event.action, run_id=event.run_id, duration_us=event.duration_us
    )


def _grouped(recorded: Sequence[Event]) -> Iterator[list[Event]]:
    """Yield what was done at once: the messages that started one run together, anything else by itself."""
    group = list[Event]()
    for event in recorded:
        joins = (
            group
            and _starts_run(event)
            and event.run_id == group[-1].run_id
            and event.seq == group[-1].seq + 1
            and len(group) < MESSAGES_PER_APPEND
        )
        if not joins and group:
            yield group
            group = []
        group.append(event)
        if not _starts_run(event):
            yield group
            group = []
    if group:
        yield group


def _starts_run(event: Event) -> bool:
    return event.is_message and event.action is not None and event.run_id is not None
