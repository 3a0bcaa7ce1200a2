"""Inboxes as rows."""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from sessiond.core.errors import Damaged, NotFound
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.inbox import Inbox, InboxFilter, InboxPage
from sessiond.storage import seals, trash
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.pages import page_tail
from sessiond.storage.trash import Trash
from sessiond.storage.vault import damaged

log: Final = logging.getLogger("sessiond.storage")

_ID: Final = Inbox.__struct_fields__.index("id")
_Told = tuple[str | None, bytes | None]


async def insert(tx: Tx, inbox: Inbox) -> Inbox:
    """Add an inbox, and return it with its key."""
    inbox = msgspec.structs.replace(inbox, key_id=await seals.key_for(tx, inbox.workspace_id, inbox.session_id))
    columns = msgspec.structs.asdict(await seal(tx, inbox))
    columns["workspace"] = columns.pop("workspace_id")
    await tx.run("inbox_insert", **columns)
    return inbox


async def find(tx: Tx, workspace_id: WorkspaceId, inbox_id: str, *, user_id: str | None) -> Inbox | None:
    """Return the inbox, or None when the workspace has none of that id, or when it is not `user_id`'s."""
    row = await tx.one("inbox_get", workspace=workspace_id, id=inbox_id, user=user_id)
    return await _row_to_inbox(tx, row) if row is not None else None


async def get(tx: Tx, workspace_id: WorkspaceId, inbox_id: str, *, user_id: str | None) -> Inbox:
    """Return the inbox.

    Raises:
        NotFound: the workspace has none of that id, or it is not `user_id`'s.
    """
    inbox = await find(tx, workspace_id, inbox_id, user_id=user_id)
    if inbox is None:
        raise NotFound("no such inbox")
    return inbox


async def find_by_address(tx: Tx, address: str) -> Inbox | None:
    """Return the inbox, of whichever workspace, that has an address, which is in lower case."""
    row = await tx.one("inbox_by_address", address=address)
    return await _row_to_inbox(tx, row) if row is not None else None


async def take(tx: Tx, workspace_id: WorkspaceId, inbox_id: str) -> Inbox | None:
    """Return the inbox, and keep it from changing until this transaction ends; its session is in hand already."""
    # Locked first, read then: PostgreSQL would wait, and show it as it was before.
    if await tx.one("inbox_lock", workspace=workspace_id, id=inbox_id) is None:
        return None
    return await find(tx, workspace_id, inbox_id, user_id=None)


async def count_up(tx: Tx, inbox: Inbox, *, size: int) -> None:
    """Count one more mail of `size` bytes."""
    await tx.run("inbox_count_up", workspace=inbox.workspace_id, id=inbox.id, size=size)


async def expire(tx: Tx, inbox: Inbox, *, at_us: int) -> bool:
    """Have an inbox take no more mail; False when that was so already."""
    return await tx.one("inbox_expire", workspace=inbox.workspace_id, id=inbox.id, at_us=at_us) is not None


async def delete(tx: Tx, workspace_id: WorkspaceId, inbox_id: str, *, erasure_id: str | None = None) -> int | None:
    """Remove an inbox, and have its mails removed, which nobody sees from now on.

    Return how many it had taken; None when there is no such inbox.
    """
    row = await tx.one("inbox_delete", workspace=workspace_id, id=inbox_id)
    if row is None:
        return None
    await trash.put(tx, Trash(workspace_id, trash.INBOX, inbox_id, erasure_id))
    mail_count: int = row[0]
    return mail_count


async def read_alone(tx: Tx, workspace_id: WorkspaceId, user_id: str, *, until_us: int, limit: int) -> list[Inbox]:
    """Return up to `limit` inboxes of a user that are in no session and were made up to a time, by id."""
    rows = await tx.all("inboxes_alone", workspace=workspace_id, user=user_id, until_us=until_us, limit=limit)
    return [Inbox(*row) for row in rows]  # as their rows have them: to remove them nobody opens them


async def read_ids(tx: Tx, workspace_id: WorkspaceId, session_id: str, *, limit: int) -> list[str]:
    """Return the ids of a session's inboxes, in the order in which they were made."""
    return [row[0] for row in await tx.all("inbox_ids", workspace=workspace_id, session=session_id, limit=limit)]


async def rebind(tx: Tx, workspace_id: WorkspaceId, session_id: SessionId, user_id: str | None) -> None:
    """Give a session's inboxes and their mails to the user that the session was given to."""
    for statement in ("inboxes_rebind", "mails_rebind"):
        await tx.run(statement, workspace=workspace_id, session=session_id, user=user_id)


async def read_page(
    tx: Tx,
    workspace_id: WorkspaceId,
    wanted: InboxFilter,
    *,
    user_id: str | None,
    descending: bool,
    limit: int,
    offset: int = 0,
    position: tuple[int, str] | None = None,
    with_total: bool = False,
) -> InboxPage:
    """Return up to `limit` inboxes by time of creation, from behind `position`, a time and an id, or `offset` in."""
    where, values = ["workspace_id = :workspace"], dict[str, Value](workspace=workspace_id)
    if wanted.session_id is not None:
        where.append("session_id = :session")
        values["session"] = wanted.session_id
    if wanted.active is not None:
        active = "expired_at_us is null and (expires_at_us is null or expires_at_us > :at_us)"
        where.append(f"({active})" if wanted.active else f"not ({active})")
        values["at_us"] = wanted.at_us
    if user_id is not None:
        where.append("user_id = :user")
        values["user"] = user_id
    total = None
    if with_total:
        rows = await tx.select("inbox_count_select", f"where {' and '.join(where)}", values)
        total = rows[0][0]
    tail = page_tail(
        where, values, by="created_at_us", descending=descending, limit=limit, offset=offset, position=position
    )
    found = [await _row_to_inbox(tx, row) for row in await tx.select("inbox_select", tail, values)]
    return InboxPage(inboxes=found[:limit], more=len(found) > limit, total=total)


async def read_free(
    tx: Tx, workspace_id: WorkspaceId, *, user_id: str | None, limit: int, position: tuple[int, str] | None = None
) -> tuple[list[Inbox], bool]:
    """Return up to `limit` inboxes that have no session, by time of creation, and whether there are more."""
    where, values = ["workspace_id = :workspace", "session_id is null"], dict[str, Value](workspace=workspace_id)
    if user_id is not None:
        where.append("user_id = :user")
        values["user"] = user_id
    tail = page_tail(where, values, by="created_at_us", descending=False, limit=limit, position=position)
    found = [await _row_to_inbox(tx, row) for row in await tx.select("inbox_select", tail, values)]
    return found[:limit], len(found) > limit


async def read_expiring(tx: Tx, *, now_us: int, limit: int) -> list[Inbox]:
    """Return inboxes whose time is over, of all workspaces, the first first."""
    rows, found = await tx.all("inboxes_expiring", now_us=now_us, limit=limit, locked=await seals.locked(tx)), []
    for row in rows:
        try:
            found.append(await _row_to_inbox(tx, row))
        except Damaged as error:
            log.error("an inbox was to expire, and %s", error)
            await tx.run("inbox_expire", workspace=row[0], id=row[1], at_us=now_us)
    return found


async def read_kept_long(tx: Tx, workspace_id: WorkspaceId, *, before_us: int, limit: int) -> list[str]:
    """Return inboxes that expired before a time."""
    rows = await tx.all("inboxes_kept_long", workspace=workspace_id, before_us=before_us, limit=limit)
    return [row[_ID] for row in rows]


async def find_next_expiry(tx: Tx) -> int | None:
    row: Any = await tx.one("inboxes_next_expiry", locked=await seals.locked(tx))
    return row[0] if row is not None else None


async def seal(tx: Tx, inbox: Inbox) -> Inbox:
    """Return an inbox as its row has it: sealed, if it has a key. Purpose and metadata are one then."""
    if inbox.key_id is None:
        return inbox
    told = msgspec.msgpack.encode((inbox.purpose, inbox.metadata))
    sealed = await seals.seal_with(tx, inbox.workspace_id, inbox.key_id, told, "inbox", inbox.id)
    return msgspec.structs.replace(inbox, purpose=None, metadata=sealed)


async def _row_to_inbox(tx: Tx, row: Row) -> Inbox:
    inbox = Inbox(*row)
    if inbox.key_id is None:
        return inbox
    told = await seals.open_with(tx, inbox.workspace_id, inbox.key_id, inbox.metadata, "inbox", inbox.id)
    if told is None or inbox.purpose is not None:
        raise damaged("inbox", inbox.id)
    purpose, metadata = msgspec.msgpack.decode(told, type=_Told)
    return msgspec.structs.replace(inbox, purpose=purpose, metadata=metadata)


async def rekey(tx: Tx, row: Row, key_id: int | None) -> None:
    """Seal an inbox, as it was selected, with another key, or none."""
    inbox = await seal(tx, msgspec.structs.replace(await _row_to_inbox(tx, row), key_id=key_id))
    told = {"purpose": inbox.purpose, "metadata": inbox.metadata}
    await tx.run("inbox_rekey", workspace=inbox.workspace_id, id=inbox.id, key=key_id, **told)
