"""The index by which sessions are found by their metadata: in plain text, or, of a sealed session, hashed."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from sessiond.core.ids import WorkspaceId
from sessiond.core.metadata import filterable
from sessiond.core.session import Session
from sessiond.storage import seals
from sessiond.storage.engine import Tx, Value

HASHED: Final = ""
"""The key of what is hashed; nobody's own is empty."""


async def put(tx: Tx, session: Session) -> None:
    """Have a session be found by its metadata."""
    await tx.each("session_metadata_insert", await _rows(tx, session))


async def drop(tx: Tx, session: Session) -> None:
    """Have a session not be found by its metadata any more; one that is sealed need not be open."""
    if session.key_id is not None:
        await tx.run("session_metadata_hashed_delete", workspace=session.workspace_id, id=session.id)
        return
    await tx.each("session_metadata_delete", await _rows(tx, session))


async def _rows(tx: Tx, session: Session) -> list[dict[str, Value]]:
    pairs = list(filterable(session.metadata).items())
    if pairs and session.key_id is not None:
        secret = (await seals.cipher_of(tx, session.workspace_id, session.key_id)).parent.derive("metadata")
        pairs = [(HASHED, _token(secret, key, value)) for key, value in pairs]
    return [
        {
            "workspace": session.workspace_id,
            "key": key,
            "value": value,
            "created_at_us": session.created_at_us,
            "id": session.id,
        }
        for key, value in pairs
    ]


async def options(tx: Tx, workspace_id: WorkspaceId, wanted: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Return for each pair that is wanted how it may stand in the index, which has several while keys change."""
    if not wanted:
        return []
    state = await seals.read_state(tx, workspace_id)
    secrets = []
    if state.key_id is not None or state.changing:
        for root in await seals.read_roots(tx, workspace_id):
            secrets.append((await seals.cipher_of(tx, workspace_id, root.id)).derive("metadata"))
    plain = state.key_id is None or state.changing
    return [
        [(key, value)] * plain + [(HASHED, _token(secret, key, value)) for secret in secrets] for key, value in wanted
    ]


def _token(secret: bytes, key: str, value: str) -> str:
    """Return what stands in the index in place of a key and its value: equal where these are, and telling neither."""
    return hmac.digest(secret, f"{key}\0{value}".encode(), "sha256")[:16].hex()
