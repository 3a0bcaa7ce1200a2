"""Sessions of Google's Agent Development Kit are kept as the framework's own services keep them.

The framework publishes no tests that another service could be run against. So these hold for its own services too: what
those do is the contract.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions, EventCompaction
from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService, InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.genai import types

from sessiond import AsyncClient
from sessiond.integrations.google_adk import SessiondSessionService
from tests.serving import TLS, Tenant

OURS: Final = ("local", "sqlite", "postgres")
STORES: Final = ("database", *OURS)
only_ours = pytest.mark.parametrize("engine_name", OURS, indirect=True, scope="session")
only_stores = pytest.mark.parametrize("engine_name", STORES, indirect=True, scope="session")


@pytest.fixture(scope="session", params=("memory", *STORES))
def engine_name(request: pytest.FixtureRequest) -> str:
    """Where sessions are kept: by the framework, in its two ways, or by us, in our three."""
    name: str = request.param
    return name


@pytest.fixture
def maybe_tenant(engine_name: str, request: pytest.FixtureRequest) -> Tenant | None:
    return request.getfixturevalue("tenant") if engine_name in ("sqlite", "postgres") else None


@pytest.fixture
async def client(maybe_tenant: Tenant | None, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    if maybe_tenant is not None:
        client = AsyncClient(maybe_tenant.key, maybe_tenant.serving.url, ssl_context=TLS)
    else:
        client = AsyncClient.local(tmp_path / "sessiond.db")
    async with client:
        yield client


@pytest.fixture
async def service(engine_name: str, client: AsyncClient, tmp_path: Path) -> AsyncIterator[BaseSessionService]:
    match engine_name:
        case "memory":
            yield InMemorySessionService()
        case "database":
            async with DatabaseSessionService(f"sqlite+aiosqlite:///{tmp_path}/adk.db") as service:
                yield service
        case _:
            yield SessiondSessionService(client)


def _event(text: str = "", state: dict[str, Any] | None = None, *, at: float | None = None) -> Event:
    content = types.Content(role="user", parts=[types.Part(text=text)]) if text else None
    event = Event(invocation_id="i", author="user", content=content, actions=EventActions(state_delta=state or {}))
    if at is not None:
        event.timestamp = at
    return event


async def _new(
    service: BaseSessionService, session_id: str | None = None, state: dict[str, Any] | None = None
) -> Session:
    return await service.create_session(app_name="shop", user_id="ann", state=state, session_id=session_id)


async def _get(service: BaseSessionService, session: Session, **config: Any) -> Session:
    wanted = GetSessionConfig(**config) if config else None
    found = await service.get_session(
        app_name=session.app_name, user_id=session.user_id, session_id=session.id, config=wanted
    )
    assert found is not None
    return found


def _said(session: Session) -> list[tuple[str, str | None]]:
    return [
        (event.author, part.text) for event in session.events for part in (event.content and event.content.parts) or ()
    ]


async def test_a_new_session_has_the_state_it_was_given(service: BaseSessionService) -> None:
    session = await _new(service, "s", {"n": 1, "app:x": 2, "user:y": 3, "temp:t": 4})

    assert (session.id, session.app_name, session.user_id, session.events) == ("s", "shop", "ann", [])
    assert session.state == {"n": 1, "app:x": 2, "user:y": 3}
    assert session.last_update_time > 0
    assert await _get(service, session) == session


async def test_a_session_without_an_id_gets_one(service: BaseSessionService) -> None:
    first, second = await _new(service), await _new(service)

    assert len({first.id, second.id}) == 2
    assert (await _get(service, first)).id == first.id


async def test_an_id_that_is_taken_is_refused_and_nothing_changes(service: BaseSessionService) -> None:
    session = await _new(service, "s", {"n": 1, "app:x": 1})

    with pytest.raises(AlreadyExistsError):
        await _new(service, "s")
    with pytest.raises(AlreadyExistsError):
        await _new(service, "s", {"n": 2, "app:x": 2})

    assert (await _get(service, session)).state == {"n": 1, "app:x": 1}


async def test_names_may_be_any_text(service: BaseSessionService) -> None:
    for name in ("a/b", ".", "..", "ü é", "a:b%3A", "50%", "x" * 300, "ann@example.com", '"\\'):
        state = {"user:y": name, "app:x": name}
        session = await service.create_session(app_name=name, user_id=name, session_id=name, state=state)

        await service.append_event(session, _event("Hello"))

        assert await _get(service, session) == session
        [listed] = (await service.list_sessions(app_name=name, user_id=name)).sessions
        assert (listed.app_name, listed.user_id, listed.id, listed.state) == (name, name, name, state)


async def test_names_that_run_together_stay_apart(service: BaseSessionService) -> None:
    names = [
        ("a:b", "c", "d"),
        ("a", "b:c", "d"),
        ("a", "b", "c:d"),
        ("a%3Ab", "c", "d"),
        ("", "a", "b"),
        ("a", "", "b"),
    ]
    for app_name, user_id, session_id in names:
        await service.create_session(app_name=app_name, user_id=user_id, session_id=session_id)

    for app_name, user_id, session_id in names:
        [found] = (await service.list_sessions(app_name=app_name, user_id=user_id)).sessions
        assert (found.app_name, found.user_id, found.id) == (app_name, user_id, session_id)


async def test_an_id_with_spaces_around_it_finds_what_it_made(service: BaseSessionService) -> None:
    session = await _new(service, " s ")

    assert await service.get_session(app_name="shop", user_id="ann", session_id=" s ") == session
    await service.delete_session(app_name="shop", user_id="ann", session_id=" s ")
    assert await service.get_session(app_name="shop", user_id="ann", session_id=" s ") is None


async def test_state_is_shared_as_far_as_its_prefix_says(service: BaseSessionService) -> None:
    session = await _new(service, "s")
    await service.append_event(session, _event(state={"app:x": 1, "user:y": 2, "z": 3}))

    async def state_of_new(app_name: str, user_id: str) -> dict[str, Any]:
        return (await service.create_session(app_name=app_name, user_id=user_id)).state

    assert await state_of_new("shop", "ann") == {"app:x": 1, "user:y": 2}
    assert await state_of_new("shop", "bob") == {"app:x": 1}
    assert await state_of_new("bank", "ann") == {}
    assert session.state == (await _get(service, session)).state == {"app:x": 1, "user:y": 2, "z": 3}


async def test_state_for_a_while_is_seen_by_whoever_holds_the_session_and_is_not_kept(
    service: BaseSessionService,
) -> None:
    session = await _new(service)
    event = await service.append_event(session, _event(state={"temp:t": 1, "z": 2}))
    await service.append_event(session, _event("More"))

    assert session.state == {"temp:t": 1, "z": 2}
    assert event.actions.state_delta == {"z": 2}
    found = await _get(service, session)
    assert found.state == {"z": 2}
    assert found.events[0].actions.state_delta == {"z": 2}


async def test_a_value_replaces_what_was_there(service: BaseSessionService) -> None:
    first: dict[str, Any] = {
        "object": {"a": 1, "b": 2},
        "none": 1,
        "bool": True,
        "float": 1.0,
        "app:o": {"a": {"b": 1}},
        "user:n": 1,
    }
    second: dict[str, Any] = {
        "object": {"a": None},
        "none": None,
        "float": 0.1,
        "big": 2**70,
        "app:o": {"a": {}},
        "user:n": None,
        "": [None],
    }
    session = await _new(service, state=first)

    await service.append_event(session, _event(state=second))

    found = await _get(service, session)
    assert found.state == session.state == first | second
    assert found.state["bool"] is True
    assert found.events[0].actions.state_delta == second


async def test_a_partial_event_is_not_kept(service: BaseSessionService) -> None:
    session = await _new(service)
    event = _event("Hel", {"z": 1})
    event.partial = True

    assert await service.append_event(session, event) is event

    assert (await _get(service, session)).events == session.events == []


def _full_event() -> Event:
    return Event(
        invocation_id="i",
        author="clerk",
        branch="root.clerk",
        timestamp=1_742_000_000.123457,
        long_running_tool_ids={"call-1"},
        content=types.Content(
            role="model",
            parts=[
                types.Part(text="Here it is."),
                types.Part(text="Hm.", thought=True, thought_signature=b"\xff\x00\xfe"),
                types.Part(inline_data=types.Blob(data=bytes(range(256)), mime_type="image/png")),
                types.Part(
                    function_call=types.FunctionCall(id="call-1", name="pay", args={"a": None, "b": [1.5, True]})
                ),
                types.Part(text=""),
                types.Part(text="Anything else? \0 ü 🙂"),
            ],
        ),
        grounding_metadata=types.GroundingMetadata(
            web_search_queries=["parcels"],
            search_entry_point=types.SearchEntryPoint(rendered_content="<b>", sdk_blob=b"\xff\xfe"),
        ),
        usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=3, total_token_count=5),
        custom_metadata={"none": None, "deep": {"none": None}},
        output={"none": None},
        error_code="E",
        turn_complete=True,
        actions=EventActions(
            artifact_delta={"file.png": 1},
            agent_state={"step": None},
            route=["a", 1, True],
            transfer_to_agent="other",
            compaction=EventCompaction(
                start_timestamp=1.1,
                end_timestamp=2.2,
                compacted_content=types.Content(role="model", parts=[types.Part(text="In short")]),
            ),
        ),
    )


async def test_an_event_comes_back_as_it_was(service: BaseSessionService) -> None:
    session, event = await _new(service), _full_event()
    expected = event.model_copy(deep=True)

    assert await service.append_event(session, event) == expected

    found = await _get(service, session)
    assert found.events == session.events == [expected]
    assert found == session
    assert found.last_update_time == session.last_update_time == pytest.approx(1_742_000_000.123457, abs=1e-6)


async def test_a_session_has_all_its_events_in_order(service: BaseSessionService) -> None:
    session = await _new(service)
    for number in range(5):
        await service.append_event(session, _event(f"Number {number}", {"number": number}, at=100.0 + number))

    found = await _get(service, session)

    assert found == session
    assert [event.timestamp for event in found.events] == [100.0, 101.0, 102.0, 103.0, 104.0]


async def test_those_who_hold_the_same_session_may_append_at_once(service: BaseSessionService) -> None:
    session = await _new(service)

    await asyncio.gather(*(service.append_event(session, _event(f"{number}", at=float(number))) for number in range(4)))

    assert await _get(service, session) == session
    assert [event.timestamp for event in session.events] == [0.0, 1.0, 2.0, 3.0]


WANTED: Final[list[tuple[dict[str, Any], list[int]]]] = [
    ({"num_recent_events": 0}, []),
    ({"num_recent_events": 2}, [103, 104]),
    ({"num_recent_events": 9}, [100, 101, 102, 103, 104]),
    ({"after_timestamp": 102.0}, [102, 103, 104]),
    ({"after_timestamp": 105.0}, []),
    ({"after_timestamp": 0.0}, [100, 101, 102, 103, 104]),
    ({"num_recent_events": 2, "after_timestamp": 101.0}, [103, 104]),
    ({"num_recent_events": 4, "after_timestamp": 103.0}, [103, 104]),
]


async def test_only_the_events_that_are_wanted_are_got(service: BaseSessionService) -> None:
    session = await _new(service)
    for number in range(5):
        await service.append_event(session, _event("Hello", {"number": number}, at=100.0 + number))

    for config, expected in WANTED:
        found = await _get(service, session, **config)
        assert [event.timestamp for event in found.events] == expected
        assert (found.state, found.last_update_time) == ({"number": 4}, 104.0)


async def test_sessions_are_listed_without_events_the_last_updated_at_the_end(service: BaseSessionService) -> None:
    for session_id, user_id, at in (("1", "ann", 300.0), ("2", "bob", 100.0), ("3", "ann", 200.0), ("4", "", 100.0)):
        session = await service.create_session(
            app_name="shop", user_id=user_id, session_id=session_id, state={"n": session_id}
        )
        await service.append_event(session, _event("Hello", at=at, state={"user:y": user_id, "app:x": 1}))
    await service.create_session(app_name="bank", user_id="ann", session_id="5")

    everybody = (await service.list_sessions(app_name="shop")).sessions
    assert [(each.id, each.user_id, each.last_update_time) for each in everybody] == [
        ("4", "", 100.0),
        ("2", "bob", 100.0),
        ("3", "ann", 200.0),
        ("1", "ann", 300.0),
    ]
    assert all(each.events == [] for each in everybody)
    assert [each.state for each in everybody] == [
        {"n": each.id, "user:y": each.user_id, "app:x": 1} for each in everybody
    ]
    assert (await service.list_sessions(app_name="shop", user_id="ann")).sessions == everybody[2:]
    assert (await service.list_sessions(app_name="shop", user_id="")).sessions == everybody[:1]
    assert (await service.list_sessions(app_name="shop", user_id="eve")).sessions == []
    assert (await service.list_sessions(app_name="none")).sessions == []


async def test_a_deleted_session_is_gone_and_what_it_shared_stays(service: BaseSessionService) -> None:
    session = await _new(service, "s", {"z": 1, "user:y": 2})
    await service.append_event(session, _event("Hello"))

    for _ in range(2):  # once more is fine
        await service.delete_session(app_name="shop", user_id="ann", session_id="s")

    assert await service.get_session(app_name="shop", user_id="ann", session_id="s") is None
    assert (await service.list_sessions(app_name="shop")).sessions == []
    for event in (_event("Hello?"), _event("Hello?", {"user:y": 3})):
        with pytest.raises(SessionNotFoundError):
            await service.append_event(session, event)
    again = await _new(service, "s")
    assert again.state == {"user:y": 2}
    assert (await _get(service, again)).events == []


async def test_a_session_of_another_user_is_not_found(service: BaseSessionService) -> None:
    await _new(service, "s")

    assert await service.get_session(app_name="shop", user_id="bob", session_id="s") is None
    assert await service.get_session(app_name="bank", user_id="ann", session_id="s") is None


async def test_the_state_of_a_user_is_had_without_a_session(service: BaseSessionService) -> None:
    assert await service.get_user_state(app_name="shop", user_id="ann") == {}
    await _new(service, state={"user:y": 1, "z": 2, "app:x": 3})
    session = await _new(service)
    await service.append_event(session, _event(state={"user:none": None}))

    assert await service.get_user_state(app_name="shop", user_id="ann") == {"y": 1, "none": None}
    assert await service.get_user_state(app_name="shop", user_id="bob") == {}
    assert await service.get_user_state(app_name="bank", user_id="ann") == {}


async def test_a_session_that_was_copied_as_json_takes_events_while_it_is_current(service: BaseSessionService) -> None:
    session = await _new(service)
    await service.append_event(session, _event("One"))

    for _ in range(2):
        copy = Session.model_validate_json((await _get(service, session)).model_dump_json())
        copy.last_update_time -= 1  # as when it was put together by hand
        await service.append_event(copy, _event("More"))

        session = await _get(service, session)
        assert session.events == copy.events


class Clerk(BaseAgent):
    """Answers with what it was told before, as a model would: in pieces, then whole."""

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        told = [part.text for event in ctx.session.events for part in (event.content and event.content.parts) or ()]
        for partial in (True, False):
            yield Event(
                invocation_id=ctx.invocation_id,
                author=self.name,
                partial=partial,
                content=types.Content(role="model", parts=[types.Part(text=f"I know: {told}")]),
                actions=EventActions(state_delta={"turns": ctx.session.state.get("turns", 0) + 1, "temp:t": 1}),
            )


async def test_a_runner_goes_on_where_the_last_one_stopped(service: BaseSessionService) -> None:
    session = await _new(service)
    for text in ("One", "Two"):
        runner = Runner(app_name="shop", agent=Clerk(name="clerk"), session_service=service)
        message = types.Content(role="user", parts=[types.Part(text=text)])
        async for _ in runner.run_async(user_id="ann", session_id=session.id, new_message=message):
            pass
        await runner.close()

    found = await _get(service, session)

    first = "I know: ['One']"
    said = [
        (event.author, event.content.parts[0].text) for event in found.events if event.content and event.content.parts
    ]
    assert said == [("user", "One"), ("clerk", first), ("user", "Two"), ("clerk", f"I know: {['One', first, 'Two']}")]
    assert found.state == {"turns": 2}


@only_stores
async def test_of_two_who_append_to_the_same_version_one_is_told(service: BaseSessionService) -> None:
    session = await _new(service)
    await service.append_event(session, _event("Hello"))
    first, second = await _get(service, session), await _get(service, session)

    results = await asyncio.gather(
        service.append_event(first, _event("One", {"z": 1})),
        service.append_event(second, _event("Two", {"z": 2})),
        return_exceptions=True,
    )

    [refused] = [result for result in results if isinstance(result, BaseException)]
    assert isinstance(refused, StaleSessionError)
    assert "modified in storage" in str(refused)
    [won] = [held for held in (first, second) if len(held.events) == 2]
    assert await _get(service, won) == won


@only_stores
async def test_a_stale_session_changes_nothing_whatever_it_brings(service: BaseSessionService) -> None:
    session = await _new(service, state={"app:x": 1, "user:y": 1})
    stale = await _get(service, session)
    copied = Session.model_validate_json(stale.model_dump_json())
    await service.append_event(session, _event("Hello"))

    for held in (stale, copied):
        with pytest.raises(StaleSessionError, match="modified in storage"):
            await service.append_event(held, _event(state={"app:x": 2, "user:y": 2, "z": 2}))

    found = await _get(service, session)
    assert found.state == {"app:x": 1, "user:y": 1}
    assert len(found.events) == 1


@only_ours
async def test_sixteen_writers_do_not_disturb_one_another(service: BaseSessionService) -> None:
    async def write(number: int) -> None:
        session = await service.create_session(app_name="shop", user_id=f"user-{number % 4}", session_id=str(number))
        for turn in range(4):
            await service.append_event(
                session, _event(f"{turn}", {"turn": turn, f"app:{number}": turn, "user:y": turn})
            )
        assert (await _get(service, session)).events == session.events

    await asyncio.gather(*(write(number) for number in range(16)))

    listed = (await service.list_sessions(app_name="shop")).sessions
    everybody = {f"app:{number}": 3 for number in range(16)}
    assert len(listed) == 16
    assert all(each.state == {"turn": 3, "user:y": 3, **everybody} for each in listed)


@only_ours
async def test_what_was_said_can_be_read_without_the_framework(
    service: BaseSessionService, client: AsyncClient
) -> None:
    session = await _new(service, "s")
    result = types.FunctionResponse(id="call-1", name="pay", response={"ok": "depot"})
    await service.append_event(session, _event("Where is my parcel?"))
    await service.append_event(session, _full_event())
    await service.append_event(
        session, Event(author="clerk", content=types.Content(parts=[types.Part(function_response=result)]))
    )

    messages = [message async for message in client.messages.iterate("adk:shop:ann:s")]
    parts = [[part for part in message.content if isinstance(part, dict)] for message in messages]

    assert [[part.get(part["type"]) for part in of_one[:-1]] for of_one in parts] == [
        ["Where is my parcel?"],
        [
            "Here it is.",
            {"id": "call-1", "name": "pay", "args": {"a": None, "b": [1.5, True]}},
            "Anything else? \0 ü 🙂",
        ],
        [{"id": "call-1", "name": "pay", "response": {"ok": "depot"}}],
    ]
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    found = {word: len((await client.messages.search(word)).data) for word in ("parcel", "depot", "clerk", "parcels")}
    assert found == {"parcel": 1, "depot": 1, "clerk": 0, "parcels": 0}
    stored = await client.sessions.get("adk:shop:ann:s")
    assert (stored.agent_id, stored.user_id) == ("shop", "ann")


@only_ours
async def test_what_others_say_in_the_session_is_an_event(service: BaseSessionService, client: AsyncClient) -> None:
    session = await _new(service, "s")
    await client.messages.append("adk:shop:ann:s", "Is anybody there?", start_run=False)
    await client.messages.append("adk:shop:ann:s", [{"text": "I am."}, {"type": "image"}], role="assistant")

    with pytest.raises(StaleSessionError):
        await service.append_event(session, _event("Hello"))
    found = await _get(service, session)
    await service.append_event(found, _event("Hello"))

    said = [
        (event.author, event.content.parts[0].text) for event in found.events if event.content and event.content.parts
    ]
    assert said == [("user", "Is anybody there?"), ("assistant", 'I am.\n{"type":"image"}'), ("user", "Hello")]


@only_ours
async def test_a_long_session_is_read_page_by_page(service: BaseSessionService, client: AsyncClient) -> None:
    session = await _new(service, "s")
    for batch in (range(1000), range(1000, 1010)):
        messages = [{"content": str(number)} for number in batch]
        await client.messages.append_batch("adk:shop:ann:s", messages, start_run=False)

    assert _said(await _get(service, session)) == [("user", str(number)) for number in range(1010)]
    recent = await _get(service, session, num_recent_events=1005)
    assert _said(recent) == [("user", str(number)) for number in range(5, 1010)]


def test_without_the_framework_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.adk.errors", None)
    monkeypatch.delitem(sys.modules, "sessiond.integrations.google_adk")

    with pytest.raises(ImportError, match=r"pip install 'sessiond\[google-adk\]'"):
        importlib.import_module("sessiond.integrations.google_adk")
