"""Sessions through their life: made, changed, ended, opened again, deleted."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sessiond.actions import events, messages, sessions
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import Created, IfExists, SessionPatch
from sessiond.core.errors import Conflict, InvalidInput, NotFound, PreconditionFailed, TooLarge
from sessiond.core.limits import METADATA_MAX_BYTES
from sessiond.core.metadata import pack_metadata, unpack
from sessiond.core.page import pack_cursor, position_of
from sessiond.core.session import NewSession, Session, SessionFilter, Sort, Status
from sessiond.storage.engine import Engine
from tests.actions.calling import ME, append, create, gathered, make_workspaces, text


async def get(engine: Engine, session_id: str = "s") -> Session:
    return await sessions.get(Call(engine, ME), session_id)


async def log_of(engine: Engine, session_id: str = "s") -> list[tuple[str, str | None, Any]]:
    read = events.read_all(Call(engine, ME), await get(engine, session_id))
    return [(event.type, event.action, msgspec.json.decode(event.body)) for event in await gathered(read)]


async def patch(engine: Engine, *, if_match: str | None = None, **changes: Any) -> Session:
    return await sessions.patch(Call(engine, ME, if_match=if_match), "s", SessionPatch(**changes), itself)


async def test_a_session_begins_with_its_messages_in_one_piece(engine: Engine) -> None:
    new = NewSession(agent_id="a", name="n", metadata=pack_metadata({"k": [1]}))

    made = await sessions.create(Call(engine, ME), new, itself, session_id="s", messages=[text("x"), text("y")])

    assert made == Created(await get(engine), new=True)
    assert (made.session.status, made.session.message_count, made.session.last_seq) == (Status.ACTIVE, 2, 4)
    log = await log_of(engine)
    assert [(kind, action) for kind, action, _ in log] == [
        *(("session.created", "create_session"), ("session.activated", None)),
        *(("message.user", "send_message"), ("message.user", "send_message")),
    ]
    assert log[0][2] == {"agent_id": "a", "name": "n", "metadata": {"k": [1]}}
    assert made.session.log_bytes == sum(
        len(event.body) for event in await gathered(events.read_all(Call(engine, ME), made.session))
    )


async def test_a_taken_id_is_a_conflict_or_the_session_that_is_there(engine: Engine) -> None:
    there = await create(engine, "s")

    async def again(if_exists: IfExists) -> Created:
        new = NewSession(name="other")
        return await sessions.create(
            Call(engine, ME), new, itself, session_id="s", messages=[text("x")], if_exists=if_exists
        )

    with pytest.raises(Conflict) as refused:
        await again(IfExists.ERROR)
    assert refused.value.field == "id"
    assert await again(IfExists.RETURN) == Created(there, new=False)
    assert await get(engine) == there


async def test_of_many_who_make_one_session_at_once_one_does(engine: Engine) -> None:
    made = await asyncio.gather(
        *(
            sessions.create(
                Call(engine, ME), NewSession(), itself, session_id="s", messages=[text("x")], if_exists=IfExists.RETURN
            )
            for _ in range(16)
        )
    )

    assert sorted(created.new for created in made) == [False] * 15 + [True]
    assert {created.session for created in made} == {await get(engine)}


async def test_a_patch_changes_what_it_names_and_nothing_else(engine: Engine) -> None:
    new = NewSession(name="n", task_id="t", metadata=pack_metadata({"a": 1, "b": {"c": 2, "d": 3}}), prompt="p")
    before = (await sessions.create(Call(engine, ME), new, itself, session_id="s")).session

    after = await patch(engine, name="m", task_id=None, metadata={"a": None, "b": {"c": 4}, "e": True}, data={"x": [1]})

    assert after == await get(engine)
    assert (after.name, after.task_id, after.prompt) == ("m", None, "p")
    assert unpack(after.metadata) == {"b": {"c": 4, "d": 3}, "e": True}
    assert unpack(after.data) == {"x": [1]}
    assert after.updated_at_us > before.updated_at_us
    assert after.last_active_at_us == before.last_active_at_us
    said = {"name": "m", "task_id": None, "metadata": {"a": None, "b": {"c": 4}, "e": True}, "data": {"x": [1]}}
    assert (await log_of(engine))[1:] == [("session.updated", "update_session", said)]
    emptied = await patch(engine, metadata=None, data=None, prompt=None)
    assert (emptied.metadata, emptied.data, emptied.prompt) == (None, None, None)


async def test_a_patch_that_changes_nothing_is_no_event_and_no_new_version(engine: Engine) -> None:
    new = NewSession(name="n", metadata=pack_metadata({"a": 1}))
    before = (await sessions.create(Call(engine, ME), new, itself, session_id="s")).session

    nothing: list[dict[str, Any]] = [
        {},
        {"name": "n"},
        {"metadata": {"a": 1, "z": None}},
        {"status": Status.ACTIVE},
        {"data": {}},
    ]
    for changes in nothing:
        assert await patch(engine, **changes) == before
    assert len(await log_of(engine)) == 1


async def test_a_patch_of_status_and_fields_is_one_step_and_two_events(engine: Engine) -> None:
    await create(engine, "s")

    paused = await patch(engine, status=Status.PAUSED)
    ended = await patch(engine, status=Status.FAILED, name="n")
    opened = await patch(engine, status=Status.ACTIVE)

    assert [session.status for session in (paused, ended, opened)] == [Status.PAUSED, Status.FAILED, Status.ACTIVE]
    assert [session.completed_at_us is not None for session in (paused, ended, opened)] == [False, True, False]
    log = (await log_of(engine))[1:]
    assert [(kind, action) for kind, action, _ in log] == [
        ("session.paused", "update_session"),
        ("session.updated", "update_session"),
        ("session.failed", None),
        ("session.activated", "update_session"),
    ]
    assert log[0][2]["input"] == {"status": "paused"}
    assert log[1][2] == {"name": "n", "status": "failed"}
    assert await append(engine, "s", "it goes on")


async def test_a_patch_that_is_refused_leaves_nothing(engine: Engine) -> None:
    before = await create(engine, "s", agent_id="a")

    with pytest.raises(Conflict, match=r"created.*paused"):
        await patch(engine, status=Status.PAUSED, name="x")
    with pytest.raises(TooLarge):
        await patch(engine, name="x", metadata={"k": "x" * METADATA_MAX_BYTES})
    with pytest.raises(PreconditionFailed):
        await patch(engine, name="x", if_match='"other"')
    with pytest.raises(NotFound):
        await sessions.patch(Call(engine, ME), "none", SessionPatch(name="x"), itself)

    assert await get(engine) == before


async def test_patches_at_once_all_take_effect(engine: Engine) -> None:
    await create(engine, "s")

    await asyncio.gather(*(patch(engine, metadata={f"k{number}": number}) for number in range(12)))

    after = await get(engine)
    assert unpack(after.metadata) == {f"k{number}": number for number in range(12)}
    assert after.last_seq == 13


async def test_of_two_writers_who_saw_the_same_version_one_writes(engine: Engine) -> None:
    seen = (await create(engine, "s")).etag

    results = await asyncio.gather(
        *(patch(engine, name=f"n{number}", if_match=seen) for number in range(5)), return_exceptions=True
    )

    assert sorted(type(result).__name__ for result in results) == ["PreconditionFailed"] * 4 + ["Session"]
    winner = next(result for result in results if isinstance(result, Session))
    assert winner == await get(engine)
    for stale in (seen, '"other"'):
        for act in (sessions.complete, sessions.fail, sessions.delete):
            with pytest.raises(PreconditionFailed):
                await act(Call(engine, ME, if_match=stale), "s", itself)
        with pytest.raises(PreconditionFailed):
            await messages.append(Call(engine, ME, if_match=stale), "s", [text("x")], itself)
    await messages.append(Call(engine, ME, if_match=f'"other", {winner.etag}'), "s", [text("x")], itself)


@pytest.mark.parametrize("well", [True, False])
async def test_a_session_ends_once(engine: Engine, well: bool) -> None:
    await create(engine, "s", agent_id="a")
    end, other = (sessions.complete, sessions.fail) if well else (sessions.fail, sessions.complete)

    ended = await end(Call(engine, ME), "s", itself, reason="done")
    again = await end(Call(engine, ME), "s", itself, reason="more")

    assert ended == again == await get(engine)
    assert (ended.status, ended.completed_at_us) == (Status.COMPLETED if well else Status.FAILED, ended.updated_at_us)
    with pytest.raises(Conflict, match=ended.status):
        await other(Call(engine, ME), "s", itself)
    with pytest.raises(Conflict, match=ended.status):
        await append(engine, "s", "too late")
    kind, action, body = (await log_of(engine))[-1]
    assert (kind, action) == (f"session.{ended.status}", "complete_session" if well else "fail_session")
    assert body == {
        "from": "created",
        "status": ended.status,
        "reason": "done",
        "input": {"reason": "done"},
        "output": {"status": ended.status},
    }


async def test_a_deleted_session_is_gone_and_its_id_is_free_for_a_new_one(engine: Engine) -> None:
    await make_workspaces(engine)
    first = await create(engine, "s")
    await append(engine, "s", "x")

    await sessions.delete(Call(engine, ME), "s", itself)

    for act in (sessions.get(Call(engine, ME), "s"), sessions.delete(Call(engine, ME), "s", itself)):
        with pytest.raises(NotFound):
            await act
    second = await create(engine, "s")
    assert second.etag != first.etag
    assert len(await log_of(engine)) == 1


async def test_a_list_is_read_by_cursor_with_its_total(engine: Engine) -> None:
    for number in range(7):
        await create(engine, f"s{number}", agent_id="a" if number % 2 else None)
    wanted = SessionFilter(statuses=(Status.ACTIVE, Status.CREATED))

    found, cursor = list[str](), None
    while True:
        page = await sessions.read_page(Call(engine, ME), wanted, limit=3, cursor=cursor, with_total=True)
        found += [session.id for session in page.sessions]
        assert page.total == 7
        if not page.more_after:
            break
        cursor = pack_cursor(position_of(page.sessions[-1], Sort.CREATED, descending=True))

    assert found == [f"s{number}" for number in reversed(range(7))]
    beyond = await sessions.read_page(Call(engine, ME), wanted, limit=3, offset=7, with_total=True)
    assert (beyond.sessions, beyond.more_before, beyond.total) == ([], True, 7)
    far = await sessions.read_page(Call(engine, ME), wanted, limit=1_000, offset=6)
    assert [session.id for session in far.sessions] == ["s0"]
    assert far.total is None
    with pytest.raises(InvalidInput):
        await sessions.read_page(Call(engine, ME), wanted, limit=3, cursor=cursor, descending=False)
