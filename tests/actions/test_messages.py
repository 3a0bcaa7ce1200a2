"""Messages: appended in order, all or none, with data or without; read back exactly; the last of them taken back."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sessiond.actions import events, messages, sessions
from sessiond.actions import messages as message_actions
from sessiond.actions.call import Call, itself
from sessiond.actions.encryption import Mode
from sessiond.actions.messages import Appended, Popped
from sessiond.actions.sessions import SessionPatch
from sessiond.core.bundle import Scope, Subject
from sessiond.core.errors import Conflict, NotFound, PreconditionFailed, TooLarge
from sessiond.core.event import StoredMessage
from sessiond.core.ids import make_event_id
from sessiond.core.limits import DATA_MAX_BYTES
from sessiond.core.message import Message, Role, make_message, unpack_message
from sessiond.core.session import Session, Status
from sessiond.storage.engine import Engine
from tests.actions import working
from tests.actions.bundling import THERE, bring, bundle
from tests.actions.calling import ME, append, create, gathered, make_workspaces, retried, text
from tests.actions.indexing import index_all, look_for
from tests.actions.indexing import texts as texts_found
from tests.actions.sealing import change, with_master


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


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
async def kept(engine: Engine, request: pytest.FixtureRequest) -> Engine:
    """An engine whose workspace is kept in plain text, or sealed."""
    await make_workspaces(engine)
    if request.param:
        await change(with_master(engine), Mode.SERVER)
    return engine


async def log_of(engine: Engine, session_id: str = "s") -> list[tuple[str, Any]]:
    log = await gathered(events.read_all(Call(engine, ME), await get(engine, session_id)))
    return [(event.type, msgspec.json.decode(event.body)) for event in log]


def content_of(message: StoredMessage | None) -> str:
    assert message is not None
    content: str = msgspec.json.decode(unpack_message(message.body).content)
    return content


async def pop(engine: Engine, session_id: str = "s", **terms: Any) -> Popped:
    return await messages.pop(Call(engine, ME, **terms), session_id, itself)


async def test_the_last_message_is_taken_back_and_the_log_says_so_without_its_words(kept: Engine) -> None:
    await create(kept, "s")
    await append(kept, "s", "one", "two")
    before = await get(kept)

    popped = await pop(kept)

    assert content_of(popped.message) == "two"
    assert await log_of(kept) == [
        ("session.created", {}),
        ("message.user", {"role": "user", "content": "one", "metadata": {}}),
        ("removed", {}),
        ("session.message_removed", {"message_id": "msg_3.s", "seq": 3, "role": "user"}),
    ]
    assert popped.session == await get(kept)
    assert (popped.session.message_count, popped.session.last_seq) == (1, 4)
    assert popped.session.etag != before.etag
    with pytest.raises(NotFound):
        await messages.get(Call(kept, ME), "s", "msg_3.s")
    assert content_of((await pop(kept)).message) == "one"
    empty = await get(kept)
    assert await pop(kept) == Popped(empty, None)
    assert await get(kept) == empty


async def test_a_message_is_taken_back_once_for_one_key_and_from_an_open_session_only(engine: Engine) -> None:
    await create(engine, "s")
    await append(engine, "s", "one", "two", "three")

    def answer(popped: Popped) -> str:
        return content_of(popped.message)

    again = [await messages.pop(Call(engine, ME, retry=retried("k")), "s", answer) for _ in range(3)]
    assert again == ["three"] * 3
    seen = await get(engine)
    with pytest.raises(PreconditionFailed):
        await pop(engine, if_match='"1-1"')
    assert content_of((await pop(engine, if_match=seen.etag)).message) == "two"
    with pytest.raises(PreconditionFailed):
        await pop(engine, if_match=seen.etag)
    await sessions.complete(Call(engine, ME), "s", itself)
    with pytest.raises(Conflict, match="completed"):
        await pop(engine)
    assert await texts(engine) == ["one"]


async def test_sixteen_take_back_while_sixteen_append_and_no_message_is_lost_or_taken_twice(engine: Engine) -> None:
    await create(engine, "s")
    await append(engine, "s", *(f"first {number}" for number in range(8)))

    popped, appended = await asyncio.gather(
        asyncio.gather(*(pop(engine) for _ in range(16))),
        asyncio.gather(*(append(engine, "s", f"then {number}") for number in range(16))),
    )

    taken = [content_of(each.message) for each in popped if each.message is not None]
    left = await texts(engine)
    assert sorted(taken + left) == sorted([f"first {n}" for n in range(8)] + [f"then {n}" for n in range(16)])
    session, log = await get(engine), await gathered(events.read_all(Call(engine, ME), await get(engine)))
    assert [event.seq for event in log] == list(range(1, session.last_seq + 1))
    assert session.message_count == len(left)
    assert session.log_bytes == sum(len(event.body) for event in log)
    assert len({made.seq for (made,) in appended}) == 16
    told = {event.seq: msgspec.json.decode(event.body)["seq"] for event in log if event.type.endswith("_removed")}
    assert len(set(told.values())) == len(told) == len(taken)
    # Each took what was the last just then: no message that is left stands in between.
    assert not [event for at, seq in told.items() for event in log[seq:at] if event.is_message]


@pytest.mark.parametrize("indexed", [True, False])
async def test_a_search_does_not_find_what_was_taken_back(kept: Engine, indexed: bool) -> None:
    await create(kept, "s")
    await append(kept, "s", "a quick fox", "a slow fox")
    if indexed:
        await index_all(kept)
    assert texts_found(await look_for(kept, "fox")) == ["a slow fox", "a quick fox"]

    await pop(kept)

    for _ in range(2):
        for asked in ("fox", '"quick fox"'):
            assert texts_found(await look_for(kept, asked)) == ["a quick fox"]
            assert texts_found(await look_for(kept, asked, session_id="s")) == ["a quick fox"]
        assert texts_found(await look_for(kept, "slow")) == []
        await index_all(kept)


async def test_a_session_of_which_something_was_taken_back_is_exported_and_imported(engine: Engine) -> None:
    await make_workspaces(engine)
    await create(engine, "s")
    await append(engine, "s", "one", "a word to be gone")
    await pop(engine)
    before, log = await get(engine), await log_of(engine)

    lines = await bundle(engine, Subject(Scope.SESSION, "s"))
    await bring(engine, lines, by=THERE)

    assert b"to be gone" not in b"".join(lines)
    there = await sessions.get(Call(engine, THERE), "s")
    brought = await gathered(events.read_all(Call(engine, THERE), there))
    assert [(event.type, msgspec.json.decode(event.body)) for event in brought] == log
    assert (there.message_count, there.last_seq, there.etag) == (1, before.last_seq, before.etag)
    assert there.log_bytes == before.log_bytes
    assert content_of((await messages.pop(Call(engine, THERE), "s", itself)).message) == "one"


async def test_a_run_goes_on_whose_message_or_answer_was_taken_back(engine: Engine) -> None:
    await working.register(engine)
    await working.begin(engine, "s", "first")
    await working.do_one(engine, "an answer")
    run_id = await working.send(engine, "second")

    assert content_of((await pop(engine)).message) == "second"
    assert content_of((await pop(engine)).message) == "an answer"

    taken = await working.take(engine)
    brief = await working.brief_of(engine, taken)
    assert (brief.run_id, bytes(brief.input or b"")) == (run_id, b'"second"')
    assert await working.history(engine, taken) == ["first"]
    assert (await pop(engine)).message is not None, "while it is under way"
    done = await working.finish(engine, taken, output="another answer")
    assert done is not None
    assert await texts(engine) == ["another answer"]


async def test_data_is_changed_with_an_append_and_said_before_it(kept: Engine) -> None:
    await create(kept, "s", agent_id="a")
    await sessions.patch(Call(kept, ME), "s", SessionPatch(data={"step": 1, "gone": True}), itself)

    made = await say_with(kept, {"step": 2, "gone": None, "deep": {"a": 1}}, "x", "y")

    assert [event.seq for event in made.events] == [5, 6]
    assert [type for type, _ in (await log_of(kept))[2:]] == [
        "session.updated",
        "session.activated",
        "message.user",
        "message.user",
    ]
    assert (await log_of(kept))[2][1] == {"data": {"step": 2, "gone": None, "deep": {"a": 1}}}
    assert made.session == await get(kept)
    assert (made.session.status, msgspec.json.decode(made.session.data or b"")) == (
        Status.ACTIVE,
        {"step": 2, "deep": {"a": 1}},
    )
    for nothing_new in ({}, {"step": 2}, None):
        again = await say_with(kept, nothing_new, "z")
        assert again.session.last_seq == again.events[0].seq == (await get(kept)).last_seq
    assert [type for type, _ in await log_of(kept)].count("session.updated") == 2


async def test_an_append_with_data_that_is_refused_leaves_nothing(engine: Engine) -> None:
    await create(engine, "s")
    seen = await get(engine)
    await append(engine, "s", "meanwhile")
    now = await get(engine)

    with pytest.raises(PreconditionFailed):
        await say_with(engine, {"a": 1}, "x", if_match=seen.etag)
    with pytest.raises(TooLarge):
        await say_with(engine, {"a": "x" * DATA_MAX_BYTES}, "x")
    assert await get(engine) == now

    made = await say_with(engine, {"a": 1}, "x", if_match=now.etag)
    assert (await say_with(engine, None, "y", if_match=made.session.etag)).session == await get(engine)


async def test_an_append_with_data_queues_a_run_as_any_other(engine: Engine) -> None:
    await working.register(engine)
    await working.begin(engine)

    made = await say_with(engine, {"a": 1}, "x")

    taken = await working.take(engine)
    assert (taken.run.id, taken.run.input_seq) == (made.events[0].run_id, made.events[0].seq)
    assert (await working.brief_of(engine, taken)).session.data == {"a": 1}
    assert made.session.last_seq == made.events[0].seq + 1, "it is queued behind what it answers"


async def say_with(engine: Engine, data: dict[str, Any] | None, *contents: str, **terms: Any) -> Appended:
    said = [text(content) for content in contents]
    return await messages.append_in_hand(Call(engine, ME, **terms), "s", said, itself, data=data)


async def test_the_role_of_what_was_taken_back_is_told(engine: Engine) -> None:
    await create(engine, "s")
    for role in Role:
        await messages.append(Call(engine, ME), "s", [make_message(role, "x")], itself)

    for role in reversed(Role):
        await pop(engine)
        assert (await log_of(engine))[-1][1]["role"] == role
