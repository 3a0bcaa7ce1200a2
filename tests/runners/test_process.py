"""Programs: what they are given, what is known of their end, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from sessiond.runners.process import Program, open_program
from sessiond.runners.runner import NOT_CONFIGURED, UNREACHABLE, AgentError
from tests.docs.pages import ROOT
from tests.runners.briefs import make_brief
from tests.runners.loops import AGENTS, LOOPS, Loop, alive, make_loop, wait_until_gone

STAYS: Final = (sys.executable, str(AGENTS / "family.py"))
ENDED_SECONDS: Final = 2.0  # what is promised
BRIEF: Final = make_brief({"command": "unused"})

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a program leaves behind is found in /proc")


@pytest.fixture(params=LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Loop:
    return make_loop(request.param)


@asynccontextmanager
async def opened(*command: str, cwd: str | None = None, env: dict[str, str] | None = None) -> AsyncIterator[Program]:
    async with open_program(BRIEF, list(command), cwd=cwd, env=env or {}) as program:
        yield program


async def read_pids(program: Program) -> list[int]:
    pids = json.loads(await program.stdout.readline())["text"].split()
    return [int(pid) for pid in pids]


async def end_of(*command: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    async with opened(*command, env=env) as program:
        await program.stdout.read()
        return await program.wait(), program.complaint()


def test_a_program_reads_and_writes(on_loop: Loop) -> None:
    async def main() -> None:
        async with opened("cat") as program:
            program.stdin.write(b"hello\n")
            assert await program.stdout.readline() == b"hello\n"
            program.stdin.close()
            assert (await program.stdout.read(), await program.wait()) == (b"", 0)

    on_loop(main())


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 0", (0, "")),
        ("exit 7", (7, "")),
        ("kill -9 $$", (-9, "")),
        ("echo no such model >&2; exit 1", (1, "no such model")),
        (r"printf '\033[31mred\033[0m\r\n\tnext\0\377' >&2", (0, "red next �")),
    ],
)
def test_its_end_is_known_and_what_it_complained_of(on_loop: Loop, script: str, end: tuple[int, str]) -> None:
    assert on_loop(end_of("sh", "-c", script)) == end


def test_a_flood_of_complaints_neither_blocks_it_nor_fills_the_memory(on_loop: Loop) -> None:
    tracemalloc.start()
    try:
        code, complaint = on_loop(end_of("sh", "-c", "yes complaint | head -c 50000000 >&2; echo last >&2; exit 1"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (code, complaint[-15:], len(complaint)) == (1, " complaint last", 500)
    assert peak < 4_000_000


def test_a_complaint_does_not_repeat_what_the_environment_keeps(on_loop: Loop) -> None:
    _, complaint = on_loop(
        end_of("sh", "-c", 'echo "key $TOKEN refused in $MODE mode" >&2', env={"TOKEN": "s3cret-token", "MODE": "fast"})
    )

    assert complaint == "key *** refused in fast mode"


def test_its_environment_has_what_was_given_and_nothing_of_ours(
    on_loop: Loop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SESSIOND_DATABASE", "postgresql://user:password@db")
    monkeypatch.setenv("FROM_THE_WORKER", "1")

    async def main() -> tuple[str, dict[str, str]]:
        script = "import os, json; print(json.dumps([os.getcwd(), dict(os.environ)]))"
        async with opened(sys.executable, "-c", script, cwd=str(tmp_path), env={"GIVEN": "ü"}) as program:
            folder, environment = json.loads(await program.stdout.read())
            return folder, environment

    folder, environment = on_loop(main())

    assert folder == str(tmp_path)
    assert {name: value for name, value in environment.items() if name.startswith("SESSIOND_")} == {
        "SESSIOND_RUN": BRIEF.run_id,
        "SESSIOND_SESSION": "chat",
        "SESSIOND_ATTEMPT": "1",
    }
    assert (environment["GIVEN"], environment["FROM_THE_WORKER"]) == ("ü", "1")


def test_it_has_no_open_file_but_its_three(on_loop: Loop) -> None:
    async def main() -> bytes:
        script = "for n in $(seq 0 99); do [ -e /proc/$$/fd/$n ] && echo $n; done"
        async with opened("sh", "-c", script) as program:
            return await program.stdout.read()

    assert on_loop(main()).split() == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("command", "cwd", "message"),
    [
        ("no-such-program", None, "there is no program 'no-such-program' on this machine"),
        ("/no/such/program", None, "there is no program '/no/such/program' on this machine"),
        ("/etc/passwd/x", None, "there is no program '/etc/passwd/x' on this machine"),
        ("/etc/passwd", None, "the program '/etc/passwd' may not be started: Permission denied"),
        ("true", "/no/such/folder", "there is no folder '/no/such/folder' to start the program in"),
    ],
)
def test_a_program_that_cannot_be_started_says_why(on_loop: Loop, command: str, cwd: str | None, message: str) -> None:
    async def main() -> None:
        async with opened(command, cwd=cwd):
            pass

    with pytest.raises(AgentError) as caught:
        on_loop(main())

    assert (caught.value.code, caught.value.message, caught.value.permanent) == (NOT_CONFIGURED, message, True)


def test_too_many_open_files_may_pass(on_loop: Loop) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
        try:
            async with opened("true"):
                pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    with pytest.raises(AgentError) as caught:
        on_loop(main())

    assert (caught.value.code, caught.value.permanent) == (UNREACHABLE, False)
    assert caught.value.message == "the program 'true' cannot be started now: Too many open files"


def test_nothing_is_left_of_a_program_that_ignores_being_asked(on_loop: Loop) -> None:
    async def main() -> list[int]:
        async with opened(*STAYS) as program:
            pids = await read_pids(program)
            began = time.monotonic()
        assert time.monotonic() - began < ENDED_SECONDS
        return pids

    assert not alive(on_loop(main()))


def test_a_child_that_hides_in_a_session_of_its_own_with_nothing_in_its_environment_is_found(on_loop: Loop) -> None:
    script = (
        "import subprocess, sys, time; child = subprocess.Popen(['sleep', '60'], env={}, start_new_session=True);"
        "print(child.pid, flush=True); time.sleep(60)"
    )

    async def main() -> int:
        async with opened(sys.executable, "-c", script) as program:
            return int(await program.stdout.readline())

    assert not alive([on_loop(main())])


def test_nothing_is_left_of_a_program_that_ended_well(on_loop: Loop) -> None:
    async def main() -> list[int]:
        began = time.monotonic()
        async with opened(*STAYS, "leave") as program:
            pids = await read_pids(program)
            # Its children hold its output open, and it still ends.
            assert (await program.stdout.read(), await program.wait()) == (b"", 0)
        assert time.monotonic() - began < ENDED_SECONDS
        return pids

    assert not alive(on_loop(main()))


def test_a_child_that_ends_soon_after_the_program_is_heard(on_loop: Loop) -> None:
    async def main() -> bytes:
        async with opened("sh", "-c", "(sleep 0.1; echo late) & echo early") as program:
            return await program.stdout.read()

    assert on_loop(main()) == b"early\nlate\n"


def test_a_program_may_tidy_up_when_it_is_asked_to_end(on_loop: Loop, tmp_path: Path) -> None:
    script = "trap 'echo tidy > done; exit 0' TERM; echo ready; while true; do sleep 0.02; done"

    async def main() -> None:
        async with opened("sh", "-c", script, cwd=str(tmp_path)) as program:
            await program.stdout.readline()

    on_loop(main())

    assert (tmp_path / "done").read_text() == "tidy\n"


def test_a_second_cancellation_does_not_stop_the_cleaning(on_loop: Loop) -> None:
    pids = list[int]()

    async def work(ready: asyncio.Event) -> None:
        async with opened(*STAYS) as program:
            pids.extend(await read_pids(program))
            ready.set()
            await asyncio.Event().wait()

    async def main() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(work(ready))
        await ready.wait()
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.05)
        assert task.cancelled()

    on_loop(main())

    assert len(pids) == 4
    assert not alive(pids)


def test_a_program_whose_start_is_cancelled_does_not_stay(on_loop: Loop) -> None:
    async def work(seen: list[int]) -> None:
        async with opened("sleep", "60") as program:
            seen.append(program.pid)
            await asyncio.Event().wait()

    async def main() -> list[int]:
        seen = list[int]()
        for turns in range(12):
            task = asyncio.create_task(work(seen))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        return seen

    on_loop(main())

    assert not marked(BRIEF.run_id)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_program_dies_with_a_worker_that_is_killed_and_what_it_left_dies_before_the_next_attempt(loop: str) -> None:
    run_id = f"run_{uuid.uuid4().hex}"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.runners.holder", loop, run_id, *STAYS],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as worker:
        assert worker.stdout is not None
        leader, *children = (int(pid) for pid in worker.stdout.readline().split())
        assert alive([leader, *children]) == {leader, *children}

        worker.send_signal(signal.SIGKILL)
        worker.wait()
    wait_until_gone([leader])

    async def try_again() -> set[int]:
        brief = make_brief({"command": "unused"}, run_id=run_id, attempt=2)
        async with open_program(brief, ["cat"], cwd=None, env={}):
            return alive(children)

    assert make_loop(loop)(try_again()) == set()


def test_who_has_lost_a_run_leaves_the_program_of_its_next_attempt_alone(on_loop: Loop) -> None:
    run_id = f"run_{uuid.uuid4().hex}"

    async def main() -> int:
        async with AsyncExitStack() as first:
            lost = make_brief({"command": "unused"}, run_id=run_id)
            await first.enter_async_context(open_program(lost, ["cat"], cwd=None, env={}))
            brief = make_brief({"command": "unused"}, run_id=run_id, attempt=2)
            async with open_program(brief, ["cat"], cwd=None, env={}) as second:
                await first.aclose()
                second.stdin.close()
                return await second.wait()

    assert on_loop(main()) == 0


def marked(run_id: str) -> list[str]:
    """Return the processes that have a run's mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"SESSIOND_RUN={run_id}".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
