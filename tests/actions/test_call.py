"""A call: what it writes under one idempotency key it writes once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sessiond.actions import messages, sessions
from sessiond.actions.call import Call
from sessiond.actions.sessions import SessionPatch
from sessiond.core.errors import Conflict, KeyReused
from sessiond.core.session import NewSession, SessionFilter, Status
from sessiond.storage.engine import Engine
from tests.actions.calling import ELSEWHERE, ME, caller, create, make_workspaces, retried, text

Ask = Callable[[Call], Awaitable[str]]

ASKED: dict[str, Ask] = {
    "create": lambda call: sessions.create(
        call, NewSession(), lambda made: made.session.etag, session_id=call.new_id("s"), messages=[text("x")]
    ),
    "append": lambda call: messages.append(call, "waiting", [text("a"), text("b")], lambda made: f"{made[0].seq}"),
    "patch": lambda call: sessions.patch(
        call, "waiting", SessionPatch(metadata={"n": 1}), lambda session: f"{session.last_seq}"
    ),
    "complete": lambda call: sessions.complete(call, "waiting", lambda session: f"{session.completed_at_us}"),
    "delete": lambda call: sessions.delete(call, "waiting", lambda _: "gone"),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_a_write_asked_for_many_times_at_once_happens_once(engine: Engine, ask: Ask) -> None:
    await make_workspaces(engine)
    before = await create(engine, "waiting", agent_id="a")
    operations = engine.load().operations

    answers = await asyncio.gather(*(ask(Call(engine, ME, retry=retried("k"))) for _ in range(16)))

    assert len(set(answers)) == 1
    assert engine.load().operations == operations + 16
    found = await sessions.read_page(Call(engine, ME), SessionFilter(), limit=10, with_total=True)
    assert found.total == {"create": 2, "delete": 0}.get(_name_of(ask), 1)
    if _name_of(ask) in {"append", "patch", "complete"}:
        after = await sessions.get(Call(engine, ME), "waiting")
        assert after.last_seq == before.last_seq + {"append": 3, "patch": 1, "complete": 1}[_name_of(ask)]
    assert await ask(Call(engine, ME, retry=retried("k"))) == answers[0]


def _name_of(ask: Ask) -> str:
    return next(name for name, one in ASKED.items() if one is ask)


async def test_a_key_is_for_one_request_of_one_workspace_and_user(engine: Engine) -> None:
    async def ask(call: Call) -> str:
        return await sessions.create(call, NewSession(), lambda made: made.session.id, session_id=call.new_id("s"))

    first = await ask(Call(engine, ME, retry=retried("k")))

    with pytest.raises(KeyReused):
        await ask(Call(engine, ME, retry=retried("k", "another request")))
    others = [
        await ask(Call(engine, who, retry=retried("k", "another request")))
        for who in (caller(workspace=ELSEWHERE), caller(user_id="me"))
    ]
    assert len({first, *others}) == 3
    assert await ask(Call(engine, ME, retry=retried("k"))) == first


async def test_a_refusal_is_not_kept_and_leaves_nothing(engine: Engine) -> None:
    await create(engine, "s")
    await sessions.complete(Call(engine, ME), "s", str)

    async def ask() -> str:
        call = Call(engine, ME, retry=retried("k"))
        return await messages.append(call, "s", [text("x")], lambda made: f"{made[0].seq}")

    with pytest.raises(Conflict):
        await ask()
    await sessions.patch(Call(engine, ME), "s", SessionPatch(status=Status.ACTIVE), str)
    assert await ask() == "4"
    assert await ask() == "4"


async def test_an_answer_that_cannot_be_made_leaves_nothing(engine: Engine) -> None:
    await create(engine, "s")

    def answer(_: object) -> str:
        raise LookupError

    call = Call(engine, ME, retry=retried("k"))
    with pytest.raises(LookupError):
        await messages.append(call, "s", [text("x")], answer)

    assert (await sessions.get(Call(engine, ME), "s")).last_seq == 1


async def test_new_ids_sort_in_the_order_of_their_making(engine: Engine) -> None:
    call = Call(engine, ME)

    made = [call.new_id("sess_") for _ in range(1_000)]

    assert made == sorted(set(made))


async def test_a_request_that_changes_nothing_takes_its_key_too(engine: Engine) -> None:
    for _ in range(2):
        await Call(engine, ME, retry=retried("k")).claim()
    await Call(engine, ME).claim()

    with pytest.raises(KeyReused):
        await Call(engine, ME, retry=retried("k", "another")).claim()
