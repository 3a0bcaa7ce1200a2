"""`sessiond export`, `import` and `backup` by the real program: beside a server, killed, packed, measured."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw
import httpx
import pytest

from sessiond.cli import bundle_file
from sessiond.core.errors import InvalidInput
from sessiond.storage.open import sqlite_path
from tests.cli.program import PROGRAM, Started, make_environment, refusal, run, run_json, start, wait_until
from tests.cli.test_replay import in_terminal
from tests.conftest import make_database
from tests.storage.making import query

SESSIONS: Final = 6


@pytest.fixture(scope="module")
def served(engine_name: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """A database in which a few sessions have been served."""
    database = make_database(engine_name, tmp_path_factory.mktemp("bundles"), request)
    with start(database) as server:
        for number in range(SESSIONS):
            new = {"id": f"s{number}", "agent_id": "echo", "user_id": "ada" if number % 2 else "ben"}
            server.post("/v1/sessions", new | {"messages": [{"content": f"hello {number}"}]})
            server.wait_for_answer(f"s{number}", f"hello {number}")
        inbox = server.post("/v1/inboxes", {"session_id": "s1"})
        server.post(f"/v1/inboxes/{inbox['id']}/mails", {"from": "a@b.example", "subject": "x", "text": "y"})
    return database


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/elsewhere.db"


def test_what_is_exported_is_imported_elsewhere_and_is_the_same(served: str, elsewhere: str, tmp_path: Path) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"

    told = run("export", "--output", str(first), "--database", served)
    imported = run("import", str(first), "--database", elsewhere)
    again = run("import", str(first), "--database", elsewhere)
    run("export", "--output", str(second), "--database", elsewhere)

    assert told.stdout == f"exported {SESSIONS} sessions to {first}\n"
    assert told.stderr == ""
    assert imported.stdout.startswith("imported 1 agents, 6 sessions, ")
    assert again.stdout.startswith("imported nothing\nthere already: 1 agents, 6 sessions, ")
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_mode & 0o777 == 0o600


def test_without_a_file_it_goes_to_standard_output(served: str, tmp_path: Path) -> None:
    run("export", "--output", str(tmp_path / "1.jsonl"), "--database", served)

    assert run("export", "--database", served).stdout == (tmp_path / "1.jsonl").read_text()


def test_a_packed_bundle_is_smaller_and_the_same_each_time(served: str, elsewhere: str, tmp_path: Path) -> None:
    for name in ("1.jsonl", "1.jsonl.gz", "2.jsonl.gz"):
        run("export", "--user", "ada", "--output", str(tmp_path / name), "--database", served)
    packed = (tmp_path / "1.jsonl.gz").read_bytes()

    assert gzip.decompress(packed) == (tmp_path / "1.jsonl").read_bytes()
    assert packed == (tmp_path / "2.jsonl.gz").read_bytes()
    added = run_json("import", str(tmp_path / "1.jsonl.gz"), "--database", elsewhere)["added"]
    assert (added["sessions"], added["agents"], added["mails"]) == (3, 0, 1)


def test_parts_are_exported(served: str, tmp_path: Path) -> None:
    file = str(tmp_path / "part.jsonl")

    assert run_json("export", "--agent", "echo", "--output", file, "--database", served)["sessions"] == SESSIONS
    assert run_json("export", "--session", "s1", "--output", file, "--database", served) == {
        "file": file,
        "scope": "session",
        "id": "s1",
        "sessions": 1,
    }


def test_what_is_called_wrongly_says_how(served: str, elsewhere: str, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    two = run("export", "--user", "u", "--agent", "a", "--database", served, status=2)
    json_there = run("export", "--json", "--database", served, status=2)

    assert "give one of --agent, --user and --session" in two.stderr
    assert "it needs --output" in json_there.stderr
    assert refusal("export", "--session", "none", "--output", str(file), "--database", served).endswith(
        "no such session"
    )
    assert not file.exists()
    assert "cannot be written" in refusal("export", "--output", str(tmp_path / "no" / "x"), "--database", served)
    assert "is no file" in refusal("import", "/dev/null", "--database", elsewhere)
    assert "there is no workspace 'none'" in refusal(
        "import", str(_exported(served, tmp_path)), "--workspace", "none", "--database", elsewhere
    )


def _exported(database: str, folder: Path) -> Path:
    file = folder / "whole.jsonl"
    run("export", "--output", str(file), "--database", database)
    return file


def test_a_damaged_file_is_refused_by_its_line_and_nothing_stays(served: str, elsewhere: str, tmp_path: Path) -> None:
    run("workspaces", "list", "--database", elsewhere)
    path = sqlite_path(elsewhere)
    assert path is not None
    before, lines = _rows(path), _exported(served, tmp_path).read_bytes().splitlines(keepends=True)
    damaged = tmp_path / "damaged.jsonl"
    packed = gzip.compress(b"".join(lines))

    for content, number in (
        (b"".join(lines[:7]) + lines[7].replace(b"e", b"f", 1) + b"".join(lines[8:]), 8),
        (b"".join(lines[:-1]), len(lines)),
        (packed[:-12], None),
        (packed[:100] + b"\0\0\0\0" + packed[104:], None),
        (b"", 1),
        (b"\x1f\x8b", 1),
    ):
        damaged.write_bytes(content)
        said = refusal("import", str(damaged), "--database", elsewhere)
        assert f"line {number or ''}" in said, said
    assert _rows(path) == before


def _rows(path: Path) -> list[object]:
    connection = apsw.Connection(str(path))
    try:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        return [(table, connection.execute(f"select * from {table}").fetchall()) for table in sorted(tables)]
    finally:
        connection.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of some ten thousand events, most of them of one session."""
    folder = tmp_path_factory.mktemp("large")
    database = f"sqlite:///{folder}/sessiond.db"
    with start(database) as server:
        for number in range(40):
            server.post("/v1/sessions", {"id": f"a{number}", "messages": [{"content": "x"}]})
        server.post("/v1/sessions", {"id": "large"})
        for _ in range(8):
            server.post("/v1/sessions/large/messages", {"messages": [{"content": "y" * 500}] * 1_000})
        for number in range(40):
            server.post("/v1/sessions", {"id": f"z{number}", "messages": [{"content": "x"}]})
    return _exported(database, folder)


def test_an_import_that_is_killed_is_finished_by_the_next(
    engine_name: str, large: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = make_database(engine_name, tmp_path, request)
    run("workspaces", "list", "--database", database)

    for _ in range(2):
        with subprocess.Popen(
            [*PROGRAM, "import", str(large), "--database", database], env=make_environment(), stdout=subprocess.DEVNULL
        ) as process:
            wait_until(lambda: _count(database, "events") > 0, 60)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert _count(database, "sessions") == 0
    run("import", str(large), "--database", database)
    run("export", "--output", str(tmp_path / "after.jsonl"), "--database", database)

    assert (tmp_path / "after.jsonl").read_bytes() == large.read_bytes()


def _count(database: str, table: str) -> int:
    """Return how many rows there are of the large session."""
    column = "id" if table == "sessions" else "session_id"
    n: int = asyncio.run(query(database, f"select count(*) from {table} where {column} = 'large'"))[0][0]
    return n


def test_an_import_goes_on_beside_a_server_that_shows_whole_sessions_only(large: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/sessiond.db"
    with (
        start(database) as server,
        subprocess.Popen([*PROGRAM, "import", str(large), "--database", database], env=make_environment()) as process,
    ):
        seen, written = set[int](), 0
        while process.poll() is None:
            answer = server.ask("/v1/sessions/large")
            seen.add(answer.json()["last_seq"] if answer.status_code == 200 else 0)
            server.post("/v1/sessions", {"messages": [{"content": "meanwhile"}]})
            written += 1
        assert process.returncode == 0
        assert server.ask("/v1/sessions/large").json()["message_count"] == 8_000
        assert server.ask("/v1/sessions?include=total&limit=1").json()["total"] == 81 + written

    assert seen <= {0, 8_001}
    assert written


def test_a_bundle_takes_no_more_memory_than_a_part_of_it(large: Path, elsewhere: str, tmp_path: Path) -> None:
    """Measured by what Python holds, for a bundle many times as large as what is in memory at once."""
    peak = (
        "import sys, tracemalloc; from sessiond.cli import app; tracemalloc.start();"
        "app(sys.argv[1:], standalone_mode=False); print(tracemalloc.get_traced_memory()[1])"
    )
    size = large.stat().st_size

    def measure(*arguments: str) -> int:
        command = [PROGRAM[0], "-c", peak, *arguments, "--database", elsewhere]
        done = subprocess.run(command, env=make_environment(), capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1])

    assert size > 3_000_000
    imported = measure("import", str(large))
    exported = measure("export", "--output", str(tmp_path / "again.jsonl"))
    assert imported < 40_000_000
    assert exported < 40_000_000


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_file, "LINE_MAX_BYTES", 1_000)
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(b"x" * 100_000_000))

    lines = bundle_file.lines_of(bomb, told=lambda _: None)

    assert len(next(lines)) == 1_001


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        next(bundle_file.lines_of(tmp_path, told=lambda _: None))


def test_in_a_terminal_there_is_a_bar(served: str, elsewhere: str, tmp_path: Path) -> None:
    file, copy = str(_exported(served, tmp_path)), str(tmp_path / "copy.db")
    for command in (
        ["export", "--output", f"{file}2", "--database", served],
        ["import", file, "--database", elsewhere],
    ):
        assert "100%" in bars_of(*command)
    assert "100%" in bars_of("backup", copy, "--database", elsewhere)


def bars_of(*arguments: str) -> str:
    return in_terminal(*arguments, columns=80, errors=True)


def test_a_backup_taken_while_a_server_is_written_to_has_all_that_was_answered(tmp_path: Path) -> None:
    database, copy = f"sqlite:///{tmp_path}/sessiond.db", tmp_path / "copy.db"
    answered = list[int]()
    with start(database) as server:
        server.post("/v1/sessions", {"id": "s"})
        stop = threading.Event()
        writer = threading.Thread(target=_write, args=(server, answered, stop))
        writer.start()
        wait_until(lambda: len(answered) > 50, 30)
        before = len(answered)
        told = run("backup", str(copy), "--database", database)
        stop.set()
        writer.join()
        secret = server.secret

    assert told.stdout == f"copied {tmp_path}/sessiond.db to {copy}, {copy.stat().st_size} bytes\n"
    assert copy.stat().st_mode & 0o777 == 0o600
    with start(f"sqlite:///{copy}") as restored:
        log = list[int]()
        while page := restored.ask(f"/v1/sessions/s/messages?limit=1000&after={len(log) + 1}", secret).json()["data"]:
            log += [int(message["content"]) for message in page]
        assert log == list(range(len(log)))
        assert before <= len(log) <= len(answered)


def _write(server: Started, answered: list[int], stop: threading.Event) -> None:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.secret}"}) as client:
        while not stop.is_set():
            client.post("/v1/sessions/s/messages", json={"content": str(len(answered))}).raise_for_status()
            answered.append(len(answered))


def test_a_backup_says_where_it_went_and_overwrites_nothing(elsewhere: str, tmp_path: Path) -> None:
    run("workspaces", "list", "--database", elsewhere)
    copy = tmp_path / "copy.db"

    assert run_json("backup", str(copy), "--database", elsewhere) == {"file": str(copy), "bytes": copy.stat().st_size}
    assert refusal("backup", str(copy), "--database", elsewhere).endswith("exists, and is not overwritten")


def test_a_backup_of_postgresql_is_another_programs(tmp_path: Path) -> None:
    said = refusal("backup", str(tmp_path / "copy.db"), "--database", "postgresql://somewhere/x")

    assert "pg_dump" in said


def test_what_an_export_holds_is_plain(served: str) -> None:
    lines: Iterator[dict[str, object]] = map(json.loads, run("export", "--database", served).stdout.splitlines())

    assert [line["type"] for line in lines][:2] == ["bundle", "agent"]
