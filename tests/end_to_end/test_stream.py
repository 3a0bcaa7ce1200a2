"""The stream: each event once, in order, whatever breaks on the way, and nothing to those who may not see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.program import run
from tests.end_to_end.connection import Connection
from tests.end_to_end.following import Refused, Told, open_cutter, open_stream
from tests.postgres import PostgresServer
from tests.program import Program, open_program
from tests.serving import Tenant

REVOKED_SECONDS = 5.0
CUTS = 120


def make_session(client: httpx.Client, *contents: str, **fields: str) -> str:
    """Make a session whose log begins with its creation and a message for each of `contents`."""
    body: dict[str, Any] = {"messages": [{"content": content} for content in contents]} if contents else {}
    made = client.post("/v1/sessions", json=body | fields)
    assert made.status_code == 201, made.text
    session: str = made.json()["id"]
    return session


def say(client: httpx.Client, session: str, content: str) -> None:
    client.post(f"/v1/sessions/{session}/messages", json={"content": content}).raise_for_status()


def delete(client: httpx.Client, session: str) -> None:
    client.delete(f"/v1/sessions/{session}").raise_for_status()


def ids(told: list[Told]) -> list[int]:
    return [int(one.id) for one in told if one.id is not None]


async def assert_refused(url: str, session: str, headers: Mapping[str, str], status: int) -> None:
    with pytest.raises(Refused) as refused:
        async with open_stream(url, session, headers, after=0):
            pass
    assert refused.value.status == status


async def test_after_0_tells_all_from_the_beginning(tenant: Tenant, client: httpx.Client) -> None:
    session = make_session(client, *[f"message {number}" for number in range(250)])  # more than a page of the follower

    async with open_stream(tenant.serving.url, session, tenant.headers, after=0) as stream:
        told = await stream.read_events(251)

    log = read_log(client, session)
    assert [one.json for one in told] == log
    assert [(one.id, one.event) for one in told] == [(str(event["seq"]), event["type"]) for event in log]
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_without_a_place_to_begin_only_news_are_told(tenant: Tenant, client: httpx.Client) -> None:
    session = make_session(client, "old", "older")

    async with open_stream(tenant.serving.url, session, tenant.headers) as stream:
        comment = await stream.next()
        assert comment is not None
        assert comment.id is None
        say(client, session, "new")
        (told,) = await stream.read_events(1)

    assert (told.id, told.json["data"]["content"]) == ("4", "new")


async def test_a_follower_that_comes_back_at_any_point_gets_the_rest_exactly_once(
    tenant: Tenant, client: httpx.Client
) -> None:
    session = make_session(client, *map(str, range(59)))

    for point in range(61):
        async with open_stream(tenant.serving.url, session, tenant.headers, last_event_id=str(point)) as stream:
            assert ids(await stream.read_events(60 - point)) == list(range(point + 1, 61))
            if point == 60:
                say(client, session, "news")
                assert ids(await stream.read_events(1)) == [61]


async def test_last_event_id_is_stronger_than_after(tenant: Tenant, client: httpx.Client) -> None:
    session = make_session(client, *map(str, range(9)))

    async with open_stream(tenant.serving.url, session, tenant.headers, after=0, last_event_id="7") as stream:
        assert ids(await stream.read_events(3)) == [8, 9, 10]


async def test_a_follower_cut_off_at_any_byte_gets_each_event_once_in_order(
    tenant: Tenant, client: httpx.Client
) -> None:
    session = make_session(client)
    written, told = 1, list[Told]()
    over = asyncio.Event()
    room = asyncio.Semaphore(20)  # written ahead of the follower, whose every connection is good for a few events

    async def write(connection: Connection) -> None:
        nonlocal written
        while not over.is_set():
            answer = await connection.post(f"/v1/sessions/{session}/messages", {"content": f"{written} ✂"})
            assert answer.status == 201
            written += 1
            await room.acquire()

    async def follow(url: str) -> None:
        last = str(len(told)) if told else None
        async with open_stream(url, session, tenant.headers, after=0, last_event_id=last) as stream:
            while (one := await stream.next_event()) is not None:
                told.append(one)
                room.release()

    async with (
        Connection(tenant.serving.url, tenant.headers) as writer,
        open_cutter(tenant.serving.url, seed=11, bytes_max=2_500) as cutter,
        asyncio.timeout(60),
    ):
        writing = asyncio.create_task(write(writer))
        while cutter.cuts < CUTS or len(told) < CUTS:
            try:
                await follow(cutter.url)
            except (EOFError, OSError, ValueError):
                assert ids(told) == list(range(1, len(told) + 1))
        over.set()
        room.release()
        await writing
        async with open_stream(
            tenant.serving.url, session, tenant.headers, after=0, last_event_id=str(len(told))
        ) as rest:
            told += await rest.read_events(written - len(told))

    assert [one.json for one in told] == read_log(client, session)


def read_log(client: httpx.Client, session: str) -> list[Any]:
    log: list[Any] = []
    while page := client.get(f"/v1/sessions/{session}/events", params={"after": len(log), "limit": 1000}).json()[
        "data"
    ]:
        log += page
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    return log


async def test_a_follower_hears_at_once_of_what_another_process_writes(postgres: PostgresServer) -> None:
    postgres.create_database("two_processes")
    database = postgres.url("two_processes")
    rounds = 100

    with open_program(database) as here, open_program(database) as there, there.client() as writer:
        session = make_session(writer)
        async with open_stream(here.url, session, here.headers, after=0) as stream:
            (created,) = await stream.read_events(1)
            begun = time.monotonic()
            for number in range(rounds):
                say(writer, session, str(number))
                (told,) = await stream.read_events(1)
                assert (int(told.id or 0), told.json["data"]["content"]) == (number + 2, str(number))
            took = time.monotonic() - begun
        log = read_log(writer, session)

    assert created.json == log[0]
    # A follower that was not woken looks for itself after five seconds: these would have taken eight minutes.
    assert took < rounds * 0.25


async def test_a_follower_of_one_process_and_writers_of_two_meet_in_one_order(postgres: PostgresServer) -> None:
    postgres.create_database("two_writers")
    database = postgres.url("two_writers")
    each = 150

    with open_program(database) as one, open_program(database) as two:
        with one.client() as client:
            session = make_session(client)

        async def write(program: Program) -> None:
            async with Connection(program.url, one.headers) as connection:
                for number in range(each):
                    answer = await connection.post(f"/v1/sessions/{session}/messages", {"content": str(number)})
                    assert answer.status == 201

        async def follow(program: Program) -> list[Told]:
            async with open_stream(program.url, session, one.headers, after=0) as stream:
                return await stream.read_events(1 + 4 * each)

        *told, _, _, _, _ = await asyncio.gather(
            follow(one), follow(two), write(one), write(one), write(two), write(two)
        )
        with two.client() as client:
            log = read_log(client, session)

    for each_told in told:
        assert isinstance(each_told, list)
        assert [event.json for event in each_told] == log


async def test_silence_is_broken_by_comments_as_often_as_is_set(database: str) -> None:
    with open_program(database, "--keep-alive-seconds", "0.3") as program:
        with program.client() as client:
            session = make_session(client)
        async with open_stream(program.url, session, program.headers) as stream:
            await stream.next()
            begun = time.monotonic()

            comments = [await stream.next() for _ in range(5)]

            took = time.monotonic() - begun
    assert [comment.id for comment in comments if comment is not None] == [None] * 5
    assert 5 * 0.3 - 0.1 <= took < 5 * 0.3 + 1


async def test_a_stopping_server_ends_its_streams_and_the_next_goes_on_without_a_gap(program: Program) -> None:
    with program.client() as client:
        session = make_session(client, "one", "two")
        told = list[Told]()
        for restart in range(3):
            last = str(len(told)) if told else None
            async with open_stream(program.url, session, program.headers, after=0, last_event_id=last) as stream:
                told += await stream.read_events(3 if restart == 0 else 1)
                begun = time.monotonic()

                ended, rest = await asyncio.gather(asyncio.to_thread(program.stop), stream.read_to_end())

                assert time.monotonic() - begun < 3
            assert ended == 0
            assert ids(rest) == []
            program.start()
            say(client, session, str(restart))
        async with open_stream(program.url, session, program.headers, last_event_id=str(len(told))) as stream:
            told += await stream.read_events(1)

        assert [one.json for one in told] == read_log(client, session)


async def test_a_stopping_server_answers_what_it_took_and_acknowledges_nothing_it_loses(program: Program) -> None:
    acknowledged, many = list[int](), asyncio.Event()

    async def write(session: str) -> None:
        async with Connection(program.url, program.headers) as connection:
            while True:
                answer = await connection.post(f"/v1/sessions/{session}/messages", {"content": "x"})
                if answer.status != 201:
                    return
                acknowledged.append(answer.json["seq"])
                if len(acknowledged) == 200:
                    many.set()

    with program.client() as client:
        session = make_session(client)
        writers = [asyncio.create_task(write(session)) for _ in range(8)]
        await asyncio.wait_for(many.wait(), 30)
        ended = await asyncio.to_thread(program.stop)
        await asyncio.gather(*writers, return_exceptions=True)
        program.start()

        kept = {event["seq"] for event in read_log(client, session)}
    assert ended == 0
    assert set(acknowledged) <= kept


async def test_a_key_revoked_elsewhere_ends_its_streams_within_five_seconds(program: Program) -> None:
    revoked = program.make_key()
    with program.client() as client:
        session = make_session(client)
    async with (
        open_stream(program.url, session, {"Authorization": f"Bearer {revoked['key']}"}) as stream,
        open_stream(program.url, session, program.headers) as other,
    ):
        await stream.next()
        await asyncio.to_thread(run, "keys", "revoke", revoked["id"], "--database", program.database)
        begun = time.monotonic()

        assert ids(await stream.read_to_end()) == []

        assert time.monotonic() - begun < REVOKED_SECONDS
        with program.client() as client:
            say(client, session, "x")
        assert ids(await other.read_events(1)) == [2]


async def test_an_expired_key_ends_its_streams(program: Program) -> None:
    expiring = program.make_key("--expires-in", "3s")
    with program.client() as client:
        session = make_session(client)

    async with open_stream(program.url, session, {"Authorization": f"Bearer {expiring['key']}"}) as stream:
        assert ids(await stream.read_to_end()) == []


async def test_a_deleted_session_ends_its_streams(tenant: Tenant, client: httpx.Client) -> None:
    session = make_session(client, "one")

    async with open_stream(tenant.serving.url, session, tenant.headers, after=0) as stream:
        assert ids(await stream.read_events(2)) == [1, 2]
        delete(client, session)
        begun = time.monotonic()

        assert ids(await stream.read_to_end()) == []

        assert time.monotonic() - begun < 2
    await assert_refused(tenant.serving.url, session, tenant.headers, 404)


async def test_a_session_made_again_under_a_deleted_ones_id_is_not_told_to_its_followers(
    tenant: Tenant, client: httpx.Client
) -> None:
    session = make_session(client, "one")

    async with open_stream(tenant.serving.url, session, tenant.headers, after=0) as stream:
        assert ids(await stream.read_events(2)) == [1, 2]
        delete(client, session)
        make_session(client, *"abcde", id=session)

        assert ids(await stream.read_to_end()) == []


async def test_nobody_follows_another_workspaces_or_users_session(tenant: Tenant, client: httpx.Client) -> None:
    session = make_session(client, user_id="ada")
    url = tenant.serving.url

    await assert_refused(url, session, tenant.serving.make_tenant().headers, 404)
    await assert_refused(url, session, tenant.make_key(user_id="bob").headers, 404)
    await assert_refused(url, session, {}, 401)
    async with open_stream(url, session, tenant.make_key(user_id="ada").headers, after=0) as stream:
        assert ids(await stream.read_events(1)) == [1]


def test_streams_beyond_the_limit_are_refused_and_told_when_to_come_back(tmp_path: Path) -> None:
    with open_program(f"sqlite:///{tmp_path}/sessiond.db", "--streams-max", "1") as program, program.client() as client:
        path = f"/v1/sessions/{make_session(client)}/stream"
        with client.stream("GET", path) as stream:
            assert stream.status_code == 200
            refused = client.get(path)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
