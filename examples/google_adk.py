"""An agent of Google's Agent Development Kit that remembers, in a file of its own.

    pip install 'sessiond[google-adk]'
    python examples/google_adk.py sessions.db

Call it again, and it goes on where it was. The model is made up, so that this needs no key and no network: give `Agent`
a real one. With a server it is `AsyncClient("sd_…", "http://127.0.0.1:8080")` in place of `AsyncClient.local`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator

from google.adk.agents import Agent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.genai import types

from sessiond import AsyncClient
from sessiond.integrations.google_adk import SessiondSessionService


class Counting(BaseLlm):
    """A model that says how much it was told."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        answer = f"You have told me {len(llm_request.contents)} things."
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=answer)]))


async def main(database: str) -> None:
    agent = Agent(name="helper", model=Counting(model="counting"), output_key="last_answer")
    async with AsyncClient.local(database) as client:
        service = SessiondSessionService(client)
        runner = Runner(app_name="desk", agent=agent, session_service=service, auto_create_session=True)
        for question in ("Where is my parcel?", "Since when?"):
            message = types.Content(role="user", parts=[types.Part(text=question)])
            async for event in runner.run_async(user_id="ada", session_id="support-1", new_message=message):
                print(f"{event.author}: {text_of(event.content)}")

        session = await service.get_session(app_name="desk", user_id="ada", session_id="support-1")
        assert session is not None
        print(f"{len(session.events)} events, {session.state}")


def text_of(content: types.Content | None) -> str:
    return "".join(part.text or "" for part in content.parts or []) if content is not None else ""


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
