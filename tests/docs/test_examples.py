"""The examples do what they say, as they stand, also when the server goes away in between."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.cli.program import Started, make_environment, start
from tests.docs.pages import ROOT

SECONDS: Final = 30


def _environment(server: Started, secret: str) -> dict[str, str]:
    return make_environment({"SESSIOND_URL": server.url, "SESSIOND_KEY": secret})


@contextmanager
def _example(name: str, *arguments: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_agent_of_the_google_adk_remembers(tmp_path: Path) -> None:
    with _example("google_adk.py", str(tmp_path / "sessions.db"), environment=make_environment()) as example:
        printed, complaints = example.communicate(timeout=SECONDS)

    assert example.returncode == 0, complaints
    assert printed.splitlines() == [
        "helper: You have told me 1 things.",
        "helper: You have told me 3 things.",
        "4 events, {'last_answer': 'You have told me 3 things.'}",
    ]


def test_a_follower_and_a_writer_outlive_a_restart_of_the_server(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/sessiond.db"
    with start(database) as first:
        secret, environment = first.secret, _environment(first, first.secret)
        headers = {"Authorization": f"Bearer {secret}"}
        body = '{"id": "chat", "messages": [{"content": [\n{"text": "one"}\n]}]}'  # streamed as several lines of data
        httpx.post(f"{first.url}/v1/sessions", content=body, headers=headers).raise_for_status()
        with _example("follow.py", "chat", environment=environment) as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline() == "user: [{'text': 'one'}]\n"

            assert first.stop() == 0
            with (
                _example("append.py", "chat", "two", environment=environment) as writer,
                start(database, "--port", first.port) as second,
            ):
                appended, _ = writer.communicate(timeout=SECONDS)
                assert follower.stdout.readline() == "user: two\n"
                httpx.post(f"{second.url}/v1/sessions/chat/complete", headers=headers).raise_for_status()
                rest, _ = follower.communicate(timeout=SECONDS)

    assert appended == "msg_3.chat is on disk\n"
    assert (follower.returncode, rest) == (0, "")


def test_an_agent_of_the_openai_agents_sdk_remembers(tmp_path: Path) -> None:
    with _example("openai_agents_memory.py", str(tmp_path / "sessions.db"), environment=make_environment()) as example:
        printed, complaints = example.communicate(timeout=SECONDS)

    assert (example.returncode, complaints) == (0, "")
    assert printed.splitlines() == [
        "1 items went to the model: At the depot.",
        "3 items went to the model: Since Monday.",
        "user: Where is my parcel?",
        "assistant: At the depot.",
        "user: Since when?",
        "assistant: Since Monday.",
    ]


def test_an_agent_of_pydantic_ai_goes_on_and_tries_another_way(tmp_path: Path) -> None:
    with _example(
        "pydantic_ai_conversation.py", str(tmp_path / "sessions.db"), environment=make_environment()
    ) as example:
        printed, complaints = example.communicate(timeout=SECONDS)

    assert (example.returncode, complaints) == (0, "")
    assert printed.splitlines() == [
        "support-1: Where is my parcel? | At the depot. | Since when? | Since Monday.",
        "support-1-fork: Where is my parcel? | At the depot. | Can I fetch it? | Until six.",
    ]
