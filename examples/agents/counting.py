"""An agent that speaks JSON lines: it counts what it was told, and asks before it forgets.

    sessiond agents add counting --runner command --option command='python examples/agents/counting.py'

Needs nothing but Python. Try it without a server:

    echo '{"input": "hello", "messages": [{"role": "user", "content": "hello"}]}' | python examples/agents/counting.py
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    brief = json.loads(sys.stdin.readline())
    said = text_of(brief["input"])
    if "forget" in said.lower():
        choices = [{"id": "yes", "name": "Forget it"}, {"id": "no", "name": "Keep it"}]
        answer = ask("Forget this conversation?", choices)
        say(type="text", text="Forgotten." if answer["option_id"] == "yes" else "Then I keep it.")
        return
    count = sum(message["role"] == "user" for message in brief["messages"])
    say(type="text", text=f"That was message {count} of this conversation. ")
    say(type="text", text=f"You said: {said}")


def ask(title: str, options: list[dict[str, str]]) -> Any:
    """Ask whoever watches the run, and wait for the answer."""
    say(type="ask", title=title, options=options)
    return json.loads(sys.stdin.readline())


def say(**piece: Any) -> None:
    # Flushed: what stays in Python's buffer is not heard before the end.
    print(json.dumps(piece), flush=True)


def text_of(content: str | list[dict[str, Any]] | None) -> str:
    """Return a message's content as text: it is a string or a list of parts."""
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if "text" in part)
    return content or ""


if __name__ == "__main__":
    main()
