"""Keys: made, shown once, listed, revoked."""

from __future__ import annotations

import pytest

from sessiond.actions import keys
from sessiond.actions.call import Call, itself
from sessiond.actions.keys import NewKey
from sessiond.auth.keys import Authenticator
from sessiond.core.caller import Scope
from sessiond.core.errors import Forbidden, InvalidInput, NotFound
from sessiond.storage.engine import Engine
from tests.actions.calling import HERE, ME, caller, make_workspaces


async def test_a_new_key_lets_its_holder_in_as_it_says(engine: Engine) -> None:
    await make_workspaces(engine)
    new = NewKey(name="k", scopes=frozenset({Scope.SESSIONS_READ}), dialect="viben", user_id="me")

    made = await keys.create(Call(engine, ME), new, itself)

    holder = await Authenticator(engine).authenticate(f"Bearer {made.secret}")
    assert (holder.workspace_id, holder.database_id_hash, holder.key_id) == (HERE, "0" * 64, made.key.id)
    assert (holder.scopes, holder.dialect, holder.user_id) == (new.scopes, "viben", "me")
    assert await keys.read_page(Call(engine, ME), limit=10) == [made.key]


async def test_keys_are_listed_in_the_order_of_their_making(engine: Engine) -> None:
    await make_workspaces(engine)
    made = [(await keys.create(Call(engine, ME), NewKey(name=f"{number}"), itself)).key for number in range(5)]

    first = await keys.read_page(Call(engine, ME), limit=3)
    rest = await keys.read_page(Call(engine, ME), after=(first[-1].created_at_us, first[-1].id), limit=3)

    assert first + rest == made


async def test_a_revoked_key_stays_listed_and_revoking_again_is_fine(engine: Engine) -> None:
    await make_workspaces(engine)
    made = await keys.create(Call(engine, ME), NewKey(), itself)

    for _ in range(2):
        await keys.revoke(Call(engine, ME), made.key.id, itself)

    (listed,) = await keys.read_page(Call(engine, ME), limit=10)
    assert listed.revoked_at_us is not None
    with pytest.raises(NotFound):
        await keys.revoke(Call(engine, ME), "key_none", itself)


async def test_nobody_who_is_bound_to_a_user_administers_the_workspace(engine: Engine) -> None:
    await make_workspaces(engine)

    for action in (
        keys.create(Call(engine, caller(user_id="me")), NewKey(user_id="me"), itself),
        keys.read_page(Call(engine, caller(user_id="me")), limit=10),
        keys.revoke(Call(engine, caller(user_id="me")), "key_1", itself),
    ):
        with pytest.raises(Forbidden, match="bound to a user"):
            await action


async def test_a_key_that_could_do_nothing_is_not_made(engine: Engine) -> None:
    call = Call(engine, ME)

    with pytest.raises(InvalidInput) as refused:
        await keys.create(call, NewKey(scopes=frozenset()), itself)

    assert refused.value.field == "scopes"
    assert await keys.read_page(call, limit=10) == []
