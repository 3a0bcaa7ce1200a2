"""Agents that work, and what their runs come to, as clients of the native wire see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import httpx
import msgspec

ASKING: Final = r"""
read -r brief
echo '{"type":"ask","title":"Go on?","options":[{"id":"yes","name":"Yes"},{"id":"no","name":"No"}]}'
read -r answer
printf '%s\n' "$answer" | sed 's/.*"option_id":"\([a-z]*\)".*/{"type":"text","text":"\1"}/'
"""
"""A program for `sh -c` that asks once, and says which option was chosen."""


class Told(msgspec.Struct, frozen=True):
    """An event of a stream."""

    seq: int
    type: str
    event: dict[str, Any]


def register(client: httpx.Client, agent_id: str = "a", *, runner: str = "echo", **fields: Any) -> None:
    client.put(f"/v1/agents/{agent_id}", json={"runner": runner, **fields}).raise_for_status()


def register_slow(client: httpx.Client, agent_id: str = "a") -> None:
    """Register an agent that takes a minute for a word."""
    register(client, agent_id, options={"delay_ms": 60_000})


def register_program(client: httpx.Client, script: str, agent_id: str = "a", **fields: Any) -> None:
    options = {"command": ["sh", "-c", script]}
    register(client, agent_id, runner="command", **({"retries": 0, "options": options} | fields))


def make_session(client: httpx.Client, session_id: str = "s", **fields: Any) -> None:
    client.post("/v1/sessions", json={"id": session_id, "agent_id": "a", **fields}).raise_for_status()


def start(client: httpx.Client, text: str = "hello", *, wait: float = 0, session: str = "s", **body: Any) -> Any:
    """Return a run that was started over `text`, as it is after `wait` seconds."""
    answer = client.post(f"/v1/sessions/{session}/runs", params={"wait": wait}, json={"input": text, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def say(client: httpx.Client, text: str, *, session: str = "s", **body: Any) -> Any:
    answer = client.post(f"/v1/sessions/{session}/messages", json={"content": text, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def get(client: httpx.Client, run_id: str) -> Any:
    return client.get(f"/v1/runs/{run_id}").raise_for_status().json()


def read_log(client: httpx.Client, session: str = "s") -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = (
        client.get(f"/v1/sessions/{session}/events?limit=1000").raise_for_status().json()["data"]
    )
    return log


def follow(
    client: httpx.Client,
    path: str,
    *,
    until: Callable[[Told], bool] = lambda told: False,
    after: int | None = None,
    come_back: bool = True,
) -> list[Told]:
    """Return what a stream tells to its end, or to the event with which `until` has had enough."""
    headers = {"Last-Event-ID": str(after)} if after is not None and come_back else {}
    params = {"after": after} if after is not None and not come_back else {}
    told: list[Told] = []
    with client.stream("GET", path, headers=headers, params=params) as answer:
        assert answer.status_code == 200, answer.read()
        frame: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                frame[name] = value
                continue
            if "id" in frame:
                told.append(Told(int(frame["id"]), frame["event"], json.loads(frame["data"])))
                if until(told[-1]):
                    break
            frame = {}
    return told


def wait_for(client: httpx.Client, run_id: str, event: str) -> None:
    """Wait until an event of a run is in the log."""
    told = follow(client, f"/v1/runs/{run_id}/stream", until=lambda one: one.type == event)
    assert told[-1].type == event


def ended(client: httpx.Client, run_id: str) -> Any:
    """Return a run once it has ended."""
    follow(client, f"/v1/runs/{run_id}/stream")
    run = get(client, run_id)
    assert run["completed_at"] is not None, run
    return run
