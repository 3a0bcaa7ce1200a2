"""The loops that runners must work on: Python's own, and the server's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import uvloop

T = TypeVar("T")

LOOPS: Final = ("asyncio", "uvloop")
AGENTS: Final = Path(__file__).parent / "agents"
SECONDS: Final = 10


class Loop(Protocol):
    """Runs something to its end, on a loop of its own."""

    def __call__(self, main: Coroutine[Any, Any, T], /) -> T: ...


def make_loop(name: str) -> Loop:
    run: Callable[..., Any] = uvloop.run if name == "uvloop" else asyncio.run

    def on_loop(main: Coroutine[Any, Any, T], /) -> T:
        return run(asyncio.wait_for(main, SECONDS))  # type: ignore[no-any-return]  # both return what `main` returns

    return on_loop


def alive(pids: Iterable[int]) -> set[int]:
    """Return those that still run; one that only waits for its parent to notice is gone."""
    return {pid for pid in pids if _runs(pid)}


def wait_until_gone(pids: Iterable[int]) -> None:
    deadline = time.monotonic() + SECONDS
    while left := alive(pids):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.005)


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(b") ")[2][:1] not in (b"Z", b"X")
