"""The messages of a session as a `message_history`, for who wants no more than that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage

from sessiond.client import AsyncClient, Client
from sessiond.integrations.log import Asker, Log
from sessiond.integrations.pydantic_ai.shapes import as_models, messages_of


async def load(client: Client | AsyncClient, session_id: str, *, limit: int | None = None) -> list[ModelMessage]:
    """Return the latest `limit` messages of a session, or all, as a `message_history`; none where there is no session.

    What others have said in it is a request or a response of text.
    """
    return as_models(await Log(Asker(client), session_id).read(limit))


async def append(
    client: Client | AsyncClient,
    session_id: str,
    messages: Sequence[ModelMessage],
    *,
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Append messages to a session, such as `result.new_messages()`; all or none, where there are at most 1,000.

    The session is created where there is none, with `user_id` and `metadata`. They are on disk when this returns.

    Raises:
        Conflict: the session has ended.
    """
    log = Log(Asker(client), session_id, user_id=user_id, metadata=metadata)
    await log.append(messages_of(messages))
