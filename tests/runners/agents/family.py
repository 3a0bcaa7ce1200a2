"""Ignores SIGTERM, and has children that do too: one beside it, one in a group and one in a session of its own.

Prints the numbers of all four as text, then stays, or ends well when told `leave`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def stay() -> None:
    while True:
        time.sleep(60)


def child(pipe: int) -> None:
    os.write(pipe, f"{os.getpid()}\n".encode())
    stay()


signal.signal(signal.SIGTERM, signal.SIG_IGN)
reading, writing = os.pipe()
if os.fork() == 0:
    child(writing)
if os.fork() == 0:
    os.setpgid(0, 0)
    child(writing)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        child(writing)
    os._exit(0)
os.wait()

pids = [os.getpid()]
while len(pids) < 4:
    pids += [int(line) for line in os.read(reading, 1000).split()]
sys.stdout.write(json.dumps({"type": "text", "text": " ".join(map(str, pids))}) + "\n")
sys.stdout.flush()
if sys.argv[1:] != ["leave"]:
    stay()
