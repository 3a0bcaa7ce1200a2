"""The commands that the documentation names exist, with the flags it gives them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any, Final

import pytest
import typer.main
from typer.testing import CliRunner

from sessiond.cli import app
from tests.docs.pages import PAGES, ROOT, blocks, spans

_TARGET: Final = re.compile(r"\bmake ([a-z]+)\b")
_RULE: Final = re.compile(r"^([a-z]+):.*## ", re.MULTILINE)
_CALL: Final = re.compile(r"(?:^|[\s(])(?:\.venv/bin/)?sessiond ([a-z].*)$")


def _written() -> Iterator[str]:
    """Yield each line of each block, and each piece of code in the text, of all pages."""
    for page in PAGES:
        for block in blocks(page):
            whole = block.text.replace("\\\n", "")
            yield from (line.partition(" #")[0].strip() for line in whole.splitlines())
        yield from spans(page)


def _calls() -> list[str]:
    """Return the commands named, each once: what stands behind `sessiond`."""
    found = set()
    for line in _written():
        if match := _CALL.search(line):
            found.add(re.split(r"[|;>&)]", match[1])[0].strip())
    return sorted(found)


def _command(call: str) -> tuple[list[str], Any, list[str]]:
    """Return the words that name a command, the command, and the words behind."""
    command: Any = typer.main.get_command(app)
    words, names = shlex.split(call.replace("…", "x")), list[str]()
    while words and hasattr(command, "commands") and words[0] in command.commands:
        names.append(words.pop(0))
        command = command.commands[names[-1]]
    return names, command, words


@pytest.mark.parametrize("call", _calls())
def test_a_command_that_is_named_exists(call: str) -> None:
    names, command, words = _command(call)

    assert names, f"sessiond has no command {call!r}"
    flags = {flag for parameter in command.params for flag in parameter.opts} | {"--help"}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= flags
    assert CliRunner().invoke(app, [*names, "--help"]).exit_code == 0


def test_each_command_is_named() -> None:
    named = {tuple(_command(call)[0]) for call in _calls()}
    group: Any = typer.main.get_command(app)

    for name, command in group.commands.items():
        for path in [(name, below) for below in command.commands] if hasattr(command, "commands") else [(name,)]:
            assert path in named


def test_a_make_target_that_is_named_exists() -> None:
    targets = set(_RULE.findall((ROOT / "Makefile").read_text()))
    named = {target for line in _written() for target in _TARGET.findall(line)}

    assert {"run", "test", "bench"} <= named <= targets
