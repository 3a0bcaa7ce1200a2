"""What processes tell each other by PostgreSQL's NOTIFY: who is to look again, and what runs are saying just now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from sessiond.core.errors import Damaged
from sessiond.core.event import Delta
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.crypto import NotOpened, key_id_of
from sessiond.storage.engine import Watched
from sessiond.storage.vault import Vault

NOTIFY_MAX_BYTES: Final = 7_900  # PostgreSQL refuses payloads of 8,000 bytes

Told = tuple[WorkspaceId, SessionId, Delta | bytes]
"""What is told of a session live; of one that is sealed, sealed."""


def seal_delta(
    vault: Vault, workspace_id: WorkspaceId, session_id: SessionId, delta: Delta, *, key_id: int | None
) -> Delta | bytes | None:
    """Return what other processes are told; None where its key was forgotten or destroyed: the log has it."""
    if key_id is None:
        return delta
    cipher = vault.find(workspace_id, key_id)
    return cipher.seal(msgspec.json.encode(delta), "delta", session_id) if cipher is not None else None


def open_delta(vault: Vault, workspace_id: WorkspaceId, session_id: SessionId, told: Delta | bytes) -> Delta | None:
    """Return what was told; None where its key is not in memory: whoever follows here has read the log."""
    if isinstance(told, Delta):
        return told
    with suppress(NotOpened, Damaged):
        cipher = vault.find(workspace_id, key_id_of(told))
        if cipher is not None:
            return msgspec.json.decode(cipher.open(told, "delta", session_id), type=Delta)
    return None


def payloads_of(told: Sequence[Watched | Told]) -> list[str]:
    """Return what is told in as few payloads as PostgreSQL takes. What is too long by itself is left out."""
    payloads, parts, size = [], list[str](), 2
    for one in told:
        part = msgspec.json.encode(one).decode()
        if len(part.encode()) + 2 > NOTIFY_MAX_BYTES:
            continue
        if parts and size + len(part.encode()) + 1 > NOTIFY_MAX_BYTES:
            payloads.append(f"[{','.join(parts)}]")
            parts, size = [], 2
        parts.append(part)
        size += len(part.encode()) + 1
    if parts:
        payloads.append(f"[{','.join(parts)}]")
    return payloads
