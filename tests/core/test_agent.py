"""Agents: their options checked, their limits kept, their secrets hidden."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.agent import (
    HIDDEN,
    RUNNERS,
    SECRET_MAPS,
    SECRETS,
    AcpOptions,
    Agent,
    ChatOptions,
    CommandOptions,
    EchoOptions,
    NewAgent,
    Permissions,
    WebhookOptions,
    program_of,
)
from sessiond.core.errors import InvalidInput
from sessiond.core.ids import WorkspaceId

CHAT = {"base_url": "http://127.0.0.1/v1", "model": "m"}


def make(runner: str = "echo", **options: Any) -> Agent:
    return NewAgent(runner=runner, options=options).make(WorkspaceId("w"), "a", at_us=7)


def test_what_is_said_of_an_agent_is_what_it_is() -> None:
    new = NewAgent(
        runner="echo",
        time_limit_seconds=1.5,
        retries=3,
        backoff_seconds=0.5,
        concurrency=4,
        history=5,
        fails_session=True,
    )

    agent = new.make(WorkspaceId("w"), "a", at_us=7)

    for name in set(NewAgent.__struct_fields__) - {"options"}:
        assert getattr(agent, name) == getattr(new, name), name
    assert (agent.workspace_id, agent.id, agent.options, agent.created_at_us, agent.updated_at_us) == (
        *("w", "a", b"{}"),
        *(7, 7),
    )


def test_options_are_kept_as_they_were_given_and_read_with_their_defaults() -> None:
    agent = make("chat", **CHAT, temperature="0.5", max_tokens="9")

    assert msgspec.json.decode(agent.options) == CHAT | {"temperature": 0.5, "max_tokens": 9}
    read = agent.read_options(ChatOptions)
    assert (read.model, read.temperature, read.max_tokens, read.tools, read.system) == ("m", 0.5, 9, [], None)
    assert make("echo", delay_ms="5").read_options(EchoOptions).delay_ms == 5
    assert make("acp", command="a").read_options(AcpOptions).permissions is Permissions.ASK


@pytest.mark.parametrize(
    ("runner", "options", "said"),
    [
        ("none", {}, "runner must be one of echo, command"),
        ("echo", {"delay": 1}, "there is no option `delay`"),
        ("echo", {"delay_ms": -1}, "delay_ms"),
        ("echo", {"delay_ms": "soon"}, "delay_ms"),
        ("command", {}, "it needs the option `command`"),
        ("command", {"command": ""}, "options.command is empty"),
        ("command", {"command": []}, "options.command is empty"),
        ("command", {"command": [""]}, "options.command is empty"),
        ("command", {"command": "a 'b"}, "options.command: No closing quotation"),
        ("command", {"command": "a", "protocol": "xml"}, "protocol"),
        ("command", {"command": "a\0b"}, "NUL"),
        ("command", {"command": "a", "env": {"A": 1}}, "env"),
        ("acp", {"command": "a", "permissions": "maybe"}, "permissions"),
        ("chat", {"model": "m"}, "it needs the option `base_url`"),
        ("chat", CHAT | {"base_url": "ftp://x"}, "base_url"),
        ("chat", CHAT | {"base_url": "http://x y"}, "base_url"),
        ("chat", CHAT | {"temperature": "nan"}, "temperature"),
        ("chat", CHAT | {"tools": ["x"]}, "tools"),
        ("webhook", {"url": "x"}, "url"),
        ("webhook", {"url": "https://x"}, "secret"),
    ],
)
def test_options_that_a_runner_does_not_take_are_refused_by_name(
    runner: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        make(runner, **options)

    assert said in refused.value.message
    assert refused.value.field == ("runner" if runner == "none" else "options")


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_limit_seconds": 0},
        {"time_limit_seconds": 8 * 86_400},
        {"time_limit_seconds": "nan"},
        {"retries": -1},
        {"retries": 101},
        {"backoff_seconds": "inf"},
        {"concurrency": 0},
        {"history": 0},
        {"history": 1_001},
        {"unknown": 1},
    ],
)
def test_limits_have_limits(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"runner": "echo"} | wrong, NewAgent, strict=False)


written = st.text(st.characters(codec="utf-8", exclude_characters="\0*"), min_size=1)


@given(
    st.dictionaries(st.sampled_from(["api_key", "system", "api_key_env"]), written),
    st.dictionaries(written, st.just("s3cret-value")),
)
def test_no_secret_is_shown(texts: dict[str, str], headers: dict[str, str]) -> None:
    shown = make("chat", **CHAT, **texts, headers=headers).shown_options()

    assert set(shown) == {*CHAT, *texts, "headers"}
    assert shown["headers"] == dict.fromkeys(headers, HIDDEN)
    for name, value in texts.items():
        assert shown[name] == (HIDDEN if name == "api_key" else value)


def test_every_option_that_looks_like_a_secret_is_one() -> None:
    for options in RUNNERS.values():
        for name in options.__struct_fields__:
            if any(word in name for word in ("key", "secret", "token", "password")) and not name.endswith("_env"):
                assert name in SECRETS or name == "max_tokens", name
            if name in ("env", "headers"):
                assert name in SECRET_MAPS
    assert make("webhook", url="https://x", secret="whsec_x").shown_options() == {"url": "https://x", "secret": HIDDEN}
    unused = make("webhook", url="https://x", secret=None, secret_env="S")
    assert unused.shown_options() == {"url": "https://x", "secret": None, "secret_env": "S"}


@pytest.mark.parametrize(
    ("agent", "needs"),
    [
        (make("echo"), False),
        (make("command", command="a"), True),
        (make("acp", command="a"), True),
        (make("chat", **CHAT), False),
        (make("chat", **CHAT, api_key="k", api_key_env=None), False),
        (make("chat", **CHAT, api_key_env="KEY"), True),
        (make("webhook", url="http://x", secret_env="KEY"), True),
    ],
)
def test_what_starts_programs_or_reads_the_environment_needs_the_host(agent: Agent, needs: bool) -> None:
    assert agent.needs_host is needs


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1))
def test_a_program_given_as_a_list_is_taken_as_it_is(parts: list[str]) -> None:
    if parts[0]:
        assert program_of(parts) == parts
        assert make("command", command=parts).read_options(CommandOptions).command == parts


def test_a_program_given_as_a_line_is_split_as_in_a_shell() -> None:
    assert program_of("a 'b c' \"d\" e\\ f") == ["a", "b c", "d", "e f"]


def test_every_runner_has_its_options() -> None:
    assert [*RUNNERS] == ["echo", "command", "acp", "chat", "webhook"]
    assert RUNNERS["webhook"] is WebhookOptions
