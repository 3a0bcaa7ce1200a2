"""`sessiond completion`: what a shell needs to complete our commands and options."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final

import typer

VARIABLE: Final = "_SESSIOND_COMPLETE"
"""Through it shells ask, as typer has it."""
SHELLS: Final = ("bash", "zsh", "fish")

asked: Final = VARIABLE in os.environ
"""Whether this process is asked by a shell: only then typer's own options are there, and all that they import."""


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help=f"One of {', '.join(SHELLS)}.")],
) -> None:
    """Print a script that makes a shell complete what is typed.

    \b
    eval "$(sessiond completion bash)"                                        in ~/.bashrc
    eval "$(sessiond completion zsh)"                                         in ~/.zshrc, behind compinit
    sessiond completion fish > ~/.config/fish/completions/sessiond.fish       once
    """
    if shell not in SHELLS:
        raise typer.BadParameter(f"must be {', '.join(SHELLS)}", param_hint="SHELL")
    sys.stdout.flush()
    command = [sys.executable, "-m", "sessiond"]
    os.execve(sys.executable, command, {**os.environ, VARIABLE: f"source_{shell}"})  # noqa: S606  # ourselves
