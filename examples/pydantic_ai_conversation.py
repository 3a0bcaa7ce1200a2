"""An agent of Pydantic AI that goes on with a conversation, and tries another way in a fork of it.

    pip install 'sessiond[pydantic-ai]'
    python examples/pydantic_ai_conversation.py sessions.db

The model is made up, so that this needs no key and no network: give `Agent` the name of a real one. With a server it is
`AsyncClient("sd_…", "http://127.0.0.1:8080")` in place of `AsyncClient.local`.
"""

from __future__ import annotations

import asyncio
import sys

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessiond import AsyncClient
from sessiond.integrations.pydantic_ai import SessiondConversationStore

ANSWERS = {"Where is my parcel?": "At the depot.", "Since when?": "Since Monday.", "Can I fetch it?": "Until six."}


def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[TextPart(ANSWERS[str(messages[-1].parts[-1].content)])])


async def main(database: str) -> None:
    agent = Agent(FunctionModel(answer))
    async with AsyncClient.local(database) as client:
        store = SessiondConversationStore(client)
        for question in ("Where is my parcel?", "Since when?"):
            conversation = await store.load("support-1") or Conversation(conversation_id="support-1")
            await store.save(await agent.run(question, conversation=conversation), scope="ada")

        fork = await store.fork("support-1", at=2, new_conversation_id="support-1-fork")
        await store.save(await agent.run("Can I fetch it?", conversation=fork))

        # The same, as everybody else sees it.
        for id in ("support-1", "support-1-fork"):
            said = [text_of(message.content) async for message in client.messages.iterate(id)]
            print(f"{id}: {' | '.join(said)}")


def text_of(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
