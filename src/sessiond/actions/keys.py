"""API keys of a workspace: create, list, revoke. The secret is shown once and never kept."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sessiond.actions.call import A, Call
from sessiond.core.audit import CREATE_KEY, REVOKE_KEY
from sessiond.core.caller import Key, Scope
from sessiond.core.errors import InvalidInput, NotFound
from sessiond.core.ids import KeyId
from sessiond.crypto import hash_secret, make_secret
from sessiond.storage import keys
from sessiond.storage.engine import Tx


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may do, and for whom."""

    name: str | None = None
    scopes: frozenset[Scope] = frozenset({Scope.SESSIONS_READ, Scope.SESSIONS_WRITE})
    dialect: str | None = None
    user_id: str | None = None
    expires_at_us: int | None = None


class MadeKey(msgspec.Struct, frozen=True):
    """A new key with its secret, which nobody can see again."""

    key: Key
    secret: str


async def create(call: Call, new: NewKey, answer: Callable[[MadeKey], A]) -> A:
    """Make a key for the caller's workspace.

    Raises:
        Forbidden: the caller lacks the admin scope.
        InvalidInput: the key could do nothing.
    """
    call.caller.require(Scope.ADMIN)
    if not new.scopes:
        raise InvalidInput("scopes is empty: such a key could do nothing", field="scopes")
    for scope in new.scopes - {Scope.SESSIONS_READ, Scope.SESSIONS_WRITE}:
        call.caller.require(scope)  # nobody gives what they do not have
    made = make_key(call, new)

    async def operation(tx: Tx) -> MadeKey:
        await insert(tx, call, made)
        return made

    return await call.write(operation, answer)


async def insert(tx: Tx, call: Call, made: MadeKey) -> None:
    """Store a new key, and note in the audit log what it may do, and for whom."""
    await keys.insert(tx, made.key, secret_hash=hash_secret(made.secret))
    locator = {"id": made.key.id, "scopes": " ".join(sorted(made.key.scopes)), "user_id": made.key.user_id}
    await call.audit(tx, CREATE_KEY, {name: value for name, value in locator.items() if value is not None})


def make_key(call: Call, new: NewKey) -> MadeKey:
    """Return a key that is not stored yet."""
    key = Key(
        id=KeyId(call.new_id("key_")),
        workspace_id=call.caller.workspace_id,
        name=new.name,
        scopes=new.scopes,
        dialect=new.dialect,
        user_id=new.user_id,
        created_at_us=call.now_us,
        expires_at_us=new.expires_at_us,
        revoked_at_us=None,
        last_used_at_us=None,
    )
    return MadeKey(key, make_secret())


async def read_page(call: Call, *, after: tuple[int, str] = (-1, ""), limit: int) -> list[Key]:
    """Return up to `limit` keys of the workspace, oldest first, after the one named by time of creation and id.

    Raises:
        Forbidden: the caller lacks the admin scope.
    """
    call.caller.require(Scope.ADMIN)

    async def operation(tx: Tx) -> list[Key]:
        return await keys.read_page(tx, call.caller.workspace_id, after=after, limit=limit)

    return await call.engine.read(operation)


async def revoke(call: Call, key_id: str, answer: Callable[[None], A]) -> A:
    """Make a key useless, in every process within seconds. Once more is fine.

    Raises:
        Forbidden: the caller lacks the admin scope.
        NotFound: the workspace has no such key.
    """
    call.caller.require(Scope.ADMIN)

    async def operation(tx: Tx) -> None:
        if not await keys.revoke(tx, call.caller.workspace_id, key_id, at_us=call.now_us):
            raise NotFound("no such key")
        await call.audit(tx, REVOKE_KEY, {"id": key_id})

    return await call.write(operation, answer)
