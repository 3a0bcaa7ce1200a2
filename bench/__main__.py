"""What we claim about speed, measured: CPU of the whole server process per request, as a ratio to the floor.

The floor is the same HTTP server answering a constant 200-byte JSON through Starlette. It is measured again before
and after every row, since these machines are shared and slow down and speed up; a row is the median of its rounds.

    python -m bench [requests] [runs] [encryption] [search] [--engine sqlite|postgres] [--connections 64] [--rounds 5]
                    [--sessions 100000] [--json]
    python -m bench peers [--rounds 5]

`peers` is only measured when it is asked for: it compares us with others, who are in the `dev` group.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from bench import encryption, requests, runs, search
from bench.process import Floor, Sessiond
from bench.rows import Bench, Row, line
from tests.postgres import open_postgres

SCENARIOS: Final = ("requests", "runs", "encryption", "search")
PEERS: Final = "peers"


@contextmanager
def open_database(engine: str) -> Iterator[str]:
    """Yield the URL of an empty database of that engine, and remove it afterwards."""
    if engine == "sqlite":
        with tempfile.TemporaryDirectory(prefix="sessiond-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'sessiond.db'}"
    else:
        with open_postgres() as server:
            server.create_database("bench")
            yield server.url("bench")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"{' or '.join(SCENARIOS)}; default: all")
    parser.add_argument("--engine", choices=("sqlite", "postgres"), action="append", help="default: both")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=100_000, help="how many are many")
    parser.add_argument("--messages", type=int, default=100_000, help="how many are searched")
    parser.add_argument("--without-adk-server", action="store_true", help="among the peers: the slowest to measure")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON at the end")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - {*SCENARIOS, PEERS}:
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    if PEERS in options.scenarios:
        from bench import peers

        peers.run(rounds=options.rounds, adk_server=not options.without_adk_server)
        options.scenarios.remove(PEERS)
        if not options.scenarios:
            return
    rows: list[Row] = []
    with Floor() as floor:
        for engine in options.engine or ["sqlite", "postgres"]:
            for scenario in options.scenarios or SCENARIOS:
                with open_database(engine) as database, Sessiond(database, engine) as server:
                    bench = Bench(server, floor, connections=options.connections, rounds=options.rounds)
                    if scenario == "runs":
                        runs.run(bench)
                    elif scenario == "encryption":
                        encryption.run(bench)
                    elif scenario == "search":
                        search.run(bench, messages=options.messages)
                    else:
                        requests.run(bench, many_sessions=options.sessions)
                    rows += bench.rows
    print(f"CPU of the server per request, {options.connections} connections; the floor is 1.0\n")
    print("| engine | request | CPU µs | × floor | budget | requests/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(line(row))
    if options.json:
        print(msgspec.json.encode(rows).decode())


if __name__ == "__main__":
    main()
