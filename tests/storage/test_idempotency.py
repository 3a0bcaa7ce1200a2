"""Answers kept for requests that come again."""

from __future__ import annotations

import asyncio

import pytest

from sessiond.core.errors import KeyReused
from sessiond.storage import idempotency, sessions
from sessiond.storage.engine import Engine, Tx
from sessiond.storage.idempotency import KEPT, SWEEP_MAX, Claim
from tests.storage.making import ELSEWHERE, NOW, WORKSPACE, make_session, query

LATER = NOW + KEPT.days * 86_400_000_000


def claim_of(key: str = "k", *, request: bytes = b"r", user_id: str = "") -> Claim:
    return Claim(workspace_id=WORKSPACE, user_id=user_id, key=key, fingerprint=request)


async def ask(engine: Engine, claim: Claim, answer: bytes, *, at_us: int = NOW) -> bytes:
    """Do what a request with a key does: answer as before, or anew."""

    async def operation(tx: Tx) -> bytes:
        kept = await idempotency.claim(tx, claim, at_us=at_us)
        if kept is None:
            await idempotency.keep_answer(tx, claim, answer)
        return kept if kept is not None else answer

    return await engine.write(operation)


async def test_the_same_request_gets_its_first_answer_and_another_is_refused(engine: Engine) -> None:
    assert await ask(engine, claim_of(), b"first") == b"first"
    assert await ask(engine, claim_of(), b"second") == b"first"
    with pytest.raises(KeyReused):
        await ask(engine, claim_of(request=b"other"), b"third")
    assert await ask(engine, claim_of(), b"fourth") == b"first"


async def test_keys_of_other_users_and_workspaces_are_other_keys(engine: Engine) -> None:
    await ask(engine, claim_of(), b"first")

    elsewhere = Claim(workspace_id=ELSEWHERE, user_id="", key="k", fingerprint=b"q")
    for claim in (claim_of("other", request=b"q"), claim_of(user_id="me", request=b"q"), elsewhere):
        assert await ask(engine, claim, b"new") == b"new"


async def test_an_answer_is_kept_for_a_day(engine: Engine) -> None:
    await ask(engine, claim_of(), b"first")

    assert await ask(engine, claim_of(), b"second", at_us=LATER) == b"first"
    assert await ask(engine, claim_of(request=b"other"), b"third", at_us=LATER + 1) == b"third"
    assert await ask(engine, claim_of(request=b"other"), b"fourth", at_us=LATER + 2) == b"third"


async def test_a_request_that_failed_may_come_again(engine: Engine) -> None:
    async def fail(tx: Tx) -> None:
        await idempotency.claim(tx, claim_of(), at_us=NOW)
        raise LookupError

    with pytest.raises(LookupError):
        await engine.write(fail)

    assert await ask(engine, claim_of(request=b"other"), b"new") == b"new"


async def test_of_many_at_once_one_does_the_work_and_all_get_its_answer(engine: Engine, database: str) -> None:
    async def request(number: int) -> bytes:
        async def operation(tx: Tx) -> bytes:
            kept = await idempotency.claim(tx, claim_of(), at_us=NOW)
            if kept is not None:
                return kept
            answer = f"s{number}"
            assert await sessions.insert(tx, make_session(answer))
            await idempotency.keep_answer(tx, claim_of(), answer.encode())
            return answer.encode()

        return await engine.write(operation)

    answers = await asyncio.gather(*(request(number) for number in range(16)))

    made = await query(database, "select id from sessions")
    assert len(made) == 1
    assert set(answers) == {made[0][0].encode()}


async def test_a_sweep_forgets_what_nobody_can_ask_for(engine: Engine, database: str) -> None:
    async def fill(tx: Tx) -> None:
        for number in range(SWEEP_MAX + 3):
            await idempotency.claim(tx, claim_of(f"old{number}"), at_us=NOW - 1)
        await idempotency.claim(tx, claim_of("young"), at_us=NOW)

    async def sweep(tx: Tx) -> int:
        return await idempotency.sweep(tx, at_us=LATER)

    await engine.write(fill)

    assert [await engine.write(sweep) for _ in range(3)] == [SWEEP_MAX, 3, 0]
    assert await query(database, "select key from idempotency") == [("young",)]
