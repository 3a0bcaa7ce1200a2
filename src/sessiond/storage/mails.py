"""Mails as rows: what lists show stands in one table, what is wide in another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from sessiond.core.errors import NotFound
from sessiond.core.extraction import Extraction
from sessiond.core.ids import WorkspaceId
from sessiond.core.mail import Content, Envelope, Mail
from sessiond.storage import seals
from sessiond.storage.engine import Row, Tx, Value
from sessiond.storage.pages import page_tail, read_fitting


async def insert(tx: Tx, mail: Mail, content: Content, raw: bytes) -> None:
    key_id = await seals.key_for(tx, mail.workspace_id, mail.session_id)
    mail = msgspec.structs.replace(mail, key_id=key_id)
    await tx.run(
        "mail_insert",
        workspace=mail.workspace_id,
        id=mail.id,
        inbox_id=mail.inbox_id,
        session_id=mail.session_id,
        user_id=mail.user_id,
        received_at_us=mail.received_at_us,
        size=mail.size,
        envelope=await seal(tx, mail, "envelope", msgspec.json.encode(mail.envelope)),
        extractions=await seal(tx, mail, "extractions", msgspec.json.encode(mail.extractions)),
        key_id=key_id,
    )
    packed = await seal(tx, mail, "content", msgspec.json.encode(content))
    kept = await seal(tx, mail, "raw", raw)
    await tx.run("mail_content_insert", workspace=mail.workspace_id, mail_id=mail.id, content=packed, raw=kept)


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
    return await _row_to_mail(tx, row)


async def take(tx: Tx, workspace_id: WorkspaceId, mail_id: str, *, user_id: str | None) -> Mail:
    """Return the mail, and keep it from changing until this transaction ends.

    Raises:
        NotFound: as `get`.
    """
    await tx.one("mail_lock", workspace=workspace_id, id=mail_id)
    return await get(tx, workspace_id, mail_id, user_id=user_id)


async def read_content(tx: Tx, mail: Mail) -> Content:
    row = await tx.one("mail_content_get", workspace=mail.workspace_id, mail_id=mail.id)
    if row is None:
        raise NotFound("no such mail")  # removed with its inbox, this moment
    return msgspec.json.decode(await _open(tx, mail, "content", row[0]), type=Content)


async def read_raw(tx: Tx, mail: Mail) -> bytes:
    """Return a mail as it was sent.

    Raises:
        NotFound: it has just been removed.
    """
    row = await tx.one("mail_raw_get", workspace=mail.workspace_id, mail_id=mail.id)
    if row is None:
        raise NotFound("no such mail")  # removed with its inbox, this moment
    return await _open(tx, mail, "raw", bytes(row[0]))


async def set_extractions(tx: Tx, mail: Mail, extractions: Sequence[Extraction]) -> None:
    packed = await seal(tx, mail, "extractions", msgspec.json.encode(extractions))
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
    return [await _row_to_mail(tx, row) for row in rows]


async def read_of_session(
    tx: Tx, workspace_id: WorkspaceId, session_id: str, *, after: tuple[int, str] | None, limit: int
) -> list[Mail]:
    """Return up to `limit` mails of all inboxes of a session, the first first, from behind a time and an id."""
    at, at_id = after if after is not None else (0, "")
    rows = await tx.all("mails_of_session", workspace=workspace_id, session=session_id, at=at, at_id=at_id, limit=limit)
    return [await _row_to_mail(tx, row) for row in rows]


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
    return [await _row_to_mail(tx, row) for row in rows], more


async def remove_some(tx: Tx, workspace_id: WorkspaceId, inbox_id: str, *, limit: int) -> int:
    """Remove up to `limit` mails of an inbox that is gone; return how many."""
    rows = await tx.all("mail_ids_of_inbox", workspace=workspace_id, inbox=inbox_id, limit=limit)
    for (mail_id,) in rows:
        await tx.run("mail_content_delete", workspace=workspace_id, mail_id=mail_id)
        await tx.run("mail_delete", workspace=workspace_id, id=mail_id)
    return len(rows)


async def seal(tx: Tx, mail: Mail, field: str, plain: bytes) -> bytes:
    """Return a field of a mail as its row has it: sealed, if the mail has a key."""
    return await seals.seal_with(tx, mail.workspace_id, mail.key_id, plain, "mail", mail.id, field) or b""


async def _open(tx: Tx, mail: Mail, field: str, kept: bytes) -> bytes:
    return await seals.open_with(tx, mail.workspace_id, mail.key_id, kept, "mail", mail.id, field) or b""


async def _row_to_mail(tx: Tx, row: Row) -> Mail:
    mail = Mail(*row)
    envelope = await _open(tx, mail, "envelope", row[_ENVELOPE])
    extractions = await _open(tx, mail, "extractions", row[_EXTRACTIONS])
    return msgspec.structs.replace(
        mail,
        envelope=msgspec.json.decode(envelope, type=Envelope),
        extractions=msgspec.json.decode(extractions, type=list[Extraction]),
    )


async def rekey(tx: Tx, row: Row, key_id: int | None) -> None:
    """Seal a mail, as it was selected, with another key, or none."""
    mail = await _row_to_mail(tx, row)
    after = msgspec.structs.replace(mail, key_id=key_id)
    content = msgspec.json.encode(await read_content(tx, mail))
    raw = await read_raw(tx, mail)
    await tx.run(
        "mail_rekey",
        workspace=mail.workspace_id,
        id=mail.id,
        key=key_id,
        envelope=await seal(tx, after, "envelope", msgspec.json.encode(mail.envelope)),
        extractions=await seal(tx, after, "extractions", msgspec.json.encode(mail.extractions)),
    )
    await tx.run(
        "mail_content_rekey",
        workspace=mail.workspace_id,
        mail_id=mail.id,
        content=await seal(tx, after, "content", content),
        raw=await seal(tx, after, "raw", raw),
    )


_ENVELOPE: Final = Mail.__struct_fields__.index("envelope")
_EXTRACTIONS: Final = Mail.__struct_fields__.index("extractions")
