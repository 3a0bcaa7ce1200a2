"""An agent of the OpenAI Agents SDK that remembers, in a file of its own.

    pip install 'sessiond[openai-agents]'
    python examples/openai_agents_memory.py sessions.db

Call it again, and it goes on where it was. The model is made up, so that this needs no key and no network: give `Agent`
a real one. With a server it is `Client("sd_…", "http://127.0.0.1:8080")` in place of `Client.local`.
"""

from __future__ import annotations

import sys

from agents import Agent, Runner, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message

from sessiond import Client
from sessiond.integrations.openai_agents import SessiondSession

ANSWERS = {"Where is my parcel?": "At the depot.", "Since when?": "Since Monday."}


def main(database: str) -> None:
    set_tracing_disabled(True)
    model = ScriptedModel([[assistant_message(answer)] for answer in ANSWERS.values()])
    agent = Agent(name="helper", model=model)
    with Client.local(database) as client:
        session = SessiondSession("support-1", client)
        for question in ANSWERS:
            result = Runner.run_sync(agent, question, session=session)
            print(f"{len(model.calls[-1].input)} items went to the model: {result.final_output}")

        # The same, as everybody else sees it.
        for message in client.messages.iterate("support-1"):
            print(f"{message.role}: {text_of(message.content)}")


def text_of(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


if __name__ == "__main__":
    main(*sys.argv[1:])
