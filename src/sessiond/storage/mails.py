"""Mails as rows: what lists show stands in one table, what is wide in another."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sessiond.core.errors import NotFound
from sessiond.core.extraction import Extraction
from sessiond.core.ids import WorkspaceId
from sessiond.core.mail import Content, Envelope, Mail
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.pages import page_tail, read_fitting


async def insert(tx: Tx, mail: Mail, content: Content, raw: bytes) -> None:
    await tx.run(
        "mail_insert",
        workspace=mail.workspace_id,
        id=mail.id,
        inbox_id=mail.inbox_id,
        session_id=mail.session_id,
        user_id=mail.user_id,
        received_at_us=mail.received_at_us,
        size=mail.size,
        envelope=msgspec.json.encode(mail.envelope),
        extractions=msgspec.json.encode(mail.extractions),
    )
    packed = msgspec.json.encode(content)
    await tx.run("mail_content_insert", workspace=mail.workspace_id, mail_id=mail.id, content=packed, raw=raw)


async def restore(tx: Tx, mail: Mail, content: Content, raw: bytes) -> None:
    """Add a mail as it was elsewhere, of an inbox that is not there yet.

    What an attempt that was broken off has left of it goes.
    """
    for statement in ("mail_content_delete_loose", "mail_delete_loose"):
        await tx.run(statement, workspace=mail.workspace_id, id=mail.id)
    await insert(tx, mail, content, raw)


async def get(tx: Tx, workspace_id: WorkspaceId, mail_id: str, *, user_id: str | None) -> Mail:
    """Return the mail.

    Raises:
        NotFound: the workspace has none of that id, or it is not `user_id`'s, or its inbox is gone.
    """
    row = await tx.one("mail_get", workspace=workspace_id, id=mail_id, user=user_id)
    if row is None:
        raise NotFound("no such mail")
    return _row_to_mail(row)


async def read_content(tx: Tx, mail: Mail) -> Content:
    row = await tx.one("mail_content_get", workspace=mail.workspace_id, mail_id=mail.id)
    if row is None:
        raise NotFound("no such mail")  # removed with its inbox, this moment
    return msgspec.json.decode(row[0], type=Content)


async def read_raw(tx: Tx, mail: Mail) -> bytes:
    """Return a mail as it was sent.

    Raises:
        NotFound: it has just been removed.
    """
    row = await tx.one("mail_raw_get", workspace=mail.workspace_id, mail_id=mail.id)
    if row is None:
        raise NotFound("no such mail")  # removed with its inbox, this moment
    return bytes(row[0])


async def set_extractions(tx: Tx, mail: Mail, extractions: Sequence[Extraction]) -> None:
    packed = msgspec.json.encode(extractions)
    await tx.run("mail_extractions_update", workspace=mail.workspace_id, id=mail.id, extractions=packed)


async def read_since(
    tx: Tx, workspace_id: WorkspaceId, *, inbox_id: str | None, session_id: str | None, since_us: int, limit: int
) -> list[Mail]:
    """Return up to `limit` mails of an inbox, or of all of a session's, from a time on, the first first."""
    asked: dict[str, Value] = {"workspace": workspace_id, "since_us": since_us, "limit": limit}
    if inbox_id is not None:
        rows = await tx.all("mails_since", inbox=inbox_id, **asked)
    else:
        rows = await tx.all("mails_of_session_since", session=session_id, **asked)
    return [_row_to_mail(row) for row in rows]


async def read_of_session(
    tx: Tx, workspace_id: WorkspaceId, session_id: str, *, after: tuple[int, str] | None, limit: int
) -> list[Mail]:
    """Return up to `limit` mails of all inboxes of a session, the first first, from behind a time and an id."""
    at, at_id = after if after is not None else (0, "")
    rows = await tx.all("mails_of_session", workspace=workspace_id, session=session_id, at=at, at_id=at_id, limit=limit)
    return [_row_to_mail(row) for row in rows]


async def read_page(
    tx: Tx,
    workspace_id: WorkspaceId,
    inbox_id: str,
    *,
    descending: bool,
    limit: int,
    offset: int = 0,
    position: tuple[int, str] | None = None,
) -> tuple[list[Mail], bool]:
    """Return up to `limit` mails of an inbox by time of arrival, and whether there are more."""
    where = ["m.workspace_id = :workspace", "m.inbox_id = :inbox"]
    values: dict[str, Value] = {"workspace": workspace_id, "inbox": inbox_id}
    tail = page_tail(
        where,
        values,
        by="m.received_at_us",
        then="m.id",
        descending=descending,
        limit=limit,
        offset=offset,
        position=position,
    )
    rows, more = await read_fitting(tx, "mail_select", "mail_size_select", tail, values, limit=limit)
    return [_row_to_mail(row) for row in rows], more


async def remove_some(tx: Tx, workspace_id: WorkspaceId, inbox_id: str, *, limit: int) -> int:
    """Remove up to `limit` mails of an inbox that is gone; return how many."""
    rows = await tx.all("mail_ids_of_inbox", workspace=workspace_id, inbox=inbox_id, limit=limit)
    for (mail_id,) in rows:
        await tx.run("mail_content_delete", workspace=workspace_id, mail_id=mail_id)
        await tx.run("mail_delete", workspace=workspace_id, id=mail_id)
    return len(rows)


def _row_to_mail(row: Row) -> Mail:
    columns = [*row]
    columns[-2] = msgspec.json.decode(columns[-2], type=Envelope)
    columns[-1] = msgspec.json.decode(columns[-1], type=list[Extraction])
    return Mail(*columns)
