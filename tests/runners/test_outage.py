"""A database that is away for a while, or takes a commit and cannot say so: nothing of a run is lost or there twice."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from sessiond.actions import runs
from sessiond.actions.call import Call, itself
from sessiond.core.event import RUN_ENDS, RUN_STARTED, RUN_TEXT, RUN_TOOL_RESULT, RUN_WAITING
from sessiond.core.run import Answer
from sessiond.storage.engine import Engine
from sessiond.storage.open import migrate
from tests.actions.calling import ME
from tests.postgres import PostgresServer, open_postgres
from tests.runners.working import (
    SECONDS,
    answers,
    assert_no_gaps,
    ended,
    events_of,
    open_worker,
    output_of,
    read_log,
    register,
    register_script,
    seen,
    send,
    text_in_log,
    types_of,
)
from tests.storage.making import another_engine

WORDS: Final = " ".join(map(str, range(120)))


class Relay:
    """Stands between a client and PostgreSQL, and can cut the line where it hurts most."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cuts = 0
        self.cut = asyncio.Event()

    def cut_the_next_commit(self) -> None:
        """Pass the next COMMIT on, and cut the line when it is answered, without passing on the answer."""
        self.cut.clear()
        self._cuts += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
            answered = asyncio.create_task(self._pass_on(there, writer))
            with suppress(OSError, asyncio.CancelledError):
                while data := await reader.read(64 * 1024):
                    if b"COMMIT" in data and self._cuts:
                        self._cuts -= 1
                        answered.cancel()
                        await asyncio.wait({answered})
                        back.write(data)
                        await there.read(1)
                        self.cut.set()
                        break
                    back.write(data)
            answered.cancel()
            back.transport.abort()
        writer.transport.abort()

    async def _pass_on(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await there.read(64 * 1024):
                writer.write(data)
        writer.transport.abort()


@pytest.fixture
async def fragile() -> AsyncIterator[tuple[PostgresServer, Engine]]:
    """A PostgreSQL of the test's own, to be stopped and started, and an engine on it."""
    with open_postgres() as server:
        server.create_database("sessiond")
        await migrate(server.url("sessiond"))
        async with another_engine(server.url("sessiond")) as engine:
            yield server, engine


@asynccontextmanager
async def open_relayed(postgres: PostgresServer) -> AsyncIterator[tuple[Relay, Engine]]:
    name = f"test_{uuid.uuid4().hex}"
    postgres.create_database(name)
    await migrate(postgres.url(name))
    relay = Relay(postgres.port)
    async with await asyncio.start_server(relay.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with another_engine(postgres.url(name).replace(f":{postgres.port}", f":{port}")) as engine:
            yield relay, engine


async def test_a_run_goes_on_when_its_database_was_away(fragile: tuple[PostgresServer, Engine]) -> None:
    server, engine = fragile
    await register(engine, options={"delay_ms": 30})

    async with open_worker(engine):
        (run_id,) = await send(engine, WORDS)
        for number in range(2):
            await seen(engine, run_id, RUN_TEXT, where=behind(50 + 100 * number))
            await asyncio.to_thread(server.stop, immediate=True)
            await asyncio.to_thread(server.start)
        run = await ended(engine, run_id)

    assert run.attempts == 1
    assert output_of(run) == await text_in_log(engine, run_id) == WORDS
    assert_no_gaps(await read_log(engine))


async def test_an_agent_that_ends_while_the_database_is_away_has_its_end_kept(
    fragile: tuple[PostgresServer, Engine], tmp_path: Path
) -> None:
    server, engine = fragile
    go, over = tmp_path / "go", tmp_path / "over"
    await register_script(engine, f"echo one; while [ ! -e {go} ]; do sleep 0.01; done; echo two; touch {over}")

    async with open_worker(engine, lease_seconds=2):
        (run_id,) = await send(engine, "go")
        await seen(engine, run_id, RUN_TEXT)
        await asyncio.to_thread(server.stop, immediate=True)
        go.touch()
        await _exists(over)
        await asyncio.sleep(3)  # longer than the lease
        await asyncio.to_thread(server.start)
        run = await ended(engine, run_id)

    assert (run.attempts, output_of(run)) in ((1, "one\ntwo"), (2, "one\ntwo"))
    ends = await events_of(engine, run_id, *RUN_ENDS.values())
    assert len(ends) == 1
    assert await answers(engine) == ["one\ntwo"]
    if run.attempts == 1:
        assert await text_in_log(engine, run_id) == "one\ntwo"
    assert_no_gaps(await read_log(engine))


async def test_an_agent_whose_lease_ran_out_while_the_database_was_away_is_started_over(
    fragile: tuple[PostgresServer, Engine],
) -> None:
    server, engine = fragile
    await register_script(engine, "echo one; [ $SESSIOND_ATTEMPT = 2 ] || exec sleep 60")

    async with open_worker(engine, lease_seconds=1) as worker:
        (run_id,) = await send(engine, "go")
        await seen(engine, run_id, RUN_TEXT)
        await asyncio.to_thread(server.stop, immediate=True)
        async with asyncio.timeout(SECONDS):
            while worker.under_way:  # noqa: ASYNC110 - the worker tells nobody that it stops an agent
                await asyncio.sleep(0.01)
        await asyncio.to_thread(server.start)
        run = await ended(engine, run_id)

    assert (run.attempts, output_of(run)) == (2, "one")
    assert len(await events_of(engine, run_id, RUN_STARTED)) == 2


async def test_pieces_whose_commit_was_not_answered_are_there_once(postgres: PostgresServer) -> None:
    async with open_relayed(postgres) as (relay, engine):
        await register(engine, options={"delay_ms": 25})

        async with open_worker(engine):
            (run_id,) = await send(engine, WORDS)
            for number in range(1, 5):
                await seen(engine, run_id, RUN_TEXT, where=behind(60 * number))
                relay.cut_the_next_commit()
                async with asyncio.timeout(SECONDS):
                    await relay.cut.wait()
            run = await ended(engine, run_id)

        assert run.attempts == 1
        assert output_of(run) == await text_in_log(engine, run_id) == WORDS
        assert_no_gaps(await read_log(engine))


async def test_an_end_whose_commit_was_not_answered_is_there_once(postgres: PostgresServer) -> None:
    async with open_relayed(postgres) as (relay, engine):
        await register_script(engine, "echo one; read -r line; sleep 0.3")

        async with open_worker(engine):
            (run_id,) = await send(engine, "go")
            await seen(engine, run_id, RUN_TEXT)
            relay.cut_the_next_commit()
            run = await ended(engine, run_id)

        assert (run.attempts, output_of(run)) == (1, "one")
        assert len(await events_of(engine, run_id, *RUN_ENDS.values())) == 1
        assert await answers(engine) == ["one"]


async def test_a_question_whose_commit_was_not_answered_is_asked_once(postgres: PostgresServer) -> None:
    ask = '{"type": "ask", "title": "Sure?"}'
    text = '{"type": "text", "text": "so"}'
    heard = """read -r answer; printf '{"type":"tool_result","id":"1","output":%s}\\n' "$answer" """
    script = f"read -r brief; echo '{text}'; sleep 0.3; echo '{ask}'; {heard}; sleep 0.3; echo '{text}'"
    async with open_relayed(postgres) as (relay, engine):
        await register(engine, runner="command", options={"command": ["sh", "-c", script]})

        async with open_worker(engine):
            (run_id,) = await send(engine, "go")
            await seen(engine, run_id, RUN_TEXT)
            relay.cut_the_next_commit()
            await seen(engine, run_id, RUN_WAITING)
            await runs.respond(Call(engine, ME), run_id, Answer(content=1), itself)
            await seen(engine, run_id, RUN_TOOL_RESULT)
            relay.cut_the_next_commit()
            run = await ended(engine, run_id)

        assert (run.attempts, output_of(run)) == (1, "soso")
        assert await text_in_log(engine, run_id) == "soso"
        types = await types_of(engine, run_id)
        assert (types.count(RUN_WAITING), types.count(RUN_TOOL_RESULT)) == (1, 1)


def behind(offset: int) -> Callable[[dict[str, Any]], bool]:
    """Return whether a piece begins behind so many characters."""
    return lambda body: bool(body["offset"] > offset)


async def _exists(path: Path) -> None:
    async with asyncio.timeout(SECONDS):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - a program makes it
            await asyncio.sleep(0.01)
