"""Recorded sessions as files: what is written is read, and what is no recording is refused with its line."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from msgspec.structs import replace

from sessiond.core.errors import InvalidInput
from sessiond.core.event import Event
from sessiond.core.ids import SessionId, WorkspaceId
from sessiond.core.session import NewSession
from sessiond.core.session_file import UsedAgent, event_line, head_line, mail_line, read_session_file

BODY: Final = b'{"content":[{"type":\r\n"text"}],"role":"user"}'


def make_lines(count: int = 2) -> list[bytes]:
    new = NewSession(agent_id="a", metadata=b'{"city":"Oslo"}')
    session = new.begin(WorkspaceId("w"), SessionId("s"), at_us=1)
    whole = replace(session, last_seq=count)
    events = [
        Event(SessionId("s"), seq, "message.user", seq, "key", "run", "x", 5, BODY) for seq in range(1, count + 1)
    ]
    return [head_line(whole, [UsedAgent("a", "echo")]), *map(event_line, events), mail_line("msg_1", b"\xff\r\n\0")]


def test_what_is_written_is_read() -> None:
    lines = make_lines()

    file = read_session_file([*lines, b"\n"])

    assert all(line.count(b"\n") == 1 for line in lines)
    assert (file.head.session_id, file.head.agents) == ("s", [UsedAgent("a", "echo")])
    assert (file.head.session["metadata"], "workspace_id" in file.head.session) == ({"city": "Oslo"}, False)
    assert [(event.seq, event.actor, event.run_id, event.action) for event in file.events] == [
        (1, "key", "run", "x"),
        (2, "key", "run", "x"),
    ]
    assert json.loads(file.events[0].body) == json.loads(BODY)
    assert file.mails == {"msg_1": b"\xff\r\n\0"}


def changed(line: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(line) | fields).encode()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "it is empty"),
        (make_lines()[1:], "its first line does not say whose recording it is"),
        (make_lines()[:2], "it ends early: it has 1 of 2 events"),
        ([make_lines()[0], make_lines()[2]], "line 2 is event 2, where 1 was to come"),
        ([changed(make_lines()[0], format=2)], "it has format 2, and this release reads 1"),
        ([changed(make_lines()[0], session={})], "its first line does not say whose recording it is"),
        ([b'{"line":"other"}'], "line 1 is none of a recorded session"),
        ([b"no JSON"], "line 1 is none of a recorded session"),
        ([b"\xff"], "line 1 is none of a recorded session"),
        ([make_lines()[0], b"[" * 100_000], "line 2 is none of a recorded session"),
    ],
)
def test_what_is_no_recording_is_refused(lines: list[bytes], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_session_file(lines)


def test_a_second_head_is_passed_over() -> None:
    lines = make_lines()

    assert len(read_session_file([lines[0], *lines]).events) == 2
