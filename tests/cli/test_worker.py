"""`sessiond worker` as people start it, beside a server that leaves the runs to it."""

from __future__ import annotations

import re

import pytest

from tests.cli.program import Started, refusal, start, start_worker, wait_until
from tests.cli.test_commands import UNREACHABLE

WORDS = "one two three four five six seven eight nine ten"
SLOW = '[agents.slow]\nrunner = "echo"\noptions = { delay_ms = 150 }\n'


@pytest.fixture
def agents_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("agents") / "agents.toml"
    file.write_text(SLOW)
    return str(file)


def say(server: Started, agent_id: str, content: str) -> str:
    """Make a session with a message to its agent, and return its id."""
    session = server.post("/v1/sessions", {"agent_id": agent_id, "messages": [{"content": content}]})
    return str(session["id"])


def starts(server: Started, session_id: str) -> list[str]:
    """Return which workers have started the session's run, in order."""
    events = server.ask(f"/v1/sessions/{session_id}/events?limit=1000").json()["data"]
    return [each["data"]["worker"] for each in events if each["type"] == "run.started"]


def test_what_a_server_leaves_to_others_a_worker_does(database: str) -> None:
    with start(database, "--runs-max", "0") as server:
        before = say(server, "echo", "was said before")
        with start_worker(database, "--runs-max", "2") as worker:
            after = say(server, "echo", "is said now")
            server.wait_for_answer(before, "was said before")
            server.wait_for_answer(after, "is said now")
            assert starts(server, before) == starts(server, after) == [worker.name]
            assert worker.stop() == 0
            log = worker.read_log()
        left = say(server, "echo", "nobody is there")
        assert starts(server, left) == []

    assert len(re.findall(rf"run=run_\w+ session=\S+ agent=echo worker={worker.name} .*status=completed", log)) == 2
    assert "was said" not in log


def test_a_worker_that_is_told_to_stop_finishes_what_it_has_and_takes_nothing_more(
    database: str, agents_file: str
) -> None:
    with (
        start(database, "--runs-max", "0", "--agents-file", agents_file) as server,
        start_worker(database) as worker,
    ):
        session = say(server, "slow", WORDS)
        wait_until(lambda: bool(starts(server, session)), 5)

        assert worker.stop() == 0

        server.wait_for_answer(session, WORDS)
        assert starts(server, session) == [worker.name]
        assert "given back" not in worker.read_log()


def test_what_a_worker_cannot_finish_in_time_it_gives_back_and_another_does_it(database: str, agents_file: str) -> None:
    with (
        start(database, "--runs-max", "0", "--agents-file", agents_file) as server,
        # A lease longer than the test: what is taken over was given back.
        start_worker(database, "--shutdown-seconds", "0.3", "--lease-seconds", "300") as first,
    ):
        session = say(server, "slow", WORDS)
        wait_until(lambda: bool(starts(server, session)), 5)

        assert first.stop() == 0
        assert "1 runs were not finished and are given back" in first.read_log()
        with start_worker(database) as second:
            server.wait_for_answer(session, WORDS)

        assert starts(server, session) == [first.name, second.name]


def test_a_server_that_is_told_to_stop_finishes_its_runs(database: str, agents_file: str) -> None:
    with start(database, "--agents-file", agents_file) as server:
        session, key = say(server, "slow", WORDS), server.secret
        wait_until(lambda: bool(starts(server, session)), 5)

        assert server.stop() == 0

    with start(database, "--runs-max", "0") as again:
        messages = again.ask(f"/v1/sessions/{session}/messages", key).json()["data"]
    assert messages[-1]["content"] == WORDS


def test_a_server_counts_the_runs_it_does(database: str) -> None:
    with start(database) as server:
        session = say(server, "echo", "Hello!")
        server.wait_for_answer(session, "Hello!")

        def counted() -> bool:
            return 'sessiond_runs_total{runner="echo",status="completed"} 1.0' in server.ask("/metrics").text

        wait_until(counted, 5)
        text = server.ask("/metrics").text

    assert "sessiond_runs_under_way 0.0" in text
    assert "sessiond_run_start_seconds_count 1.0" in text
    assert 'sessiond_run_seconds_count{runner="echo"} 1.0' in text


def test_a_worker_that_would_do_nothing_is_refused() -> None:
    assert "--runs-max" in refusal("worker", "--runs-max", "0", status=2)


def test_a_worker_without_a_database_says_so_and_ends_with_1() -> None:
    said = refusal("worker", "--database", UNREACHABLE)

    assert "PostgreSQL" in said
    assert "see that --database" in said
