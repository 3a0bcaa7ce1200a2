"""The audit log: read by those who administer a workspace."""

from __future__ import annotations

from sessiond.actions.call import Call
from sessiond.core.audit import AuditEntry
from sessiond.core.caller import Scope
from sessiond.storage import audit
from sessiond.storage.engine import Tx


async def read_page(call: Call, *, limit: int, offset: int = 0) -> tuple[list[AuditEntry], int]:
    """Return up to `limit` entries, newest first, from `offset` on, and how many there are.

    Raises:
        Forbidden: the caller lacks the admin scope.
    """
    call.caller.require(Scope.ADMIN)

    async def operation(tx: Tx) -> tuple[list[AuditEntry], int]:
        return await audit.read_page(tx, call.caller.workspace_id, limit=limit, offset=offset)

    return await call.engine.read(operation)
