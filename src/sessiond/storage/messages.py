"""Messages taken back: the one change of what a log has said already.

Whoever takes a message back wants its words gone: it is not enough to say behind it that it does not count. Its event
keeps its place, since all that follows is numbered behind it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sessiond.core.event import REMOVED, StoredMessage
from sessiond.core.session import Session
from sessiond.crypto import is_sealed
from sessiond.storage import events, seals
from sessiond.storage.engine import Tx, Value

NOTHING: Final = b"{}"


async def take_last(tx: Tx, session: Session) -> tuple[Session, StoredMessage] | None:
    """Remove the last message of a session in hand; return the session as its row must be saved, and the message.

    None where it has none.
    """
    page = await events.read_message_page(tx, session, descending=True, limit=1)
    if not page.events:
        return None
    (message,) = page.events
    place: dict[str, Value] = {"workspace": session.workspace_id, "id": session.id, "seq": message.seq}
    row = await tx.one("event_get", **place)
    assert row is not None, "it was read in this transaction"
    # As its message was kept, and not as the session is now: who seals a log anew may not have come to it yet.
    body = NOTHING
    if is_sealed(row[-1]):
        named = "event", session.id, message.seq
        body = (await seals.cipher_named(tx, session.workspace_id, row[-1], *named)).seal(NOTHING, *named)
    await tx.run("event_remove", **place, type=REMOVED, body=body)
    after = msgspec.structs.replace(
        session,
        message_count=session.message_count - 1,
        log_bytes=session.log_bytes - len(message.body) + len(NOTHING),
    )
    return after, message
