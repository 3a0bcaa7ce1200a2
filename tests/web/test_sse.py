"""Server-Sent Events, read back as a browser reads them."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond.web.sse import KEEP_ALIVE, format_event

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=8,
)


def read_events(stream: bytes) -> list[dict[str, str]]:
    """Return the events of a stream, as WHATWG HTML 9.2.6 has them read."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in re.split("\r\n|\n|\r", stream.decode()):
        if not line:
            if "data" in fields:
                found.append(fields)
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
    return found


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), values, st.integers(0, 3)), max_size=5))
@example([(1, {"a": ["\u2028\n\r", {}]}, 2), (2, "x", 0)])
def test_what_is_written_is_what_a_browser_reads(events: list[tuple[int, Any, int]]) -> None:
    stream = b""
    for seq, value, indent in events:
        data = msgspec.json.format(msgspec.json.encode(value), indent=indent)
        stream += format_event(id=seq, event="message.user", data=data) + KEEP_ALIVE

    assert [
        (int(event["id"]), event["event"], msgspec.json.decode(event["data"])) for event in read_events(stream)
    ] == [(seq, "message.user", value) for seq, value, _ in events]


def test_every_kind_of_line_break_between_json_tokens_is_one() -> None:
    stream = format_event(id=1, event="e", data=b'{"a":\r\n[1,\r2,\n3]}')

    assert read_events(stream) == [{"id": "1", "event": "e", "data": '{"a":\n[1,\n2,\n3]}'}]


def test_a_keep_alive_is_no_event() -> None:
    assert read_events(KEEP_ALIVE) == []
