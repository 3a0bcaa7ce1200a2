"""Messages: appended in order, all or none, and read back exactly."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from sessiond.actions import events, messages, sessions
from sessiond.actions import messages as message_actions
from sessiond.actions.call import Call, itself
from sessiond.actions.sessions import SessionPatch
from sessiond.core.errors import Conflict, NotFound
from sessiond.core.ids import make_event_id
from sessiond.core.message import Message, Role, unpack_message
from sessiond.core.session import Session, Status
from sessiond.storage.engine import Engine
from tests.actions.calling import ME, append, create, gathered, retried, text


async def get(engine: Engine, session_id: str = "s") -> Session:
    return await sessions.get(Call(engine, ME), session_id)


async def texts(engine: Engine, session_id: str = "s") -> list[str]:
    read = messages.read_all(Call(engine, ME), await get(engine, session_id))
    return [msgspec.json.decode(unpack_message(event.body).content) for event in await gathered(read)]


async def test_the_first_message_activates_a_created_session_once(engine: Engine) -> None:
    await create(engine, "s", agent_id="a")

    appended = await asyncio.gather(*(append(engine, "s", f"{number}a", f"{number}b") for number in range(16)))

    log = await gathered(events.read_all(Call(engine, ME), await get(engine)))
    assert [event.type for event in log[:2]] == ["session.created", "session.activated"]
    assert {event.type for event in log[2:]} == {"message.user"}
    assert sorted(event.seq for pair in appended for event in pair) == list(range(3, 35))
    assert all(pair == log[pair[0].seq - 1 : pair[0].seq + 1] for pair in appended), "a batch stays together"
    assert (await get(engine)).status is Status.ACTIVE


async def test_a_paused_session_keeps_messages_for_later(engine: Engine) -> None:
    await create(engine, "s")
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=Status.PAUSED), itself)

    await append(engine, "s", "x")
    call = Call(engine, ME, retry=retried("k"))
    await messages.append(call, "s", [text("y")], lambda made: f"{made[0].seq}")

    assert await texts(engine) == ["x", "y"]
    assert (await get(engine)).status is Status.PAUSED


async def test_an_append_that_is_refused_says_why_and_leaves_nothing(engine: Engine) -> None:
    ended = await create(engine, "s")
    ended = await sessions.complete(Call(engine, ME), "s", itself)

    with pytest.raises(Conflict, match="completed"):
        await append(engine, "s", "x", "y")
    with pytest.raises(NotFound):
        await append(engine, "none", "x")

    assert await get(engine) == ended


async def test_content_and_metadata_come_back_as_they_were_sent(engine: Engine) -> None:
    await create(engine, "s")
    content = b'[{"type": "x", "n": 123456789012345678901234567890, "nul": "\\u0000", "f": 1.10 }]'
    sent = Message(role=Role.TOOL, content=msgspec.Raw(content), metadata=msgspec.Raw(b'{"a": 1}'))

    (made,) = await messages.append(Call(engine, ME), "s", [sent], itself)

    found = await messages.get(Call(engine, ME), "s", make_event_id("msg", "s", made.seq))
    assert found == made
    kept = unpack_message(found.body)
    assert (bytes(kept.content), bytes(kept.metadata)) == (content, b'{"a": 1}')


async def test_only_the_id_of_a_message_of_this_session_finds_one(engine: Engine) -> None:
    await create(engine, "s")
    await create(engine, "t")
    await append(engine, "s", "x")
    await append(engine, "t", "x")

    for wrong in ("msg_1.s", "msg_3.s", "msg_2.t", "msg_2", "2", "", "msg_2.s\0", f"msg_{2**63 - 1}.s"):
        with pytest.raises(NotFound):
            await messages.get(Call(engine, ME), "s", wrong)
    assert (await messages.get(Call(engine, ME), "s", "msg_2.s")).seq == 2


@pytest.mark.parametrize("together", [True, False])
async def test_the_messages_of_several_sessions_are_read_each_under_its_own(
    engine: Engine, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not together:
        monkeypatch.setattr(message_actions, "TOGETHER_MAX_BYTES", 10)
    for name in "abc":
        await create(engine, name)
    await append(engine, "a", "1", "2")
    await append(engine, "c", *(f"{number}" for number in range(150)))
    await append(engine, "c", *(f"{number}" for number in range(150, 300)))
    wanted = [await get(engine, name) for name in "cab"]

    found = {
        session.id: [event.seq for event in await gathered(pages)]
        async for session, pages in messages.read_each(Call(engine, ME), wanted)
    }

    assert found == {"c": list(range(2, 302)), "a": [2, 3], "b": []}
    assert list(found) == ["c", "a", "b"]
