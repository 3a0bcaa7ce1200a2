"""What an agent needs of the machine its runs are done on, and does not find on this one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sessiond.core.agent import PROGRAMS, Agent, program_of
from sessiond.runners.runner import AgentError, find_runner


def find_lacks(agent: Agent) -> Iterator[str]:
    """Yield what is missing here, a sentence each. A worker on another machine may well have it."""
    try:
        find_runner(agent.runner)
    except AgentError as error:
        yield error.message
    options = msgspec.json.decode(agent.options, type=dict[str, Any])
    cwd = options.get("cwd")
    if cwd is not None and not Path(cwd).is_dir():
        yield f"there is no folder {cwd!r} here"
    elif agent.runner in PROGRAMS:
        program = program_of(options["command"])[0]
        if not _is_program(program, cwd=cwd, env=options.get("env", {})):
            yield f"there is no program {program!r} here"
    for name, value in options.items():
        if name.endswith("_env") and value and not os.environ.get(value, "").strip():
            yield f"the environment variable {value} is not set here"


def _is_program(program: str, *, cwd: str | None, env: Mapping[str, str]) -> bool:
    if os.sep in program:
        program = str(Path(cwd or "", program).absolute())  # from the folder it is started in
    return shutil.which(program, path=env.get("PATH")) is not None
