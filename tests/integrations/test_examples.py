"""The examples with frameworks do what they say, as they stand, without a server and without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.docs.pages import ROOT

SECONDS: Final = 60


def _run(name: str, *arguments: str) -> str:
    """Run an example and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_graph_is_resumed_by_another_process(tmp_path: Path) -> None:
    database = str(tmp_path / "sessions.db")

    asked = _run("langgraph_approval.py", database)
    answered = _run("langgraph_approval.py", database, "yes")

    assert asked == "Refund 30 EUR for order A-17?\n"
    assert answered == "A-17: refunded, after 4 checkpoints\n"


def test_a_chat_remembers_and_everybody_reads_it(tmp_path: Path) -> None:
    printed = _run("langchain_history.py", str(tmp_path / "sessions.db"))

    assert printed.splitlines() == [
        "1 messages went to the model: At the depot.",
        "3 messages went to the model: Since Monday.",
        "user: Where is my parcel?",
        "assistant: At the depot.",
        "user: Since when?",
        "assistant: Since Monday.",
    ]
