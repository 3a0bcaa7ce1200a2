"""Recorded sessions as tests: each `*.session.jsonl` is run again, and fails where what comes out has changed.

pytest loads this wherever sessiond is installed, so it imports nothing of it until there is such a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sessiond.core.comparison import Comparison

AGENTS = "sessiond_agents"
MODE = "sessiond_mode"
MODES = ("rerun", "simulate")
SUFFIX = ".session.jsonl"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(AGENTS, "The file of agents (TOML) that recorded sessions are run again with.", default="")
    parser.addini(
        MODE, "How recorded sessions are run again: rerun, or simulate, without their tools.", default="rerun"
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if not file_path.name.endswith(SUFFIX):
        return None
    recorded: pytest.Collector = RecordedFile.from_parent(parent, path=file_path)
    return recorded


class Drift(Exception):
    """What came out has changed."""

    def __init__(self, told: list[Comparison]) -> None:
        super().__init__(f"{len(told)} steps are not as they were")
        self.told = told


class RecordedFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield RecordedSession.from_parent(self, name=self.path.name.removesuffix(SUFFIX))


class RecordedSession(pytest.Item):
    def runtest(self) -> None:
        import asyncio

        if told := asyncio.run(self._rerun()):
            raise Drift(told)

    async def _rerun(self) -> list[Comparison]:
        from sessiond.cli.agents_file import read_agents
        from sessiond.cli.rerunning import rerun_file
        from sessiond.core.comparison import Mode
        from sessiond.core.session_file import read_session_file

        mode = self.config.getini(MODE)
        if mode not in MODES:
            raise pytest.UsageError(f"{MODE} must be {' or '.join(MODES)}, not {mode!r}")
        named = self.config.getini(AGENTS)
        listed = read_agents(str(self.config.rootpath / named) if named else None)
        with self.path.open("rb") as lines:
            file = read_session_file(lines)
        with TemporaryDirectory(prefix="sessiond-") as folder:
            return await rerun_file(file, listed, mode=Mode(mode), folder=Path(folder))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from sessiond.core.comparison import diff_lines
        from sessiond.core.errors import SessiondError
        from sessiond.settings import SettingsError

        error = excinfo.value
        if isinstance(error, SessiondError | SettingsError):
            return f"{self.path.name} cannot be run again: {error}"
        if not isinstance(error, Drift):
            return super().repr_failure(excinfo, style)
        lines = [f"{self.path.name}: {error}"]
        for told in error.told:
            step = f"step {told.index}" if told.index is not None else "a step"
            lines += ["", f"{step}, {told.action}: {told.verdict}, {told.reason}", f"  input: {told.input}"]
            lines += [f"  {line}" for line in diff_lines(told)]
        return "\n".join(lines)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"recorded session: {self.name}"
