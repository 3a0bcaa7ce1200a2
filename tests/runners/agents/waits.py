"""An agent that waits for one thing after another, and then tells what it was told of its waits."""

import json
import sys

brief = json.loads(sys.stdin.readline())
wants = json.loads(sys.argv[1])
waits = brief.get("waits", [])
if len(waits) < len(wants):
    pieces = [{"type": "text", "text": "before"}, {"type": "usage", "prompt_tokens": 1}]
    pieces.append({"type": "wait", **wants[len(waits)]})
else:
    told = {"attempt": brief["run"]["attempt"], "waits": waits}
    pieces = [{"type": "text", "text": json.dumps(told)}]
for piece in pieces:
    sys.stdout.write(json.dumps(piece) + "\n")
