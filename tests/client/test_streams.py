"""Streams that are broken on the way: each event once, in order, none missing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from sessiond import AsyncClient, Client
from sessiond.client import ApiError, ConnectionFailed, Event, UnexpectedAnswer
from sessiond.client.call import Response
from sessiond.client.following import Patience, Tail
from tests.client.breaking import Cutter, answer, open_broken, open_cutter
from tests.program import open_program
from tests.serving import Tenant

CUTS = int(os.environ.get("TESTS_CUTS", "40"))  # 200 take 13 seconds
BYTES_MAX = 2_400  # at most a few events a connection
WRITERS = 16


def _read_sync(url: str, key: str, session: str, enough: Callable[[int], bool]) -> list[Event]:
    told = list[Event]()
    with Client(key, url) as client:
        for event in client.sessions.stream(session):
            told.append(event)
            if enough(len(told)):
                return told
    raise AssertionError("the stream ended")


async def _read_async(url: str, key: str, session: str, enough: Callable[[int], bool]) -> list[Event]:
    told = list[Event]()
    async with AsyncClient(key, url) as client, aclosing(client.sessions.stream(session)) as events:
        async for event in events:
            told.append(event)
            if enough(len(told)):
                return told
    raise AssertionError("the stream ended")


def _follow_through_cuts(tenant: Tenant, read: Callable[..., list[Event]]) -> None:
    """Follow a session through a way that is cut again and again, while many write to it and its agent works."""
    done = threading.Event()
    ahead = threading.Semaphore(60)  # written, not read yet: the follower shall wait for news as well
    written = list[int]()

    def write(number: int) -> None:
        with Client(tenant.key, tenant.serving.url) as client:
            while not done.is_set():
                start_run = number == 0  # one of them talks to the agent
                client.messages.append(session, f"{number} says so ✂", start_run=start_run)
                while not (done.is_set() or ahead.acquire(timeout=0.1)):
                    pass

    def enough(count: int) -> bool:
        ahead.release()
        if cutter.cuts >= CUTS and not done.is_set():
            done.set()
            for writer in writers:
                writer.join(20)
            with Client(tenant.key, tenant.serving.url) as client:
                client.runs.start_and_wait(session, "the last word")
                written.append(client.sessions.get(session).last_seq)
            cutter.over = True
        return bool(written) and count >= written[0]

    with Client(tenant.key, tenant.serving.url) as client, open_cutter(tenant.serving.url, bytes_max=BYTES_MAX) as made:
        cutter: Cutter = made
        client.agents.put("parrot", "echo")
        session = client.sessions.create(agent_id="parrot").id
        writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            told = read(cutter.url, tenant.key, session, enough)
        finally:
            done.set()
        log = client.sessions.timeline(session).events

    assert [event.seq for event in told] == list(range(1, written[0] + 1))
    assert told == log[: len(told)]
    assert {"message.user", "message.assistant", "run.completed"} <= {event.type for event in told}


def test_a_stream_cut_again_and_again_has_each_event_once_in_order(tenant: Tenant) -> None:
    _follow_through_cuts(tenant, _read_sync)


def test_an_async_stream_cut_again_and_again_has_each_event_once_in_order(tenant: Tenant) -> None:
    def read(*args: Any) -> list[Event]:
        return asyncio.run(_read_async(*args))

    _follow_through_cuts(tenant, read)


def test_a_stream_outlives_a_server_that_is_stopped_and_started_again(tmp_path: Path) -> None:
    with open_program(f"sqlite:///{tmp_path}/sessiond.db") as program, Client(program.key, program.url) as client:
        session = client.sessions.create(messages=[{"content": "before"}])
        with closing(client.sessions.stream(session.id)) as events:
            assert [next(events).seq for _ in range(2)] == [1, 2]

            assert program.stop() == 0
            starting = threading.Thread(target=program.start)
            starting.start()
            said = client.messages.append(session.id, "after")  # tried until somebody answers
            starting.join()

            assert (next(events).seq, said.seq) == (3, 3)


async def test_an_abandoned_stream_leaves_a_client_as_it_was(tenant: Tenant) -> None:
    with Client(tenant.key, tenant.serving.url) as client:
        session = client.sessions.create(messages=[{"content": str(number)} for number in range(5)]).id
        assert next(client.sessions.stream(session)).seq == 1
        assert next(client.messages.iterate(session, limit=2)).content == "0"
        assert client.sessions.get(session).last_seq == 6
    async with AsyncClient(tenant.key, tenant.serving.url) as other:
        async for event in other.sessions.stream(session):
            assert event.seq == 1
            break
        async for message in other.messages.iterate(session, limit=2):
            assert message.content == "0"
            break
        assert (await other.sessions.get(session)).last_seq == 6


def test_what_is_no_event_of_a_log_is_passed_by() -> None:
    tail = Tail("/v1/sessions/s/stream", after=2)
    event = b'{"id":"e","seq":%d,"type":"of.tomorrow","created_at":"2026-01-01T00:00:00Z","actor":"k","new":1}'

    told = tail.feed(b": keep-alive\r\n\r\nevent: hint\ndata: {}\n\nid: 2\ndata: " + event % 2 + b"\n\nid: 3\r\n")
    told += tail.feed(b"data: " + event % 3 + b"\r")
    told += tail.feed(b"\n\r\n")

    assert [(one.seq, one.type) for one in told if isinstance(one, Event)] == [(3, "of.tomorrow")]
    with pytest.raises(UnexpectedAnswer):
        tail.feed(b"id: 4\ndata: <html>\n\n")


def test_what_is_no_stream_is_not_followed_for_ever() -> None:
    page = answer(200, b"<html>log in</html>", content_type="text/html")
    with (
        open_broken(page) as broken,
        Client("sd_x", broken.url) as client,
        pytest.raises(UnexpectedAnswer, match="Status 200, text/html"),
    ):
        next(client.sessions.stream("s"))


def test_a_follower_that_got_on_is_back_at_once_and_others_take_their_time() -> None:
    tail, lost = Tail("/v1/sessions/s/stream", after=0), ConnectionFailed("lost")
    patience = Patience(tail)

    waits = [patience.after(lost) for _ in range(12)]
    tail.feed(b'id: 1\ndata: {"id":"e","seq":1,"type":"t","created_at":"2026-01-01T00:00:00Z","actor":"k"}\n\n')

    assert waits[0] <= 0.3
    assert 5 <= waits[-1] <= 15
    assert patience.after(lost) == 0
    assert patience.after(None) <= 0.3
    refused = ApiError(Response(404, {}))
    with pytest.raises(ApiError):
        patience.after(refused)
