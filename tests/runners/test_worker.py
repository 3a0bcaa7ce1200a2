"""Workers: how many runs they take, how they stop, and what becomes of the runs of one that is frozen."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import apsw
import pytest

from sessiond.core.event import RUN_ENDS, RUN_RETRYING, RUN_STARTED, RUN_TEXT, RUN_WAITING
from sessiond.core.ids import RunId
from sessiond.core.run import COMPLETED, RUNNING
from sessiond.runners.worker import POLL_SECONDS, Worker
from sessiond.storage.engine import Engine
from sessiond.storage.open import sqlite_path
from tests.runners.loops import wait_until_gone
from tests.runners.working import (
    SECONDS,
    all_ended,
    answers,
    assert_no_gaps,
    body_of,
    ended,
    events_of,
    get,
    open_worker,
    output_of,
    read_log,
    register,
    register_lines,
    register_script,
    seen,
    send,
    text_in_log,
    types_of,
)

SHORT_LEASE: Final = 1.0
CLAIM_US: Final = 40_000  # less than the shortest of the runs that are counted


async def start_many(engine: Engine, n: int, agent_id: str = "a") -> list[RunId]:
    return [
        run_id
        for number in range(n)
        for run_id in await send(engine, "go", session_id=f"{agent_id}{number}", agent_id=agent_id)
    ]


async def most_at_once(engine: Engine, run_ids: list[RunId]) -> int:
    """Return how many of the runs, all of them ended, were under way at the same time."""
    moves = list[tuple[int, int]]()
    for run_id in run_ids:
        run = await get(engine, run_id)
        assert run.started_at_us is not None
        assert run.completed_at_us is not None
        # A claim reads the clock before it counts: a run that ends in between has made room already.
        moves += [(run.started_at_us + CLAIM_US, 1), (run.completed_at_us, -1)]
    under_way = most = 0
    for _, step in sorted(moves):
        under_way += step
        most = max(most, under_way)
    return most


async def test_a_worker_takes_no_more_than_it_may(engine: Engine) -> None:
    await register(engine, options={"delay_ms": 200})
    run_ids = await start_many(engine, 10)

    async with open_worker(engine, runs_max=3):
        runs = await all_ended(engine, run_ids)

    assert {run.status for run in runs} == {COMPLETED}
    assert await most_at_once(engine, run_ids) == 3


async def test_an_agent_s_limit_counts_in_all_workers_together(engine: Engine, database: str) -> None:
    await register(engine, "one", options={"delay_ms": 200}, concurrency=2)
    await register(engine, "two", options={"delay_ms": 200})
    limited, free = await start_many(engine, 8, "one"), await start_many(engine, 8, "two")

    async with open_worker(engine), open_worker(engine):
        runs = await all_ended(engine, limited + free)

    assert {run.status for run in runs} == {COMPLETED}
    assert await most_at_once(engine, limited) == 2
    assert await most_at_once(engine, free) > 2, "who has a limit is in nobody's way"


async def test_two_workers_share_the_work(engine: Engine) -> None:
    await register(engine, options={"delay_ms": 100})

    async with open_worker(engine, runs_max=4) as first, open_worker(engine, runs_max=4) as second:
        runs = await all_ended(engine, await start_many(engine, 16))

    assert {run.worker for run in runs} == {first.name, second.name}
    assert {run.attempts for run in runs} == {1}


async def test_what_was_queued_before_is_done_by_whoever_comes(engine: Engine) -> None:
    await register(engine)
    run_ids = await send(engine, "one", "two")

    async with open_worker(engine):
        outputs = [output_of(run) for run in await all_ended(engine, run_ids)]

    assert outputs == await answers(engine) == ["one", "two"]


async def test_a_worker_that_is_stopped_finishes_what_it_has_and_takes_nothing_new(engine: Engine) -> None:
    await register(engine, options={"delay_ms": 200})
    async with open_worker(engine, runs_max=1) as worker:
        first, second = await send(engine, "one two three", "four")
        await seen(engine, first, RUN_TEXT)

        worker.stop()
        done = await ended(engine, first)

    assert output_of(done) == "one two three"
    assert (await get(engine, second)).attempts == 0


async def test_what_is_given_back_is_done_by_another_at_once(engine: Engine) -> None:
    await register_script(engine, 'echo "$$ "; [ $SESSIOND_ATTEMPT = 2 ] || exec sleep 60')
    async with open_worker(engine) as first:
        (run_id,) = await send(engine, "go")
        pid = int(body_of(await seen(engine, run_id, RUN_TEXT))["text"])
    waiting = await get(engine, run_id)

    began = time.monotonic()
    async with open_worker(engine) as second:
        run = await ended(engine, run_id)

    assert time.monotonic() - began < SECONDS / 2
    assert (waiting.status, waiting.worker, waiting.failures) == ("queued", first.name, 0)
    assert (run.status, run.worker, run.attempts) == (COMPLETED, second.name, 2)
    (given_back,) = await events_of(engine, run_id, RUN_RETRYING)
    assert body_of(given_back)["error"]["code"] == "worker_stopped"
    wait_until_gone([pid])


async def test_what_is_claimed_just_then_is_given_back_too(engine: Engine) -> None:
    await register_script(engine, "exec sleep 60")

    for number in range(10):
        (run_id,) = await send(engine, "go", session_id=f"s{number}")
        async with open_worker(engine) as worker:
            for _ in range(number):
                await asyncio.sleep(0)  # so that it is stopped at different moments
            worker.stop()
        assert (await get(engine, run_id)).status == "queued"


async def test_a_long_run_keeps_its_lease(engine: Engine) -> None:
    await register(engine, options={"delay_ms": 200})

    async with open_worker(engine, lease_seconds=SHORT_LEASE), open_worker(engine, lease_seconds=SHORT_LEASE):
        (run_id,) = await send(engine, " ".join("abcdefghijklmno"))  # three leases long
        run = await ended(engine, run_id)

    assert run.attempts == 1
    assert await text_in_log(engine, run_id) == "a b c d e f g h i j k l m n o"


async def test_many_runs_of_many_agents_all_end_once(engine: Engine) -> None:
    for number in range(4):
        await register(engine, f"agent{number}", options={"delay_ms": number})

    async with open_worker(engine, runs_max=16), open_worker(engine, runs_max=16):
        run_ids = [
            run_id
            for number in range(40)
            for run_id in await send(
                engine, "one", "two", "three", session_id=f"s{number}", agent_id=f"agent{number % 4}"
            )
        ]
        runs = await all_ended(engine, run_ids)

    assert {(run.status, run.attempts) for run in runs} == {(COMPLETED, 1)}
    for number in range(40):
        log = await read_log(engine, f"s{number}")
        assert_no_gaps(log)
        assert await answers(engine, f"s{number}") == ["one", "two", "three"]


async def test_nothing_to_do_costs_next_to_nothing(engine: Engine) -> None:
    await register(engine)
    async with open_worker(engine):
        (run_id,) = await send(engine, "hello")
        await ended(engine, run_id)
        await asyncio.sleep(0.2)
        before = time.process_time()
        await asyncio.sleep(2 * POLL_SECONDS)
        spent = time.process_time() - before

    assert spent < 0.2


class Frozen:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, database: str) -> None:
        self.process: Final = process
        self.name: Final = name
        self._file = sqlite_path(database)

    def freeze(self) -> None:
        """Stop it where it is, but not in the middle of a write: on SQLite nobody else could write then."""
        for _ in range(1000):
            self.process.send_signal(signal.SIGSTOP)
            _wait_until_stopped(self.process.pid)
            if self._file is None or _can_write(self._file):
                return
            self.thaw()
        raise AssertionError("it writes whenever it is stopped")

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def says(self, *words: str) -> None:
        """Wait for a line of its log with these words in it."""
        assert self.process.stderr is not None
        async with asyncio.timeout(SECONDS):
            while line := (await self.process.stderr.readline()).decode():
                if all(word in line for word in words):
                    return
        raise AssertionError(f"it ended, and did not say {words}")


def _wait_until_stopped(pid: int) -> None:
    stat = Path(f"/proc/{pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        pass


def _can_write(file: Path) -> bool:
    connection = apsw.Connection(str(file))
    try:
        connection.execute("begin immediate")
        connection.execute("rollback")
    except apsw.BusyError:
        return False
    finally:
        connection.close()
    return True


@pytest.fixture
async def apart(database: str, engine: Engine) -> AsyncIterator[Frozen]:
    """A worker in another process, with a short lease."""
    async with _worker_apart(database) as worker:
        yield worker


@asynccontextmanager
async def _worker_apart(database: str) -> AsyncIterator[Frozen]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.runners.worker_apart", database, str(SHORT_LEASE)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield Frozen(process, (await process.stdout.readline()).decode().strip(), database)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_worker_that_is_frozen_loses_its_run_and_writes_nothing_more(engine: Engine, apart: Frozen) -> None:
    talks_on = "if [ $SESSIOND_ATTEMPT = 1 ]; then echo $$; while :; do echo tick; sleep 0.02; done; fi; echo second"
    await register_script(engine, talks_on)
    (run_id,) = await send(engine, "go")
    await seen(engine, run_id, RUN_TEXT, where=lambda body: "tick" in body["text"])

    apart.freeze()
    async with open_worker(engine, lease_seconds=SHORT_LEASE) as other:
        run = await ended(engine, run_id)
        log = await read_log(engine)
        apart.thaw()
        await apart.says(run_id, "lost its lease")

    assert (run.worker, run.attempts, output_of(run)) == (other.name, 2, "second")
    assert await read_log(engine) == log
    assert_no_gaps(log)
    first, second = await events_of(engine, run_id, RUN_STARTED)
    assert body_of(first) | {"worker": apart.name, "after_loss": False} == body_of(first)
    assert body_of(second)["after_loss"]
    pieces = [body_of(event)["text"] for event in await events_of(engine, run_id, RUN_TEXT)]
    wait_until_gone([int(pieces[0].split()[0])])


async def test_a_frozen_worker_cannot_end_a_run_that_it_has_lost(engine: Engine, apart: Frozen) -> None:
    await register(engine, options={"delay_ms": 400})
    (run_id,) = await send(engine, "one two three")
    await seen(engine, run_id, RUN_TEXT)

    apart.freeze()
    async with open_worker(engine, lease_seconds=SHORT_LEASE) as other:
        await seen(engine, run_id, RUN_STARTED, where=lambda body: body["worker"] == other.name)
        apart.thaw()  # it goes on with its agent for a moment, and beside the other
        run = await ended(engine, run_id)
        await apart.says(run_id, "lost")

    assert (run.worker, run.attempts, output_of(run)) == (other.name, 2, "one two three")
    assert await answers(engine) == ["one two three"]
    assert (await types_of(engine, run_id))[-1] == RUN_ENDS[COMPLETED]


async def test_the_run_of_a_killed_worker_is_taken_over_and_its_agent_killed(engine: Engine, apart: Frozen) -> None:
    await register_script(engine, 'echo "$$ "; [ $SESSIOND_ATTEMPT = 2 ] || exec sleep 60')
    (run_id,) = await send(engine, "go")
    pid = int(body_of(await seen(engine, run_id, RUN_TEXT))["text"])
    assert (await get(engine, run_id)).status is RUNNING

    apart.process.kill()
    killed = time.monotonic()
    async with open_worker(engine, lease_seconds=SHORT_LEASE):
        run = await ended(engine, run_id)

    assert time.monotonic() - killed < SHORT_LEASE + 5
    assert (run.status, run.attempts) == (COMPLETED, 2)
    wait_until_gone([pid])


async def test_a_lost_run_does_not_take_its_own_place(engine: Engine, apart: Frozen) -> None:
    await register_script(engine, 'echo "$$ "; [ $SESSIOND_ATTEMPT = 2 ] || exec sleep 60', concurrency=1)
    (lost,) = await send(engine, "go")
    await send(engine, "go", session_id="other")
    await seen(engine, lost, RUN_TEXT)

    apart.process.kill()
    async with open_worker(engine, lease_seconds=SHORT_LEASE):
        run = await ended(engine, lost)

    assert run.attempts == 2


async def test_a_worker_that_ends_by_a_bug_begins_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await register(engine, options={"delay_ms": 100})
    beat_on, bug = Worker._beat_on, asyncio.Event()

    async def fail_once(worker: Worker) -> None:
        if not bug.is_set():
            await bug.wait()
            raise ZeroDivisionError
        await beat_on(worker)

    monkeypatch.setattr(Worker, "_beat_on", fail_once)
    (run_id,) = await send(engine, "one two three four")

    async with open_worker(engine, lease_seconds=1.0):
        await seen(engine, run_id, RUN_TEXT)
        bug.set()
        run = await ended(engine, run_id)

    assert (output_of(run), run.attempts) == ("one two three four", 2)
    assert "begins again" in caplog.text


async def test_runs_that_wait_for_an_answer_keep_no_other_from_beginning(engine: Engine) -> None:
    await register_lines(engine, '{"type":"ask","title":"Go on?"}')
    await register(engine, agent_id="quick")
    (asking,) = await send(engine, "go")

    async with open_worker(engine, runs_max=1):
        await seen(engine, asking, RUN_WAITING)
        (quick,) = await send(engine, "hello", session_id="other", agent_id="quick")

        assert output_of(await ended(engine, quick)) == "hello"
