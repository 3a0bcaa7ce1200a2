"""Bundles as lines: what is damaged is found where it is, and what is well written but cannot be is refused."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core import bundle_order
from sessiond.core.agent import NewAgent
from sessiond.core.bundle import LINE_MAX_BYTES, Chain, Scope, Subject
from sessiond.core.bundle_order import COUNTED, read_bundle
from sessiond.core.bundle_records import EventRecord, agent_record, run_record
from sessiond.core.bundle_stretches import stretches
from sessiond.core.errors import InvalidInput
from sessiond.core.ids import RunId, SessionId, WorkspaceId
from sessiond.core.limits import NESTING_MAX
from sessiond.core.run import Run, RunStatus

Record = dict[str, Any]

HEADER: Final[Record] = {"type": "bundle", "format": "sessiond", "version": 1, "scope": "workspace"}
AGENT: Final[Record] = {
    "type": "agent",
    "id": "a",
    "runner": "echo",
    "options": {},
    "time_limit_seconds": 600.0,
    "retries": 2,
    "backoff_seconds": 1.0,
    "history": 50,
    "fails_session": False,
}
SESSION: Final[Record] = {
    "type": "session",
    "id": "s",
    "status": "active",
    "last_seq": 1,
    "created_at_us": 5,
    "updated_at_us": 5,
    "last_active_at_us": 5,
}
EVENT: Final[Record] = {
    "type": "event",
    "seq": 1,
    "kind": "session.created",
    "created_at_us": 5,
    "actor": "k",
    "body": {},
}
RUN: Final[Record] = {
    "type": "run",
    "id": "r",
    "agent_id": "a",
    "status": "queued",
    "queued_seq": 1,
    "input_seq": 0,
    "actor": "k",
    "created_at_us": 5,
}
INBOX: Final[Record] = {"type": "inbox", "id": "i", "address": "x@y", "actor": "k", "created_at_us": 5}
MAIL: Final[Record] = {
    "type": "mail",
    "id": "m",
    "received_at_us": 5,
    "envelope": {
        "sender": "a@b",
        "sender_name": None,
        "recipients": [],
        "subject": "x",
        "message_id": None,
        "sent_at_us": None,
        "has_attachments": False,
    },
    "extractions": [],
    "content": {"text": None, "html": None, "headers": [], "attachments": [], "defects": []},
    "raw": "eA==",
}
WAIT: Final[Record] = {
    "type": "wait",
    "id": "w",
    "kind": "approval",
    "status": "pending",
    "terms": {},
    "actor": "k",
    "created_at_us": 5,
}
NAMES: Final = {kind.__struct_config__.tag: name for kind, name in COUNTED.items()}


def sealed(*records: Record | bytes) -> list[bytes]:
    """Return the lines of a bundle of these records, with an end that is right."""
    chain, lines = Chain(), list[bytes]()
    counts = dict.fromkeys(COUNTED.values(), 0)
    for record in records:
        packed = record if isinstance(record, bytes) else msgspec.json.encode(record)
        if isinstance(record, dict) and record["type"] in NAMES:
            counts[NAMES[record["type"]]] += 1
        lines.append(chain.seal(packed))
    end = {"type": "end"} | {name: n for name, n in counts.items() if n} | {"sha256": chain.digest}
    return [*lines, chain.seal(msgspec.json.encode(end))]


def refusal(lines: Sequence[bytes]) -> str:
    with pytest.raises(InvalidInput) as refused:
        list(read_bundle(lines))
    return refused.value.message


WHOLE: Final = sealed(
    HEADER,
    AGENT,
    RUN,
    INBOX,
    MAIL,
    WAIT,
    SESSION,
    EVENT,
    RUN | {"id": "r2"},
    INBOX | {"id": "i2"},
    MAIL | {"id": "m2"},
    WAIT | {"id": "w2"},
)


def test_what_may_stand_there_is_read() -> None:
    kinds = [type(line.record).__name__ for line in read_bundle(WHOLE)]

    assert kinds[0] == "Header"
    assert kinds[-1] == "End"
    assert [line.number for line in read_bundle(WHOLE)] == list(range(1, 14))


@given(st.integers(0, sum(map(len, WHOLE)) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_found_in_its_line(place: int, bit: int) -> None:
    whole = b"".join(WHOLE)
    number = whole.count(b"\n", 0, place) + 1
    damaged = whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]

    lines = io.BytesIO(damaged).readlines()  # as a file has them
    assert refusal(lines).startswith(f"line {number} of the bundle is damaged")


@given(st.integers(0, sum(map(len, WHOLE)) - 1))
def test_what_is_cut_off_is_missed_where_it_was_cut(place: int) -> None:
    whole = b"".join(WHOLE)[:place]
    number = whole.count(b"\n") + 1

    assert refusal(io.BytesIO(whole).readlines()).startswith(f"line {number} of the bundle is ")


def test_an_empty_file_is_no_bundle() -> None:
    assert refusal([]) == "line 1 of the bundle is missing: the bundle ends early"


def test_a_line_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_order, "LINE_MAX_BYTES", 50)

    assert refusal(WHOLE) == "line 1 of the bundle is longer than 50 bytes, which no record is"
    assert LINE_MAX_BYTES > 2 * 64 * 1024 * 1024


def test_nothing_stands_behind_the_end() -> None:
    assert refusal([*WHOLE, b"\n"]) == "line 14 of the bundle stands behind the bundle's end"


DEEP: Final[Any] = msgspec.json.decode("[" * (NESTING_MAX + 30) + "]" * (NESTING_MAX + 30))
MESSAGE: Final = EVENT | {"kind": "message.user", "action": "x", "duration_us": 1}
ENDED_RUN: Final = RUN | {"status": "completed", "completed_at_us": 9}

WRONG: Final[dict[str, tuple[list[Record | bytes], str]]] = {
    "no header": ([AGENT], "line 1 .*the first line says what the bundle is"),
    "two headers": ([HEADER, HEADER], "line 2 .*begins once"),
    "another format": ([HEADER | {"format": "x"}], "its format is x, and not sessiond"),
    "a newer version": ([HEADER | {"version": 2}], "it has version 2, and this release reads 1"),
    "a user without an id": ([HEADER | {"scope": "user"}], "does not say whose"),
    "a workspace with an id": ([HEADER | {"id": "x"}], "does not say whose"),
    "no JSON": ([HEADER, b"{x}"], "line 2 .*no record"),
    "no object": ([HEADER, b"7}"], "line 2 .*no record"),
    "no known record": ([HEADER, {"type": "x"}], "line 2 .*no record"),
    "an unknown field": ([HEADER, {"type": "agent", **AGENT, "x": 1}], "unknown field"),
    "half a surrogate pair": ([HEADER, b'{"type":"agent","id":"\\ud800"}'], "line 2 .*no record"),
    "no UTF-8": ([HEADER, msgspec.json.encode(AGENT).replace(b'"a"', b'"\xff"')], "line 2 .*no record"),
    "deep nesting": ([HEADER, SESSION, EVENT | {"body": {"x": DEEP}}], "line 3 .*levels deep"),
    "nesting beyond reason": (
        [HEADER, SESSION, b'{"type":"event","body":' + b"[" * 100_000 + b"}"],
        "line 3 .*no record",
    ),
    "fields in another order": ([HEADER, dict(reversed(AGENT.items()))], "not written as sessiond writes it"),
    "a default that is said": ([HEADER, SESSION | {"prompt_tokens": 0}], "not written as sessiond writes it"),
    "spaces": ([HEADER, msgspec.json.encode(AGENT).replace(b":", b": ")], "not written as sessiond writes it"),
    "text that needs not be": ([HEADER, SESSION, EVENT | {"body": "{}"}], "line 3"),
    "a field twice": ([HEADER, msgspec.json.encode(AGENT)[:-1] + b',"id":"a"}'], "not written as sessiond writes it"),
    "a runner that there is not": ([HEADER, AGENT | {"runner": "x"}], "runner must be one of"),
    "options that it does not take": ([HEADER, AGENT | {"options": {"x": 1}}], "line 2 .*unknown field"),
    "a NUL in options": ([HEADER, AGENT | {"runner": "command", "options": {"command": "\0"}}], "NUL"),
    "a command that is none": ([HEADER, AGENT | {"runner": "command", "options": {"command": '"'}}], "command"),
    "agents out of order": ([HEADER, AGENT | {"id": "b"}, AGENT], "not in its place in the order"),
    "an agent twice": ([HEADER, AGENT, AGENT], "not in its place in the order, or stands there twice"),
    "an agent behind sessions": ([HEADER, SESSION, EVENT, AGENT], "line 4 .*too late"),
    "an agent behind runs": ([HEADER, RUN, AGENT], "line 3 .*too late"),
    "an id with a slash": ([HEADER, SESSION | {"id": "a/b"}], "must not contain '/'"),
    "an id that is too long": ([HEADER, SESSION | {"id": "x" * 201}], "longer than 200"),
    "a control character": ([HEADER, SESSION | {"name": "\1"}], "control character"),
    "a NUL in a prompt": ([HEADER, SESSION | {"prompt": "\0"}], "NUL"),
    "sessions out of order": ([HEADER, SESSION, EVENT, SESSION | {"id": "a"}], "in the order of their ids"),
    "a session twice": ([HEADER, SESSION, EVENT, SESSION], "in the order of their ids, each once"),
    "an ended session without an end": ([HEADER, SESSION | {"status": "failed"}], "completed_at_us"),
    "an open session with an end": ([HEADER, SESSION | {"completed_at_us": 5}], "completed_at_us"),
    "a time beyond all times": ([HEADER, SESSION | {"created_at_us": 2**62}], "line 2 .*no record"),
    "terms that are half accepted": ([HEADER, SESSION | {"accept_terms": "x"}], "accept_terms"),
    "metadata that are a list": ([HEADER, SESSION | {"metadata": []}], "line 2 .*no record"),
    "too many metadata": ([HEADER, SESSION | {"metadata": dict.fromkeys(map(str, range(65)), 1)}], "64 keys"),
    "too large metadata": ([HEADER, SESSION | {"metadata": {"x": "y" * 66_000}}], "65536 bytes"),
    "too large data": ([HEADER, SESSION | {"data": {"x": "y" * 1_100_000}}], "1048576 bytes"),
    "a session without a log": ([HEADER, SESSION], "0 of its 1 events"),
    "a session of another user": ([HEADER | {"scope": "user", "id": "u"}, SESSION], "line 2 .*not of the user u"),
    "a session of another agent": (
        [HEADER | {"scope": "agent", "id": "b"}, SESSION | {"agent_id": "a"}],
        "not of the agent b",
    ),
    "another session": ([HEADER | {"scope": "session", "id": "t"}, SESSION], "not of the session t"),
    "an event of no session": ([HEADER, EVENT], "line 2 .*too late, or too soon"),
    "a gap": ([HEADER, SESSION | {"last_seq": 3}, EVENT, EVENT | {"seq": 3}], "is event 3, where 2 was to come"),
    "an event twice": ([HEADER, SESSION | {"last_seq": 2}, EVENT, EVENT], "is event 1, where 2 was to come"),
    "an event too many": ([HEADER, SESSION, EVENT, EVENT | {"seq": 2}], "line 5 .*2 of its 1 events"),
    "an event behind runs": ([HEADER, SESSION, EVENT, RUN, EVENT | {"seq": 2}], "line 5 .*too late"),
    "an event too few": ([HEADER, SESSION | {"last_seq": 2}, EVENT, RUN], "line 4 .*1 of its 2 events"),
    "a kind that is none": ([HEADER, SESSION, EVENT | {"kind": "X"}], "line 3"),
    "a body that is no object": ([HEADER, SESSION, EVENT | {"body": []}], "line 3"),
    "a message without a role": ([HEADER, SESSION, MESSAGE | {"body": {"content": "x"}}], "line 3 .*role"),
    "a message of another role": (
        [HEADER, SESSION, MESSAGE | {"body": {"role": "tool", "content": "x", "metadata": {}}}],
        "not that of its role",
    ),
    "a message of no known role": ([HEADER, SESSION, MESSAGE | {"kind": "message.x"}], "not that of its role"),
    "content that is none": (
        [HEADER, SESSION, MESSAGE | {"body": {"role": "user", "content": 7, "metadata": {}}}],
        "content must be",
    ),
    "an action without a duration": ([HEADER, SESSION, EVENT | {"action": "x"}], "line 3"),
    "a client's event of no type": ([HEADER, SESSION, EVENT | {"kind": "note"}], "kind must be lower-case words"),
    "a client's step that took no object": (
        [HEADER, SESSION, EVENT | {"kind": "a.b", "action": "x", "duration_us": 1, "body": {"input": 1}}],
        "input and output must be objects",
    ),
    "text of a run without a place": ([HEADER, SESSION, EVENT | {"kind": "run.text", "body": {"text": "x"}}], "offset"),
    "a queued run of nobody": ([HEADER, SESSION, EVENT | {"kind": "run.queued"}], "agent_id"),
    "a mail that is not named": ([HEADER, SESSION, EVENT | {"kind": "mail.received"}], "mail_id"),
    "a run that was queued later": ([HEADER, SESSION, EVENT, RUN | {"queued_seq": 2}], "behind the end of its session"),
    "runs at one place": ([HEADER, SESSION, EVENT, RUN, RUN | {"id": "q"}], "line 5 .*not in its place"),
    "runs out of order": ([HEADER, ENDED_RUN, ENDED_RUN | {"id": "q"}], "line 3 .*not in its place"),
    "a run that has ended at no time": ([HEADER, RUN | {"status": "failed"}], "completed_at_us"),
    "an open run that has ended": ([HEADER, RUN | {"completed_at_us": 6}], "completed_at_us"),
    "a run in somebody's hands": ([HEADER, SESSION, EVENT, RUN | {"status": "running"}], "not written as"),
    "a user's run in a session": ([HEADER, SESSION, EVENT, RUN | {"user_id": "u"}], "line 4"),
    "a run's error that is none": ([HEADER, RUN | {"error": 1}], "line 2"),
    "a run's input that is none": ([HEADER, RUN | {"input": 1}], "line 2"),
    "an address that is none": ([HEADER, INBOX | {"address": "x"}], "mail address in lower case"),
    "an address in upper case": ([HEADER, INBOX | {"address": "X@y"}], "mail address in lower case"),
    "a long address": ([HEADER, INBOX | {"address": "x@" * 200}], "longer than 320"),
    "inboxes out of order": ([HEADER, INBOX, INBOX | {"id": "h"}], "line 3 .*not in its place"),
    "a mail of no inbox": ([HEADER, MAIL], "line 2 .*no inbox before it"),
    "a mail of the inbox of another session": ([HEADER, INBOX, SESSION, EVENT, MAIL], "line 5 .*no inbox before it"),
    "mails out of order": ([HEADER, INBOX, MAIL, MAIL | {"id": "l"}], "line 4 .*not in its place"),
    "a mail that is no base64": ([HEADER, INBOX, MAIL | {"raw": "!"}], "line 3"),
    "a mail that is loose base64": ([HEADER, INBOX, MAIL | {"raw": "eB=="}], "line 3"),
    "a wait that has ended at no time": ([HEADER, WAIT | {"status": "completed"}], "ended_at_us"),
    "a pending wait that has ended": ([HEADER, WAIT | {"ended_at_us": 6}], "ended_at_us"),
    "terms that are none": ([HEADER, WAIT | {"terms": {"sender": 1}}], "line 2"),
    "a result that is no object": (
        [HEADER, WAIT | {"status": "completed", "result": 1, "ended_at_us": 6}],
        "line 2",
    ),
    "a wait for an event of no session": ([HEADER, WAIT | {"kind": "event"}], "of a session"),
    "waits out of order": ([HEADER, WAIT, WAIT | {"id": "v"}], "line 3 .*not in its place"),
    "a run twice": ([HEADER, RUN, SESSION, EVENT, RUN], "line 6 .*the id in line 5 stands in the bundle twice"),
}


@pytest.mark.parametrize(("records", "why"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused_though_its_checksums_are_right(records: list[Record | bytes], why: str) -> None:
    said = refusal(sealed(*records))

    assert said.startswith("line ")
    assert re.search(why, said), said


def test_too_many_inboxes_and_waits_of_a_session_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_order, "PER_SESSION_MAX", 1)
    monkeypatch.setattr(bundle_order, "PENDING_PER_SESSION_MAX", 1)

    inboxes = refusal(sealed(HEADER, SESSION, EVENT, INBOX, INBOX | {"id": "j"}))
    waits = refusal(sealed(HEADER, SESSION, EVENT, WAIT, WAIT | {"id": "x"}))

    assert inboxes.endswith("a session has at most 1 inboxes")
    assert waits.endswith("a session has at most 1 pending waits")


def test_an_end_that_counts_wrongly_is_refused() -> None:
    end = msgspec.json.decode(WHOLE[-1][:-27] + b"}")
    chain = Chain()
    for line in WHOLE[:-1]:
        chain.open(line)
    wrong = chain.seal(msgspec.json.encode(end | {"agents": 2}))

    assert refusal([*WHOLE[:-1], wrong]).endswith("it counts 2 agents, and there are 1")


def test_an_end_of_other_lines_is_refused() -> None:
    end = msgspec.json.decode(WHOLE[-1][:-27] + b"}")
    chain = Chain()
    for line in WHOLE[:-1]:
        chain.open(line)
    wrong = chain.seal(msgspec.json.encode(end | {"sha256": "0" * 64}))

    assert refusal([*WHOLE[:-1], wrong]).endswith("its checksum is not that of the lines before it")


def test_json_with_line_breaks_keeps_its_bytes() -> None:
    event = EVENT | {"body": '{\n"x": 1.50}'}
    (*_, line, _) = read_bundle(sealed(HEADER, SESSION, {"type": "event", "as_text": ["body"]} | event))

    assert isinstance(line.record, EventRecord)
    assert line.record.make(SessionId("s")).body == b'{\n"x": 1.50}'


def test_a_stretch_ends_with_its_session() -> None:
    found = list(stretches(read_bundle(WHOLE)))

    assert [(stretch.session.id if stretch.session else None, len(stretch.lines)) for stretch in found] == [
        (None, 5),
        ("s", 5),
    ]
    assert all(stretch.first and stretch.last for stretch in found)


def test_a_bundle_says_what_it_is_of() -> None:
    assert [str(Subject()), str(Subject(Scope.USER, "ada"))] == ["workspace", "user ada"]


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.WAITING])
def test_a_run_in_hand_is_in_the_queue_again(status: RunStatus) -> None:
    fields = dict.fromkeys(Run.__struct_fields__)
    run = msgspec.structs.replace(
        Run(**fields),  # type: ignore[arg-type]  # what it does not look at
        workspace_id=WorkspaceId("w"),
        id=RunId("r"),
        status=status,
        worker="w",
        ask=b"{}",
        answer=b"{}",
    )

    record = run_record(run)

    assert record.status is RunStatus.QUEUED
    assert (record.worker, record.json("ask"), record.json("answer")) == (None, None, None)


def test_an_agent_keeps_its_secrets_only_where_they_are_wanted() -> None:
    options = {
        "base_url": "https://me:sesame@host/v1?key=sesame",
        "model": "m",
        "api_key": "sesame",
        "headers": {"x": "sesame"},
    }
    agent = NewAgent(runner="chat", options=options).make(WorkspaceId("w"), "a", at_us=1)

    assert bytes(agent_record(agent, secrets=False).options) == b'{"base_url":"https://host/v1","model":"m"}'
    assert bytes(agent_record(agent, secrets=True).options) == agent.options
