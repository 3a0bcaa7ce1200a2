"""A chat of LangChain that remembers, in a file of its own.

    pip install 'sessiond[langchain]'
    python examples/langchain_history.py sessions.db

Call it again, and it goes on where it was. The model is made up, so that this needs no key and no network: use a real
one. With a server it is `Client("sd_…", "http://127.0.0.1:8080")` in place of `Client.local`.
"""

from __future__ import annotations

import sys

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage

from sessiond import Client
from sessiond.integrations.langchain import SessiondChatMessageHistory

ANSWERS = {"Where is my parcel?": "At the depot.", "Since when?": "Since Monday."}


def main(database: str) -> None:
    model = FakeListChatModel(responses=[*ANSWERS.values()])
    with Client.local(database) as client:
        history = SessiondChatMessageHistory("support-1", client)
        for question in ANSWERS:
            said = [*history.messages, HumanMessage(question)]
            answer = model.invoke(said)
            history.add_messages([said[-1], answer])
            print(f"{len(said)} messages went to the model: {answer.content}")

        # The same, as everybody else sees it.
        for message in client.messages.iterate("support-1"):
            print(f"{message.role}: {message.content}")


if __name__ == "__main__":
    main(*sys.argv[1:])
