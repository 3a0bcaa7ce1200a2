"""Keys of a workspace, and who one is oneself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from sessiond.client.call import Call, Page, body_of, path_of, query_of, reads, reads_nothing
from sessiond.client.resource import Async, Iterated, Method, Sync


class Key(Struct, frozen=True, kw_only=True):
    """An API key."""

    id: str
    name: str | None = None
    scopes: list[str]
    dialect: str | None = None
    user_id: str | None = None
    """Whose sessions it is for; None: all of the workspace."""
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    key: str | None = None
    """The secret: in what `create` returns, and nowhere else."""


class Me(Struct, frozen=True, kw_only=True):
    """Whose key this is."""

    key_id: str
    workspace: str
    database_id_hash: str
    scopes: list[str]
    user_id: str | None = None
    dialect: str | None = None


def get_me() -> Call[Me]:
    """Return what this client's key is, and what it may do."""
    return Call(method="GET", path="/v1/me", read=reads(Me))


def create_key(
    *,
    name: str | None = None,
    scopes: Sequence[str] | None = None,
    dialect: str | None = None,
    user_id: str | None = None,
    expires_at: datetime | None = None,
) -> Call[Key]:
    """Make a key; its `key` is the secret. Needs the scope `admin`.

    `scopes` are of `sessions:read`, `sessions:write`, `admin`, `host`; the first two unless given.
    """
    body = body_of(
        name=name,
        scopes=list(scopes) if scopes is not None else None,
        dialect=dialect,
        user_id=user_id,
        expires_at=expires_at,
    )
    return Call(method="POST", path="/v1/keys", body=body, read=reads(Key))


def list_keys(*, limit: int | None = None, cursor: str | None = None) -> Call[Page[Key]]:
    """Return a page of the workspace's keys, the oldest first. Needs the scope `admin`."""
    return Call(method="GET", path="/v1/keys", query=query_of(limit=limit, cursor=cursor), read=reads(Page[Key]))


def revoke_key(key_id: str) -> Call[None]:
    """Make a key useless within five seconds everywhere. Once more is fine."""
    return Call(method="DELETE", path=path_of("keys", key_id), read=reads_nothing)


class KeyCalls:
    """What both clients can do with keys."""

    me = Method(get_me)
    create = Method(create_key)
    list = Method(list_keys)
    iterate = Iterated(list_keys)
    revoke = Method(revoke_key)


class Keys(Sync, KeyCalls):
    """`client.keys`."""


class AsyncKeys(Async, KeyCalls):
    """`client.keys`."""
