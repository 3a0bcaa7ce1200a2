"""What sealed names are found by: keyed hashes of their parts.

Whoever asks verifies what is found: two parts may stand in a name, but not next to one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.postings import NAME, make_token
from sessiond.core.search import grams, grams_asked
from sessiond.core.session import Session
from sessiond.storage.engine import Tx, Value
from sessiond.storage.seals import IndexKey

GRAMS_ASKED_MAX: Final = 8  # each is a look-up for every candidate; eight leave few that are not what is meant


async def put_names(tx: Tx, key: IndexKey, session: Session, text: str) -> None:
    """Have a session found by any part, of two characters or more, of `text`, and by nothing that was there before."""
    await drop(tx, session.workspace_id, session.id)
    tokens = sorted(_signed(make_token(key.secret, NAME, gram)) for gram in grams(text))
    rows: list[dict[str, Value]] = [
        {"workspace": session.workspace_id, "token": token, "session": session.id} for token in tokens
    ]
    await tx.each("search_name_insert", rows)


async def find_named(
    tx: Tx, workspace_id: WorkspaceId, keys: Sequence[IndexKey], part: str, *, after: str = "", limit: int
) -> list[SessionId] | None:
    """Return sessions that may have `part` in their names, in the order of their ids, from behind `after` on.

    Fewer than `limit`: there are no more. None when the part is too short to tell, and every session may have it.
    """
    asked = grams_asked(part)
    if asked is None:
        return None
    spread = asked[:: -(-len(asked) // GRAMS_ASKED_MAX)]
    found: set[SessionId] = set()
    for key in keys:
        tokens = {f"token_{n}": _signed(make_token(key.secret, NAME, gram)) for n, gram in enumerate(spread)}
        also = "".join(
            " and exists (select 1 from search_names o where o.workspace_id = n.workspace_id"
            f" and o.token = :{name} and o.session_id = n.session_id)"
            for name in list(tokens)[1:]
        )
        rows = await tx.select(
            "search_names_select",
            "where n.workspace_id = :workspace and n.token = :token_0 and n.session_id > :after"
            f"{also} order by n.session_id limit :limit",
            {"workspace": workspace_id, "after": after, "limit": limit, **tokens},
        )
        found.update(row[0] for row in rows)
    return sorted(found)[:limit]


async def drop(tx: Tx, workspace_id: WorkspaceId, session_id: str) -> None:
    """Have a session be found by no part of its names any more."""
    await tx.run("search_names_drop", workspace=workspace_id, session=session_id)


def _signed(token: int) -> int:
    """Return a token as the databases keep it: they have no unsigned numbers."""
    return token - (1 << 64) if token >> 63 else token
