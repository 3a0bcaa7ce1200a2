"""Conversations and message histories of Pydantic AI, kept in sessiond.

    store = SessiondConversationStore(client)
    conversation = await store.load("support-1") or Conversation(conversation_id="support-1")
    result = await agent.run("Where is my parcel?", conversation=conversation)
    await store.save(result)

Or, for who wants the messages alone:

    result = await agent.run("Where is my parcel?", message_history=await load(client, "support-1"))
    await append(client, "support-1", result.new_messages())

A message of the framework is one message. What people and models said are parts of type `text` in it, so that everybody
who reads the session, and search, sees them; all the rest stands beside them, as the framework writes it.
"""

from __future__ import annotations

try:
    from sessiond.integrations.pydantic_ai.history import append, load
    from sessiond.integrations.pydantic_ai.store import SessiondConversationStore
except ImportError as error:
    raise ImportError("Pydantic AI is not installed: pip install 'sessiond[pydantic-ai]'", name=error.name) from error

__all__ = ["SessiondConversationStore", "append", "load"]
