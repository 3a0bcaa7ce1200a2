"""The chain of an audit log, without a database."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sessiond.core.audit import GENESIS, AuditEntry, Check, Fault, Head, Noted, Why, hash_entry, show_record
from sessiond.core.ids import WorkspaceId

HERE = WorkspaceId("here")

words = st.text(st.characters(codec="utf-8"), max_size=12)
entries = st.builds(
    AuditEntry,
    seq=st.just(0),
    at_us=st.integers(0, 2**62),
    actor=words,
    event=words,
    record_locator=st.dictionaries(words, words, max_size=2).map(msgspec.json.encode),
    address=st.none() | words,
    result=words,
)
logs = st.lists(entries, min_size=1, max_size=6)
places = st.integers(0, 5)


def chain(said: Sequence[AuditEntry], *, workspace: WorkspaceId = HERE) -> list[AuditEntry]:
    """Return entries numbered and chained, as storage does it."""
    chained, before = [], GENESIS
    for seq, entry in enumerate(said, start=1):
        numbered = replace(entry, seq=seq, hash=None)
        before = hash_entry(before, workspace, numbered)
        chained.append(replace(numbered, hash=before))
    return chained


def head_of(log: Sequence[AuditEntry]) -> Head:
    return Head(len(log), len(log), log[-1].hash if log else None)


def check(log: Sequence[AuditEntry], head: Head, *, noted: Noted | None = None) -> Fault | None:
    going = Check(HERE, head, noted=noted)
    for entry in log:
        if (fault := going.take(entry)) is not None:
            return fault
    return going.finish()


def made(number: int = 4) -> list[AuditEntry]:
    return chain([AuditEntry(0, at_us, "key_1", "deleteSession", b'{"id":"s"}') for at_us in range(number)])


def found(log: Sequence[AuditEntry], head: Head, *, noted: Noted | None = None) -> tuple[int, Why] | None:
    fault = check(log, head, noted=noted)
    return (fault.seq, fault.why) if fault is not None else None


@given(logs)
def test_a_log_that_nobody_touched_is_good(said: list[AuditEntry]) -> None:
    log = chain(said)

    assert check(log, head_of(log)) is None
    assert check([], Head(0, 0, None)) is None


@given(
    logs, places, entries, st.sampled_from(["at_us", "actor", "event", "record_locator", "address", "result", "hash"])
)
def test_a_changed_field_is_found_in_its_entry(
    said: list[AuditEntry], place: int, other: AuditEntry, field: str
) -> None:
    log = chain(said)
    head, place = head_of(log), place % len(log)
    changed = replace(log[place], **{field: getattr(other, field)})
    if changed == log[place]:
        return
    log[place] = changed

    assert found(log, head) == (place + 1, Why.CHANGED)


@given(logs, places)
def test_a_removed_entry_is_missed(said: list[AuditEntry], place: int) -> None:
    log = chain(said)
    head, place = head_of(log), place % len(log)
    del log[place]

    assert found(log, head) == (place + 1, Why.MISSING)


@given(logs, places, places)
def test_two_entries_in_each_others_place_are_found_in_the_first(said: list[AuditEntry], one: int, other: int) -> None:
    log = chain(said)
    head, first, second = head_of(log), *sorted((one % len(log), other % len(log)))
    if first == second:
        return
    log[first], log[second] = replace(log[second], seq=first + 1), replace(log[first], seq=second + 1)

    assert found(log, head) == (first + 1, Why.CHANGED)


@given(logs, places, entries)
def test_an_entry_that_was_put_in_between_is_found(said: list[AuditEntry], place: int, other: AuditEntry) -> None:
    log = chain(said)
    place %= len(log)
    put = [*log[:place], replace(other, hash=log[place].hash), *log[place:]]
    moved = [replace(entry, seq=seq) for seq, entry in enumerate(put, start=1)]
    if moved[place] == log[place]:
        place += 1  # it says the same as the one whose place it took: that one is now in the wrong place

    fault = check(moved, Head(len(moved), len(moved), log[-1].hash))

    assert fault is not None
    assert fault.seq == place + 1


@given(logs, entries)
def test_no_two_entries_have_one_hash(said: list[AuditEntry], other: AuditEntry) -> None:
    first = said[0]

    assert (hash_entry(GENESIS, HERE, first) == hash_entry(GENESIS, HERE, other)) == (first == other)
    assert hash_entry(GENESIS, HERE, first) != hash_entry(GENESIS, WorkspaceId("there"), first)
    assert hash_entry(GENESIS, HERE, first) != hash_entry(b"\1" * 32, HERE, first)


def test_the_hash_is_made_as_the_documentation_says() -> None:
    entry = AuditEntry(17, 1_700_000_000_000_000, "key_1", "deleteSession", b'{"id":"s"}', None, "ok")
    fields = (b"sessiond audit 1", bytes(32), b"here", b"17", b"1700000000000000", b"key_1", b"deleteSession")
    encoded = b"".join(len(field).to_bytes(8, "big") + field for field in (*fields, b'{"id":"s"}'))
    encoded += b"\xff" * 8 + (2).to_bytes(8, "big") + b"ok"

    assert hash_entry(GENESIS, HERE, entry) == hashlib.sha256(encoded).digest()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (lambda log: Head(3, 4, log[3].hash), (3, Why.HEAD)),
        (lambda log: Head(3, 3, log[3].hash), (3, Why.HEAD)),
        (lambda log: Head(5, 4, log[3].hash), (5, Why.MISSING)),
        (lambda log: Head(4, 5, log[3].hash), (4, Why.HEAD)),
        (lambda log: Head(4, 3, log[2].hash), (4, Why.INSERTED)),
        (lambda log: Head(4, 4, log[2].hash), (4, Why.HEAD)),
        (lambda log: Head(4, 4, None), (4, Why.HEAD)),
        (lambda log: Head(4, 0, None), (1, Why.INSERTED)),
        (lambda log: Head(4, 4, log[3].hash, behind=9), (9, Why.INSERTED)),
    ],
)
def test_a_changed_head_is_found(head: object, expected: tuple[int, Why]) -> None:
    assert callable(head)
    log, changed = made(), head(made())

    assert found([entry for entry in log if entry.seq <= changed.seq], changed) == expected


def test_entries_that_do_not_belong_are_found() -> None:
    log = made()
    head = head_of(log)

    assert found([replace(log[0], seq=0), *log], head) == (0, Why.INSERTED)
    assert found([*log[:2], log[1], *log[2:]], head) == (2, Why.INSERTED)
    assert found([*log, replace(log[0], seq=5)], head) == (5, Why.INSERTED)
    assert found([*log[:3], replace(log[0], seq=5)], head) == (4, Why.MISSING)


def test_entries_of_an_older_release_are_good_until_the_chain_has_begun() -> None:
    old = [replace(entry, hash=None) for entry in made()]
    going = Check(HERE, Head(4, 0, None))
    assert [going.take(entry) for entry in old] == [None] * 4

    assert going.finish() is None
    assert (going.seq, going.unchained, going.hash) == (4, 4, None)
    chained = made()[:2]
    assert found([*chained, *old[2:]], Head(4, 2, chained[1].hash)) == (3, Why.UNCHAINED)


def test_a_log_that_was_written_anew_is_found_by_a_hash_that_was_noted() -> None:
    log = made()
    anew = chain([replace(log[0], actor="somebody else"), *log[1:]])
    hash_of_three = log[2].hash
    assert hash_of_three is not None
    noted = Noted(3, hash_of_three)

    assert found(log, head_of(log), noted=noted) is None
    assert found(anew, head_of(anew)) is None
    assert found(anew, head_of(anew), noted=noted) == (3, Why.CHANGED)
    assert found(anew[:2], head_of(anew[:2]), noted=noted) == (3, Why.MISSING)
    old = [replace(entry, hash=None) for entry in log]
    assert found(old, Head(4, 0, None), noted=noted) == (3, Why.CHANGED)


@pytest.mark.parametrize("locator", [b"", b"no JSON", b'{"id":\n"s"}', b'"\xff"', b"[" * 100_000])
def test_a_locator_that_is_no_line_of_json_is_shown_as_text(locator: bytes) -> None:
    shown = bytes(show_record(replace(made()[0], record_locator=locator)))

    assert isinstance(msgspec.json.decode(shown), str)
    assert bytes(show_record(made()[0])) == b'{"id":"s"}'
