"""Many writers at once, and servers and databases that are killed under them: nothing acknowledged is ever lost."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

import msgspec
import pytest

from tests.conftest import make_database
from tests.end_to_end.connection import Answer, Connection, Lost
from tests.postgres import PostgresServer
from tests.program import Program, open_program

WAIT_SECONDS: Final = 60  # for what takes a second or two when nothing else runs
# What may be down for a moment is asked again this soon.
AGAIN_SECONDS: Final = 0.02

DEPLOYMENTS: Final = {
    "sqlite": ("sqlite", ()),
    "postgres": ("postgres", ()),
    "postgres with two workers": ("postgres", ("--workers", "2")),
}


class Said(msgspec.Struct, frozen=True):
    """A message as its writer knows it."""

    session: str
    writer: int
    number: int

    @property
    def text(self) -> str:
        return f"{self.writer}/{self.number}"


class Ledger:
    """What writers sent, and which seq the server said it had."""

    def __init__(self) -> None:
        self.sent: set[Said] = set()
        self.acknowledged: dict[Said, int] = {}
        self.refusals: list[Answer] = []
        self.cut = 0
        """Requests whose answer never came."""
        self._more = asyncio.Event()

    def acknowledge(self, said: Said, seq: int) -> None:
        self.acknowledged[said] = seq
        self._more.set()

    def refuse(self, refusal: Answer) -> None:
        self.refusals.append(refusal)
        self._more.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that changes with an answer."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._more.clear()
                await self._more.wait()


@pytest.fixture(params=list(DEPLOYMENTS.values()), ids=list(DEPLOYMENTS))
def deployment(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Program]:
    """A running program, as people run it."""
    engine_name, arguments = request.param
    with open_program(make_database(engine_name, tmp_path, request), *arguments) as running:
        yield running


@asynccontextmanager
async def connections(program: Program, n: int) -> AsyncIterator[list[Connection]]:
    async with AsyncExitStack() as opened:
        yield [await opened.enter_async_context(Connection(program.url, program.headers)) for _ in range(n)]


async def make_sessions(client: Connection, n: int) -> list[str]:
    return [(await client.post("/v1/sessions", {})).json["id"] for _ in range(n)]


async def send(client: Connection, said: Said, headers: dict[str, str] | None = None) -> Answer:
    return await client.post(f"/v1/sessions/{said.session}/messages", {"content": said.text}, headers)


async def write_once(client: Connection, ledger: Ledger, said: Said) -> None:
    """Send a message, and whatever comes of it never again."""
    ledger.sent.add(said)
    try:
        answer = await send(client, said)
    except Lost:
        ledger.cut += 1
        await asyncio.sleep(AGAIN_SECONDS)
        return
    if answer.status == 201:
        ledger.acknowledge(said, answer.json["seq"])
        return
    ledger.refuse(answer)
    assert answer.status == 503, answer.body
    await asyncio.sleep(AGAIN_SECONDS)


async def write_until_acknowledged(client: Connection, ledger: Ledger, said: Said) -> None:
    """Send a message under an Idempotency-Key until the server says that it has it."""
    while said not in ledger.acknowledged:
        ledger.sent.add(said)
        try:
            answer = await send(client, said, {"Idempotency-Key": f"{said.session}/{said.text}"})
        except Lost:
            ledger.cut += 1
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        if answer.status == 201:
            ledger.acknowledge(said, answer.json["seq"])
            continue
        ledger.refuse(answer)
        assert answer.status == 503, answer.body
        await asyncio.sleep(AGAIN_SECONDS)


@contextmanager
def running(writers: Sequence[asyncio.Task[None]]) -> Iterator[None]:
    """End writers with the block, however it ends."""
    try:
        yield
    finally:
        for writer in writers:
            writer.cancel()


async def read_log(client: Connection, session: str) -> list[dict[str, Any]]:
    """Return a session's whole log."""
    log: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = f"limit=1000&cursor={cursor}" if cursor is not None else "limit=1000"
        answer = await client.get(f"/v1/sessions/{session}/events?{query}")
        assert answer.status == 200, answer.body
        page = answer.json
        log += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return log


async def assert_kept(client: Connection, ledger: Ledger, sessions: Sequence[str]) -> set[Said]:
    """Check every session's log against what its writers know, and return the messages that are in them."""
    found: dict[Said, int] = {}
    for session in sessions:
        log = await read_log(client, session)
        assert [event["seq"] for event in log] == list(range(1, len(log) + 1)), "seq has a gap or a repeat"
        last: defaultdict[int, int] = defaultdict(lambda: -1)
        for event in log:
            if event["type"] != "message.user":
                continue
            writer, number = map(int, event["data"]["content"].split("/"))
            assert number > last[writer], f"{writer}/{number} stands twice, or behind a later one of its writer"
            last[writer] = number
            found[Said(session, writer, number)] = event["seq"]
        row = (await client.get(f"/v1/sessions/{session}")).json
        assert (row["last_seq"], row["message_count"]) == (len(log), sum(said.session == session for said in found))
    missing = {said for said, seq in ledger.acknowledged.items() if found.get(said) != seq}
    assert not missing, f"acknowledged, but not there: {missing}"
    assert set(found) <= ledger.sent
    return set(found)


async def test_sixteen_writers_to_one_session_get_its_numbers_without_gap_or_repeat(deployment: Program) -> None:
    each = 250
    ledger = Ledger()

    async with connections(deployment, 16) as clients:
        (session,) = await make_sessions(clients[0], 1)

        async def write(writer: int) -> None:
            for number in range(each):
                await write_once(clients[writer], ledger, Said(session, writer, number))

        await asyncio.gather(*[write(writer) for writer in range(16)])

        kept = await assert_kept(clients[0], ledger, [session])
    assert kept == set(ledger.acknowledged)
    assert len(kept) == 16 * each


async def test_sixty_four_writers_to_many_sessions_get_their_numbers_without_gap_or_repeat(
    deployment: Program,
) -> None:
    each = 60
    ledger = Ledger()

    async with connections(deployment, 64) as clients:
        sessions = await make_sessions(clients[0], 24)

        async def write(writer: int) -> None:
            chance = random.Random(writer)
            for number in range(each):
                await write_once(clients[writer], ledger, Said(chance.choice(sessions), writer, number))

        await asyncio.gather(*[write(writer) for writer in range(64)])

        kept = await assert_kept(clients[0], ledger, sessions)
    assert kept == set(ledger.acknowledged)
    assert len(kept) == 64 * each


async def write_through_trouble(
    program: Program, ledger: Ledger, trouble: Callable[[], Any], *, rounds: int, chance: random.Random
) -> None:
    """Have 16 writers write, half of them retrying, while trouble comes at random moments; then check what is kept.

    The moments are numbers of acknowledged messages, so that they fall where writing goes on, at any speed.
    """
    async with connections(program, 16) as clients:
        sessions = await make_sessions(clients[0], 4)
        over = asyncio.Event()

        async def write(writer: int) -> None:
            number, picked = 0, random.Random(writer)
            while not over.is_set():
                said = Said(picked.choice(sessions), writer, number)
                await (write_until_acknowledged if writer % 2 else write_once)(clients[writer], ledger, said)
                number += 1

        writers = [asyncio.create_task(write(writer)) for writer in range(16)]
        with running(writers):
            for _ in range(rounds):
                target = len(ledger.acknowledged) + chance.randrange(1, 250)
                await ledger.until(lambda target=target: len(ledger.acknowledged) >= target)  # type: ignore[misc]
                await trouble()
            target = len(ledger.acknowledged) + 200
            await ledger.until(lambda: len(ledger.acknowledged) >= target)
            over.set()
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.gather(*writers)

        kept = await assert_kept(clients[0], ledger, sessions)
    # Those who retry know of each of theirs; of the others' some may be there though nobody was told.
    assert {said for said in kept if said.writer % 2} == {said for said in ledger.sent if said.writer % 2}


async def test_a_killed_server_loses_nothing_it_acknowledged_and_doubles_nothing(deployment: Program) -> None:
    ledger = Ledger()

    async def kill_and_start() -> None:
        deployment.kill()
        await asyncio.to_thread(deployment.start)

    await write_through_trouble(deployment, ledger, kill_and_start, rounds=6, chance=random.Random(4))

    assert ledger.cut > 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_killed_postgres_is_waited_for_and_nothing_acknowledged_is_lost(
    fragile_postgres: PostgresServer, workers: str
) -> None:
    ledger = Ledger()
    ways = [fragile_postgres.kill, lambda: fragile_postgres.stop(immediate=True), fragile_postgres.stop]

    async def take_away_and_bring_back() -> None:
        await asyncio.to_thread(ways[0])
        ways.append(ways.pop(0))
        before = len(ledger.refusals)
        await ledger.until(lambda: len(ledger.refusals) > before)
        async with Connection(program.url, {}) as machine:
            assert (await machine.get("/healthz")).status == 200
            assert (await machine.get("/readyz")).status == 503
        await asyncio.to_thread(fragile_postgres.start)

    with open_program(fragile_postgres.url("sessiond"), "--workers", workers) as program:
        await write_through_trouble(program, ledger, take_away_and_bring_back, rounds=4, chance=random.Random(7))

        async with Connection(program.url, {}) as machine:
            assert (await machine.get("/readyz")).status == 200
    assert ledger.cut == 0, "sessiond itself was never away"
    for refusal in ledger.refusals:
        assert refusal.headers["content-type"] == "application/problem+json"
        assert int(refusal.headers["retry-after"]) >= 1
