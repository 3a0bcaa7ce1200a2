"""Replay: the steps among a log's events."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sessiond.core.agent import HIDDEN
from sessiond.core.client_event import client_entry, step_entry
from sessiond.core.event import (
    CALL_TOOL,
    RUN_AGENT,
    RUN_STARTED,
    RUN_TOOL_RESULT,
    SESSION_CREATED,
    SESSION_UPDATED,
    Entry,
    Event,
    make_entry,
    message_entry,
)
from sessiond.core.ids import SessionId
from sessiond.core.message import Role, make_message
from sessiond.core.timeline import Steps, make_steps, show


def event(seq: int, entry: Entry, duration_us: int | None = 5) -> Event:
    return Event(
        SessionId("s"), seq, entry.type, 1_000 + seq, "key", entry.run_id, entry.action, duration_us, entry.body
    )


LOG = [
    event(1, make_entry(SESSION_CREATED, {"agent_id": "a"}, action="create_session")),
    event(2, make_entry("session.activated", {"from": "created", "status": "active"}), None),
    event(3, message_entry(make_message(Role.USER, [{"n": 1}]))),
    event(4, make_entry(SESSION_UPDATED, {"name": "x"}, action="update_session"), None),
    event(5, make_entry("session.completed", {"input": {"reason": "r"}, "output": {"b": 2}}, action="complete")),
    event(6, make_entry("session.paused", {"from": "active"}, action="pause")),
]


def test_the_steps_of_a_log_are_its_events_that_have_an_action_counted_in_order() -> None:
    steps = make_steps(LOG)

    assert [(step.index, step.seq, step.at_us, step.duration_us) for step in steps] == [
        *((0, 1, 1_001, 5), (1, 3, 1_003, 5), (2, 4, 1_004, 0), (3, 5, 1_005, 5), (4, 6, 1_006, 5)),
    ]


def test_a_step_says_what_went_in_and_what_came_out() -> None:
    steps = make_steps(LOG)

    assert [(step.action, step.input, step.output) for step in steps] == [
        ("create_session", {"agent_id": "a"}, {"id": "s"}),
        ("send_message", {"role": "user", "content": [{"n": 1}], "metadata": {}}, {"id": "msg_3.s"}),
        ("update_session", {"name": "x"}, {"id": "s", "seq": 4}),
        ("complete", {"reason": "r"}, {"b": 2}),
        ("pause", {}, {"id": "s"}),
    ]


def test_what_a_client_logged_of_what_it_did_is_a_step_whatever_it_calls_it() -> None:
    given, result = {"expires_at_us": "x", "password": "hush"}, {"status": "cancelled"}
    entries = [
        step_entry(
            "tool.called",
            action=action,
            input=msgspec.Raw(msgspec.json.encode(given)),
            output=msgspec.Raw(msgspec.json.encode(result)),
        )
        for action in ("send_message", CALL_TOOL, RUN_AGENT, "create_session")
    ]

    steps = make_steps([event(seq, entry, 3) for seq, entry in enumerate([client_entry("a.b"), *entries], 1)])

    assert [step.action for step in steps] == [entry.action for entry in entries]
    for step in steps:
        assert (step.input, step.output, step.of_client) == (given | {"password": HIDDEN}, result, True)


def test_a_log_read_in_pages_counts_on() -> None:
    whole = make_steps(LOG)

    first = make_steps(LOG[:3])
    rest = make_steps(LOG[3:], first_index=len(first))

    assert first + rest == whole


def test_a_run_and_the_tools_it_used_are_steps() -> None:
    call = {"id": "1", "name": "look_up", "arguments": {"a": 1}}
    ended = {"agent_id": "a", "status": "completed", "input": "hi", "output": "ho", "error": None, "attempts": 1}
    log = [
        event(1, make_entry(RUN_STARTED, {"attempt": 1}, run_id="r"), None),
        event(2, make_entry(RUN_TOOL_RESULT, call | {"output": 2, "is_error": True}, action=CALL_TOOL, run_id="r")),
        event(3, make_entry("run.completed", ended, action=RUN_AGENT, run_id="r")),
    ]

    steps = make_steps(log)

    assert [(step.action, step.input, step.output) for step in steps] == [
        ("call_tool", call, {"output": 2, "is_error": True}),
        (
            "run_agent",
            {"run_id": "r", "agent_id": "a", "input": "hi"},
            {"status": "completed", "output": "ho", "error": None},
        ),
    ]


def test_steps_that_are_asked_for_one_by_one_are_the_same() -> None:
    steps = Steps(LOG)

    assert [step for event in LOG if (step := steps.find(event)) is not None] == make_steps(LOG)


@pytest.mark.parametrize(
    "name",
    ["password", "db_passwd", "passcode", "X-API-Key", "accessKey", "signing_key", "accessToken", "tokens", "Cookie"],
)
def test_what_is_named_like_a_secret_is_hidden(name: str) -> None:
    assert show({"in": [{name: "hush"}]}) == {"in": [{name: HIDDEN}]}


@pytest.mark.parametrize(
    "said",
    [
        {"prompt_tokens": 7, "tokens": 8, "token_count": 9, "maxTokens": 4096, "tokens_used": {"in": 1, "out": [2.5]}},
        {"tokenizer": "o200k", "access_key_id": "k1", "keyboard": "qwerty", "monkey": "see"},
        {"password": None, "token": "", "secrets": []},
    ],
)
def test_counts_of_tokens_and_what_is_only_named_alike_are_shown(said: Any) -> None:
    assert show(said) == said


def test_text_among_tokens_is_hidden() -> None:
    said = {"tokens": ["hush", {"value": "hush", "left": 3, "password": 1234}]}

    assert show(said) == {"tokens": [HIDDEN, {"value": HIDDEN, "left": 3, "password": HIDDEN}]}
