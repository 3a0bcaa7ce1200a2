"""What searching costs over many messages, and what indexing adds to an append."""

from __future__ import annotations

import json
import random
import sys
import time
from itertools import accumulate
from statistics import median
from typing import Final

from bench.load import run_load
from bench.rows import Bench, Row, line

WORDS: Final = 50_000
WORDS_PER_MESSAGE: Final = 35  # about 200 characters, as the messages of the other scenarios have
SESSIONS: Final = 1_000
RARE: Final = "orbetello"
RARE_TIMES: Final = 5
ROUND: Final = 9_000


def run(bench: Bench, *, messages: int) -> None:
    """Fill a server with text in which words are as frequent as in prose, then search in it."""
    say = _Speaker()
    bench.fill(SESSIONS)
    ids = bench.server.session_ids(SESSIONS)
    _fill(bench, ids, say, messages)
    bench.rows += _indexing(bench, ids, say)
    bench.server.settle()
    ask = bench.ask
    bench.measure(f"rare word of {messages:,}", [ask("GET", f"/v1/messages?q={RARE}")] * 1_000, budget=20)
    bench.measure("two words", [ask("GET", f"/v1/messages?q={say.word(40)}+{say.word(2_000)}")] * 500)
    bench.measure("the most common word", [ask("GET", f"/v1/messages?q={say.word(0)}")] * 500)
    bench.measure("a word that nobody said", [ask("GET", "/v1/messages?q=nowhere")] * 1_000)
    bench.measure("rare word in a session", [ask("GET", f"/v1/sessions/{ids[0]}/messages?q={RARE}")] * 1_000)


class _Speaker:
    """Says things: the n-th word is about 1/n as frequent as the first."""

    def __init__(self) -> None:
        self._chance = random.Random(7)
        self._words = [f"w{number * 7919 % 1_000_003:x}" for number in range(WORDS)]
        self._weights = list(accumulate(1 / (number + 2) for number in range(WORDS)))

    def word(self, number: int) -> str:
        return self._words[number]

    def say(self, *, also: str = "") -> str:
        words = self._chance.choices(self._words, cum_weights=self._weights, k=WORDS_PER_MESSAGE)
        return " ".join([*words, also])


def _fill(bench: Bench, ids: list[str], say: _Speaker, messages: int) -> None:
    rare = set(random.Random(8).sample(range(messages), RARE_TIMES))
    per_session = messages // len(ids)
    requests = []
    for number, session_id in enumerate(ids):
        batch = [
            {"content": say.say(also=RARE if number * per_session + place in rare else "")}
            for place in range(per_session)
        ]
        body = json.dumps({"messages": batch}).encode()
        requests.append(bench.ask("POST", f"/v1/sessions/{session_id}/messages", body))
    run_load(bench.server.port, requests, connections=4, expected=201)
    _wait_until_idle(bench)


def _wait_until_idle(bench: Bench) -> None:
    """Wait until the server has indexed all."""
    last = bench.server.cpu_seconds()
    while True:
        time.sleep(1.5)
        now = bench.server.cpu_seconds()
        if now - last < 0.1:
            return
        last = now


def _indexing(bench: Bench, ids: list[str], say: _Speaker) -> list[Row]:
    """Append for a while, and let the index catch up: what has no word, and what has as many as usual, in turns."""
    kinds = {
        "append a message without a word, and index it": [json.dumps({"content": "-" * 200}).encode()] * ROUND,
        "append a message of 35 words, and index it": [
            json.dumps({"content": say.say()}).encode() for _ in range(ROUND)
        ],
    }
    costs: dict[str, list[tuple[float, float, float]]] = {request: [] for request in kinds}
    for _ in range(bench.rounds):
        for request, texts in kinds.items():
            requests = [bench.ask("POST", f"/v1/sessions/{random.choice(ids)}/messages", text) for text in texts]
            floor, before = bench.floor.cost(bench.connections), bench.server.cpu_seconds()
            load = run_load(bench.server.port, requests, connections=bench.connections, expected=201)
            _wait_until_idle(bench)
            cost = (bench.server.cpu_seconds() - before) / ROUND
            floor = (floor + bench.floor.cost(bench.connections)) / 2
            costs[request].append((cost * 1e6, cost / floor, load.requests / load.seconds))
    rows = []
    for request, measured in costs.items():
        cpu_us, ratio, rate = (median(column) for column in zip(*measured, strict=True))
        engine = bench.server.engine
        row = Row(engine=engine, request=request, cpu_us=cpu_us, ratio=ratio, budget=None, per_second=rate)
        print(line(row), file=sys.stderr, flush=True)
        rows.append(row)
    return rows
