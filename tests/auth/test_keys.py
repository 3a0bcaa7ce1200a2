"""From an Authorization header to a caller."""

from __future__ import annotations

import asyncio
import time

import pytest

from sessiond.actions import keys as key_actions
from sessiond.actions import workspaces
from sessiond.actions.call import Call, itself
from sessiond.actions.keys import MadeKey, NewKey
from sessiond.auth import keys
from sessiond.auth.failures import Failures
from sessiond.auth.keys import Authenticator
from sessiond.core.errors import TooMany, Unauthenticated
from sessiond.storage.engine import Engine

IN_TIME = 20.0


async def operator_call(engine: Engine) -> Call:
    return Call(engine, workspaces.operator(await workspaces.get(engine, "w")))


async def make_key(engine: Engine, *, expires_at_us: int | None = None) -> MadeKey:
    return await key_actions.create(await operator_call(engine), NewKey(expires_at_us=expires_at_us), itself)


@pytest.fixture
async def made(engine: Engine) -> MadeKey:
    await workspaces.create(engine, "w")
    return await make_key(engine)


async def refused(authenticator: Authenticator, header: str | None) -> str:
    with pytest.raises(Unauthenticated) as error:
        await authenticator.authenticate(header)
    return error.value.message


async def test_a_key_is_a_bearer_token_and_nothing_else_is(engine: Engine, made: MadeKey) -> None:
    authenticator = Authenticator(engine)

    for header in (f"Bearer {made.secret}", f"bearer {made.secret}", f"BEARER  {made.secret} "):
        assert (await authenticator.authenticate(header)).key_id == made.key.id
    assert "missing" in await refused(authenticator, None)
    for header in ("", "Bearer", "Bearer ", made.secret, f"Basic {made.secret}"):
        assert "must be" in await refused(authenticator, header)
    for header in (f"Bearer {made.secret}x", f"Bearer {made.secret[:-1]}", f"Bearer {made.key.id}", "Bearer é\udcff"):
        assert await refused(authenticator, header) == "invalid API key"


async def test_a_revoked_key_is_refused_at_once_here_and_soon_everywhere(
    engine: Engine, made: MadeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keys.REMEMBERED_SECONDS < 5, "revocation takes effect within five seconds"
    monkeypatch.setattr(keys, "REMEMBERED_SECONDS", 0.1)
    here, elsewhere = Authenticator(engine), Authenticator(engine)
    header = f"Bearer {made.secret}"
    for authenticator in (here, elsewhere):
        await authenticator.authenticate(header)

    await key_actions.revoke(await operator_call(engine), made.key.id, itself)
    here.forget()

    assert await refused(here, header) == "invalid API key"
    await until_refused(elsewhere, header, seconds=IN_TIME)


async def until_refused(authenticator: Authenticator, header: str, *, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                await authenticator.authenticate(header)
            except Unauthenticated:
                return
            await asyncio.sleep(0.01)


async def test_an_expired_key_is_refused_also_when_it_is_remembered(engine: Engine, made: MadeKey) -> None:
    authenticator = Authenticator(engine)
    now_us = time.time_ns() // 1000
    past = await make_key(engine, expires_at_us=now_us - 1)
    soon = await make_key(engine, expires_at_us=now_us + 300_000)

    assert await refused(authenticator, f"Bearer {past.secret}") == "invalid API key"
    await until_refused(authenticator, f"Bearer {soon.secret}", seconds=keys.REMEMBERED_SECONDS - 1)
    assert time.time_ns() // 1000 >= now_us + 300_000


async def test_the_last_use_of_a_key_is_noted(engine: Engine, made: MadeKey) -> None:
    authenticator = Authenticator(engine)
    await authenticator.note_used()
    await authenticator.authenticate(f"Bearer {made.secret}")
    await make_key(engine)

    await authenticator.note_used()

    used, unused = await key_actions.read_page(await operator_call(engine), limit=10)
    assert used.last_used_at_us is not None
    assert used.last_used_at_us >= used.created_at_us
    assert unused.last_used_at_us is None


async def test_no_more_keys_are_remembered_than_there_is_room_for(
    engine: Engine, made: MadeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REMEMBERED_MAX", 3)
    authenticator = Authenticator(engine)
    others = [await make_key(engine) for _ in range(6)]

    for key in [*others, *others]:
        assert (await authenticator.authenticate(f"Bearer {key.secret}")).key_id == key.key.id

    assert len(authenticator._remembered) == 3


def wrong(number: int) -> str:
    return f"Bearer sd_{number:043}"


async def test_an_address_with_many_wrong_keys_is_refused_without_a_look_up(engine: Engine, made: MadeKey) -> None:
    authenticator = Authenticator(engine, Failures(3))
    for number in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(wrong(number), address="192.0.2.1")
    assert (await authenticator.authenticate(f"Bearer {made.secret}", address="192.0.2.2")).key_id == made.key.id

    await engine.close()  # whoever looks something up now, finds out

    with pytest.raises(TooMany):
        await authenticator.authenticate(wrong(7), address="192.0.2.1")
    with pytest.raises(Exception, match=r".") as looked_up:
        await authenticator.authenticate(wrong(7), address="192.0.2.2")
    assert not isinstance(looked_up.value, TooMany)


async def test_a_new_key_is_not_looked_up_for_an_address_that_is_refused(engine: Engine, made: MadeKey) -> None:
    authenticator = Authenticator(engine, Failures(1))
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(wrong(1), address="192.0.2.1")

    with pytest.raises(TooMany):
        await authenticator.authenticate(f"Bearer {made.secret}", address="192.0.2.1")


async def test_a_key_that_was_good_before_goes_on_whatever_others_at_its_address_do(
    engine: Engine, made: MadeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REMEMBERED_SECONDS", 0.0)
    authenticator, header = Authenticator(engine, Failures(1)), f"Bearer {made.secret}"
    await authenticator.authenticate(header, address="192.0.2.1")
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(wrong(1), address="192.0.2.1")
    with pytest.raises(TooMany):
        await authenticator.authenticate(wrong(1), address="192.0.2.1")

    for _ in range(3):
        assert (await authenticator.authenticate(header, address="192.0.2.1")).key_id == made.key.id


async def test_a_key_that_is_revoked_was_good_no_more(
    engine: Engine, made: MadeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REMEMBERED_SECONDS", 0.0)
    authenticator, header = Authenticator(engine, Failures(1)), f"Bearer {made.secret}"
    await authenticator.authenticate(header, address="192.0.2.1")
    await key_actions.revoke(await operator_call(engine), made.key.id, itself)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(header, address="192.0.2.1")

    with pytest.raises(TooMany):
        await authenticator.authenticate(header, address="192.0.2.1")


async def test_an_expired_key_is_a_wrong_one(engine: Engine, made: MadeKey) -> None:
    authenticator = Authenticator(engine, Failures(1))
    past = await make_key(engine, expires_at_us=time.time_ns() // 1000 - 1)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(f"Bearer {past.secret}", address="192.0.2.1")

    with pytest.raises(TooMany):
        await authenticator.authenticate(f"Bearer {made.secret}", address="192.0.2.1")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic eDp5"])
async def test_what_is_no_key_is_not_counted(engine: Engine, made: MadeKey, header: str | None) -> None:
    authenticator = Authenticator(engine, Failures(1))

    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(header, address="192.0.2.1")

    assert (await authenticator.authenticate(f"Bearer {made.secret}", address="192.0.2.1")).key_id == made.key.id


async def test_who_was_let_in_before_is_neither_counted_nor_refused(engine: Engine, made: MadeKey) -> None:
    authenticator = Authenticator(engine, Failures(1))
    for number in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(wrong(number))

    assert (await authenticator.authenticate(f"Bearer {made.secret}", address="192.0.2.1")).key_id == made.key.id


async def test_no_more_keys_were_good_before_than_there_is_room_for(
    engine: Engine, made: MadeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "PROVEN_MAX", 2)
    authenticator = Authenticator(engine, Failures(1))

    for key in [await make_key(engine) for _ in range(4)]:
        await authenticator.authenticate(f"Bearer {key.secret}", address="192.0.2.1")

    assert len(authenticator._proven) == 2
