"""A graph of LangGraph that asks somebody, and goes on in another process when there is an answer.

    pip install 'sessiond[langgraph]'
    python examples/langgraph_approval.py sessions.db
    python examples/langgraph_approval.py sessions.db yes

There is no model in it, so that it needs no key and no network. With a server it is
`Client("sd_…", "http://127.0.0.1:8080")` in place of `Client.local`.
"""

from __future__ import annotations

import sys
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from sessiond import Client
from sessiond.integrations.langgraph import SessiondSaver


class Refund(TypedDict, total=False):
    order: str
    amount: int
    outcome: str


def look_up(state: Refund) -> Refund:
    return {"amount": 30}


def approve(state: Refund) -> Refund:
    answer = interrupt(f"Refund {state['amount']} EUR for order {state['order']}?")
    return {"outcome": "refunded" if answer == "yes" else "refused"}


def make_graph(client: Client) -> Any:
    builder = StateGraph(Refund)
    builder.add_node("look_up", look_up)
    builder.add_node("approve", approve)
    builder.add_edge(START, "look_up")
    builder.add_edge("look_up", "approve")
    builder.add_edge("approve", END)
    return builder.compile(checkpointer=SessiondSaver(client))


def main(database: str, answer: str | None = None) -> None:
    with Client.local(database) as client:
        graph = make_graph(client)
        config = {"configurable": {"thread_id": "refund-1"}}
        state = graph.invoke(Command(resume=answer) if answer else {"order": "A-17"}, config)
        for question in state.get("__interrupt__", ()):
            print(question.value)
        if "outcome" in state:
            print(f"{state['order']}: {state['outcome']}, after {len([*graph.get_state_history(config)])} checkpoints")


if __name__ == "__main__":
    main(*sys.argv[1:])
