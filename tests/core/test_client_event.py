"""What clients log: which types their events may have, and how a step stands in its body."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sessiond.core import event as events
from sessiond.core.client_event import TYPE_MAX_CHARS, check_type, client_entry, step_entry
from sessiond.core.errors import InvalidInput, TooLarge
from sessiond.core.event import OWN_WORDS, Event
from sessiond.core.ids import SessionId


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def logged(type: str) -> Event:
    return Event(SessionId("s"), 1, type, 1, "key", None, None, None, b"{}")


def own_types() -> set[str]:
    named = {value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}
    tables = (events.RUN_ENDS, events.WAIT_ENDS, events.MESSAGE_TYPES, events.STATUS_TYPES)
    return {value for value in named if "." in value}.union(*(table.values() for table in tables))


def test_no_type_of_the_logs_own_can_be_a_clients() -> None:
    assert len(own_types()) > 30
    for type in own_types():
        assert not logged(type).of_client
        with pytest.raises(InvalidInput, match="must not begin with") as refused:
            check_type(type, "type")
        assert refused.value.field == "type"


@pytest.mark.parametrize(
    "type", ["tool.called", "a.b", "a_1.2.c_", "messaging.sent", "x" * (TYPE_MAX_CHARS - 2) + ".y"]
)
def test_words_with_dots_between_are_a_type(type: str) -> None:
    assert check_type(type, "type") == type
    assert logged(type).of_client


@pytest.mark.parametrize(
    "type",
    [
        *("", "tool", "tool.", ".called", "tool..called", "Tool.called", "tool.Called", "1.a", "_a.b", "a-b.c", "ä.b"),
        *(
            "a.b\n",
            "a.b c",
            "a.*",
            "x" * (TYPE_MAX_CHARS - 1) + ".y",
            *(f"{word}.anything" for word in sorted(OWN_WORDS)),
        ),
    ],
)
def test_anything_else_is_refused(type: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        client_entry(type, field="events[3].")
    assert refused.value.field == "events[3].type"


def test_data_is_kept_to_the_byte() -> None:
    data = '{ "a" : 1.50, "a": [ ],\n"n": 123456789012345678901234567890 }'

    assert client_entry("a.b", raw(data)).body == data.encode()
    assert client_entry("a.b").body == b"{}"


@pytest.mark.parametrize("data", ["{}", "{ }", '{ "a" : 1.50 }', '{"output_":{}}'])
def test_what_a_step_took_and_gave_stands_behind_its_data(data: str) -> None:
    entry = step_entry("a.b", raw(data), action="look up", input=raw('{"x": 1.0}'), output=raw("{ }"), duration_us=7)

    assert (entry.action, entry.duration_us) == ("look up", 7)
    assert msgspec.json.decode(entry.body) == msgspec.json.decode(data) | {"input": {"x": 1.0}, "output": {}}
    assert entry.body.startswith(data[:-1].encode())
    assert entry.body.endswith(b'"input":{"x": 1.0},"output":{ }}')


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"data": raw("[]")}, "data"),
        ({"data": raw('{"a":"\\ud800"}')}, "data"),
        ({"data": raw('{"a":"\xff"}'[:-1])}, "data"),
        ({"data": raw('{"input":1}')}, "data.input"),
        ({"data": raw('{"a":1,"\\u006futput":1}')}, "data.output"),
        ({"input": raw("1")}, "input"),
        ({"output": raw('"text"')}, "output"),
        ({"action": ""}, "action"),
        ({"action": "a\nb"}, "action"),
    ],
)
def test_a_step_that_cannot_be_is_refused(said: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        step_entry("a.b", **{"action": "a"} | said, field="events[0].")
    assert refused.value.field == f"events[0].{field}"


def test_an_action_is_short() -> None:
    with pytest.raises(TooLarge):
        step_entry("a.b", action="x" * 1_001)
