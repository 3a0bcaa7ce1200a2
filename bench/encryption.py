"""What sealing costs: the same requests to a workspace in plain text, to one sealed by the server, to one by a client.

One server has all three, and they are asked in turns: what slows the machine down slows each alike, and a round is
compared only with itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

from bench.load import make_request, run_load
from bench.requests import MESSAGE
from bench.rows import SESSION, TEXT, Bench
from sessiond.actions import encryption
from sessiond.actions.encryption import Mode, Progress
from sessiond.core.ids import WorkspaceId
from sessiond.crypto import MASTER_KEY_VARIABLE, load_master
from sessiond.storage.open import open_engine

STORAGE_KEY: Final = "what only a client knows"
SESSIONS: Final = 200
ROUNDS: Final = 7  # a comparison of two numbers that are nearly the same needs more of them
APPENDS: Final = 1_000  # a round, as the rest
GETS: Final = 1_000
CREATES: Final = 500
LASTS: Final = 150
BUDGET_PERCENT: Final = 30.0  # of an append's CPU
ROTATED_SESSIONS: Final = 100
ROTATED_MESSAGES_EACH: Final = 100


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace, and how to ask it."""

    key: str
    storage_key: str | None
    sessions: list[str]
    long: str
    """A session of more than fifty messages."""

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        return make_request(method, path, key=self.key, body=body, storage_key=self.storage_key)


def run(bench: Bench) -> None:
    """Measure what sealing adds to requests, and how fast a key is replaced."""
    sides = [make_side(bench, mode, f"by-{mode}", sessions=SESSIONS) for mode in Mode]
    bench.server.settle()
    rows = [
        compare(bench, sides, "append a message", "POST", "/{}/messages", MESSAGE, each=APPENDS, expected=201),
        compare(bench, sides, "get a session", "GET", "/{}", each=GETS),
        compare(bench, sides, "last 50 messages", "GET", "/{long}/messages?order=desc&limit=50", each=LASTS),
        compare(bench, sides, "create a session", "POST", "", SESSION, each=CREATES, expected=201),
    ]
    print(f"\n{bench.server.engine}: CPU µs of a request, by who has the key\n")
    print("| request | off | server | client | server, more | client, more | at most |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))
    texts, seconds = rotate(bench)
    print(
        f"\n{bench.server.engine}: a new key for {texts:,} texts in {seconds:.1f} s: {texts / seconds:,.0f} a second\n"
    )


def make_side(bench: Bench, mode: Mode, workspace_id: str, *, sessions: int) -> Side:
    """Make a workspace that is sealed in a way from its beginning, with sessions and messages."""
    server = bench.server
    server.command("workspaces", "create", workspace_id)
    key = json.loads(server.command("keys", "create", "--workspace", workspace_id, "--json"))["key"]
    storage_key = STORAGE_KEY if mode is Mode.CLIENT else None
    if mode is Mode.SERVER:
        server.command("encryption", "enable", "--workspace", workspace_id)

    def create(messages: int) -> str:
        created = server.call("POST", "/v1/sessions", json.loads(SESSION), key=key, storage_key=storage_key)
        said = {"messages": [{"content": TEXT}] * messages}
        server.call("POST", f"/v1/sessions/{created['id']}/messages", said, key=key, storage_key=storage_key)
        return str(created["id"])

    made = [create(1) for _ in range(sessions)]
    return Side(key=key, storage_key=storage_key, sessions=made, long=create(60))


def compare(
    bench: Bench,
    sides: Sequence[Side],
    request: str,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    each: int,
    expected: int = 200,
) -> str:
    """Send the same to all sides in turns; return a line of the table. In `path`, `{}` is some session."""
    costs: list[list[float]] = [[] for _ in sides]
    for number in range(ROUNDS):
        for step in range(len(sides)):
            which = (number + step) % len(sides)  # nobody is always the first
            side = sides[which]
            asked = [
                side.ask(method, f"/v1/sessions{path.format(random.choice(side.sessions), long=side.long)}", body)
                for _ in range(each)
            ]
            cpu = bench.server.cpu_seconds()
            run_load(bench.server.port, asked, connections=bench.connections, expected=expected)
            costs[which].append((bench.server.cpu_seconds() - cpu) / each)
    more = [
        (median(sealed / plain for sealed, plain in zip(cost, costs[0], strict=True)) - 1) * 100 for cost in costs[1:]
    ]
    cells = [f"{median(cost) * 1e6:.0f}" for cost in costs] + [f"{percent:+.0f} %" for percent in more]
    budget = f"{BUDGET_PERCENT:.0f} %" if method == "POST" and path else ""
    row = f"| {' | '.join([request, *cells, budget])} |"
    print(f"{bench.server.engine} {row}", file=sys.stderr, flush=True)
    return row


def rotate(bench: Bench) -> tuple[int, float]:
    """Replace the key of a workspace; return how many texts were sealed anew, and in how many seconds."""
    server, workspace_id = bench.server, WorkspaceId("rotated")
    side = make_side(bench, Mode.SERVER, workspace_id, sessions=0)
    said = {"messages": [{"content": TEXT}] * ROTATED_MESSAGES_EACH}
    for _ in range(ROTATED_SESSIONS):
        session_id = server.call("POST", "/v1/sessions", json.loads(SESSION), key=side.key)["id"]
        server.call("POST", f"/v1/sessions/{session_id}/messages", said, key=side.key)
    bench.server.settle()

    async def work() -> tuple[int, float]:
        engine = await open_engine(
            bench.server.database,
            queue_max=1_000,
            pool_max=2,
            command_timeout_seconds=60,
            master=load_master({MASTER_KEY_VARIABLE: bench.server.master_key}),
        )
        texts = 0

        def tell(progress: Progress) -> None:
            nonlocal texts
            texts = progress.texts

        try:
            began = time.perf_counter()
            await encryption.begin(engine, workspace_id, Mode.SERVER, anew=True)
            await encryption.move(engine, workspace_id, told=tell)
            return texts, time.perf_counter() - began
        finally:
            await engine.close()

    return asyncio.run(work())
