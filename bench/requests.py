"""What requests cost, and whether that stays flat: the budgets of the wires."""

from __future__ import annotations

import json
import random
from typing import Final

from bench.rows import SESSION, TEXT, Bench, print_flat

MESSAGE: Final = json.dumps({"role": "user", "content": TEXT}).encode()
FEW_SESSIONS: Final = 1_000
FEW_MESSAGES: Final = 10
MANY_MESSAGES: Final = 10_000


def run(bench: Bench, *, many_sessions: int) -> None:
    """Measure what has a budget, and what must not grow."""
    measure, ask = bench.measure, bench.ask
    bench.fill(FEW_SESSIONS)
    ids = bench.server.session_ids(FEW_SESSIONS)
    few_memory = bench.server.memory_mib()
    measure("list 20, with total", [ask("GET", "/v1/sessions?limit=20&include=total")] * 1500)
    few_list = bench.rows[-1]

    for session_id in ids:
        bench.server.call("POST", f"/v1/sessions/{session_id}/messages", {"content": "first"})
    get = [ask("GET", f"/v1/sessions/{random.choice(ids)}") for _ in range(15_000)]
    measure("get a session", get, budget=2)
    append = [ask("POST", f"/v1/sessions/{random.choice(ids)}/messages", MESSAGE) for _ in range(9_000)]
    measure("append a message", append, expected=201, budget=4)
    measure("create a session", [ask("POST", "/v1/sessions", SESSION)] * 6_000, expected=201, budget=5)

    short, long = bench.make_log(FEW_MESSAGES), bench.make_log(MANY_MESSAGES)
    fifty = bench.make_log(60)
    last_50 = "?order=desc&limit=50"
    few_last, many_last = bench.compare(
        [
            ("last 50 messages", [ask("GET", f"/v1/sessions/{fifty}/messages{last_50}")] * 2_000),
            ("last 50 of 10,000", [ask("GET", f"/v1/sessions/{long}/messages{last_50}")] * 2_000),
        ],
        budget=6,
    )
    few_append, many_append = bench.compare(
        [
            ("append to 10", [ask("POST", f"/v1/sessions/{short}/messages", MESSAGE)] * 5_000),
            ("append to 10,000", [ask("POST", f"/v1/sessions/{long}/messages", MESSAGE)] * 5_000),
        ],
        expected=201,
        budget=4,
    )

    bench.fill(many_sessions)
    measure(f"list 20 of {many_sessions:,}", [ask("GET", "/v1/sessions?limit=20&include=total")] * 1500, budget=10)
    many_list = bench.rows[-1]
    many_memory = bench.server.memory_mib()

    engine = bench.server.engine
    print(f"\n{engine}: does it stay flat?\n")
    print("| what | few | many | many ÷ few | at most |\n| --- | --- | --- | --- | --- |")
    print_flat("append, session of 10 and of 10,000 messages", few_append.ratio, many_append.ratio, 1.2)
    print_flat("last 50, session of 60 and of 10,000 messages", few_last.ratio, many_last.ratio, 1.2)
    print_flat(f"list 20, of 1,000 and of {many_sessions:,} sessions", few_list.ratio, many_list.ratio, 1.5)
    print_flat(f"memory (MiB), 1,000 and {many_sessions:,} sessions", few_memory, many_memory, 1.3)
    print()
