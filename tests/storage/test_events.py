"""Logs: appended to without gaps, read by page."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from sessiond.core.event import MESSAGES, Entry, make_entry
from sessiond.core.limits import PAGE_MAX_BYTES
from sessiond.core.session import Session, Status
from sessiond.storage import events, sessions
from sessiond.storage.engine import Engine, Tx
from tests.storage.making import (
    ELSEWHERE,
    NOW,
    WORKSPACE,
    add,
    another_engine,
    append,
    find,
    make_append,
    make_session,
    must_find,
    query,
    read_log,
    read_whole_log,
    remove,
    said,
)

MIB = 1024 * 1024


async def append_taken(engine: Engine, session_id: str, *entries: Entry) -> Session:
    async def operation(tx: Tx) -> Session:
        before = await sessions.take(tx, WORKSPACE, session_id, user_id=None)
        after = await events.append_to(tx, before, make_append(session_id, *entries, at_us=NOW + 9))
        await sessions.save(tx, before, after)
        return after

    return await engine.write(operation)


async def test_both_ways_of_appending_number_without_gaps_and_keep_the_session_right(engine: Engine) -> None:
    await add(engine, make_session("s"))

    assert await append(engine, make_append("s", *said("a", "b"))) == 1
    saved = await append_taken(engine, "s", make_entry("session.paused", {}), *said("c"))
    assert await append(engine, make_append("s", *said("d"), at_us=NOW + 20)) == 5

    assert saved.last_seq == 4
    session = await must_find(engine, "s")
    log = (await read_log(engine, "s")).events
    size = sum(len(event.body) for event in log)
    assert (session.last_seq, session.message_count, session.log_bytes) == (5, 4, size)
    assert (session.updated_at_us, session.last_active_at_us) == (NOW + 20, NOW + 20)
    assert [event.seq for event in log] == [1, 2, 3, 4, 5]


async def test_an_event_is_read_back_as_it_was_written(engine: Engine) -> None:
    await add(engine, make_session("s"))
    entry = Entry(type="run.started", body=b'{"a": "\\u0000", "b":1.50}', action="start", run_id="run_1")

    await append(engine, make_append("s", entry, make_entry("run.log", {})))

    async def find_both(tx: Tx) -> list[Any]:
        session = await sessions.get(tx, WORKSPACE, "s", user_id=None)
        return [await events.find(tx, session, seq) for seq in (1, 2, 3)]

    first, second, third = await engine.read(find_both)
    assert msgspec.structs.astuple(first) == (
        *("s", 1, "run.started", NOW + 1, "key_1", "run_1", "start", 7, b'{"a": "\\u0000", "b":1.50}'),
    )
    assert (second.action, second.duration_us, third) == (None, None, None), "what is no step took no time"


async def test_only_a_session_under_way_and_the_callers_own_takes_an_append(engine: Engine) -> None:
    for status in Status:
        await add(engine, make_session(status, status=status, user_id="me"))
    await add(engine, make_session("theirs", workspace=ELSEWHERE))

    async def seq(session_id: str, user_id: str | None = None) -> int | None:
        return await append(engine, make_append(session_id, *said("x"), user_id=user_id))

    found = {status: await seq(status) for status in Status}
    assert found == {status: 1 if status in {Status.ACTIVE, Status.PAUSED} else None for status in Status}
    assert [await seq("active", "me"), await seq("active", "you"), await seq("active", "")] == [2, None, None]
    assert [await seq("none"), await seq("theirs")] == [None, None]
    for status in set(Status) - {Status.ACTIVE, Status.PAUSED}:
        assert (await must_find(engine, status)).last_seq == 0
    assert [event.seq for event in (await read_log(engine, "active")).events] == [1, 2]


async def test_a_group_of_appends_does_for_each_what_it_would_alone(engine: Engine) -> None:
    await add(engine, make_session("s", user_id="me"), make_session("t"), make_session("end", status=Status.FAILED))

    async def operation(tx: Tx) -> list[int | None]:
        return await events.append_each(
            tx,
            [
                make_append("s", *said("1", "2")),
                make_append("t", *said("1")),
                make_append("end", *said("x")),
                make_append("s", *said("3"), user_id="me"),
                make_append("none", *said("x")),
                make_append("s", *said("x"), user_id="you"),
                make_append("s", *said("4", "5")),
                make_append("t", *said("2"), at_us=NOW - 5),
            ],
        )

    firsts = await engine.write(operation)

    assert [first is None for first in firsts] == [False, False, True, False, True, True, False, False]
    for session_id, mine in {"s": (0, 3, 6), "t": (1, 7)}.items():
        log = dict(await read_whole_log(engine, session_id))
        assert sorted(log) == list(range(1, len(log) + 1))
        assert sorted(log.values()) == sorted("12345"[: len(log)])
        for index in mine:
            first = firsts[index]
            assert first is not None
            assert first in log
    assert (await must_find(engine, "s")).message_count == 5


async def test_what_rolls_back_leaves_no_gap_and_its_neighbours_stay(engine: Engine) -> None:
    await add(engine, make_session("s"))

    async def fail(tx: Tx) -> None:
        before = await sessions.take(tx, WORKSPACE, "s", user_id=None)
        await sessions.save(tx, before, await events.append_to(tx, before, make_append("s", *said("lost"))))
        await sessions.insert(tx, make_session("lost"))
        raise LookupError

    async def succeed(number: int) -> None:
        await append_taken(engine, "s", *said(str(number)))

    results = await asyncio.gather(
        *(succeed(number // 2) if number % 2 else engine.write(fail) for number in range(20)), return_exceptions=True
    )

    assert [type(result) for result in results[::2]] == [LookupError] * 10
    assert results[1::2] == [None] * 10
    assert [seq for seq, _ in await read_whole_log(engine, "s")] == list(range(1, 11))
    assert {text for _, text in await read_whole_log(engine, "s")} == {str(number) for number in range(10)}
    assert await find(engine, "lost") is None


async def test_an_append_that_the_database_cannot_take_fails_alone(engine: Engine) -> None:
    await add(engine, make_session("s"))
    broken = msgspec.structs.replace(said("x")[0], run_id=b"not text")

    results = await asyncio.gather(
        *(append(engine, make_append("s", broken if number == 7 else said("x")[0])) for number in range(20)),
        return_exceptions=True,
    )

    failed = [number for number, result in enumerate(results) if isinstance(result, BaseException)]
    assert failed == [7]
    assert sorted(result for result in results if isinstance(result, int)) == list(range(1, 20))
    assert len(await read_whole_log(engine, "s")) == 19


async def test_a_page_lies_between_two_seqs(engine: Engine) -> None:
    await add(engine, make_session("s"))
    await append(engine, make_append("s", *said(*"abcdefghij")))

    async def seqs(**how: Any) -> tuple[list[int], bool]:
        page = await read_log(engine, "s", **how)
        return [event.seq for event in page.events], page.more

    assert await seqs() == ([*range(1, 11)], False)
    assert await seqs(limit=10) == ([*range(1, 11)], False)
    assert await seqs(limit=3) == ([1, 2, 3], True)
    assert await seqs(limit=3, after=7) == ([8, 9, 10], False)
    assert await seqs(limit=3, before=4) == ([1, 2, 3], False)
    assert await seqs(limit=3, before=8, descending=True) == ([7, 6, 5], True)
    assert await seqs(after=3, before=6) == ([4, 5], False)
    assert await seqs(after=3, before=4) == ([], False)
    assert await seqs(limit=2, offset=3) == ([4, 5], True)
    assert await seqs(limit=2, offset=8) == ([9, 10], False)
    assert await seqs(after=2**63 - 1) == ([], False)


async def test_messages_from_before_and_behind_what_runs_said_are_one_log(engine: Engine) -> None:
    await add(engine, make_session("s"))
    pieces = [make_entry("run.text", {"text": "x"})] * 10
    for entries in (said("1", "2", "3"), pieces, said("14"), pieces, said("25"), pieces, said("36", "37"), said("38")):
        await append(engine, make_append("s", *entries))
    session, seqs = await must_find(engine, "s"), [1, 2, 3, 14, 25, 36, 37, 38]
    assert session.message_count * 4 < session.last_seq, "few of its events are messages"

    async def read(**how: Any) -> list[int]:
        async def operation(tx: Tx) -> list[int]:
            return [message.seq for message in (await events.read_message_page(tx, session, **how)).events]

        return await engine.scan(operation)

    for limit in range(1, len(seqs) + 1):
        assert await read(limit=limit) == seqs[:limit]
        assert await read(limit=limit, descending=True) == seqs[::-1][:limit]
        assert await read(limit=limit, offset=2) == seqs[2 : 2 + limit]
    assert await read(after=2, before=37, limit=9) == [3, 14, 25, 36]
    assert await read(before=3, descending=True, limit=9) == [2, 1]


async def test_a_page_holds_the_types_asked_for(engine: Engine) -> None:
    await add(engine, make_session("s"))
    types = [
        "session.created",
        "message.user",
        "run.started",
        "message.tool",
        "run.step.done",
        "runs",
        "session.paused",
    ]
    await append(engine, make_append("s", *(make_entry(name, {}) for name in types)))

    async def found(*wanted: str) -> list[str]:
        return [event.type for event in (await read_log(engine, "s", types=wanted)).events]

    assert await found() == await found("*") == types
    assert await found(*MESSAGES) == ["message.user", "message.tool"]
    assert await found("run.*") == ["run.started", "run.step.done"]
    assert await found("run*", "session.paused") == ["run.started", "run.step.done", "runs", "session.paused"]
    assert await found("run") == []


async def test_a_page_of_large_bodies_ends_early_and_is_never_empty(engine: Engine) -> None:
    await add(engine, make_session("s"))
    large = [Entry(type="message.user", body=b"x" * size) for size in (*[MIB] * 10, PAGE_MAX_BYTES + 1, 1)]
    for entry in large:
        await append(engine, make_append("s", entry))

    for descending in (False, True):
        read: list[int] = []
        pages: list[int] = []
        more = True
        while more:
            beyond = {"before" if descending else "after": read[-1]} if read else {}
            page = await read_log(engine, "s", descending=descending, **beyond)
            sizes = [len(event.body) for event in page.events]
            assert sum(sizes) <= PAGE_MAX_BYTES or len(sizes) == 1
            read += [event.seq for event in page.events]
            pages.append(len(page.events))
            more = page.more
        assert read == sorted(range(1, 13), reverse=descending)
        assert pages == ([1, 1, 8, 2] if descending else [8, 2, 1, 1])
    assert [event.seq for event in (await read_log(engine, "s", limit=3, offset=1)).events] == [2, 3, 4]


async def test_the_messages_of_several_sessions_are_read_together(engine: Engine) -> None:
    made = [make_session(name) for name in "abc"]
    await add(engine, *made, make_session("a", workspace=ELSEWHERE))
    await append(engine, make_append("b", *said("1"), make_entry("run.started", {}), *said("2")))
    await append(engine, make_append("a", *said("3")))
    await append(engine, make_append("a", *said("4"), workspace=ELSEWHERE))

    async def operation(tx: Tx) -> list[dict[Any, Any]]:
        return [await events.read_messages(tx, wanted) for wanted in (made, [])]

    found, nothing = await engine.read(operation)

    assert {name: [event.seq for event in log] for name, log in found.items()} == {"a": [1], "b": [1, 3], "c": []}
    assert nothing == {}


async def write_in_turn(engine: Engine, writer: int, targets: list[str], number: int) -> list[tuple[str, int, str]]:
    """Append `number` messages, each when the one before was answered; return what was acknowledged."""
    acknowledged = []
    for count in range(number):
        target, text = targets[count % len(targets)], f"{writer}:{count}"
        while (seq := await append(engine, make_append(target, *said(text)))) is None:
            pass  # the other engine has this session in hand just now
        acknowledged.append((target, seq, text))
    return acknowledged


def assert_logs_hold(logs: dict[str, list[tuple[int, str]]], written: list[list[tuple[str, int, str]]]) -> None:
    for log in logs.values():
        assert [seq for seq, _ in log] == list(range(1, len(log) + 1)), "no gap, no repeat"
    kept = sorted((name, seq, text) for name, log in logs.items() for seq, text in log)
    assert kept == sorted(entry for each in written for entry in each), "each acknowledged once, under its number"
    for log in logs.values():
        last: dict[str, int] = {}
        for _, text in log:
            writer, _, count = text.partition(":")
            assert last.get(writer, -1) < int(count), "in the order of its writer"
            last[writer] = int(count)


@pytest.mark.parametrize(("writers", "targets", "each"), [(16, 1, 100), (64, 24, 25)])
async def test_many_writers_on_two_engines_leave_every_log_whole(
    engine: Engine, database: str, writers: int, targets: int, each: int
) -> None:
    names = [f"s{number}" for number in range(targets)]
    await add(engine, *map(make_session, names))

    async with another_engine(database) as other:
        written = await asyncio.gather(
            *(
                write_in_turn((engine, other)[writer % 2], writer, names[writer % targets :] + names, each)
                for writer in range(writers)
            )
        )
        logs = {name: await read_whole_log(other, name) for name in names}

    assert_logs_hold(logs, written)
    assert sum(map(len, logs.values())) == writers * each
    for name in names:
        assert (await must_find(engine, name)).message_count == len(logs[name])


async def test_appends_to_a_session_that_is_deleted_meanwhile_leave_nothing(engine: Engine, database: str) -> None:
    await add(engine, make_session("s"))

    appends = [append(engine, make_append("s", *said("x"))) for _ in range(40)]
    results = await asyncio.gather(*appends[:20], remove(engine, "s"), *appends[20:])

    assert await query(database, "select * from events") == []
    kept = [result for result in results if result is not None]
    assert kept == list(range(1, len(kept) + 1))
    assert list(pairwise(kept)) == [(seq, seq + 1) for seq in kept[:-1]]
