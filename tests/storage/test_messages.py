"""Messages taken back: gone from every reading of a log, whose other events stay as they are."""

from __future__ import annotations

import msgspec
import pytest

from sessiond.core.event import StoredMessage
from sessiond.core.session import Session
from sessiond.storage import events, messages, resealing, seals, sessions
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.resealing import Held
from tests.storage.making import WORKSPACE, add, append, make_append, make_session, must_find, query, read_log, said
from tests.storage.test_resealing import move, rotate
from tests.storage.test_seals import make_workspace


async def take_last(engine: Engine) -> str | None:
    """Take the last message of the session `s` back; return what it said."""

    async def operation(tx: Tx) -> StoredMessage | None:
        before = await sessions.take(tx, WORKSPACE, "s", user_id=None)
        taken = await messages.take_last(tx, before)
        if taken is None:
            return None
        await sessions.save(tx, before, taken[0])
        return taken[1]

    message = await engine.write(operation)
    return msgspec.json.decode(message.body)["content"] if message is not None else None


async def readings(engine: Engine, session: Session, *, sealed: bool) -> list[list[int]]:
    """Return the seqs of all messages, by each way to read them."""

    async def operation(tx: Tx) -> list[list[int]]:
        page = await events.read_message_page(tx, session, limit=100)
        history = await events.read_history(tx, session, input_seq=session.last_seq, until=0, limit=100)
        whole = (await events.read_messages(tx, [session]))[session.id]
        places = [(session.id, seq) for seq in range(1, session.last_seq + 1)]
        tails = await events.read_tails(tx, WORKSPACE, [(session.id, 0, session.last_seq)], limit=100, sealed=sealed)
        at = await events.read_messages_at(tx, WORKSPACE, places, sealed=sealed)
        return [sorted(message.seq for message in found) for found in (page.events, history, whole, tails, at)]

    return await engine.scan(operation)


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_message_that_is_taken_back_is_gone_from_every_reading(engine: Engine, sealed: bool) -> None:
    if sealed:
        await make_workspace(engine)
    await add(engine, make_session("s"))
    await append(engine, make_append("s", *said("one", "two", "three")))
    log = (await read_log(engine, "s")).events

    assert [await take_last(engine) for _ in range(2)] == ["three", "two"]

    session, now = await must_find(engine, "s"), (await read_log(engine, "s")).events
    assert await readings(engine, session, sealed=sealed) == [[1]] * 5
    assert now[0] == log[0]
    assert [(event.seq, event.type, event.body, event.action) for event in now[1:]] == [
        (2, "removed", b"{}", None),
        (3, "removed", b"{}", None),
    ]
    assert (session.message_count, session.last_seq) == (1, 3)
    assert session.log_bytes == sum(len(event.body) for event in now)
    assert [await take_last(engine) for _ in range(2)] == ["one", None]
    assert (await must_find(engine, "s")).message_count == 0


async def test_messages_are_taken_back_while_their_log_is_sealed_anew_opened_and_sealed(
    engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "PIECE_EVENTS", 2)
    await make_workspace(engine)
    await add(engine, make_session("s"))
    await append(engine, make_append("s", *said(*map(str, range(12)))))
    first = (await engine.read(lambda tx: seals.read_state(tx, WORKSPACE))).key_id
    taken = list[str | None]()

    for root_id in (await rotate(engine), None, first):
        # Of each text it is another half that has been moved when its message is taken back.
        await move(engine, "s", root_id)
        taken += [await take_last(engine), await take_last(engine), await take_last(engine)]
        while not (await move(engine, "s", root_id))[1]:
            pass
        assert [event.type for event in (await read_log(engine, "s")).events[-len(taken) :]] == ["removed"] * len(taken)
        held = await engine.scan(lambda tx: resealing.count_held(tx, WORKSPACE))
        assert held == [Held("events", root_id or resealing.PLAIN_KEY, 12)]

    assert taken == list(map(str, range(11, 2, -1)))
    bodies = await query(database, "select body from events order by seq")
    assert all(bytes(body)[:1] != b"{" for (body,) in bodies)
