"""A recorded session while it is run again: its inputs done one after the other, each step compared.

What belongs to runs is in `performed_runs.py`, inboxes, mails and waits in `performed_mails.py`; here are the session
itself, its messages, and in which order all is done and told.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from sessiond.actions import client_events, messages, sessions, waits
from sessiond.actions.call import Call, itself
from sessiond.actions.performed_mails import RECEIVE_MAIL, Act, CannotBeDone, Mailing
from sessiond.actions.performed_runs import Place, Runs
from sessiond.actions.sessions import SessionPatch
from sessiond.core.client_event import check_type
from sessiond.core.comparison import Comparison, Mode, Verdict, differ, same
from sessiond.core.errors import NotFound, SessiondError, Unauthenticated, Unavailable
from sessiond.core.event import (
    CALL_TOOL,
    MAIL_RECEIVED,
    REMOVED,
    RUN_AGENT,
    RUN_ANSWERED,
    RUN_CANCEL_REQUESTED,
    RUN_QUEUED,
    SESSION_CREATED,
    SESSION_UPDATED,
    WAIT_CREATED,
    WAIT_ENDS,
    Entry,
    Event,
)
from sessiond.core.ids import MESSAGE, SessionId, make_event_id
from sessiond.core.message import unpack_message
from sessiond.core.metadata import JsonObject, pack_data, pack_metadata
from sessiond.core.session import PAUSED, NewSession, Session
from sessiond.core.timeline import Steps, show
from sessiond.core.wait import COMPLETED, FOR_MAIL, TIMED_OUT

SEND_MESSAGE: Final = "send_message"
LOG_EVENT: Final = "log_event"
"""What is done again where a client logged an event that is no step."""
AWAIT_WAIT: Final = "await_wait"
"""What the end of a wait is called that no step has ended."""

# What ends by itself, or by somebody outside; what is cancelled without a step is cancelled by another step.
_ENDS_BY_ITSELF: Final = {WAIT_ENDS[status]: status for status in (COMPLETED, TIMED_OUT)}
_ARRIVED_SECONDS: Final = 2.0  # a mail ends a wait as it is put into its inbox
# Times that a recording names are over.
_LEFT_OUT: Final = frozenset({"expires_at_us", "parent"})
_FIELDS: Final = frozenset(NewSession.__struct_fields__) - _LEFT_OUT
_PATCHED: Final = frozenset(SessionPatch.__struct_fields__) - _LEFT_OUT

_bodies: Final = msgspec.json.Decoder(JsonObject)


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to run a session again."""

    session_id: SessionId
    events: Sequence[Event]
    """Its log, in order, without what its agents said while they worked."""
    read_mail: Callable[[str], Awaitable[bytes | None]]
    """Returns a mail as it was sent, by its id; None when it is gone."""


class Performance:
    """One recording, run again in a session of its own."""

    def __init__(
        self,
        call: Call,
        recording: Recording,
        *,
        session_id: SessionId,
        mode: Mode,
        domain: str,
        still_allowed: Callable[[], Awaitable[object]] | None,
        deadline: float,
    ) -> None:
        self._caller, self._engine = call.caller, call.engine
        self._recording = recording
        self._session_id = session_id
        self._still_allowed = still_allowed
        self._deadline = deadline
        self._steps = Steps(recording.events)
        self._renamed: dict[str, str] = {recording.session_id: session_id}
        """What the recording's ids and addresses are now."""
        self._waits = dict[str, str]()
        self._mailing = Mailing(
            self._call,
            recording.read_mail,
            session_id=session_id,
            domain=domain,
            renamed=self._renamed,
            waits=self._waits,
        )
        self._removed = {event.seq: event.run_id for event in recording.events if event.type == REMOVED}
        self._places = deque[Place]()
        self._runs = Runs(
            self._call,
            recording.events,
            self._steps,
            session_id=session_id,
            simulates=mode is Mode.SIMULATE,
            renamed=self._renamed,
            waits=self._waits,
            still_allowed=still_allowed,
            deadline=deadline,
        )
        self._acts: Final[Mapping[str, Act]] = {
            "create_session": self._create,
            "update_session": self._update,
            "complete_session": self._complete,
            "fail_session": self._fail,
            "pop_message": self._pop,
            **self._mailing.acts,
        }

    async def perform(self, recorded: Sequence[Event]) -> list[Comparison]:
        """Do again what was done at once; return what has become known of that and of earlier steps, in order."""
        event = recorded[0]
        kind, action = event.type, event.action
        if event.of_client:
            await self._do(event, action or LOG_EVENT)
        elif action == SEND_MESSAGE:
            await self._send(recorded)
        elif action == CALL_TOOL:
            self._places.append(self._runs.place_of(event))
        elif action == RUN_AGENT:
            self._places.append(self._runs.place_of(event))
            await self._runs.conclude(event)
        elif kind == REMOVED:
            await self._runs.lost(event)
        elif kind == RUN_QUEUED:
            await self._runs.begin(event)
        elif kind == RUN_CANCEL_REQUESTED:
            await self._runs.cancel(event)
        elif kind == RUN_ANSWERED:
            await self._runs.answer(event)
        elif kind == MAIL_RECEIVED:
            await self._do(event, RECEIVE_MAIL)
        elif action is not None:
            await self._do(event, action)
        elif kind == WAIT_CREATED and event.run_id is not None:
            await self._runs.note_wait(event)
        elif kind in _ENDS_BY_ITSELF and event.run_id is None:
            await self._await_wait(event)
        await self._runs.settle()
        return self._take_told()

    async def end(self) -> list[Comparison]:
        """Cancel the runs that the recording leaves open, and return what was not known until now."""
        await self._runs.end()
        return self._take_told()

    def _call(self) -> Call:
        return Call(self._engine, self._caller)

    def _take_told(self) -> list[Comparison]:
        told = list[Comparison]()
        while self._places and (known := self._places[0].told) is not None:
            told += known
            self._places.popleft().told = ()  # its run remembers the place, and need not remember this
        return told

    async def _do(self, event: Event, action: str) -> None:
        """Do one thing again; what replay does not show is told of only when that fails."""
        body, began_ns = _bodies.decode(event.body), time.perf_counter_ns()
        output, verdict, reason = None, Verdict.SAME, None
        try:
            if event.type != SESSION_CREATED:
                self._require_time()
            act = self._acts.get(action, self._unknown) if not event.of_client else self._log
            output = await act(event, body)
        except (Unavailable, Unauthenticated):
            raise
        except (SessiondError, CannotBeDone) as error:
            if event.type == SESSION_CREATED:
                raise  # there is nothing to do the rest in
            verdict, reason = Verdict.FAILED, str(error)
        step = self._steps.find(event)
        recorded = step.output if step is not None else {}
        if (
            output is not None
            and not event.of_client
            and "status" in recorded
            and output.get("status", recorded["status"]) != recorded["status"]
        ):
            verdict, reason = Verdict.CHANGED, "its status differs"
        if step is not None or verdict is not Verdict.SAME:
            given = step.input if step is not None else show(_without_text(body))
            self._tell(
                event,
                action,
                given,
                recorded=recorded,
                output=output,
                verdict=verdict,
                reason=reason,
                duration_us=(time.perf_counter_ns() - began_ns) // 1000,
            )

    def _tell(
        self,
        event: Event,
        action: str,
        given: JsonObject,
        *,
        recorded: JsonObject,
        output: JsonObject | None,
        verdict: Verdict,
        reason: str | None,
        duration_us: int,
    ) -> None:
        step = self._steps.find(event)
        told = Comparison(
            index=step.index if step is not None else None,
            seq=event.seq,
            action=action,
            input=given,
            recorded=recorded,
            output=show(output),
            verdict=verdict,
            reason=reason,
            recorded_us=event.duration_us,
            duration_us=duration_us if verdict is not Verdict.FAILED and not event.of_client else None,
            of_client=event.of_client,
        )
        self._places.append(Place(told))

    def _require_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise CannotBeDone("the time for running the session again is over")

    async def _unknown(self, _event: Event, _body: JsonObject) -> JsonObject:
        raise CannotBeDone("a step of this kind cannot be done again")

    async def _log(self, event: Event, body: JsonObject) -> JsonObject:
        """Log again what a client said: what it did then, in a process of its own, only it could do again."""
        entry = Entry(
            type=check_type(event.type, "type"), body=event.body, action=event.action, duration_us=event.duration_us
        )
        await client_events.append(self._call(), self._session_id, [entry], itself)
        output: JsonObject = body.get("output", {})
        return output

    async def _create(self, _event: Event, body: JsonObject) -> JsonObject:
        given = {name: value for name, value in body.items() if name in _FIELDS}
        given |= {"metadata": pack_metadata(body.get("metadata")), "data": pack_data(body.get("data"))}
        fields = {name: value for name, value in given.items() if name not in ("metadata", "data")}
        new = msgspec.structs.replace(
            msgspec.convert(fields, NewSession),
            metadata=given["metadata"],
            data=given["data"],
            parent=self._recording.session_id,
        )
        made = await sessions.create(self._call(), new, itself, session_id=self._session_id)
        return {"id": made.session.id}

    async def _send(self, recorded: Sequence[Event]) -> None:
        """Append what was appended at once; it starts a run if it did so then."""
        run_id, began_ns = recorded[0].run_id, time.perf_counter_ns()
        said, reason = list[Event](), None
        try:
            self._require_time()
            said = await messages.append(
                self._call(),
                self._session_id,
                [unpack_message(event.body) for event in recorded],
                itself,
                start_run=run_id is not None,
                simulates=self._runs.simulated(run_id) if run_id is not None else None,
            )
        except (Unavailable, Unauthenticated):
            raise
        except (SessiondError, CannotBeDone) as error:
            reason = str(error)
        for place, event in enumerate(recorded):
            step = self._steps.get(event)
            output = {"id": make_event_id(MESSAGE, self._session_id, said[place].seq)} if said else None
            self._tell(
                event,
                step.action,
                step.input,
                recorded=step.output,
                output=output,
                verdict=Verdict.SAME if said else Verdict.FAILED,
                reason=reason,
                duration_us=(time.perf_counter_ns() - began_ns) // 1000,
            )
        if run_id is None:
            return
        if said and said[-1].run_id is not None:
            await self._runs.opened(run_id, said[-1].run_id)
        else:
            await self._runs.failed(run_id, f"its message: {reason}" if reason else "its agent is not registered")

    async def _update(self, _event: Event, body: JsonObject) -> JsonObject:
        said = body if _event.type == SESSION_UPDATED else body.get("input", {})
        patch = msgspec.convert({name: each for name, each in said.items() if name in _PATCHED}, SessionPatch)
        return self._seen(await sessions.patch(self._call(), self._session_id, patch, itself), seq=True)

    async def _complete(self, _event: Event, body: JsonObject) -> JsonObject:
        reason = body.get("input", {}).get("reason")
        return self._seen(await sessions.complete(self._call(), self._session_id, itself, reason=reason))

    async def _fail(self, _event: Event, body: JsonObject) -> JsonObject:
        reason = body.get("input", {}).get("reason")
        return self._seen(await sessions.fail(self._call(), self._session_id, itself, reason=reason))

    async def _pop(self, _event: Event, body: JsonObject) -> JsonObject:
        """Take an answer back that a run has given again. What somebody else said is gone, and was not said again."""
        run_id = self._removed.get(body["seq"])
        said = await messages.read_page(self._call(), self._session_id, descending=True, limit=1)
        if not said.events or run_id is None or said.events[0].run_id != self._renamed.get(run_id):
            return {}
        if unpack_message(said.events[0].body).role != body["role"]:
            return {}  # the run's input: it has no answer now
        taken = (await messages.pop(self._call(), self._session_id, itself)).message
        return {"message_id": make_event_id(MESSAGE, self._session_id, taken.seq)} if taken is not None else {}

    def _seen(self, session: Session, *, seq: bool = False) -> JsonObject:
        self._runs.paused = session.status is PAUSED
        return {"id": session.id} | ({"seq": session.last_seq} if seq else {}) | {"status": session.status}

    async def _await_wait(self, event: Event) -> None:
        """Compare how a wait ends that no step has ended."""
        body, began_ns = _bodies.decode(event.body), time.perf_counter_ns()
        recorded_id, then = body["wait_id"], body.get("result")
        wait_id, hook = self._waits.get(recorded_id), self._mailing.hooks.get(recorded_id)
        if wait_id is None:
            return  # that it could not be made is told already
        if hook is not None and isinstance(then, dict) and event.type == WAIT_ENDS[COMPLETED]:
            with suppress(NotFound):  # it has ended otherwise, which is what is told then
                await waits.call_hook(self._engine, hook, then)
        arrived = body["type"] in FOR_MAIL and event.type == WAIT_ENDS[COMPLETED]
        longest_seconds = _ARRIVED_SECONDS if arrived else self._mailing.longest_seconds[recorded_id]
        seconds = min(longest_seconds, max(0.0, self._deadline - time.monotonic()))
        now = await waits.wait(self._call(), wait_id, timeout_seconds=seconds, still_allowed=self._still_allowed)
        recorded = _outcome(_ENDS_BY_ITSELF[event.type], body["type"], then)
        output = _outcome(now.status, now.type, msgspec.json.decode(now.result) if now.result is not None else None)
        parts = [name for name in recorded.keys() | output.keys() if not self._same(recorded, output, name)]
        self._tell(
            event,
            AWAIT_WAIT,
            {"wait_id": recorded_id},
            recorded=show(recorded),
            output=output,
            verdict=Verdict.CHANGED if parts else Verdict.SAME,
            reason=differ(sorted(parts)),
            duration_us=(time.perf_counter_ns() - began_ns) // 1000,
        )

    def _same(self, recorded: JsonObject, now: JsonObject, name: str) -> bool:
        return same(recorded.get(name), now.get(name), self._renamed)


def _outcome(status: str, type: str, result: JsonObject | None) -> JsonObject:
    """Return what counts of how a wait ended; of a mail that came, what it was sent for."""
    outcome: JsonObject = {"status": status, "type": type}
    if type in FOR_MAIL and result is not None:
        outcome |= {name: result[name] for name in ("value", "url") if name in result}
    return outcome


def _without_text(body: JsonObject) -> JsonObject:
    return {name: value for name, value in body.items() if name not in ("sender", "subject")}
