"""Sessions of Google's Agent Development Kit, kept in sessiond.

    from google.adk.runners import Runner
    from sessiond import AsyncClient
    from sessiond.integrations.google_adk import SessiondSessionService

    runner = Runner(app_name="shop", agent=agent, session_service=SessiondSessionService(AsyncClient()))

A session of the framework is one of ours, `adk:<app>:<user>:<session>`, of the agent `<app>` and the user `<user>`. An
event is one message: first what was said, called and answered, which whoever reads the session sees and search finds,
then a part with the rest. State is in `data`: a session's in its own, an app's in that of the session `adk-app:<app>`,
and a user's in that of `adk-user:<app>:<user>`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import quote
from weakref import WeakValueDictionary

import msgspec

from sessiond.client import AsyncClient, Conflict, Message, NotFound, PreconditionFailed
from sessiond.client import Session as Stored

try:
    from google.adk.errors import StaleSessionError
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events.event import Event
    from google.adk.sessions import BaseSessionService, Session, State
    from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
    from google.genai import types
    from pydantic_core import to_jsonable_python
except ImportError as error:
    raise ImportError(
        "the Google Agent Development Kit is not installed: pip install 'sessiond[google-adk]'", name=error.name
    ) from error

MARK: Final = "adk"
"""The field of a session's `data` that says whose it is: its kind, and the names that ids are made of."""
STATE: Final = "state"
"""The field with the state. Each value is in a list, since null removes a field, and objects would be merged."""
EVENT: Final = "adk_event"
"""The type of the part that holds an event. Where its content has a number, the part of that index before has it."""
SHOWN: Final = ("text", "function_call", "function_response")
"""What of a part of an event's content is a part of the message too."""

PAGE: Final = 1_000  # as much as a server gives at once
ID_MAX_CHARS: Final = 200
PLAIN: Final = re.compile(rf"[\w@.+:~-]{{1,{ID_MAX_CHARS}}}")
KINDS: Final = ("adk-app", "adk-user", "adk")
NAMES: Final = ("app_name", "user_id", "session_id")
PREFIXES: Final = (State.APP_PREFIX, State.USER_PREFIX, "")

_STALE: Final = (
    "the session has been modified in storage since it was loaded: get it again before appending more events"
)

Role = Literal["user", "assistant", "tool"]


class SessiondSessionService(BaseSessionService):
    """Sessions on a server, or with `AsyncClient.local` in a file. The client is its owner's to close.

    It does what the framework's `DatabaseSessionService` does. Events are in the order in which they were appended. An
    event and its change of the session's state are one transaction, in which the session must be in the version that
    the caller holds.

    State of the app (`app:`) and of the user (`user:`) is in sessions of its own, written before the event or the
    session that brings it, app first. Who stops in between has changed that state, and no event says so; appending the
    event again does no harm. A stale session, or an id that is taken, is noticed before anything is written, unless
    another writer comes in just between.

    A session's state, an app's and a user's may each have 1 MiB; an event no more than the server takes in a request
    (`--body-max-bytes`). What is larger is refused (`TooLarge`): files are for the framework's artifacts. An
    `AsyncClient` belongs to one event loop, so use `run_async` of a runner, and not `run`, which makes another.

    Each call raises what `sessiond.client.errors` lists, besides what is said here.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._appending = WeakValueDictionary[str, asyncio.Lock]()
        """By session: those who hold the same one append in turn, each to the version that the one before has made."""

    async def create_session(
        self, *, app_name: str, user_id: str, state: dict[str, Any] | None = None, session_id: str | None = None
    ) -> Session:
        """Create a session; without a `session_id`, or with an empty one, it gets a new one.

        Raises:
            AlreadyExistsError: the user has a session of that id in that app.
        """
        place = _Place((app_name, user_id, (session_id or "").strip() or str(uuid.uuid4())))
        new = _Changes.of(state or {})
        taken = f"there is a session {place.names[-1]!r} already"
        if new.shared and await self._find(place) is not None:
            raise AlreadyExistsError(taken)
        shared = await self._write_shared(place, new)
        data = {MARK: {**place.mark, "last_update_time": time.time()}, STATE: _wrapped(new.session)}
        try:
            stored = await self._client.sessions.create(
                id=place.id, agent_id=place.agent_id, user_id=place.user_id, data=data
            )
        except Conflict as error:
            raise AlreadyExistsError(taken) from error
        return _session_of(stored, shared, [])

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        """Return a session, with its events or those that `config` asks for, the oldest first; None if there is none.

        Of the log only those events are read. `after_timestamp` means all events behind the last older one.
        """
        place = _Place((app_name, user_id, session_id.strip()))
        stored = await self._find(place)
        if stored is None:
            return None
        try:
            shared, events = await asyncio.gather(
                self._read_shared(place), self._read_events(stored, config or GetSessionConfig())
            )
        except NotFound:  # somebody has just deleted it
            return None
        return _session_of(stored, shared, events)

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """Return a user's sessions in an app, or everybody's, without events, the one updated last at the end."""
        wanted = _Place((app_name,) if user_id is None else (app_name, user_id))
        app_state, user_states, sessions = (
            await self._read_state(wanted.app),
            dict[str, dict[str, Any]](),
            list[Stored](),
        )
        listed = self._client.sessions.iterate(
            agent_id=wanted.agent_id, user_id=wanted.user_id, sort="created", order="asc", limit=PAGE
        )
        async for stored in listed:
            match _names_of(stored):
                case (app, user, _) if app == app_name and user_id in (None, user):
                    sessions.append(stored)
                case (app, user) if app == app_name:
                    user_states[user] = _state_of(stored, State.USER_PREFIX)
        found = [_session_of(each, app_state | user_states.get(_names_of(each)[1], {}), []) for each in sessions]
        found.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=found)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with its events; the app's and the user's state stay. One that does not exist is fine."""
        try:
            await self._client.sessions.delete(_Place((app_name, user_id, session_id.strip())).id)
        except NotFound:
            return

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return a user's state in an app, by keys without `user:`."""
        stored = await self._find(_Place((app_name, user_id)))
        return _state_of(stored, "") if stored is not None else {}

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event to a session and apply its change of state, in storage and in `session`.

        It is on disk when this returns. A partial event is not kept.

        Raises:
            StaleSessionError: the session has changed since the caller got it. Nothing was appended.
            SessionNotFoundError: there is no such session.
            Conflict: the session has ended, as one of ours can.
        """
        if event.partial:
            return event
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        place = _Place((session.app_name, session.user_id, session.id))
        async with self._appending.setdefault(place.id, asyncio.Lock()):
            message = await self._append(place, session, event)
            session.last_update_time = event.timestamp
            session._storage_update_marker = message.etag
            return self._commit_event_to_session(session, event)

    async def _append(self, place: _Place, session: Session, event: Event) -> Message:
        changes = _Changes.of(event.actions.state_delta)
        version = session._storage_update_marker
        if version is None or changes.shared:
            version = await self._check_version(place, session)
        await self._write_shared(place, changes)
        data = {MARK: {"last_update_time": event.timestamp}, STATE: _wrapped(changes.session)}
        try:
            return await self._client.messages.append(
                place.id, _content_of(event), role=_role_of(event), data=data, if_match=version, start_run=False
            )
        except PreconditionFailed as error:
            raise StaleSessionError(_STALE) from error
        except NotFound as error:
            raise SessionNotFoundError(f"there is no session {session.id!r}") from error

    async def _check_version(self, place: _Place, session: Session) -> str:
        """Return the version that storage has, if it is the caller's.

        A session that was not got from here, but put together or copied as JSON, knows no version: it is current if
        nothing is newer in storage, or if its last event is the last one there.
        """
        stored = await self._find(place)
        if stored is None or stored.etag is None:
            raise SessionNotFoundError(f"there is no session {session.id!r}")
        known = session._storage_update_marker
        if known is not None:
            current = known == stored.etag
        elif stored.data[MARK]["last_update_time"] <= session.last_update_time:
            current = True
        else:
            last = await self._read_events(stored, GetSessionConfig(num_recent_events=1))
            current = [each.id for each in last] == [each.id for each in session.events[-1:]]
        if not current:
            raise StaleSessionError(_STALE)
        return stored.etag

    async def _find(self, place: _Place) -> Stored | None:
        try:
            return await self._client.sessions.get(place.id)
        except NotFound:
            return None

    async def _read_events(self, stored: Stored, config: GetSessionConfig) -> list[Event]:
        """Return events of a session, the oldest first, as of the version that was read."""
        most, since = config.num_recent_events, config.after_timestamp
        if most == 0:
            return []
        newest_first = most is not None or since is not None
        messages = self._client.messages.iterate(
            stored.id,
            before=stored.last_seq + 1,
            order="desc" if newest_first else "asc",
            limit=PAGE if most is None else min(PAGE, most),
        )
        events = list[Event]()
        async for message in messages:
            event = _event_of(message)
            if since is not None and event.timestamp < since:
                break
            events.append(event)
            if len(events) == most:
                break
        return events[::-1] if newest_first else events

    async def _read_shared(self, place: _Place) -> dict[str, Any]:
        """Return the state that a session shares with others, with prefixes."""
        app, user = await asyncio.gather(self._read_state(place.app), self._read_state(place.user))
        return app | user

    async def _read_state(self, place: _Place) -> dict[str, Any]:
        stored = await self._find(place)
        return _state_of(stored, place.prefix) if stored is not None else {}

    async def _write_shared(self, place: _Place, changes: _Changes) -> dict[str, Any]:
        """Change the state that a session shares with others; return all of it, with prefixes."""
        app = await self._write_state(place.app, changes.app)
        user = await self._write_state(place.user, changes.user)
        return app | user

    async def _write_state(self, place: _Place, changes: dict[str, Any]) -> dict[str, Any]:
        if not changes:
            return await self._read_state(place)
        data = {STATE: _wrapped(changes)}
        try:
            stored = await self._client.sessions.update(place.id, data=data)
        except NotFound:
            # Another writer may create it at the same time: whoever does, both changes come after.
            await self._client.sessions.create(
                id=place.id,
                agent_id=place.agent_id,
                user_id=place.user_id,
                name=f"state of {place.prefix.rstrip(':')}",
                data={MARK: place.mark, STATE: {}},
                if_exists="return",
            )
            stored = await self._client.sessions.update(place.id, data=data)
        return _state_of(stored, place.prefix)


class _Place(msgspec.Struct, frozen=True):
    """Which session of ours has a session of the framework, or a user's or an app's state: by one name less each."""

    names: tuple[str, ...]

    @property
    def id(self) -> str:
        """No two places have the same, whatever their names are."""
        names = ":".join(quote(name, safe="@+") for name in self.names)
        kind = KINDS[len(self.names) - 1]
        whole = f"{kind}:{names}"
        return whole if len(whole) <= ID_MAX_CHARS else f"{kind}:{_hash(names)}"

    @property
    def agent_id(self) -> str:
        return _column(self.names[0])

    @property
    def user_id(self) -> str | None:
        return _column(self.names[1]) if len(self.names) > 1 else None

    @property
    def app(self) -> _Place:
        return _Place(self.names[:1])

    @property
    def user(self) -> _Place:
        return _Place(self.names[:2])

    @property
    def prefix(self) -> str:
        return PREFIXES[len(self.names) - 1]

    @property
    def mark(self) -> dict[str, Any]:
        return dict(zip(NAMES, self.names, strict=False))


class _Changes(msgspec.Struct, frozen=True):
    """A change of state, by whose it is, as JSON and without prefixes."""

    app: dict[str, Any]
    user: dict[str, Any]
    session: dict[str, Any]

    @classmethod
    def of(cls, delta: Mapping[str, Any]) -> _Changes:
        changes = cls({}, {}, {})
        for key, value in delta.items():
            # What JSON cannot say, a function for one, is kept as its `repr`, as the framework does.
            value = to_jsonable_python(value, serialize_unknown=True)
            if key.startswith(State.APP_PREFIX):
                changes.app[key.removeprefix(State.APP_PREFIX)] = value
            elif key.startswith(State.USER_PREFIX):
                changes.user[key.removeprefix(State.USER_PREFIX)] = value
            elif not key.startswith(State.TEMP_PREFIX):
                changes.session[key] = value
        return changes

    @property
    def shared(self) -> bool:
        return bool(self.app or self.user)


def _column(name: str) -> str:
    """Return a name as the id of an agent or a user: itself, where it can be one."""
    return name if PLAIN.fullmatch(name) and name not in (".", "..") else f"adk-{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _names_of(stored: Stored) -> tuple[str, ...]:
    """Return the names of what a session of ours holds; none if that is nothing of the framework."""
    mark = stored.data.get(MARK)
    return tuple(mark[name] for name in NAMES if name in mark) if isinstance(mark, dict) else ()


def _wrapped(state: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {key: [value] for key, value in state.items()}


def _state_of(stored: Stored, prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, [value] in stored.data[STATE].items()}


def _session_of(stored: Stored, shared: Mapping[str, Any], events: list[Event]) -> Session:
    app_name, user_id, session_id = _names_of(stored)
    session = Session(
        id=session_id,
        app_name=app_name,
        user_id=user_id,
        state={**_state_of(stored, ""), **shared},
        events=events,
        last_update_time=stored.data[MARK]["last_update_time"],
    )
    session._storage_update_marker = stored.etag
    return session


def _role_of(event: Event) -> Role:
    if event.author == "user":
        return "user"
    return "tool" if event.get_function_responses() else "assistant"


def _content_of(event: Event) -> list[dict[str, Any]]:
    body = event.model_dump(mode="json", exclude_none=True)
    shown = list[dict[str, Any]]()
    for part in body.get("content", {}).get("parts", []):
        for name in SHOWN:
            if part.get(name) and not part.get("thought"):
                shown.append({"type": name, name: part[name]})
                part[name] = len(shown) - 1
    # What is named `data` is not searched: else every event would be found by the name of its author, and the like.
    return [*shown, {"type": EVENT, "data": body}]


def _event_of(message: Message) -> Event:
    content = message.content
    if isinstance(content, str) or not content or content[-1].get("type") != EVENT:
        return _event_of_another(message)
    body = content[-1]["data"]
    for part in body.get("content", {}).get("parts", []):
        for name in SHOWN:
            if isinstance(part.get(name), int):
                part[name] = content[part[name]][name]
    return Event.model_validate(body)


def _event_of_another(message: Message) -> Event:
    """Return what somebody said in the session who does not use the framework."""
    said = (
        message.content
        if isinstance(message.content, str)
        else "\n".join(
            part["text"] if isinstance(part.get("text"), str) else msgspec.json.encode(part).decode()
            for part in message.content
        )
    )
    return Event(
        id=message.id,
        invocation_id=message.id,
        author=message.role,
        timestamp=message.created_at.timestamp(),
        content=types.Content(role="user" if message.role == "user" else "model", parts=[types.Part(text=said)]),
    )
