"""Keys are changed under a busy server, by a command and a server that are killed: nothing is lost or wrong.

MESSAGES=100000 for the full size.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from sessiond.crypto import MASTER_KEY_FILE_VARIABLE, make_master_key
from tests.cli.program import PROGRAM, make_environment, run_json
from tests.conftest import make_database
from tests.end_to_end.connection import Connection, Lost
from tests.end_to_end.tampering import ask
from tests.postgres import PostgresServer
from tests.program import Program, open_program

MESSAGES: Final = int(os.environ.get("MESSAGES", "1000"))
WRITERS: Final = 16
READERS: Final = 3
SESSIONS: Final = 48
PATIENCE_SECONDS: Final = 30 + MESSAGES / 100
AGAIN_SECONDS: Final = 0.02
BATCH: Final = 100


@pytest.fixture
def master_key_file(tmp_path: Path) -> str:
    file = tmp_path / "master.key"
    file.write_text(make_master_key())
    return str(file)


@pytest.fixture
def database(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty database that waits for its disk: else the writers keep it so busy that no change comes to its end."""
    if engine_name == "sqlite":
        return make_database(engine_name, tmp_path, request)
    server: PostgresServer = request.getfixturevalue("fragile_postgres")
    return server.url("sessiond")


@pytest.fixture
def program(database: str, master_key_file: str) -> Iterator[Program]:
    """The real program, that has a master key."""
    with open_program(database, "--master-key-file", master_key_file) as running:
        yield running


class Session:
    """A session as its writers and readers know it: what was acknowledged, by seq."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.said: dict[int, str] = {}
        self.turn = asyncio.Lock()
        self.number = 0
        self.top = 0


class Traffic:
    """Writers and readers that go on whatever happens to the server."""

    def __init__(self, program: Program, sessions: list[Session]) -> None:
        self._program = program
        self._sessions = sessions
        self._over = False
        self.reads = self.writes = 0

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self._write(random.Random(number)))
            for number in range(READERS):
                group.create_task(self._read(random.Random(-1 - number)))
            try:
                yield
            finally:
                self._over = True

    async def _write(self, chance: random.Random) -> None:
        async with Connection(self._program.url, self._program.headers) as client:
            while not self._over:
                session = chance.choice(self._sessions)
                async with session.turn:
                    await self._say(client, session, f"{session.id}/{session.number}")

    async def _say(self, client: Connection, session: Session, text: str) -> None:
        """Say something once, however often it must be sent."""
        session.number += 1
        while True:
            try:
                answer = await client.post(
                    f"/v1/sessions/{session.id}/messages", {"content": text}, {"Idempotency-Key": text}
                )
            except Lost:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if answer.status == 201:
                seq = answer.json["seq"]
                session.said[seq], session.top = text, seq
                self.writes += 1
                return
            assert answer.status == 503, answer.body
            await asyncio.sleep(AGAIN_SECONDS)

    async def _read(self, chance: random.Random) -> None:
        async with Connection(self._program.url, self._program.headers) as client:
            while not self._over:
                session = chance.choice(self._sessions)
                after = chance.randrange(session.top + 1)
                known = session.top
                try:
                    answer = await client.get(f"/v1/sessions/{session.id}/messages?after={after}&limit=100")
                except Lost:
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                if answer.status == 503:
                    continue
                assert answer.status == 200, answer.body
                page = answer.json["data"]
                for message in page:
                    said = session.said.get(message["seq"])
                    assert said is None or said == message["content"], message
                    assert message["content"].startswith(f"{session.id}/")
                read = {message["seq"] for message in page}
                last = max(read, default=known)
                assert {seq for seq in session.said if after < seq <= min(known, last)} <= read
                self.reads += 1


async def make_sessions(program: Program) -> list[Session]:
    """Make sessions that have their messages already."""
    sessions = []
    async with Connection(program.url, program.headers) as client:
        for number in range(SESSIONS):
            session = Session(f"s{number}")
            made = await client.post("/v1/sessions", {"id": session.id, "user_name": f"user {number}"})
            assert made.status == 201, made.body
            left = MESSAGES // SESSIONS
            while left > 0:
                texts = [f"{session.id}/{session.number + more}" for more in range(min(BATCH, left))]
                body = {"messages": [{"role": "user", "content": text} for text in texts]}
                answer = await client.post(f"/v1/sessions/{session.id}/messages", body)
                assert answer.status == 201, answer.body
                for message in answer.json["data"]:
                    session.said[message["seq"]] = message["content"]
                session.top = max(session.said)
                session.number += len(texts)
                left -= len(texts)
            sessions.append(session)
    return sessions


async def change(database: str, master_key_file: str, *arguments: str, kills: int = 0) -> int:
    """Run the command to its end; kill it in the middle first, so many times. Return how often it was killed."""
    command = [*PROGRAM, "encryption", *arguments, "--database", database, "--json"]
    killed = 0
    for attempt in range(kills + 1):
        process = await asyncio.create_subprocess_exec(
            *command,
            env=make_environment({MASTER_KEY_FILE_VARIABLE: master_key_file}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        if attempt < kills:
            await _until_in_the_middle(database, process)
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
        _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        assert process.returncode in ((0, -signal.SIGKILL) if attempt < kills else (0,)), errors.decode()
        killed += process.returncode != 0
    return killed


async def _until_in_the_middle(database: str, process: asyncio.subprocess.Process) -> None:
    """Wait until a change has begun to move content, or has ended."""
    ends = time.monotonic() + PATIENCE_SECONDS
    before = None
    while process.returncode is None and time.monotonic() < ends:
        (state,) = await ask(database, "select key_changing from workspaces where id = 'default'")
        if state[0]:
            (seen,) = await ask(database, "select count(*), sum(coalesce(resealing_seq, 0)) from sessions")
            if before is not None and seen != before:
                return
            before = seen
        await asyncio.sleep(0)


async def read_all(program: Program, session: Session) -> dict[int, str]:
    found: dict[int, str] = {}
    after = 0
    async with Connection(program.url, program.headers) as client:
        while True:
            answer = await client.get(f"/v1/sessions/{session.id}/messages?after={after}&limit=1000")
            assert answer.status == 200, answer.body
            page = answer.json["data"]
            if not page:
                return found
            for message in page:
                assert message["seq"] > after
                after = message["seq"]
                found[after] = message["content"]


def status_of(database: str) -> Any:
    return run_json("encryption", "status", "--database", database)


async def test_keys_are_changed_under_load_and_kills(program: Program, database: str, master_key_file: str) -> None:
    sessions = await make_sessions(program)
    traffic = Traffic(program, sessions)
    figures = [f"{MESSAGES} messages"]

    async def restart() -> None:
        await asyncio.to_thread(program.kill)
        await asyncio.to_thread(program.start)

    old = None
    async with traffic.going_on():
        for words, kills in ((("enable",), 1), (("rotate",), 2), (("disable",), 1)):
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                changing = group.create_task(change(database, master_key_file, *words, kills=kills))
                if words == ("rotate",):
                    group.create_task(restart())
            killed = changing.result()
            figures.append(f"{words[0]} {time.monotonic() - began:.1f} s, killed {killed} times")
            assert killed or MESSAGES < 10_000, "it was stopped in the middle"
            status = await asyncio.to_thread(status_of, database)
            assert not status["changing"]
            wanted = {status["key_id"] or "plain text"}
            assert {each["key_id"] for each in status["held"]} == wanted
            assert len(status["keys"]) == (words != ("disable",))
            assert status["key_id"] is None or status["key_id"] != old
            old = status["key_id"]
    figures.append(f"{traffic.writes} written and {traffic.reads} read meanwhile")
    print(", ".join(figures), file=sys.stderr)  # noqa: T201 - shown with -s, and when it fails

    assert traffic.writes > WRITERS
    assert traffic.reads > READERS
    for session in sessions:
        found = await read_all(program, session)
        assert found == session.said, session.id
        assert sorted(found.values(), key=lambda text: int(text.partition("/")[2])) == [*found.values()]
        assert len(set(found.values())) == session.number
