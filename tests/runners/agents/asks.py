"""Says what it was told, asks a question, and says what it was answered, both as they came."""

from __future__ import annotations

import json
import sys


def say(**piece: object) -> None:
    sys.stdout.write(json.dumps(piece) + "\n")
    sys.stdout.flush()


say(type="text", text=sys.stdin.readline())
say(type="ask", title="Sure?", options=[{"id": "yes", "name": "Yes"}], detail={"path": "a.txt"})
say(type="text", text=sys.stdin.readline())
